"""The ways between nodes: who waits to be measured, who measures, and when."""
