"""Whether to speculate pays, by the clock, and with how many tokens at once."""

TRIAL = 4
"""Rounds before it is judged."""
FIRST_PAUSE, LONGEST_PAUSE = 16, 256
"""Tokens that are made without a draft after it did not pay: twice as many each time."""
RECHECK, SAMPLE = 256, 4
"""At first, and after so many rounds, so many tokens are made without: what they cost changes as answers grow."""
NEWEST, OUTLIER = 0.2, 3.0
"""Share of the latest measurement in a mean, and how many times the mean it counts for at most."""


class Worth:
    """Told what each step cost, it says what the next one should be. `most`: tokens that are proposed at once."""

    def __init__(self, most: int, resting: int = SAMPLE) -> None:
        self.count = self._most = most
        """Tokens to propose: half as many after a round with few right ones, twice as many when all were right."""
        self._plain_s = 0.0
        self._pause = FIRST_PAUSE
        self._resting = resting
        self._begin()

    def _begin(self) -> None:
        self._rounds = 0
        self._round_s = self._round_tokens = 0.0

    @property
    def resting(self) -> bool:
        """Tokens are to be made without a draft for now."""
        return self._resting > 0

    def note_plain(self, seconds: float) -> None:
        """A step without a draft, which makes one token."""
        self._plain_s = _mean(self._plain_s, seconds)
        self._resting = max(0, self._resting - 1)

    def note_round(self, seconds: float, taken: int) -> None:
        """A step in which `count` tokens were proposed, and `taken` made."""
        self._adapt(taken)
        self._rounds += 1
        self._round_s = _mean(self._round_s, seconds)
        self._round_tokens = _mean(self._round_tokens, taken)
        if self._rounds >= TRIAL and self._loses:
            self._resting = self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self.count = max(1, self._most // 2)
            self._begin()
        elif self._rounds >= RECHECK:
            self._resting, self._pause = SAMPLE, FIRST_PAUSE
            self._begin()

    @property
    def _loses(self) -> bool:
        return 0 < self._plain_s * self._round_tokens <= self._round_s

    def _adapt(self, taken: int) -> None:
        if taken > self.count:
            self.count = min(2 * self.count, self._most)
        elif 2 * (taken - 1) < self.count:
            self.count = max(1, self.count // 2)


def _mean(mean: float, latest: float) -> float:
    return latest if not mean else (1 - NEWEST) * mean + NEWEST * min(latest, OUTLIER * mean)
