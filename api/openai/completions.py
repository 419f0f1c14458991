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
from api.resuming.telling import CATCHING_UP, Telling
from api.sse import EventStream, Whole, comment
from api.text.prompt import RawPrompt
from api.wish import Wish, seeded
from schemas.completions import CompletionRequest

log = structlog.get_logger()


def completion_routes(context: Context) -> list[HTTPRouteHandler]:
    """The routes of OpenAI's older completions."""

    @post("/v1/completions", status_code=200)
    async def go_on(request: Request[Any, Any, Any]) -> ASGIApp:
        body = await request.body()
        asked = await context.prompts.read(body, read_completion)
        prompts = prompts_of(asked)
        wish = completion_wish(asked, request.headers)
        choices = len(prompts) * asked.choices
        telling = context.tellings.begin(request.headers, asked.stream, body, choices, wish.sampling.seed)
        completing = Completing(context, asked, prompts, wish, telling)
        log.debug("completion.asked", request=telling.request, model=asked.model, user=asked.user)
        headers = [(b"x-request-id", telling.request.encode())]
        return (
            EventStream(completing.stream(), headers) if asked.stream else Whole(completing.answer(), headers)
        )

    return [go_on]


class Completing:
    """One answer that is made of as many generations as there are prompts."""

    def __init__(
        self,
        context: Context,
        asked: CompletionRequest,
        prompts: list[RawPrompt],
        wish: Wish,
        telling: Telling,
    ) -> None:
        self._context = context
        self._asked = asked
        self._prompts = prompts
        self._wish = wish
        self._telling = telling

    async def stream(self) -> AsyncGenerator[bytes]:
        """Events: comments while there is nothing, the words, the ends."""
        with self._begun() as generations:
            telling, writer = self._telling, None
            async with aclosing(self._pieces(generations)) as coming:
                async for news in coming:
                    pieces = telling.rest(news.pieces) if telling.resumed else news.pieces
                    if not pieces and not news.last:
                        yield comment(news.comment or CATCHING_UP)
                        continue
                    writer = writer or self._writer(generations)
                    data = b"".join([writer.piece(piece) for piece in pieces])
                    yield data + writer.end(told=telling.over) if news.last else data

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
        begun = self._context.generations.begun
        with ExitStack() as stack:
            yield [
                stack.enter_context(begun(self._telling.origin(number), self._seeded(number)))
                for number, _ in enumerate(self._prompts)
            ]

    def _seeded(self, number: int) -> Wish:
        """The client's seed is that of every prompt; without one each has its own."""
        drawn = 0 if self._asked.seed is not None else number
        return seeded(self._wish, (self._telling.seed + drawn) % 2**64)

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
        likeness = next(each.likeness for each in generations if each.tokenizer is not None)
        ids = self._telling.ids(likeness) if asked.stream else None
        return CompletionWriter(generations, asked.model, echoes, asked.wants_usage, ids)
