"""Tools on OpenAI's wire: which there are, which must be called, and the calls themselves."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

ToolName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_.-]{1,64}$")]


class Function(Struct, frozen=True, forbid_unknown_fields=True):
    """A function that a model may call; `parameters` is the JSON schema of its arguments."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, frozen=True, forbid_unknown_fields=True):
    """Only functions are built."""

    type: Literal["function"]
    function: Function


class FunctionName(Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class ChosenTool(Struct, frozen=True, forbid_unknown_fields=True):
    """The one tool that must be called."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Literal["none", "auto", "required"] | ChosenTool


class CalledFunction(Struct, frozen=True, forbid_unknown_fields=True):
    """`arguments` is JSON in a string."""

    name: str
    arguments: str


class ToolCall(Struct, frozen=True, forbid_unknown_fields=True):
    """A call, in an answer and in the history."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class FunctionDelta(Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to a call: first the name, then pieces of the arguments."""

    arguments: str
    name: str | UnsetType = UNSET


class ToolCallDelta(Struct, frozen=True, omit_defaults=True):
    index: int
    function: FunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
