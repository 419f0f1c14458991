"""`POST /v1/chat/completions`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import structlog
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from api.completion import ChunkWriter, whole
from api.context import Context
from api.generation import Generation
from api.parameters import read_chat
from api.sse import DONE, EventStream, Whole, comment
from schemas.ids import ModelId, RequestId, new_request_id
from schemas.openai import ChatRequest

log = structlog.get_logger()


def chat_routes(context: Context) -> list[HTTPRouteHandler]:
    """The routes of OpenAI's chat completions."""

    @post("/v1/chat/completions", status_code=200)
    async def complete(request: Request[Any, Any, Any]) -> ASGIApp:
        chat = read_chat(await request.body())
        request_id = new_request_id()
        log.debug("chat.asked", request=request_id, model=chat.model, user=chat.user)
        headers = [(b"x-request-id", request_id.encode())]
        if chat.stream:
            return EventStream(stream(context, chat, request_id), headers)
        return Whole(answer(context, chat, request_id), headers)

    return [complete]


async def stream(context: Context, chat: ChatRequest, request_id: RequestId) -> AsyncGenerator[bytes]:
    """Events: comments while there is nothing, the role, the words, the end."""
    with context.requests.owned(request_id, ModelId(chat.model)) as request:
        generation = Generation(request, chat)
        writer: ChunkWriter | None = None
        async with aclosing(context.generations.pieces(generation)) as pieces:
            async for text, remark, last in pieces:
                if not text and not last:
                    yield comment(remark)
                    continue
                data = b""
                if writer is None:
                    writer = ChunkWriter(generation)
                    data = writer.role()
                if text:
                    data += writer.text(text)
                yield data + writer.end() + DONE if last else data


async def answer(context: Context, chat: ChatRequest, request_id: RequestId) -> bytes:
    """The whole answer, once it is there."""
    with context.requests.owned(request_id, ModelId(chat.model)) as request:
        generation = Generation(request, chat)
        async with aclosing(context.generations.pieces(generation)) as pieces:
            text = "".join([piece.text async for piece in pieces])
        return whole(generation, text)
