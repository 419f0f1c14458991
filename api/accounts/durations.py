"""How long something took, many times over: counts in buckets, exact in number and sum, cheap to add to."""

from bisect import bisect_left

_E12 = (1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2)
"""Steps of a decade that are a fifth apart, in round numbers: IEC 60063, as resistors have them."""
BOUNDS = (*(float(f"{step}e{decade}") for decade in range(-4, 3) for step in _E12), 1000.0)
"""Upper ends of the buckets; seconds."""
SHOWN = 4
"""Every fourth bound is shown to Prometheus: three a decade."""


class Durations:
    """Durations of one kind; the last bucket holds what is longer than every bound."""

    __slots__ = ("counts", "longest_s", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total_s = 0.0
        self.longest_s = 0.0

    def add(self, elapsed_s: float, times: int = 1) -> None:
        """`times` steps took `elapsed_s` seconds together."""
        self.counts[bisect_left(BOUNDS, elapsed_s / times)] += times
        self.total_s += elapsed_s
        if elapsed_s > self.longest_s:  # noqa: PLR1730  # `max` takes twice as long, and this is hot
            self.longest_s = elapsed_s

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean_s(self) -> float | None:
        count = self.count
        return self.total_s / count if count else None

    @property
    def median_s(self) -> float | None:
        """The upper end of the bucket that holds the median, but never more than the longest."""
        half, below = self.count / 2, 0
        if not half:
            return None
        for bound, count in zip(BOUNDS, self.counts, strict=False):
            below += count
            if below >= half:
                return min(bound, self.longest_s)
        return self.longest_s

    def buckets(self) -> list[tuple[str, int]]:
        """Prometheus' (`le`, count of all that is not longer) of the shown bounds, and `+Inf`."""
        shown: list[tuple[str, int]] = []
        below = 0
        for number, bound in enumerate(BOUNDS):
            below += self.counts[number]
            if number % SHOWN == 0:
                shown.append((f"{bound:g}", below))
        return [*shown, ("+Inf", below + self.counts[-1])]


def add_to(whole: Durations, part: Durations) -> None:
    """`part` becomes a part of `whole`, and stays as it is."""
    whole.counts = [one + other for one, other in zip(whole.counts, part.counts, strict=True)]
    whole.total_s += part.total_s
    whole.longest_s = max(whole.longest_s, part.longest_s)
