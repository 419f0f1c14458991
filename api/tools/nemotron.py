"""Nemotron: a list of JSON objects in `<TOOLCALL>`."""

from api.tools.format import Spell, ToolFormat, Tools
from api.tools.json_calls import json_calls, literal
from api.tools.mistral import list_head

OPEN, CLOSE = "<TOOLCALL>", "</TOOLCALL>"


def _calls(tools: Tools, parallel: bool, spell: Spell) -> str:
    more = f" ({literal(', ')} call)*" if parallel else ""
    start = f"start: {spell(OPEN)} {literal('[')} call{more} {literal(']')} {spell(CLOSE)}\n"
    return start + json_calls(tools, "arguments")


NEMOTRON = ToolFormat(
    name="Nemotron",
    opener=OPEN,
    head=list_head,
    calls=_calls,
    tail=("]", CLOSE),
    again=",",
    markers=(OPEN, CLOSE),
)
