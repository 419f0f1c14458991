"""What the closed requests for one model have come to."""

from collections import Counter

from api.account import Account
from api.durations import Durations, add_to
from schemas.audit import Audit, Outcome


class Tally:
    """Sums since this API began; they only grow."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[Outcome, str]] = Counter()
        """By outcome and code."""
        self.durations = Durations()
        self.queue = Durations()
        self.first_tokens = Durations()
        self.pace = Durations()
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.migrations = 0

    def add(self, account: Account, audit: Audit) -> None:
        """One more."""
        self.ended[audit.outcome, audit.code] += 1
        self.durations.add(audit.duration_s)
        if account.placed_at is not None:
            self.queue.add(audit.queue_s)
        if audit.first_token_s is not None:
            self.first_tokens.add(audit.first_token_s)
        add_to(self.pace, account.pace)
        self.prompt_tokens += audit.prompt_tokens
        self.cached_tokens += audit.cached_tokens
        self.completion_tokens += audit.completion_tokens
        self.migrations += account.migrations
