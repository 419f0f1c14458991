"""Ids to what a client is shown: text, cut at stop strings, read for thoughts and calls, log-probabilities beside it."""

from collections.abc import Iterator, Sequence
from typing import Literal

from api.errors import ApiError
from api.reading.events import AnswerEvent, CallArguments, CallBegan
from api.reading.reader import AnswerReader
from api.text.alignment import Alignment, Shown
from api.text.detokenizer import Detokenizer
from api.text.stop import StopStrings
from schemas.chunks import FinishReason, TokenLogprobs

Finish = Literal["stop", "length", "tool_calls"]


class Answer:
    """The words of one sequence, a piece at a time."""

    def __init__(
        self,
        detokenizer: Detokenizer,
        stops: tuple[str, ...],
        *,
        aligned: bool = False,
        reader: AnswerReader | None = None,
        one_call: bool = False,
    ) -> None:
        self.reader = reader
        self.aligned = aligned
        self.stopped = False
        """A stop string is complete, or the only call: nothing that follows is wanted."""
        self._detokenizer = detokenizer
        self._stops = StopStrings(stops) if stops else None
        self._alignment = Alignment() if aligned else None
        self._one_call = one_call
        self._calling = False
        """The only call has begun."""
        self._shown: list[Shown] = []

    @property
    def _cut(self) -> bool:
        return self._stops is not None and self._stops.hit is not None

    @property
    def _called(self) -> bool:
        tools = self.reader.tools if self.reader else None
        return tools is not None and tools.called

    def add(self, ids: Sequence[int], logprobs: Sequence[TokenLogprobs] = ()) -> str:
        """The text that is certain now that `ids` have come; `logprobs`: one for each, when `aligned`."""
        if self._alignment is None:
            text = self._detokenizer.add(ids)
            return text if self._stops is None else self._let_through(text)
        if len(ids) != len(logprobs):
            raise ApiError(
                500, "The runner sent tokens without their log-probabilities.", code="engine_failed"
            )
        text = "".join([self._token(self._alignment, *each) for each in zip(ids, logprobs, strict=True)])
        self._shown += self._alignment.sent(len(text))
        return text

    def _let_through(self, text: str) -> str:
        if self._stops is None:
            return text
        text = self._stops.add(text)
        self.stopped = self.stopped or self._cut
        return text

    def _token(self, alignment: Alignment, token_id: int, logprobs: TokenLogprobs) -> str:
        text = self._detokenizer.add([token_id])
        alignment.token(token_id, logprobs, len(text))
        return self._let_through(text)

    def end(self) -> str:
        """What was held back, now that nothing follows."""
        held = self._detokenizer.end()
        text = self._let_through(held)
        if self._stops is not None:
            text += self._stops.end()
        if self._alignment is not None:
            self._alignment.grew(len(held))
            self._shown += self._alignment.sent(len(text)) + self._alignment.end(cut=self._cut)
        return text

    def read(self, reader: AnswerReader, text: str, *, last: bool) -> list[AnswerEvent]:
        """What `text` is to the client; `last`: nothing follows it."""
        events = reader.add(text)
        if self._one_call and self._called:
            self.stopped = True
        elif last:
            events += reader.end()
        return list(self._wanted(events)) if self._one_call else events

    def _wanted(self, events: list[AnswerEvent]) -> Iterator[AnswerEvent]:
        """The only call is the end, however much came at once with it."""
        for event in events:
            if isinstance(event, CallBegan | CallArguments):
                self._calling = True
                if event.index == 0:
                    yield event
            elif not self._calling:
                yield event

    def finish(self, reason: FinishReason) -> Finish:
        """Why it ended, in OpenAI's words."""
        calls = self.reader is not None and self.reader.tools is not None and self.reader.tools.calls > 0
        if reason == "length" and not self.stopped:
            return "length"
        return "tool_calls" if calls else "stop"

    def shown(self) -> list[Shown]:
        """Tokens whose text was sent since the last look; none unless the answer is `aligned`."""
        shown, self._shown = self._shown, []
        return shown
