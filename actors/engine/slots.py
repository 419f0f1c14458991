"""How many sequences run at once where nobody said."""

CPU_SLOTS, GPU_SLOTS = 18, 72


def usual_slots(on_cpu: bool) -> int:
    return CPU_SLOTS if on_cpu else GPU_SLOTS
