"""Brings the files of models to its node, and serves them to the others."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from pathlib import Path

from actors.actor import Actor, forever, handles
from actors.downloader.damaged_folders import DamagedFolders
from actors.downloader.delivery import Delivery
from actors.downloader.peers.cluster_colleagues import ClusterColleagues
from actors.downloader.peers.piece_server import PieceServer
from actors.downloader.perseverance import Pace
from actors.downloader.record import DownloadRecord
from actors.downloader.sources.fetched_model import FetchedModel
from actors.downloader.sources.source import Progress, Unavailable, Unobtainable
from actors.downloader.sources.sources import Sources
from actors.downloader.supply import Supply
from actors.downloader.wanted import PULLED, Wanted, covers, wanted
from bus.bus import Bus
from bus.errors import BusAway
from schemas.commands import (
    Done,
    FilesCommand,
    FilesFound,
    FindFiles,
    FindNewest,
    Newest,
    PullModel,
    RemoveModel,
)
from schemas.ids import ModelId
from schemas.refused import Refused
from schemas.revision import marked, revision_of
from schemas.state import Download

NEWEST_S = 20.0
"""How long a place is asked what it holds: whoever pulls waits for it, and goes on without; seconds."""


class Downloader(Actor):
    """Fetches, checks and describes each model that has a shard on this node; one never waits for another."""

    messages = FilesCommand

    def __init__(
        self,
        bus: Bus,
        models_dir: Path,
        builtin: Mapping[str, Path],
        *,
        supply: Supply | None = None,
        pace: Pace | None = None,
    ) -> None:
        super().__init__(bus, inbox=bus.subjects.files(bus.node))
        self.pace = pace or Pace()
        self.deliveries: dict[ModelId, Delivery] = {}
        supply = supply or Supply()
        self._damaged = DamagedFolders()
        self._colleagues = ClusterColleagues(bus)
        self._shelf = supply.shelf(models_dir, self._colleagues)
        self._shelf.in_use = self._folders_in_use
        self._shelf.on_removing = self._forget
        self.sources = Sources(self._shelf, builtin, supply.hub, supply.buckets)
        self._server = PieceServer(self._shelf, supply.peer_host, supply.peer_port)
        self._server.on_damage = self._damaged.add
        self._pulls: dict[ModelId, Wanted] = {}
        self._pull_count = 0

    async def setup(self) -> None:
        """Pulls that an earlier life of this node was told of, and has not ended."""
        for download in self._downloads():
            if download.pulled and not download.is_over:
                self._pulls[download.model] = Wanted(download.source, frozenset({(PULLED, 0)}))

    async def teardown(self) -> None:
        self._server.close()
        await self._colleagues.close()

    @forever
    async def serve(self) -> None:
        await self._server.run()

    @forever
    async def follow(self) -> None:
        self.deliveries = {}
        async with asyncio.TaskGroup() as group, aclosing(self.bus.view.states()) as states:
            async for _ in states:
                await self._reconcile(group)

    @forever
    async def mend(self) -> None:
        """What another node was given and was not what it was: all of it is read, and what is damaged comes again."""
        while True:
            folder, verify = await self._damaged.next(), True
            while kept := {(each.source, each.layers) for each in self._downloads(folder) if each.is_over}:
                try:
                    for source, layers in kept:
                        await self.sources.named(source).fetch(Progress(), layers, verify=verify)
                    break
                except (Unavailable, Unobtainable, BusAway) as failure:
                    self.logger.warning("download.not_mended", folder=str(folder), reason=str(failure))
                    verify = False  # what is damaged was thrown away
                    await asyncio.sleep(self.pace.longest_wait_s)

    @forever
    async def answer_what_is_newest(self) -> None:
        async with self.bus.serving(self.bus.subjects.newest(self.bus.node), FindNewest, self._newest):
            await asyncio.Event().wait()

    async def _newest(self, question: FindNewest) -> Newest | Refused:
        """Beside the inbox, as it takes as long as a place outside, or a network disk, takes to answer."""
        source = question.source
        known = revision_of(source) or self._known_revision(source)
        try:
            async with asyncio.timeout(NEWEST_S):
                held = await self.sources.named(source).newest()
        except (Unavailable, Unobtainable) as failure:
            return Refused("unavailable", str(failure))
        except TimeoutError:
            return Refused("unavailable", f"the place of {source} has not answered within {NEWEST_S:g} s")
        return Newest(source=source if not known or held == known else marked(source, held))

    def _known_revision(self, source: str) -> str:
        """What the source held when it came here, or else to another node."""
        there = [each for each in self.bus.view.state.downloads.values() if each.source == source]
        there.sort(key=lambda each: each.node != self.bus.node)
        return next((each.revision for each in there if each.revision), "")

    @handles(FindFiles)
    async def find(self, question: FindFiles) -> FilesFound:
        model = self._fetched(question.source)
        holding = self._shelf.holding(model.folder.name) if model else None
        return FilesFound(
            urls=self._server.urls, token=self._server.token, manifest=holding and holding.manifest
        )

    @handles(PullModel)
    async def pull(self, order: PullModel) -> Done | Refused:
        needed = wanted(self.bus.view.state, self.bus.node).get(order.model)
        if needed is not None and needed.source != order.source:
            return Refused("conflict", f"this node serves {order.model} from {needed.source}")
        if self._fetched(order.source) is None and not revision_of(order.source):
            return Refused(
                "bad_request", f"{order.source} is not fetched: it is used where it is, or names no place"
            )
        self._pull_count += 1
        lives = frozenset({(PULLED, self._pull_count)})
        self._pulls[order.model] = Wanted(order.source, lives, verify=order.verify)
        delivery = self.deliveries.get(order.model)
        if delivery is not None and delivery.source == order.source and not delivery.is_over:
            delivery.serve_also(lives)
        record = DownloadRecord(self.bus, order.model, order.source, pulled=True)
        return Done(seq=await record.downloading())  # which `follow` hears

    @handles(RemoveModel)
    async def remove(self, order: RemoveModel) -> Done | Refused:
        model = self._fetched(order.source)
        if model is None:
            return Refused("bad_request", f"{order.source} is used in place; nothing of it is kept here")
        folder = model.folder
        if folder in self._folders(
            each.source for each in wanted(self.bus.view.state, self.bus.node).values()
        ):
            return Refused("conflict", f"{order.source} is in use on this node: unload {order.model} first")
        if not folder.is_dir() and not self._downloads(folder):
            return Refused("not_found", f"nothing of {order.source} is on this node")
        await self._end_pulls(folder)
        try:
            if not folder.is_dir():
                await self._forget(folder)
            elif not await self._shelf.remove(folder):
                return Refused(
                    "busy", f"somebody else has just begun to bring {order.source} here; try again"
                )
        except Unavailable as failure:
            return Refused("unavailable", str(failure))
        return Done(seq=self.bus.view.state.seq)

    async def _end_pulls(self, folder: Path) -> None:
        """What is on its way only because somebody asked for it by name is not wanted any more."""
        for model in self._drop_pulls(folder):
            if delivery := self.deliveries.pop(model, None):
                await delivery.stop(replaced=True)

    def _drop_pulls(self, folder: Path) -> list[ModelId]:
        """Whose files were asked for by name and are kept in `folder`."""
        dropped = [model for model, pulled in self._pulls.items() if folder in self._folders([pulled.source])]
        for model in dropped:
            del self._pulls[model]
        return dropped

    async def _forget(self, folder: Path) -> None:
        """Before the files in it go, so that nobody is told of files that are gone; who needs them by now waits."""
        self._drop_pulls(folder)
        downloads = self._downloads(folder)
        for download in downloads:
            delivery = self.deliveries.get(download.model)
            if delivery is not None and delivery.is_over:
                del self.deliveries[download.model]
        for download in downloads:
            await DownloadRecord(self.bus, download.model, download.source).removed()

    async def _reconcile(self, group: asyncio.TaskGroup) -> None:
        models = self._models()
        for model, delivery in list(self.deliveries.items()):
            if model not in models or models[model].source != delivery.source:
                self.deliveries.pop(model, None)
                await delivery.stop()
        for model in list(self._models()):
            want = self._models().get(model)  # a pull may have ended meanwhile
            if want is not None:
                await self._see_to(model, want, group)

    async def _see_to(self, model: ModelId, want: Wanted, group: asyncio.TaskGroup) -> None:
        delivery = self.deliveries.get(model)
        if delivery is None or (delivery.is_over and want.lives - delivery.lives):
            self._deliver(model, want, group)
        elif not covers(delivery.need, want.need) or not (delivery.is_over or delivery.need == want.need):
            await delivery.stop(replaced=True)
            self._deliver(model, want, group)
        elif want.lives - delivery.lives:
            delivery.serve_also(want.lives)

    def _models(self) -> dict[ModelId, Wanted]:
        """What the state asks for, and what was asked for by name."""
        needed = wanted(self.bus.view.state, self.bus.node)
        for model, pulled in self._pulls.items():
            there = needed.get(model)
            if there is None or there.source == pulled.source:
                lives = pulled.lives if there is None else pulled.lives | there.lives
                needed[model] = Wanted(pulled.source, lives, verify=pulled.verify)
        return needed

    def _deliver(self, model: ModelId, want: Wanted, group: asyncio.TaskGroup) -> None:
        delivery = Delivery(self.bus, self.sources, self.pace, model, want)
        self.deliveries[model] = delivery
        delivery.start(group)

    def _downloads(self, folder: Path | None = None) -> list[Download]:
        """What this node has told of its models; those that are kept in `folder`, if one is given."""
        mine = [each for each in self.bus.view.state.downloads.values() if each.node == self.bus.node]
        return [each for each in mine if folder is None or folder in self._folders([each.source])]

    def _folders_in_use(self) -> frozenset[Path]:
        """Of what is placed here, and of what is being fetched."""
        needed = {each.source for each in wanted(self.bus.view.state, self.bus.node).values()}
        coming = {each.source for each in self.deliveries.values() if not each.is_over}
        return self._folders(needed | coming)

    def _folders(self, sources: Iterable[str]) -> frozenset[Path]:
        """Where models from there are kept; those that are used in place are not."""
        models = (self._fetched(source) for source in sources)
        return frozenset(model.folder for model in models if model is not None)

    def _fetched(self, source: str) -> FetchedModel | None:
        """The model, if its source is one whose files are kept here."""
        try:
            model = self.sources.named(source)
        except Unobtainable:
            return None
        return model if isinstance(model, FetchedModel) else None
