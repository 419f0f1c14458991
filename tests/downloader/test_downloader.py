"""The downloader on a real bus: what it makes of placed instances, and what it tells the log."""

import asyncio
import shutil
import zipfile
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path

import msgspec
import pytest

from actors.downloader.downloader import Downloader
from actors.downloader.perseverance import Pace
from actors.downloader.sources.hub import HubAccess
from actors.downloader.supply import Supply
from bus.bus import Bus
from schemas.events import Decided, DownloadReported, InstanceDeleted, InstancePlaced, InstanceRetried
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Shard
from schemas.model import ModelSpec
from schemas.state import Download, State
from tests.hub import Hub, Refusal
from tests.models import make_random_llama

WEIGHTS = "model.safetensors"
HERE = NodeId("n1")
PACE = Pace(report_s=0.02, first_wait_s=0.02, longest_wait_s=0.1, reconsider_s=0.02)


class Cluster:
    """Plays the leader, and reads the log."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def decide(self, event: Decided) -> None:
        await self.bus.log.decide(event, term=1, after=await self.bus.log.last_decision())

    async def place(self, instance: str, source: str, model: str = "me", node: str = HERE) -> None:
        spec = ModelSpec(id=ModelId(model), source=source)
        await self.decide(
            InstancePlaced(instance=InstanceId(instance), spec=spec, shards=(Shard(node=NodeId(node)),))
        )

    async def retry(self, instance: str, attempt: int) -> None:
        shards = (Shard(node=HERE),)
        await self.decide(
            InstanceRetried(instance=InstanceId(instance), attempt=attempt, shards=shards, why="asked again")
        )

    async def delete(self, instance: str) -> None:
        await self.decide(InstanceDeleted(instance=InstanceId(instance), why="not wanted"))

    async def until(self, holds: Callable[[Download], object], model: str = "me") -> Download:
        def of(state: State) -> Download | None:
            download = state.download(HERE, ModelId(model))
            return download if download is not None and holds(download) else None

        download = of(await self.bus.view.until(of))
        assert download is not None
        return download

    async def until_status(self, status: str, model: str = "me") -> Download:
        return await self.until(lambda download: download.status == status, model)

    async def told(self) -> list[DownloadReported]:
        events = [recorded.event async for recorded in self.bus.log.past()]
        return [event for event in events if isinstance(event, DownloadReported)]


@pytest.fixture
def cluster(bus: Bus) -> Cluster:
    return Cluster(bus)


@pytest.fixture
async def downloader(bus: Bus, hub: Hub, llama: Path, tmp_path: Path) -> AsyncIterator[asyncio.Task[None]]:
    actor = Downloader(
        bus, tmp_path / "models", {"guide": llama}, supply=Supply(hub=HubAccess(url=hub.url)), pace=PACE
    )
    task = asyncio.create_task(actor.run())
    yield task
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), "it never failed"


async def test_a_builtin_model_is_described_and_complete(
    downloader: object, cluster: Cluster, bus: Bus, llama: Path
) -> None:
    await cluster.place("i1", "builtin:guide")
    assert (await cluster.until_status("complete")).path == str(llama)
    card = bus.view.state.cards[ModelId("me")].card
    with zipfile.ZipFile(BytesIO(await bus.artifacts.get(card.artifact))) as archive:
        assert archive.read("tokenizer.json") == (llama / "tokenizer.json").read_bytes()
    assert [event.status for event in await cluster.told()] == ["complete"]


async def test_a_model_from_a_hub_tells_its_progress(
    downloader: object, cluster: Cluster, hub: Hub, llama: Path
) -> None:
    hub.add("org/llama", llama)
    hold = hub.hold(WEIGHTS, after=100_000)
    await cluster.place("i1", "hf:org/llama")
    going = await cluster.until_status("downloading")
    hold.go_on.set()
    done = await cluster.until_status("complete")
    assert going.bytes_total == done.bytes_total == done.bytes_done == sum(hub.served.values())
    assert going.bytes_done < done.bytes_done
    assert (Path(done.path) / WEIGHTS).read_bytes() == (llama / WEIGHTS).read_bytes()


async def test_other_nodes_models_are_theirs(downloader: object, cluster: Cluster, bus: Bus) -> None:
    await cluster.place("i1", "builtin:guide", model="theirs", node="n2")
    await cluster.place("i2", "builtin:guide", model="mine")
    await cluster.until_status("complete", "mine")
    assert [event.model for event in await cluster.told()] == ["mine"]


async def test_a_slow_model_delays_no_other(
    downloader: object, cluster: Cluster, hub: Hub, llama: Path
) -> None:
    hub.add("org/slow", llama)
    hold = hub.hold(WEIGHTS, after=1000)
    await cluster.place("i1", "hf:org/slow", model="slow")
    assert await asyncio.to_thread(hold.reached.wait, 60)
    await cluster.place("i2", "builtin:guide", model="fast")
    await cluster.until_status("complete", "fast")
    assert cluster.bus.view.state.download(HERE, ModelId("slow")) is not None


async def test_what_nobody_wants_any_more_stops_and_goes_on_later(
    downloader: object, cluster: Cluster, hub: Hub, llama: Path
) -> None:
    hub.add("org/llama", llama)
    hold = hub.hold(WEIGHTS, after=300_000)
    await cluster.place("i1", "hf:org/llama")
    assert await asyncio.to_thread(hold.reached.wait, 60)
    await cluster.until_status("downloading")
    await cluster.delete("i1")
    stopped = await cluster.until_status("failed")
    assert stopped.retryable
    assert "not wanted" in stopped.reason
    hold.go_on.set()
    await cluster.place("i2", "hf:org/llama")
    await cluster.until_status("complete")
    assert "Range" in hub.asked_for(WEIGHTS)[-1].headers


async def test_a_hub_with_bad_days_is_outlasted(
    downloader: object, cluster: Cluster, hub: Hub, llama: Path
) -> None:
    hub.add("org/llama", llama)
    hub.info.refusals = [Refusal(503), Refusal(429, headers={"Retry-After": "0"})]
    hub.plan(WEIGHTS).refusals = [Refusal(500)]
    hub.plan(WEIGHTS).cuts = [100_000, 200_000]
    await cluster.place("i1", "hf:org/llama")
    await cluster.until_status("complete")
    told = await cluster.told()
    assert {event.status for event in told} == {"downloading", "complete"}
    assert any("answered 503; next try in" in event.reason for event in told)
    assert hub.served[WEIGHTS] == (llama / WEIGHTS).stat().st_size


async def test_a_hub_that_was_away_is_used_when_it_is_back(
    downloader: object, cluster: Cluster, hub: Hub, llama: Path
) -> None:
    hub.add("org/llama", llama)
    hub.stop()
    await cluster.place("i1", "hf:org/llama")
    await cluster.until(lambda download: "cannot be read" in download.reason)
    hub.start()
    await cluster.until_status("complete")


async def test_what_cannot_be_had_fails_once_and_is_tried_when_asked_again(
    downloader: object, cluster: Cluster, hub: Hub, llama: Path
) -> None:
    await cluster.place("i1", "hf:org/llama")
    failed = await cluster.until_status("failed")
    assert not failed.retryable
    assert "hf:org/llama is not on the hub" in failed.reason
    asked = len(hub.asked)
    await cluster.place("i2", "builtin:guide", model="other")
    await cluster.until_status("complete", "other")
    assert len(hub.asked) == asked
    hub.add("org/llama", llama)
    await cluster.retry("i1", attempt=2)
    await cluster.until_status("complete")


async def test_a_damaged_folder_is_named_and_lives_when_mended(
    downloader: object, cluster: Cluster, llama: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(llama, tmp_path / "mine")
    (folder / "tokenizer.json").unlink()
    await cluster.place("i1", str(folder))
    failed = await cluster.until_status("failed")
    assert (failed.retryable, failed.reason.split()[0]) == (False, "tokenizer.json")
    shutil.copy(llama / "tokenizer.json", folder)
    await cluster.retry("i1", attempt=2)
    assert (await cluster.until_status("complete")).path == str(folder)


async def test_a_source_that_changes_is_followed(
    downloader: object, cluster: Cluster, hub: Hub, llama: Path, tmp_path: Path
) -> None:
    hub.add("org/llama", llama)
    hold = hub.hold(WEIGHTS, after=1000)
    await cluster.place("i1", "hf:org/llama")
    assert await asyncio.to_thread(hold.reached.wait, 60)
    await cluster.place("i2", "builtin:guide")
    await cluster.until(lambda download: (download.status, download.source) == ("complete", "builtin:guide"))


async def test_a_node_that_starts_again_says_nothing_twice(
    downloader: asyncio.Task[None], cluster: Cluster, bus: Bus, hub: Hub, llama: Path, tmp_path: Path
) -> None:
    hub.add("org/llama", llama)
    await cluster.place("i1", "hf:org/llama")
    await cluster.until_status("complete")
    _, before = await bus.log.bounds()
    hub.stop()
    actor = Downloader(
        bus, tmp_path / "models", {"guide": llama}, supply=Supply(hub=HubAccess(url=hub.url)), pace=PACE
    )
    again = asyncio.create_task(actor.run())
    await cluster.place("i2", "builtin:guide", model="other")
    await cluster.until_status("complete", "other")
    again.cancel()
    await asyncio.wait([again])
    later = [recorded.event async for recorded in bus.log.past(after=before)]
    assert all(msgspec.to_builtins(event).get("model") != "me" for event in later)


async def test_files_that_were_lost_come_again_when_the_node_starts(
    downloader: asyncio.Task[None], cluster: Cluster, bus: Bus, hub: Hub, llama: Path, tmp_path: Path
) -> None:
    hub.add("org/llama", llama)
    await cluster.place("i1", "hf:org/llama")
    folder = Path((await cluster.until_status("complete")).path)
    downloader.cancel()
    await asyncio.wait([downloader])
    (folder / WEIGHTS).unlink()
    seen = bus.view.state.seq
    actor = Downloader(
        bus, tmp_path / "models", {"guide": llama}, supply=Supply(hub=HubAccess(url=hub.url)), pace=PACE
    )
    again = asyncio.create_task(actor.run())
    await cluster.until(lambda download: download.status == "complete" and download.seq > seen)
    again.cancel()
    await asyncio.wait([again])
    assert (folder / WEIGHTS).read_bytes() == (llama / WEIGHTS).read_bytes()


async def test_a_card_changes_with_the_files(
    downloader: object, cluster: Cluster, bus: Bus, tmp_path: Path
) -> None:
    folder = make_random_llama(tmp_path / "mine", context=128)
    await cluster.place("i1", str(folder))
    await cluster.until_status("complete")
    make_random_llama(folder, context=256)
    await cluster.retry("i1", attempt=2)
    await bus.view.until(lambda state: state.cards[ModelId("me")].card.context == 256)
