"""Which instance keeps the beginnings of which prompts: announced by runners, and expected of what was just sent."""

from collections.abc import Iterable, Sequence
from itertools import takewhile

from schemas.ids import InstanceId
from schemas.prefix import BLOCK, MOST_DIGESTS, Digest, Prefixes, split

EXPECTED = 4096
"""Digests of prompts on their way to an instance that are remembered until it announces them."""


class PrefixIndex:
    """Fed with `Prefixes`; a lost message makes an instance's entry unknown until its next whole one."""

    def __init__(self) -> None:
        self._kept: dict[InstanceId, Kept] = {}

    def hear(self, news: Prefixes) -> None:
        """Take up one message; ValueError when its digests are cut."""
        kept = self._kept.setdefault(news.instance, Kept())
        if news.whole:
            kept.begin(news)
        elif not kept.follow(news):
            del self._kept[news.instance]

    def expect(self, instance: InstanceId, prompt: Sequence[Digest]) -> None:
        """A prompt goes there now: its siblings of the same burst are to follow it."""
        self._kept.setdefault(instance, Kept()).expect(prompt)

    def cached_tokens(self, instance: InstanceId, prompt: Sequence[Digest]) -> int:
        """How many tokens of a prompt the instance need not read again."""
        kept = self._kept.get(instance)
        return 0 if kept is None else BLOCK * kept.depth(prompt)

    def forget_all_but(self, instances: Iterable[InstanceId]) -> None:
        """Let go of what was kept by instances that are gone."""
        there = set(instances)
        self._kept = {instance: kept for instance, kept in self._kept.items() if instance in there}


class Kept:
    """What one instance keeps, as of its last message, and what it will keep soon."""

    def __init__(self) -> None:
        self._attempt = 0
        self._number = 0
        self._digests: set[Digest] = set()
        self._expected: dict[Digest, None] = {}

    def begin(self, news: Prefixes) -> None:
        """All that is there; what was expected of an earlier life is lost with it."""
        if self._attempt not in (0, news.attempt):
            self._expected.clear()
        self._attempt, self._number = news.attempt, news.number
        self._digests = set(split(news.added)[:MOST_DIGESTS])

    def follow(self, news: Prefixes) -> bool:
        """Whether nothing is missing before the message; one that is repeated changes nothing."""
        if (news.attempt, news.number) <= (self._attempt, self._number):
            return True
        if (news.attempt, news.number) != (self._attempt, self._number + 1):
            return False
        self._number = news.number
        self._digests.update(split(news.added))
        self._digests.difference_update(split(news.removed))
        return len(self._digests) <= 2 * MOST_DIGESTS

    def expect(self, prompt: Sequence[Digest]) -> None:
        for digest in prompt:
            self._expected.pop(digest, None)
            self._expected[digest] = None
        while len(self._expected) > EXPECTED:
            del self._expected[next(iter(self._expected))]

    def depth(self, prompt: Sequence[Digest]) -> int:
        """How many blocks of the prompt are there, from its beginning on."""
        return sum(1 for _ in takewhile(lambda d: d in self._digests or d in self._expected, prompt))
