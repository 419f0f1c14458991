"""`POST /v1/chat/completions`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import structlog
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from api.context import Context
from api.openai.chat_parameters import chat_wish, read_chat
from api.openai.chat_writer import ChunkWriter, whole
from api.openai.choice import put_together
from api.openai.tool_parameters import chat_prompt
from api.sse import DONE, EventStream, Whole, comment
from api.wish import Wish
from schemas.chat import ChatRequest
from schemas.ids import RequestId, new_request_id

log = structlog.get_logger()


def chat_routes(context: Context) -> list[HTTPRouteHandler]:
    """The routes of OpenAI's chat completions."""

    @post("/v1/chat/completions", status_code=200)
    async def complete(request: Request[Any, Any, Any]) -> ASGIApp:
        chat = await context.prompts.read(await request.body(), read_chat)
        wish = chat_wish(chat, request.headers)
        request_id = new_request_id()
        log.debug("chat.asked", request=request_id, model=chat.model, user=chat.user)
        headers = [(b"x-request-id", request_id.encode())]
        if chat.stream:
            return EventStream(stream(context, chat, wish, request_id), headers)
        return Whole(answer(context, chat, wish, request_id), headers)

    return [complete]


async def stream(
    context: Context, chat: ChatRequest, wish: Wish, request_id: RequestId
) -> AsyncGenerator[bytes]:
    """Events: comments while there is nothing, the roles, the words, the ends."""
    with context.generations.begun(request_id, wish) as generation:
        writer: ChunkWriter | None = None
        async with aclosing(context.generations.pieces(generation, chat_prompt(chat))) as coming:
            async for news in coming:
                if not news.pieces and not news.last:
                    yield comment(news.comment)
                    continue
                data = b""
                if writer is None:
                    writer = ChunkWriter(generation, chat.model, chat.wants_usage)
                    data = writer.role()
                for piece in news.pieces:
                    data += writer.piece(piece)
                yield data + writer.end() + DONE if news.last else data


async def answer(context: Context, chat: ChatRequest, wish: Wish, request_id: RequestId) -> bytes:
    """The whole answer, once it is there."""
    with context.generations.begun(request_id, wish) as generation:
        async with aclosing(context.generations.pieces(generation, chat_prompt(chat))) as coming:
            said = put_together(wish.n, [piece async for news in coming for piece in news.pieces])
        return whole(generation, chat.model, said)
