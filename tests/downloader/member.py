"""A node's downloader on a real bus, beside those of other nodes."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from actors.downloader.downloader import Downloader
from actors.downloader.perseverance import Pace
from actors.downloader.sources.hub import HubAccess
from actors.downloader.supply import Supply
from bus.bus import Bus
from bus.errors import NobodyThere
from schemas.commands import Done, FilesAnswer, FilesCommand, FilesFound, PullModel
from schemas.ids import ModelId
from schemas.refused import Refused
from schemas.state import Download
from tests.hub import Hub

ME, SOURCE = ModelId("me"), "hf:org/llama"
WEIGHTS = "model.safetensors"
PACE = Pace(report_s=0.02, first_wait_s=0.02, longest_wait_s=0.1, reconsider_s=0.02)


class Member:
    """A node's downloader, without the rest of the node."""

    def __init__(self, bus: Bus, folder: Path, hub: Hub, **more: Any) -> None:
        self.bus = bus
        self.folder = folder
        supply = Supply(hub=HubAccess(url=hub.url), **more)
        self.actor = Downloader(bus, folder, {}, supply=supply, pace=PACE)
        self._task = asyncio.create_task(self.actor.run())

    @property
    def model(self) -> Path:
        return self.folder / "org--llama@main"

    async def ask(self, order: FilesCommand) -> Done | FilesFound | Refused:
        while True:
            with suppress(NobodyThere):  # it has only just begun
                subject = self.bus.subjects.files(self.bus.node)
                return await self.bus.ask(subject, order, FilesAnswer, timeout_s=60)
            if self._task.done():
                self._task.result()  # what ended it
            await asyncio.sleep(0)

    async def pull(self, *, verify: bool = False) -> int:
        answer = await self.ask(PullModel(model=ME, source=SOURCE, verify=verify))
        assert isinstance(answer, Done), answer
        return answer.seq

    async def pulled(self, after: int = 0, status: str = "complete") -> Download:
        def known() -> Download | None:
            found = self.bus.view.state.download(self.bus.node, ME)
            return found if found is not None and found.status == status and found.seq > after else None

        await self.bus.view.until(lambda _: known(), timeout_s=60)
        found = known()
        assert found is not None
        return found

    async def stop(self) -> None:
        """As if it was cut off: nobody is told."""
        self._task.cancel()
        await asyncio.wait([self._task])
        assert self._task.cancelled()


Join = Callable[..., Awaitable[Member]]
