"""The accounts of one API's requests: the open ones, the sums of the closed ones, and a record of each."""

from asyncio import CancelledError
from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import contextmanager

from api.accounts.account import Account, Stage
from api.accounts.spans import Spans
from api.accounts.tally import Tally
from api.errors import ApiError, from_exception
from api.requests.request import InFlight
from bus.bus import Bus
from bus.errors import BusError
from bus.tracing import Tracing
from schemas.audit import Audit, Outcome
from schemas.chunks import Timings
from schemas.ids import ApiId, ModelId, RequestId

NO_MODEL = ModelId("")
"""Where names are counted that no model has: a client that makes names up makes no series."""


class Accounts:
    """Kept by the owner of requests; read by `/metrics`."""

    def __init__(self, bus: Bus, api: ApiId, tracing: Tracing | None = None) -> None:
        self.open: dict[RequestId, InFlight] = {}
        self.tallies: defaultdict[ModelId, Tally] = defaultdict(Tally)
        self.refusals: Counter[str] = Counter()
        """What clients were told is their mistake, or too much, by code."""
        self.cancels = 0
        """Sent to runners: a client has left, a stop string was hit, an attempt was given up."""
        self.garbage = 0
        """Frames and chunks that could not be read, or made no sense."""
        self._bus = bus
        self._api = api
        self.spans = Spans(tracing or Tracing())

    async def run(self) -> None:
        """Have the records stored, until cancelled."""
        await self._bus.audits.run()

    @contextmanager
    def keeping(self, request: InFlight) -> Generator[None]:
        """From a request's arrival to its end, or to the error that leaves through here."""
        self.open[request.id] = request
        try:
            yield
        except BaseException as end:
            self._close(request, end)
            raise
        self._close(request, None)

    def counted_as(self, request: InFlight) -> ModelId:
        """The model whose sums it belongs to."""
        known = request.account.dispatched_at is not None or request.model in self._bus.view.state.models
        return request.model if known else NO_MODEL

    def sums(self) -> dict[ModelId, Tally]:
        """Of each model, the open requests as far as they have come."""
        coming: dict[ModelId, list[tuple[Account, int]]] = {model: [] for model in self.tallies}
        for request in self.open.values():
            coming.setdefault(self.counted_as(request), []).append((request.account, request.received))
        return {model: self.tallies.get(model, Tally()).with_open(some) for model, some in coming.items()}

    def stages(self) -> Counter[tuple[ModelId, Stage]]:
        """How many open requests are how far."""
        return Counter((self.counted_as(request), request.account.stage) for request in self.open.values())

    def refused(self, failure: Exception) -> None:
        """A client was told before its request was anybody's that it cannot be served as it is."""
        if isinstance(failure, ApiError) and failure.status < 500:
            self.refusals[failure.code or str(failure.status)] += 1

    def _close(self, request: InFlight, end: BaseException | None) -> None:
        del self.open[request.id]
        outcome, code = _outcome(request, end)
        audit = self._audit(request, outcome, code)
        self.spans.end(request.account, audit)
        self.tallies[self.counted_as(request)].add(request.account, audit)
        if outcome == "refused":
            self.refusals[code] += 1
        if outcome != "refused" or request.account.dispatched_at is not None:
            self._bus.audits.put(audit)

    def _audit(self, request: InFlight, outcome: Outcome, code: str) -> Audit:
        account, ended = request.account, request.ended
        timings = Timings() if ended is None else ended.timings
        return Audit(
            request=request.id,
            model=request.model,
            api=self._api,
            node=self._bus.node,
            outcome=outcome,
            code=code,
            endpoint=account.endpoint,
            user=account.user,
            metadata=account.metadata,
            asked_at=account.asked_at,
            lane=account.lane,
            instances=tuple(account.instances),
            attempts=request.attempt,
            prompt_tokens=account.prompt_tokens if ended is None else ended.usage.prompt_tokens,
            cached_tokens=account.cached_tokens if ended is None else ended.usage.cached_tokens,
            completion_tokens=request.received if ended is None else ended.usage.completion_tokens,
            waited_s=_exact(account.waited_s),
            queue_s=_exact(account.queue_s),
            first_token_s=_exact_if_any(account.first_token_s),
            inter_token_mean_s=_exact_if_any(account.pace.mean_s),
            inter_token_p50_s=_exact_if_any(account.pace.median_s),
            inter_token_max_s=_exact(account.pace.longest_s) if account.pace.count else None,
            duration_s=_exact(account.duration_s),
            engine_waited_s=_exact(timings.waited_s),
            prefill_s=_exact(timings.prefill_s),
            decode_s=_exact(timings.decode_s),
        )


def _exact(seconds: float) -> float:
    """To the microsecond: more digits say nothing, and read badly."""
    return round(seconds, 6)


def _exact_if_any(seconds: float | None) -> float | None:
    return None if seconds is None else _exact(seconds)


def _outcome(request: InFlight, end: BaseException | None) -> tuple[Outcome, str]:
    """How it ended, and the code of its error; a client that leaves a whole answer has not left early."""
    if request.ended is not None or request.stopped or end is None:
        return request.account.finish or _finish(request), ""
    if isinstance(end, CancelledError | GeneratorExit):
        return "client_left", ""
    if not isinstance(end, ApiError | BusError):
        return "failed", "internal_error"
    error = from_exception(end)
    code = error.code or str(error.status)
    if code == "cancelled":
        return "cancelled", code
    return ("refused" if error.status < 500 else "failed"), code


def _finish(request: InFlight) -> Outcome:
    """Of several sequences the first that was cut at its limit tells."""
    cut = any(each.reason == "length" and not each.stopped for each in request.sequences)
    return "length" if cut else "stop"
