"""One request from its prompt to its text, whichever dialect the client speaks."""

from asyncio import get_running_loop
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager
from time import time
from typing import Literal, NamedTuple

from api.alignment import Shown
from api.answer import Answer
from api.catalogue import Described, described, hopeless
from api.errors import ApiError
from api.prompt import Prompt, Prompts
from api.request import InFlight
from api.requests import Requests
from api.sequence import Fresh
from api.token_text import TokenTexts
from api.tokenizer import ChatTokenizer
from api.wish import Wish
from bus.view import View
from schemas.chunks import FinishReason, Timings, Usage
from schemas.ids import ModelId, RequestId

Finish = Literal["stop", "length"]


class Piece(NamedTuple):
    """The next words of one choice; the last piece of a choice says why it ended."""

    choice: int
    text: str
    shown: Sequence[Shown] = ()
    finish: Finish | None = None


class Pieces(NamedTuple):
    """What there is at one time: pieces, or a comment while there are none; `last`: nothing follows."""

    pieces: list[Piece]
    comment: str = ""
    last: bool = False


class Generation:
    """What a client's wish has become: who it is, how far it is, what it cost."""

    def __init__(self, request: InFlight, wish: Wish) -> None:
        self.request = request
        self.wish = wish
        self.created = int(time())
        self.artifact = ""
        self.prompt_tokens = 0
        self.answers: list[Answer] = []
        self.tokenizer: ChatTokenizer | None = None
        """That of the model, once its prompt was made."""

    @property
    def texts(self) -> TokenTexts | None:
        """What tokens stand for, when the client wants to know."""
        return self.tokenizer.texts if self.tokenizer and self.wish.logprobs >= 0 else None

    @property
    def complete(self) -> bool:
        """The client has all the words of every choice."""
        return all(answer.over for answer in self.answers)

    @property
    def over(self) -> bool:
        """Every choice is complete, and what else the client is to be told is known."""
        told = self.request.ended is not None or (self.request.stopped and not self.wish.timings)
        return told and self.complete

    @property
    def usage(self) -> Usage:
        """The runner's count; this actor's own when it stopped the runner itself."""
        ended = self.request.ended
        counted = self.request.received if ended is None else ended.usage.completion_tokens
        return Usage(self.prompt_tokens, counted, 0 if ended is None else ended.usage.cached_tokens)

    @property
    def timings(self) -> Timings | None:
        """Where the time went, for those who asked."""
        return self.request.ended.timings if self.request.ended and self.wish.timings else None


class Generations:
    """Leads requests through the door: waits for the model, makes the prompt, dispatches, reads the answer."""

    def __init__(self, requests: Requests, prompts: Prompts, view: View) -> None:
        self.requests = requests
        self._prompts = prompts
        self._view = view

    @contextmanager
    def begun(self, request: RequestId, wish: Wish) -> Generator[Generation]:
        """A generation from its arrival until its client has all, or has gone; raises `ApiError`."""
        with self.requests.owned(request, wish.model, wish.n) as owned:
            owned.account.asked(wish.endpoint, wish.user, wish.metadata)
            if wish.timeout_s:
                owned.deadline = get_running_loop().time() + wish.timeout_s
            yield Generation(owned, wish)

    async def pieces(self, generation: Generation, prompt: Prompt) -> AsyncGenerator[Pieces]:
        """Text as it comes; raises `ApiError` and `BusError`."""
        request = generation.request
        while (model := self._model(request.model)) is None:
            news = await request.news()
            if news.comment:
                yield Pieces([], news.comment)
        await self._begin(generation, prompt, model)
        while not generation.over:
            try:
                news = await request.news()
            except ApiError as failure:
                raise _named(failure, generation.wish) from failure
            pieces = [piece for fresh in news.fresh if (piece := self._read(generation, fresh)) is not None]
            if news.ended and request.ended is not None:
                pieces += [self._cut(generation, index) for index in _unfinished(generation)]
            if pieces or news.comment or generation.over:
                yield Pieces(pieces, news.comment, generation.over)

    def _read(self, generation: Generation, fresh: Fresh) -> Piece | None:
        """What new tokens are to the client; None when it is not to be told of them yet."""
        answer = generation.answers[fresh.index]
        text = answer.add(fresh.ids, fresh.logprobs)
        finish = "stop" if answer.stopped else _finish(fresh.reason)
        if finish is not None:
            text += answer.end()
            if answer.stopped:
                self._stop(generation, fresh.index)
        shown = answer.shown()
        return Piece(fresh.index, text, shown, finish) if text or shown or finish else None

    def _cut(self, generation: Generation, index: int) -> Piece:
        """The end of a choice whose runner ended the request without a word about it."""
        answer = generation.answers[index]
        text = answer.end()
        return Piece(index, text, answer.shown(), "stop")

    def _stop(self, generation: Generation, index: int) -> None:
        """Have the runner end one choice; the last one ends with the whole request, when that is closed."""
        if generation.complete and not generation.wish.timings:
            generation.request.stop(index)
        else:
            self.requests.stop(generation.request, index)

    def _model(self, name: ModelId) -> Described | None:
        state = self._view.state
        trouble = hopeless(state, name)
        if trouble is not None:
            raise trouble
        return described(state, name)

    async def _begin(self, generation: Generation, prompt: Prompt, model: Described) -> None:
        wish, request = generation.wish, generation.request
        tokenizer = await self._prompts.tokenizer(model)
        ids = await self._prompts.ids(tokenizer, prompt)
        task = await self._prompts.task(request.id, self.requests.api, wish, model, ids, prompt.name)
        generation.prompt_tokens = request.account.prompt_tokens = len(ids)
        generation.artifact = model.card.artifact
        generation.tokenizer = tokenizer
        generation.answers = [
            Answer(tokenizer.detokenizer(), wish.stops, aligned=wish.logprobs >= 0) for _ in range(wish.n)
        ]
        await self.requests.dispatch(request, task)


def _finish(reason: FinishReason | None) -> Finish | None:
    """A sequence that was cancelled in the cluster has no end that a client is shown: an error follows."""
    return None if reason == "cancelled" else reason


def _unfinished(generation: Generation) -> list[int]:
    return [index for index, answer in enumerate(generation.answers) if not answer.over]


def _named(failure: ApiError, wish: Wish) -> ApiError:
    """The runner's refusal of a grammar names what the client called it."""
    if failure.code == "bad_request" and failure.param is None and wish.grammar is not None:
        failure.param = wish.grammar_name
    return failure
