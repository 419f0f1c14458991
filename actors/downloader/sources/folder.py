"""Models that lie in a folder of the node: `/models/llama`, `~/models/llama`."""

from pathlib import Path

from actors.downloader.sources.source import Fetched, Need, Progress, Unobtainable
from actors.downloader.sources.wanted_files import WANTED
from actors.threads import in_thread
from schemas.revision import revision_name, revision_of, unmarked


class LocalFolder:
    """A folder that somebody else fills; it is used in place, never copied, never written to."""

    def __init__(self, source: str) -> None:
        self.path = Path(unmarked(source)).expanduser()
        self.revision = revision_of(source)

    async def newest(self) -> str:
        """By names, sizes and times of change: reading all of it would take minutes."""
        try:
            return await in_thread(_revision, self.path)
        except OSError as error:
            raise Unobtainable(f"{error.filename or self.path} cannot be read: {error.strerror}") from error

    async def fetch(self, progress: Progress, need: Need = None, **more: object) -> Fetched:  # noqa: ARG002 - there is nothing to fetch, nor to compare with
        now = await self.newest()
        if self.revision not in ("", now):
            raise Unobtainable(
                f"the folder {self.path} holds #{now} on this node, and not #{self.revision}: pull the model, then load it "
                "(nodes that share it out need the same files, with the same times of change)"
            )
        return Fetched(self.path, revision=now)


def _revision(folder: Path) -> str:
    if folder.is_file():
        raise Unobtainable(f"{folder} is a file: name the folder that holds config.json and the weights")
    if not folder.is_dir():
        raise Unobtainable(f"the folder {folder} is not on this node")
    there = [path for path in folder.iterdir() if WANTED.fullmatch(path.name) and path.exists()]
    stats = [(path.name, path.stat()) for path in there]
    return revision_name(
        "\n".join(sorted(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats))
    )
