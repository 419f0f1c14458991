"""A conversation that is too long loses its oldest turns, whole ones, and says how many messages they were."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError
from api.openai.chat_parameters import read_chat
from api.openai.completion_parameters import read_completion
from api.text.truncation import reserve, shorten, turns_of
from bus.bus import Bus
from schemas.chat import Message
from schemas.tools import CalledFunction, ToolCall
from tests.api.openai.test_parameters import body, completion
from tests.api.stage import CONTEXT, Stage, chat, events_of, ids_of, says, staged

AUTO: dict[str, Any] = {"provider_extensions": {"truncation": "auto"}}


def say(role: Any, text: str = "x", *, calls: str = "", result_of: str = "") -> Message:
    called = [ToolCall(each, CalledFunction("f", "{}")) for each in calls]
    return Message(role, text, tool_calls=called or None, tool_call_id=result_of or None)


TALK = [
    say("system"),
    say("assistant"),  # greets
    say("user"), say("assistant"),
    say("developer"),
    say("user"), say("assistant", calls="ab"), say("tool", result_of="a"), say("tool", result_of="b"),
    say("user"), say("assistant"),
    say("user"), say("assistant", calls="c"), say("tool", result_of="c"),
]  # fmt: skip


def test_turns_begin_with_users_and_hold_their_calls() -> None:
    assert turns_of(TALK) == [[1], [2, 3], [5, 6, 7, 8], [9, 10]]


def test_a_result_that_comes_after_later_words_joins_all_of_them() -> None:
    late = [
        say("user"), say("assistant"),
        say("user"), say("assistant", calls="ab"),
        say("user"), say("tool", result_of="a"),
        say("user"), say("tool", result_of="b"),
        say("user"),
    ]  # fmt: skip
    assert turns_of(late) == [[0, 1], [2, 3, 4, 5, 6, 7]]
    assert turns_of([*late, say("tool", result_of="b")]) == [[0, 1]]


def test_instructions_and_the_last_turn_stay() -> None:
    for messages in ([say("user")], [say("system"), say("assistant")], [say("system"), *[say("tool")] * 3]):
        assert shorten(messages, lambda _: False).messages == messages
    nothing_fits = shorten(TALK, lambda _: False)
    assert nothing_fits.messages == [TALK[0], TALK[4], *TALK[11:]]
    assert nothing_fits.dropped == 9


MESSAGES = st.lists(
    st.tuples(st.sampled_from(("system", "user", "assistant", "tool")), st.integers(1, 9)), min_size=1
)


@given(MESSAGES, st.integers(1, 120))
def test_as_few_as_it_takes(spoken: list[tuple[str, int]], most: int) -> None:
    """Every result has the last call before it, if there is any."""
    messages: list[Message] = []
    call = ""
    for role, size in spoken:
        if role == "assistant":
            call = chr(ord("a") + len(messages) % 26)
        result_of = call if role == "tool" else ""
        messages.append(say(role, "x" * size, calls=call if role == "assistant" else "", result_of=result_of))

    def fits(kept: list[Message]) -> bool:
        return sum(len(each.text) for each in kept) <= most

    shorter = shorten(messages, fits)
    assert len(shorter.messages) == len(messages) - shorter.dropped
    turns = turns_of(messages)
    gone = [at for turn in turns for at in turn]
    ends = [sum(map(len, turns[:count])) for count in range(len(turns) + 1)]
    possible = [[said for at, said in enumerate(messages) if at not in gone[:end]] for end in ends]
    assert gone == sorted(gone)
    assert shorter.messages == next((kept for kept in possible if fits(kept)), possible[-1])
    calls = {each.id for said in shorter.messages for each in said.tool_calls or ()}
    assert {said.tool_call_id for said in shorter.messages if said.tool_call_id} <= calls


def test_room_is_left_for_an_answer() -> None:
    assert reserve(1000, 30, 0) == 30
    assert reserve(1000, None, 0) == 250
    assert reserve(1000, None, 300) == 300
    assert reserve(100_000, None, 0) == 1024
    assert reserve(2, None, 0) == 1


def test_what_does_not_suit_is_refused_by_name() -> None:
    for read, wrong in (
        (read_chat, body(provider_extensions={"truncation": "rolling"}, use_beam_search=True)),
        (read_chat, body(provider_extensions={"truncation": "middle"})),
        (read_completion, completion(**AUTO)),
    ):
        with pytest.raises(ApiError) as caught:
            read(wrong)
        assert (caught.value.status, caught.value.param) == (400, "provider_extensions.truncation")
    assert (
        read_completion(completion(provider_extensions={"truncation": "disabled"})).truncation == "disabled"
    )
    assert read_chat(body(provider_extensions={"truncation": None})).truncation == "disabled"


# At the door

ROLLING: dict[str, Any] = {"provider_extensions": {"truncation": "rolling"}}


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


def talk(turns: int, words: int = 60) -> list[dict[str, str]]:
    said = [{"role": "system", "content": "Be brief."}]
    for turn in range(turns):
        said += [
            {"role": "user", "content": f"turn {turn} " + "word " * words},
            {"role": "assistant", "content": f"answer {turn}"},
        ]
    return [*said, {"role": "user", "content": "and now?"}]


@pytest.mark.parametrize("stream", [True, False])
async def test_the_oldest_turns_are_left_out_and_the_answer_says_so(stage: Stage, stream: bool) -> None:
    messages = talk(9)
    async with stage.actor(says("this")) as actor:
        response = await stage.http.post(
            "/v1/chat/completions", json=chat(messages=messages, max_tokens=50, stream=stream, **AUTO)
        )
        whole = {"messages": messages, "max_tokens": 50, "stream": stream}
        refused = await stage.http.post("/v1/chat/completions", json=chat(**whole))
    if stream:
        shown = [json.loads(event) for event in events_of(response.text)[:-1]]
    else:
        shown = [response.json()]
        assert shown[0]["usage"]["prompt_tokens"] == len(actor.tasks[0].prompt) // 4
    (left_out,) = {each["truncated_messages"] for each in shown}
    assert left_out > 0 and left_out % 2 == 0
    sent = len(actor.tasks[0].prompt) // 4
    kept = [messages[0], *messages[1 + left_out :]]
    counted = await stage.http.post("/tokenize", json={"model": chat()["model"], "messages": kept})
    assert sent == counted.json()["count"] <= CONTEXT - 50
    one_more = [messages[0], *messages[left_out - 1 :]]
    longer = await stage.http.post("/tokenize", json={"model": chat()["model"], "messages": one_more})
    assert longer.json()["count"] > CONTEXT - 50
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert str(CONTEXT) in refused.json()["error"]["message"]


async def test_what_fits_is_left_as_it_is(stage: Stage) -> None:
    async with stage.actor(says("this")) as actor:
        short = await stage.http.post("/v1/chat/completions", json=chat(messages=talk(2), **AUTO))
        plain = await stage.http.post("/v1/chat/completions", json=chat(messages=talk(2)))
    assert short.json()["truncated_messages"] == 0
    assert "truncated_messages" not in plain.json()
    assert actor.tasks[0].prompt == actor.tasks[1].prompt


async def test_a_last_turn_that_does_not_fit_is_refused_with_both_numbers(stage: Stage) -> None:
    messages = [*talk(3), {"role": "user", "content": "word " * CONTEXT}]
    response = await stage.http.post("/v1/chat/completions", json=chat(messages=messages, **AUTO))
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert str(CONTEXT) in error["message"]
    assert "(7 messages are left out already)" in error["message"]
    assert len(ids_of("word " * CONTEXT)) > CONTEXT


async def test_an_answer_may_go_on_past_the_context_where_its_prompt_leaves_room(stage: Stage) -> None:
    async with stage.actor(says("this")) as actor:
        for tokens in (CONTEXT * 3, 20, None):
            more = ROLLING if tokens is None else {"max_tokens": tokens, **ROLLING}
            answer = await stage.http.post("/v1/chat/completions", json=chat(**more))
            assert answer.status_code == 200
        long = {"max_tokens": CONTEXT, "messages": talk(9, 85), **ROLLING}
        refused = (await stage.http.post("/v1/chat/completions", json=chat(**long))).json()["error"]
        kept = {"max_tokens": CONTEXT, "guided_regex": "a+", **ROLLING}
        wrong = (await stage.http.post("/v1/chat/completions", json=chat(**kept))).json()["error"]
    asked, short, rest = actor.tasks
    assert (asked.rolling, asked.max_tokens) == (True, CONTEXT * 3)
    assert (short.rolling, short.max_tokens) == (False, 20)
    assert not rest.rolling and rest.max_tokens < CONTEXT
    assert refused["code"] == "context_length_exceeded" and "250 for the answer" in refused["message"]
    assert wrong["param"] == "provider_extensions.truncation" and "guided_regex" in wrong["message"]
