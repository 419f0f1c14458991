"""The leader: what it decides, and the shell around it."""
