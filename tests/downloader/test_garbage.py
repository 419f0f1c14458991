"""Garbage where downloaders listen and where they look who brings what: refused or passed over, and the model comes."""

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from actors.downloader.peers.cluster_colleagues import _key
from bus.bus import Bus
from bus.claims import Claim
from bus.streams import Streams
from schemas.commands import FilesAnswer, PullModel
from schemas.ids import NodeId
from schemas.manifest import Manifest
from schemas.refused import Refused
from tests.downloader.member import ME, SOURCE, Join
from tests.hub import Hub
from tests.scenes.test_garbage import GARBAGE


def noise(seed: int, like: bytes, count: int) -> list[bytes]:
    """`like` with some bytes changed, left out, or put twice."""
    chance, made = random.Random(seed), list[bytes]()
    for _ in range(count):
        data = bytearray(like)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        made.append(bytes(data))
    return made


async def put(bus: Bus, key: str, value: bytes) -> None:
    await bus.send_raw(f"$KV.{Streams(bus.cluster).fetches}.{key}", value)


async def test_garbage_in_the_inbox_is_refused(join: Join) -> None:
    first = await join("a")
    order = msgspec.json.encode(PullModel(model=ME, source="builtin:guide"))
    await first.ask(PullModel(model=ME, source="builtin:guide"))  # it listens
    codes: set[str] = set()
    for garbage in (*GARBAGE, *noise(1, order, 200)):
        reply = await first.bus.connection.request(first.bus.subjects.files(NodeId("a")), garbage, 30)
        answer = msgspec.json.decode(reply.data, type=FilesAnswer)
        codes |= {answer.code} if isinstance(answer, Refused) else set()
    assert "bad_request" in codes
    await first.pull()
    await first.pulled()


@pytest.mark.parametrize("seed", range(3))
async def test_garbage_among_the_claims_is_passed_over(join: Join, hub: Hub, llama: Path, seed: int) -> None:
    first = await join("a")
    claims = [*GARBAGE[:8], msgspec.json.encode(Claim(NodeId("ghost"), 7)), b'{"node": 5}']
    chance = random.Random(seed)
    await put(first.bus, _key("listing", SOURCE), chance.choice(GARBAGE[:8]))
    commit = hub.repositories["org/llama"].branches["main"]
    for path in llama.iterdir():
        await put(first.bus, _key("piece", SOURCE, commit, path.name, "0"), chance.choice(claims))
    await first.bus.connection.client.flush()
    await first.pull()
    await asyncio.wait_for(first.pulled(), 100)
    assert all((first.model / path.name).read_bytes() == path.read_bytes() for path in llama.iterdir())


@pytest.mark.parametrize("hash_", ["/../../../../x", "..", "a/b", "0x", "\0"])
def test_a_manifest_leads_nowhere_else(hash_: str) -> None:
    for name in ("sha256", "blob"):
        listed = {"name": "config.json", "size": 1, name: hash_}
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"commit": "c", "files": [listed]}, Manifest)
