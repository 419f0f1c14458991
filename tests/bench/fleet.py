"""Many instances without a process: their caches, queues and clocks, and a router before them.

The caches are those of the simulated engine, the index and the costs are the product's; what is modelled is time:
an instance reads one prompt after the other, and decodes beside that in steps that each row makes longer.
"""

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import count
from statistics import fmean

from msgspec import Struct

from actors.engine.simulated_cache import SimulatedCache
from api.routing.costs import Candidate, ranked
from api.routing.prefixes import PrefixIndex
from schemas.ids import InstanceId
from schemas.prefix import Prefixes, block_digests, join
from schemas.task import pack_ids
from tests.bench.table import percentile

Route = Callable[[int, list[Candidate]], InstanceId]


def by_prefix(prompt: int, candidates: list[Candidate]) -> InstanceId:
    return ranked(prompt, candidates)[0]


def by_load(prompt: int, candidates: list[Candidate]) -> InstanceId:
    """As if nobody knew of prefixes."""
    return ranked(
        prompt, [Candidate(each.instance, unread=each.unread, running=each.running) for each in candidates]
    )[0]


def by_chance(_prompt: int, candidates: list[Candidate]) -> InstanceId:
    return random.choice(candidates).instance


class Machine(Struct, frozen=True):
    """What an instance is like; the defaults are those of an 8B model on one accelerator."""

    prefill: float = 10_000.0
    """Tokens a second."""
    step_s: float = 0.015
    row_s: float = 0.0002
    cache_tokens: int = 100_000


class Trace(Struct, frozen=True):
    """Conversations that begin with one of some system prompts, and grow; lengths in tokens."""

    conversations: int
    turns: int = 6
    systems: int = 16
    system: int = 600
    said: int = 250
    answer: int = 200
    think_s: float = 15.0
    rate: float = 100.0
    """Conversations that begin in a second."""


class Outcome(Struct, frozen=True):
    hit_rate: float
    """Share of all prompts' tokens that were not read again."""
    best_rate: float
    """What it would be if nothing were ever forgotten, at one instance for all."""
    first_s: list[float]
    spread: float
    """Requests of the busiest instance / of the mean one."""

    def __str__(self) -> str:
        p50, p99 = (percentile(self.first_s, share) * 1e3 for share in (0.5, 0.99))
        return f"hit {self.hit_rate:.0%}, TTFT p50 {p50:.0f} p99 {p99:.0f} ms"


class Talk:
    """One conversation: what its next prompt is."""

    def __init__(self, trace: Trace, chance: random.Random) -> None:
        self._trace = trace
        self._chance = chance
        system = chance.randrange(trace.systems)
        self.ids = [system] * trace.system
        self.turns = trace.turns

    def say(self, mean: int) -> None:
        length = self._chance.randint(mean // 2, mean * 3 // 2)
        self.ids += [self._chance.getrandbits(16) for _ in range(length)]


class Asked(Struct, frozen=True):
    """A request at an instance."""

    at: float
    talk: Talk
    trace: Trace
    packed: bytes
    left: int
    """What it was taken to have to read."""


class Simulated:
    """One instance."""

    def __init__(self, name: str, machine: Machine) -> None:
        self.id = InstanceId(name)
        self.machine = machine
        self.cache = SimulatedCache(machine.cache_tokens)
        self.queue: deque[Asked] = deque()
        """The first one is being read."""
        self.unread = self.running = self.served = self.number = 0

    def news(self) -> Prefixes | None:
        changes = self.cache.changes.take()
        if changes is None:
            return None
        self.number += 1
        return Prefixes(self.id, 1, self.number, self.number == 1, join(changes.added), join(changes.removed))


class Fleet:
    """Plays a trace; events are calls, in the order of their times."""

    def __init__(self, instances: int, machine: Machine, route: Route, seed: int = 1) -> None:
        self._route = route
        self._instances = {each.id: each for each in (Simulated(f"i{n}", machine) for n in range(instances))}
        self._now = 0.0
        self._index = PrefixIndex(lambda: self._now)
        self._chance = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._first_s: list[float] = []
        self._known = SimulatedCache(1 << 40)
        self._prompt = self._cached = self._best = 0

    def play(self, trace: Trace) -> Outcome:
        begins = 0.0
        for _ in range(trace.conversations):
            begins += self._chance.expovariate(trace.rate)
            self._at(begins, partial(self._ask, Talk(trace, self._chance), trace))
        while self._events:
            self._now, _, event = heappop(self._events)
            event()
        served = [each.served for each in self._instances.values()]
        spread = max(served) / fmean(served)
        return Outcome(self._cached / self._prompt, self._best / self._prompt, self._first_s, spread)

    def _at(self, time: float, event: Callable[[], None]) -> None:
        heappush(self._events, (time, next(self._order), event))

    def _ask(self, talk: Talk, trace: Trace) -> None:
        talk.say(trace.said)
        packed = pack_ids(talk.ids)
        digests, prompt = list(block_digests(packed)), len(talk.ids)
        there = [
            Candidate(
                each.id,
                self._index.cached_tokens(each.id, digests),
                self._index.coming_tokens(each.id, digests),
                each.unread,
                each.running,
            )
            for each in self._instances.values()
        ]
        chosen = self._instances[self._route(prompt, there)]
        left = prompt - next(each.cached for each in there if each.instance == chosen.id)
        self._index.expect(chosen.id, digests)
        self._best += self._known.find(packed)
        self._known.keep(packed)
        self._take(chosen, Asked(self._now, talk, trace, packed, max(0, left)))

    def _take(self, at: Simulated, asked: Asked) -> None:
        at.unread += asked.left
        at.running += 1
        at.served += 1
        at.queue.append(asked)
        if len(at.queue) == 1:
            self._read(at)

    def _read(self, at: Simulated) -> None:
        """The first in the queue; the prompts before it are known by now."""
        asked = at.queue[0]
        prompt, cached = len(asked.talk.ids), at.cache.find(asked.packed)
        self._prompt += prompt
        self._cached += cached
        self._at(self._now + (prompt - cached) / at.machine.prefill, lambda: self._answer(at))

    def _answer(self, at: Simulated) -> None:
        asked = at.queue.popleft()
        at.cache.keep(asked.packed)
        at.unread -= asked.left
        self._first_s.append(self._now - asked.at)
        before = len(asked.talk.ids)
        asked.talk.say(asked.trace.answer)
        step_s = at.machine.step_s + at.machine.row_s * at.running
        self._at(self._now + (len(asked.talk.ids) - before) * step_s, lambda: self._end(at, asked))
        self._tell(at)
        if at.queue:
            self._read(at)

    def _end(self, at: Simulated, asked: Asked) -> None:
        talk = asked.talk
        packed = pack_ids(talk.ids)
        at.cache.keep(packed)
        self._known.keep(packed)
        at.running -= 1
        self._tell(at)
        talk.turns -= 1
        if talk.turns:
            think_s = self._chance.expovariate(1 / asked.trace.think_s)
            self._at(self._now + think_s, lambda: self._ask(talk, asked.trace))

    def _tell(self, at: Simulated) -> None:
        """What is announced is known a moment later."""
        news = at.news()
        if news is not None:
            self._at(self._now + 0.1, lambda: self._index.hear(news))
