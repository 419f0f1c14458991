"""Several works at once, of which all have to succeed."""

import asyncio
from collections.abc import Coroutine, Iterable

from actors.downloader.sources.source import Unavailable, Unobtainable


async def all_or_none(works: Iterable[Coroutine[None, None, None]]) -> None:
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


def _gravity(failure: BaseException) -> int:
    """What to tell of several failures: a mistake of ours above all, then what does not heal by itself."""
    return 0 if isinstance(failure, Unavailable) else 1 if isinstance(failure, Unobtainable) else 2
