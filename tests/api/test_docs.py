"""docs/api.md lists every parameter, honoured or refused: what the schema knows, and nothing else."""

import re
from pathlib import Path

import msgspec
import pytest

from api.openai.chat_parameters import NEUTRAL, NEUTRAL_MESSAGE, NEUTRAL_PART
from api.openai.completion_parameters import NEUTRAL_COMPLETION
from api.parameters import NEUTRAL_OPTION
from schemas.chat import ChatRequest, Message, Part
from schemas.completions import CompletionRequest
from schemas.openai import Asked, ProviderExtensions, StreamOptions

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def named(text: str) -> set[str]:
    """What stands in backticks in the first column of its tables."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([\w.\[\]]+)`", row)}


def fields(struct: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(struct)}


BOTH = named(section("What chats and completions honour"))
CHAT = named(section("Chat: what else is honoured"))
COMPLETION = named(section("Completions: what else is honoured"))
REFUSED = named(section("What is refused"))

OTHER_WORDS = {"n", "tool", "function", "scale", "fast", "required"}
"""Values, not parameters."""


def test_every_parameter_is_listed_where_it_belongs() -> None:
    common = fields(Asked)
    assert common == BOTH
    assert fields(ChatRequest) - common - NEUTRAL.keys() == {name for name in CHAT if "." not in name}
    assert fields(CompletionRequest) - common - NEUTRAL_COMPLETION.keys() == COMPLETION


@pytest.mark.parametrize(
    ("neutral", "before"),
    [
        (NEUTRAL, ""),
        (NEUTRAL_COMPLETION, ""),
        (NEUTRAL_OPTION, "stream_options."),
        (NEUTRAL_MESSAGE, "messages[]."),
    ],
)
def test_every_refusal_is_listed(neutral: dict[str, object], before: str) -> None:
    assert {before + name for name in neutral} <= REFUSED


def test_fields_of_messages_and_parts_are_listed() -> None:
    honoured = {name.removeprefix("messages[].") for name in CHAT if name.startswith("messages[].")}
    assert fields(Message) - NEUTRAL_MESSAGE.keys() == {"role", "content"} | honoured
    assert fields(Part) - NEUTRAL_PART.keys() == {"type", "text"}
    for name in ("role", "content", *NEUTRAL_PART):
        assert f"`{name}`" in PAGE


def test_what_is_listed_is_known() -> None:
    known = fields(ChatRequest) | fields(CompletionRequest)
    assert {name for name in REFUSED if "." not in name and name not in OTHER_WORDS} <= known


def test_the_extensions_are_listed() -> None:
    assert named(section("`provider_extensions`")) == fields(ProviderExtensions)
    assert fields(StreamOptions) - NEUTRAL_OPTION.keys() == {"include_usage"}
