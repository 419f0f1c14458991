"""A beam search that is plain to read: every sequence is computed anew from its first token, for each token; no cache."""

from collections.abc import Callable
from math import log
from typing import Any, Literal, NamedTuple

import numpy as np


class Found(NamedTuple):
    score: float
    ids: list[int]
    logprobs: list[float]
    """Of the model's own distribution."""
    reason: str


class Reference(NamedTuple):
    """What is asked, in the words of Hugging Face's `generate`."""

    model: Any
    prompt: list[int]
    width: int
    max_tokens: int
    stop_ids: tuple[int, ...] = ()
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    min_tokens: int = 0
    bias: tuple[tuple[int, float], ...] = ()
    presence: float = 0.0
    frequency: float = 0.0
    repetition: float = 1.0
    spell: Callable[[list[int]], str] = str
    stops: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    """The answer is one of them; none begins another."""

    def logprobs(self, answer: list[int]) -> tuple[Any, Any]:
        """The model's own, and those to search by; [vocabulary] float64."""
        import mlx.core as mx

        ids = self.prompt + answer
        logits = np.array(self.model(mx.array([ids]))[0, -1].astype(mx.float32), np.float64)
        changed = logits.copy()
        for token, bias in self.bias:
            changed[token] += bias
        for token in set(ids):
            x = changed[token]
            changed[token] = x / self.repetition if x > 0 else x * self.repetition
        for token in set(answer):
            changed[token] -= self.presence + self.frequency * answer.count(token)
        barred = normal(changed)
        if len(answer) < self.min_tokens:
            barred[list(self.stop_ids)] = -np.inf
        if self.sentences:
            said = [self.spell([*answer, token]) for token in range(len(barred))]
            allowed = [
                text != self.spell(answer) and any(each.startswith(text) for each in self.sentences)
                for text in said
            ]
            barred[[not may for may in allowed]] = -np.inf
        return normal(logits), barred

    def completes(self, answer: list[int]) -> bool:
        text = self.spell(answer) if self.stops or self.sentences else ""
        return text in self.sentences or any(stop in text for stop in self.stops)

    def search(self) -> list[Found]:
        """The `width` best, the best first."""
        live: list[tuple[float, list[int], list[float]]] = [(0.0, [], [])]
        done: list[Found] = []
        looked_at = max(2, 1 + len(self.stop_ids)) * self.width
        for length in range(1, self.max_tokens + 1):
            options: list[tuple[float, int, int, float]] = []
            for at, (total, answer, _) in enumerate(live):
                own, barred = self.logprobs(answer)
                options += [
                    (total + value, at, token, own[token])
                    for token, value in enumerate(barred)
                    if value > -np.inf
                ]
            options.sort(key=lambda option: (-option[0], option[1], option[2]))
            grown: list[tuple[float, list[int], list[float]]] = []
            for rank, (total, at, token, own) in enumerate(options[:looked_at]):
                _, answer, logprobs = live[at]
                if token not in self.stop_ids:
                    answer, logprobs = [*answer, token], [*logprobs, own]
                if token not in self.stop_ids and not self.completes(answer):
                    grown.append((total, answer, logprobs))
                elif rank < self.width:
                    done.append(Found(self.score(total, length), answer, logprobs, "stop"))
            live = grown[: self.width]
            done = sorted(done, key=lambda found: -found.score)[: self.width]
            if not live:
                return done
            if len(done) == self.width and self.enough(done[-1].score, live[0][0], length):
                return done
        done += [Found(self.score(total, self.max_tokens), *rest, "length") for total, *rest in live]  # type: ignore[arg-type]
        return sorted(done, key=lambda found: -found.score)[: self.width]

    def score(self, total: float, length: int) -> float:
        return total / length**self.length_penalty

    def enough(self, worst: float, best: float, length: int) -> bool:
        if self.early_stopping is True:
            return True
        if self.early_stopping == "never" and self.length_penalty > 0:
            return worst >= self.score(best, self.max_tokens)
        return worst >= self.score(best, length)


def normal(logits: Any) -> Any:
    top = logits.max()
    return logits - top - log(np.exp(logits - top).sum())
