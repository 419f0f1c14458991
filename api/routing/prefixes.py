"""Which instance keeps the beginnings of which prompts: announced by runners, and expected of what was just sent."""

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from time import monotonic

from schemas.ids import InstanceId
from schemas.prefix import BLOCK, MOST_DIGESTS, Digest, Prefixes, split

EXPECTED = MOST_DIGESTS
"""Digests of prompts on their way to an instance that are remembered."""
EXPECT_S = 30.0
"""And for how long: by then they were read and announced, or their engine keeps none; seconds."""
UNKNOWN = -1


class PrefixIndex:
    """Fed with `Prefixes`; a lost message makes an instance's entry unknown until its next whole one."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._kept: dict[InstanceId, Kept] = {}

    def hear(self, news: Prefixes) -> None:
        """Take up one message; ValueError when its digests are cut."""
        added, removed = split(news.added), split(news.removed)
        kept = self._kept.setdefault(news.instance, Kept())
        if news.whole:
            kept.begin(news, added)
        else:
            kept.follow(news, added, removed)

    def expect(self, instance: InstanceId, prompt: Sequence[Digest]) -> list[Digest]:
        """A prompt goes there now: its siblings of the same burst are to follow it; returns what was not expected."""
        return self._kept.setdefault(instance, Kept()).expect(prompt, self._clock())

    def unexpect(self, instance: InstanceId, digests: Iterable[Digest]) -> None:
        """It does not go there."""
        if (kept := self._kept.get(instance)) is not None:
            kept.unexpect(digests)

    def cached_tokens(self, instance: InstanceId, prompt: Sequence[Digest]) -> int:
        """How many tokens of a prompt the instance need not read again."""
        kept = self._kept.get(instance)
        return 0 if kept is None else BLOCK * kept.depth(prompt, self._clock())

    def coming_tokens(self, instance: InstanceId, prompt: Sequence[Digest]) -> int:
        """How many of those it does not keep yet: they are read for another prompt, or wait for that."""
        kept = self._kept.get(instance)
        return 0 if kept is None else BLOCK * kept.coming(prompt, self._clock())

    def forget_all_but(self, instances: Iterable[InstanceId]) -> None:
        """Let go of what was kept by instances that are gone."""
        there = set(instances)
        self._kept = {instance: kept for instance, kept in self._kept.items() if instance in there}


class Kept:
    """What one instance keeps, as of its last message, and what it will keep soon."""

    def __init__(self) -> None:
        self._attempt = 0
        self._number = UNKNOWN
        self._digests: set[Digest] = set()
        self._expected: dict[Digest, float] = {}
        """Until when."""

    def begin(self, news: Prefixes, added: list[Digest]) -> None:
        """All that is there; what was expected of an earlier life is lost with it."""
        if news.attempt < self._attempt:
            return
        if self._attempt not in (0, news.attempt):
            self._expected.clear()
        self._attempt, self._number = news.attempt, news.number
        self._digests = set(added[:MOST_DIGESTS])

    def follow(self, news: Prefixes, added: list[Digest], removed: list[Digest]) -> None:
        """Unless it is repeated, or something is missing before it: then all is unknown."""
        if (news.attempt, news.number) <= (self._attempt, self._number):
            return
        self.unexpect(removed)
        if (news.attempt, news.number) != (self._attempt, self._number + 1) or self._number == UNKNOWN:
            self._lose()
            return
        self._number = news.number
        self._digests.update(added)
        self._digests.difference_update(removed)
        if len(self._digests) > MOST_DIGESTS:
            self._lose()

    def _lose(self) -> None:
        self._number = UNKNOWN
        self._digests.clear()

    def expect(self, prompt: Sequence[Digest], now: float) -> list[Digest]:
        new = [digest for digest in prompt if digest not in self._expected]
        for digest in prompt:
            self._expected.pop(digest, None)
            self._expected[digest] = now + EXPECT_S
        while len(self._expected) > EXPECTED:
            del self._expected[next(iter(self._expected))]
        return new

    def unexpect(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            self._expected.pop(digest, None)

    def depth(self, prompt: Sequence[Digest], now: float) -> int:
        """How many blocks of the prompt are there, from its beginning on."""
        there, expected = self._digests, self._expected
        return sum(1 for _ in takewhile(lambda d: d in there or expected.get(d, 0.0) > now, prompt))

    def coming(self, prompt: Sequence[Digest], now: float) -> int:
        """How many of these blocks are expected alone."""
        return sum(1 for digest in prompt[: self.depth(prompt, now)] if digest not in self._digests)
