"""The ranks of an attempt find each other on the bus before they open connections of their own."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import msgspec

from actors.engine.factory import import_mlx
from actors.engine.port import EngineLoadError
from actors.machine.addresses import LOOPBACK
from actors.runner.head_start import head_start
from actors.runner.job import RunnerJob
from actors.runner.line import line_to, waiting_for_line
from actors.runner.reach import free_port, own_host, own_machine
from bus.bus import Bus
from schemas.group import DIALECT, Present, Seat
from schemas.unreadable import UNREADABLE

PATIENCE_S = 60.0
"""All were started at about the same time, when the files of all were there; seconds."""
_present = msgspec.json.Decoder(Present).decode


@asynccontextmanager
async def gathered(bus: Bus, job: RunnerJob) -> AsyncGenerator[Seat]:
    """This rank's seat, once all are there, with an eye on the link to the next one.

    Raises EngineLoadError when some do not come, GroupBroken when that link is cut, then or later.
    """
    await asyncio.to_thread(import_mlx)  # before it says that it is here: then all join within milliseconds
    host = own_host(job.nats_url)
    async with waiting_for_line(host) as line:
        me = Present(
            rank=job.rank,
            host=host,
            port=free_port(host),
            machine=own_machine(),
            line=line,
            dialect=DIALECT,
        )
        there = await gather(bus, job, me)
        after = there[(job.rank + 1) % len(there)]
        async with line_to(bus, after, job.ranks[after.rank].node):
            if job.spec.backend == "ring" and job.rank == len(there) - 1:
                await head_start(there[0], me)
            yield _seat(job, there)


async def gather(bus: Bus, job: RunnerJob, me: Present) -> dict[int, Present]:
    """All ranks of this attempt, once they are there."""
    subject = bus.subjects.group(job.instance, job.attempt, "present")
    there = {job.rank: me}
    complete = asyncio.Event()

    def hear(payload: bytes, subject: str) -> None:
        try:
            present = _present(payload)
        except UNREADABLE as garbage:
            bus.note_garbage(subject, garbage)
            return
        if present.rank not in there:
            there[present.rank] = present
            bus.post(subject, msgspec.json.encode(me))  # it came later, and has not heard the first time
        if len(there) == len(job.shards):
            complete.set()

    async with bus.listening(subject, hear):
        await bus.send(subject, me)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await complete.wait()
        except TimeoutError:
            missing = sorted({shard.rank for shard in job.shards} - there.keys())
            reason = f"ranks {missing} of {job.instance} did not come within {PATIENCE_S:g} s"
            raise EngineLoadError(reason, retryable=True) from None
    _require_one_dialect(job, there, me)
    return there


def _require_one_dialect(job: RunnerJob, there: Mapping[int, Present], me: Present) -> None:
    others = [job.ranks[rank].node for rank in sorted(there) if there[rank].dialect != me.dialect]
    if others:
        reason = f"{job.instance} is split over nodes of different versions: {', '.join(others)} and this one"
        raise EngineLoadError(f"{reason}; run the same version on all of them", retryable=True)


def _seat(job: RunnerJob, there: Mapping[int, Present]) -> Seat:
    return Seat(
        rank=job.rank,
        split=job.split,
        addresses=addresses(there),
        backend=job.spec.backend,
        layers=tuple(shard.layers[1] - shard.layers[0] for shard in job.ranks if shard.layers),
    )


def addresses(there: Mapping[int, Present]) -> tuple[str, ...]:
    """`host:port` of each rank; numbers that stay on one machine are nobody else's business."""
    together = len({present.machine for present in there.values()}) == 1
    return tuple(
        f"{LOOPBACK if together else present.host}:{present.port}"
        for present in (there[rank] for rank in range(len(there)))
    )
