"""Secrets that the API actors of a cluster share: made once, by whoever asks first."""

from secrets import token_hex

import msgspec
from msgspec import Struct

from bus.bucket import Bucket
from bus.connection import Connection
from bus.errors import Fenced
from bus.streams import Streams

BYTES = 32


class Secret(Struct, frozen=True):
    """The value of one key."""

    hex: str


class SharedSecrets:
    """The bucket `troupe_secrets`. Raises `BusAway` while it cannot be reached."""

    def __init__(self, connection: Connection, cluster: str) -> None:
        self._bucket = Bucket(connection, Streams(cluster).secrets)

    async def get(self, name: str) -> bytes:
        """The cluster's secret of that name, 32 bytes; all who ask get the same."""
        while True:
            found = await self._bucket.get(name)
            if found.value is not None:
                return bytes.fromhex(msgspec.json.decode(found.value, type=Secret).hex)
            secret = Secret(token_hex(BYTES))
            try:
                await self._bucket.put(name, secret, found.revision)
            except Fenced:
                continue  # somebody else has made it meanwhile
            return bytes.fromhex(secret.hex)
