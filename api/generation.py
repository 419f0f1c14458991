"""One chat from its messages to its text, whichever dialect the client speaks."""

from collections.abc import AsyncGenerator
from time import time
from typing import NamedTuple

from api.answer import Answer
from api.catalogue import Described, described, hopeless
from api.prompt import Prompts
from api.request import InFlight
from api.requests import Requests
from bus.view import View
from schemas.chunks import Usage
from schemas.ids import ModelId
from schemas.openai import ChatRequest, Finish


class Piece(NamedTuple):
    """The next words, or a comment while there are none."""

    text: str
    comment: str = ""
    last: bool = False


class Generation:
    """What a client's chat has become: who it is, how it ended, what it cost."""

    def __init__(self, request: InFlight, chat: ChatRequest) -> None:
        self.request = request
        self.chat = chat
        self.created = int(time())
        self.artifact = ""
        self.prompt_tokens = 0
        self.finish: Finish = "stop"

    @property
    def usage(self) -> Usage:
        """The runner's count; this actor's own when it stopped the runner itself."""
        ended = self.request.ended
        counted = self.request.received if ended is None else ended.usage.completion_tokens
        return Usage(self.prompt_tokens, counted, 0 if ended is None else ended.usage.cached_tokens)


class Generations:
    """Leads chats through the door: waits for the model, makes the prompt, dispatches, reads the answer."""

    def __init__(self, requests: Requests, prompts: Prompts, view: View) -> None:
        self.requests = requests
        self._prompts = prompts
        self._view = view

    async def pieces(self, generation: Generation) -> AsyncGenerator[Piece]:
        """Text as it comes; raises `ApiError` and `BusError`."""
        request = generation.request
        while (model := self._model(request.model)) is None:
            news = await request.news()
            if news.comment:
                yield Piece("", news.comment)
        answer = await self._begin(generation, model)
        while True:
            news = await request.news()
            text = "".join(answer.add(fresh.ids) for fresh in news.fresh)
            over = news.ended or answer.stopped
            if over:
                text += answer.end()
                generation.finish = (
                    "length" if request.sequences[0].reason == "length" and not answer.stopped else "stop"
                )
            if text or over or news.comment:
                yield Piece(text, news.comment, over)
            if over:
                return

    def _model(self, name: ModelId) -> Described | None:
        state = self._view.state
        trouble = hopeless(state, name)
        if trouble is not None:
            raise trouble
        return described(state, name)

    async def _begin(self, generation: Generation, model: Described) -> Answer:
        chat, request = generation.chat, generation.request
        tokenizer = await self._prompts.tokenizer(model)
        ids = await self._prompts.ids(tokenizer, chat)
        task = await self._prompts.task(request.id, self.requests.api, chat, model, ids)
        generation.prompt_tokens, generation.artifact = len(ids), model.card.artifact
        await self.requests.dispatch(request, task)
        return Answer(tokenizer.detokenizer(), chat.stops)
