"""What each request came to: records, metrics, spans."""
