"""A model whose files are fetched and kept: from a hub, a bucket, a website, and from the other nodes."""

import httpx2
import msgspec
from msgspec import Struct

from actors.downloader.sources.folder_lock import folder_lock
from actors.downloader.sources.gathering import Gathering
from actors.downloader.sources.holding import Holding
from actors.downloader.sources.hub_errors import disk_errors
from actors.downloader.sources.manifest import FOLDER
from actors.downloader.sources.outside import Outside
from actors.downloader.sources.parts import Parts
from actors.downloader.sources.pinned import Pinned
from actors.downloader.sources.shelf import Shelf
from actors.downloader.sources.source import Fetched, Need, OnReadable, Progress, Unobtainable, Vanished
from actors.downloader.sources.wanted_files import lacks
from actors.threads import in_thread
from schemas.manifest import Manifest


class _Wish(Struct, frozen=True):
    """What one call of `fetch` is to do."""

    progress: Progress
    need: Need
    verify: bool
    on_readable: OnReadable | None


class FetchedModel:
    """One model in one place outside, and what is here of it."""

    def __init__(self, shelf: Shelf, place: Outside, revision: str = "") -> None:
        """`revision`: what the place held at one time; empty: what it holds when it is first asked."""
        self.shelf = shelf
        self.place = place
        self.revision = revision
        outside = self.outside = Pinned(place, revision) if revision else place
        self.folder = shelf.models_dir / outside.folder_name

    async def newest(self) -> str:
        if self.shelf.offline:
            raise Unobtainable(f"`offline` forbids to ask for {self.place.source}")
        async with self.place.client() as client:
            return (await self._listed(client, self.place)).revision

    async def fetch(
        self,
        progress: Progress,
        need: Need = None,
        *,
        verify: bool = False,
        on_readable: OnReadable | None = None,
    ) -> Fetched:
        """Without a word to anybody when everything that is needed is here already."""
        wish = _Wish(progress, need, verify, on_readable)
        async with self.shelf.filling[self.folder]:
            with disk_errors(self.outside.source, self.folder):
                (self.folder / FOLDER).mkdir(parents=True, exist_ok=True)
            with folder_lock(self.folder / FOLDER / "lock"):
                async with self.outside.client() as client:
                    return await self._fetch(client, wish)

    async def _fetch(self, client: httpx2.AsyncClient, wish: _Wish) -> Fetched:
        known = await in_thread(self.shelf.reread, self.folder)
        holding = known or await self._begin(await self._agreed(client))
        try:
            return await self._fill(client, holding, wish)
        except Vanished:
            if known is None:
                raise
        # The commit that was begun is gone from its place: take what there is now.
        holding = await self._begin(await self._listed(client, self.outside))
        return await self._fill(client, holding, wish)

    async def _begin(self, manifest: Manifest) -> Holding:
        with disk_errors(self.outside.source, self.folder):
            return await in_thread(self.shelf.keep, self.folder, manifest)

    async def _fill(self, client: httpx2.AsyncClient, holding: Holding, wish: _Wish) -> Fetched:
        with disk_errors(self.outside.source, self.folder):
            await in_thread(self.shelf.note_used, self.folder)
            await in_thread(holding.check, everything=wish.verify or self.shelf.verify_always)
        gathering = Gathering(self.shelf, self.outside, client, holding, wish.progress)
        if not holding.is_whole:
            await self._bring(gathering, holding, wish)
        with disk_errors(self.outside.source, self.folder):
            return await in_thread(self._finished, holding, wish.need)

    async def _bring(self, gathering: Gathering, holding: Holding, wish: _Wish) -> None:
        """What the model is first, so that it can be placed as it should be, then its weights."""
        parts = Parts(holding, wish.need)
        if wish.need is None and wish.on_readable is None:  # nobody could make it less
            await gathering.make_room(holding.pieces())
        for stage in (parts.beginnings, parts.headers):
            await gathering.bring(await in_thread(stage))
        lacking = await in_thread(parts.lacking)
        if lacking and wish.on_readable is not None:
            with disk_errors(self.outside.source, self.folder):
                view = await in_thread(holding.view, "headers")
            await wish.on_readable(view)
        await gathering.bring(await in_thread(parts.tensors))

    def _finished(self, holding: Holding, need: Need) -> Fetched:
        revision = holding.manifest.revision
        if need is None or holding.is_whole:
            holding.note_checked()
            return Fetched(self.folder, revision=revision)
        view = holding.view("layers-" + "_".join(f"{first}-{end}" for first, end in need))
        holding.note_checked()
        return Fetched(view, need, revision)

    async def _agreed(self, client: httpx2.AsyncClient) -> Manifest:
        """What is here already, what the others go by, or what the place says if nobody has it yet."""
        colleagues, source = self.shelf.colleagues, self.outside.source
        here = await in_thread(self.shelf.manifest_of, self.folder, self.revision)
        known = here or await colleagues.manifest(source)
        return known or await colleagues.agree(source, await self._listed(client, self.outside))

    async def _listed(self, client: httpx2.AsyncClient, place: Outside) -> Manifest:
        if self.shelf.offline:
            raise Unobtainable(
                f"{place.source} is not on this node, nor on another that is there, and `offline` forbids to fetch it"
            )
        manifest = await place.listing(client)
        if missing := lacks(manifest):
            raise Unobtainable(f"{place.source} cannot be served: it has no {missing}")
        try:
            return msgspec.convert(msgspec.to_builtins(manifest), Manifest)
        except msgspec.ValidationError as error:
            raise Unobtainable(f"{place.source} lists what cannot be: {error}") from error
