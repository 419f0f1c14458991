"""The owner of this API's requests: offers them, queues them, hands on their chunks, and notices what is lost."""

import asyncio
import random
from asyncio import Queue
from asyncio import Task as AioTask
from collections import Counter
from collections.abc import Generator
from contextlib import aclosing, contextmanager, suppress
from time import time

import msgspec
import structlog

from api.accounts import Accounts
from api.catalogue import LOADING_RETRY_S, Placement, hopeless, lost, ready_instances
from api.errors import ApiError, refused, unavailable
from api.request import InFlight
from api.settings import ApiSettings
from bus.bus import Bus
from bus.errors import BusAway, BusError, NoAnswer, NobodyThere, QueueFull
from bus.queue import Ticket
from schemas.chunks import Chunk, Frame, Started
from schemas.ids import InstanceId, ModelId, RequestId, new_api_id
from schemas.instance import Instance
from schemas.refused import Refused
from schemas.state import State
from schemas.task import Cancel, Task

log = structlog.get_logger()

_decode = msgspec.msgpack.Decoder(Frame).decode
_decode_chunk = msgspec.msgpack.Decoder(Chunk).decode
_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Requests:
    """All requests whose clients are connected here; one life of it is one branch of `troupe.out`."""

    def __init__(self, bus: Bus, settings: ApiSettings) -> None:
        self.api = new_api_id()
        self.accounts = Accounts(bus, self.api)
        self._bus = bus
        self._settings = settings
        self._own: dict[RequestId, InFlight] = {}
        self._running: Counter[InstanceId] = Counter()
        self._chores: Queue[InFlight] = Queue()
        self._puts: set[AioTask[Ticket]] = set()
        self._log = log.bind(api=self.api)
        self._bus_back_at = float("-inf")

    def __len__(self) -> int:
        return len(self._own)

    async def run(self) -> None:
        """Listen, watch and sweep until cancelled."""
        async with (
            self._bus.listening(self._bus.subjects.out_of(self.api), self._take),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._watch(), name="requests.watch")
            group.create_task(self._sweep(), name="requests.sweep")
            group.create_task(self._clean_up(), name="requests.clean_up")
            group.create_task(self.accounts.run(), name="requests.accounts")

    # A request's life

    @contextmanager
    def owned(self, request_id: RequestId, model: ModelId, n: int = 1) -> Generator[InFlight]:
        """A request of `n` sequences from its arrival until its client has all, or has gone."""
        request = InFlight(request_id, model, n)
        with self.accounts.keeping(request):
            if len(self._own) >= self._settings.max_requests:
                raise ApiError(
                    429, "Too many requests at once for this server.", code="busy", retry_after_s=1
                )
            self._own[request.id] = request
            try:
                yield request
            finally:
                self._close(request)

    async def dispatch(self, request: InFlight, task: Task) -> None:
        """Give the task to an instance that takes it at once, or leave it in the queue; raises `ApiError`."""
        request.account.dispatched(task)
        for instance in self._candidates(request.model):
            task = msgspec.structs.replace(task, attempt=request.attempt)
            if await self._offer(request, instance, task):
                return
        trouble = hopeless(self._bus.view.state, request.model)
        if trouble is not None:
            raise trouble
        await self._enqueue(request, msgspec.structs.replace(task, attempt=request.attempt))

    def _candidates(self, model: ModelId) -> list[Instance]:
        """Ready instances, the least busy first, as far as it is known here; equals in random order."""
        ready = ready_instances(self._bus.view.state, model)
        random.shuffle(ready)
        return sorted(ready, key=lambda instance: self._running[instance.id])

    async def _offer(self, request: InFlight, instance: Instance, task: Task) -> bool:
        request.sent = True
        self._count(request, instance.id)
        taken = await self._ask(request, instance.id, task)
        if not taken and request.placement is None:
            self._count(request, None)
        return taken

    async def _ask(self, request: InFlight, instance: InstanceId, task: Task) -> bool:
        try:
            answer = await self._bus.offer(instance, task, self._settings.offer_timeout_s)
        except NobodyThere:
            return False
        except (NoAnswer, msgspec.MsgspecError) as silence:
            if request.placement is not None:
                return True  # its first chunk was faster than its answer
            self._give_up_attempt(request, instance, str(silence))
            return False
        if isinstance(answer, Refused):
            if answer.code in ("bad_request", "too_large"):
                raise refused(answer)
            return False
        self._place(request, Placement(answer.instance, answer.attempt))
        return True

    def _count(self, request: InFlight, instance: InstanceId | None) -> None:
        """An offer counts from when it is made, so that a burst of requests spreads."""
        if request.counted is not None:
            self._running[request.counted] -= 1
            if self._running[request.counted] <= 0:
                del self._running[request.counted]
        if instance is not None:
            self._running[instance] += 1
        request.counted = instance

    def _started(self, request: InFlight, chunk: Started) -> None:
        """Somebody took the task out of the queue, or says so before its answer to the offer is here."""
        request.account.cached_tokens = chunk.cached_tokens
        if request.placement is None:
            instance = self._bus.view.state.instances.get(chunk.instance)
            attempt = chunk.instance_attempt or (instance.attempt if instance else 0)
            self._place(request, Placement(chunk.instance, attempt))

    def _give_up_attempt(self, request: InFlight, instance: InstanceId, why: str) -> None:
        """It may have been taken: what comes of it no longer counts, and it is told so."""
        self._log.warning("offer.unanswered", request=request.id, instance=instance, reason=why)
        self._cancel(request.id, request.attempt)
        request.attempt += 1

    def _place(self, request: InFlight, placement: Placement) -> None:
        self._count(request, placement.instance)
        request.placement, request.ticket = placement, None
        request.account.placed(placement.instance, request.attempt)
        request.heard_at = asyncio.get_running_loop().time()
        failure = lost(self._bus.view.state, placement, known=False)
        if failure is not None:
            request.fail(failure)

    async def _enqueue(self, request: InFlight, task: Task) -> None:
        """The put outlives its client's patience: only with its ticket can it be taken back."""
        wait_s = self._settings.wait_deadline_s
        task = msgspec.structs.replace(task, deadline=time() + wait_s)
        put = asyncio.create_task(self._bus.queue.put(task, wait_s))
        self._puts.add(put)
        request.sent = True
        put.add_done_callback(lambda done: self._queued(request, done))
        try:
            await asyncio.shield(put)
        except QueueFull as full:
            raise ApiError(
                429, f"The cluster is busy: {full}.", code="busy", retry_after_s=LOADING_RETRY_S
            ) from full

    def _queued(self, request: InFlight, put: AioTask[Ticket]) -> None:
        self._puts.discard(put)
        if put.cancelled() or put.exception() is not None:
            return
        if request.placement is None:
            request.ticket = put.result()
        if request.closed:
            self._chores.put_nowait(request)

    def _close(self, request: InFlight) -> None:
        """Never waits: it runs while a client's task is being cancelled too."""
        request.closed = True
        del self._own[request.id]
        self._count(request, None)
        if request.ended is None and request.sent:
            self._cancel(request.id)
        if request.ticket is not None:
            self._chores.put_nowait(request)

    def stop(self, request: InFlight, index: int) -> None:
        """One sequence has said enough (a stop string, say): the runner ends it, and no more of it is handed out."""
        if not request.sequences[index].over:
            self._cancel(request.id, index=index)
        request.stop(index)

    def _cancel(self, request: RequestId, attempt: int = 0, index: int | None = None) -> None:
        cancel = Cancel(request=request, attempt=attempt, index=index)
        try:
            self._bus.post(self._bus.subjects.cancel(request), msgspec.json.encode(cancel))
        except BusAway as away:
            self._log.warning("cancel.lost", request=request, reason=str(away))

    # What comes in

    def _take(self, payload: bytes, subject: str) -> None:
        try:
            frame = _decode(payload)
        except _UNREADABLE as unreadable:
            self._note_garbage(subject, unreadable)
            frame = readable(payload)
        for chunk in frame:
            self._take_chunk(chunk, subject)

    def _take_chunk(self, chunk: Chunk, subject: str) -> None:
        request = self._own.get(chunk.request)
        if request is None:
            self._disown(chunk)
            return
        try:
            request.take(chunk)
        except ValueError as senseless:
            self._note_garbage(subject, senseless)
            return
        if isinstance(chunk, Started) and chunk.attempt == request.attempt:
            self._started(request, chunk)

    def _disown(self, chunk: Chunk) -> None:
        """Late chunks are harmless; only work that begins for nobody is stopped."""
        if isinstance(chunk, Started):
            self._cancel(chunk.request)

    def _note_garbage(self, subject: str, reason: Exception) -> None:
        self.accounts.garbage += 1
        if self.accounts.garbage == 1:
            self._log.warning("chunk.garbage", subject=subject, reason=str(reason))

    async def _watch(self) -> None:
        """End the requests whose instance is lost, or whose model nobody need wait for."""
        before = self._bus.view.state
        async with aclosing(self._bus.view.states()) as states:
            async for state in states:
                if _concerns_requests(before, state):
                    self._judge(before, state)
                before = state

    def _judge(self, before: State, state: State) -> None:
        for request in self._own.values():
            if request.placement is None:
                failure = hopeless(state, request.model)
            else:
                known = request.placement.instance in before.instances
                failure = lost(state, request.placement, known=known)
            if failure is not None:
                request.fail(failure)
            elif not request.sent:
                request.wake()

    async def _sweep(self) -> None:
        """One clock for the deadlines of all requests."""
        loop, lives = asyncio.get_running_loop(), self._bus.connection.lives
        while True:
            await asyncio.sleep(self._settings.sweep_s)
            now = loop.time()
            if lives != self._bus.connection.lives:
                lives, self._bus_back_at = self._bus.connection.lives, now
            for request in list(self._own.values()):
                self._check(request, now)

    def _check(self, request: InFlight, now: float) -> None:
        settings = self._settings
        if request.placement is not None and now > self._patience_ends(request):
            request.fail(_silent(now - request.heard_at))
        elif request.placement is None and now - request.opened_at > settings.wait_deadline_s:
            request.fail(_waited(request.model, settings.wait_deadline_s))
        elif now - request.spoken_at >= settings.keepalive_s:
            request.spoken_at = now
            request.remark(self._stage(request))

    def _patience_ends(self, request: InFlight) -> float:
        """Sooner for one that has not been heard since the bus came back."""
        ends = request.heard_at + self._settings.silence_deadline_s
        if request.heard_at < self._bus_back_at:
            ends = min(ends, self._bus_back_at + self._settings.bus_silence_s)
        return ends

    def _stage(self, request: InFlight) -> str:
        if request.placement is not None:
            return "working"
        return (
            "queued" if request.sent and ready_instances(self._bus.view.state, request.model) else "loading"
        )

    async def _clean_up(self) -> None:
        """Take tasks that nobody wants any more out of the queue."""
        while True:
            request = await self._chores.get()
            ticket, request.ticket = request.ticket, None
            if ticket is None:
                continue
            try:
                if not await self._bus.queue.remove(ticket):
                    self._cancel(request.id)
            except BusError as failure:
                self._log.warning("ticket.left", request=request.id, reason=str(failure))


def readable(payload: bytes) -> Frame:
    """Those chunks of a damaged frame, or of a newer runner's, that can be read."""
    frame: Frame = []
    with suppress(*_UNREADABLE):
        for raw in _split(payload):
            with suppress(*_UNREADABLE):
                frame.append(_decode_chunk(raw))
    return frame


def _concerns_requests(before: State, state: State) -> bool:
    """Tables are replaced when they change: progress of downloads, say, leaves these as they were."""
    return (
        state.instances is not before.instances
        or state.nodes is not before.nodes
        or state.models is not before.models
        or state.cards is not before.cards
    )


def _silent(after_s: float) -> ApiError:
    return ApiError(
        504, f"The answer broke off: nothing came for {after_s:.1f} s. Send the request again.", code="silent"
    )


def _waited(model: ModelId, after_s: float) -> ApiError:
    return unavailable(
        f"No instance of '{model}' had room within {after_s:g} s.", LOADING_RETRY_S, "wait_deadline"
    )
