"""Models that come with the program: `builtin:guide`."""

from collections.abc import Mapping
from pathlib import Path

from actors.downloader.sources.source import Fetched, Need, Progress, Unobtainable
from schemas.nearest import nearest

PREFIX = "builtin:"


class BuiltinModel:
    """A folder of the installed package, used in place."""

    def __init__(self, name: str, folders: Mapping[str, Path]) -> None:
        self.name = name
        self.folders = folders

    async def newest(self) -> str:
        return ""

    async def fetch(self, progress: Progress, need: Need = None, **more: object) -> Fetched:  # noqa: ARG002 - there is nothing to fetch, nor to compare with
        folder = self.folders.get(self.name)
        if folder is None:
            close = nearest(self.name, self.folders)
            way_out = f"did you mean {PREFIX}{close}?" if close else f"there is {', '.join(self.folders)}"
            raise Unobtainable(f"no model named {self.name!r} comes with this program: {way_out}")
        if not folder.is_dir():
            raise Unobtainable(
                f"{PREFIX}{self.name} is missing from this installation: {folder} is no folder"
            )
        return Fetched(folder)
