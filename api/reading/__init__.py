"""What a model's words are: thoughts, an answer, calls."""
