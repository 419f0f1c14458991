"""What the leader deletes of the object store, on a real bus: what nobody names, and never what somebody does."""

import asyncio

import pytest
from msgspec.structs import replace

from actors.master.artifact_keeper import ArtifactKeeper, needed
from bus.blobs import Blobs
from bus.bus import Bus
from bus.errors import LeaseLost
from schemas.events import DownloadReported, Forgotten, InstancePlaced, ModelDescribed
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.model import ModelSpec
from schemas.state import State
from tests.master.clusters import after
from tests.schemas.histories import card

ME = ModelId("me")


def described(source: str, artifact: str) -> ModelDescribed:
    return ModelDescribed(model=ME, source=source, card=replace(card, artifact=artifact))


def leads() -> None:
    """It still does."""


@pytest.fixture
async def stored(bus: Bus) -> Bus:
    """The artifacts of a version that was, of one that is, and one that nobody has named."""
    for name in ("older", "newer", "stray"):
        await bus.artifacts.put(name, name.encode())
    await tell(bus, described("/older", "older"), described("/newer", "newer"))
    return bus


async def tell(bus: Bus, *facts: ModelDescribed | DownloadReported) -> None:
    for fact in facts:
        seq = await bus.log.record(fact)
        await bus.view.until(lambda state, seq=seq: state.seq >= seq)


def files(status: str) -> DownloadReported:
    return DownloadReported(node=NodeId("n"), model=ModelId("me (earlier)"), source="/older", status=status)  # type: ignore[arg-type]


async def test_what_nobody_needs_goes_when_that_has_lasted(stored: Bus) -> None:
    now = 0.0
    keeper = ArtifactKeeper(stored, after_s=60, clock=lambda: now)
    await keeper.tidy(leads)
    assert await stored.artifacts.names() == {"older", "newer", "stray"}
    now = 61.0
    await keeper.tidy(leads)
    assert await stored.artifacts.names() == {"newer"}
    assert await stored.artifacts.get("newer") == b"newer"
    info = await stored.connection.jetstream.stream_info("OBJ_troupe_artifacts")
    assert info.state.messages == 2, "one object: what it is, and its bytes"


async def test_parts_that_belong_to_no_artifact_go(bus: Bus) -> None:
    """Of one whose storing was killed midway, and of several nodes that stored the same at once."""
    await tell(bus, described("/newer", "newer"))
    await asyncio.gather(*(bus.artifacts.put("newer", b"newer") for _ in range(3)))
    await bus.connection.jetstream.publish("$O.troupe_artifacts.C.killed", b"half")
    await bus.connection.jetstream.publish("$O.troupe_artifacts.M.garbage", b"of somebody else")
    now = 0.0
    keeper = ArtifactKeeper(bus, after_s=60, clock=lambda: now)
    await keeper.tidy(leads)
    assert "killed" in await bus.artifacts.strays()
    now = 61.0
    await keeper.tidy(leads)
    assert await bus.artifacts.strays() == set()
    assert await bus.artifacts.get("newer") == b"newer"
    info = await bus.connection.jetstream.stream_info("OBJ_troupe_artifacts")
    assert info.state.messages == 3, "one object, what it is and its bytes; and the garbage"


async def test_an_older_version_keeps_its_own_until_its_files_are_gone_everywhere(stored: Bus) -> None:
    await tell(stored, files("complete"))
    await ArtifactKeeper(stored, after_s=0).tidy(leads)
    assert await stored.artifacts.names() == {"older", "newer"}
    await tell(stored, files("removed"))
    await ArtifactKeeper(stored, after_s=0).tidy(leads)
    assert await stored.artifacts.names() == {"newer"}
    await stored.artifacts.put("older", b"again")
    assert await stored.artifacts.get("older") == b"again"


def test_what_is_carried_is_needed_though_its_files_are_not_told_of() -> None:
    state = after(State(), described("/older", "older"), described("/newer", "newer"))
    assert set(needed(state)) == {"newer"}
    spec = ModelSpec(id=ME, source="/older")
    carried = after(state, InstancePlaced(instance=InstanceId("i"), spec=spec, shards=()))
    assert set(needed(carried)) == {"older", "newer"}
    forgotten = Forgotten(kind="card", id=ME, as_of=state.cards[ME].seq)
    assert set(needed(after(state, forgotten))) == set()


async def test_what_is_named_at_that_moment_is_put_back(stored: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = Blobs.remove

    async def name_and_remove(store: Blobs, name: str) -> None:
        await stored.log.record(described("/stray", "stray"))
        await remove(store, name)

    monkeypatch.setattr(Blobs, "remove", name_and_remove)
    await tell(stored, files("complete"))
    await ArtifactKeeper(stored, after_s=0).tidy(leads)
    assert await stored.artifacts.get("stray") == b"stray"


async def test_a_new_leader_counts_anew_and_deletes_the_same(stored: Bus) -> None:
    await ArtifactKeeper(stored, after_s=60, clock=lambda: 0.0).tidy(leads)
    now = 1000.0
    keeper = ArtifactKeeper(stored, after_s=60, clock=lambda: now)
    await keeper.tidy(leads)
    assert await stored.artifacts.names() == {"older", "newer", "stray"}
    now += 61
    await keeper.tidy(leads)
    assert await stored.artifacts.names() == {"newer"}


async def test_one_that_leads_no_more_deletes_nothing(stored: Bus) -> None:
    def lost() -> None:
        raise LeaseLost("the lease ran out")

    with pytest.raises(LeaseLost):
        await ArtifactKeeper(stored, after_s=0).tidy(lost)
    assert await stored.artifacts.names() == {"older", "newer", "stray"}
