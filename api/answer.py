"""Ids to what a client is shown: text, cut at stop strings, and log-probabilities beside it."""

from collections.abc import Sequence

from api.alignment import Alignment, Shown
from api.detokenizer import Detokenizer
from api.stop import StopStrings
from schemas.chunks import TokenLogprobs


class Answer:
    """The text of one sequence, a piece at a time."""

    def __init__(self, detokenizer: Detokenizer, stops: tuple[str, ...], *, aligned: bool = False) -> None:
        self._detokenizer = detokenizer
        self._stops = StopStrings(stops) if stops else None
        self._alignment = Alignment() if aligned else None
        self.over = False
        self._shown: list[Shown] = []

    @property
    def stopped(self) -> bool:
        """A stop string is complete: nothing that follows is wanted."""
        return self._stops is not None and self._stops.hit is not None

    def add(self, ids: Sequence[int], logprobs: Sequence[TokenLogprobs] = ()) -> str:
        """The text that is certain now that `ids` have come; `logprobs`: one for each, when `aligned`."""
        if self._alignment is None:
            text = self._detokenizer.add(ids)
            return text if self._stops is None else self._stops.add(text)
        text = "".join([self._token(self._alignment, *each) for each in zip(ids, logprobs, strict=True)])
        self._shown += self._alignment.sent(len(text))
        return text

    def _token(self, alignment: Alignment, token_id: int, logprobs: TokenLogprobs) -> str:
        text = self._detokenizer.add([token_id])
        alignment.token(token_id, logprobs, len(text))
        return text if self._stops is None else self._stops.add(text)

    def end(self) -> str:
        """What was held back, now that nothing follows."""
        self.over = True
        held = text = self._detokenizer.end()
        if self._stops is not None:
            text = self._stops.add(held) + self._stops.end()
        if self._alignment is not None:
            self._alignment.grew(len(held))
            self._shown += self._alignment.sent(len(text)) + self._alignment.end(cut=self.stopped)
        return text

    def shown(self) -> list[Shown]:
        """Tokens whose text was sent since the last look; none unless the answer is `aligned`."""
        shown, self._shown = self._shown, []
        return shown
