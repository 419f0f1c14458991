"""The cluster's state as this process knows it: the snapshot in the bucket, then the log."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
import structlog

from bus.bucket import Bucket, Entry
from bus.connection import Connection
from bus.errors import BusError
from bus.log import Log
from bus.streams import Streams
from bus.subjects import token, untoken
from schemas.state import TYPES, Change, State, apply, replace_entity
from schemas.unreadable import UNREADABLE

log = structlog.get_logger()

HEAD = "head"


def key_of(change: Change) -> str:
    """The key of an entity in `troupe_state`: `instance.3fa9`, `model.org=2Fname`."""
    return f"{change.kind}.{token(change.id)}"


class Head(msgspec.Struct, frozen=True):
    """How far the bucket reflects the log."""

    seq: int


class View:
    """Follows the cluster's state; readers never write it."""

    def __init__(self, connection: Connection, cluster: str, log: Log) -> None:
        self._bucket = Bucket(connection, Streams(cluster).state)
        self._log = log
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._heard = (0.0, 0.0)
        self.state = State()

    @property
    def bus_time(self) -> float:
        """What the bus's clock shows, or a little less: the time of the last event, and what has passed here since.

        Unix time in seconds; 0 when no event was followed yet.
        """
        stored, heard = self._heard
        return stored + time.monotonic() - heard if stored else 0.0

    async def start(self) -> None:
        """Know the present state, then keep up with it."""
        if self._task is None or self._task.done():
            self.state = await self._join()
            self._task = asyncio.create_task(self._follow(), name="view")
            self._task.add_done_callback(lambda _: self._become(self.state))  # whoever waits is to hear of it

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def states(self) -> AsyncGenerator[State]:
        """The state now and after each change; a slow reader misses states in between, never the last one.

        Raises `BusError` when the state is no longer followed.
        """
        seen: State | None = None
        while True:
            changed = self._changed
            if self.state is not seen:
                seen = self.state
                yield seen
            else:
                self._require_followed()
                await changed.wait()

    def _require_followed(self) -> None:
        if self._task is None or not self._task.done() or self._task.cancelled():
            return
        failure = self._task.exception()
        raise BusError(f"the state of the cluster is no longer followed: {failure}") from failure

    async def until(self, holds: Callable[[State], object], timeout_s: float | None = 10.0) -> State:
        """The first state for which `holds`; raises TimeoutError after `timeout_s` seconds, None: never."""
        async with asyncio.timeout(timeout_s), aclosing(self.states()) as states:
            async for state in states:
                if holds(state):
                    return state
        raise AssertionError("states never end")

    async def _follow(self) -> None:
        async with aclosing(self._log.follow(after=self.state.seq)) as events:
            async for recorded in events:
                self._heard = (recorded.time, time.monotonic())
                self._become(apply(self.state, recorded))

    def _become(self, state: State) -> None:
        self.state = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _join(self) -> State:
        """The bucket, and the log behind it up to now: the size of the state, never of the log."""
        state = restore(await self._bucket.entries())
        first, last = await self._log.bounds()  # afterwards: meanwhile both may have grown
        if state.seq > last:
            raise BusError(
                f"the state on the bus is of event {state.seq}, but its log ends at {last}: "
                "the log was deleted; delete the bucket of the state as well to begin afresh"
            )
        if first > state.seq + 1 and last:
            log.warning("log.trimmed", first=first, head=state.seq)
        async with aclosing(self._log.past(after=state.seq)) as events:
            async for recorded in events:
                state = apply(state, recorded)
        return state


def restore(entries: list[Entry]) -> State:
    """The state that a bucket holds; entities of kinds that this version does not know are left out.

    Where something cannot be read the state is of event 0: the whole log, which is the truth, comes upon it.
    """
    state, head, whole = State(), 0, True
    for entry in entries:
        if entry.value is None:
            continue
        try:
            if entry.key == HEAD:
                head = msgspec.json.decode(entry.value, type=Head).seq
            elif (change := _entity(entry.key, entry.value)) is not None:
                state = replace_entity(state, change)
        except UNREADABLE as unreadable:
            log.warning("state.unreadable", key=entry.key, reason=str(unreadable))
            whole = False
    return msgspec.structs.replace(state, seq=head if whole else 0)


def _entity(key: str, value: bytes) -> Change | None:
    kind, _, name = key.partition(".")
    for known, struct in TYPES.items():
        if known == kind:
            return Change(known, untoken(name), msgspec.json.decode(value, type=struct))
    return None
