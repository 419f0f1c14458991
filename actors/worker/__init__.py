"""The worker: runner processes, carried and watched."""
