"""What a worker tells the runners that it starts."""

from pathlib import Path

from actors.worker.carrying import Carrying
from actors.worker.runner_process import RunnerProcess
from actors.worker.watchdog import Patience
from actors.worker.worker import Worker
from bus.bus import Bus
from schemas.events import DownloadReported, RunnerReported
from schemas.ids import InstanceId, ModelId
from schemas.instance import Instance, Shard
from schemas.model import ModelSpec


async def test_a_runner_writes_its_log_as_its_node_was_told(bus: Bus, tmp_path: Path) -> None:
    worker = Worker(bus, "nats://there", tmp_path, Patience(), "warning")
    shard = Shard(node=bus.node)
    spec = ModelSpec(id=ModelId("m"), source="s")
    instance = Instance(seq=1, id=InstanceId("i1"), spec=spec, shards=(shard,))
    job = worker._job(instance, shard, "folder")  # what a process is told shows nowhere else
    assert (job.log_level, job.nats_url, job.path) == ("warning", "nats://there", "folder")


async def test_where_no_process_can_be_started_that_is_why_the_instance_failed(
    bus: Bus, tmp_path: Path
) -> None:
    async def start() -> RunnerProcess:
        raise BlockingIOError("Resource temporarily unavailable")

    spec = ModelSpec(id=ModelId("m"), source="s")
    await bus.log.record(DownloadReported(node=bus.node, model=spec.id, source="s", status="complete"))
    shard = Shard(node=bus.node)
    instance = Instance(seq=1, id=InstanceId("i1"), spec=spec, shards=(shard,))
    job = Worker(bus, "nats://there", tmp_path, Patience())._job
    await Carrying(bus, instance, shard, job, start, tmp_path, Patience()).run()
    (said,) = [each.event async for each in bus.log.past() if isinstance(each.event, RunnerReported)]
    assert said.retryable and said.reason == "no process can be started: Resource temporarily unavailable"
