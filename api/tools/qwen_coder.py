"""Qwen3-Coder and those like it: `<function=name><parameter=key>value</parameter></function>` in `<tool_call>`."""

import re

from api.tools.format import Head, HeadRead, Spell, ToolFormat, Tools
from api.tools.hermes import CLOSE, OPEN
from api.tools.json_calls import NEWLINE, literal
from api.tools.tags import Tags, TagsBody, parameters_rules

_FUNCTION = re.compile(r"\s*<function=([^<>\s]{1,256})>")
_MAY_BEGIN = re.compile(r"\s*(?P<mark><[a-z]*(?:=[^<>\s]{0,256})?)?")
TAGS = Tags(
    opening=lambda key: f"<parameter={key}>\n",
    parameter=re.compile(r"<parameter=([^<>\n]{1,256})>\n?"),
    may_be=re.compile(r"<(?:p[a-z]{0,8}|parameter=[^<>\n]{0,256}>?)?"),
    value_end="</parameter>",
    end="</function>",
    newline="\n",
)


def head(text: str, tools: Tools) -> HeadRead:
    """`<function=name>`."""
    if begun := _FUNCTION.match(text):
        return Head(begun[1], begun.end(), TagsBody(TAGS, tools.get(begun[1], {})))
    may = _MAY_BEGIN.fullmatch(text)
    name, equals, _ = (may["mark"] or "").partition("=") if may else ("no", "", "")
    fits = name == "<function" if equals else "<function".startswith(name)
    return "wait" if fits else "no"


def _calls(tools: Tools, parallel: bool, spell: Spell) -> str:
    more = f" ({NEWLINE} one)*" if parallel else ""
    options = [
        f"{literal(f'<function={name}>')} {NEWLINE} parameters_{at} {literal('</function>')}"
        for at, name in enumerate(tools)
    ]
    one = f"one: {spell(OPEN)} {NEWLINE} ({' | '.join(options)}) {NEWLINE} {spell(CLOSE)}\n"
    return f"start: one{more}\n{one}{parameters_rules(TAGS, tools)}"


XML = ToolFormat(
    name="Qwen3-Coder", opener=OPEN, head=head, calls=_calls, tail=(CLOSE,), markers=(OPEN, CLOSE)
)
