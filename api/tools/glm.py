"""GLM 4.5 and later: `<tool_call>name`, then `<arg_key>key</arg_key><arg_value>value</arg_value>`, `</tool_call>`."""

import re

from api.tools.format import Head, HeadRead, Spell, ToolFormat, Tools
from api.tools.hermes import CLOSE, OPEN
from api.tools.json_calls import NEWLINE, literal
from api.tools.tags import Tags, TagsBody, parameters_rules

KEY, KEY_END, VALUE, VALUE_END = "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"
_NAME = re.compile(r"\s*([\w.-]{1,256})\s*(?=<arg_key>|</tool_call>)")
_MAY_BEGIN = re.compile(r"\s*(?:[\w.-]{1,256}\s*(?P<mark><[a-z_/]{0,12})?)?")
TAGS = Tags(
    opening=lambda key: f"{KEY}{key}{KEY_END}\n{VALUE}",
    parameter=re.compile(rf"{KEY}([^<>]{{1,256}}){KEY_END}\s*{VALUE}"),
    may_be=re.compile(
        rf"<[a-z_]{{0,7}}|{KEY}[^<>]{{0,256}}(?:<[a-z_/]{{0,9}}|{KEY_END}\s*(?:<[a-z_]{{0,9}})?)?"
    ),
    value_end=VALUE_END,
    end=CLOSE,
)


def head(text: str, tools: Tools) -> HeadRead:
    """The name, and what follows it."""
    if begun := _NAME.match(text):
        return Head(begun[1], begun.end(), TagsBody(TAGS, tools.get(begun[1], {})))
    may = _MAY_BEGIN.fullmatch(text)
    mark = (may["mark"] or "") if may else "no"
    return "wait" if KEY.startswith(mark) or CLOSE.startswith(mark) else "no"


def _calls(tools: Tools, parallel: bool, spell: Spell) -> str:
    more = f" ({NEWLINE} one)*" if parallel else ""
    options = [f"{literal(name)} {NEWLINE} parameters_{at}" for at, name in enumerate(tools)]
    one = f"one: {spell(OPEN)} ({' | '.join(options)}) {spell(CLOSE)}\n"
    return f"start: one{more}\n{one}{parameters_rules(TAGS, tools)}"


GLM = ToolFormat(
    name="GLM", opener=OPEN, head=head, calls=_calls, markers=(OPEN, CLOSE, KEY, KEY_END, VALUE, VALUE_END)
)
