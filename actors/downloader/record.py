"""What the log is told of one model's way to one node."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from actors.downloader.sources.source import Fetched, Need, Progress
from bus.bus import Bus
from schemas.events import DownloadReported, DownloadStatus
from schemas.ids import ModelId

log = structlog.get_logger()


class DownloadRecord:
    """Puts facts about a download into the log, with the bytes that are here at that moment."""

    def __init__(
        self, bus: Bus, model: ModelId, source: str, need: Need = None, *, pulled: bool = False
    ) -> None:
        self.pulled = pulled
        """Somebody has asked for the files by name: a node that is started again goes on."""
        self.progress = Progress()
        self.told: DownloadStatus | None = None
        """What this one has told last."""
        self._bus = bus
        self._model = model
        self._source = source
        self._need = need
        self._log = log.bind(node=bus.node, model=model, source=source)

    async def begin(self) -> None:
        """Take back what an earlier try has told: this one may succeed."""
        known = self._bus.view.state.download(self._bus.node, self._model)
        if known is not None and known.status == "failed":
            await self.downloading()

    @asynccontextmanager
    async def telling_progress(self, every_s: float) -> AsyncGenerator[None]:
        """Meanwhile tell how many bytes are here, when that has changed; first as soon as their number is known."""
        telling = asyncio.create_task(self._tell_progress(every_s), name=f"progress of {self._model}")
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait([telling])

    async def _tell_progress(self, every_s: float) -> None:
        told = (0, 0)
        while True:
            await self.progress.known.wait()
            now = (self.progress.bytes_done, self.progress.bytes_total)
            if now != told:
                await self.downloading()
            told = now
            await asyncio.sleep(every_s)

    async def downloading(self, reason: str = "") -> int:
        """The sequence of the fact."""
        return await self._record("downloading", reason=reason)

    async def failed(self, reason: str, *, retryable: bool) -> None:
        await self._record("failed", reason=reason, retryable=retryable)

    async def complete(self, fetched: Fetched) -> None:
        """Once: a node that starts again with everything in place has nothing to tell."""
        known = self._bus.view.state.download(self._bus.node, self._model)
        self._need = fetched.layers
        now = ("complete", self._source, str(fetched.folder), fetched.layers, fetched.revision)
        if known is None or (known.status, known.source, known.path, known.layers, known.revision) != now:
            await self._record("complete", path=str(fetched.folder), revision=fetched.revision)

    async def removed(self) -> None:
        """The files are gone from this node."""
        await self._record("removed")

    async def _record(
        self,
        status: DownloadStatus,
        *,
        path: str = "",
        reason: str = "",
        retryable: bool = True,
        revision: str = "",
    ) -> int:
        if status != self.told:
            self._log.info(f"download.{status}", path=path, reason=reason)
        self.told = status
        return await self._bus.log.record(
            DownloadReported(
                node=self._bus.node,
                model=self._model,
                source=self._source,
                status=status,
                bytes_done=self.progress.bytes_done,
                bytes_total=self.progress.bytes_total,
                path=path,
                reason=reason,
                retryable=retryable,
                layers=self._need,
                bytes_outside=self.progress.bytes_outside,
                bytes_peers=self.progress.bytes_peers,
                pulled=self.pulled,
                revision=revision,
            )
        )
