"""OpenAI's dialect: its routes, what they read, and what they write."""
