"""Folders of models in which something is not what it was, until somebody sees to them."""

import asyncio
from pathlib import Path


class DamagedFolders:
    """Each once, however often it is told of."""

    def __init__(self) -> None:
        self._folders: set[Path] = set()
        self._told = asyncio.Event()

    def add(self, folder: Path) -> None:
        self._folders.add(folder)
        self._told.set()

    async def next(self) -> Path:
        """Wait for one, and take it."""
        while not self._folders:
            self._told.clear()
            await self._told.wait()
        return self._folders.pop()
