"""One model's way to this node: fetched, checked, described and told to the cluster."""

import asyncio
from pathlib import Path

import structlog

from actors.downloader.artifact import Artifact
from actors.downloader.damaged_model import DamagedModel
from actors.downloader.model_files import Described, describe
from actors.downloader.perseverance import Pace, Perseverance
from actors.downloader.record import DownloadRecord
from actors.downloader.sources.source import Fetched, Unavailable, Unobtainable
from actors.downloader.sources.sources import Sources
from actors.downloader.wanted import Life, Wanted, is_pulled
from actors.threads import in_thread
from bus.bus import Bus
from bus.errors import BusAway
from schemas.events import ModelDescribed
from schemas.ids import ModelId
from schemas.revision import marked

log = structlog.get_logger()


class Delivery:
    """Runs until the model is here, or cannot be had; what may heal by itself is tried for ever."""

    def __init__(self, bus: Bus, sources: Sources, pace: Pace, model: ModelId, wanted: Wanted) -> None:
        self.bus = bus
        self.sources = sources
        self.pace = pace
        self.model = model
        self.source = wanted.source
        self.need = wanted.need
        self.lives = wanted.lives
        self._verify = wanted.verify
        self._earlier = wanted.earlier
        self._task: asyncio.Task[None] | None = None
        self._record = DownloadRecord(bus, model, wanted.source, wanted.need, pulled=is_pulled(wanted.lives))
        self._perseverance = Perseverance(pace, self._record.progress, self._explain)

    def start(self, group: asyncio.TaskGroup) -> None:
        self._task = group.create_task(self._run(), name=f"delivery of {self.model}")

    @property
    def is_over(self) -> bool:
        return self._task is not None and self._task.done()

    def serve_also(self, lives: frozenset[Life]) -> None:
        """Somebody else needs the model as well: do not wait any longer before the next try."""
        self.lives |= lives
        self._record.pulled |= is_pulled(lives)
        self._perseverance.hurry()

    async def stop(self, *, replaced: bool = False) -> None:
        """Nobody needs the model any more, or not so; what has come so far stays on the disk."""
        if self._task is None or self.is_over:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._record.told == "downloading" and not replaced:
            await self._record.failed("stopped: the model is not wanted here any more", retryable=True)

    async def _run(self) -> None:
        await self._record.begin()
        try:
            fetched = await self._perseverance.until_done(self._bring)
        except (Unobtainable, DamagedModel) as failure:
            await self._record.failed(str(failure), retryable=False)
        else:
            await self._record.complete(fetched)

    async def _bring(self) -> Fetched:
        source = self.sources.named(self.source)
        async with self._record.telling_progress(self.pace.report_s):
            fetched = await source.fetch(
                self._record.progress, self.need, verify=self._verify, on_readable=self._read
            )
        self._require_older(fetched)
        await self._publish(await in_thread(describe, self.model, fetched.folder))
        return fetched

    def _require_older(self, fetched: Fetched) -> None:
        """A folder is used where it is: what it holds by now may be the version that takes the place of this one."""
        wished = {model.spec.source for model in self.bus.view.state.models.values()}
        if self._earlier and self.source.startswith("/") and marked(self.source, fetched.revision) in wished:
            raise Unobtainable(f"{self.source} holds the files of a newer version by now")

    async def _read(self, folder: Path) -> None:
        """Tell what the model is before its weights come: it may be too large for this node, or be split."""
        if not self._earlier and self.bus.view.state.card(self.model, self.source) is None:
            await self._publish(await in_thread(describe, self.model, folder))
            await asyncio.sleep(self.pace.reconsider_s)  # cut short when something else is wanted here now

    async def _publish(self, described: Described) -> None:
        """The artifact first, so that whoever reads the card finds what it names; and afterwards, as the leader may just
        have deleted what nobody named."""
        if self._earlier:
            return
        await self._store(described.artifact)
        card = described.card
        if self.bus.view.state.card(self.model, self.source) != card:
            await self.bus.log.record(ModelDescribed(model=self.model, source=self.source, card=card))
            await self._store(described.artifact)

    async def _store(self, artifact: Artifact) -> None:
        if not await self.bus.artifacts.has(artifact.name):
            await self.bus.artifacts.put(artifact.name, artifact.data)

    async def _explain(self, failure: Unavailable | BusAway, wait_s: float) -> None:
        log.warning("download.interrupted", model=self.model, reason=str(failure), wait_s=round(wait_s, 1))
        if isinstance(failure, Unavailable):
            await self._record.downloading(f"{failure}; next try in {wait_s:.0f} s")
