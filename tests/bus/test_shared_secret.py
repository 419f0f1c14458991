"""A secret is made once, and is the same for all who ask."""

import asyncio

from tests.conftest import ConnectBus


async def test_all_who_ask_get_the_same(connect_bus: ConnectBus) -> None:
    first, second = await connect_bus("n1"), await connect_bus("n2")
    secrets = await asyncio.gather(*(bus.secrets.get("events") for bus in (first, second) * 5))
    assert len(set(secrets)) == 1 and len(secrets[0]) == 32
    assert await second.secrets.get("other") != secrets[0]
