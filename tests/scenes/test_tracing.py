"""Spans of a real node and its runner reach a collector, in one trace."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
from openai import AsyncOpenAI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.nodes import StartNode

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Told(NamedTuple):
    """One span as it arrived."""

    service: str
    name: str
    trace: str
    span: str
    parent: str


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[str, asyncio.Queue[Told]]]:
    """A collector's address, and the spans that come."""
    heard: asyncio.Queue[Told] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split()[0])
        body = await reader.readexactly(length)
        for span in spans_of(gzip.decompress(body) if "content-encoding: gzip" in head else body):
            heard.put_nowait(span)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard


def spans_of(body: bytes) -> Iterator[Told]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        named = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                yield Told(named["service.name"], span.name, *ids)


async def test_from_the_client_to_the_engine(start_node: StartNode, monkeypatch: pytest.MonkeyPatch) -> None:
    async with collecting() as (endpoint, heard):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        node = await start_node("a")
        async with (
            AsyncOpenAI(base_url=node.openai_url, api_key="none") as client,
            asyncio.timeout(60),
        ):
            await client.chat.completions.create(
                model="guide",
                messages=[{"role": "user", "content": "What is 17 + 25?"}],
                extra_headers={"traceparent": f"00-{TRACE}-{SPAN}-01"},
            )
            told: dict[str, Told] = {}
            while len(told) < 6:
                span = await heard.get()
                told[span.name] = span
    assert set(told) == {"chat.completions", "wait", "queue", "run", "prefill", "decode"}
    assert {span.trace for span in told.values()} == {TRACE}
    request, run = told["chat.completions"], told["run"]
    assert request.parent == SPAN
    assert {told[name].parent for name in ("wait", "queue", "run")} == {request.span}
    assert {told[name].parent for name in ("prefill", "decode")} == {run.span}
    assert (request.service, run.service) == ("troupe", "troupe-runner")
