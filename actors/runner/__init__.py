"""The runner: a process that owns one shard of one model, takes tasks and streams chunks."""
