"""Brings the files of models to its node."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

from actors.actor import Actor, forever
from actors.downloader.delivery import Delivery
from actors.downloader.perseverance import Pace
from actors.downloader.sources.hub import HubAccess
from actors.downloader.sources.shelf import Shelf
from actors.downloader.sources.sources import Sources
from actors.downloader.wanted import Wanted, wanted
from bus.bus import Bus
from schemas.ids import ModelId


class Downloader(Actor):
    """Fetches, checks and describes each model that has a shard on this node; one never waits for another."""

    def __init__(
        self,
        bus: Bus,
        models_dir: Path,
        builtin: Mapping[str, Path],
        *,
        hub: HubAccess | None = None,
        pace: Pace | None = None,
    ) -> None:
        super().__init__(bus)
        self.sources = Sources(Shelf(models_dir), builtin, hub)
        self.pace = pace or Pace()
        self.deliveries: dict[ModelId, Delivery] = {}

    @forever
    async def follow(self) -> None:
        self.deliveries = {}
        async with asyncio.TaskGroup() as group, aclosing(self.bus.view.states()) as states:
            async for state in states:
                await self._reconcile(wanted(state, self.bus.node), group)

    async def _reconcile(self, models: Mapping[ModelId, Wanted], group: asyncio.TaskGroup) -> None:
        for model, delivery in list(self.deliveries.items()):
            if model not in models or models[model].source != delivery.source:
                del self.deliveries[model]
                await delivery.stop()
        for model, want in models.items():
            delivery = self.deliveries.get(model)
            if delivery is None or (delivery.is_over and want.lives - delivery.lives):
                self._deliver(model, want, group)
            elif want.lives - delivery.lives:
                delivery.serve_also(want.lives)

    def _deliver(self, model: ModelId, want: Wanted, group: asyncio.TaskGroup) -> None:
        delivery = Delivery(self.bus, self.sources, self.pace, model, want)
        self.deliveries[model] = delivery
        delivery.start(group)
