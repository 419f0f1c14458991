"""Which instance a request is offered to first: the one where it costs least."""

from contextlib import aclosing

import msgspec

from api.requests.attempt import Attempt
from api.requests.request import InFlight
from api.requests.versions import able
from api.routing.costs import Candidate, ranked
from api.routing.loads import Loads, Share
from api.routing.prefixes import PrefixIndex
from bus.bus import Bus
from schemas.ids import InstanceId
from schemas.node import Pulse
from schemas.prefix import Prefixes, block_digests
from schemas.unreadable import UNREADABLE

_prefixes = msgspec.msgpack.Decoder(Prefixes).decode
_pulse = msgspec.json.Decoder(Pulse).decode


class Router:
    """Hears what runners keep and carry, and remembers what was sent to them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._index = PrefixIndex()
        self._loads = Loads()

    async def run(self) -> None:
        """Listen until cancelled; instances that are gone are forgotten."""
        subjects, instances = self._bus.subjects, None
        async with (
            self._bus.listening(subjects.all_prefixes, self._hear_prefixes),
            self._bus.listening(subjects.pulses, self._hear_pulse),
            aclosing(self._bus.view.states()) as states,
        ):
            async for state in states:
                if state.instances is not instances:
                    instances = state.instances
                    self._index.forget_all_but(instances)
                    self._loads.forget_all_but(instances)

    def _hear_prefixes(self, payload: bytes, subject: str) -> None:
        try:
            news = _prefixes(payload)
            if news.instance in self._bus.view.state.instances:
                self._index.hear(news)
        except (ValueError, *UNREADABLE) as garbage:
            self._bus.note_garbage(subject, garbage)

    def _hear_pulse(self, payload: bytes, subject: str) -> None:
        try:
            pulse = _pulse(payload)
        except UNREADABLE as garbage:
            self._bus.note_garbage(subject, garbage)
        else:
            if not pulse.rank and pulse.instance in self._bus.view.state.instances:
                self._loads.hear(pulse)

    def candidates(self, request: InFlight, last: InstanceId | None) -> list[InstanceId]:
        """Ready instances of its version, the cheapest first; `last` is asked after all others."""
        ready = [each.id for each in able(self._bus.view.state, request)]
        if len(ready) < 2:
            return ready
        if request.digests is None and request.task is not None:
            request.digests = list(block_digests(request.task.prompt))
        order = ranked(unread(request), [self._candidate(each, request) for each in ready])
        return sorted(order, key=lambda instance: instance == last)

    def _candidate(self, instance: InstanceId, request: InFlight) -> Candidate:
        digests = request.digests or ()
        return Candidate(
            instance,
            self._index.cached_tokens(instance, digests),
            self._index.coming_tokens(instance, digests),
            self._loads.unread(instance),
            self._loads.running(instance),
        )

    def send(self, request: InFlight, instance: InstanceId) -> None:
        """Its present attempt goes there, or is there: the next one that is routed knows of it."""
        digests = request.digests or ()
        left = max(0, unread(request) - self._index.cached_tokens(instance, digests))
        expected = self._index.expect(instance, digests)
        if request.current.counted == instance:
            return  # as when it was offered
        open_ = sum(not each.over for each in request.sequences)
        self._loads.add(request.current, instance, Share(open_, left, tuple(expected)))

    def refuse(self, attempt: Attempt) -> None:
        """It was offered, and not taken."""
        instance = attempt.counted
        share = self._loads.remove(attempt)
        if instance is not None and share is not None:
            self._index.unexpect(instance, share.expected)

    def remove(self, attempt: Attempt) -> None:
        """It is over."""
        self._loads.remove(attempt)


def unread(request: InFlight) -> int:
    """Tokens that an instance which knows nothing of it has to read: what earlier attempts made is read too."""
    return request.account.prompt_tokens + request.received
