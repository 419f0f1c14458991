"""What Prometheus is told of this API's requests."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from api.accounts.account import STAGES
from api.accounts.accounts import Accounts
from api.accounts.durations import Durations
from api.accounts.tally import Tally
from bus.audits import Audits
from schemas.ids import ModelId

Sums = Mapping[ModelId, Tally]


def request_metrics(accounts: Accounts, audits: Audits) -> Iterator[Metric]:
    """Sums since this API began, and what is open now."""
    sums = accounts.sums()
    yield _open(accounts, sums)
    yield _ended(sums)
    yield _times("request_duration", "From arrival to end.", {m: t.duration for m, t in sums.items()})
    yield _times(
        "queue_time", "From the making of its task until it was taken.", {m: t.queue for m, t in sums.items()}
    )
    yield _times(
        "time_to_first_token", "From arrival to the first token.", {m: t.first_token for m, t in sums.items()}
    )
    yield _times(
        "inter_token", "Between two tokens of a sequence.", {m: t.inter_token for m, t in sums.items()}
    )
    yield _sum("prompt_tokens", "Of prompts.", {m: t.prompt_tokens for m, t in sums.items()})
    yield _sum(
        "cached_tokens", "Of prompts, not computed again.", {m: t.cached_tokens for m, t in sums.items()}
    )
    yield _sum("completion_tokens", "Of answers.", {m: t.completion_tokens for m, t in sums.items()})
    yield _sum("migrations", "Answers that went on elsewhere.", {m: t.migrations for m, t in sums.items()})
    yield _cancels(sums)
    yield from _single(accounts, audits)


def _open(accounts: Accounts, sums: Sums) -> Metric:
    """Every stage of a model that was ever asked for, so that a line falls to zero and does not end."""
    family = GaugeMetricFamily("troupe_requests_open", "Requests by stage.", labels=["model", "stage"])
    stages = accounts.stages()
    for model in sums:
        for stage in STAGES:
            family.add_metric([model, stage], stages[model, stage])
    return family


def _ended(sums: Sums) -> Metric:
    labels = ["model", "outcome", "code"]
    family = CounterMetricFamily("troupe_requests", "Requests that have ended.", labels=labels)
    for model, tally in sums.items():
        for (outcome, code), count in tally.ended.items():
            family.add_metric([model, outcome, code], count)
    return family


def _cancels(sums: Sums) -> Metric:
    family = CounterMetricFamily("troupe_cancels", "Answers cut short.", labels=["model", "by"])
    for model, tally in sums.items():
        for by, count in tally.cancels().items():
            family.add_metric([model, by], count)
    return family


def _times(name: str, what: str, by_model: Mapping[ModelId, Durations]) -> Metric:
    family = HistogramMetricFamily(f"troupe_{name}_seconds", what, labels=["model"])
    for model, durations in by_model.items():
        family.add_metric([model], durations.buckets(), durations.total_s)
    return family


def _sum(name: str, what: str, by_model: Mapping[ModelId, int]) -> Metric:
    family = CounterMetricFamily(f"troupe_{name}", what, labels=["model"])
    for model, count in by_model.items():
        family.add_metric([model], count)
    return family


def _single(accounts: Accounts, audits: Audits) -> Iterator[Metric]:
    refusals = CounterMetricFamily("troupe_refusals", "Requests that were refused.", labels=["code"])
    for code, count in accounts.refusals.items():
        refusals.add_metric([code], count)
    yield refusals
    yield CounterMetricFamily("troupe_cancels_sent", "Cancels that runners were sent.", accounts.cancels)
    yield CounterMetricFamily(
        "troupe_chunks_garbage", "Frames and chunks that made no sense.", accounts.garbage
    )
    yield CounterMetricFamily("troupe_audit_stored", "Records that the bus has stored.", audits.stored)
    yield CounterMetricFamily(
        "troupe_audit_dropped", "Records given up while the bus was away.", audits.dropped
    )
    yield GaugeMetricFamily("troupe_audit_waiting", "Records that wait for the bus.", len(audits))
