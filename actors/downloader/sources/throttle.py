"""No more bytes a second than somebody has allowed."""

import asyncio


class Throttle:
    """Shared by all that fetches on a node; 0: as fast as it goes."""

    def __init__(self, bytes_s: float = 0) -> None:
        self._bytes_s = bytes_s
        self._free_at = 0.0

    async def pass_on(self, count: int) -> None:
        """Wait until so many bytes are within the limit."""
        if not self._bytes_s:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + count / self._bytes_s
        await asyncio.sleep(self._free_at - now)
