"""Answers that go on past the model's context.

When prompt and answer fill it, the older half of the answer that is in view goes out of it: what stays is read anew, at
the places behind the prompt, and the answer goes on from there. What is in view depends on the lengths of prompt and
answer alone, so that another attempt sees the same. Nothing of a model's cache is moved, which holds for all of them.
"""

from actors.engine.answer import Answer
from actors.engine.row import Row


def in_view(room: int, made: int) -> int:
    """How many of the latest of `made` tokens are seen, where the prompt leaves `room` for so many."""
    if made < room:
        return made
    dropped = (room + 1) // 2
    return room - dropped + (made - room) % dropped


class RollingRow(Row):
    """Its `ids` are what is in view; there is room for two tokens of answer at least."""

    def __init__(self, answer: Answer, index: int, prompt: list[int], made: list[int], context: int) -> None:
        self._room = context - len(prompt)
        super().__init__(answer, index, prompt + made[len(made) - in_view(self._room, len(made)) :])

    @property
    def _left(self) -> int:
        return self._room - (len(self.ids) - self.prompt)

    @property
    def fills(self) -> bool:
        return self._left <= 1

    @property
    def full(self) -> bool:
        return self._left <= 0

    def roll(self) -> None:
        made = self.ids[self.prompt :]
        kept = made[len(made) - in_view(self._room, len(made)) :]
        self.ids = self.ids[: self.prompt] + kept
