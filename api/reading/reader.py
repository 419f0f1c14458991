"""A model's text as it comes to thoughts, words and calls."""

from api.reading.events import AnswerEvent, Said
from api.reading.reasoning import ThoughtReader
from api.tools.reader import ToolReader


class AnswerReader:
    """First the thought, then the calls in what is left; either may be missing, and then text is text."""

    def __init__(self, thoughts: ThoughtReader | None, tools: ToolReader | None) -> None:
        self._thoughts = thoughts
        self.tools = tools

    def add(self, text: str) -> list[AnswerEvent]:
        """What is certain now that `text` has come."""
        events: list[AnswerEvent] = [Said(text)] if text else []
        if self._thoughts is not None:
            events = self._thoughts.add(text)
        return self._called(events)

    def end(self) -> list[AnswerEvent]:
        """What was held back, now that nothing follows."""
        events = [] if self._thoughts is None else self._called(self._thoughts.end())
        return events if self.tools is None else [*events, *self.tools.end()]

    def _called(self, events: list[AnswerEvent]) -> list[AnswerEvent]:
        if self.tools is None:
            return events
        read: list[AnswerEvent] = []
        for event in events:
            read += self.tools.add(event.text) if isinstance(event, Said) else [event]
        return read
