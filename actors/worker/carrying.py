"""One life of one shard on this node: its files, its process, the watch over it, the report of its end."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from actors.runner.job import RunnerJob, Standing
from actors.worker.draft_files import draft_files
from actors.worker.runner_process import Ending, RunnerProcess
from actors.worker.runner_watch import RunnerWatch
from actors.worker.watchdog import Patience
from bus.bus import Bus
from schemas.events import RunnerReported
from schemas.files import files_of
from schemas.ids import NodeId
from schemas.instance import Instance, Shard
from schemas.presence import is_whole
from schemas.state import Download, State
from schemas.version import pulls

log = structlog.get_logger()

BEFORE_READY = ("placed", "starting", "loading")
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
        start: Callable[[], Awaitable[RunnerProcess]],
        logs: Path,
        patience: Patience,
    ) -> None:
        self._bus = bus
        self._instance = instance
        self._shard = shard
        self._job = job
        self._start = start
        self._logs = logs
        self._patience = patience.of_group() if len(instance.shards) > 1 else patience
        self._log = log.bind(node=shard.node, instance=instance.id, attempt=instance.attempt)
        self._process: RunnerProcess | None = None
        self._standing = Standing()

    def stand(self, standing: Standing) -> None:
        """What its runner may take from here on."""
        if standing != self._standing and self._process is not None:
            self._process.tell(standing)
        self._standing = standing

    @property
    def has_process(self) -> bool:
        """It was started; it may have ended."""
        return self._process is not None

    async def run(self) -> None:
        if self._was_ended:
            await self._report(Ending("the node was restarted", True, ""))
            return
        download = await self._files()
        if download.status == "failed":
            await self._report(Ending(download.reason, False, ""))
            return
        draft_path = ""
        if self._instance.spec.draft:
            draft = await draft_files(self._bus, self._instance, self._shard.node)
            if draft.status == "failed":
                await self._report(Ending(f"{draft.model}: {draft.reason}", False, ""))
                return
            draft_path = draft.path
        await self._report(await self._live(download.path, draft_path))

    @property
    def _was_ended(self) -> bool:
        """Its runner was there before this worker: rank 0 says when it starts, and is not ready without the others."""
        return self._instance.status not in (("placed",) if not self._shard.rank else BEFORE_READY)

    async def _files(self) -> Download:
        """Wait for the downloaders, as all ranks start at once; a failure that can heal is theirs to mend, and one of an
        earlier life is old."""
        spec, since = self._instance.spec, self._instance.seq

        def failed(found: Download) -> bool:
            return found.status == "failed" and not found.retryable and found.seq > since

        def has(shard: Shard, state: State) -> bool:
            found = files_of(state, shard.node, spec.id, spec.source)
            return found is not None and found.status == "complete" and found.covers(shard.layers)

        def known(state: State) -> bool:
            mine = files_of(state, self._shard.node, spec.id, spec.source)
            if mine is not None and failed(mine):
                return True
            return all(has(shard, state) for shard in self._instance.shards)

        state = await self._bus.view.until(known, timeout_s=None)
        found = files_of(state, self._shard.node, spec.id, spec.source)
        assert found is not None, "that was waited for"
        return found

    async def _live(self, path: str, draft_path: str) -> Ending:
        job = self._job(self._instance, self._shard, path)
        job = msgspec.structs.replace(job, draft_path=draft_path, standing=self._standing)
        try:
            process = self._process = await self._start()
        except OSError as error:
            return Ending(f"no process can be started: {error}", True, "")
        try:
            await process.begin(job, self._logs / f"{self._name}.log")
            if self._standing != job.standing:
                process.tell(self._standing)
            self._log.info("runner.started", pid=process.pid)
            watch = RunnerWatch(self._bus, self._instance, self._shard, self._patience, process)
            async with watch.watching():
                ending = await process.ended()
        finally:
            await process.stop(STOP_S)
        return watch.verdict(ending)

    @property
    def _name(self) -> str:
        rank = f".{self._shard.rank}" if self._shard.rank else ""
        return f"runner-{self._instance.id}{rank}"

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


def standing_of(instance: Instance, state: State) -> Standing:
    return Standing(pulls=pulls(state, instance), retired=bool(instance.retired))


def shards_on(node: NodeId, state: State) -> dict[tuple[str, int, int], tuple[Instance, Shard]]:
    """What a node is to carry now, by instance, attempt and rank; failed attempts are over, and so are groups one of whose
    nodes is lost."""
    return {
        (instance.id, instance.attempt, shard.rank): (instance, shard)
        for instance in state.instances.values()
        if instance.status != "failed" and (len(instance.nodes) == 1 or is_whole(state, instance))
        for shard in instance.shards
        if shard.node == node
    }
