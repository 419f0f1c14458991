"""`use_beam_search`: what is asked for reaches the runner, what makes no sense is refused, nobody waits in silence."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.errors import ApiError
from api.openai.chat_parameters import chat_wish, read_chat
from api.openai.completion_parameters import completion_wish, read_completion
from api.requests.request import InFlight
from bus.bus import Bus
from schemas.chunks import Failed, Searched, Tokens
from schemas.ids import RequestId
from schemas.task import Beams, Task, pack_ids
from tests.api.openai.test_parameters import body, completion
from tests.api.parts import ends
from tests.api.stage import MODEL, Actor, Play, Stage, chat, ids_of, staged

SEARCH: dict[str, Any] = {"use_beam_search": True}


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


def finds(*texts: str, steps: int = 3) -> Play:
    """Is silent but for the depth of the search; then says all at once, in parts."""

    async def play(actor: Actor, task: Task) -> None:
        await actor.start(task)
        for depth in range(1, steps + 1):
            await actor.send(task, Searched(task.request, task.attempt, depth))
        said = [ids_of(text) for text in texts]
        for index, ids in enumerate(said):
            for at in range(0, len(ids), 8):
                part = pack_ids(ids[at : at + 8])
                await actor.send(task, Tokens(task.request, task.attempt, index, at, part))
        await actor.send(task, *ends(task, [len(ids) for ids in said]))

    return play


async def test_the_task_says_how_to_search(stage: Stage) -> None:
    async with stage.actor(finds("the best", "the second")) as actor:
        answer = await stage.openai.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hello"}], n=2, stop=["x", "yy"], seed=1,
            extra_body={
                **SEARCH, "beam_width": 5, "length_penalty": 0.5, "early_stopping": "never", "min_tokens": 2,
            },
        )  # fmt: skip
    (task,) = actor.tasks
    assert task.beams == Beams(width=5, length_penalty=0.5, early_stopping="never", stops=("x", "yy"))
    assert (task.n, task.seats, task.sampling.temperature, task.min_tokens) == (2, 5, 0, 2)
    assert [choice.message.content for choice in answer.choices] == ["the best", "the second"]


def test_the_width_has_three_names() -> None:
    for fields, width in (
        ({}, 1),
        ({"n": 3}, 3),
        ({"n": 3, "beam_width": 4}, 4),
        ({"best_of": 6}, 6),
        ({"best_of": 6, "beam_width": 6, "temperature": 0, "top_p": 1, "top_k": -1, "min_p": 0}, 6),
    ):
        for wish in (
            chat_wish(read_chat(body(**SEARCH, **fields)), {}),
            completion_wish(read_completion(completion(**SEARCH, **fields)), {}),
        ):
            assert wish.beams == Beams(width=width)
            assert wish.sampling.temperature == 0
    assert chat_wish(read_chat(body(use_beam_search=False, best_of=1)), {}).beams is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({**SEARCH, "temperature": 0.5}, "temperature"),
        ({**SEARCH, "top_p": 0.9}, "top_p"),
        ({**SEARCH, "top_k": 4}, "top_k"),
        ({**SEARCH, "min_p": 0.1}, "min_p"),
        ({**SEARCH, "n": 3, "beam_width": 2}, "beam_width"),
        ({**SEARCH, "n": 3, "best_of": 2}, "best_of"),
        ({**SEARCH, "beam_width": 4, "best_of": 2}, "best_of"),
        ({**SEARCH, "beam_width": 0}, "beam_width"),
        ({**SEARCH, "beam_width": 129}, "beam_width"),
        ({**SEARCH, "length_penalty": 11}, "length_penalty"),
        ({**SEARCH, "early_stopping": "now"}, "early_stopping"),
        ({"beam_width": 4}, "beam_width"),
        ({"length_penalty": 1.0}, "length_penalty"),
        ({"use_beam_search": False, "early_stopping": True}, "early_stopping"),
        ({"best_of": 2}, "best_of"),
        ({"use_beam_search": 1}, "use_beam_search"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(fields: dict[str, object], param: str) -> None:
    for read in (
        lambda: read_chat(body(**fields)),
        lambda: read_completion(completion(**fields)),
    ):
        with pytest.raises(ApiError) as caught:
            read()
        assert (caught.value.status, caught.value.param) == (400, param)
        assert param in caught.value.message


async def test_a_search_that_goes_on_is_not_silent() -> None:
    """Each depth is heard; only a new one is progress."""
    request = InFlight(RequestId("r"), MODEL)
    for depth, further in ((1, True), (2, True), (2, False)):
        request.current.heard_at = request.stalled_at = 0.0
        request.take(Searched(request.id, 1, depth))
        assert (request.current.heard_at > 0, request.stalled_at > 0) == (True, further)


async def test_whoever_streams_a_search_is_kept_company_and_has_the_whole_at_the_end(bus: Bus) -> None:
    seen: list[str] = []
    accompanied = asyncio.Event()

    async def play(actor: Actor, task: Task) -> None:
        await accompanied.wait()
        await finds("the best")(actor, task)

    async with staged(bus, keepalive_s=0.05) as stage, stage.actor(play) as actor:
        asked = chat(**SEARCH, stream=True)
        async with stage.http.stream("POST", "/v1/chat/completions", json=asked) as response:
            async for line in response.aiter_lines():
                seen.append(line)
                if seen.count(": working") > 3:
                    accompanied.set()
        assert len(actor.tasks) == 1
    assert [line for line in seen if line][-1] == "data: [DONE]"
    assert any("the best" in line for line in seen)


async def test_an_attempt_that_comes_no_deeper_is_no_progress(stage: Stage) -> None:
    """So that a search which fails again and again at the same place comes to an end."""

    async def play(actor: Actor, task: Task) -> None:
        await actor.start(task)
        await actor.send(task, Searched(task.request, task.attempt, 5))
        await actor.send(task, Failed(task.request, task.attempt, "out_of_memory", "too many beams"))

    async with stage.actor(play) as actor:
        response = await stage.http.post("/v1/chat/completions", json=chat(**SEARCH))
    assert (response.status_code, response.json()["error"]["code"]) == (503, "out_of_memory")
    assert len(actor.tasks) == 4


async def test_more_beams_than_an_instance_has_slots_is_a_400_that_names_them(stage: Stage) -> None:
    async def play(actor: Actor, task: Task) -> None:
        why = "beam_width is 40, and this instance makes 18 sequences at once"
        await actor.send(task, Failed(task.request, task.attempt, "bad_request", why))

    async with stage.actor(play):
        response = await stage.http.post("/v1/chat/completions", json=chat(**SEARCH, beam_width=40))
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "beam_width")
    assert "40" in error["message"] and "18" in error["message"]
