"""What a worker tells the runners that it starts."""

from pathlib import Path

from actors.worker.watchdog import Patience
from actors.worker.worker import Worker
from bus.bus import Bus
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
