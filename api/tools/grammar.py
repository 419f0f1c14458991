"""A choice of tools as a grammar: what is forced is a call by construction, with arguments after their schema."""

from collections.abc import Collection
from typing import Literal

from msgspec import Struct

from api.reading.reasoning import Thinking, thought_rule
from api.tools.format import ToolFormat, Tools
from api.tools.json_calls import spelt
from schemas.task import Grammar


class NamedTool(Struct, frozen=True):
    """The one tool that must be called; it is one of those given."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


def tool_grammar(
    written: ToolFormat,
    tools: Tools,
    choice: ToolChoice,
    parallel: bool,
    control: Collection[str] = (),
    thinking: Thinking | None = None,
) -> Grammar | None:
    """What the answer must be, or None where it is the model's to choose (`auto`, `none`).

    `control`: the texts of the tokenizer's control tokens. `thinking`: given where the prompt ends within a thought.
    """
    if choice in {"auto", "none"}:
        return None
    if isinstance(choice, NamedTool):
        tools, parallel = {choice.name: tools[choice.name]}, False
    rules = written.calls(tools, parallel, lambda text: spelt(text, control))
    if thinking is not None:
        rules = f"start: thought /\\s*/ calls\n{thought_rule(thinking, control)}calls: {rules.removeprefix('start: ')}"
    return Grammar(kind="lark", source=rules)
