"""What the requests for one model have come to."""

from collections import Counter
from copy import deepcopy

from api.accounts.account import Account
from api.accounts.durations import Durations, add_to
from schemas.audit import Audit, Outcome


class Tally:
    """Sums since this API began; they only grow."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[Outcome, str]] = Counter()
        """By outcome and code."""
        self.duration = Durations()
        self.queue = Durations()
        self.first_token = Durations()
        self.inter_token = Durations()
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.migrations = 0

    def add(self, account: Account, audit: Audit) -> None:
        """One more request that has ended."""
        self.ended[audit.outcome, audit.code] += 1
        self.duration.add(audit.duration_s)
        self.prompt_tokens += audit.prompt_tokens
        self.cached_tokens += audit.cached_tokens
        self._add_progress(account, audit.completion_tokens)

    def with_open(self, accounts: list[tuple[Account, int]]) -> "Tally":
        """And with open requests, each with the tokens it has so far: a long answer is seen while it grows."""
        whole = deepcopy(self)
        for account, tokens in accounts:
            whole._add_progress(account, tokens)  # noqa: SLF001  # its own kind
        return whole

    def cancels(self) -> dict[str, int]:
        """Answers that nobody waited for to their end: the client left, somebody cancelled, time was up."""
        by = {"client": self.ended["client_left", ""], "order": 0, "deadline": 0}
        for (outcome, code), count in self.ended.items():
            if outcome == "cancelled":
                by["order"] += count
            elif code in ("deadline", "wait_deadline"):
                by["deadline"] += count
        return by

    def _add_progress(self, account: Account, tokens: int) -> None:
        if account.placed_at is not None:
            self.queue.add(account.queue_s)
        if account.first_token_s is not None:
            self.first_token.add(account.first_token_s)
        add_to(self.inter_token, account.pace)
        self.completion_tokens += tokens
        self.migrations += account.migrations
