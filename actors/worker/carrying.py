"""One life of one shard on this node: its files, its process, the watch over it, the report of its end."""

from collections.abc import Callable
from pathlib import Path

import structlog

from actors.runner.job import RunnerJob
from actors.worker.runner_process import Ending, RunnerProcess
from actors.worker.runner_watch import RunnerWatch
from actors.worker.watchdog import Patience
from bus.bus import Bus
from schemas.events import RunnerReported
from schemas.ids import NodeId
from schemas.instance import Instance, Shard
from schemas.state import Download, State

log = structlog.get_logger()

STOP_S = 5.0
"""A runner that is told to leave finishes nothing; one that does not go is killed after this; seconds."""


class Carrying:
    """Makes one attempt of an instance run on this node; ends when the runner has ended and that was reported."""

    def __init__(
        self,
        bus: Bus,
        instance: Instance,
        shard: Shard,
        job: Callable[[Instance, Shard, str], RunnerJob],
        logs: Path,
        patience: Patience,
    ) -> None:
        self._bus = bus
        self._instance = instance
        self._shard = shard
        self._job = job
        self._logs = logs
        self._patience = patience
        self._log = log.bind(node=shard.node, instance=instance.id, attempt=instance.attempt)

    async def run(self) -> None:
        if self._instance.status != "placed":
            await self._report(Ending("the node was restarted", True, ""))
            return
        download = await self._files()
        if download.status == "failed":
            await self._report(Ending(download.reason, False, ""))
            return
        await self._report(await self._live(download.path))

    async def _files(self) -> Download:
        """Wait for the downloader; a failure that can heal is its own to mend, and one of an earlier life is old."""
        spec, node, since = self._instance.spec, self._shard.node, self._instance.seq

        def known(state: State) -> bool:
            found = state.download(node, spec.id)
            if found is None or found.source != spec.source:
                return False
            return (found.status == "complete" and found.covers(self._shard.layers)) or (
                found.status == "failed" and not found.retryable and found.seq > since
            )

        state = await self._bus.view.until(known, timeout_s=None)
        return state.downloads[f"{node}/{spec.id}"]

    async def _live(self, path: str) -> Ending:
        job = self._job(self._instance, self._shard, path)
        process = await RunnerProcess.start(job, self._logs / f"runner-{self._instance.id}.log")
        self._log.info("runner.started", pid=process.pid)
        watch = RunnerWatch(self._bus, self._instance, self._shard, self._patience, process)
        try:
            async with watch.watching():
                ending = await process.ended()
        finally:
            await process.stop(STOP_S)
        return watch.verdict(ending)

    async def _report(self, ending: Ending) -> None:
        self._log.warning("runner.ended", reason=ending.reason, retryable=ending.retryable)
        await self._bus.log.record(
            RunnerReported(
                instance=self._instance.id,
                node=self._shard.node,
                rank=self._shard.rank,
                attempt=self._instance.attempt,
                status="failed",
                reason=ending.reason,
                diagnostics=ending.diagnostics,
                retryable=ending.retryable,
                fate=ending.fate,
            )
        )


def shards_on(node: NodeId, state: State) -> dict[tuple[str, int, int], tuple[Instance, Shard]]:
    """What a node is to carry now, by instance, attempt and rank; failed attempts are over."""
    return {
        (instance.id, instance.attempt, shard.rank): (instance, shard)
        for instance in state.instances.values()
        if instance.status != "failed"
        for shard in instance.shards
        if shard.node == node
    }
