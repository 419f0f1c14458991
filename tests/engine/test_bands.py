"""Rows of very different lengths decode in batches of their own, which take turns; what they say is what each says alone."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.engine.decoding import Decoding
from actors.engine.factory import Wanted, make_engine
from actors.engine.port import Engine
from actors.engine.turn import Turn
from schemas.chunks import Chunk, Failed
from schemas.ids import RequestId
from schemas.task import Beams, Task
from tests.engine.running import ORIGIN, a_task, finish, run, step_ahead, tokens
from tests.models import make_random_llama

WORTH = 200
"""Places that rows may look at in vain, here."""
READ = 4096


def prompt(length: int, seed: int = 1) -> list[int]:
    return [(31 * seed + 7 * at + at * at % 13) % 500 + 2 for at in range(length)]


@pytest.fixture(scope="module", params=["ring", "ahead"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`ahead`: as on a GPU, with mlx-lm's batch caches, a token ahead."""
    folder: Path = make_random_llama(tmp_path_factory.mktemp("bands"), context=4096)
    engine: Any = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN, cache_bytes=0))
    engine.load(lambda _: None)
    if request.param == "ahead":
        step_ahead(engine)
    return engine


@pytest.fixture
def engine(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(loaded._decoding, "_worth", WORTH)
    yield loaded
    for answer in loaded._answers:
        loaded.cancel(answer.task.request, 0)
    finish(loaded)


def lengths(engine: Any) -> list[int]:
    return [len(band.rows) for band in engine._decoding._bands]


def told(engine: Any, band: int, steps: int = 1) -> list[Chunk]:
    """So many steps of this band, whatever the clock says."""
    return [chunk for _ in range(steps) for chunk in engine.step(Turn(0.0, READ, band=band))]


def begun(engine: Any, *tasks: Task) -> list[Chunk]:
    """Until the prompts of all are read; meanwhile the oldest band is stepped."""
    chunks: list[Chunk] = []
    for task in tasks:
        engine.add(task)
        while task.request not in {row.answer.task.request for row in engine._decoding.rows}:
            chunks += told(engine, engine._decoding._bands[0].number)
    return chunks


SHORT = [a_task(prompt(4 + at, at), f"s{at}", max_tokens=50, temperature=at % 2, seed=at) for at in range(4)]
MIDDLE = a_task(prompt(300), "m", max_tokens=20)
LONG = a_task(prompt(3000), "l", max_tokens=12)
BEAMS = a_task(prompt(7), "b", max_tokens=12, beams=Beams(width=3))
SEVERAL = a_task(prompt(280, 5), "n", max_tokens=9, n=3, temperature=1.0, seed=4)


def answers(chunks: list[Chunk], tasks: list[Task]) -> dict[tuple[str, int], list[int]]:
    assert not [chunk for chunk in chunks if isinstance(chunk, Failed)]
    return {(task.request, at): tokens(chunks, task.request, at) for task in tasks for at in range(task.n)}


def test_each_says_what_it_says_alone(engine: Any) -> None:
    tasks = [*SHORT, MIDDLE, LONG, BEAMS, SEVERAL]
    alone = answers([chunk for task in tasks for chunk in run(engine, task)], tasks)
    chunks = begun(engine, *tasks)
    assert lengths(engine) == [7, 4, 1]
    assert answers(chunks + finish(engine), tasks) == alone
    assert lengths(engine) == [0]


def test_who_joins_late_and_who_leaves_changes_nobody_else(engine: Any) -> None:
    tasks = [SHORT[0], LONG, BEAMS, SHORT[1]]
    alone = answers([chunk for task in tasks for chunk in run(engine, task)], tasks)
    leaver = a_task(prompt(2500, 3), "leaver", max_tokens=900)
    chunks = begun(engine, SHORT[0], leaver)
    assert lengths(engine) == [1, 1]
    for task in tasks[1:]:
        engine.add(task)
        chunks += [chunk for _ in range(3) for chunk in engine.step()]
    engine.cancel(RequestId("leaver"), 0)
    chunks += finish(engine)
    assert answers(chunks, tasks) == alone


def test_rows_of_like_lengths_are_one_batch(engine: Any) -> None:
    begun(engine, *SHORT, *(a_task(prompt(30, at), f"more{at}", max_tokens=400) for at in range(4)))
    assert lengths(engine) == [8]


def test_answers_to_one_prompt_are_one_batch(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They begin with one cache, on which a row alone goes on."""
    together = answers(run(engine, SEVERAL), [SEVERAL])
    monkeypatch.setattr(engine._decoding, "_worth", 35)
    chunks = begun(engine, SEVERAL)
    assert lengths(engine) == [3]
    assert answers(chunks + finish(engine), [SEVERAL]) == together


def test_a_long_row_joins_without_anything_being_laid_out_anew(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not engine.compiled or engine._decoding._bands[0].decoding._ahead:
        pytest.skip("mlx-lm's batches have no arrays of ours")
    from actors.engine.ring import RingBatch

    laid_out: list[str] = []
    for name in ("_resize", "_with_seats"):
        whole = getattr(RingBatch, name)
        monkeypatch.setattr(RingBatch, name, lambda *given, n=name, w=whole: laid_out.append(n) or w(*given))
    begun(engine, *SHORT)
    (short,) = engine._decoding._bands
    capacity = short.decoding._batch._capacity
    laid_out.clear()
    begun(engine, a_task(prompt(3000), "long", max_tokens=40))
    long = engine._decoding._bands[1]
    told(engine, long.number)
    assert laid_out == []
    assert short.decoding._batch._capacity == capacity < 3000 <= long.decoding._batch._capacity


def test_each_band_gets_as_much_time(engine: Any) -> None:
    """By what their steps take; who comes later gets no more than others get from then on."""
    begun(engine, SHORT[0], a_task(prompt(1000), "long", max_tokens=100))
    bands = engine._decoding
    took = {band.number: seconds for band, seconds in zip(bands._bands, (0.01, 0.05), strict=True)}
    for band in bands._bands:
        band.used_s = bands._now_s

    def choose() -> int:
        for band in bands._bands:
            band.decoding.step_s = took[band.number]
        return bands.choose()

    short, long = took
    chosen = [choose() for _ in range(120)]
    assert Counter(chosen) == {short: 100, long: 20}
    between = "".join("L" if number == long else "s" for number in chosen).strip("s").split("L")[1:-1]
    assert {len(steps) for steps in between} <= {4, 5, 6}
    begun(engine, a_task(prompt(2600), "longest", max_tokens=100))
    took[bands._bands[2].number] = 0.05
    chosen = [choose() for _ in range(70)]
    assert 46 <= chosen.count(short) <= 54


def test_a_step_that_was_late_once_does_not_keep_its_band_waiting(engine: Any) -> None:
    begun(engine, SHORT[0])
    decoding = engine._decoding._bands[0].decoding
    decoding.step_s = 0.01
    decoding._note(60.0)
    assert decoding.step_s < 0.02
    for _ in range(100):
        decoding._note(0.1)
    assert decoding.step_s == pytest.approx(0.1, abs=0.01)


def test_the_band_that_a_turn_names_is_stepped(engine: Any) -> None:
    chunks = begun(engine, SHORT[0], a_task(prompt(1000), "long", max_tokens=60))
    short, long = (band.number for band in engine._decoding._bands)
    said = len(tokens(chunks, "s0")), len(tokens(chunks, "long"))
    for band, steps in ((short, 5), (long, 1), (short, 5), (long, 2), (99, 1)):
        chunks += told(engine, band, steps)
    assert len(tokens(chunks, "s0")) == said[0] + 11, "in place of a band that is gone, the oldest"
    assert len(tokens(chunks, "long")) == said[1] + 3


def test_bands_whose_rows_have_become_as_long_are_one(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine._decoding, "_worth", 100)
    tasks = [a_task(prompt(20, at), f"g{at}", max_tokens=90) for at in range(2)]
    tasks.append(a_task(prompt(100), "long", max_tokens=20))
    alone = answers([chunk for task in tasks for chunk in run(engine, task)], tasks)
    chunks = begun(engine, *tasks)
    assert lengths(engine) == [2, 1]
    while len(engine._decoding._bands) > 1:
        chunks += told(engine, engine._decoding._bands[0].number)
    assert lengths(engine) == [3]
    assert answers(chunks + finish(engine), tasks) == alone


def test_what_breaks_in_a_band_ends_nobody_in_another(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [SHORT[0], SHORT[1]]
    alone = answers([chunk for task in tasks for chunk in run(engine, task)], tasks)
    chunks = begun(engine, *tasks, a_task(prompt(1000), "long", max_tokens=60))
    long = engine._decoding._bands[1]
    with monkeypatch.context() as patch:
        patch.setattr(long.decoding, "_draw", broken)
        patch.setattr(long.decoding, "_read", broken)
        chunks += told(engine, long.number, 1)
    chunks += finish(engine)
    failed = [chunk for chunk in chunks if isinstance(chunk, Failed)]
    assert [chunk.request for chunk in failed] == ["long"]
    assert answers([chunk for chunk in chunks if chunk not in failed], tasks) == alone


def broken(*_: Any, **__: Any) -> None:
    raise RuntimeError("no such kernel")


def test_a_draft_works_for_a_row_alone_only(engine: Engine, llama: Path) -> None:
    drafted: Any = make_engine(Wanted(engine="mlx", folder=llama, origin=ORIGIN, cache_bytes=0, draft=llama))
    drafted.load(lambda _: None)
    drafted._decoding._worth = WORTH
    begun(drafted, a_task(prompt(4), "s", max_tokens=400), a_task(prompt(400), "long", max_tokens=50))
    assert lengths(drafted) == [1, 1]
    before = drafted.gauges.drafted
    for band in [band.number for band in drafted._decoding._bands] * 8:
        told(drafted, band)
    assert drafted.gauges.drafted == before
    drafted.cancel(RequestId("long"), 0)
    finish(drafted)
    assert drafted.gauges.drafted > before


def test_a_long_row_does_not_starve_beside_short_ones_that_come_and_go(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a band of its own, whose first step takes nobody knows how long, and which is soon gone."""
    monkeypatch.setattr(engine._decoding, "_worth", 10)
    monkeypatch.setattr(Decoding, "_note", lambda self, _: setattr(self, "step_s", 0.01))
    begun(engine, a_task(prompt(200), "long", max_tokens=100))
    chunks = list[Chunk]()
    for at in range(60):
        engine.add(a_task(prompt((4, 40, 90)[at % 3], at), f"s{at}", max_tokens=2))
        chunks += engine.step(Turn(0.0, READ, band=engine._decoding.choose()))
    assert len(tokens(chunks, "long")) >= 6
