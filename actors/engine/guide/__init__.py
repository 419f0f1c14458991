"""The built-in model `guide`: its data, its training, its measurement and its weights."""
