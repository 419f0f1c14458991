"""What the API says of placing: previews that the leader makes, and models that have no place."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus.bus import Bus
from schemas.commands import MasterMessage, PreviewModel
from schemas.events import ModelUnplaced
from schemas.plan import Burden, Plan, Previews, RefusedPlan
from tests.api.stage import MODEL, NODE, Stage, chat, says, staged

PATH = "/v1/chat/completions"
TOO_LARGE = ModelUnplaced(model=MODEL, reason="n1 needs 9 bytes of memory and has 2 left", missing_bytes=7)


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus, command_timeout_s=1.0) as stage:
        yield stage


async def test_previews_are_the_leaders(stage: Stage) -> None:
    plan = Plan(
        split="whole",
        parts=(Burden(node=NODE, memory_bytes=5, free_bytes=8, fetch_bytes=3),),
        tokens_s=12.5,
        full_tokens_s=100.0,
        ttft_s=0.5,
    )
    refused = RefusedPlan(split="tensor", reason="one node is none too many", missing_bytes=7)

    async def master(question: Any) -> Previews:
        assert question == PreviewModel(model=MODEL)
        return Previews(model=MODEL, plans=(plan,), refused=(refused,))

    async with stage.bus.serving(stage.bus.subjects.master, MasterMessage, master):
        shown = (await stage.http.get("/cluster/previews", params={"model": MODEL})).json()
    assert (shown["plans"][0]["tokens_s"], shown["plans"][0]["parts"][0]["fetch_bytes"]) == (12.5, 3)
    assert (shown["refused"][0]["reason"], shown["refused"][0]["missing_bytes"]) == (refused.reason, 7)


@pytest.mark.parametrize(
    ("parameters", "status", "said"),
    [
        ({}, 400, "'model' is missing"),
        ({"model": "org/parot"}, 404, "Did you mean 'org/parrot'?"),
        ({"model": MODEL, "nodes": "2"}, 400, "Unknown parameter: 'nodes'"),
        ({"model": MODEL}, 503, "no leader"),
    ],
)
async def test_questions_that_have_no_answer(
    stage: Stage, parameters: dict[str, str], status: int, said: str
) -> None:
    response = await stage.http.get("/cluster/previews", params=parameters)
    assert (response.status_code, said in response.text) == (status, True), response.text


async def test_a_fresh_request_for_a_model_without_a_place_is_answered_at_once(stage: Stage) -> None:
    await stage.decide(TOO_LARGE)
    for stream in (False, True):
        response = await stage.http.post(PATH, json=chat(stream=stream))
        assert response.status_code == 503, response.text
        assert response.json()["error"]["code"] == "no_place"
        assert "n1 needs 9 bytes of memory and has 2 left. 7 bytes of memory are missing." in response.text
        assert "retry-after" in response.headers
    shown = (await stage.http.get(f"/cluster/models/{MODEL}")).json()
    assert (shown["unplaced"], shown["missing_bytes"]) == (TOO_LARGE.reason, 7)


async def test_with_an_instance_elsewhere_it_is_served(stage: Stage) -> None:
    await stage.decide(TOO_LARGE)
    async with stage.actor(says("hello")):
        response = await stage.http.post(PATH, json=chat())
    assert response.status_code == 200, response.text


async def test_who_waits_for_nodes_that_may_come_back_is_served_when_they_do(stage: Stage) -> None:
    await stage.decide(ModelUnplaced(model=MODEL, reason="no node with a worker is there", absent=True))
    asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
    async with stage.bus.queue.pulls(MODEL) as pulls:
        pulled = await pulls.next()
        async with stage.actor(says("hello")) as actor:
            await pulled.take()
            actor.begin(pulled.task)
            assert (await asking).json()["choices"][0]["message"]["content"] == "hello"
