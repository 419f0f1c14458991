"""Hermes, Qwen 2.5 and 3, and many after them: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`."""

from api.tools.format import Spell, ToolFormat, Tools
from api.tools.json_calls import NEWLINE, json_calls, json_head

OPEN, CLOSE = "<tool_call>", "</tool_call>"


def _calls(tools: Tools, parallel: bool, spell: Spell) -> str:
    more = f" ({NEWLINE} one)*" if parallel else ""
    wrapped = f"one: {spell(OPEN)} {NEWLINE} call {NEWLINE} {spell(CLOSE)}\n"
    return f"start: one{more}\n{wrapped}{json_calls(tools, 'arguments')}"


HERMES = ToolFormat(
    name="Hermes",
    opener=OPEN,
    head=json_head,
    calls=_calls,
    tail=(CLOSE,),
    markers=(OPEN, CLOSE),
)
