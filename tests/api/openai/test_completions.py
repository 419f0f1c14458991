"""OpenAI's older completions and vLLM's tokenizer routes: a real bus, a real server, OpenAI's SDK."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator

import openai
import pytest
from openai.types import Completion

from bus.bus import Bus
from schemas.chunks import Failed
from schemas.task import Task, unpack_ids
from tests.api.parts import TIMINGS, logprob_of, speaks
from tests.api.stage import CONTEXT, END, MODEL, TOKENIZER, Actor, Play, Stage, events_of, ids_of, staged

PATH = "/v1/completions"
TEXT = " quick 東京 fox"


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


def asked(prompt: object = "hello", **more: object) -> dict[str, object]:
    return {"model": MODEL, "prompt": prompt} | more


def echoing(*endings: str) -> Play:
    """Each choice says the prompt's text backwards, and its own ending."""

    async def play(actor: Actor, task: Task) -> None:
        prompt = TOKENIZER.decode(unpack_ids(task.prompt))
        await speaks(*(prompt[::-1] + ending for ending in endings))(actor, task)

    return play


async def test_a_text_goes_to_the_model_as_it_is(stage: Stage) -> None:
    async with stage.actor(speaks(TEXT)) as actor:
        answer = await stage.openai.completions.create(model=MODEL, prompt="the <|im_end|> brown")
    task = actor.tasks[0]
    assert unpack_ids(task.prompt) == TOKENIZER.encode("the <|im_end|> brown").ids
    assert END in unpack_ids(task.prompt), "the whole prompt is the client's own: its control tokens count"
    assert (task.max_tokens, task.stop_ids) == (16, (END,))
    assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == (
        "text_completion",
        TEXT,
        "stop",
    )
    assert answer.usage is not None
    assert answer.usage.total_tokens == len(unpack_ids(task.prompt)) + len(ids_of(TEXT))


async def test_token_ids_go_to_the_model_as_they_are(stage: Stage) -> None:
    async with stage.actor(speaks("x")) as actor:
        await stage.openai.completions.create(model=MODEL, prompt=[5, 6, 7], max_tokens=3)
    assert (unpack_ids(actor.tasks[0].prompt), actor.tasks[0].max_tokens) == ([5, 6, 7], 3)


@pytest.mark.parametrize("prompts", [["abc", "the dog"], [ids_of("abc"), ids_of("the dog")]])
@pytest.mark.parametrize("echo", [False, True])
async def test_several_prompts_are_requests_of_their_own(
    stage: Stage, prompts: list[str] | list[list[int]], echo: bool
) -> None:
    expected = ["cba 1", "cba 2", "god eht 1", "god eht 2"]
    if echo:
        expected = [
            text + said for text, said in zip(["abc", "abc", "the dog", "the dog"], expected, strict=True)
        ]
    async with stage.actor(echoing(" 1", " 2")) as actor:
        whole = await stage.openai.completions.create(model=MODEL, prompt=prompts, n=2, echo=echo)
        stream = await stage.openai.completions.create(
            model=MODEL, prompt=prompts, n=2, echo=echo, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert [choice.text for choice in whole.choices] == expected
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert texts_of(chunks) == dict(enumerate(expected))
    assert len({task.request for task in actor.tasks}) == 4
    assert len({task.sampling.seed for task in actor.tasks}) == 4, "no two are drawn alike"
    assert whole.usage is not None and chunks[-1].usage == whole.usage
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert finishes == ["stop"] * 4


def texts_of(chunks: list[Completion]) -> dict[int, str]:
    texts: dict[int, str] = defaultdict(str)
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    return dict(texts)


async def test_one_prompt_that_fails_fails_them_all(stage: Stage) -> None:
    async def play(actor: Actor, task: Task) -> None:
        if unpack_ids(task.prompt) == ids_of("bad"):
            await actor.send(task, Failed(task.request, task.attempt, "engine_failed", "out of order"))
        else:
            await actor.start(task)

    async with stage.actor(play) as actor:
        response = await stage.http.post(PATH, json=asked(["good", "bad"]))
        cancelled = await actor.cancelled.get()
    assert (response.status_code, response.json()["error"]["message"]) == (500, "out of order")
    assert cancelled.request in {task.request for task in actor.tasks}


async def test_streamed_events_as_they_are(stage: Stage) -> None:
    async with stage.actor(speaks("hello")):
        response = await stage.http.post(PATH, json=asked(stream=True, service_tier="auto"))
    *events, done = events_of(response.text)
    assert done == "[DONE]"
    assert json.loads(events[0]) | {"created": 0} == {
        "id": f"cmpl-{response.headers['x-request-id']}", "object": "text_completion", "created": 0, "model": MODEL,
        "system_fingerprint": "fp_0123456789abcdef", "service_tier": "default",
        "choices": [{"text": "hello", "index": 0, "logprobs": None, "finish_reason": None}],
    }  # fmt: skip
    assert json.loads(events[-1])["choices"] == [
        {"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]


@pytest.mark.parametrize("stream", [True, False])
async def test_logprobs_in_four_lists(stage: Stage, stream: bool) -> None:
    async with stage.actor(speaks(TEXT)):
        response = await stage.http.post(PATH, json=asked(logprobs=2, stream=stream))
    bodies = [json.loads(event) for event in events_of(response.text)[:-1]] if stream else [response.json()]
    found = [body["choices"][0]["logprobs"] for body in bodies if body["choices"][0]["logprobs"]]
    logprobs = {name: [each for part in found for each in part[name]] for name in found[0]}
    ids = ids_of(TEXT)
    assert logprobs["token_logprobs"] == [logprob_of(token_id) for token_id in ids]
    assert logprobs["text_offset"][0] == 0
    for token, offset, top in zip(
        logprobs["tokens"], logprobs["text_offset"], logprobs["top_logprobs"], strict=True
    ):
        assert token.startswith("bytes:\\x") or TEXT[offset:].startswith(token)
        assert set(top) == {"<|im_start|>", "<|im_end|>", token}
    assert any(token.startswith("bytes:\\x") for token in logprobs["tokens"])


async def test_timings_and_stop_strings(stage: Stage) -> None:
    async with stage.actor(speaks("hello")):
        timed = await stage.http.post(PATH, json=asked(stream=True, provider_extensions={"timings": True}))
        stopped = await stage.http.post(PATH, json=asked(stop=["l", "never"]))
    assert json.loads(events_of(timed.text)[-2])["timings"]["decode_s"] == TIMINGS.decode_s
    assert stopped.json()["choices"][0]["text"] == "he"


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        (asked(""), "prompt", "empty"),
        (asked([[]]), "prompt", "empty"),
        (asked([500_000]), "prompt", "500000"),
        (asked([2**32]), "prompt[0]", "prompt"),
        (asked([5] * CONTEXT), "prompt", str(CONTEXT)),
        (asked(max_tokens=CONTEXT), "max_tokens", str(CONTEXT)),
        (asked(suffix="!"), "suffix", "between"),
        (asked(echo=True, logprobs=1), "logprobs", "echo"),
    ],
)
async def test_what_cannot_be_done_is_said(
    stage: Stage, body: dict[str, object], param: str, word: str
) -> None:
    for stream in (False, True):
        response = await stage.http.post(PATH, json=body | {"stream": stream})
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, param)
        assert word in error["message"]


async def test_headers_steer_completions_too(stage: Stage) -> None:
    async with stage.actor(speaks("x")) as actor:
        await stage.openai.completions.create(
            model=MODEL, prompt="a", extra_headers={"X-Troupe-Priority": "high", "X-Troupe-Timeout": "30"}
        )
        with pytest.raises(openai.BadRequestError, match="X-Troupe-Timeout"):
            await stage.openai.completions.create(
                model=MODEL, prompt="a", extra_headers={"X-Troupe-Timeout": "no"}
            )
    assert actor.tasks[0].lane == "high"


# Tokenizer


async def test_tokenize_a_text(stage: Stage) -> None:
    response = await stage.http.post("/tokenize", json=asked("hello <|im_end|>", return_token_strs=True))
    ids = TOKENIZER.encode("hello <|im_end|>").ids
    shown = response.json()
    assert (shown["tokens"], shown["count"], shown["max_model_len"]) == (ids, len(ids), CONTEXT)
    assert shown["token_strs"][-1] == "<|im_end|>"
    back = await stage.http.post("/detokenize", json={"model": MODEL, "tokens": ids})
    assert back.json() == {"prompt": "hello <|im_end|>"}


async def test_tokenize_a_chat(stage: Stage) -> None:
    messages = [{"role": "user", "content": "hello"}]
    async with stage.actor(speaks("x")) as actor:
        response = await stage.http.post("/tokenize", json={"model": MODEL, "messages": messages})
        await stage.http.post("/v1/chat/completions", json={"model": MODEL, "messages": messages})
    assert response.json()["tokens"] == unpack_ids(actor.tasks[0].prompt)


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {"model": MODEL}, 400, "prompt"),
        ("/tokenize", asked("x", messages=[{"role": "user", "content": "x"}]), 400, "prompt"),
        ("/tokenize", asked("x", colour=1), 400, "colour"),
        (
            "/tokenize",
            {"model": MODEL, "messages": [{"role": "user", "content": None}]},
            400,
            "messages[0].content",
        ),
        ("/tokenize", {"model": "carrot", "prompt": "x"}, 404, "model"),
        ("/detokenize", {"model": MODEL, "tokens": [500_000]}, 400, "tokens"),
        ("/detokenize", {"model": MODEL, "tokens": [-1]}, 400, "tokens[0]"),
        ("/detokenize", {"model": MODEL, "tokens": "x"}, 400, "tokens"),
        ("/detokenize", {"model": "carrot", "tokens": []}, 404, "model"),
    ],
)
async def test_wrong_tokenizer_requests(
    stage: Stage, path: str, body: dict[str, object], status: int, param: str
) -> None:
    response = await stage.http.post(path, json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


async def test_tokenize_while_nobody_has_read_the_model(bus: Bus) -> None:
    async with staged(bus) as stage:
        await stage.desire(model := "org/new", described=False)  # type: ignore[arg-type]
        response = await stage.http.post("/tokenize", json={"model": model, "prompt": "x"})
    assert response.status_code == 503
    assert "retry-after" in response.headers
