"""Where a model's files come from: one file a kind of place."""
