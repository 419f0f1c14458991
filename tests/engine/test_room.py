"""What runs keeps within the memory that it was given: who would exceed it waits in its order, who always would is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.port import EngineLoadError
from actors.engine.room import Room
from actors.runner.open_tasks import OpenTasks
from schemas.chunks import Chunk, Failed, Started
from schemas.ids import RequestId
from schemas.task import Beams
from tests.engine.running import ORIGIN, a_task, finish, run, tokens

PROMPT = list(range(2, 12))
TOKEN_BYTES = 2 * 2 * 2 * 16 * 4
"""Keys and values of two layers, two heads of 16 numbers each, in float32."""
FITS, TOO_MUCH = 100 * TOKEN_BYTES, "more than the 100 whose keys and values have place in batch_bytes"


@pytest.fixture(scope="module")
def loaded(llama: Path) -> Any:
    engine = make_engine(Wanted(engine="mlx", folder=llama, origin=ORIGIN, cache_bytes=0, batch_bytes=FITS))
    engine.load(lambda _: None)
    return engine


@pytest.fixture
def engine(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(loaded, "room", loaded.room)
    yield loaded
    for answer in loaded._answers:
        loaded.cancel(answer.task.request, 0)
    finish(loaded)


def begun(chunks: list[Chunk]) -> list[str]:
    return [chunk.request for chunk in chunks if isinstance(chunk, Started)]


def steps(engine: Any, count: int) -> list[Chunk]:
    return [chunk for _ in range(count) for chunk in engine.step()]


def test_bytes_are_tokens_of_keys_and_values(engine: Any) -> None:
    assert engine.room == Room(100, context=512)


def test_one_more_begins_when_there_is_memory_for_all_of_it(engine: Any) -> None:
    engine.add(a_task(PROMPT, "first", max_tokens=50))
    engine.add(a_task(PROMPT, "large", max_tokens=31))
    engine.add(a_task(PROMPT, "small", max_tokens=1))
    chunks = steps(engine, 3)
    assert begun(chunks) == ["first"], "and no small one overtakes"
    assert engine.gauges.waiting == 2
    engine.cancel(RequestId("first"), 0)
    chunks += steps(engine, 3)
    assert begun(chunks) == ["first", "large", "small"]
    chunks += finish(engine)
    assert [len(tokens(chunks, name)) for name in ("large", "small")] == [31, 1]


def test_who_is_cancelled_in_the_line_keeps_nobody_waiting(engine: Any) -> None:
    engine.add(a_task(PROMPT, "first", max_tokens=50))
    engine.add(a_task(PROMPT, "search", max_tokens=20, beams=Beams(width=3)))
    engine.add(a_task(PROMPT, "small", max_tokens=1))
    assert begun(steps(engine, 2)) == ["first"]
    engine.cancel(RequestId("search"), 0)
    assert begun(steps(engine, 1)) == ["small"]


def test_a_bound_that_leaves_room_for_nobody_is_named_once(llama: Path) -> None:
    tiny = make_engine(Wanted(engine="mlx", folder=llama, origin=ORIGIN, cache_bytes=0, batch_bytes=1))
    tiny.load(lambda _: None)
    with pytest.raises(EngineLoadError, match="place in batch_bytes, which is 1") as failed:
        tiny.warm()
    assert not failed.value.retryable


def test_those_that_fit_run_at_once(engine: Any) -> None:
    for at in range(5):
        engine.add(a_task(PROMPT, f"r{at}", max_tokens=10))
    engine.add(a_task(PROMPT, "more", max_tokens=1))
    assert begun(steps(engine, 1)) == [f"r{at}" for at in range(5)]


@pytest.mark.parametrize(
    ("wish", "counted"),
    [
        ({"max_tokens": 91}, "1 x 101 tokens"),
        ({"max_tokens": 41, "n": 2, "temperature": 1.0}, "2 x 51 tokens"),
        ({"max_tokens": 24, "beams": Beams(width=3)}, "3 x 34 tokens"),
    ],
)
def test_what_will_never_fit_is_refused_with_the_numbers(
    engine: Any, wish: dict[str, Any], counted: str
) -> None:
    (failed,) = run(engine, a_task(PROMPT, **wish))
    assert isinstance(failed, Failed) and failed.code == "bad_request"
    assert failed.reason == f"{counted} of prompt and answer are {TOO_MUCH}, which is {FITS}"


def test_all_of_it_may_be_used(engine: Any) -> None:
    assert len(tokens(run(engine, a_task(PROMPT, max_tokens=90)))) == 90


def test_the_machine_s_own_bound_refuses_nobody_but_lets_no_other_in_beside(
    engine: Any, monkeypatch: pytest.MonkeyPatch, llama: Path
) -> None:
    usual: Any = make_engine(Wanted(engine="mlx", folder=llama, origin=ORIGIN, cache_bytes=0))
    usual.load(lambda _: None)
    assert usual.room.tokens > 10_000 and usual.room.answer == 4096
    usual.room = Room(20, answer=4)
    usual.add(a_task(PROMPT, "lone", max_tokens=100))
    usual.add(a_task(PROMPT, "fits", max_tokens=100))
    usual.add(a_task([*PROMPT, *PROMPT, *PROMPT], "next", max_tokens=5))
    assert begun(steps(usual, 2)) == ["lone"]
    chunks = finish(usual)
    assert begun(chunks) == ["fits", "next"] and len(tokens(chunks, "next")) == 5


def test_a_runner_offers_no_more_than_there_is_memory_for() -> None:
    open_tasks = OpenTasks()
    open_tasks.make_room(16, Room(100))
    first, second = a_task(PROMPT, "a", max_tokens=50), a_task(PROMPT, "b", max_tokens=31)
    assert open_tasks.has_room_for(first)
    open_tasks.take(first)
    assert not open_tasks.has_room_for(second)
    assert open_tasks.use == "1 of 16 slots and 60 of 100 tokens"
    assert open_tasks.has_room_for(a_task(PROMPT, "c", max_tokens=30))
    assert open_tasks.has_room_for(a_task(PROMPT, "d", max_tokens=500)), "its engine refuses it by name"
    open_tasks.close(first.request, first.attempt)
    assert open_tasks.has_room_for(second) and open_tasks.use == "0 of 16 slots and 0 of 100 tokens"


def test_the_simulated_engine_has_nothing_to_bound(tmp_path: Path) -> None:
    with pytest.raises(EngineLoadError, match="batch_bytes"):
        make_engine(Wanted(engine="simulated", folder=tmp_path, origin=ORIGIN, batch_bytes=1))
