"""A model's chat template: Jinja in a sandbox, with what Hugging Face's templates expect to find there."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, cast

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

ChatMessage = Mapping[str, Any]
"""`role` and `content`; `tool_calls`, `tool_call_id`, `name` and whatever else a template may look for."""
Json = Mapping[str, Any]

OURS = frozenset({"messages", "tools", "add_generation_prompt"})
"""Names in a template that no variable of a request may take."""

_FAULTS = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


class TemplateRefused(Exception):
    """The template does not take these messages, or is itself at fault; says why."""


class VariableRefused(TemplateRefused):
    """A variable is the template's own, or it reads none of that name."""


class ChatTemplate:
    """Messages to the text that the model was trained on."""

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        self.source = source
        self._special = dict(special)
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as broken:
            raise TemplateRefused(f"the model's chat template is no valid Jinja: {broken}") from broken

    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Json] | None = None,
        variables: Json | None = None,
    ) -> str:
        """The prompt, ending where the assistant is to speak; raises `TemplateRefused`.

        `tools` as OpenAI's requests have them; `variables` are the template's own, such as `enable_thinking`.
        """
        variables = variables or {}
        if taken := sorted((OURS | self._special.keys()) & variables.keys()):
            raise VariableRefused(f"'{taken[0]}' cannot be set from outside")
        if unread := sorted(name for name in variables if name not in self.source):
            raise VariableRefused(f"the model's chat template reads no '{unread[0][:100]}'")
        try:
            return self._template.render(
                **{"documents": None, **variables, **self._special},
                messages=[dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] if tools else None,
                add_generation_prompt=True,
            )
        except _FAULTS as fault:
            raise TemplateRefused(str(fault) or type(fault).__name__) from fault


class Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; here it only lets them through."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own declaration

    def parse(self, parser: Parser) -> CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        block = CallBlock(self.call_method("_through"), [], [], body)
        block.set_lineno(line)
        return block

    def _through(self, caller: Macro) -> str:
        return caller()


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    names = cast("dict[str, object]", environment.globals)  # pyright: ignore[reportUnknownMemberType] - Jinja's
    names |= {"raise_exception": _raise, "strftime_now": _now}
    filters = cast("dict[str, object]", environment.filters)  # pyright: ignore[reportUnknownMemberType] - Jinja's
    filters["tojson"] = _to_json
    return environment


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike Jinja's own it escapes no HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
