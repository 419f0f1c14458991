"""Two nodes with one name, because a data folder was copied: the one that runs is not disturbed."""

import asyncio
import shutil

import pytest

from bus.server import Server
from tests.conftest import ConnectBus
from tests.nodes import StartNode


async def test_a_copied_data_folder_ends_the_start_with_a_sentence(
    start_node: StartNode, nats_server: Server, connect_bus: ConnectBus
) -> None:
    flags = ("--nats", nats_server.url, "--model", "none", "--no-worker", "--no-api")
    first = await start_node("first", *flags)
    bus = await connect_bus("test")
    before = bus.view.state
    (first.folder.parent / "copy").mkdir()
    shutil.copy(first.folder / "node.id", first.folder.parent / "copy")
    with pytest.raises(
        AssertionError, match=f"another process is node {first.node} too: was a data folder copied"
    ):
        await start_node("copy", *flags)
    assert bus.view.state == before
    assert first.process.returncode is None

    await first.kill()
    async with asyncio.timeout(20):
        again = await start_node("first", *flags)
    assert again.node == first.node, "an earlier life is no twin"
