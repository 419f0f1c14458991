"""What a client has read of a stream, event by event, and what it makes of it."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One event with data; `id` is empty where it has none."""

    id: str
    data: str


def events_in(body: str) -> list[Event]:
    """Without comments."""
    found: list[Event] = []
    for block in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append(Event(fields.get("id", ""), fields["data"]))
    return found


class Tale:
    """All that was said, however it was cut into events; equal tales are the same answer."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.choices: defaultdict[int, defaultdict[str, Any]] = defaultdict(lambda: defaultdict(str))
        self.about: list[Any] = []
        """Who says it: the same in all events."""
        self.usage: list[Any] = []
        self.errors: list[Any] = []
        self.dones = 0
        for event in events:
            self._read(event.data)

    def _read(self, data: str) -> None:
        if data == "[DONE]":
            self.dones += 1
            return
        said = json.loads(data)
        if "error" in said:
            self.errors.append(said["error"]["code"])
            return
        about = {key: said.get(key) for key in ("id", "created", "model", "system_fingerprint", "object")}
        if about not in self.about:
            self.about.append(about)
        if said.get("usage"):
            self.usage.append(said["usage"])
        for choice in said["choices"]:
            self._choose(self.choices[choice["index"]], choice)

    def _choose(self, words: defaultdict[str, Any], choice: dict[str, Any]) -> None:
        delta = choice.get("delta", {})
        words["content"] += delta.get("content") or ""
        words["thought"] += delta.get("reasoning_content") or ""
        words["role"] += delta.get("role") or ""
        words["text"] += choice.get("text") or ""
        words["finish"] += choice["finish_reason"] or ""
        for call in delta.get("tool_calls") or []:
            words[f"call {call['index']}"] += "".join(
                (call.get("id") or "", call["function"].get("name") or "", call["function"]["arguments"])
            )
        for name, values in (choice.get("logprobs") or {}).items():
            words[f"logprobs {name}"] = [*words[f"logprobs {name}"], *(values or [])]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tale) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return json.dumps(vars(self), indent=1, default=dict)

    __hash__ = None  # type: ignore[assignment]  # it is compared only


def up_to(events: Sequence[Event], cut: int) -> tuple[str, list[Event]]:
    """The last id that a client saw which read so many events, and these events."""
    seen = list(events[:cut])
    return next(event.id for event in reversed(seen) if event.id), seen
