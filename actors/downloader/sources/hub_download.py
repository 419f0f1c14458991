"""The files of a manifest that a folder lacks, several at once."""

import asyncio
import shutil
from collections.abc import Coroutine, Iterable
from pathlib import Path
from urllib.parse import quote

import httpx2

from actors.downloader.sources.hub_errors import does_not_fit
from actors.downloader.sources.hub_file import Transfer, fetch_file
from actors.downloader.sources.manifest import FOLDER, HubFile, Manifest
from actors.downloader.sources.partial import Partial
from actors.downloader.sources.source import Progress, Unavailable, Unobtainable

FILES_AT_ONCE = 4


async def download(
    client: httpx2.AsyncClient,
    manifest: Manifest,
    folder: Path,
    *,
    source: str,
    base: str,
    progress: Progress,
) -> None:
    """Bring every file of `manifest` from below the address `base`; the first failure ends it for all."""
    missing = manifest.missing(folder)
    partials = {file: folder / FOLDER / file.partial_name for file in missing}
    lacking = sum(file.size - _begun(file, path) for file, path in partials.items())
    progress.begin(manifest.size - lacking, manifest.size)
    if lacking > shutil.disk_usage(folder).free:
        raise Unobtainable(does_not_fit(source, folder, progress))
    few = asyncio.Semaphore(FILES_AT_ONCE)

    async def bring(file: HubFile, path: Path) -> None:
        async with few:
            transfer = Transfer(client, source, f"{base}/{quote(file.name)}", progress)
            await fetch_file(transfer, Partial(file, path), folder / file.name)

    await _all_or_none(bring(file, path) for file, path in partials.items())


async def _all_or_none(works: Iterable[Coroutine[None, None, None]]) -> None:
    """Let all run at once; the first that fails ends the others.

    No TaskGroup: before Python 3.13, one that fails leaves its task marked as cancelled for ever.
    """
    tasks = [asyncio.create_task(work) for work in works]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    failures = [
        failure for task in tasks if not task.cancelled() and (failure := task.exception()) is not None
    ]
    if failures:
        raise max(failures, key=_gravity)


def _begun(file: HubFile, partial: Path) -> int:
    """Bytes of `file` that are here already."""
    size = partial.stat().st_size if partial.exists() else 0
    return size if size <= file.size else 0


def _gravity(failure: BaseException) -> int:
    """What to tell of several failures: a mistake of ours above all, then what does not heal by itself."""
    return 0 if isinstance(failure, Unavailable) else 1 if isinstance(failure, Unobtainable) else 2
