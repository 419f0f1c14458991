"""The actors of a node, and the command line that starts them."""
