"""The leader's copy of the state into the bucket `troupe_state`, one key for each entity."""

from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import NamedTuple

from bus.bucket import Bucket
from bus.connection import Connection
from bus.streams import Streams
from bus.view import HEAD, Head, key_of, restore
from schemas.state import TABLES, TYPES, Change, Model, State

MARKER_S = 60.0
"""Who began to read the bucket before something was deleted has read it all by then, the marker of that too; seconds."""


class _Marker(NamedTuple):
    since: float
    key: str
    revision: int


class Snapshots:
    """Writes what has changed since the last write; `head` last, so that readers are never ahead of it.

    Every write is a compare-and-set on the key's revision, and nothing newer is ever overwritten: a leader that
    was paused and comes back cannot turn the bucket back.
    """

    def __init__(self, connection: Connection, cluster: str) -> None:
        self._state = Bucket(connection, Streams(cluster).state)
        self._models = Bucket(connection, Streams(cluster).models)
        self._written: State | None = None
        self._revisions: dict[str, int] = {}
        self._markers: deque[_Marker] = deque()
        """The oldest first; there will be other instances, and markers of each of them would be read by all who join."""

    def forget(self) -> None:
        """A new reign begins: others may have written since the last one."""
        self._written = None

    async def write(self, state: State) -> None:
        """Bring the bucket to `state`.

        Raises `BusAway`, after which the next call makes up for it, and `Fenced` when another leader writes too.
        """
        before = await self._read(_is_mixed(state)) if self._written is None else self._written
        if before.seq >= state.seq:
            return
        self._written = None
        for change in changes_between(before, state):
            await self._put(change)
        self._revisions[HEAD] = await self._state.put(HEAD, Head(state.seq), self._revisions.get(HEAD, 0))
        self._written = state
        await self._drop_markers()

    async def _read(self, mixed: bool) -> State:
        """What the bucket holds, without what nobody can read: where all nodes are of one version, that is garbage."""
        entries = await self._state.entries()
        self._revisions = {entry.key: entry.revision for entry in entries}
        self._markers.clear()
        state = restore(entries)
        known = {HEAD, *(key_of(change) for change in state.entities())}
        for entry in entries:
            if entry.value is None:
                self._markers.append(_Marker(monotonic(), entry.key, entry.revision))
            elif not mixed and entry.key not in known and entry.key.partition(".")[0] in TYPES:
                await self._delete(entry.key, entry.revision)
        return state

    async def _delete(self, key: str, revision: int) -> None:
        self._revisions[key] = marker = await self._state.delete(key, revision)
        self._markers.append(_Marker(monotonic(), key, marker))

    async def _drop_markers(self) -> None:
        """Of those that all have seen who are to see them: without its marker what is gone would stay with them."""
        while self._markers and monotonic() - self._markers[0].since >= MARKER_S:
            _, key, revision = self._markers.popleft()
            if self._revisions.get(key) == revision and await self._state.drop_marker(key, revision):
                del self._revisions[key]

    async def _put(self, change: Change) -> None:
        key = key_of(change)
        revision = self._revisions.get(key, 0)
        if (
            change.kind == "model"
        ):  # first: who fails in between finds the state's key as it was, and does both again
            await self._catalogue(key.removeprefix("model."), change)
        if change.value is None:
            await self._delete(key, revision)
        else:
            self._revisions[key] = await self._state.put(key, change.value, revision)

    async def _catalogue(self, key: str, change: Change) -> None:
        if isinstance(change.value, Model):
            await self._models.put(key, change.value.spec)
        else:
            await self._models.delete(key)


def _is_mixed(state: State) -> bool:
    """Whether some node may read what another one cannot, if not now."""
    return len({node.version for node in state.nodes.values()}) > 1


def changes_between(before: State, after: State) -> Iterator[Change]:
    """What makes `after` out of `before`; a table that is the same was not touched, nor was an entity."""
    for kind in TABLES:
        old, new = before.table(kind), after.table(kind)
        if old is new:
            continue
        for name, value in new.items():
            known = old.get(name)
            if known is not value and known != value:
                yield Change(kind, name, value)
        for name in old.keys() - new.keys():
            yield Change(kind, name, None)
