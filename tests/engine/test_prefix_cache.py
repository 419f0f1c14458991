"""Prefixes that are kept: found by their longest beginning, bounded, and the same answers with them as without."""

from pathlib import Path
from typing import Any

import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.mlx_engine import MlxEngine
from actors.engine.port import Engine
from schemas.chunks import Chunk, Ended, Prefilled, Started
from schemas.prefix import block_digests
from schemas.task import pack_ids
from tests.engine.architectures import make_random
from tests.engine.running import ORIGIN, a_task, run, tokens

PROMPT = [11 * at % 1000 + 2 for at in range(200)]
ONE = 2 * 2 * 2 * 16 * 4 * 256
"""Bytes of a prompt of 240 tokens: layers, keys and values, heads, width, float32, places."""


def loaded(folder: Path, cache_bytes: int | None) -> MlxEngine:
    engine = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN, cache_bytes=cache_bytes))
    assert isinstance(engine, MlxEngine)
    engine.load(lambda _: None)
    return engine


@pytest.fixture
def keeping(llama: Path, warm_engine: Engine) -> MlxEngine:
    return loaded(llama, 100 * 2**20)


def cached(chunks: list[Chunk], request: str = "r1") -> tuple[int, int]:
    """As its start and its end tell."""
    of = [chunk for chunk in chunks if chunk.request == request]
    started = next(chunk for chunk in of if isinstance(chunk, Started))
    ended = next(chunk for chunk in of if isinstance(chunk, Ended))
    return started.cached_tokens, ended.usage.cached_tokens


@pytest.mark.parametrize("values", [{}, {"temperature": 1.0, "seed": 4}], ids=str)
def test_the_next_turn_computes_only_what_is_new(
    keeping: MlxEngine, engine: Engine, values: dict[str, Any]
) -> None:
    first = run(keeping, a_task(PROMPT, max_tokens=50, **values))
    assert cached(first) == (0, 0)
    history = PROMPT + tokens(first)
    turn = a_task([*history, 7, 8, 9], max_tokens=50, **values)
    again = run(keeping, turn)
    assert cached(again) == (249, 249)  # the last token was never fed
    assert tokens(again) == tokens(run(engine, turn))


def test_the_same_prompt_again_needs_no_reading(keeping: MlxEngine, engine: Engine) -> None:
    task = a_task(PROMPT, max_tokens=30)
    first, again = run(keeping, task), run(keeping, task)
    assert tokens(first) == tokens(again) == tokens(run(engine, task))
    assert cached(again) == (199, 199)
    assert [chunk for chunk in again if isinstance(chunk, Prefilled)] == []


def test_who_writes_on_a_prefix_changes_it_for_nobody(keeping: MlxEngine, engine: Engine) -> None:
    """Several go on from one prefix, at once and later, in different ways."""
    run(keeping, a_task(PROMPT, max_tokens=1))
    tasks = [a_task([*PROMPT[:150], at + 2, 5], f"r{at}", max_tokens=30) for at in range(5)]
    expected = run(engine, *tasks)
    for _ in range(2):
        found = run(keeping, *tasks)
        for at in range(5):
            assert tokens(found, f"r{at}") == tokens(expected, f"r{at}")
            assert cached(found, f"r{at}")[0] >= 150


def test_prompts_that_arrive_together_share_what_the_first_has_read(keeping: MlxEngine) -> None:
    long = [at % 900 + 2 for at in range(450)]
    chunks = run(keeping, *(a_task([*long, at + 2], f"r{at}", max_tokens=5) for at in range(3)))
    known = sorted(cached(chunks, f"r{at}")[1] for at in range(3))
    assert known[0] == 0 and known[1:] == [450, 450]


def test_less_than_a_block_is_not_looked_for(keeping: MlxEngine) -> None:
    run(keeping, a_task(PROMPT[:31], max_tokens=1))
    assert cached(run(keeping, a_task(PROMPT[:31], max_tokens=1))) == (0, 0)
    assert cached(run(keeping, a_task([*PROMPT[:20], 3, 4, *PROMPT], max_tokens=1))) == (0, 0)


def test_it_keeps_to_its_bytes_and_forgets_what_was_used_longest_ago(
    llama: Path, warm_engine: Engine
) -> None:
    keeping = loaded(llama, 3 * ONE)
    prompts = [[at + 2] * 240 for at in range(4)]
    for which in (0, 1, 2, 0, 3):
        run(keeping, a_task(prompts[which], max_tokens=1))
        assert keeping._prefixes.nbytes <= 3 * ONE
    known = [keeping._prefixes.find(prompt)[1] for prompt in prompts]
    assert known[0] and not known[1] and known[2] and known[3]


def test_none_is_kept_where_none_may_be(llama: Path, warm_engine: Engine) -> None:
    none = loaded(llama, 0)
    run(none, a_task(PROMPT))
    assert cached(run(none, a_task(PROMPT))) == (0, 0) and len(none._prefixes) == 0


def test_caches_that_cannot_be_cut_are_not_kept(tmp_path: Path, warm_engine: Engine) -> None:
    rotating = loaded(make_random("gemma3_text", tmp_path / "gemma3"), 100 * 2**20)
    ids = [token % 500 for token in PROMPT]
    first, again = run(rotating, a_task(ids)), run(rotating, a_task(ids))
    assert tokens(first) == tokens(again) and cached(again) == (0, 0)


def told(keeping: MlxEngine) -> tuple[set[bytes], set[bytes]]:
    changes = keeping.prefix_changes()
    return (set(changes.added), set(changes.removed)) if changes else (set(), set())


def test_it_tells_what_it_has_come_to_keep_and_what_it_has_let_go(llama: Path, warm_engine: Engine) -> None:
    keeping = loaded(llama, 2 * ONE)
    prompts = [[at + 2] * 240 for at in range(3)]
    digests = [set(block_digests(pack_ids(prompt))) for prompt in prompts]
    for at in range(2):
        run(keeping, a_task(prompts[at], max_tokens=1))
        added, removed = told(keeping)
        assert added <= digests[at] and len(added) == 7 and not removed
    assert keeping.prefix_changes() is None
    run(keeping, a_task(prompts[2], max_tokens=1))
    added, removed = told(keeping)
    assert added <= digests[2] and removed <= digests[0] and len(added) == len(removed) == 7
    keeping._prefixes.clear()
    assert told(keeping) == (set(), (digests[1] | digests[2]) & known_of(prompts[1:]))


def known_of(prompts: list[list[int]]) -> set[bytes]:
    """The last token of a prompt is never kept."""
    return {digest for prompt in prompts for digest in block_digests(pack_ids(prompt[:-1]))}


def test_what_comes_and_goes_between_two_looks_is_no_change(llama: Path, warm_engine: Engine) -> None:
    keeping = loaded(llama, ONE)
    run(keeping, a_task(PROMPT, max_tokens=1))
    told(keeping)
    run(keeping, a_task([*PROMPT, 7, 8], max_tokens=1))  # a longer one takes the place of the shorter
    assert keeping.prefix_changes() is None
    for at in range(3):
        run(keeping, a_task([at + 2] * 240, max_tokens=1))
    added, _ = told(keeping)
    assert added == known_of([[4] * 240])
