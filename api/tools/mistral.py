"""Mistral's two ways: a list of JSON objects after `[TOOL_CALLS]`; later, `name[ARGS]{...}` after each of it."""

import re

from msgspec.structs import replace

from api.tools.format import Head, HeadRead, JsonBody, Spell, ToolFormat, Tools
from api.tools.json_calls import arguments_rules, json_calls, json_head, literal

OPEN, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
_NAME = r"\s*([\w.-]{1,256})\s*"
_ARGS = re.compile(rf"{_NAME}(?:\[CALL_ID\]\s*([A-Za-z0-9]{{1,64}})\s*)?\[ARGS\]\s*(?=\{{)")
_MAY_BE_ARGS = re.compile(
    rf"{_NAME}(?:\[CALL_ID\]\s*[A-Za-z0-9]{{0,64}}\s*)?(?P<mark>\[[A-Z_]*|\[ARGS\]\s*)?"
)
_LIST = re.compile(r"\s*\[?\s*(?=\{)")
_MAY_BE_LIST = re.compile(r"\s*\[?\s*")


def head(text: str, tools: Tools) -> HeadRead:
    """The one call or the other, whichever the template was of."""
    listed = list_head(text, tools)
    return _args_head(text) if listed == "no" and not _LIST.match(text) else listed


def list_head(text: str, tools: Tools) -> HeadRead:
    """A JSON object, the first of a list or a later one."""
    listed = _LIST.match(text)
    if listed is None:
        return "wait" if _MAY_BE_LIST.fullmatch(text) else "no"
    call = json_head(text[listed.end() :], tools)
    if isinstance(call, Head):
        return Head(call.name, call.size + listed.end(), call.body, call.id, in_object=True)
    return call


def _args_head(text: str) -> HeadRead:
    """`name[ARGS]`, with the call's id between them in one version."""
    if begun := _ARGS.match(text):
        return Head(begun[1], begun.end(), JsonBody(), begun[2] or "")
    may = _MAY_BE_ARGS.fullmatch(text)
    mark = (may["mark"] or "").rstrip() if may else "no"
    return "wait" if ARGS.startswith(mark) or CALL_ID.startswith(mark) else "no"


def _list_calls(tools: Tools, parallel: bool, spell: Spell) -> str:
    more = f" ({literal(', ')} call)*" if parallel else ""
    return f"start: {spell(OPEN)} {literal('[')} call{more} {literal(']')}\n" + json_calls(tools, "arguments")


def _args_calls(tools: Tools, parallel: bool, spell: Spell) -> str:
    options = [f"{literal(name)} {spell(ARGS)} arguments_{at}" for at, name in enumerate(tools)]
    one = f"one: {spell(OPEN)} ({' | '.join(options)})\n"
    return f"start: one{'+' if parallel else ''}\n{one}{arguments_rules(tools)}"


MISTRAL = ToolFormat(
    name="Mistral",
    opener=OPEN,
    head=head,
    calls=_list_calls,
    tail=("]",),
    again=",",
    markers=(OPEN, CALL_ID, ARGS),
    id_chars=9,
)
MISTRAL_ARGS = replace(MISTRAL, name="Mistral with [ARGS]", calls=_args_calls)
