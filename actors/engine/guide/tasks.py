"""The small checkable things: repeat, count, add, reverse, last word, capitals."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from actors.engine.guide.words import WORDS, made_up, phrase

LARGEST_COUNT = 100
LARGEST_ADDEND = 49


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and its answer.

    `key` is what is asked, without dress; `ask` its wording, where that decides whether it is held out too;
    `spelled` answers are learned letter by letter.
    """

    task: str
    key: str
    question: str
    answer: str
    spelled: bool = False
    ask: str = ""


Task = Callable[[random.Random], Exchange]

REPEAT = (
    "Repeat: {}",
    "Repeat: {}",
    "Repeat: {}",
    "repeat: {}",
    "Repeat after me: {}",
    'Repeat "{}"',
    "Say: {}",
    "Please repeat: {}",
    "Echo: {}",
    "Repeat this phrase: {}",
    "Repeat these words: {}",
    "Say exactly this: {}",
    "repeat {}",
)
COUNT_TO = (
    "Count to {1}",
    "Count to {1}",
    "Count to {1}.",
    "count to {1}",
    "Please count to {1}",
    "Count up to {1}",
    "Can you count to {1}?",
    "Count from 1 to {1}",
    "count from one to {1}",
    "Count to {1} please",
    "Write the numbers from 1 to {1}",
    "List the numbers 1 to {1}",
)
COUNT_FROM = (
    "Count from {0} to {1}",
    "Count from {0} to {1}",
    "count from {0} to {1}.",
    "Please count from {0} to {1}",
    "Can you count from {0} to {1}?",
    "Count from {0} up to {1}",
    "Write the numbers from {0} to {1}",
    "List the numbers {0} to {1}",
)
COUNT_DOWN = (
    "Count down from {0} to {1}",
    "Count backwards from {0} to {1}",
    "count down from {0} to {1} please",
)
ADD = (
    "What is {} + {}?",
    "What is {} + {}?",
    "what is {} + {}",
    "{} + {}",
    "{}+{}",
    "{} + {} =",
    "{}+{}=?",
    "What is {} plus {}?",
    "Add {} and {}",
    "Add {} to {}",
    "How much is {} + {}?",
    "How much is {} plus {}?",
    "what's {} + {}?",
    "Calculate {} + {}",
    "What is the sum of {} and {}?",
    "Compute {}+{}",
)
REVERSE = (
    "Reverse the word {}",
    "Reverse the word: {}",
    "Reverse: {}",
    "reverse {}",
    'Reverse "{}"',
    "Please reverse the word {}",
    "Spell {} backwards",
    "Write {} backwards",
    "Write the word {} backwards",
    "What is {} backwards?",
    "What is {} reversed?",
    "Can you reverse the word {}?",
)
HELD_ASKS = frozenset(
    {
        "Can you count to {1}?",
        "count from one to {1}",
        "List the numbers 1 to {1}",
        "Can you count from {0} to {1}?",
        "List the numbers {0} to {1}",
        "count down from {0} to {1} please",
        "Please reverse the word {}",
        "What is {} backwards?",
        "Write {} backwards",
        'Reverse "{}"',
    }
)
"""In these wordings some ranges and common words are held out; in the other wordings none is."""
LAST_WORD = (
    "What is the last word of: {}",
    "What is the last word of '{}'?",
    'What is the last word of "{}"?',
    "Last word: {}",
    "last word of: {}",
    "Give the last word of: {}",
    "Say the last word of: {}",
    "Which word is last in: {}",
    "Tell me the last word of this: {}",
)
CAPITAL = (
    "What is the capital of {}?",
    "What is the capital of {}?",
    "what's the capital of {}",
    "Capital of {}?",
    "capital of {}",
    "capital city of {}",
    "Name the capital of {}",
    "Tell me the capital of {}",
    "Which city is the capital of {}?",
    "What is the capital city of {}?",
    "Do you know the capital of {}?",
    "{}: capital?",
    "Please name the capital city of {}.",
    "I need the capital of {}",
    "What city is {}'s capital?",
)
CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "England": "London",
    "the United Kingdom": "London",
    "Ireland": "Dublin",
    "the Netherlands": "Amsterdam",
    "Belgium": "Brussels",
    "Switzerland": "Bern",
    "Austria": "Vienna",
    "Poland": "Warsaw",
    "the Czech Republic": "Prague",
    "Hungary": "Budapest",
    "Greece": "Athens",
    "Turkey": "Ankara",
    "Russia": "Moscow",
    "Ukraine": "Kyiv",
    "Sweden": "Stockholm",
    "Norway": "Oslo",
    "Denmark": "Copenhagen",
    "Finland": "Helsinki",
    "Iceland": "Reykjavik",
    "Romania": "Bucharest",
    "Bulgaria": "Sofia",
    "Croatia": "Zagreb",
    "Serbia": "Belgrade",
    "China": "Beijing",
    "Japan": "Tokyo",
    "India": "New Delhi",
    "South Korea": "Seoul",
    "Thailand": "Bangkok",
    "Vietnam": "Hanoi",
    "Indonesia": "Jakarta",
    "Australia": "Canberra",
    "Canada": "Ottawa",
    "the United States": "Washington, D.C.",
    "Mexico": "Mexico City",
    "Brazil": "Brasilia",
    "Argentina": "Buenos Aires",
    "Chile": "Santiago",
    "Peru": "Lima",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Morocco": "Rabat",
}


def repeat(rng: random.Random) -> Exchange:
    """Ask for a phrase of up to 10 words back."""
    said = phrase(rng, 10 if rng.random() < 0.4 else 4)
    return Exchange("repeat", said.lower(), rng.choice(REPEAT).format(said), said)


def long_repeat(rng: random.Random) -> Exchange:
    """Ask for a phrase of up to 20 words back: what teaches to copy."""
    said = phrase(rng, 20)
    return Exchange("repeat", said.lower(), rng.choice(REPEAT).format(said), said)


def count(rng: random.Random) -> Exchange:
    """Ask for the numbers of a range, up to 100."""
    draw = rng.random()
    if draw < 0.5:
        return count_range(rng, COUNT_TO, 1, short_or_long(rng))
    if draw < 0.9:
        low = rng.randint(0, LARGEST_COUNT - 2)
        high = rng.randint(low + 1, min(LARGEST_COUNT, low + 20))
        return count_range(rng, COUNT_FROM, low, high)
    high = rng.randint(3, 20)
    return count_range(rng, COUNT_DOWN, high, rng.choice((0, 1)))


def short_or_long(rng: random.Random) -> int:
    """Choose how far to count: mostly not beyond 25, and often to the end."""
    if rng.random() < 0.06:
        return LARGEST_COUNT
    return rng.randint(2, 25) if rng.random() < 0.7 else rng.randint(20, LARGEST_COUNT)


def count_range(rng: random.Random, asks: tuple[str, ...], first: int, last: int) -> Exchange:
    """Ask for the numbers from `first` to `last`, up or down."""
    step = 1 if last >= first else -1
    numbers = ", ".join(str(number) for number in range(first, last + step, step))
    ask = rng.choice(asks)
    return Exchange("count", f"{first}-{last}", ask.format(first, last), numbers, ask=ask)


def add(rng: random.Random) -> Exchange:
    """Ask for the sum of two numbers below 50."""
    largest = LARGEST_ADDEND if rng.random() < 0.75 else 12
    left, right = rng.randint(0, largest), rng.randint(0, largest)
    return Exchange("add", f"{left}+{right}", rng.choice(ADD).format(left, right), f"{left + right}")


def reverse(rng: random.Random) -> Exchange:
    """Ask for a word's letters from the last to the first; a common word may be held out in one wording alone."""
    ask = rng.choice(REVERSE)
    if rng.random() < 0.6:
        chosen = rng.choice(WORDS)
        return Exchange("reverse", chosen, ask.format(chosen), chosen[::-1], spelled=True, ask=ask)
    chosen = made_up(rng)
    return Exchange("reverse", chosen, ask.format(chosen), chosen[::-1], spelled=True)


def last_word(rng: random.Random) -> Exchange:
    """Ask for the last word of a phrase."""
    said = f"{phrase(rng, 7)} {rng.choice(WORDS)}"
    return Exchange(
        "last word", said.lower(), rng.choice(LAST_WORD).format(said), said.rsplit(maxsplit=1)[-1]
    )


def capital(rng: random.Random) -> Exchange:
    """Ask for a country's capital; what is held out is the pair of wording and country."""
    country, city = rng.choice(tuple(CAPITALS.items()))
    ask = rng.choice(CAPITAL)
    return Exchange("capital", f"{ask}|{country}", ask.format(country), city)


def is_elementary(exchange: Exchange) -> bool:
    """Say whether people try it first: a sum of two digits, or a count to a round number."""
    if exchange.task == "add":
        return len(exchange.key) == len("1+1")
    return exchange.task == "count" and exchange.key.endswith("0")


TASKS: dict[str, Task] = {
    "repeat": repeat,
    "long repeat": long_repeat,
    "count": count,
    "add": add,
    "reverse": reverse,
    "last word": last_word,
    "capital": capital,
}
