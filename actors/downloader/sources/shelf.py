"""The folder in which a node keeps the models that it fetches: how much there is, and what may go."""

import asyncio
import re
import shutil
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import structlog

from actors.downloader.sources.borrowing import borrow
from actors.downloader.sources.colleagues import Colleagues, Nobody
from actors.downloader.sources.folder_lock import folder_lock
from actors.downloader.sources.holding import Holding
from actors.downloader.sources.manifest import FOLDER, read_manifest, write_manifest
from actors.downloader.sources.room import allocated, given_back, leaving
from actors.downloader.sources.source import Unavailable, Unobtainable
from actors.downloader.sources.spare import lacks_room, room
from actors.downloader.sources.throttle import Throttle
from actors.threads import in_thread
from schemas.manifest import Manifest

log = structlog.get_logger()

USED = "used"
InUse = Callable[[], frozenset[Path]]
OnRemoving = Callable[[Path], Awaitable[None]]


async def _tell_nobody(_: Path) -> None:
    """A shelf without a downloader."""


class Shelf:
    """One for a node: two models from the same place are not fetched twice."""

    def __init__(
        self,
        models_dir: Path,
        *,
        colleagues: Colleagues | None = None,
        bytes_s: float = 0,
        max_bytes: int = 0,
        offline: bool = False,
        verify_always: bool = False,
    ) -> None:
        self.models_dir = models_dir
        self.colleagues = colleagues or Nobody()
        self.throttle = Throttle(bytes_s)
        self.max_bytes = max_bytes
        """Most bytes of models on this disk; 0: what it holds."""
        self.offline = offline
        self.verify_always = verify_always
        self.filling: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.in_use: InUse = frozenset
        """Folders that nobody may remove now."""
        self.on_removing: OnRemoving = _tell_nobody
        """Is awaited before the files of a model go."""
        self._holdings: dict[str, Holding] = {}

    def holding(self, folder_name: str) -> Holding | None:
        """What is here of the model in that folder."""
        known = self._holdings.get(folder_name)
        if known is None and folder_name in self._names():
            manifest = read_manifest(self.models_dir / folder_name)
            known = None if manifest is None else self._hold(self.models_dir / folder_name, manifest)
        return known

    def keep(self, folder: Path, manifest: Manifest) -> Holding:
        """Make `manifest` what the folder is to hold."""
        write_manifest(folder, manifest)
        holding = self._hold(folder, manifest)
        borrow(holding, self._revisions(folder))
        return holding

    def manifest_of(self, folder: Path, revision: str) -> Manifest | None:
        """What `revision` consists of, if it is here in another folder than the one that has its name: the first one has none."""
        others = (read_manifest(each) for each in self._revisions(folder))
        return next((each for each in others if each is not None and each.revision == revision), None)

    def reread(self, folder: Path) -> Holding | None:
        """What is here by the disk, whatever was known of it."""
        self._holdings.pop(folder.name, None)
        return self.holding(folder.name)

    def note_used(self, folder: Path) -> None:
        """Now is when the model in `folder` was last needed."""
        (folder / FOLDER / USED).touch()

    async def remove(self, folder: Path) -> bool:
        """Unless somebody needs or fills it by now; who comes meanwhile waits for it, and begins with nothing.

        Raises Unavailable where the disk does not let it go.
        """
        if self.filling[folder].locked():
            return False
        async with self.filling[folder]:
            if folder in self.in_use():
                return False
            try:
                (folder / FOLDER).mkdir(exist_ok=True)
                with folder_lock(folder / FOLDER / "lock"):
                    await self.on_removing(folder)
                    self._holdings.pop(folder.name, None)
                    await in_thread(shutil.rmtree, folder)
            except Unavailable:  # another process fills it
                return False
            except OSError as error:
                raise Unavailable(f"{folder} cannot be removed: {error.strerror or error}") from error
        log.info("model.removed", folder=str(folder))
        return True

    async def make_room(self, source: str, folder: Path, missing: int) -> None:
        """Remove what was not used for longest until `missing` more bytes are within the bound; raises Unobtainable, and
        Unavailable."""
        staying = frozenset({folder})
        while missing and (
            going := await in_thread(self._leaving, source, folder, missing, staying | self.in_use())
        ):
            if not await self.remove(going[0]):
                staying |= {going[0]}

    def _leaving(self, source: str, folder: Path, missing: int, staying: frozenset[Path]) -> list[Path]:
        """What is to go; raises Unobtainable where that would be in vain."""
        excess = allocated(self.models_dir) + missing - self.max_bytes if self.max_bytes else 0
        idle = sorted((path for path in self._folders() if path not in staying), key=_used_at)
        kept = list(given_back(idle, self.models_dir))
        if (lacking := excess - sum(each.bytes for each in kept)) > 0:
            raise Unobtainable(
                f"{source} does not fit: it needs {missing:,} more bytes, and models_max_bytes allows "
                f"{self.max_bytes:,} on this node, {lacking:,} too few beside what is in use"
            )
        going = leaving(excess, kept)
        free = room(folder, sum(each.bytes for each in going))
        if missing > free:
            raise Unobtainable(lacks_room(source, folder, missing, free))
        return [each.folder for each in going]

    def _hold(self, folder: Path, manifest: Manifest) -> Holding:
        holding = self._holdings[folder.name] = Holding(folder, manifest)
        return holding

    def _revisions(self, folder: Path) -> list[Path]:
        """What else is here of the same model."""
        model = _model(folder)
        return [each for each in self._folders() if _model(each) == model and each != folder]

    def _names(self) -> set[str]:
        return {path.name for path in self._folders()}

    def _folders(self) -> Iterator[Path]:
        if self.models_dir.is_dir():
            yield from (path for path in self.models_dir.iterdir() if (path / FOLDER).is_dir())


def _model(folder: Path) -> str:
    """Of folders that `sources/pinned.py` names, the part that all revisions have; others have no such end."""
    return re.sub(r"\+[0-9a-f]{12}$", "", folder.name)


def _used_at(folder: Path) -> float:
    try:
        return (folder / FOLDER / USED).stat().st_mtime
    except OSError:
        return 0.0
