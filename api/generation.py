"""One request from its prompt to its text, whichever dialect the client speaks."""

from asyncio import get_running_loop
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager

from msgspec import Struct

from api.catalogue import Described, described, hopeless, nowhere
from api.errors import ApiError
from api.reading.events import AnswerEvent
from api.requests.request import InFlight
from api.requests.requests import Requests
from api.requests.sequence import Fresh
from api.resuming.birth import Origin, likeness
from api.text.alignment import Shown
from api.text.answer import Answer, Finish
from api.text.prompt import ChatPrompt, Prompt, Prompts
from api.text.token_text import TokenTexts
from api.text.tokenizer import ChatTokenizer, Rendered
from api.text.truncation import reserve
from api.wish import Wish, kept_to, named
from bus.view import View
from schemas.chunks import FinishReason, Timings, Usage
from schemas.ids import ModelId
from schemas.model import ModelSpec
from schemas.task import Task

ENDS: tuple[FinishReason, ...] = ("stop", "length")


class Piece(Struct, frozen=True, gc=False):
    """The next words of one choice; the last piece of a choice says why it ended."""

    choice: int
    text: str
    shown: Sequence[Shown] = ()
    finish: Finish | None = None
    events: Sequence[AnswerEvent] = ()
    """Instead of a text, where a model thinks aloud or calls tools."""


class Pieces(Struct, frozen=True, gc=False):
    """What there is at one time: pieces, or a comment while there are none; `last`: nothing follows."""

    pieces: list[Piece]
    comment: str = ""
    last: bool = False


class Generation:
    """What a client's wish has become: who it is, how far it is, what it cost."""

    def __init__(self, request: InFlight, wish: Wish, origin: Origin) -> None:
        self.request = request
        self.wish = self.asked = wish
        """`asked`: before the model's own marks made a grammar of it."""
        self.origin = origin
        self.artifact = ""
        self.likeness = b""
        """Of its model, once that is known."""
        self.prompt_tokens = 0
        self.left_out: int | None = None
        """Messages that the model does not see, for those who let it be so."""
        self.answers: list[Answer] = []
        self.tokenizer: ChatTokenizer | None = None
        """That of the model, once its prompt was made."""
        self.unfinished: set[int] = set()
        """Choices of which the client does not have all yet."""

    @property
    def texts(self) -> TokenTexts | None:
        """What tokens stand for, when the client wants to know."""
        return self.tokenizer.texts if self.tokenizer and self.wish.logprobs >= 0 else None

    @property
    def over(self) -> bool:
        """Every choice is complete, and what else the client is to be told is known."""
        if self.unfinished:
            return False
        return self.request.ended is not None or (self.request.stopped and not self.wish.timings)

    @property
    def usage(self) -> Usage:
        """The runner's count; this actor's own when it stopped the runner itself."""
        ended = self.request.ended
        counted = self.request.received if ended is None else ended.usage.completion_tokens
        if ended is None:
            return Usage(self.prompt_tokens, counted)
        cost = ended.usage
        return Usage(
            self.prompt_tokens, counted, cost.cached_tokens, cost.accepted_tokens, cost.rejected_tokens
        )

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
    def begun(self, origin: Origin, wish: Wish) -> Generator[Generation]:
        """A generation from its arrival until its client has all, or has gone; raises `ApiError`."""
        with self.requests.owned(origin.request, wish.model, wish.n) as owned:
            owned.answer = origin.answer
            owned.account.asked(wish.endpoint, wish.user, wish.metadata, wish.trace)
            if wish.timeout_s:
                owned.deadline = get_running_loop().time() + wish.timeout_s
            yield Generation(owned, wish, origin)

    async def pieces(self, generation: Generation, prompt: Prompt) -> AsyncGenerator[Pieces]:
        """Text as it comes; raises `ApiError` and `BusError`."""
        request, over = generation.request, False
        while not over:
            if request.spec is None or self.requests.outdated(request):
                made = await self._made(generation, prompt)
                if made is not None:
                    if generation.origin.earlier:
                        yield Pieces([])  # what is kept of the answer is read now, which may take its time
                    await self.requests.dispatch(request, made[0], generation.origin.earlier, made[1])
            try:
                news = await request.news()
            except ApiError as failure:
                raise named(failure, generation.wish) from failure
            pieces: list[Piece] = []
            for fresh in news.fresh:
                if (piece := self._read(generation, fresh)) is not None:
                    pieces.append(piece)  # noqa: PERF401  # before Python 3.12 a comprehension is one call more
            if request.ended is not None:
                pieces += [self._end(generation, index, "stop") for index in sorted(generation.unfinished)]
            over = not generation.unfinished and generation.over
            if pieces or news.comment or over:
                yield Pieces(pieces, news.comment, over)

    def _read(self, generation: Generation, fresh: Fresh) -> Piece | None:
        """What new tokens are to the client; None when it is not to be told of them yet.

        A sequence that was cancelled in the cluster has no end that a client is shown: an error follows.
        """
        answer = generation.answers[fresh.index]
        text, events = answer.add(fresh.ids, fresh.logprobs), ()
        if answer.reader is not None:
            text, events = "", answer.read(answer.reader, text, last=False)
        if answer.stopped or fresh.reason in ENDS:
            return self._end(generation, fresh.index, fresh.reason or "stop", text, events)
        shown = answer.shown() if answer.aligned else ()
        return Piece(fresh.index, text, shown, None, events) if text or shown or events else None

    def _end(
        self,
        generation: Generation,
        index: int,
        reason: FinishReason,
        text: str = "",
        events: Sequence[AnswerEvent] = (),
    ) -> Piece:
        """The last piece of a choice, which begins with `text` or `events`."""
        answer = generation.answers[index]
        rest = answer.end()
        if answer.reader is None:
            text += rest
        else:
            events = [*events, *answer.read(answer.reader, rest, last=True)]
        generation.unfinished.discard(index)
        if answer.stopped:
            self._stop(generation, index)
        finish = answer.finish(reason)
        if finish == "tool_calls":
            generation.request.account.finish = finish
        return Piece(index, text, answer.shown(), finish, events)

    def _stop(self, generation: Generation, index: int) -> None:
        """Have the runner end one choice; the last one ends with the whole request, when that is closed."""
        if generation.unfinished or generation.wish.timings:
            self.requests.stop(generation.request, index)
        else:
            generation.request.stop(index)

    def _model(self, name: ModelId) -> Described | None:
        state = self._view.state
        trouble = hopeless(state, name) or nowhere(state, name)
        if trouble is not None:
            raise trouble
        return described(state, name)

    async def _rendered(
        self, generation: Generation, tokenizer: ChatTokenizer, prompt: Prompt, model: Described
    ) -> Rendered:
        """The prompt, shortened where that was asked for."""
        wish = generation.wish
        if wish.truncation != "auto" or not isinstance(prompt, ChatPrompt):
            return await self._prompts.rendered(tokenizer, prompt)
        most = model.context - reserve(model.context, wish.limit, wish.min_tokens)
        rendered, generation.left_out = await self._prompts.fitted(tokenizer, prompt, most)
        return rendered

    async def _made(self, generation: Generation, prompt: Prompt) -> tuple[Task, ModelSpec] | None:
        """Its task, and what it was made for; None as long as nobody has read the files of its model."""
        model = self._model(generation.request.model)
        if model is None:
            self.requests.demand.note(generation.request.model)
            return None
        request = generation.request
        generation.likeness = likeness(model)
        if generation.origin.model not in (b"", generation.likeness):
            raise changed(request.model)
        tokenizer = await self._prompts.tokenizer(model)
        rendered = await self._rendered(generation, tokenizer, prompt, model)
        reading, grammar = prompt.reading(tokenizer, rendered.tail, generation.asked.grammar)
        wish = generation.wish = kept_to(generation.asked, grammar)
        task = self._prompts.task(
            *(request.id, self.requests.api, wish, model, rendered.ids, prompt.name),
            left_out=generation.left_out or 0,
        )
        generation.prompt_tokens = request.account.prompt_tokens = len(rendered.ids)
        generation.artifact, generation.tokenizer = model.card.artifact, tokenizer
        generation.answers = [
            reading.answer(wish.stops, f"{request.answer}-{index}", aligned=wish.logprobs >= 0)
            for index in range(wish.n)
        ]
        generation.unfinished = set(range(wish.n))
        return task, model.spec


def changed(model: ModelId) -> ApiError:
    return ApiError(
        409,
        f"The answer cannot be resumed: the model '{model}' is another one than that which began it. Send the "
        "request without Last-Event-ID for a new answer.",
        code="model_changed",
        param="model",
    )
