"""The runner: takes offered and queued tasks to its engine, and sends what the engine makes of them."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import msgspec
import structlog

from actors.engine.factory import make_engine, make_rank
from actors.engine.lockstep import Leading
from actors.engine.port import Engine
from actors.runner.announcer import Announcer
from actors.runner.engine_thread import EngineThread
from actors.runner.gathering import gathered
from actors.runner.group_life import in_group
from actors.runner.job import RunnerJob, Standing
from actors.runner.open_tasks import OpenTask, OpenTasks
from actors.runner.outbox import Outbox
from actors.runner.owners import Owners
from actors.runner.pulses import send_pulses
from actors.runner.rounds import RoundsOut
from actors.runner.spans import Spans
from actors.runner.wanted import wanted
from bus.bus import Bus
from bus.errors import BlobMissing, BusError
from bus.queue import Pulled
from bus.tracing import Tracing
from schemas.chunks import Chunk, Failed, FailureCode, Started
from schemas.events import RunnerReported
from schemas.group import Seat
from schemas.instance import RunnerStatus
from schemas.refused import Refused
from schemas.task import LANES, Accepted, Cancel, FindTasks, Lane, OfferAnswer, Task, TasksFound
from schemas.unreadable import UNREADABLE
from schemas.version import version_of

log = structlog.get_logger()

CONNECT_S = 30.0
"""How long the bus may be away while a runner starts; seconds."""
OWN_UP_S = 1.0
"""How long a task out of the queue waits until the bus has heard who took it; seconds."""
Stage = tuple[RunnerStatus, int]


class Runner:
    """One life of one shard; `run` until it fails or is cancelled."""

    def __init__(self, job: RunnerJob, bus: Bus, tracing: Tracing | None = None) -> None:
        self._job = job
        self._bus = bus
        self._log = log.bind(node=job.node, instance=job.instance, attempt=job.attempt)
        self._tasks = OpenTasks()
        self._stages: asyncio.Queue[Stage] = asyncio.Queue()
        self._announcer = Announcer(bus, job.instance, job.attempt)
        self._engine = EngineThread(self._make_engine, self._come_to, self._send, self._announcer.note)
        spans = Spans(tracing or Tracing(), job.instance)
        self._outbox = Outbox(bus, self._tasks, self._engine.vitals, spans)
        self._cancels = msgspec.json.Decoder(Cancel)
        self._children: asyncio.TaskGroup | None = None
        self._rounds = RoundsOut(bus, job.instance, job.attempt)
        self._seat: Seat | None = None
        self._loop = asyncio.get_running_loop()
        self._version = version_of(job.spec)
        self._pulling = asyncio.Event()
        self.stand(job.standing)

    def stand(self, standing: Standing) -> None:
        """What it may take from here on."""
        self._engine.vitals.retired = standing.retired
        if standing.pulls:
            self._pulling.set()
        else:
            self._pulling.clear()

    async def run(self) -> None:
        """Raises what ended the engine: EngineLoadError, or what nobody foresaw."""
        subjects = self._bus.subjects
        try:
            async with (
                self._bus.serving(
                    subjects.run(self._job.instance), Task | FindTasks, self._asked, packed=True
                ),
                self._bus.listening(subjects.cancels, self._cancelled),
                asyncio.TaskGroup() as self._children,
            ):
                self._children.create_task(self._live())
                self._children.create_task(self._report())
                self._children.create_task(
                    send_pulses(self._bus, self._job, self._engine.vitals, self._tasks.__len__)
                )
                self._children.create_task(self._pull(LANES, self._tasks.until_room))
                self._children.create_task(self._pull(("high",), self._tasks.until_spare))
                self._children.create_task(self._announcer.run())
                self._children.create_task(Owners(self._bus, self._tasks, self._abandon).run())
        except asyncio.CancelledError:
            self._part()
            raise
        finally:
            self._engine.leave()

    async def _live(self) -> None:
        """Alone, or as rank 0 of a group: then all ranks must be there before the engine can be made."""
        if not self._job.in_group:
            return await self._engine.start()
        async with (
            self._rounds.serving(),
            gathered(self._bus, self._job) as self._seat,
            asyncio.TaskGroup() as beside,
        ):
            watching = beside.create_task(self._rounds.watch())
            await in_group(self._engine.start(), self._note_broken)
            watching.cancel()

    def _note_broken(self) -> None:
        """No step can be done any more: nothing is taken up; owners will hear from the state which rank fell, and how."""
        self._tasks.make_room(0)
        for task in self._tasks.all():
            self._tasks.close(task.request, task.attempt)

    def _part(self) -> None:
        """It was told to leave: owners need not wait until somebody notices to send their requests elsewhere."""
        for task in self._tasks.all():
            self._fail(task, "runner_lost", "its runner was told to leave")

    def _make_engine(self) -> Engine:
        if self._seat is None:
            return make_engine(wanted(self._job))
        return Leading(make_rank(wanted(self._job, self._seat)), self._tell)

    def _tell(self, told: bytes) -> None:
        self._loop.call_soon_threadsafe(self._rounds.send, told)

    def _come_to(self, status: RunnerStatus, slots: int) -> None:
        if status == "ready":
            gc.collect()
            gc.freeze()  # what is here now stays: later collections need not look at it
            self._tasks.make_room(slots, self._engine.room)
        self._stages.put_nowait((status, slots))

    def _send(self, chunks: list[Chunk]) -> None:
        self._outbox.send(chunks)

    async def _report(self) -> None:
        await self._record("starting", 0)
        while True:
            await self._record(*await self._stages.get())

    async def _record(self, status: RunnerStatus, slots: int) -> None:
        job = self._job
        self._log.info("runner.status", status=status, slots=slots)
        await self._bus.log.record(
            RunnerReported(
                instance=job.instance,
                node=job.node,
                attempt=job.attempt,
                status=status,
                rank=job.rank,
                slots=slots,
                reason=self._engine.vitals.gauges.draft_lost,
            )
        )

    async def _asked(self, message: Task | FindTasks) -> OfferAnswer | TasksFound:
        if isinstance(message, Task):
            return await self.offered(message)
        return TasksFound(attempts=tuple(each for each in message.attempts if self._tasks.find(*each)))

    async def offered(self, task: Task) -> OfferAnswer:
        """Accepted while there is room; the same attempt again is accepted again, and not run twice."""
        job = self._job
        if task.model != job.spec.id:
            return Refused("not_found", f"instance {job.instance} serves {job.spec.id}, not {task.model}")
        if self._is_foreign(task):
            return Refused("conflict", f"instance {job.instance} serves {job.spec.source}, another version")
        if not self._tasks.knows(task):
            if self._engine.vitals.retired and not task.made:
                return Refused("unavailable", f"instance {job.instance} is retired")
            self._give_up_others(task)
            if not self._tasks.has_room_for(task):
                return Refused("busy", f"{self._tasks.use} of instance {job.instance} are in use")
            self._take(task)
        return Accepted(instance=job.instance, node=job.node, attempt=job.attempt)

    def _is_foreign(self, task: Task) -> bool:
        """It is for another version of the model: other weights would go on with its answer."""
        return task.version not in ("", self._version)

    async def _pull(self, lanes: Sequence[Lane], until_room: Callable[[], Awaitable[None]]) -> None:
        """From these lanes of the work queue, while a slot is free for them; a long loss of it is told once."""
        told = ""
        while True:
            try:
                async with self._bus.queue.pulls(self._job.spec.id) as pulls:
                    told = ""
                    while True:
                        await self._pulling.wait()
                        await until_room()
                        await self._take_pulled(await pulls.next(lanes))
            except BusError as error:
                if told != str(error):
                    self._log.warning("queue.away", reason=str(error))
                told = str(error)
                await asyncio.sleep(0.2)
                await self._bus.until_connected()

    async def _take_pulled(self, pulled: Pulled) -> None:
        """What has no room here is somebody else's; the next one would overtake it, and so waits too."""
        task = pulled.task
        if self._tasks.knows(task):
            await pulled.take()
            return
        self._give_up_others(task)
        if not self._pulling.is_set():  # it was asked for before that changed
            await pulled.give_back()
        elif self._is_foreign(task):
            await pulled.take()
            self._tasks.take(task)
            self._fail(task, "unavailable", f"it is for another version of {task.model}")
        elif self._tasks.has_room_for(task):
            await pulled.take()
            self._tasks.take(task)
            await self._own_up(task)
            self._begin(task)
        else:
            freed = self._tasks.freed
            await pulled.give_back()
            await freed.wait()

    async def _own_up(self, task: Task) -> None:
        """Its owner knows who has it before the engine does: what ends a runner at once is to be known as that."""
        job = self._job
        begun = Started(task.request, task.attempt, job.instance, job.node, job.attempt)
        with suppress(BusError):  # then it hears it from the engine
            self._bus.post(self._bus.subjects.out(task.api, task.request), msgspec.msgpack.encode([begun]))
            await self._bus.answers(OWN_UP_S)

    def _give_up_others(self, task: Task) -> None:
        """The owner has moved on to this attempt: no chunk of another one is wanted."""
        for other in self._tasks.of(task.request):
            self._tasks.close(task.request, other.task.attempt)
            self._engine.cancel(task.request, other.task.attempt)

    def _take(self, task: Task) -> None:
        self._tasks.take(task)
        self._begin(task)

    def _begin(self, task: Task) -> None:
        if task.deadline and task.deadline < time.time():
            self._fail(task, "deadline", "nobody waits for this request any more: its deadline has passed")
        elif task.payload:
            assert self._children is not None
            self._children.create_task(self._fetch(task))
        else:
            self._add(task)

    async def _fetch(self, task: Task) -> None:
        """The prompt was too large for a message."""
        try:
            prompt = await self._bus.payloads.get(task.payload)
        except BlobMissing:
            self._fail(task, "unavailable", f"the prompt is not there any more: {task.payload}")
        except BusError as failure:
            self._fail(task, "unavailable", f"the prompt cannot be read: {failure}")
        else:
            self._add(msgspec.structs.replace(task, prompt=prompt, payload=""))

    def _add(self, task: Task) -> None:
        """Its owner may have moved on, or cancelled, since it was taken."""
        still_open = self._tasks.find(task.request, task.attempt)
        if still_open is not None:
            self._engine.add(task)
            for index in still_open.cancels:
                self._engine.cancel(task.request, task.attempt, index)

    def _fail(self, task: Task, code: FailureCode, reason: str) -> None:
        self._send([Failed(task.request, task.attempt, code, reason)])

    def _cancelled(self, payload: bytes, _subject: str) -> None:
        try:
            cancel = self._cancels.decode(payload)
        except UNREADABLE as garbage:
            self._bus.note_garbage(self._bus.subjects.cancels, garbage)
            return
        for open_task in self._tasks.of(cancel.request):
            if cancel.attempt in (0, open_task.task.attempt):
                open_task.cancels.append(cancel.index)
                self._engine.cancel(cancel.request, open_task.task.attempt, cancel.index)

    def _abandon(self, open_task: OpenTask) -> None:
        """Should its owner come back after all, it has the rest made elsewhere."""
        task = open_task.task
        self._fail(task, "runner_lost", "its owner was gone from the bus for too long")
        self._engine.cancel(task.request, task.attempt)


async def connect(job: RunnerJob) -> Bus:
    """The runner's own connection; raises BusAway when there is no bus."""
    return await Bus.connect(
        job.nats_url, job.cluster, f"runner-{job.instance}", job.node, deadline_s=CONNECT_S
    )
