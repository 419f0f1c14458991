"""What somebody has pulled is on its way until it is here or removed, whatever becomes of the node meanwhile."""

import asyncio
from pathlib import Path

import pytest

from actors.downloader.wanted import PULLED
from schemas.commands import Done, PullModel, RemoveModel
from schemas.events import InstancePlaced
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Shard
from schemas.manifest import MIB
from schemas.model import ModelSpec
from tests.downloader.member import ME, SOURCE, WEIGHTS, Join, Member
from tests.hub import Hold, Hub
from tests.models import make_random_llama

OTHER = PullModel(model=ModelId("other"), source="hf:org/other")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """Weights of 8 pieces."""
    return make_random_llama(tmp_path / "llama", hidden=128, layers=8)


async def held(member: Member, hub: Hub) -> Hold:
    """A pull of which 3 MiB of weights are here."""
    hold = hub.hold(WEIGHTS, after=3 * MIB)
    await member.pull()
    assert await asyncio.to_thread(hold.reached.wait, 60)
    return hold


async def test_a_pull_outlives_its_node(join: Join, hub: Hub) -> None:
    first = await join("a")
    hold = await held(first, hub)
    await first.stop()
    hold.go_on.set()
    again = Member(first.bus, first.folder, hub)
    assert (await again.pulled()).pulled
    await again.stop()


async def test_a_pull_of_what_is_being_placed_outlives_its_node(join: Join, hub: Hub) -> None:
    first = await join("a")
    hold = hub.hold(WEIGHTS, after=3 * MIB)
    spec = ModelSpec(id=ME, source=SOURCE)
    placed = InstancePlaced(instance=InstanceId("i"), spec=spec, shards=(Shard(node=NodeId("a")),))
    await first.bus.log.decide(placed, term=1, after=await first.bus.log.last_decision())
    assert await asyncio.to_thread(hold.reached.wait, 60)
    await first.pull()
    assert any(life[0] == PULLED for life in first.actor.deliveries[ME].lives), "and so in all that it tells"
    hold.go_on.set()
    await first.bus.view.until(
        lambda state: (found := state.download(NodeId("a"), ME)) and found.is_over and found.pulled
    )


async def test_what_is_removed_on_its_way_does_not_come(join: Join, hub: Hub) -> None:
    first = await join("a")
    hold = await held(first, hub)
    assert isinstance(await first.ask(RemoveModel(model=ME, source=SOURCE)), Done)
    hold.go_on.set()
    assert not first.model.exists()
    await first.stop()
    again = Member(first.bus, first.folder, hub)
    await again.ask(OTHER)  # there is none: it fails, after all that was to be begun was begun
    await first.bus.view.until(
        lambda state: (other := state.download(NodeId("a"), OTHER.model)) and other.status == "failed"
    )
    assert first.bus.view.state.download(NodeId("a"), ME) is None
    assert not first.model.exists()
    await again.stop()


async def test_a_pull_that_failed_is_forgotten_when_it_is_removed(join: Join) -> None:
    first = await join("a")
    await first.ask(OTHER)
    await first.bus.view.until(
        lambda state: (other := state.download(NodeId("a"), OTHER.model)) and other.is_over
    )
    order = RemoveModel(model=OTHER.model, source=OTHER.source)
    assert isinstance(await first.ask(order), Done)
    await first.bus.view.until(lambda state: state.download(NodeId("a"), OTHER.model) is None)


async def test_a_pull_is_forgotten_with_its_files_though_its_model_has_others_now(
    join: Join, hub: Hub, llama: Path
) -> None:
    first = await join("a")
    hub.add("org/other", llama)
    await first.pull()
    await first.pulled()
    placed = InstancePlaced(
        instance=InstanceId("i"),
        spec=ModelSpec(id=ME, source=OTHER.source),
        shards=(Shard(node=NodeId("a")),),
    )
    await first.bus.log.decide(placed, term=1, after=await first.bus.log.last_decision())
    await first.bus.view.until(
        lambda state: (
            (found := state.download(NodeId("a"), ME)) and found.is_over and found.source == OTHER.source
        )
    )
    assert await first.actor.sources.shelf.remove(first.model)
    assert not first.actor._pulls, "or it would come again once the model is unloaded"
