"""Llama 3.1 and later: the answer is a JSON object, `{"name": ..., "parameters": {...}}`, and nothing else."""

from api.tools.format import Spell, ToolFormat, Tools
from api.tools.json_calls import json_calls, known_json_head

PYTHON_TAG = "<|python_tag|>"


def _calls(tools: Tools, _parallel: bool, _spell: Spell) -> str:
    """One call: the model was made for one."""
    return "start: call\n" + json_calls(tools, "parameters")


LLAMA = ToolFormat(
    name="Llama 3",
    opener=PYTHON_TAG,
    head=known_json_head,
    calls=_calls,
    again=";",
    bare=True,
    markers=(PYTHON_TAG,),
)
