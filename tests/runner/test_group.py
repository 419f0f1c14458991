"""Two ranks as the processes that their workers start."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec
import pytest

from actors.runner.job import RunnerJob
from schemas.ids import NodeId
from schemas.instance import Shard
from schemas.model import Backend, EngineName
from schemas.task import Accepted
from tests.engine.running import a_task, reasons, tokens
from tests.runner.client import Client
from tests.runner.process import RunningProcess

SHARDS = tuple(Shard(node=NodeId(f"n{rank}"), rank=rank, layers=(1 - rank, 2 - rank)) for rank in (0, 1))
StartRanks = Callable[..., Awaitable[list[RunningProcess]]]


@pytest.fixture
async def start_ranks(a_job: Callable[..., RunnerJob]) -> AsyncIterator[StartRanks]:
    """`await start_ranks(engine="simulated", backend="nccl")`: a pipeline of two, rank 0 first."""
    async with AsyncExitStack() as stack:

        async def start(engine: EngineName = "mlx", backend: Backend = "ring") -> list[RunningProcess]:
            job = a_job(engine=engine)
            spec = msgspec.structs.replace(job.spec, backend=backend)
            ranks: list[RunningProcess] = []
            for shard in SHARDS:
                given = {"node": shard.node, "rank": shard.rank, "shards": SHARDS, "split": "pipeline"}
                process = await RunningProcess.start(msgspec.structs.replace(job, spec=spec, **given))
                stack.push_async_callback(process.kill)
                ranks.append(process)
            return ranks

        yield start


@pytest.mark.timeout(180)
async def test_when_a_rank_is_killed_the_other_leaves_and_blames_nobody(
    start_ranks: StartRanks, client: Client
) -> None:
    first, second = await start_ranks()
    reports = await client.until_status("ready")
    assert {report.rank for report in reports} == {0}
    assert reports[-1].slots > 1
    assert isinstance(await client.offer(a_task(request="r1", max_tokens=30)), Accepted)
    chunks = await client.until_ended("r1")
    assert (len(tokens(chunks)), reasons(chunks)) == (30, ["length"])
    await client.offer(a_task(request="r2", max_tokens=1500))
    await client.until_chunks("r2", 5)
    await second.kill()
    code, (words,), _ = await first.ended()
    assert (code, words.retryable, words.fate) == (1, True, "")
    assert words.failed.startswith("the other ranks were lost: [ring]")


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"backend": "nccl"}, "MLX has no backend `nccl` on this machine"),
        ({"engine": "simulated"}, "the engine `simulated` cannot be split over nodes"),
    ],
)
async def test_what_cannot_be_is_refused(start_ranks: StartRanks, asked: dict[str, str], reason: str) -> None:
    for rank in await start_ranks(**asked):
        code, (words,), _ = await rank.ended()
        assert (code, words.failed, words.retryable) == (1, reason, False)
