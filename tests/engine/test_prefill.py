"""Prompts are read in chunks: nobody who decodes stops for them, short ones pass long ones, and none starves."""

from typing import Any

import pytest

from actors.engine.pace import FEWEST, LEAST, Pace
from actors.engine.port import Engine
from actors.engine.turn import Turn
from schemas.chunks import Chunk, Failed, Prefilled, Tokens
from schemas.ids import RequestId
from tests.engine.running import a_task, finish, run, tokens

LONG = [13 * at % 1000 + 2 for at in range(4000)]


def firsts(chunks: list[Chunk]) -> list[str]:
    """Requests in the order of their first tokens."""
    return list(dict.fromkeys(str(chunk.request) for chunk in chunks if isinstance(chunk, Tokens)))


def test_who_decodes_gets_a_token_between_any_two_chunks(roomy_engine: Engine) -> None:
    roomy_engine.add(a_task(request="running", max_tokens=3000))
    while not tokens(roomy_engine.step(), "running"):
        pass  # on a loaded machine its prompt may take two steps
    roomy_engine.add(a_task(LONG, "long", max_tokens=1))
    steps: list[list[Chunk]] = []
    while not any(isinstance(chunk, Tokens) and chunk.request == "long" for step in steps for chunk in step):
        steps.append(roomy_engine.step())
    roomy_engine.cancel(steps[0][0].request, 0)
    roomy_engine.cancel(a_task(request="running").request, 0)
    finish(roomy_engine)
    assert sum(isinstance(chunk, Prefilled) for step in steps for chunk in step) >= 8
    assert all(len(tokens(step, "running")) == 1 for step in steps[:-1])  # then they take turns


def test_few_of_many_do_not_keep_the_seats_of_those_who_left(roomy_engine: Any) -> None:
    """While a prompt is read seats are kept for those who come, but each is computed in every step."""
    crumb, decoding = Turn(0.0, budget=8), roomy_engine._decoding
    for at in range(8):
        roomy_engine.add(a_task(LONG[at:][:4], f"r{at}", max_tokens=400))
    while len(decoding.rows) < 8:
        roomy_engine.step(crumb)
    roomy_engine.add(a_task(LONG, "long", max_tokens=1))
    for left, seats in ((6, 8), (2, 2)):
        for at in range(left, 8):
            roomy_engine.cancel(RequestId(f"r{at}"), 0)
        roomy_engine.step(crumb)
        roomy_engine.step(crumb)
        assert roomy_engine.gauges.reading == 1
        assert [len(band.decoding._rows) for band in decoding._bands] == [seats]
    for request in ("r0", "r1", "long"):
        roomy_engine.cancel(RequestId(request), 0)
    finish(roomy_engine)


def test_a_short_prompt_passes_a_long_one(roomy_engine: Engine) -> None:
    roomy_engine.add(a_task(LONG, "long", max_tokens=2))
    chunks = roomy_engine.step()
    chunks += run(roomy_engine, a_task(LONG[5:100], "short", max_tokens=2))
    assert firsts(chunks) == ["short", "long"]


def test_a_long_prompt_does_not_starve(roomy_engine: Engine) -> None:
    roomy_engine.add(a_task(LONG, "long", max_tokens=1))
    chunks: list[Chunk] = []
    count = 0
    while "long" not in firsts(chunks) and count < 2000:
        count += 1
        for each in range(3):
            roomy_engine.add(a_task(LONG[count + each :][:60], f"short{count}-{each}", max_tokens=1))
        chunks += roomy_engine.step()
    chunks += finish(roomy_engine)
    assert count < 2000 and len(firsts(chunks)) == 3 * count + 1


def test_a_prompt_that_cannot_be_kept_ends_its_request_alone(
    roomy_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read, and there is no memory for a copy of it."""

    def keep(ids: list[int], cache: object) -> None:
        if ids[0] == LONG[0]:
            raise RuntimeError("[malloc] Unable to allocate 1 bytes")

    monkeypatch.setattr(roomy_engine._prefixes, "keep", keep)
    chunks = run(roomy_engine, a_task(LONG[:300], "broken"), a_task(LONG[5:300], "other"))
    (failed,) = [chunk for chunk in chunks if isinstance(chunk, Failed)]
    assert (failed.request, failed.code) == ("broken", "out_of_memory")
    assert len(tokens(chunks, "other")) == 10
    assert roomy_engine.idle and roomy_engine.gauges.reading == 0 and not roomy_engine._answers


@pytest.mark.parametrize("lengths", [[60] * 9, [1, 2, 3, 40, 41, 200], [90, 100, 110, 5]])
def test_prompts_that_are_read_side_by_side_give_what_each_gives_alone(
    engine: Engine, lengths: list[int]
) -> None:
    tasks = [a_task(LONG[at * 7 :][:length], f"r{at}", max_tokens=12) for at, length in enumerate(lengths)]
    alone = [tokens(run(engine, task), str(task.request)) for task in tasks]
    together = run(engine, *tasks)
    assert [tokens(together, str(task.request)) for task in tasks] == alone


def test_a_chunk_takes_no_longer_than_it_may() -> None:
    pace = Pace()
    assert pace.tokens(0) == FEWEST
    for _ in range(20):
        tokens = pace.tokens(0.1)
        pace.note(tokens, 0.01 + 0.001 * tokens)
    assert pace.tokens(0.1) == pytest.approx(90, abs=3)


def test_behind_many_tokens_fewer_fit_into_the_time() -> None:
    def seconds(tokens: int, depth: int) -> float:
        return (0.01 + 0.001 * tokens) * (1 + depth / 4000)

    pace = Pace()
    for depth in range(0, 16_000, 50):
        tokens = pace.tokens(0.1, depth)
        pace.note(tokens, seconds(tokens, depth), depth)
    for depth in range(0, 16_000, 1000):
        assert seconds(pace.tokens(0.1, depth), depth) == pytest.approx(0.1, abs=0.03)
    assert pace.tokens(0.1, 100_000) == pace.tokens(0.1, 15_999)


def test_chunks_that_may_stop_are_as_large_as_their_parts_may_be_long() -> None:
    pace = Pace()
    sizes: list[int] = []
    for at in range(30):
        tokens = pace.chunk(0.02, 512)
        sizes.append(tokens)
        part_s = 0.002 + 0.00005 * tokens
        pace.note(tokens, 8 * part_s, longest_s=20 * part_s if at == 15 else part_s)
    assert sizes[0] == LEAST and sizes[14] == pytest.approx(360, abs=20)
    assert min(sizes[15:]) > 100 and sizes[-1] == pytest.approx(sizes[14], abs=20)
