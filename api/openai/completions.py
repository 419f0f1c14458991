"""`POST /v1/completions`: each prompt is a request of its own, the answer is one."""

from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, aclosing, contextmanager
from typing import Any

import structlog
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from api.context import Context
from api.generation import Generation, Pieces
from api.openai.choice import put_together
from api.openai.completion_parameters import completion_wish, prompts_of, read_completion
from api.openai.completion_writer import CompletionWriter
from api.openai.together import together
from api.sse import DONE, EventStream, Whole, comment
from api.text.prompt import RawPrompt
from api.wish import Wish
from schemas.completions import CompletionRequest
from schemas.ids import RequestId, new_request_id

log = structlog.get_logger()


def completion_routes(context: Context) -> list[HTTPRouteHandler]:
    """The routes of OpenAI's older completions."""

    @post("/v1/completions", status_code=200)
    async def go_on(request: Request[Any, Any, Any]) -> ASGIApp:
        asked = await context.prompts.read(await request.body(), read_completion)
        prompts = prompts_of(asked)
        wishes = [completion_wish(asked, request.headers) for _ in prompts]
        completing = Completing(context, asked, prompts, wishes)
        log.debug("completion.asked", request=completing.id, model=asked.model, user=asked.user)
        headers = [(b"x-request-id", completing.id.encode())]
        return (
            EventStream(completing.stream(), headers) if asked.stream else Whole(completing.answer(), headers)
        )

    return [go_on]


class Completing:
    """One answer that is made of as many generations as there are prompts."""

    def __init__(
        self, context: Context, asked: CompletionRequest, prompts: list[RawPrompt], wishes: list[Wish]
    ) -> None:
        self.id = new_request_id()
        self._context = context
        self._asked = asked
        self._prompts = prompts
        self._wishes = wishes

    async def stream(self) -> AsyncGenerator[bytes]:
        """Events: comments while there is nothing, the words, the ends."""
        with self._begun() as generations:
            writer: CompletionWriter | None = None
            async with aclosing(self._pieces(generations)) as coming:
                async for news in coming:
                    if not news.pieces and not news.last:
                        yield comment(news.comment)
                        continue
                    writer = writer or self._writer(generations)
                    data = b"".join([writer.piece(piece) for piece in news.pieces])
                    yield data + writer.end() + DONE if news.last else data

    async def answer(self) -> bytes:
        """The whole answer, once it is there."""
        with self._begun() as generations:
            async with aclosing(self._pieces(generations)) as coming:
                pieces = [piece async for news in coming for piece in news.pieces]
            said = put_together(len(generations) * self._asked.choices, pieces)
            return self._writer(generations).whole(said)

    @contextmanager
    def _begun(self) -> Generator[list[Generation]]:
        """The first generation has the answer's id, the others have it with their number behind."""
        with ExitStack() as stack:
            yield [
                stack.enter_context(self._context.generations.begun(self._numbered(number), wish))
                for number, wish in enumerate(self._wishes)
            ]

    def _numbered(self, number: int) -> RequestId:
        return RequestId(f"{self.id}-{number}") if number else self.id

    def _pieces(self, generations: list[Generation]) -> AsyncGenerator[Pieces]:
        sources = [
            self._context.generations.pieces(generation, prompt)
            for generation, prompt in zip(generations, self._prompts, strict=True)
        ]
        return sources[0] if len(sources) == 1 else together(sources, self._asked.choices)

    def _writer(self, generations: list[Generation]) -> CompletionWriter:
        asked = self._asked
        tokenizer = next(each.tokenizer for each in generations if each.tokenizer is not None)
        echoes = [prompt.shown(tokenizer) if asked.echo else "" for prompt in self._prompts]
        echoes = [echo for echo in echoes for _ in range(asked.choices)]
        return CompletionWriter(generations, asked.model, echoes, asked.wants_usage)
