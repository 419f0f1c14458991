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
from api.resuming.telling import CATCHING_UP, Telling
from api.sse import EventStream, Whole, comment
from api.wish import Wish, seeded
from schemas.chat import ChatRequest

log = structlog.get_logger()


def chat_routes(context: Context) -> list[HTTPRouteHandler]:
    """The routes of OpenAI's chat completions."""

    @post("/v1/chat/completions", status_code=200)
    async def complete(request: Request[Any, Any, Any]) -> ASGIApp:
        body = await request.body()
        chat = await context.prompts.read(body, read_chat)
        wish = chat_wish(chat, request.headers)
        telling = context.tellings.begin(request.headers, chat.stream, body, wish.n, wish.sampling.seed)
        log.debug("chat.asked", request=telling.request, model=chat.model, user=chat.user)
        headers = [(b"x-request-id", telling.request.encode())]
        if chat.stream:
            return EventStream(stream(context, chat, wish, telling), headers)
        return Whole(answer(context, chat, wish, telling), headers)

    return [complete]


async def stream(context: Context, chat: ChatRequest, wish: Wish, telling: Telling) -> AsyncGenerator[bytes]:
    """Events: comments while there is nothing, the roles, the words, the ends."""
    with context.generations.begun(telling.origin(), seeded(wish, telling.seed)) as generation:
        writer: ChunkWriter | None = None
        async with aclosing(context.generations.pieces(generation, chat_prompt(chat))) as coming:
            async for news in coming:
                pieces = telling.rest(news.pieces) if telling.resumed else news.pieces
                if not pieces and not news.last:
                    yield comment(news.comment or CATCHING_UP)
                    continue
                data = b""
                if writer is None:
                    ids = telling.ids(generation.likeness)
                    writer = ChunkWriter(generation, chat.model, chat.wants_usage, ids)
                    data = writer.role()
                for piece in pieces:
                    data += writer.piece(piece)
                yield data + writer.end(told=telling.over) if news.last else data


async def answer(context: Context, chat: ChatRequest, wish: Wish, telling: Telling) -> bytes:
    """The whole answer, once it is there."""
    with context.generations.begun(telling.origin(), wish) as generation:
        async with aclosing(context.generations.pieces(generation, chat_prompt(chat))) as coming:
            said = put_together(wish.n, [piece async for news in coming for piece in news.pieces])
        return whole(generation, chat.model, said)
