"""A process that fetches one model and says how far it is: `python -m tests.downloader.fetching URL SOURCE FOLDER`."""

import asyncio
import sys
from pathlib import Path

from actors.downloader.sources.hub import HubAccess
from actors.downloader.sources.shelf import Shelf
from actors.downloader.sources.source import Progress
from actors.downloader.sources.sources import Sources


class Spoken(Progress):
    """Says each number of bytes that is on the disk."""

    def add(self, count: int) -> None:
        super().add(count)
        print(self.bytes_done, flush=True)


if __name__ == "__main__":
    url, source, folder = sys.argv[1:]
    model = Sources(Shelf(Path(folder)), {}, HubAccess(url=url)).named(source)
    print(asyncio.run(model.fetch(Spoken())).folder)
