"""With a draft the same tokens come as without one, whatever it proposes; and it never stands in the way."""

from pathlib import Path
from typing import Any

import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.guide.evaluate import MODEL_FOLDER
from actors.engine.port import Engine, EngineLoadError
from actors.engine.speculation_worth import FIRST_PAUSE, SAMPLE, TRIAL, Worth
from schemas.chunks import Chunk, Ended, Failed, TokenLogprobs, Tokens
from schemas.task import Beams, Grammar, Made, pack_ids
from tests.engine.architectures import make_random
from tests.engine.drafts import DRAFTS, make_draft, speculate_always
from tests.engine.running import ORIGIN, a_task, finish, only_band, reasons, run, tokens
from tests.engine.test_equality import GRID, answers_of, later, require_equal
from tests.models import make_random_llama

WAYS: list[dict[str, Any]] = [
    {},
    {"temperature": 1.0, "seed": 5},
    {"temperature": 0.8, "top_p": 0.8, "seed": 9},
    {"temperature": 1.2, "top_k": 5, "min_p": 0.05, "seed": 2},
    {"temperature": 0.7, "presence_penalty": 0.7, "frequency_penalty": 0.3, "seed": -3},
    {"repetition_penalty": 1.3, "logit_bias": ((7, 2.0), (9, -100.0))},
    {"temperature": 1.0, "stop_ids": tuple(range(2, 60)), "min_tokens": 12, "seed": 8},
]
LONG = [3 + at % 700 for at in range(300)]


def loaded(folder: Path, draft: Path | None = None, **limits: Any) -> Engine:
    engine = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN, draft=draft, **limits))
    engine.load(lambda _: None)
    return engine


@pytest.fixture(scope="module")
def plain(llama: Path) -> Engine:
    return loaded(llama, cache_bytes=0)


@pytest.fixture(scope="module", params=DRAFTS)
def drafted(request: pytest.FixtureRequest, llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    draft = make_draft(request.param, llama, tmp_path_factory.mktemp("draft") / request.param)
    return loaded(llama, draft, cache_bytes=0)


@pytest.fixture(scope="module")
def noisy(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return loaded(llama, make_draft("noisy", llama, tmp_path_factory.mktemp("draft") / "d"))


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    speculate_always(monkeypatch)


def usage(chunks: list[Chunk], request: str = "r1") -> tuple[int, int]:
    """Proposed tokens that were right, and that were wrong."""
    (ended,) = (chunk for chunk in chunks if isinstance(chunk, Ended) and chunk.request == request)
    return ended.usage.accepted_tokens, ended.usage.rejected_tokens


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way) or "greedy")
def test_the_same_tokens_come_with_a_draft(plain: Engine, drafted: Engine, way: dict[str, Any]) -> None:
    task = a_task(max_tokens=48, **way)
    without, chunks = run(plain, task), run(drafted, task)
    assert tokens(chunks) == tokens(without)
    assert reasons(chunks) == reasons(without)
    assert sum(usage(chunks)) > 0
    assert usage(without) == (0, 0)


def test_a_model_is_its_own_perfect_draft(llama: Path) -> None:
    engine = loaded(llama, llama)
    for way in WAYS[:-1]:
        accepted, rejected = usage(run(engine, a_task(max_tokens=41, **way)))
        assert rejected <= 4, "only what comes after the end"
        assert accepted >= 32, "four of each five"


def test_some_proposals_of_a_noisy_draft_are_right(noisy: Engine) -> None:
    accepted, rejected = usage(run(noisy, a_task(max_tokens=200, temperature=1.0)))
    assert accepted > 10
    assert rejected > 10


def test_logprobs_are_the_same(plain: Engine, noisy: Engine) -> None:
    task = a_task(max_tokens=30, logprobs=3)
    expected, said = (_logprobs(run(engine, task)) for engine in (plain, noisy))
    assert [each.top_ids for each in said] == [each.top_ids for each in expected]
    assert [each.logprob for each in said] == pytest.approx([each.logprob for each in expected], abs=1e-4)


def _logprobs(chunks: list[Chunk]) -> list[TokenLogprobs]:
    return [each for chunk in chunks if isinstance(chunk, Tokens) for each in chunk.logprobs or ()]


def test_long_prompts_are_read_beside_the_answer(plain: Engine, noisy: Engine) -> None:
    """The first token waits for no draft, which reads in parts."""
    task = a_task(LONG, max_tokens=60, temperature=1.0)
    expected = tokens(run(plain, task))
    noisy.add(task)
    chunks: list[Chunk] = []
    while not any(isinstance(chunk, Tokens) for chunk in chunks):
        chunks += noisy.step()
    assert sum(isinstance(chunk, Tokens) for chunk in chunks) == 1
    chunks += finish(noisy)
    assert tokens(chunks) == expected
    assert sum(usage(chunks)) > 0


def test_who_joins_and_leaves_changes_nothing(plain: Engine, noisy: Engine) -> None:
    first = a_task(max_tokens=60, temperature=1.0, request="a")
    second = a_task(LONG[:70], max_tokens=20, temperature=1.0, request="b")
    noisy.add(first)
    chunks = [chunk for _ in range(6) for chunk in noisy.step()]
    noisy.add(second)
    chunks += finish(noisy)
    for task in (first, second):
        assert tokens(chunks, task.request) == tokens(run(plain, task), task.request)
    assert usage(chunks, "b") == (0, 0), "with two rows nothing is proposed"
    assert sum(usage(chunks, "a")) > 0


def test_a_cancel_ends_it_between_two_steps(plain: Engine, noisy: Engine) -> None:
    noisy.add(a_task(max_tokens=400, temperature=1.0))
    chunks = [chunk for _ in range(8) for chunk in noisy.step()]
    noisy.cancel(a_task().request, 1)
    chunks += finish(noisy)
    made = tokens(chunks)
    assert reasons(chunks) == ["cancelled"]
    assert made == tokens(run(plain, a_task(max_tokens=400, temperature=1.0)))[: len(made)]
    task = a_task([9, 8, 7], max_tokens=30)
    assert tokens(run(noisy, task)) == tokens(run(plain, task))


def test_the_next_turn_begins_with_what_is_kept(plain: Engine, noisy: Engine) -> None:
    answer = tokens(run(noisy, a_task(LONG[:40], max_tokens=50, temperature=1.0)))
    turn = a_task([*LONG[:40], *answer, 5, 6], max_tokens=30, temperature=1.0)
    chunks = run(noisy, turn)
    assert tokens(chunks) == tokens(run(plain, turn))
    (ended,) = (chunk for chunk in chunks if isinstance(chunk, Ended))
    assert ended.usage.cached_tokens >= 80


def test_a_later_attempt_goes_on(plain: Engine, noisy: Engine) -> None:
    whole = tokens(run(plain, a_task(max_tokens=50, temperature=1.0)))
    made = (Made(pack_ids(whole[:17])),)
    assert (
        whole[:17] + tokens(run(noisy, a_task(max_tokens=50, temperature=1.0, attempt=2, made=made))) == whole
    )


def test_with_the_batch_of_a_gpu(plain: Engine, llama: Path, tmp_path: Path) -> None:
    """mlx-lm's caches, and steps that are begun before the last one's tokens are read."""
    from actors.engine.plain import PlainBatch

    engine: Any = loaded(llama, make_draft("noisy", llama, tmp_path / "draft"), cache_bytes=0)
    decoding, draft = only_band(engine), engine._decoding.speculation._draft
    decoding._ahead = True
    decoding._batch, draft._batch = PlainBatch(engine._prefill._model), PlainBatch(draft._model)
    for way in WAYS:
        task = a_task(max_tokens=48, **way)
        assert tokens(run(engine, task)) == tokens(run(plain, task))
    short, long = a_task(max_tokens=8, request="a"), a_task(LONG[:40], max_tokens=60, request="b")
    drafted = engine.gauges.drafted
    together = run(engine, short, long)
    for task in (short, long):
        assert tokens(together, task.request) == tokens(run(plain, task), task.request)
    assert engine.gauges.drafted > drafted, "the one that is left in a merged batch goes on alone"


@pytest.mark.parametrize(
    "wish",
    [
        {"speculate": False},
        {"n": 2, "temperature": 1.0},
        {"beams": Beams(width=3)},
        {"rolling": True},
        {"grammar": Grammar(kind="regex", source="[a-z]{40,50}")},
    ],
    ids=lambda wish: next(iter(wish)),
)
def test_what_it_steps_aside_for(plain: Engine, noisy: Engine, wish: dict[str, Any]) -> None:
    task = a_task(max_tokens=20, **wish)
    without, chunks = run(plain, task), run(noisy, task)
    assert tokens(without)
    assert tokens(chunks) == tokens(without)
    assert usage(chunks) == (0, 0)


def test_a_draft_that_breaks_is_dropped(plain: Engine, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = loaded(llama, llama)
    draft = engine._decoding.speculation._draft
    propose, calls = draft.propose, list[int]()

    def broken(row: Any, count: int) -> Any:
        calls.append(count)
        if len(calls) > 2:
            raise RuntimeError("[malloc] the draft has no room")
        return propose(row, count)

    monkeypatch.setattr(draft, "propose", broken)
    task = a_task(max_tokens=60, temperature=1.0)
    chunks = run(engine, task)
    assert tokens(chunks) == tokens(run(plain, task))
    assert not any(isinstance(chunk, Failed) for chunk in chunks)
    assert len(calls) == 3
    assert engine.gauges.drafted >= 2, "what it had proposed was proposed"
    assert engine.gauges.draft_lost.endswith("which failed: [malloc] the draft has no room")


def test_what_a_draft_had_proposed_when_it_broke_changes_no_draw(
    plain: Engine, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = loaded(llama, llama)
    batch = engine._decoding.speculation._draft._batch
    score, calls = batch.score, list[int]()

    def broken(ids: Any) -> Any:
        calls.append(ids.size)
        if len(calls) == 2:
            raise RuntimeError("[malloc] the draft has no room")
        return score(ids)

    monkeypatch.setattr(batch, "score", broken)
    task = a_task(max_tokens=60, temperature=1.0)
    assert tokens(run(engine, task)) == tokens(run(plain, task))
    assert len(calls) == 2 and engine._decoding.speculation is None


def test_a_draft_that_cannot_read_is_dropped(
    plain: Engine, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = loaded(llama, llama)

    def broken(_seconds: float) -> None:
        raise RuntimeError("[malloc] the draft has no room")

    monkeypatch.setattr(engine._decoding.speculation._draft, "read", broken)
    task = a_task(LONG[:40], max_tokens=20)
    assert tokens(run(engine, task)) == tokens(run(plain, task)), "the request is not blamed"
    assert engine._decoding.speculation is None


def test_what_was_drawn_before_a_round_that_fails_is_sent(
    plain: Engine, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = loaded(llama, llama)
    decoding, speculation = only_band(engine), engine._decoding.speculation
    decoding._ahead = True
    pauses = iter([True, True, True])
    monkeypatch.setattr(Worth, "resting", property(lambda _: next(pauses, False)))

    def broken(_row: Any, _count: int) -> Any:
        assert decoding._drawn is None
        raise RuntimeError("[malloc] the draft has no room")

    monkeypatch.setattr(speculation._draft, "propose", broken)
    task = a_task(max_tokens=20)
    chunks = [chunk for chunk in run(engine, task) if isinstance(chunk, Tokens)]
    assert [chunk.offset for chunk in chunks] == list(range(20))
    assert tokens(list(chunks)) == tokens(run(plain, task))
    assert engine._decoding.speculation is None


def test_gauges_count_what_was_proposed_and_its_memory(llama: Path) -> None:
    engine = loaded(llama, llama)
    chunks = run(engine, a_task(max_tokens=30))
    gauges = engine.gauges
    assert (gauges.accepted, gauges.drafted) == (usage(chunks)[0], sum(usage(chunks)))
    assert gauges.batch_bytes > 0, "what the draft has read is kept for the next turn"


def test_near_the_end_of_the_context_nothing_is_proposed(plain: Engine, noisy: Engine) -> None:
    task = a_task(LONG, max_tokens=212)
    assert tokens(run(noisy, task)) == tokens(run(plain, task))


class TestUnfit:
    """Refused when the engine loads, with both sides named."""

    def test_another_number_of_tokens(self, llama: Path, tmp_path: Path) -> None:
        draft = make_random_llama(tmp_path / "d", vocab=700)
        with pytest.raises(EngineLoadError, match=r"d has 700 tokens, and the model in .* 1,024"):
            loaded(llama, draft)

    def test_other_tokens(self, llama: Path, tmp_path: Path) -> None:
        draft = make_draft("noisy", llama, tmp_path / "d")
        file = draft / "tokenizer.json"
        file.write_text(file.read_text().replace('"ab": ', '"AB_": ').replace('["a", "b"]', '["a", "B_"]'))
        with pytest.raises(EngineLoadError, match=r"no draft is possible"):
            loaded(llama, draft)

    def test_caches_that_cannot_be_rewound(self, tmp_path: Path) -> None:
        folder = make_random("gemma3_text", tmp_path / "gemma")
        with pytest.raises(EngineLoadError, match=r"cannot be taken back .* RotatingKVCache"):
            loaded(folder, folder)


def test_logits_may_be_padded_differently(tmp_path: Path) -> None:
    """Families share a tokenizer, and round the number of logits up as their sizes suit."""
    model = make_random_llama(tmp_path / "m", seed=1)
    draft = make_random_llama(tmp_path / "d", hidden=32, seed=2)
    wide = make_random_llama(tmp_path / "w", hidden=32, vocab=1060, seed=2)
    (wide / "tokenizer.json").write_text((model / "tokenizer.json").read_text())
    expected = tokens(run(loaded(model), a_task(max_tokens=40, temperature=1.0)))
    for one, other in ((model, wide), (wide, draft)):
        engine = loaded(one, other)
        said = tokens(run(engine, a_task(max_tokens=40, temperature=1.0)))
        assert engine.gauges.drafted > 0
        assert one is not model or said == expected


class TestWorth:
    """By the clock."""

    @pytest.fixture(autouse=True)
    def _always(self) -> None:
        """As it is."""

    @pytest.fixture
    def worth(self) -> Worth:
        worth = Worth(4)
        for _ in range(SAMPLE):
            assert worth.resting
            worth.note_plain(1.0)
        assert not worth.resting
        return worth

    def test_it_rests_when_rounds_cost_more_than_they_save(self, worth: Worth) -> None:
        for _ in range(TRIAL):
            assert not worth.resting
            worth.note_round(2.0, 1)
        assert worth.resting
        for _ in range(FIRST_PAUSE):
            worth.note_plain(1.0)
        assert not worth.resting

    def test_it_rests_longer_each_time(self, worth: Worth) -> None:
        pauses: list[int] = []
        for _ in range(3):
            while not worth.resting:
                worth.note_round(2.0, 1)
            pauses.append(0)
            while worth.resting:
                worth.note_plain(1.0)
                pauses[-1] += 1
        assert pauses == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]

    def test_it_goes_on_while_it_pays(self, worth: Worth) -> None:
        for _ in range(100):
            worth.note_round(2.0, 5)
            assert not worth.resting
        assert worth.count == 4

    def test_it_proposes_fewer_when_few_are_right(self, worth: Worth) -> None:
        worth.note_round(0.1, 1)
        assert worth.count == 2
        worth.note_round(0.1, 1)
        assert worth.count == 1
        worth.note_round(0.1, 2)
        assert worth.count == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestGrid:
    """All of `test_equality`'s ways to ask, on three architectures with three drafts each."""

    @pytest.fixture(scope="class", params=("guide", "llama", "qwen3"))
    def folder(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
        if request.param == "guide":
            return MODEL_FOLDER
        return make_random(request.param, tmp_path_factory.mktemp("model") / request.param)

    @pytest.mark.parametrize("kind", DRAFTS)
    def test_with_a_draft_equals_without(self, folder: Path, kind: str, tmp_path: Path) -> None:
        from random import Random

        plain, random = loaded(folder, cache_bytes=0), Random(4)
        engine = loaded(folder, make_draft(kind, folder, tmp_path / "draft"))
        alone: dict[tuple[str, int], list[int]] = {}
        said: dict[tuple[str, int], list[int]] = {}
        for point in GRID[::2]:  # of three with the same parameters, one at least
            alone |= answers_of(run(plain, point.task()), [point])
            said |= answers_of(run(engine, point.task()), [point])
        require_equal(alone, said)
        for point in GRID[::6]:
            task, made = later(point, alone, random)
            chunks = run(engine, task)
            for index, before in enumerate(made):
                said[point.request, index] = before + tokens(chunks, point.request, index)
        require_equal(alone, said)
        assert engine.gauges.drafted > 1000
