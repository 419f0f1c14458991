"""Models that lie in a folder of the node: `/models/llama`, `~/models/llama`."""

from pathlib import Path

from actors.downloader.sources.source import Fetched, Need, Progress, Unobtainable


class LocalFolder:
    """A folder that somebody else fills; it is used in place, never copied, never written to."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    async def fetch(self, progress: Progress, need: Need = None, **more: object) -> Fetched:  # noqa: ARG002 - there is nothing to fetch, nor to compare with
        folder = self.path.expanduser()
        if folder.is_file():
            raise Unobtainable(f"{folder} is a file: name the folder that holds config.json and the weights")
        if not folder.is_dir():
            raise Unobtainable(f"the folder {folder} is not on this node")
        return Fetched(folder)
