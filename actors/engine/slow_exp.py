"""Whether MLX computes with its wheel for any x86 processor: `exp`, and what is made of it, takes 16 ns a number there."""

import platform

import mlx.core as mx


def slow_exp() -> bool:
    return platform.machine() in ("x86_64", "AMD64") and mx.default_device() == mx.Device(mx.cpu)
