"""The only door to MLX: the port, MLX behind it, and a simulated engine."""
