"""Frozen messages and pure functions on them; no I/O."""
