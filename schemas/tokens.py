"""`/tokenize` and `/detokenize` on the wire, in vLLM's shapes."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.chat import Message
from schemas.completions import TokenId
from schemas.tools import Tool


class TokenizeRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A text (`prompt`) as it goes into a completion, or `messages` as they go into a chat."""

    model: Annotated[str, Meta(min_length=1)]
    prompt: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1)] | None = None
    tools: list[Tool] | None = None
    """With `messages` only."""
    add_special_tokens: bool | None = None
    """With `prompt` only: what the tokenizer adds by itself (a BOS token, say); true unless told otherwise."""
    return_token_strs: bool | None = None


class Tokenized(Struct, frozen=True, kw_only=True):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: Annotated[str, Meta(min_length=1)]
    tokens: list[TokenId]


class Detokenized(Struct, frozen=True, kw_only=True):
    prompt: str
