"""Reads `tools`, `tool_choice` and `parallel_tool_calls` of a chat request, and calls in its history."""

from msgspec import to_builtins

from api.errors import bad_request
from api.openai.grammars import Named
from api.reading.manner import Calling
from api.text.prompt import ChatPrompt
from api.tools.grammar import NamedTool
from api.tools.json_calls import NO_PARAMETERS
from schemas.chat import ChatRequest, Message
from schemas.tools import ChosenTool, Tool


def check_tools(tools: list[Tool]) -> None:
    """Raises `ApiError` when two have the same name."""
    names: set[str] = set()
    for number, tool in enumerate(tools):
        if tool.function.name in names:
            path = f"tools[{number}].function.name"
            raise bad_request(f"'{path}' is '{tool.function.name}', as that of another tool.", path)
        names.add(tool.function.name)


def check_choice(chat: ChatRequest) -> None:
    """Raises `ApiError` when a tool is to be called that is not there."""
    tools, choice = chat.tools or [], chat.tool_choice
    if choice in (None, "none", "auto"):
        return
    if not tools:
        raise bad_request("'tool_choice' has a tool called, but there are no 'tools'.", "tool_choice")
    if isinstance(choice, ChosenTool) and choice.function.name not in {tool.function.name for tool in tools}:
        raise bad_request(
            f"'tool_choice' names '{choice.function.name[:100]}', which is none of the tools.",
            "tool_choice.function.name",
        )


def check_grammar(chat: ChatRequest, kept: Named | None) -> None:
    """Raises `ApiError` when calls and a grammar exclude each other."""
    if kept is None or not chat.tools or chat.tool_choice == "none":
        return
    name, grammar = kept
    if chat.tool_choice not in (None, "auto"):
        raise bad_request(f"'tool_choice' and '{name}' cannot both be kept to: send one of them.", name)
    if grammar.kind != "json_schema":
        raise bad_request(f"'{name}' is not supported together with 'tools': only JSON schemas are.", name)


def chat_prompt(chat: ChatRequest) -> ChatPrompt:
    """The prompt of a checked request; with `tool_choice: none` the model is not told of the tools."""
    if not chat.tools or chat.tool_choice == "none":
        return ChatPrompt(chat.messages, variables=chat.chat_template_kwargs)
    schemas = {tool.function.name: tool.function.parameters or NO_PARAMETERS for tool in chat.tools}
    choice = chat.tool_choice or "auto"
    chosen = NamedTool(choice.function.name) if isinstance(choice, ChosenTool) else choice
    calling = Calling(schemas, chosen, chat.parallel_tool_calls is not False)
    return ChatPrompt(
        chat.messages, [to_builtins(tool) for tool in chat.tools], calling, chat.chat_template_kwargs
    )


def check_calls(message: Message, path: str, called: set[str]) -> None:
    """Calls stand in the assistant's words, and what came of each after them; `called`: ids of those before."""
    if message.tool_calls:
        if message.role != "assistant":
            raise bad_request(
                f"'{path}.tool_calls' is only allowed with the role 'assistant'.", f"{path}.tool_calls"
            )
        called |= {call.id for call in message.tool_calls}
    if message.reasoning_content and message.role != "assistant":
        where = f"{path}.reasoning_content"
        raise bad_request(f"'{where}' is only allowed with the role 'assistant'.", where)
    if message.role == "tool":
        _check_result(message, f"{path}.tool_call_id", called)
    elif message.tool_call_id is not None:
        raise bad_request(
            f"'{path}.tool_call_id' is only allowed with the role 'tool'.", f"{path}.tool_call_id"
        )


def _check_result(message: Message, path: str, called: set[str]) -> None:
    if message.tool_call_id is None:
        raise bad_request(f"Missing required parameter: '{path}'.", path, "missing_required_parameter")
    if message.tool_call_id not in called:
        raise bad_request(f"'{path}' names no call of the messages before it.", path)
