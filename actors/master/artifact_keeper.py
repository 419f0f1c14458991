"""Tokenizers and templates on the bus that no model needs any more are deleted, and none that one needs."""

import time
from collections.abc import Callable, Iterator

import structlog

from actors.master.complaints import Complaints
from bus.bus import Bus
from bus.errors import BlobMissing
from schemas.state import State

log = structlog.get_logger()

UNNEEDED_S = 600.0
"""An artifact is stored before its card is told: one that nobody names is kept for so long; seconds."""


class ArtifactKeeper:
    """Of one leader: a new one begins to count anew."""

    def __init__(
        self, bus: Bus, after_s: float = UNNEEDED_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._after_s = after_s
        self._clock = clock
        self._unneeded = Complaints()

    async def tidy(self, require_valid: Callable[[], None]) -> None:
        """Delete what has been needed by nobody for long; `require_valid` raises when this one leads no more."""
        store = self._bus.artifacts
        idle, strays = await store.names() - frozenset(needed(self._bus.view.state)), await store.strays()
        over, _wait_s = self._unneeded.ripe(dict.fromkeys(idle | strays, self._after_s), self._clock())
        for name in sorted(over):
            require_valid()
            await (store.remove_stray(name) if name in strays else self._drop(name))

    async def _drop(self, name: str) -> None:
        """Who tells a card looks afterwards whether its artifact is there, and this one whether a card was told."""
        if name in needed(await self._present()):
            return
        try:
            data = await self._bus.artifacts.get(name)
        except BlobMissing:
            return
        await self._bus.artifacts.remove(name)
        if name in needed(await self._present()):
            await self._bus.artifacts.put(name, data)
        else:
            log.info("artifact.deleted", artifact=name, bytes=len(data))

    async def _present(self) -> State:
        """The state as of now, however far this process was behind."""
        _, last = await self._bus.log.bounds()
        return await self._bus.view.until(lambda state: state.seq >= last)


def needed(state: State) -> Iterator[str]:
    """Artifacts of models that are known, and of their older versions that are carried or whose files are kept somewhere."""
    specs = [model.spec for model in state.models.values()]
    specs += [one.spec for one in state.instances.values()]
    sources = {source for spec in specs for source in (spec.source, spec.draft)}
    sources |= {each.source for each in state.downloads.values()}
    for known in state.cards.values():
        yield known.card.artifact
        yield from (card.artifact for source, card in known.earlier.items() if source in sources)
