"""MLX behind the port, with a small random llama."""

import math
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.port import Engine, EngineLoadError
from schemas.chunks import Ended, Failed, Prefilled, SequenceEnded, Started, Tokens, Usage
from schemas.task import Made, pack_ids
from tests.engine.running import ORIGIN, R1, STARTED, a_task, finish, ids, reasons, run, step_ahead, tokens

LONG = [7 * at % 1000 + 2 for at in range(511)]


@pytest.fixture(scope="session")
def mlx_lm_greedy(llama: Path, warm_engine: Engine) -> Any:
    """What mlx-lm itself makes of a prompt."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.utils import load_model

    model, _ = load_model(llama)

    def generate(prompt: list[int], length: int) -> list[int]:
        return [int(token) for token, _ in generate_step(mx.array(prompt), model, max_tokens=length)]

    return generate


@pytest.mark.parametrize("length", [1, 5, 32, 33, 34, 255, 256, 257, 300])
def test_greedy_tokens_are_those_of_mlx_lm(engine: Engine, mlx_lm_greedy: Any, length: int) -> None:
    prompt = LONG[:length]
    assert ids(engine, prompt=prompt, max_tokens=40) == mlx_lm_greedy(prompt, 40)


def test_a_cache_that_grows_changes_nothing(engine: Engine, mlx_lm_greedy: Any) -> None:
    assert ids(engine, prompt=LONG[:250], max_tokens=262) == mlx_lm_greedy(LONG[:250], 262)


@pytest.fixture(scope="session")
def plain_engine(llama: Path) -> Engine:
    """As on a GPU: mlx-lm's own batch caches, a token ahead."""
    from actors.engine.mlx_engine import MlxEngine

    plain = make_engine(Wanted(engine="mlx", folder=llama, origin=ORIGIN, cache_bytes=0))
    assert isinstance(plain, MlxEngine)
    plain.load(lambda _: None)
    assert plain.compiled
    step_ahead(plain)
    return plain


@pytest.mark.parametrize("more", [{}, {"temperature": 0.9, "top_p": 0.9, "seed": 5}, {"logprobs": 2}])
def test_plain_steps_ahead_as_on_a_gpu_give_the_same(
    engine: Engine, plain_engine: Engine, more: dict[str, Any]
) -> None:
    assert ids(plain_engine, max_tokens=30, **more) == ids(engine, max_tokens=30, **more)


def test_a_request_is_told_from_its_start_to_its_end(engine: Engine) -> None:
    chunks = run(engine, a_task(max_tokens=3))
    assert chunks[0] == STARTED
    assert [type(chunk) for chunk in chunks[1:]] == [Tokens, Tokens, Tokens, SequenceEnded, Ended]
    ended = chunks[-1]
    assert isinstance(ended, Ended) and ended.usage == Usage(5, 3)
    assert ended.timings.prefill_s > 0 and ended.timings.decode_s > 0


def test_long_prompts_give_signs_of_life(roomy_engine: Engine) -> None:
    chunks = run(roomy_engine, a_task(prompt=LONG * 5, max_tokens=1))
    signs = [chunk for chunk in chunks if isinstance(chunk, Prefilled)]
    assert len(signs) > 4 and signs[-1] == Prefilled(R1, 1, 2554, 2555)
    assert [sign.done for sign in signs] == sorted({sign.done for sign in signs})


def test_a_stop_token_ends_the_answer_and_is_not_sent(engine: Engine) -> None:
    undisturbed = ids(engine)
    at = next(at for at in range(2, 10) if undisturbed[at] not in undisturbed[:at])
    chunks = run(engine, a_task(stop_ids=(undisturbed[at],)))
    assert tokens(chunks) == undisturbed[:at]
    assert reasons(chunks) == ["stop"]
    assert chunks[-1].usage.completion_tokens == at  # type: ignore[union-attr]


def test_equal_seeds_give_equal_tokens(engine: Engine) -> None:
    first, again, other = (ids(engine, temperature=1.0, seed=seed, max_tokens=30) for seed in (7, 7, 8))
    assert first == again != other


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.2, "top_p": 0.8, "seed": -(2**63)}])
@pytest.mark.parametrize("done", [1, 13, 39])
def test_a_later_attempt_goes_on_as_the_first_would_have(
    engine: Engine, sampling: dict[str, Any], done: int
) -> None:
    whole = ids(engine, max_tokens=40, **sampling)
    chunks = run(engine, a_task(made=(Made(pack_ids(whole[:done])),), max_tokens=40, **sampling))
    assert tokens(chunks) == whole[done:]
    first = next(chunk for chunk in chunks if isinstance(chunk, Tokens))
    assert first.offset == done
    assert chunks[-1].usage == Usage(5, 40)  # type: ignore[union-attr]


def test_an_attempt_with_nothing_left_to_do_ends(engine: Engine) -> None:
    chunks = run(engine, a_task(made=(Made(pack_ids([9, 9])),), max_tokens=2))
    assert tokens(chunks) == [] and reasons(chunks) == ["length"]


def test_logprobs_are_those_of_the_tokens(engine: Engine) -> None:
    chunks = run(engine, a_task(logprobs=3, max_tokens=5))
    assert tokens(chunks) == ids(engine, max_tokens=5)
    for chunk in chunks:
        if isinstance(chunk, Tokens):
            assert chunk.logprobs is not None
            (of,) = chunk.logprobs
            assert len(of.top_ids) == 3 and list(of.top_logprobs) == sorted(of.top_logprobs, reverse=True)
            assert of.top_ids[0] == int.from_bytes(chunk.ids, "little")
            assert of.logprob == pytest.approx(of.top_logprobs[0]) and of.logprob < 0


def test_logprobs_may_come_without_alternatives(engine: Engine) -> None:
    chunks = run(engine, a_task(logprobs=0, max_tokens=2, temperature=1.0))
    details = [chunk.logprobs for chunk in chunks if isinstance(chunk, Tokens)]
    assert all(each is not None and each[0].top_ids == () for each in details)


def test_cancel_ends_with_what_there_is(engine: Engine) -> None:
    engine.add(a_task(max_tokens=400))
    before = [chunk for _ in range(5) for chunk in engine.step()]
    engine.cancel(before[0].request, 0)
    after = finish(engine)
    assert tokens(after) == [] and reasons(after) == ["cancelled"]
    assert after[-1].usage == Usage(5, len(tokens(before)))  # type: ignore[union-attr]


def test_cancel_comes_between_the_chunks_of_a_prompt(roomy_engine: Engine) -> None:
    roomy_engine.add(a_task(prompt=LONG * 5))
    before = roomy_engine.step()
    while not any(isinstance(chunk, Prefilled) for chunk in before):  # a chunk may stop in its midst
        before += roomy_engine.step()
    roomy_engine.cancel(before[0].request, 1)
    assert {type(chunk) for chunk in before} == {Started, Prefilled}
    assert reasons(finish(roomy_engine)) == ["cancelled"]


def test_one_sequence_may_be_cancelled_and_the_others_go_on(engine: Engine) -> None:
    values: dict[str, Any] = {"n": 3, "max_tokens": 20, "temperature": 1.0}
    whole = run(engine, a_task(**values))
    engine.add(a_task(**values))
    before = engine.step()
    while not tokens(before, index=1):
        before += engine.step()
    engine.cancel(R1, 1, 1)
    chunks = before + finish(engine)
    assert [tokens(chunks, index=index) for index in (0, 2)] == [
        tokens(whole, index=index) for index in (0, 2)
    ]
    assert 0 < len(tokens(chunks, index=1)) < 20
    assert sorted(reasons(chunks)) == ["cancelled", "length", "length"]
    assert [type(chunk) for chunk in chunks].count(Ended) == 1


def test_a_deadline_that_passes_ends_the_request(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = time.time() + 1000
    undisturbed = ids(engine)
    engine.add(a_task(max_tokens=400, deadline=deadline))
    engine.add(a_task(request="r2", deadline=deadline + 10))
    engine.step()
    monkeypatch.setattr(time, "time", lambda: deadline)
    chunks = finish(engine)
    failed = [chunk for chunk in chunks if isinstance(chunk, Failed)]
    assert [(chunk.request, chunk.code) for chunk in failed] == [("r1", "deadline")]
    assert tokens(chunks, "r2") == undisturbed[1:]


def test_of_a_step_that_fails_the_culprit_is_found_and_the_others_go_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.engine.sampler import Sampler

    whole = Sampler.__init__

    def breaks(sampler: Sampler, rows: list[Any], vocabulary: int) -> None:
        if any(row is not None and row.answer.task.request == "bad" and row.position == 4 for row in rows):
            raise RuntimeError("no such kernel")
        whole(sampler, rows, vocabulary)

    monkeypatch.setattr(Sampler, "__init__", breaks)
    values: dict[str, Any] = {"max_tokens": 30, "temperature": 1.0, "seed": 3}
    undisturbed = run(engine, a_task(max_tokens=30), a_task(request="two", n=2, **values))
    for task in (a_task(max_tokens=30), a_task(request="bad"), a_task(request="two", n=2, **values)):
        engine.add(task)
    chunks = [chunk for _ in range(4) for chunk in engine.step()]
    chunks += run(engine, a_task(request="late"))  # who joins makes the sampler anew
    failed = [chunk for chunk in chunks if isinstance(chunk, Failed)]
    assert [(chunk.request, chunk.code) for chunk in failed] == [("bad", "engine_failed")]
    assert len(tokens(chunks, "bad")) == 4 and len(tokens(chunks, "late")) == 10
    for request, index in (("r1", 0), ("two", 0), ("two", 1)):
        assert tokens(chunks, request, index) == tokens(undisturbed, request, index)


def test_a_row_whose_steps_fail_alone_fails_and_the_engine_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.engine.ring import RingBatch

    def breaks(*_: Any) -> Any:
        raise RuntimeError("no such kernel")

    undisturbed = ids(engine)
    with monkeypatch.context() as patch:
        patch.setattr(RingBatch, "step", breaks)
        failed = run(engine, a_task(), a_task(request="r2", n=2))
    assert [str(chunk.request) for chunk in failed if isinstance(chunk, Failed)] == ["r1", "r2"]
    assert ids(engine) == undisturbed


def test_cancel_of_one_that_waits_and_of_one_that_nobody_knows(engine: Engine) -> None:
    undisturbed = ids(engine)
    engine.add(a_task())
    engine.add(a_task(request="r2"))
    for request, attempt in (("r2", 1), ("r3", 0), ("r1", 9)):
        engine.cancel(request, attempt)  # type: ignore[arg-type]
    chunks = finish(engine)
    assert tokens(chunks) == undisturbed and tokens(chunks, "r2") == []
    assert sorted(reasons(chunks)) == ["cancelled", "length"]


def test_requests_run_together(engine: Engine) -> None:
    alone = ids(engine), ids(engine, prompt=[9, 8])
    chunks = run(engine, a_task(), a_task(prompt=[9, 8], request="r2"))
    assert (tokens(chunks), tokens(chunks, "r2")) == alone


BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": []}, "prompt is empty"),
    ({"prompt": [1, 1024]}, "token 1024 is outside of the vocabulary, which has 1024 tokens"),
    ({"prompt": [2**32 - 1]}, "outside of the vocabulary"),
    ({"max_tokens": 508}, "5 tokens of prompt and 508 of answer are more than the context of 512 tokens"),
    ({"max_tokens": 0}, "max_tokens is 0"),
    ({"max_tokens": -5}, "max_tokens is -5"),
    ({"n": 19}, "n is 19, and this instance makes 18 sequences at once"),
    ({"n": 0}, "n is 0"),
    ({"made": (Made(), Made())}, "n is 1, and 2 sequences were made before"),
    ({"min_tokens": 11}, "min_tokens is 11"),
    ({"top_k": 1025}, "top_k is 1025, and must be between 0 and 1024"),
    ({"min_p": -0.1}, "min_p is -0.1"),
    ({"presence_penalty": math.inf}, "presence_penalty is inf"),
    ({"repetition_penalty": 0.0}, "repetition_penalty is 0"),
    ({"logit_bias": ((1024, 1.0),)}, "logit_bias names token 1024"),
    ({"logit_bias": ((3, math.nan),)}, "logit_bias of token 3 is nan"),
    ({"temperature": float("nan")}, "temperature is nan"),
    ({"temperature": -1.0}, "temperature is -1.0"),
    ({"top_p": 1.5}, "top_p is 1.5"),
    ({"logprobs": 5000}, "logprobs is 5000"),
]


@pytest.mark.parametrize(("values", "said"), BAD)
def test_a_bad_task_fails_with_the_numbers_and_ends_no_other(
    engine: Engine, values: dict[str, Any], said: str
) -> None:
    undisturbed = ids(engine)
    chunks = run(engine, a_task(), a_task(**values, request="bad"), a_task(request="r2"))
    failures = [chunk for chunk in chunks if isinstance(chunk, Failed)]
    assert [(failure.request, failure.code) for failure in failures] == [("bad", "bad_request")]
    assert said in failures[0].reason
    assert tokens(chunks) == tokens(chunks, "r2") == undisturbed


def test_a_prompt_that_is_no_list_of_ids_fails(engine: Engine) -> None:
    cut = msgspec.structs.replace(a_task(request="bad"), prompt=pack_ids([1])[:3])
    chunks = run(engine, a_task(), cut)
    assert [chunk.request for chunk in chunks if isinstance(chunk, Failed)] == ["bad"]
    assert len(tokens(chunks)) == 10


def test_what_one_request_raises_ends_that_one_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.engine.row import Row

    undisturbed = ids(engine)
    whole = Row.take

    def breaks(row: Row, token: int, details: Any) -> Any:
        if row.answer.task.request == "bad":
            raise RuntimeError("[malloc] Unable to allocate 99 bytes")
        return whole(row, token, details)

    monkeypatch.setattr(Row, "take", breaks)
    chunks = run(engine, a_task(request="bad"), a_task())
    failed = next(chunk for chunk in chunks if isinstance(chunk, Failed))
    assert failed.code == "out_of_memory" and "Unable to allocate" in failed.reason
    assert tokens(chunks) == undisturbed


def test_a_larger_context_than_the_models_is_refused(llama: Path) -> None:
    large = make_engine(Wanted(engine="mlx", folder=llama, origin=ORIGIN, context=513))
    with pytest.raises(EngineLoadError, match=r"513 tokens was asked for, .* made for 512"):
        large.load(lambda _: None)


def test_a_smaller_context_may_be_asked_for(llama: Path) -> None:
    small = make_engine(Wanted(engine="mlx", folder=llama, origin=ORIGIN, context=8))
    small.load(lambda _: None)
    small.warm()
    failed = run(small, a_task(max_tokens=4))[-1]
    assert isinstance(failed, Failed) and "context of 8 tokens" in failed.reason
    assert len(ids(small, max_tokens=3)) == 3


def test_a_prompt_that_fails_beside_others_fails_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.engine.prefill import Prefill
    from actors.engine.reading import Reading

    def together(*_: Any) -> Any:
        raise RuntimeError("too many at once")

    whole = Reading.go_on

    def breaks(reading: Reading, model: Any, tokens: int) -> None:
        if reading.rows[0].answer.task.request == "bad":
            raise MemoryError("no more")
        whole(reading, model, tokens)

    undisturbed = ids(engine)
    monkeypatch.setattr(Prefill, "_read_together", together)
    monkeypatch.setattr(Reading, "go_on", breaks)
    chunks = run(engine, a_task(), a_task(request="bad"), a_task(request="r2"))
    failed = [chunk for chunk in chunks if isinstance(chunk, Failed)]
    assert [(chunk.request, chunk.code) for chunk in failed] == [("bad", "out_of_memory")]
    assert tokens(chunks) == tokens(chunks, "r2") == undisturbed


def test_an_attempt_whose_sequences_are_all_complete_ends_at_once(engine: Engine) -> None:
    made = (Made(pack_ids([9, 9]), "stop"), Made(pack_ids([8]), "length"))
    chunks = run(engine, a_task(n=2, made=made))
    assert [type(chunk) for chunk in chunks] == [Started, Ended]
    assert chunks[-1].usage.completion_tokens == 3  # type: ignore[union-attr]


def test_logits_that_are_not_finite_fail_their_row_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlx.core as mx

    from actors.engine.ring import RingBatch
    from actors.engine.sampler import likeliest

    whole = RingBatch.step

    def breaks(batch: RingBatch, fed: mx.array) -> tuple[mx.array, mx.array]:
        _, logits = whole(batch, fed)
        logits = mx.where(mx.arange(batch.seats)[:, None] == 1, mx.nan, logits)
        return likeliest(logits), logits

    undisturbed = ids(engine, max_tokens=20)
    for task in (a_task(max_tokens=20), a_task(request="bad"), a_task(request="r3", max_tokens=20)):
        engine.add(task)
    with monkeypatch.context() as patch:
        patch.setattr(RingBatch, "step", breaks)
        chunks = engine.step()
    chunks += finish(engine)
    failed = [chunk for chunk in chunks if isinstance(chunk, Failed)]
    assert [(chunk.request, chunk.code) for chunk in failed] == [("bad", "engine_failed")]
    assert "position 0 are not finite" in failed[0].reason
    assert tokens(chunks) == tokens(chunks, "r3") == undisturbed
