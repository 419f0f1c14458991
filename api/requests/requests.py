"""The owner of this API's requests: whoever holds the client keeps what it takes to serve it, whatever is lost."""

import asyncio
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial

import msgspec

from api.accounts.accounts import Accounts
from api.catalogue import hopeless
from api.errors import ApiError
from api.requests.demand import Demand
from api.requests.drain import Drain
from api.requests.heritage import Heritage
from api.requests.inbox import Inbox
from api.requests.loss import LOST_RETRY_S, chunks_lost, failed, runner_lost
from api.requests.migrations import Migrations
from api.requests.missing import Missing
from api.requests.offers import Offers
from api.requests.patience import Patience
from api.requests.payloads import Payloads
from api.requests.recall import Recall
from api.requests.request import InFlight, cancelled
from api.requests.unheard import Unheard
from api.requests.versions import open_door, orphaned, outdated, stray
from api.requests.withdrawals import Withdrawals
from api.settings import ApiSettings
from bus.bus import Bus
from bus.tracing import Tracing
from schemas.chunks import Failed, Started
from schemas.commands import Done
from schemas.ids import ApiId, ModelId, RequestId, new_api_id
from schemas.model import ModelSpec
from schemas.presence import concerns_places
from schemas.state import State
from schemas.task import Cancel, Task


class Requests:
    """All requests whose clients are connected here; one life of it is one branch of `troupe.out`."""

    def __init__(self, bus: Bus, settings: ApiSettings, tracing: Tracing | None = None) -> None:
        self.api = new_api_id()
        self.accounts = Accounts(bus, self.api, tracing)
        self._bus = bus
        self._settings = settings
        self._own: dict[RequestId, InFlight] = {}
        self._drain = Drain()
        self._withdrawals = Withdrawals(bus, self.accounts)
        self.demand = Demand(bus, self._own)
        self._offers = Offers(bus, settings, self._drain, self._withdrawals, self.demand)
        self._payloads = Payloads(bus)
        self._heritage = Heritage(bus, self._withdrawals)
        self._migrations = Migrations(bus, self._own, self._offers, self._payloads)
        self._missing = Missing(bus, self._own, settings.unheard_s, on_lost=self._migrations.bury)
        self._inbox = Inbox(
            self._own,
            self.accounts,
            self._withdrawals,
            on_started=self._started,
            on_failed=self._failed,
            on_gap=lambda _: self._recall.ask(),
        )
        self._recall = Recall(
            bus,
            self.api,
            self._own,
            partial(self._inbox.take, again=True),
            on_lost=lambda request, what: self._migrations.lose(request, chunks_lost(what)),
        )
        self._unheard = Unheard(bus, self._own, settings.unheard_s, on_ended=self._recall.ask)
        self._patience = Patience(
            bus, settings, self._own, on_lost=self._migrations.lose, on_bus_back=self._recall.ask
        )

    def __len__(self) -> int:
        return len(self._own)

    async def run(self) -> None:
        """Listen, watch and sweep until cancelled."""
        async with (
            self._bus.listening(self._bus.subjects.out_of(self.api), self._inbox.take),
            self._bus.serving(self._bus.subjects.cancels, Cancel, self._cancelled),
            self._bus.listening(self._bus.subjects.owner(self.api), _live),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._watch(), name="requests.watch")
            group.create_task(self._migrations.run(), name="requests.migrations")
            group.create_task(self._missing.run(), name="requests.missing")
            group.create_task(self.demand.run(), name="requests.demand")
            group.create_task(self._recall.run(), name="requests.recall")
            group.create_task(self._unheard.run(), name="requests.unheard")
            group.create_task(self._patience.run(), name="requests.patience")
            group.create_task(self._offers.waiting.run(), name="requests.waiting")
            group.create_task(self._payloads.run(), name="requests.payloads")
            group.create_task(self._offers.router.run(), name="requests.router")
            group.create_task(self.accounts.run(), name="requests.accounts")

    @contextmanager
    def owned(self, request_id: RequestId, model: ModelId, n: int = 1) -> Generator[InFlight]:
        """A request of `n` sequences from its arrival until its client has all, or has gone."""
        request = InFlight(request_id, model, n)
        with self.accounts.keeping(request):
            if len(self._own) >= self._settings.max_requests:
                raise self._crowded(model)
            self._own[request.id] = request
            try:
                yield request
            finally:
                self._close(request)

    def _crowded(self, model: ModelId) -> ApiError:
        retry_after_s = self._drain.seconds_for(1, model, LOST_RETRY_S)
        message = "Too many requests at once for this server."
        return ApiError(429, message, code="busy", retry_after_s=retry_after_s)

    async def dispatch(
        self,
        request: InFlight,
        task: Task,
        earlier: Sequence[tuple[ApiId, RequestId]] = (),
        spec: ModelSpec | None = None,
    ) -> None:
        """Give the task to an instance that takes it at once, or leave it in the queue; raises `ApiError`.

        `earlier`: who has worked on the answer before, under which request; it goes on from there. `spec`: of the
        model that the task was made for.
        """
        request.spec = spec
        request.account.dispatched(task)
        request.task = msgspec.structs.replace(task, trace=self.accounts.spans.begin(request.account))
        if earlier:
            await self._heritage.claim(request, earlier)
            if request.over:
                return
        await self._payloads.lay_out(request)
        await self._offers.dispatch(request)
        self._migrations.judge_placed(request)

    def outdated(self, request: InFlight) -> bool:
        """Its task was made for a version that serves no more; if so it is taken back, and is to be made anew."""
        if request.placement is not None:
            return False
        if not outdated(request, open_door(self._bus.view.state, request.model)):
            return False
        self._offers.withdraw(request)
        request.recede()
        return True

    def stop(self, request: InFlight, index: int) -> None:
        """One sequence has said enough (a stop string, say): the runner ends it, and no more of it is handed out."""
        if not request.sequences[index].over:
            self._withdrawals.send(request.id, index=index)
        request.stop(index)

    async def _cancelled(self, order: Cancel) -> Done | None:
        """Somebody does not want a request any more; orders for one attempt or sequence are to its runner alone."""
        if order.attempt or order.index is not None:
            return None
        named = [request] if (request := self._own.get(order.request)) else []
        if order.whole:
            named = [each for each in self._own.values() if each.answer == order.request]
        for request in named:
            request.fail(cancelled())
        return Done() if named else None

    def _close(self, request: InFlight) -> None:
        """Never waits: it runs while a client's task is being cancelled too."""
        request.closed = True
        request.current.settled.set()
        del self._own[request.id]
        self._offers.withdraw(request)
        self._payloads.discard(request)
        if request.ended is not None or request.complete:
            self._drain.note(request.model)

    def _started(self, request: InFlight, chunk: Started) -> None:
        request.account.cached_tokens = chunk.cached_tokens
        self._offers.started(request, chunk)
        self._migrations.judge_placed(request)

    def _failed(self, request: InFlight, chunk: Failed) -> None:
        request.clocks_differ |= chunk.code == "deadline"
        self._migrations.lose(request, failed(chunk))

    async def _watch(self) -> None:
        """Move the requests whose runner is lost; end those whose model nobody need wait for."""
        before = self._bus.view.state
        async with aclosing(self._bus.view.states()) as states:
            async for state in states:
                if concerns_places(before, state):
                    self._missing.note(before, state)
                    self._migrations.judge(before, state)
                    self._look(state)
                before = state

    def _look(self, state: State) -> None:
        """Once for each model: thousands may wait for one of which there are many copies."""
        waiting: defaultdict[ModelId, list[InFlight]] = defaultdict(list)
        for request in self._own.values():
            if request.placement is None:
                waiting[request.model].append(request)
        for model, requests in waiting.items():
            trouble, door = hopeless(state, model), open_door(state, model)
            for request in requests:
                failure = trouble or orphaned(state, request, door)
                if failure is not None:
                    request.fail(failure)
                elif stray(request, door):
                    self._migrations.lose(request, runner_lost("nobody takes it out of the queue any more"))
                elif not request.current.sent or outdated(request, door):
                    request.wake()


def _live(_payload: bytes, _subject: str) -> None:
    """To listen is to live: runners need no answer."""
