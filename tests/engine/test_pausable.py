"""A call that stops in its midst, and prompts that are read so: in parts, between which the others go on."""

from collections.abc import Callable
from math import inf
from typing import Any, cast

import pytest

from actors.engine.mlx_engine import MlxEngine
from actors.engine.pace import Pace
from actors.engine.patience import SPARE_S, SPARE_STEPS, WAIT_STEPS, Patience
from actors.engine.pausable import Pausable, pause
from actors.engine.port import Engine
from actors.engine.turn import Turn
from schemas.chunks import Chunk, Failed
from schemas.ids import RequestId
from schemas.task import Made, pack_ids
from tests.engine.running import a_task, finish, run, tokens

WHOLE = Turn(now=0.0, budget=512)
CRUMB = Turn(now=0.0, budget=512, wait_s=0.0)
"""No time: a portion goes on to the next place where it may stop."""
LONG = [13 * at % 1000 + 2 for at in range(150)]


@pytest.fixture(params=["its own attention", "MLX's attention"])
def stepping(engine: Engine, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MlxEngine:
    """An engine that is told its turns; on all machines with both kinds of attention."""
    monkeypatch.setattr("actors.engine.attention.slow_exp", lambda: request.param == "its own attention")
    return cast(MlxEngine, engine)


def drain(engine: MlxEngine, turn: Turn) -> list[Chunk]:
    chunks: list[Chunk] = []
    while not engine.idle:
        chunks += engine.step(turn)
    return chunks


def half_way(engine: MlxEngine, **tasks: list[int]) -> list[Chunk]:
    """One step, after which all that these requests wait for has begun and stopped."""
    for name, prompt in tasks.items():
        engine.add(a_task(prompt, name))
    chunks = engine.step(CRUMB)
    assert len(under_way(engine)) == 1
    return chunks


def under_way(engine: MlxEngine) -> list[Any]:
    return engine._prefill._portions


def test_it_stops_at_the_first_pause_after_its_time_is_over() -> None:
    done: list[int] = []

    def count() -> None:
        for at in range(3):
            done.append(at)
            pause()

    call = Pausable(count)
    assert [call.go_on(0), list(done), call.go_on(0), list(done)] == [False, [0], False, [0, 1]]
    assert call.go_on() and done == [0, 1, 2]


def test_what_it_raises_comes_to_whoever_goes_on_with_it() -> None:
    def fail() -> None:
        pause()
        raise MemoryError("no more")

    call = Pausable(fail)
    assert not call.go_on(0)
    with pytest.raises(MemoryError, match="no more"):
        call.go_on(0)


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_dropped_leaves_by_its_doors(begun: bool) -> None:
    left: list[bool] = []

    def hold() -> None:
        try:
            pause()
        finally:
            left.append(True)

    call = Pausable(hold)
    if begun:
        call.go_on(0)
    call.drop()
    assert left == [True] * begun


def test_nothing_stops_outside() -> None:
    pause()


def test_a_prompt_in_parts_gives_what_it_gives_in_one_go(stepping: MlxEngine) -> None:
    stepping.add(a_task(LONG))
    whole = drain(stepping, WHOLE)
    stepping.add(a_task(LONG))
    assert tokens(drain(stepping, CRUMB)) == tokens(whole)


def test_who_decodes_gets_a_token_between_any_two_parts(stepping: MlxEngine) -> None:
    stepping.add(a_task(request="running", max_tokens=400))
    stepping.step(WHOLE)
    stepping.add(a_task(LONG, "long", max_tokens=1))
    steps: list[list[Chunk]] = []
    stopped = 0
    while not any(tokens(step, "long") for step in steps):
        steps.append(stepping.step(CRUMB))
        stopped += len(under_way(stepping))
    stepping.cancel(RequestId("running"), 1)
    finish(stepping)
    assert all(len(tokens(step, "running")) == 1 for step in steps)
    portions = -(-len(LONG) // 16)
    assert (
        stopped >= 2 * portions - 2
    )  # two layers, so that each portion stops twice, but for the last few tokens


def test_a_cancel_between_two_parts_frees_the_slot(stepping: MlxEngine) -> None:
    half_way(stepping, r1=LONG)
    stepping.cancel(RequestId("r1"), 1)
    stepping.step(CRUMB)
    assert stepping.idle and not under_way(stepping) and stepping.gauges.reading == 0


def test_an_engine_that_closes_drops_what_has_stopped(stepping: MlxEngine) -> None:
    alone = tokens(run(stepping, a_task(LONG)))
    half_way(stepping, long=LONG)
    stepping.close()
    assert stepping.idle and not under_way(stepping)
    assert tokens(run(stepping, a_task(LONG))) == alone


def test_one_of_several_that_are_read_side_by_side_leaves(stepping: MlxEngine) -> None:
    prompts = {f"r{at}": LONG[at:][:2] for at in range(2)}
    alone = tokens(run(stepping, a_task(prompts["r1"], "r1")), "r1")
    half_way(stepping, **prompts)
    assert len(under_way(stepping)[0].readings) == 2
    stepping.cancel(RequestId("r0"), 1)
    chunks = drain(stepping, CRUMB)
    assert tokens(chunks, "r1") == alone and not tokens(chunks, "r0")


def test_one_of_several_leaves_before_they_are_read_at_all(
    stepping: MlxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = {f"r{at}": LONG[at:][:2] for at in range(2)}
    alone = tokens(run(stepping, a_task(prompts["r1"], "r1")), "r1")
    for name, prompt in prompts.items():
        stepping.add(a_task(prompt, name))
    stepping._admit()
    chosen = stepping._prefill._next(512, 1.0, 1.0, beside=False)
    assert len(chosen.readings) == 2 and under_way(stepping) == [chosen]
    stepping.cancel(RequestId("r0"), 1)
    monkeypatch.setattr(stepping._prefill, "_fail", None)
    assert tokens(drain(stepping, CRUMB), "r1") == alone


def test_a_part_that_takes_longer_than_thought_still_stops(
    stepping: MlxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping._prefill, "_pace", Pace(tokens_s=1e9))
    stepping.add(a_task(LONG[:16]))
    stopped = 0
    for _ in range(3):
        stepping.step(CRUMB)
        stopped += len(under_way(stepping))
    drain(stepping, WHOLE)
    assert stopped == 2, "once for each layer"


def test_what_else_there_is_of_an_answer_that_fails_is_not_read(
    stepping: MlxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.engine.reading import Reading

    whole, begun = Reading.go_on, list[int]()

    def breaks(reading: Reading, model: Any, count: int) -> None:
        if reading.read:
            begun.append(reading.read)
            raise MemoryError("no more")
        whole(reading, model, count)

    monkeypatch.setattr(Reading, "go_on", breaks)
    made = tuple(Made(pack_ids(LONG[:count])) for count in (3, 4, 5))
    chunks = run(stepping, a_task(LONG[:20], n=3, made=made, attempt=2))
    assert [type(chunk) for chunk in chunks].count(Failed) == 1
    assert len(begun) == 1


def test_a_failure_in_the_midst_ends_its_own_request_alone(
    stepping: MlxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.engine.reading import Reading

    whole = Reading.go_on

    def breaks(reading: Reading, model: Any, count: int) -> None:
        if reading.rows[0].answer.task.request == "bad":
            pause()
            raise MemoryError("no more")
        whole(reading, model, count)

    stepping.add(a_task(LONG))
    undisturbed = tokens(drain(stepping, WHOLE))
    monkeypatch.setattr(Reading, "go_on", breaks)
    chunks = half_way(stepping, bad=LONG[::-1])
    assert not any(isinstance(chunk, Failed) for chunk in chunks)
    stepping.add(a_task(LONG))
    chunks = drain(stepping, CRUMB)
    failed = [(chunk.request, chunk.code) for chunk in chunks if isinstance(chunk, Failed)]
    assert failed == [("bad", "out_of_memory")] and tokens(chunks) == undisturbed


def test_a_shorter_prompt_comes_between_the_parts_of_a_long_one(stepping: MlxEngine) -> None:
    alone = [tokens(run(stepping, a_task(prompt))) for prompt in (LONG, [5, 6, 7])]
    half_way(stepping, long=LONG)
    stepping.add(a_task([5, 6, 7], "short"))
    chunks = drain(stepping, CRUMB)
    order = [chunk.request for chunk in chunks if tokens([chunk], str(chunk.request))]
    assert order[0] == "short" and [tokens(chunks, name) for name in ("long", "short")] == alone


def test_ranks_of_a_group_never_stop(stepping: MlxEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping._prefill, "_stops", False)
    assert stepping.turn().wait_s == inf


@pytest.fixture
def beside_four() -> Callable[[float], Patience]:
    """Steps of 10 ms, of which some seconds are read in each."""
    patience = Patience()

    def after(read_s: float) -> Patience:
        patience.begin(4, 1, 0.01)
        patience.note(read_s)
        return patience

    return after


def test_a_long_prompt_leaves_what_was_saved_to_short_ones(
    beside_four: Callable[[float], Patience],
) -> None:
    patience = [beside_four(WAIT_STEPS * 0.01) for _ in range(100)][-1]
    assert (patience.wait_s, patience.spare_s) == (WAIT_STEPS * 0.01, SPARE_S)


def test_what_was_saved_is_spent_once_and_comes_again_slowly(
    beside_four: Callable[[float], Patience],
) -> None:
    assert beside_four(1.0).spare_s == 0
    steps = 1
    while beside_four(0).spare_s < SPARE_S:
        steps += 1
    assert steps == pytest.approx(SPARE_S / (SPARE_STEPS * 0.01), abs=2)


def test_nobody_waits_while_nobody_decodes() -> None:
    patience = Patience(wait_s=0, spare_s=0)
    patience.begin(0, 1, 0.01)
    assert patience.spare_s == SPARE_S


@pytest.mark.parametrize("ahead", range(4))
def test_a_long_prompt_has_its_turn_although_no_step_has_time_for_two(
    stepping: MlxEngine, ahead: int
) -> None:
    stepping._prefill._turn = ahead
    half_way(stepping, long=LONG)
    chunks: list[Chunk] = []
    steps = 0
    while not tokens(chunks, "long") and steps < 400:
        steps += 1
        stepping.add(a_task([5, 6], f"short{steps}", max_tokens=1))
        chunks = stepping.step(CRUMB)
    drain(stepping, WHOLE)
    assert steps < 400
