"""The engine that computes nothing: what it says, how fast, and how many at once."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.port import Engine, EngineLoadError
from schemas.chunks import Chunk, Ended, Failed, Prefilled, Started
from schemas.model import SimulatedSpeed
from schemas.task import Made, pack_ids
from tests.engine.running import ORIGIN, PROMPT, a_task, finish, ids, reasons, run, tokens
from tests.models import tokenizer


def simulated(folder: Path, context: int | None = None, **speed: float) -> Engine:
    values = SimulatedSpeed(**({"prefill": 1e9, "decode": 1e9} | speed))  # type: ignore[arg-type]
    engine = make_engine(
        Wanted(engine="simulated", folder=folder, origin=ORIGIN, speed=values, context=context)
    )
    engine.load(lambda _: None)
    engine.warm()
    return engine


def test_answers_are_printable_and_depend_on_the_prompt(llama: Path) -> None:
    engine = simulated(llama)
    first, again, other = ids(engine), ids(engine), ids(engine, prompt=[9, 8, 7])
    assert first == again != other
    pieces = tokenizer(1024)["model"]["vocab"]  # type: ignore[index]
    names = {at: piece for piece, at in pieces.items()}
    assert all(names[token].isalpha() and names[token].isascii() for token in first + other)


def test_a_later_attempt_goes_on_as_the_first_would_have(llama: Path) -> None:
    engine = simulated(llama)
    whole = ids(engine, temperature=1.0, seed=-4)
    rest = run(engine, a_task(prompt=PROMPT, made=(Made(pack_ids(whole[:4])),), temperature=1.0, seed=-4))
    assert tokens(rest) == whole[4:]


def test_it_makes_several_sequences_and_goes_on_with_each(llama: Path) -> None:
    engine = simulated(llama)
    chunks = run(engine, a_task(n=3))
    said = [tokens(chunks, index=index) for index in range(3)]
    assert len({tuple(each) for each in said}) == 3
    made = (Made(pack_ids(said[0][:4])), Made(pack_ids(said[1]), "stop"), Made())
    later = run(engine, a_task(n=3, made=made))
    assert [tokens(later, index=index) for index in range(3)] == [said[0][4:], [], said[2]]
    assert (
        len(reasons(later)) == 2 and isinstance(later[-1], Ended) and later[-1].usage.completion_tokens == 30
    )


def test_one_sequence_may_be_cancelled(llama: Path) -> None:
    engine = simulated(llama)
    engine.add(a_task(n=2, max_tokens=20))
    before = engine.step()
    engine.cancel(a_task().request, 0, 1)
    chunks = before + finish(engine)
    assert len(tokens(chunks)) == 20 > len(tokens(chunks, index=1))
    assert sorted(reasons(chunks)) == ["cancelled", "length"]


def test_what_it_cannot_do_is_refused(llama: Path) -> None:
    engine = simulated(llama, slots=2)
    cases: list[tuple[dict[str, Any], str]] = [({"logprobs": 0}, "logprobs"), ({"n": 3}, "makes 2 sequences")]
    for values, said in cases:
        (failed,) = run(engine, a_task(**values))
        assert isinstance(failed, Failed) and failed.code == "bad_request" and said in failed.reason


def test_it_keeps_its_speed(llama: Path) -> None:
    engine = simulated(llama, prefill=1000, decode=200)
    began = time.perf_counter()
    chunks = run(engine, a_task(prompt=[5] * 100, max_tokens=41))
    took = time.perf_counter() - began
    assert took >= 0.9 * (0.1 + 40 / 200), "a loaded machine may be slower, none is faster"
    assert len(tokens(chunks)) == 41 and isinstance(chunks[0], Started) and isinstance(chunks[-1], Ended)


@pytest.mark.bench
def test_it_waits_without_using_the_processor(llama: Path) -> None:
    engine = simulated(llama, decode=20)
    began = time.process_time()
    run(engine, a_task(max_tokens=10))
    assert time.process_time() - began < 0.1


def test_many_run_at_once_and_the_rest_wait(llama: Path) -> None:
    engine = simulated(llama, decode=100, slots=2)
    for request in ("r1", "r2", "r3"):
        engine.add(a_task(request=request, max_tokens=20))
    chunks = finish(engine)
    order = [
        (type(chunk).__name__, str(chunk.request)) for chunk in chunks if isinstance(chunk, Started | Ended)
    ]
    assert [request for kind, request in order if kind == "Started"] == ["r1", "r2", "r3"]
    assert order.index(("Started", "r3")) > min(order.index(("Ended", "r1")), order.index(("Ended", "r2")))


@pytest.mark.bench
def test_five_hundred_streams_reach_150_000_tokens_a_second(llama: Path) -> None:
    engine = simulated(llama, slots=500)
    tasks = [a_task(request=f"r{number}", max_tokens=100) for number in range(500)]
    began = time.process_time()
    chunks = run(engine, *tasks)
    assert len(chunks) > 500 * 100
    assert 500 * 100 / (time.process_time() - began) >= 150_000


def test_long_prompts_give_signs_of_life(llama: Path) -> None:
    chunks = run(simulated(llama, prefill=400), a_task(prompt=[5] * 300, max_tokens=1))
    assert any(isinstance(chunk, Prefilled) for chunk in chunks)


def test_news_end_a_step_that_waits(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unwoken, it would wait for longer than a test may take."""
    monkeypatch.setattr("actors.engine.simulated.SIGN_OF_LIFE_S", 100_000.0)
    engine = simulated(llama, prefill=0.001)
    engine.add(a_task())
    assert isinstance(engine.step()[0], Started)
    threading.Timer(0.02, engine.wake).start()
    engine.step()
    engine.cancel(a_task().request, 0)
    assert reasons(finish(engine)) == ["cancelled"]


def test_a_bad_task_ends_no_other(llama: Path) -> None:
    engine = simulated(llama, context=64)
    chunks = run(engine, a_task(), a_task(request="bad", max_tokens=100), a_task(request="r2"))
    assert [chunk.request for chunk in chunks if isinstance(chunk, Failed)] == ["bad"]
    assert len(tokens(chunks)) == len(tokens(chunks, "r2")) == 10


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineLoadError, match=r"tokenizer\.json"):
        simulated(tmp_path)


def test_an_attempt_whose_sequences_are_all_complete_ends_at_once(llama: Path) -> None:
    made = (Made(pack_ids([9, 9]), "stop"), Made(pack_ids([8]), "length"))
    chunks = run(simulated(llama), a_task(n=2, made=made))
    assert [type(chunk) for chunk in chunks] == [Started, Ended]
    assert chunks[-1].usage.completion_tokens == 3  # type: ignore[union-attr]


def test_a_kept_prefix_costs_no_reading_and_is_told(llama: Path) -> None:
    engine = simulated(llama, cache_tokens=1000)
    prompt = [at % 900 + 2 for at in range(320)]
    first = run(engine, a_task(prompt=prompt, max_tokens=64))
    assert cached(first) == 0
    changes = engine.prefix_changes()
    assert changes is not None and len(changes.added) == 12 and not changes.removed  # 384 tokens
    turn = [*prompt, *tokens(first), 5, 5]
    assert cached(run(engine, a_task(prompt=turn, max_tokens=1))) == 384
    assert cached(run(engine, a_task(prompt=prompt, max_tokens=1))) == 288, "one token at least is read"


def test_prefixes_used_longest_ago_are_forgotten_from_their_ends_on(llama: Path) -> None:
    engine = simulated(llama, cache_tokens=640)
    prompts = [[at + 2] * 321 for at in range(3)]
    for which in (0, 1, 0, 2):
        run(engine, a_task(prompt=prompts[which], max_tokens=1))
    engine.prefix_changes()
    assert [cached(run(engine, a_task(prompt=prompts[which], max_tokens=1))) for which in (0, 2, 1)] == [
        *(320, 320, 0)
    ]
    changes = engine.prefix_changes()
    assert changes is not None and len(changes.added) == len(changes.removed) == 10


def test_none_is_kept_unless_it_is_asked_for(llama: Path) -> None:
    engine = simulated(llama)
    run(engine, a_task(prompt=[3] * 320))
    assert cached(run(engine, a_task(prompt=[3] * 320))) == 0 and engine.prefix_changes() is None


def cached(chunks: list[Chunk]) -> int:
    """As its start and its end tell."""
    (started,) = [chunk for chunk in chunks if isinstance(chunk, Started)]
    (ended,) = [chunk for chunk in chunks if isinstance(chunk, Ended)]
    assert started.cached_tokens == ended.usage.cached_tokens
    return started.cached_tokens
