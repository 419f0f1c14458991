"""What is kept is read for all who ask at once, and told to each in order."""

import asyncio
import itertools
from collections.abc import AsyncGenerator

import msgspec
import pytest

from api.requests.kept import kept
from api.requests.readings import Readings
from bus.bus import Bus
from bus.reader import Stored
from schemas.chunks import Chunk, Tokens
from schemas.ids import ApiId, RequestId
from schemas.task import pack_ids
from tests.api.requests.keeping import until_kept

API = ApiId("abcdef01")
NAMES = [RequestId(f"r{number}") for number in range(20)]


async def test_many_who_ask_at_once_are_told_in_one_pass(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[ApiId] = []

    def counted(of: Bus, api: ApiId) -> AsyncGenerator[Stored]:
        passes.append(api)
        return kept(of, api)

    monkeypatch.setattr("api.requests.readings.kept", counted)
    for offset in range(3):
        frame = [Tokens(name, 1, 0, offset, pack_ids([7])) for name in NAMES]
        await bus.send_raw(bus.subjects.out_all(API), msgspec.msgpack.encode(frame))
    await until_kept(bus, API, 3)
    readings, told = Readings(bus), {name: list[Chunk]() for name in NAMES}
    await asyncio.gather(*[readings.tell(API, name, told[name].append) for name in NAMES for _ in range(2)])
    assert passes == [API]
    for name, chunks in told.items():
        offsets = [chunk.offset for chunk in chunks if isinstance(chunk, Tokens) and chunk.request == name]
        assert offsets == [0, 0, 1, 1, 2, 2], "two who ask for the same are both told"
    again: list[Chunk] = []
    await readings.tell(API, NAMES[0], again.append)
    assert len(again) == 3 and passes == [API, API], "who comes later has a pass of its own"


async def test_others_have_their_turn_while_much_is_read(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Stored("", msgspec.msgpack.encode([Tokens(NAMES[0], 1, 0, 0, pack_ids([7]))]), {}, 1, 0.0)
    told: list[Chunk] = []
    seen: list[int] = []

    async def at_once(_bus: Bus, _api: ApiId) -> AsyncGenerator[Stored]:
        """As when all of it lies in the connection's memory."""
        for _ in range(10_000):
            yield frame

    async def another() -> None:
        while len(told) < 10_000:
            seen.append(len(told))
            await asyncio.sleep(0)

    monkeypatch.setattr("api.requests.readings.kept", at_once)
    await asyncio.gather(Readings(bus).tell(API, NAMES[0], told.append), another())
    assert len(told) == 10_000
    assert max(later - before for before, later in itertools.pairwise(seen)) <= 100
