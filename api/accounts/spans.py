"""One span for each request, from its arrival to its end, and beneath it what it waited for."""

from api.accounts.account import Account
from bus.tracing import Tracing, context_of, end
from schemas.audit import Audit


class Spans:
    """Names and values are those of OpenTelemetry's conventions for generative models, where these have one."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def begin(self, account: Account) -> str:
        """What its task carries: the context of its span; else, when nobody is told, that of its client."""
        if account.span is None:
            name = account.endpoint or "request"
            account.span = self._tracing.begin(name, account.trace, account.asked_at, "server")
        return context_of(account.span) or account.trace

    def end(self, account: Account, audit: Audit) -> None:
        """Its span, and the ones beneath it that are the API's."""
        self.begin(account)
        if account.span is None:
            return
        context, began = context_of(account.span), audit.asked_at
        dispatched = began + audit.waited_s
        self._tracing.tell("wait", context, began, dispatched)
        if account.placed_at is not None:
            self._tracing.tell("queue", context, dispatched, dispatched + audit.queue_s)
        end(account.span, began + audit.duration_s, _values(audit), audit.code)


def _values(audit: Audit) -> dict[str, str | int | float | tuple[str, ...]]:
    return {
        "gen_ai.operation.name": audit.endpoint,
        "gen_ai.request.model": audit.model,
        "gen_ai.response.id": audit.request,
        "gen_ai.response.finish_reasons": (audit.outcome,),
        "gen_ai.usage.input_tokens": audit.prompt_tokens,
        "gen_ai.usage.output_tokens": audit.completion_tokens,
        "troupe.cached_tokens": audit.cached_tokens,
        "troupe.lane": audit.lane,
        "troupe.instances": tuple(audit.instances),
        "troupe.attempts": audit.attempts,
        "troupe.first_token_s": audit.first_token_s or 0.0,
    }
