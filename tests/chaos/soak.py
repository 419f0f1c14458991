"""The story of a soak: a crowd streams, blows fall, and in the end nothing is missing and nothing is left over."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from statistics import quantiles

from msgspec import Struct

from bus.bucket import Bucket
from bus.bus import Bus
from bus.streams import Streams
from bus.view import restore
from schemas.state import State
from tests.chaos.blows import Fate, Struck
from tests.chaos.cluster import Cluster, playing, ready
from tests.chaos.crowd import Crowd, Outcome
from tests.chaos.residue import Residue, residue
from tests.replay import replay

QUIET_S = 120.0
"""Within this time after the last blow all is as before; consumers without a reader last for 30 s."""


class Soak(Struct):
    """What was done and what came of it."""

    seed: int
    requests: dict[str, int]
    blows: list[Struck]
    before: Residue
    """After the warm-up."""
    after: Residue
    failures: dict[str, int]
    """Lives of actors that ended in a failure, for each node."""
    events: int
    wronged: list[Outcome]

    def table(self) -> str:
        lines = [f"seed {self.seed}, {sum(self.requests.values())} requests, {self.events} events in the log"]
        lines += [f"  {count:6} {kind}" for kind, count in self.requests.items()]
        for name in sorted({struck.blow for struck in self.blows}):
            of_kind = [struck for struck in self.blows if struck.blow == name]
            for model in of_kind[0].recovered_s:
                lines.append(
                    f"  {len(of_kind):3} x {name:16} {_spread([s.recovered_s[model] for s in of_kind])} {model}"
                )
        for model in self.blows[0].recovered_s if self.blows else ():
            lines.append(
                f"  {len(self.blows):3} x {'any':16} {_spread([s.recovered_s[model] for s in self.blows])} {model}"
            )
        return "\n".join(
            [*lines, f"  before {self.before}", f"  after  {self.after}", f"  failed actors {self.failures}"]
        )


def _spread(seconds: list[float]) -> str:
    cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    return f"answered after p50 {cuts[49]:5.2f} s, p99 {cuts[98]:5.2f} s"


async def soak(
    folder: Path, seed: int, clients: int, warm_up_s: float, seconds: float = 0, blows: Sequence[str] = ()
) -> Soak:
    """These blows, one after the other, and then random ones for so long."""
    async with playing(folder) as (cluster, bus):
        crowd, fate = Crowd(cluster, seed, clients), Fate(cluster, bus, seed)
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(crowd.stream_on())
            await asyncio.sleep(warm_up_s)
            before = await residue(cluster, bus)
            for name in blows:
                await fate.struck(name)
            await fate.strike_until(end)
            crowd.leave()
        return await _settled(cluster, bus, crowd, fate, before, seed)


async def _settled(cluster: Cluster, bus: Bus, crowd: Crowd, fate: Fate, before: Residue, seed: int) -> Soak:
    """Everything healed, nothing kept; AssertionError when it is not so."""
    async with asyncio.timeout(QUIET_S):
        await bus.view.until(lambda state: len(ready(bus)) == 3, timeout_s=None)
        await until_the_bucket_is_the_log(bus)
        after = await residue(cluster, bus)
        while not _as_lean(before, after):
            await asyncio.sleep(1)
            after = await residue(cluster, bus)
    return Soak(
        seed=seed,
        requests=crowd.counts(),
        blows=fate.history,
        before=before,
        after=after,
        failures={s.name: s.node.journal.count("actor.failed") for s in cluster.seats if s.node is not None},
        events=bus.view.state.seq,
        wronged=crowd.wronged(),
    )


def _as_lean(before: Residue, after: Residue) -> bool:
    return (
        (after.runners, after.servers, after.connections) == (before.runners, 1, before.connections)
        and after.files <= before.files + 8
        and after.subscriptions <= before.subscriptions + 4
        and all(count <= before.consumers[name] + 2 for name, count in after.consumers.items())
    )


async def until_the_bucket_is_the_log(bus: Bus) -> State:
    """The fold of the whole log is, by value, what the bucket `troupe_state` holds."""
    while True:
        async with aclosing(bus.log.past()) as past:
            folded = replay([recorded async for recorded in past])
        kept = restore(await Bucket(bus.connection, Streams(bus.cluster).state).entries())
        if kept == folded:
            return kept
        await asyncio.sleep(0.2)
