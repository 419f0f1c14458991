"""Makes the runners on its node what the state says they should be."""

import asyncio
from contextlib import aclosing
from pathlib import Path

from actors.actor import Actor, forever
from actors.runner.job import LogLevel, RunnerJob
from actors.worker.carrying import Carrying, shards_on, standing_of
from actors.worker.spare import Spare
from actors.worker.watchdog import Patience
from bus.bus import Bus
from schemas.instance import Instance, Shard

Key = tuple[str, int, int]


class Worker(Actor):
    """Each attempt of each shard is carried by a task of its own: none waits for another."""

    def __init__(
        self,
        bus: Bus,
        nats_url: str,
        logs: Path,
        patience: Patience,
        log_level: LogLevel = "info",
        otlp_endpoint: str = "",
        *,
        spare: bool = True,
    ) -> None:
        super().__init__(bus)
        self._nats_url = nats_url
        self._logs = logs
        self._patience = patience
        self._log_level: LogLevel = log_level
        self._otlp_endpoint = otlp_endpoint
        self._spare = Spare(bus.node, wanted=spare)
        self._carried: dict[Key, tuple[Carrying, asyncio.Task[None]]] = {}

    @forever
    async def reconcile(self) -> None:
        async with asyncio.TaskGroup() as tasks, aclosing(self.bus.view.states()) as states:
            async for state in states:
                wanted = shards_on(self.bus.node, state)
                for key in self._carried.keys() - wanted.keys():
                    self._drop(key)
                for key in wanted.keys() - self._carried.keys():
                    self._carry(key, *wanted[key], tasks)
                for key, (instance, _) in wanted.items():
                    self._carried[key][0].stand(standing_of(instance, state))
                self._spare.note(starting=any(map(self._is_starting, wanted.keys(), wanted.values())))

    @forever
    async def keep_spare(self) -> None:
        await self._spare.run()

    def _is_starting(self, key: Key, wanted: tuple[Instance, Shard]) -> bool:
        return self._carried[key][0].has_process and wanted[0].status != "ready"

    def _carry(self, key: Key, instance: Instance, shard: Shard, tasks: asyncio.TaskGroup) -> None:
        carrying = Carrying(
            self.bus, instance, shard, self._job, self._spare.take, self._logs, self._patience
        )
        task = tasks.create_task(carrying.run(), name=f"carry {instance.id}.{instance.attempt}")
        self._carried[key] = carrying, task

    def _drop(self, key: Key) -> None:
        """Stop it, unless it has ended and only waits to be forgotten."""
        self._carried.pop(key)[1].cancel()

    def _job(self, instance: Instance, shard: Shard, path: str) -> RunnerJob:
        return RunnerJob(
            nats_url=self._nats_url,
            cluster=self.bus.cluster,
            node=self.bus.node,
            instance=instance.id,
            attempt=instance.attempt,
            rank=shard.rank,
            shards=instance.shards,
            split=instance.split,
            spec=instance.spec,
            path=path,
            log_level=self._log_level,
            otlp_endpoint=self._otlp_endpoint,
        )
