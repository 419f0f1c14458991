"""Tools that a model may call, whatever its family: what the chat's handler uses.

    written = family(template.source)  # None: not made for tools; the request is refused by the model's name
    tools = {"weather": {...schema...}}  # the names and `parameters` of the request's tools; none given: {}
    chosen = tool_grammar(written, tools, choice, parallel, tokenizer.control)  # the task's grammar, or None
    reader = ToolReader(written, tools)  # one for each sequence
    for text in answer: events = reader.add(text)  # Said, CallBegan, CallArguments
    events = reader.end()

`tokenizer.render_chat(messages, tools=..., variables=...)` puts them into the prompt, and
`tokenizer.detokenizer_showing(written.markers)` makes the text that a reader wants: with the control tokens that stand
before calls. With `reader.calls` above 0, `finish_reason` is `tool_calls` where it would be `stop`. Without
`parallel_tool_calls`, end the sequence as soon as `reader.called`.
"""

import re

from api.tools.deepseek import ALL_BEGIN, DEEPSEEK, DEEPSEEK_PLAIN
from api.tools.format import ToolFormat
from api.tools.glm import GLM
from api.tools.hermes import HERMES, OPEN
from api.tools.llama import LLAMA, PYTHON_TAG
from api.tools.mistral import ARGS, MISTRAL, MISTRAL_ARGS
from api.tools.mistral import OPEN as MISTRAL_OPEN
from api.tools.nemotron import NEMOTRON
from api.tools.nemotron import OPEN as NEMOTRON_OPEN
from api.tools.qwen_coder import XML


def family(template: str) -> ToolFormat | None:
    """How the models of this chat template call tools; None: they do not, or in a way that is not known here."""
    if re.search(r"\btools\b", template) is None:
        return None  # what a request says of them would not reach the model
    if MISTRAL_OPEN in template:
        return MISTRAL_ARGS if ARGS in template else MISTRAL
    if ALL_BEGIN in template:
        return DEEPSEEK if "```json" in template else DEEPSEEK_PLAIN
    if NEMOTRON_OPEN in template:
        return NEMOTRON
    if "<function=" in template and "<parameter=" in template:
        return XML
    if OPEN in template:
        return GLM if "<arg_key>" in template else HERMES
    if PYTHON_TAG in template or '{"name": function name, "parameters":' in template:
        return LLAMA
    return None
