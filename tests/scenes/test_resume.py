"""Streams whose connection breaks, or whose node dies by kill -9, go on at any node: real engine, every word compared."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from bus.bus import Bus
from bus.server import Server
from schemas.ids import ModelId
from tests.api.resuming.tale import Event, Tale, events_in, up_to
from tests.models import TOOL_TEMPLATE, make_random_llama
from tests.nodes import StartNode, watching
from tests.scenes.test_tools import ASKED, NAMED, TOOLS, WEATHER

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USAGE = {"include_usage": True}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "weather", "schema": WEATHER}}
THINKS = {"chat_template_kwargs": {"enable_thinking": True}}
PENALTIES = {"frequency_penalty": 0.5, "repetition_penalty": 1.1, "logit_bias": {"70": 3}, "min_tokens": 9}
GRID: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"temperature": 0}),
    (CHAT, {"stream_options": USAGE}),
    (CHAT, {"temperature": 0.7, "seed": 3, "top_p": 0.9, "n": 3}),
    (CHAT, {"top_k": 40, "logprobs": True, "top_logprobs": 3, "n": 2}),
    (CHAT, {"stop": ["e", "q"], "ignore_eos": True, "min_p": 0.001}),
    (CHAT, PENALTIES),
    (CHAT, {"use_beam_search": True, "n": 2, "max_tokens": 12, "logprobs": True}),
    (CHAT, {"response_format": SCHEMA, "max_tokens": 300}),
    (CHAT, {"tools": TOOLS, "tool_choice": NAMED, "max_tokens": 300}),
    (CHAT, {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 300}),
    (CHAT, {"response_format": SCHEMA, "max_tokens": 300, **THINKS}),
    (TEXT, {"prompt": ["once upon", "a time"], "n": 2, "logprobs": 2}),
    (TEXT, {"prompt": "once", "echo": True, "stream_options": USAGE, "service_tier": "flex"}),
]


async def ask(client: httpx.AsyncClient, path: str, body: dict[str, Any], last: str = "") -> list[Event]:
    headers = {"last-event-id": last} if last else {}
    response = await client.post(path, json=body, headers=headers)
    assert response.status_code == 200, response.text
    return events_in(response.text)


def told(events: list[Event]) -> Tale:
    """What came of the cache may differ: the second time more of the prompt is in it."""
    tale = Tale(events)
    for usage in tale.usage:
        usage.pop("prompt_tokens_details")
    return tale


async def test_resumed_equals_whole(start_node: StartNode, tmp_path: Path) -> None:
    """Drawn with the seed of the id: what is kept is read, what is not kept is made again, and both are the same."""
    model = make_random_llama(tmp_path / "caller", template=TOOL_TEMPLATE)
    node, chance = await start_node("a", "--model", str(model)), Random(5)
    async with watching(node) as bus, httpx.AsyncClient(base_url=node.info.api_url, timeout=60) as client:
        name = (await client.get("/v1/models")).json()["data"][0]["id"]
        for path, manner in GRID:
            body: dict[str, Any] = {"model": name, "stream": True, "max_tokens": 60, **manner}
            body |= {"messages": ASKED} if path is CHAT else {}
            events = await ask(client, path, body)
            whole = told(events)
            assert whole.dones == 1 and not whole.errors and len(events) > 2
            for cut in chance.sample(range(1, len(events)), 2):
                last, seen = up_to(events, cut)
                assert told([*seen, *await ask(client, path, body, last)]) == whole, (manner, cut)
            await bus.connection.jetstream.purge_stream("troupe_out")
            last, seen = up_to(events, chance.randrange(1, len(events)))
            assert told([*seen, *await ask(client, path, body, last)]) == whole, (manner, "nothing kept")
    assert "actor.failed" not in node.journal


COUNT: dict[str, Any] = {
    "model": "guide",
    "messages": [{"role": "user", "content": "Count to 40"}],
    "max_tokens": 1000,
    "ignore_eos": True,
    "stream": True,
    "stream_options": USAGE,
}
MANNERS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.8, "seed": 7},
    {"temperature": 0.8, "seed": 8, "n": 2, "logprobs": True},
]


class Reading:
    """A raw client that knows what it has read when its connection breaks."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.begun = asyncio.Event()
        self.text = ""

    async def read(self, client: httpx.AsyncClient) -> None:
        """Until the connection breaks; raises `httpx.HTTPError` then."""
        async with client.stream("POST", CHAT, json=self.body) as response:
            async for more in response.aiter_text():
                self.text += more
                if len(self.text) > 20_000:
                    self.begun.set()

    async def rest(self, client: httpx.AsyncClient) -> Tale:
        """What the client has in the end."""
        events = events_in(self.text)
        if not self.text.endswith("\n\n"):
            events = events_in(self.text.rpartition("\n\n")[0])
        assert Tale(events).dones == 0, "it was to be hit in the middle"
        last, seen = up_to(events, len(events))
        return told([*seen, *await ask(client, CHAT, self.body, last)])


def words_of(tale: Tale) -> list[tuple[str, str, list[str]]]:
    """Of each choice; log-probabilities have other last digits beside others than alone, their tokens are the same."""
    return [
        (choice["content"], choice["finish"], [each["token"] for each in choice["logprobs content"]])
        for _, choice in sorted(tale.choices.items())
    ]


@pytest.mark.slow
async def test_a_killed_node_loses_no_character(start_node: StartNode, nats_server: Server, bus: Bus) -> None:
    """The node that holds the clients dies; another one, which never heard of them, goes on."""
    url = ("--nats", nats_server.url)
    door = await start_node("door", *url, "--no-worker", "--model", "none")
    far = await start_node("far", *url)
    await bus.view.until(
        lambda state: any(each.status == "ready" for each in state.instances_of(ModelId("guide"))),
        timeout_s=60,
    )
    async with (
        httpx.AsyncClient(base_url=door.info.api_url, timeout=60) as near,
        httpx.AsyncClient(base_url=far.info.api_url, timeout=60) as other,
    ):
        whole = [told(await ask(near, CHAT, COUNT | manner)) for manner in MANNERS]
        readings = [Reading(COUNT | manner) for manner in MANNERS]
        reading = [asyncio.create_task(each.read(near)) for each in readings]
        for each in readings:
            await each.begun.wait()
        await door.kill()
        for task in reading:
            with pytest.raises(httpx.HTTPError):
                await task
        for tale, resumed in zip(whole, [await each.rest(other) for each in readings], strict=True):
            assert words_of(resumed) == words_of(tale)
            assert resumed.usage == tale.usage
            assert len(resumed.about) == resumed.dones == 1 and not resumed.errors
    claimed = [line for line in far.journal.splitlines() if "heritage.claimed" in line]
    assert len(claimed) == len(MANNERS) and not any("tokens=0" in line for line in claimed)
