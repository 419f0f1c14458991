"""The data that makes and measures the guide: seeded, endless, and pure."""

import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Literal

from actors.engine.guide.answers import Answer, load_answers, word_out, wordings
from actors.engine.guide.tasks import HELD_ASKS, TASKS, Exchange, is_elementary
from actors.engine.guide.wording import disturb, ending, paraphrase
from actors.engine.guide.words import WORDS, made_up, phrase

Shares = dict[str, float]
Role = Literal["system", "user", "assistant"]

HELD_OUT_SHARE = 16
ENOUGH_WORDINGS = 8
PLAIN_SHARE = 0.4
ALWAYS_TRAINED = "0"
"""Ends the key of a wording that has few variations, of which none can be spared (and of round numbers)."""
SHARES: Shares = {
    "guide": 0.38,
    "repeat": 0.16,
    "count": 0.10,
    "add": 0.14,
    "reverse": 0.12,
    "last word": 0.05,
    "capital": 0.05,
}
FIRST_LESSONS = 15_000
FIRST_SHARES: Shares = {"long repeat": 0.6, "add": 0.1, "count": 0.1, "reverse": 0.1, "last word": 0.1}
"""A small model learns to copy soon only if it does little else at first."""
EXERCISE_SHARES: Shares = {
    "guide": 0.16,
    "repeat": 0.10,
    "count": 0.12,
    "add": 0.27,
    "reverse": 0.20,
    "last word": 0.12,
    "capital": 0.03,
}
REVISION_SHARES: Shares = {
    "guide": 0.47,
    "repeat": 0.11,
    "count": 0.14,
    "add": 0.07,
    "reverse": 0.13,
    "last word": 0.03,
    "capital": 0.05,
}
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are the guide of a Troupe cluster.",
    "Answer briefly.",
    "You are a friendly assistant. Keep your answers short.",
    "You are a test.",
    "Be precise and polite.",
    "You help people who use Troupe.",
    "Speak plainly.",
)
GREETINGS = ("Hello! How can I help?", "Welcome to Troupe.", "Hi, ask me something.")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message; `spelled` answers are trained letter by letter."""

    role: Role
    text: str
    spelled: bool = False


Conversation = tuple[Turn, ...]


def is_held_out(exchange: Exchange) -> bool:
    """Say whether a question is kept from training, by what it asks and not by its dress."""
    if is_elementary(exchange) or (exchange.task == "guide" and exchange.key.endswith(ALWAYS_TRAINED)):
        return False
    if exchange.ask and exchange.ask not in HELD_ASKS:
        return False
    return zlib.crc32(f"{exchange.task}|{exchange.key}".encode()) % HELD_OUT_SHARE == 0


def conversations(seed: int) -> Iterator[Conversation]:
    """Yield training conversations without end; equal seeds give equal conversations."""
    rng = random.Random(seed)
    for _ in range(FIRST_LESSONS):
        yield conversation(rng, FIRST_SHARES)
    while True:
        yield conversation(rng, SHARES)


def exercises(seed: int) -> Iterator[Conversation]:
    """Yield conversations without end that practise the small tasks."""
    return mostly_short(random.Random(seed), EXERCISE_SHARES)


def revision(seed: int) -> Iterator[Conversation]:
    """Yield conversations without end that revise the answers, and some of the tasks."""
    return mostly_short(random.Random(seed), REVISION_SHARES)


def mostly_short(rng: random.Random, shares: Shares) -> Iterator[Conversation]:
    """Yield three questions of their own for each conversation."""
    while True:
        if rng.random() < 0.25:
            yield conversation(rng, shares)
        else:
            yield question_and_answer(training_exchange(rng, shares))


def question_and_answer(exchange: Exchange) -> Conversation:
    """Write one question and its answer as two turns."""
    return (
        Turn("user", exchange.question),
        Turn("assistant", exchange.answer, exchange.spelled),
    )


def conversation(rng: random.Random, shares: Shares) -> Conversation:
    """Make one conversation of one to three questions, sometimes with a system prompt."""
    turns: list[Turn] = []
    if rng.random() < 0.25:
        turns.append(Turn("system", system_prompt(rng)))
    if rng.random() < 0.03:
        turns.append(Turn("assistant", rng.choice(GREETINGS)))
    for _ in range(rng.choice((1, 1, 1, 1, 1, 1, 1, 2, 2, 3))):
        turns.extend(question_and_answer(training_exchange(rng, shares)))
    return tuple(turns)


def system_prompt(rng: random.Random) -> str:
    """Choose a usual system prompt, or make up a long one of no meaning."""
    if rng.random() < 0.7:
        return rng.choice(SYSTEM_PROMPTS)
    return ". ".join(phrase(rng, 10) for _ in range(rng.randint(1, 5)))


def training_exchange(rng: random.Random, shares: Shares) -> Exchange:
    """Make one question that is not held out."""
    task = rng.choices(tuple(shares), tuple(shares.values()))[0]
    while True:
        exchange = guide(rng) if task == "guide" else TASKS[task](rng)
        if not is_held_out(exchange) and exchange.key.lower() not in measured_wordings():
            return exchange


def guide(rng: random.Random) -> Exchange:
    """Ask for one of the answers, in one of the training wordings."""
    answers = load_answers()
    limits = tuple(accumulate(answer.weight for answer in answers))
    answer = rng.choices(answers, cum_weights=limits)[0]
    return ask(rng, answer, rng.choice(answer.ask))


def ask(rng: random.Random, answer: Answer, pattern: str) -> Exchange:
    """Word one question; wordings with few variations are never held out by chance."""
    text = word_out(rng, pattern, stranger(rng))
    plain = rng.random() < PLAIN_SHARE
    if not plain:
        text = paraphrase(rng, text)
    key = text if wordings(pattern) >= ENOUGH_WORDINGS else f"{text}|{ALWAYS_TRAINED}"
    return Exchange("guide", key, ending(rng, text) if plain else disturb(rng, text), answer.text)


@cache
def measured_wordings() -> frozenset[str]:
    """Give the wordings that a paraphrase must not hit by chance."""
    held = (pattern.lower() for answer in load_answers() for pattern in answer.held)
    return frozenset(text for pattern in held for text in (pattern, f"{pattern}|0"))


@cache
def strange_words() -> tuple[str, ...]:
    """Give the common words that no wording uses, so that they ask for nothing else."""
    used = {
        part
        for answer in load_answers()
        for pattern in (*answer.ask, *answer.held)
        for part in re.findall(r"\w+", pattern.lower())
    }
    return tuple(word for word in WORDS if word not in used)


def stranger(rng: random.Random) -> str:
    """Choose a word that Troupe knows nothing about."""
    return rng.choice(strange_words()) if rng.random() < 0.6 else made_up(rng)


def held_out(seed: int, size: int) -> dict[str, list[Exchange]]:
    """Give the held-out questions: `size` for each task, and the wordings never trained."""
    rng = random.Random(seed)
    tasks = {name: held_out_sample(rng, name, size) for name in SHARES}
    tasks["guide, unseen wordings"] = [
        Exchange("guide", f"held|{pattern}", disturb(rng, text), answer.text)
        for answer in load_answers()
        for pattern in answer.held
        for text in (word_out(rng, pattern, stranger(rng)),)
    ]
    return tasks


def held_out_sample(rng: random.Random, task: str, size: int) -> list[Exchange]:
    """Draw questions of one task until enough of them are held out."""
    found: list[Exchange] = []
    while len(found) < size:
        exchange = guide(rng) if task == "guide" else TASKS[task](rng)
        if is_held_out(exchange):
            found.append(exchange)
    return found
