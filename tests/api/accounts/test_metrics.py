"""`/metrics`: what is counted is shown, under the names that `docs/metrics.md` lists."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics

from bus.bus import Bus
from bus.server import Server
from schemas.events import DownloadReported
from schemas.ids import InstanceId
from schemas.node import Beat, Pulse
from tests.api.scrape import until, value
from tests.api.stage import MODEL, NODE, Stage, chat, ids_of, says, staged, stalls

PATH = "/v1/chat/completions"
DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


def documented() -> set[str]:
    """The first column of the tables."""
    return set(re.findall(r"^\| `(troupe_\w+)` \|", DOCUMENT.read_text(), re.MULTILINE))


async def test_the_document_lists_every_metric_and_no_other(stage: Stage) -> None:
    lines = (await stage.http.get("/metrics")).text.splitlines()
    shown = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    assert shown == documented()


async def test_a_request_is_counted_when_it_has_ended(stage: Stage) -> None:
    words = "the quick brown fox"
    count, prompt = len(ids_of(words)), 0
    async with stage.actor(says(words)) as actor:
        await stage.http.post(PATH, json=chat())
        prompt = len(actor.tasks[0].prompt) // 4
    ended = {"model": MODEL, "outcome": "stop", "code": ""}
    assert await value(stage, "troupe_requests_total", **ended) == 1
    assert await value(stage, "troupe_prompt_tokens_total", model=MODEL) == prompt
    assert await value(stage, "troupe_completion_tokens_total", model=MODEL) == count
    for name in ("time_to_first_token", "request_duration", "queue_time"):
        assert await value(stage, f"troupe_{name}_seconds_count", model=MODEL) == 1
        assert await value(stage, f"troupe_{name}_seconds_sum", model=MODEL) > 0
    assert await value(stage, "troupe_inter_token_seconds_count", model=MODEL) == count - 1
    assert await value(stage, "troupe_inter_token_seconds_bucket", model=MODEL, le="+Inf") == count - 1


async def test_an_open_request_is_seen_in_its_stage_with_the_tokens_it_has(stage: Stage) -> None:
    asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
    await until(stage, "troupe_requests_open", 1, model=MODEL, stage="queued")
    await until(stage, "troupe_queue_depth", 1, model=MODEL, lane="normal")
    asking.cancel()
    await until(stage, "troupe_requests_open", 0, model=MODEL, stage="queued")
    await until(stage, "troupe_queue_depth", 0, model=MODEL, lane="normal")
    async with stage.actor(stalls("hello there")):
        asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
        await until(stage, "troupe_requests_open", 1, model=MODEL, stage="decoding")
        count = len(ids_of("hello there"))
        assert await value(stage, "troupe_completion_tokens_total", model=MODEL) == count
        asking.cancel()
        await until(stage, "troupe_requests_total", 2, outcome="client_left")
    assert await value(stage, "troupe_cancels_total", model=MODEL, by="client") == 2


async def test_refusals_are_counted_by_code_and_made_up_models_make_no_series(stage: Stage) -> None:
    for number in range(3):
        assert (await stage.http.post(PATH, json=chat(model=f"made-up-{number}"))).status_code == 404
    assert (await stage.http.post(PATH, content=b"no JSON")).status_code == 400
    assert await value(stage, "troupe_refusals_total", code="model_not_found") == 3
    assert await value(stage, "troupe_refusals_total", code="invalid_json") == 1
    assert "made-up" not in (await stage.http.get("/metrics")).text
    assert await value(stage, "troupe_requests_total", model="", outcome="refused") == 3


async def test_what_runners_and_nodes_say_is_shown(stage: Stage) -> None:
    instance = await stage.place("i1")
    pulse = Pulse(
        instance=instance,
        attempt=1,
        steps=9,
        step_age_s=0.5,
        step_cpu_s=0.1,
        slowest_step_s=2.0,
        running=4,
        rows=3,
        cache_bytes=77,
    )
    beat = Beat(node=NODE, cpu_percent=25, memory_used_bytes=10, memory_free_bytes=20, tokens_s=7)
    await stage.bus.send(stage.bus.subjects.pulse(NODE, instance), pulse)
    await stage.bus.send_raw(stage.bus.subjects.pulse(NODE, InstanceId("i2")), b"garbage")
    await stage.bus.send(stage.bus.subjects.beat(NODE), beat)
    await until(stage, "troupe_node_tokens_per_second", 7, node=NODE)
    labels = {"model": MODEL, "node": NODE, "instance_id": instance}
    for name, wanted in (("batch_size", 3), ("runner_requests", 4), ("prefix_cache_bytes", 77)):
        assert await value(stage, f"troupe_{name}", **labels) == wanted
    assert await value(stage, "troupe_node_cpu_ratio", node=NODE) == 0.25
    assert await value(stage, "troupe_instances", model=MODEL, status="ready") == 1
    assert await value(stage, "troupe_process_resident_memory_bytes") > 1e6


async def test_downloads_say_how_far_they_are_and_where_from(stage: Stage) -> None:
    await stage.bus.log.record(
        DownloadReported(
            node=NODE,
            model=MODEL,
            source="hf:x",
            status="downloading",
            bytes_done=30,
            bytes_total=90,
            bytes_outside=10,
            bytes_peers=20,
        )
    )
    labels = {"model": MODEL, "node": NODE, "status": "downloading"}
    await until(stage, "troupe_download_here_bytes", 30, **labels)
    for name, wanted in (("wanted", 90), ("outside", 10), ("peers", 20)):
        assert await value(stage, f"troupe_download_{name}_bytes", **labels) == wanted


async def test_openmetrics_for_who_asks_for_it(stage: Stage) -> None:
    async with stage.actor(says("hello")):
        await stage.http.post(PATH, json=chat())
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    response = await stage.http.get("/metrics", headers=accept)
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics.text_string_to_metric_families(response.text)}
    assert {"troupe_requests", "troupe_requests_open", "troupe_inter_token_seconds"} <= names


async def test_while_the_bus_is_away(stage: Stage, nats_server: Server) -> None:
    assert await value(stage, "troupe_bus_connected") == 1
    await nats_server.stop()
    assert await value(stage, "troupe_bus_connected") == 0
    await nats_server.start()
    await stage.bus.until_connected()
    assert (
        await value(stage, "troupe_bus_connected"),
        await value(stage, "troupe_bus_reconnects_total"),
    ) == (1, 1)
