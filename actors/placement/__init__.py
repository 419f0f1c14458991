"""Where a model goes: pure functions of its shape, the machines and what lies between them."""
