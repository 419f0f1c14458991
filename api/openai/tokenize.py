"""`POST /tokenize` and `POST /detokenize`: what a model's tokenizer makes of a text, a chat, or ids."""

from typing import Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from api.catalogue import Described, described
from api.context import Context
from api.errors import bad_request, unavailable
from api.openai.chat_parameters import check_messages
from api.openai.tool_parameters import check_tools
from api.parameters import decode
from api.text.prompt import ChatPrompt, Prompt, TextPrompt
from api.text.room import check_vocabulary
from schemas.tokens import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest

_TOKENIZE = msgspec.json.Decoder(TokenizeRequest)
_DETOKENIZE = msgspec.json.Decoder(DetokenizeRequest)


def tokenize_routes(context: Context) -> list[HTTPRouteHandler]:
    """The routes of vLLM's tokenizer."""

    @post("/tokenize", status_code=200)
    async def tokenize(request: Request[Any, Any, Any]) -> Tokenized:
        asked = await context.prompts.read(await request.body(), read_tokenize)
        model = _model(context, asked.model)
        tokenizer = await context.prompts.tokenizer(model)
        ids = (await context.prompts.rendered(tokenizer, prompt_of(asked))).ids
        strings = [tokenizer.texts[each].text for each in ids] if asked.return_token_strs else None
        return Tokenized(count=len(ids), max_model_len=model.context, tokens=ids, token_strs=strings)

    @post("/detokenize", status_code=200)
    async def detokenize(request: Request[Any, Any, Any]) -> Detokenized:
        asked = await context.prompts.read(await request.body(), lambda body: decode(body, _DETOKENIZE))
        model = _model(context, asked.model)
        check_vocabulary(model, asked.tokens, "tokens")
        tokenizer = await context.prompts.tokenizer(model)
        return Detokenized(prompt=await context.prompts.text(tokenizer, asked.tokens))

    return [tokenize, detokenize]


def read_tokenize(body: bytes) -> TokenizeRequest:
    """The request in `body`, every field of it checked; raises `ApiError`."""
    asked = decode(body, _TOKENIZE)
    if (asked.prompt is None) == (asked.messages is None):
        raise bad_request("Send 'prompt' or 'messages', one of the two.", "prompt")
    if asked.messages is not None:
        check_messages(asked.messages)
        check_tools(asked.tools or [])
        if asked.add_special_tokens:
            raise bad_request(
                "'add_special_tokens' is only allowed with 'prompt': a chat gets what its template writes.",
                "add_special_tokens",
            )
    elif asked.tools:
        raise bad_request("'tools' is only allowed with 'messages'.", "tools")
    return asked


def prompt_of(asked: TokenizeRequest) -> Prompt:
    if asked.messages is not None:
        return ChatPrompt(asked.messages, msgspec.to_builtins(asked.tools) if asked.tools else None)
    return TextPrompt(asked.prompt or "", asked.add_special_tokens is not False)


def _model(context: Context, name: str) -> Described:
    model = described(context.bus.view.state, name)
    if model is None:
        raise unavailable(f"The model '{name}' is still loading: its tokenizer is not known yet.")
    return model
