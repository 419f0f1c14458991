"""Conversations as token ids, in batches of like length."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from tokenizers import Tokenizer

from actors.engine.guide.corpus import Conversation, Turn
from actors.engine.guide.tokenizer import BEGIN, END, token_id

BOUNDS = (32, 48, 64, 80, 96, 128, 192, 256, 384, 512)
"""Conversations wait for others of like length; the ones beyond the last bound are dropped."""

DECISIVE = 14

Batch = tuple[np.ndarray, np.ndarray]
Encoded = tuple[list[int], list[float]]


class Encoder:
    """Turns conversations into ids, and marks the ids that the model must learn to say."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.begin = token_id(tokenizer, BEGIN)
        self.end = token_id(tokenizer, END)
        self.text = lru_cache(maxsize=100_000)(self._text)

    def _text(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def conversation(self, turns: Conversation) -> Encoded:
        """Encode as the chat template does; only what the assistant says is learned."""
        ids, weights = [self.begin], [0.0]
        for turn in turns:
            said = self.turn(turn)
            ids += [token_id(self.tokenizer, f"<|{turn.role}|>"), *said, self.end]
            weights += [0.0, *emphasis(turn, len(said))]
        return ids, weights

    def turn(self, turn: Turn) -> list[int]:
        """Encode what one message says."""
        pieces = turn.text if turn.spelled else (turn.text,)
        return [token for piece in pieces for token in self.text(piece)]


def emphasis(turn: Turn, length: int) -> list[float]:
    """Weigh what the assistant says: what begins an answer chooses it, what ends it may come too early."""
    if turn.role != "assistant":
        return [0.0] * (length + 1)
    return [1.0 if place < DECISIVE else 0.3 for place in range(length)] + [1.0]


def batches(encoder: Encoder, source: Iterable[Conversation], tokens: int) -> Iterator[Batch]:
    """Yield (ids, weights) of shape [rows, length], about `tokens` ids each."""
    waiting: dict[int, list[Encoded]] = {bound: [] for bound in BOUNDS}
    for turns in source:
        encoded = encoder.conversation(turns)
        bound = next((bound for bound in BOUNDS if len(encoded[0]) <= bound), None)
        if bound is None:
            continue
        waiting[bound].append(encoded)
        if len(waiting[bound]) * bound >= tokens:
            yield rectangle(waiting[bound], bound)
            waiting[bound] = []


def rectangle(rows: list[Encoded], length: int) -> Batch:
    """Pad rows to one length with id 0, which is never learned."""
    ids = np.zeros((len(rows), length), np.int32)
    learned = np.zeros((len(rows), length), np.float32)
    for row, (said, marks) in enumerate(rows):
        ids[row, : len(said)] = said
        learned[row, : len(said)] = marks
    return ids, learned
