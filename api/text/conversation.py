"""What a template makes a prompt of."""

import json
from typing import Any, cast

from msgspec import Struct

from api.text.control_text import ControlText
from api.text.template import ChatTemplate, Json, TemplateRefused


class Conversation(Struct, frozen=True):
    """Messages and tools as OpenAI's requests have them, and the template's own variables."""

    messages: list[dict[str, Any]]
    tools: list[Json] | None = None
    variables: Json | None = None

    def render(self, template: ChatTemplate) -> str:
        """The prompt; raises `TemplateRefused`."""
        return template.render(self.messages, self.tools, self.variables)

    def mentions(self, control: ControlText) -> bool:
        """Whether any text in it is read as a control token."""
        return control.is_in([self.messages, self.tools, self.variables])

    def broken(self, control: ControlText, assistants: ControlText) -> "Conversation":
        """With breaks in control tokens; `assistants` are those that are broken in the assistant's words."""
        messages = [
            {**(assistants if said["role"] == "assistant" else control).broken(said), "role": said["role"]}
            for said in self.messages
        ]
        return Conversation(messages, control.broken(self.tools), control.broken(self.variables))


def rendered(chat: Conversation, template: ChatTemplate) -> tuple[Conversation, str]:
    """The prompt, and the conversation as this template takes it; raises `TemplateRefused`.

    Most want a call's arguments as a mapping, some the JSON in a string: in this order.
    """
    mapped = Conversation([_with_mappings(said) for said in chat.messages], chat.tools, chat.variables)
    try:
        return mapped, mapped.render(template)
    except TemplateRefused:
        if mapped != chat:
            try:
                return chat, chat.render(template)
            except TemplateRefused:
                pass  # what it said of the mappings is the better reason
        raise


def _with_mappings(said: dict[str, Any]) -> dict[str, Any]:
    if not said.get("tool_calls"):
        return said
    calls = cast("list[dict[str, Any]]", said["tool_calls"])
    return {**said, "tool_calls": [_with_mapping(call) for call in calls]}


def _with_mapping(call: dict[str, Any]) -> dict[str, Any]:
    function = cast("dict[str, Any]", call.get("function", {}))
    try:
        arguments = json.loads(function["arguments"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call
