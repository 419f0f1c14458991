"""Everything around chats: errors in one shape, models, health, the cluster's routes, the server itself."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import msgspec
import openai
import pytest

from api.schema import openapi
from api.server import AddressUnusable, Api, PortTaken
from api.settings import ApiSettings
from bus.bus import Bus
from schemas.commands import Done, LoadModel, MasterCommand, UnloadModel
from schemas.refused import Refused
from schemas.state import State
from tests.api.stage import MODEL, NODE, Stage, chat, events_of, request_of, says, staged

PATH = "/v1/chat/completions"


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus, max_body_bytes=20_000) as stage:
        yield stage


def error(response: httpx.Response) -> dict[str, object]:
    shown = response.json()["error"]
    assert set(shown) == {"message", "type", "param", "code"}
    return shown


# Errors


async def test_errors_have_one_shape(stage: Stage) -> None:
    post = stage.http.post
    for response, status, code in (
        (await stage.http.get("/nowhere"), 404, "not_found"),
        (await stage.http.get("/v1/models/nothing/at/all"), 404, "model_not_found"),
        (await stage.http.get(PATH), 405, "method_not_allowed"),
        (await stage.http.delete("/v1/models"), 405, "method_not_allowed"),
        (await post(PATH, content=b"{"), 400, "invalid_json"),
        (await post(PATH, content=b""), 400, "invalid_json"),
        (await post(PATH, json=chat("x" * 30_000)), 413, "too_large"),
        (await post(PATH, json=chat(store=True)), 400, "unsupported_parameter"),
        (await post(PATH, json=chat(model=5)), 400, "invalid_type"),
        (await post("/cluster/models", json={"id": "a"}), 400, "missing_required_parameter"),
    ):
        assert response.status_code == status, response.text
        assert error(response)["code"] == code
        assert request_of(response)
    assert error(await post(PATH, json=chat(store=True)))["param"] == "store"
    assert (await stage.http.get(PATH)).headers["allow"] == "POST, OPTIONS"
    assert "20000" in str(error(await post(PATH, json=chat("x" * 30_000)))["message"])


async def test_a_body_without_a_length_is_limited_too(stage: Stage) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 1000

    response = await stage.http.post(PATH, content=endless())
    assert response.status_code == 413


async def test_the_sdk_names_the_parameter(stage: Stage) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await stage.openai.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "x"}], store=True
        )
    assert caught.value.param == "store"


# Models, health


async def test_models(stage: Stage) -> None:
    assert [model.id async for model in stage.openai.models.list()] == [MODEL]
    assert (await stage.openai.models.retrieve(MODEL)).created == 0
    await stage.place("i1")
    assert (await stage.openai.models.retrieve(MODEL)).created > 0
    with pytest.raises(openai.NotFoundError, match="org/parrot"):
        await stage.openai.models.retrieve("org/carrot")


async def test_health(stage: Stage) -> None:
    assert (await stage.http.get("/health/live")).json() == {"status": "live", "waits_for": []}
    assert (await stage.http.get("/health/ready")).status_code == 200
    await stage.lose_node()
    response = await stage.http.get("/health/ready")
    assert response.status_code == 503
    assert "n1 was lost" in response.json()["waits_for"][0]


# The cluster


async def test_state(stage: Stage) -> None:
    response = await stage.http.get("/cluster/state")
    assert msgspec.json.decode(response.content, type=State) == stage.bus.view.state


async def test_events(stage: Stage) -> None:
    response = await stage.http.get("/cluster/events", params={"follow": "false"})
    kinds = [part.splitlines()[1] for part in events_of(response.text)]
    assert kinds[:3] == ["event: NodeJoined", "event: LeaderElected", "event: ModelDesired"]
    again = await stage.http.get(
        "/cluster/events", params={"follow": "false"}, headers={"Last-Event-ID": str(len(kinds) - 1)}
    )
    (last,) = events_of(again.text)
    number, _kind, data = last.splitlines()
    assert number == f"id: {len(kinds)}"
    assert json.loads(data.removeprefix("data: "))["seq"] == len(kinds)


async def test_events_are_followed(stage: Stage) -> None:
    after = stage.bus.view.state.seq
    async with stage.http.stream("GET", "/cluster/events", params={"after": after}) as response:
        lines = response.aiter_lines()
        assert await anext(lines) == ": following"
        await stage.place("i1")
        seen = [line async for line in _until(lines, "RunnerReported")]
    assert f"id: {after + 1}" in seen
    assert "event: InstancePlaced" in seen


async def _until(lines: AsyncIterator[str], text: str) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        if text in line:
            return


@pytest.mark.parametrize("query", [{"after": "-1"}, {"after": "x"}, {"follow": "maybe"}, {"folow": "true"}])
async def test_events_refuse_what_they_do_not_know(stage: Stage, query: dict[str, str]) -> None:
    response = await stage.http.get("/cluster/events", params=query)
    assert (response.status_code, error(response)["param"]) == (400, next(iter(query)))


async def test_models_are_loaded_and_unloaded_by_commands(stage: Stage) -> None:
    orders: list[MasterCommand] = []

    async def master(order: MasterCommand) -> Done | Refused:
        orders.append(order)
        return Refused("conflict", "no room") if getattr(order, "model", "") == MODEL else Done(seq=7)

    wish = {"id": "llama", "source": "hf:org/llama", "replicas": 2}
    async with stage.bus.serving(stage.bus.subjects.master, MasterCommand, master):
        loaded = await stage.http.post("/cluster/models", json=wish)
        conflict = await stage.http.delete(f"/cluster/models/{MODEL}")
    assert (loaded.status_code, loaded.json()["seq"]) == (202, 7)
    assert (conflict.status_code, error(conflict)["message"]) == (409, "no room")
    first, second = orders
    assert isinstance(first, LoadModel)
    assert (first.spec.id, first.spec.replicas) == ("llama", 2)
    assert isinstance(second, UnloadModel)


async def test_wishes_are_checked(stage: Stage) -> None:
    wish = {"id": "llama", "source": "hf:org/llama"}
    for extra, param in (
        ({"replica": 2}, "replica"),
        ({"replicas": -1}, "replicas"),
        ({"engine": "cuda"}, "engine"),
        ({"simulated": {"speed": 1}}, "simulated.speed"),
    ):
        response = await stage.http.post("/cluster/models", json=wish | extra)
        assert (response.status_code, error(response)["param"]) == (400, param)
    assert (await stage.http.delete("/cluster/models/nothing")).status_code == 404
    no_leader = await stage.http.post("/cluster/models", json=wish)
    assert (no_leader.status_code, error(no_leader)["code"]) == (503, "no_leader")
    assert "retry-after" in no_leader.headers


async def test_wished_models_are_shown_with_their_progress(stage: Stage) -> None:
    await stage.place("i1", "loading")
    (shown,) = (await stage.http.get("/cluster/models")).json()
    assert shown == (await stage.http.get(f"/cluster/models/{MODEL}")).json()
    assert (shown["spec"]["id"], shown["instances"][0]["status"]) == (MODEL, "loading")


# The document


async def test_the_document_names_every_route(stage: Stage, bus: Bus) -> None:
    from api.app import create_app
    from api.context import Context

    context = Context(bus, ApiSettings())
    routes = {
        (route.path.replace("{name:path}", "{name}"), method.lower())
        for route in create_app(context).routes
        for method in route.methods  # type: ignore[union-attr]  # all are HTTP routes
        if method != "OPTIONS"
    }
    context.close()
    shown = (await stage.http.get("/schema")).json()
    assert {(path, method) for path, methods in shown["paths"].items() for method in methods} == routes


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = openapi()
    names = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
    assert document["components"]["schemas"]["ChatRequest"]["properties"]["store"]["enum"] == [None, False]


# The server


async def test_a_taken_port_is_named(bus: Bus) -> None:
    first = Api(bus, NODE, ApiSettings(port=0))
    assert first.bind() == first.url == f"http://127.0.0.1:{first.port}"
    with pytest.raises(PortTaken, match=rf"port {first.port} on 127.0.0.1 .*--api-port"):
        Api(bus, NODE, ApiSettings(port=first.port)).bind()
    first.close()


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
async def test_a_host_that_is_not_here_is_named(bus: Bus, host: str) -> None:
    with pytest.raises(AddressUnusable, match=f"{host}:8000 .*--api-host"):
        Api(bus, NODE, ApiSettings(host=host)).bind()


async def test_a_clean_stop_lets_answers_end_and_frees_the_port(bus: Bus) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async with staged(bus, stop_grace_s=5.0) as stage:

        async def play(actor, task) -> None:  # noqa: ANN001
            begun.set()
            await go_on.wait()
            await says("bye")(actor, task)

        async with stage.actor(play):
            api = Api(bus, NODE, ApiSettings(port=0, stop_grace_s=5.0))
            running = asyncio.create_task(api.run())
            await api.serving.wait()
            async with httpx.AsyncClient(base_url=api.url) as client:
                asking = asyncio.create_task(client.post(PATH, json=chat()))
                await begun.wait()
                running.cancel()
                go_on.set()
                assert (await asking).json()["choices"][0]["message"]["content"] == "bye"
            await asyncio.wait((running,))
            assert running.cancelled()
            again = Api(bus, NODE, ApiSettings(port=api.port))
            again.bind()
            again.close()
