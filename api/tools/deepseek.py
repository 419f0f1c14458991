"""DeepSeek: between markers of their own, a name and JSON; V3 and R1 put `function` before and a fence around."""

import re

from msgspec.structs import replace

from api.tools.format import Head, HeadRead, JsonBody, Spell, ToolFormat, Tools
from api.tools.json_calls import arguments_rules, literal

BAR = "\N{FULLWIDTH VERTICAL LINE}"
ALL_BEGIN, ALL_END = f"<{BAR}tool▁calls▁begin{BAR}>", f"<{BAR}tool▁calls▁end{BAR}>"
BEGIN, SEP, END = f"<{BAR}tool▁call▁begin{BAR}>", f"<{BAR}tool▁sep{BAR}>", f"<{BAR}tool▁call▁end{BAR}>"
FENCE, FENCE_END = "\n```json\n", "\n```"
MAX_HEAD_CHARS = 400
_NAME = r"\s*([\w.-]{1,256})\s*"
_FENCED = re.compile(rf"\s*(?:{BEGIN})?\s*function\s*{SEP}{_NAME}```(?:json)?\s*(?=\{{)")
_PLAIN = re.compile(rf"\s*(?:{BEGIN})?{_NAME}{SEP}\s*(?=\{{)")


def head(text: str, _tools: Tools) -> HeadRead:
    """What follows the opener of all calls, up to the first brace."""
    text = text[:MAX_HEAD_CHARS]
    if begun := _FENCED.match(text) or _PLAIN.match(text):
        return Head(begun[1], begun.end(), JsonBody())
    return "no" if "{" in text or len(text) == MAX_HEAD_CHARS else "wait"


def _fenced(tools: Tools, parallel: bool, spell: Spell) -> str:
    begin, end = f"{spell(BEGIN)} {literal('function')} {spell(SEP)}", f"{literal(FENCE_END)} {spell(END)}"
    options = [f"{literal(name + FENCE)} arguments_{at}" for at, name in enumerate(tools)]
    return _wrapped(f"{begin} ({' | '.join(options)}) {end}", tools, parallel, spell)


def _plain(tools: Tools, parallel: bool, spell: Spell) -> str:
    options = [f"{literal(name)} {spell(SEP)} arguments_{at}" for at, name in enumerate(tools)]
    return _wrapped(f"{spell(BEGIN)} ({' | '.join(options)}) {spell(END)}", tools, parallel, spell)


def _wrapped(one: str, tools: Tools, parallel: bool, spell: Spell) -> str:
    many = "one+" if parallel else "one"
    start = f"start: {spell(ALL_BEGIN)} {many} {spell(ALL_END)}"
    return f"{start}\none: {one}\n{arguments_rules(tools)}"


DEEPSEEK = ToolFormat(
    name="DeepSeek V3 and R1",
    opener=ALL_BEGIN,
    head=head,
    calls=_fenced,
    tail=("```", END, ALL_END),
    again=BEGIN,
    markers=(ALL_BEGIN, ALL_END, BEGIN, SEP, END),
)
DEEPSEEK_PLAIN = replace(DEEPSEEK, name="DeepSeek V3.1", calls=_plain)
