"""A runner that was started ahead of its job: it has imported everything, so that a model's next life begins at once."""

import asyncio

import structlog

from actors.runner.job import SPARE
from actors.worker.runner_process import RunnerProcess
from schemas.ids import NodeId

log = structlog.get_logger()

CALM_S = 2.0
"""No runner starts for so long before a spare is made: its imports take a core for half a second or more. A lower priority
would not do: the runner that it becomes could not take it back."""
LONGEST_CALM_S = 300.0
"""Spares that end by themselves are made more and more seldom."""


class Spare:
    """One waits on a node, unless `wanted` is false; `take` whenever a runner is to start."""

    def __init__(self, node: NodeId, *, wanted: bool = True, calm_s: float = CALM_S) -> None:
        self._wanted = wanted
        self._calm_s = calm_s
        self._log = log.bind(node=node)
        self.process: RunnerProcess | None = None
        """The one that waits, or is being made."""
        self._taken = asyncio.Event()
        self._calm = asyncio.Event()
        self._stirred = asyncio.Event()
        self.note(starting=False)

    def note(self, *, starting: bool) -> None:
        """Whether a runner of this node is starting now."""
        (self._stirred if starting else self._calm).set()
        (self._calm if starting else self._stirred).clear()

    async def take(self) -> RunnerProcess:
        """The spare; a process that has yet to begin where none waits. One that is only being made gives way."""
        self.note(starting=True)
        spare, self.process = self.process, None
        self._taken.set()
        if spare is not None and spare.is_waiting:
            self._log.debug("spare.taken", pid=spare.pid)
            return spare
        if spare is not None:
            spare.kill()
        return await RunnerProcess.start()

    async def run(self) -> None:
        """Make one whenever there is none; until cancelled."""
        calm_s = self._calm_s
        while self._wanted:
            await self._until_calm(calm_s)
            calm_s = self._calm_s if await self._life() else min(2 * calm_s, LONGEST_CALM_S)

    async def _until_calm(self, calm_s: float) -> None:
        while True:
            await self._calm.wait()
            try:
                async with asyncio.timeout(calm_s):
                    await self._stirred.wait()
            except TimeoutError:
                return

    async def _life(self) -> bool:
        """Of one spare, until it is taken or ends; returns whether it was taken."""
        self._taken.clear()
        try:
            process = self.process = await RunnerProcess.start(SPARE)
        except OSError as error:  # no room for one more process: those that serve go on
            self._log.warning("spare.missing", reason=str(error))
            return False
        self._log.debug("spare.started", pid=process.pid)
        ended = asyncio.create_task(process.ended())
        taken = asyncio.create_task(self._taken.wait())
        try:
            await asyncio.wait((ended, taken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            taken.cancel()
            if self.process is process:  # nobody has it: it has ended, or is to end
                self.process = None
                process.kill()
                await asyncio.wait((ended,))
            else:
                ended.cancel()
        if not self._taken.is_set():
            self._log.warning("spare.ended", reason=ended.result().reason)
        return self._taken.is_set()
