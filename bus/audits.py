"""The way of audit records to the stream `troupe_audit`: never waited for, kept while the bus is away, bounded."""

import asyncio
from collections import deque

import msgspec
import structlog

from bus.append import append
from bus.connection import Connection
from bus.errors import BusAway, BusError
from bus.subjects import Subjects
from schemas.audit import Audit

log = structlog.get_logger()

KEPT = 10_000
"""Most records that wait for the bus: some ten megabytes; more are dropped."""
AT_ONCE = 64
"""Records whose acknowledgements are waited for together."""
RETRY_S = 1.0
_encode = msgspec.json.Encoder().encode


class Audits:
    """`put` returns at once; `run` stores what was put, in order of their end as far as one bus keeps it."""

    def __init__(self, connection: Connection, cluster: str, kept: int = KEPT) -> None:
        self._connection = connection
        self._subjects = Subjects(cluster)
        self._waiting: deque[Audit] = deque()
        self._kept = kept
        self._some = asyncio.Event()
        self.stored = 0
        self.dropped = 0

    def put(self, audit: Audit) -> None:
        """Have it stored some time soon, or dropped when too many wait already."""
        if len(self._waiting) >= self._kept:
            self._drop(audit)
            return
        self._waiting.append(audit)
        self._some.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def run(self) -> None:
        """Store until cancelled; what waits then is sent without waiting for an acknowledgement."""
        try:
            while True:
                await self._some.wait()
                await self._store()
        finally:
            await self._send_off()

    async def _store(self) -> None:
        """The oldest records; those whose storing failed go back to where they were, and are tried again."""
        batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
        try:
            failures = await asyncio.gather(*map(self._append, batch))
        except asyncio.CancelledError:
            self._waiting.extendleft(reversed(batch))
            raise
        self.stored += failures.count("")
        again = [audit for audit, failure in zip(batch, failures, strict=True) if failure]
        self._waiting.extendleft(reversed(again))
        if again:
            log.warning("audit.waits", waiting=len(self._waiting), reason=max(failures))
            await asyncio.sleep(RETRY_S)
            await self._connection.until_up()
        elif not self._waiting:
            self._some.clear()

    async def _append(self, audit: Audit) -> str:
        """Why it was not stored; the message's id makes a repetition harmless."""
        try:
            await append(self._connection, self._subject(audit), _encode(audit), _headers(audit), timeout_s=5)
        except BusError as failure:
            return str(failure)
        return ""

    async def _send_off(self) -> None:
        while self._waiting:
            audit = self._waiting.popleft()
            try:
                await self._connection.publish(self._subject(audit), _encode(audit), _headers(audit))
            except BusAway:
                self._drop(audit)
        self._some.clear()

    def _subject(self, audit: Audit) -> str:
        return self._subjects.audit(audit.model, audit.request)

    def _drop(self, audit: Audit) -> None:
        before, self.dropped = self.dropped, self.dropped + 1
        if before.bit_length() < self.dropped.bit_length():  # at 1, 2, 4, 8 ...: a flood is no flood of lines
            log.warning("audit.dropped", request=audit.request, count=self.dropped)


def _headers(audit: Audit) -> dict[str, str]:
    return {"Nats-Msg-Id": audit.request}
