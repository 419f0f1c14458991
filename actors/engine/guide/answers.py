"""What the guide knows about Troupe: answers, and the wordings that ask for them."""

import random
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ANSWERS_FILE = Path(__file__).with_name("answers.toml")
CHOICE = re.compile(r"\{([^{}]*)\}")
ANY_WORD = "{?}"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, the wordings that train it, and the wordings kept for the measurement."""

    name: str
    text: str
    ask: tuple[str, ...]
    held: tuple[str, ...]
    weight: float


@cache
def load_answers() -> tuple[Answer, ...]:
    """Read `answers.toml`."""
    entries = tomllib.loads(ANSWERS_FILE.read_text("utf-8"))["answer"]
    return tuple(
        Answer(
            name=entry["name"],
            text=entry["text"],
            ask=tuple(entry["ask"]),
            held=tuple(entry["held"]),
            weight=float(entry.get("weight", 1.0)),
        )
        for entry in entries
    )


def wordings(pattern: str) -> int:
    """Count the texts that a pattern stands for (`{a|b}` is a choice, `{?}` any word)."""
    count = 1
    for choice in CHOICE.findall(pattern):
        count *= 1000 if choice == "?" else choice.count("|") + 1
    return count


def word_out(rng: random.Random, pattern: str, any_word: str) -> str:
    """Choose one text of a pattern, with `any_word` in place of `{?}`."""
    pattern = pattern.replace(ANY_WORD, any_word)
    text = CHOICE.sub(lambda match: rng.choice(match[1].split("|")), pattern)
    return " ".join(text.split())
