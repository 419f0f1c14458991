"""How people write: politeness, missing marks, letter case and typing mistakes."""

import random

BEFORE = (
    "please, ",
    "hi, ",
    "hey, ",
    "hello! ",
    "ok, ",
    "so ",
    "um, ",
    "quick question: ",
    "tell me, ",
    "one question: ",
    "I am new here. ",
    "sorry, ",
    "and ",
    "now, ",
)
AFTER = (" please", " thanks", ", thank you", " in troupe", " here", " exactly", " now", ", please?")
NAMES = {
    name.lower(): name
    for name in (
        "Troupe",
        "NATS",
        "API",
        "MLX",
        "OpenAI",
        "SDK",
        "JSON",
        "HTTP",
        "SSE",
        "JetStream",
        "Python",
        "GPU",
        "Hugging",
        "Face",
        "Linux",
        "Mac",
        "macOS",
        "OpenAPI",
        "I",
        "Ctrl-C",
        "URL",
        "BLAS",
        "TTL",
        "Qwen",
        "Llama",
        "Mistral",
        "Gemma",
        "Metal",
        "CUDA",
        "CLI",
    )
}
MARKS = ("", "", "", "?", "?", ".", "!", "??", " ?")

# groups of openings, and of words, that mean the same
OPENINGS = (
    (
        "how do i",
        "how can i",
        "how to",
        "how would i",
        "how do you",
        "how does one",
        "how should i",
        "what must i do to",
        "i want to know how to",
        "what is the way to",
        "tell me how to",
        "can you tell me how to",
        "please explain how to",
        "which command do i type to",
        "i would like to",
        "how could we",
    ),
    (
        "what is",
        "what's",
        "can you explain",
        "please explain",
        "tell me about",
        "what do you mean by",
        "could you describe",
        "i do not know what is",
        "what exactly is",
        "can you tell me what is",
    ),
    (
        "what happens if",
        "what happens when",
        "suppose",
        "what if",
        "what would happen if",
        "tell me what happens if",
    ),
    ("where is", "where do i find", "in which place is", "where can i see"),
    ("which", "what", "tell me which"),
    ("can i", "may i", "is it possible to", "am i able to", "could i"),
    ("show me", "let me see", "give me", "i want to see"),
)
SYNONYMS = (
    ("machine", "computer", "laptop", "box"),
    ("machines", "computers", "laptops"),
    ("start", "launch", "run"),
    ("see", "view", "look at"),
    ("remove", "get rid of"),
    ("change", "set", "choose", "configure"),
    ("dies", "crashes", "is dead", "fails"),
    ("troupe", "the cluster"),
    ("explain", "describe"),
)


def paraphrase(rng: random.Random, text: str) -> str:
    """Sometimes put other words of the same meaning, at the beginning and within."""
    if rng.random() < 0.4:
        text = reopen(rng, text)
    if rng.random() < 0.25:
        text = exchange_words(rng, text)
    return text


def reopen(rng: random.Random, text: str) -> str:
    """Begin a question in another way, where its opening is known."""
    for group in OPENINGS:
        for opening in group[:2]:
            if text.lower().startswith(f"{opening} "):
                return rng.choice(group) + text[len(opening) :]
    return text


def exchange_words(rng: random.Random, text: str) -> str:
    """Put synonyms for the words that have some."""
    others = {word: group for group in SYNONYMS for word in group}
    return " ".join(rng.choice(others.get(word, (word,))) for word in text.split(" "))


def disturb(rng: random.Random, text: str) -> str:
    """Write a question the way one of many people would."""
    text = dress(rng, text)
    if rng.random() < 0.12:
        text = mistype(rng, text)
    return recase(rng, text) + rng.choice(MARKS)


def ending(rng: random.Random, text: str) -> str:
    """Write a question the way a manual would, with or without its mark."""
    return recase(rng, text) + rng.choice(("?", "?", ""))


def with_names(text: str) -> str:
    """Write names the way they are written: Troupe, NATS, API."""
    return " ".join(NAMES.get(word, word) for word in text.split(" "))


def dress(rng: random.Random, text: str) -> str:
    """Put politeness before, or after."""
    if rng.random() < 0.12:
        text = rng.choice(BEFORE) + text
    if rng.random() < 0.1:
        text += rng.choice(AFTER)
    return text


def mistype(rng: random.Random, text: str) -> str:
    """Drop, double or swap one letter inside a long word."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not places:
        return text
    place = rng.choice(places)
    words[place] = slip(rng, words[place])
    return " ".join(words)


def slip(rng: random.Random, word: str) -> str:
    """Make one typing mistake behind the first letter."""
    at = rng.randrange(1, len(word) - 1)
    return rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        )
    )


def recase(rng: random.Random, text: str) -> str:
    """Write a capital first, or none, or seldom capitals only."""
    draw = rng.random()
    if draw < 0.55:
        named = with_names(text) if rng.random() < 0.7 else text
        return named[:1].upper() + named[1:]
    if draw < 0.75:
        return text.lower()
    return text.upper() if draw < 0.76 else text
