"""What an engine's memory holds besides its slots: tokens of the sequences that run, whose keys and values it keeps."""

from msgspec import Struct

from schemas.task import Task

UNBOUNDED = 2**31 - 1
"""Tokens."""


class Room(Struct, frozen=True):
    """For all running sequences together."""

    tokens: int = UNBOUNDED
    answer: int = UNBOUNDED
    """So many tokens of an answer are counted before they are there, at most."""
    context: int | None = None

    def needed(self, task: Task, sequences: int) -> int:
        """Tokens that so many sequences of the task may come to."""
        each = len(task.prompt) // 4 + min(task.max_tokens, self.answer)
        return sequences * min(each, self.context or each)
