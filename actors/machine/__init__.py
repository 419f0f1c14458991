"""The machine under a node: what it offers, how busy it is, and the folder on its disk."""
