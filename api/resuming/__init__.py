"""Answers that go on after their client's connection broke: what the ids of events say, and what follows from it."""
