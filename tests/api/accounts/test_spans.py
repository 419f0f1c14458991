"""A request's spans: beneath the client's, above the runner's, and none at all for nobody."""

import sys
from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from actors.runner.open_tasks import OpenTask
from actors.runner.spans import Spans
from bus.bus import Bus
from bus.tracing import Tracing, TracingUnusable
from schemas.chunks import Ended, Failed, Timings, Usage
from schemas.ids import ApiId, InstanceId, ModelId, RequestId
from schemas.task import Sampling, Task
from tests.api.scrape import until
from tests.api.stage import MODEL, Stage, chat, request_of, says, staged

PATH = "/v1/chat/completions"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider)


@pytest.fixture
async def stage(bus: Bus, tracing: Tracing) -> AsyncIterator[Stage]:
    async with staged(bus, tracing) as stage:
        yield stage


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def span_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


def parent_id(span: ReadableSpan) -> str:
    return "" if span.parent is None else f"{span.parent.span_id:016x}"


async def test_a_request_is_part_of_its_clients_trace_and_the_task_of_the_requests(
    stage: Stage, exporter: InMemorySpanExporter
) -> None:
    async with stage.actor(says("hello there")) as actor:
        response = await stage.http.post(PATH, json=chat(), headers={"traceparent": PARENT})
        (task,) = actor.tasks
    await until(stage, "troupe_requests_total", 1, model=MODEL)
    spans = by_name(exporter)
    request = spans["chat.completions"]
    assert request.context is not None and f"{request.context.trace_id:032x}" == TRACE
    assert (parent_id(request), request.kind) == (SPAN, SpanKind.SERVER)
    assert task.trace == f"00-{TRACE}-{span_id(request)}-01"
    assert parent_id(spans["wait"]) == parent_id(spans["queue"]) == span_id(request)
    assert spans["wait"].end_time == pytest.approx(spans["queue"].start_time, abs=1000)
    assert request.attributes is not None
    assert request.attributes["gen_ai.response.id"] == request_of(response)
    assert request.attributes["gen_ai.usage.output_tokens"] == response.json()["usage"]["completion_tokens"]
    assert request.status.status_code is StatusCode.UNSET


async def test_a_request_without_a_trace_begins_one_and_says_why_it_failed(
    bus: Bus, tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    async with staged(bus, tracing, wait_deadline_s=0.2) as stage:
        await stage.http.post(PATH, json=chat())
    request = by_name(exporter)["chat.completions"]
    assert request.parent is None
    assert (request.status.status_code, request.status.description) == (StatusCode.ERROR, "wait_deadline")


async def test_without_a_collector_the_clients_trace_is_handed_on(bus: Bus) -> None:
    async with staged(bus) as stage, stage.actor(says("hello")) as actor:
        await stage.http.post(PATH, json=chat(), headers={"traceparent": PARENT})
        await stage.http.post(PATH, json=chat())
        await stage.http.post(PATH, json=chat(), headers={"traceparent": "x" * 5000})
    assert [task.trace for task in actor.tasks] == [PARENT, "", ""]


def open_task(trace: str) -> OpenTask:
    task = Task(
        request=RequestId("r"),
        attempt=1,
        api=ApiId("a"),
        model=ModelId("m"),
        prompt=b"",
        max_tokens=1,
        sampling=Sampling(),
        trace=trace,
    )
    return OpenTask(task)


def test_a_runner_tells_where_an_attempts_time_went(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    spans = Spans(tracing, InstanceId("i1"))
    spans.tell(open_task(PARENT), Ended(RequestId("r"), 1, Usage(1, 1), Timings(0.5, 2.0, 1.0)))
    told = by_name(exporter)
    assert parent_id(told["run"]) == SPAN
    assert parent_id(told["prefill"]) == parent_id(told["decode"]) == span_id(told["run"])
    for name, seconds in (("prefill", 2.0), ("decode", 1.0)):
        begun, ended = told[name].start_time, told[name].end_time
        assert begun is not None and ended is not None
        assert (ended - begun) / 1e9 == pytest.approx(seconds)
    assert told["prefill"].end_time == told["decode"].start_time


def test_a_runner_tells_of_a_failure_and_nothing_of_what_nobody_traces(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    spans = Spans(tracing, InstanceId("i1"))
    spans.tell(open_task(""), Failed(RequestId("r"), 1, "engine_failed", "why"))
    assert by_name(exporter) == {}
    spans.tell(open_task(PARENT), Failed(RequestId("r"), 1, "engine_failed", "why"))
    (told,) = exporter.get_finished_spans()
    assert told.attributes is not None and told.attributes["error.type"] == "engine_failed"


def test_without_the_library_a_node_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(TracingUnusable, match=r"pip install 'troupe\[otel\]'"):
        Tracing.towards("http://collector:4318", "troupe", "n1")
    assert Tracing.towards("", "troupe", "n1").begin("x", "", 0.0) is None
