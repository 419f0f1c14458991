"""Calls of tools, as each family of models writes them."""
