"""Beam search in the running batch says what a plain one says that computes every sequence anew."""

import re
from pathlib import Path
from typing import Any

import pytest

from actors.engine.beam_ranking import Complete, Ranking
from actors.engine.factory import Wanted, make_engine
from actors.engine.port import Engine
from schemas.chunks import Chunk, Ended, Failed, Searched, SequenceEnded, Tokens
from schemas.ids import RequestId
from schemas.task import Beams, Grammar, Made, Task, pack_ids
from tests.engine.architectures import make_random
from tests.engine.beam_reference import Found, Reference
from tests.engine.running import (
    ORIGIN,
    PROMPT,
    R1,
    a_task,
    finish,
    ids,
    only_band,
    reasons,
    run,
    step_ahead,
    tokens,
)
from tests.models import tokenizer

PIECES = {at: piece for piece, at in tokenizer(1024)["model"]["vocab"].items()}  # type: ignore[index]
SLOW = pytest.mark.slow
MANY_ENDS = tuple(range(100))
"""So many end tokens that a random model comes upon some."""
SEARCHES: list[dict[str, Any]] = [
    {"width": 4},
    {"width": 1, "stop_ids": (3, 5, 8)},
    {"width": 3, "stop_ids": MANY_ENDS[:60], "length_penalty": 0.3},
    {"width": 5, "stop_ids": MANY_ENDS, "early_stopping": True, "length_penalty": 2.0, "min_tokens": 3},
    {"width": 4, "stop_ids": MANY_ENDS, "early_stopping": "never", "bias": ((7, 3.0), (11, -9.0)),
     "presence": 0.3, "frequency": 0.2, "repetition": 1.2},
    {"width": 3, "stop_ids": MANY_ENDS, "length_penalty": -1.0},
]  # fmt: skip


def text(tokens: list[int]) -> str:
    return "".join(PIECES[token] for token in tokens if token > 1)


def loaded(folder: Path, **limits: Any) -> Engine:
    engine = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN, cache_bytes=0, **limits))
    engine.load(lambda _: None)
    return engine


def a_search(width: int, prompt: list[int] | None = None, request: str = "r1", **values: Any) -> Task:
    """In the words of `Reference`; all that is found is the answer."""
    names = ("length_penalty", "early_stopping", "stops")
    beams = Beams(width=width, **{name: values.pop(name) for name in names if name in values})
    values.setdefault("n", width)
    return a_task(
        prompt,
        request,
        beams=beams,
        logit_bias=values.pop("bias", ()),
        presence_penalty=values.pop("presence", 0.0),
        frequency_penalty=values.pop("frequency", 0.0),
        repetition_penalty=values.pop("repetition", 1.0),
        **values,
    )


def found(chunks: list[Chunk], n: int, request: str = "r1") -> list[list[int]]:
    return [tokens(chunks, request, index) for index in range(n)]


def expected(engine: Any, prompt: list[int] | None = None, **values: Any) -> list[Found]:
    return Reference(engine._prefill._model, prompt or PROMPT, max_tokens=12, **values).search()


@pytest.fixture(
    scope="module",
    params=[
        "llama",
        "ahead",
        "gemma3_text",
        pytest.param("qwen3", marks=SLOW),
        pytest.param("qwen3_next", marks=SLOW),
    ],
)
def any_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """`ahead`: as on a GPU, with mlx-lm's batch caches, a token ahead."""
    name = "llama" if request.param == "ahead" else request.param
    engine = loaded(make_random(name, tmp_path_factory.mktemp("models") / name))
    if request.param == "ahead":
        step_ahead(engine)
    return engine


PROMPTS = [[5, 300, 17, 42, 70, 9, 9, 100], [33], list(range(2, 60)), [7, 8, 9], [400, 2], [11] * 20]


def test_the_best_sequences_are_those_of_a_plain_search_alone_and_beside_others(any_engine: Engine) -> None:
    tasks = [
        a_search(prompt=prompt, request=f"b{number}", max_tokens=12, logprobs=0, **search)
        for number, (prompt, search) in enumerate(zip(PROMPTS, SEARCHES, strict=True))
    ]
    others = [
        a_task([9, 8, number], f"o{number}", temperature=0.8 * (number % 2), seed=number, max_tokens=20 + number)
        for number in range(3)
    ]  # fmt: skip
    undisturbed = {task.request: tokens(run(any_engine, task), task.request) for task in others}
    together: list[Chunk] = []
    for task in [*others, *tasks]:
        any_engine.add(task)
        together += any_engine.step()
    together += finish(any_engine)
    for task, prompt, search in zip(tasks, PROMPTS, SEARCHES, strict=True):
        want = expected(any_engine, prompt, **search)
        alone = run(any_engine, task)
        for chunks in (alone, together):
            assert found(chunks, task.n, task.request) == [each.ids for each in want], search
            assert ends_of(chunks, task.request) == [each.reason for each in want]
        assert shown(alone) == pytest.approx([value for each in want for value in each.logprobs], abs=1e-3)
    for task in others:
        assert tokens(together, task.request) == undisturbed[task.request]


def ends_of(chunks: list[Chunk], request: str) -> list[str]:
    return [each.reason for each in chunks if isinstance(each, SequenceEnded) and each.request == request]


def shown(chunks: list[Chunk]) -> list[float]:
    """The log-probabilities of all tokens, one sequence after the other."""
    return [each.logprob for chunk in chunks if isinstance(chunk, Tokens) for each in chunk.logprobs or ()]


def test_the_search_goes_on_where_the_ring_begins_anew(engine: Any) -> None:
    """Places for 256 tokens, of which one who leaves has left few."""
    prompt = [(7 * at + at * at % 13) % 500 + 2 for at in range(150)]
    want = Reference(engine._prefill._model, prompt, 3, max_tokens=30).search()
    engine.add(a_task([*prompt, *prompt[:94]], "o", max_tokens=4))
    engine.add(a_search(3, prompt, max_tokens=30))
    chunks: list[Chunk] = []
    places: list[int] = []
    while not engine.idle:
        chunks += engine.step()
        places.append(only_band(engine)._batch._place)
    assert any(0 < place < 20 for place in places) and max(places) > 250, "it goes round"
    assert found(chunks, 3) == [each.ids for each in want]


def test_only_the_best_are_the_answer_and_only_they_are_counted(engine: Engine) -> None:
    all_four = found(run(engine, a_search(4, stop_ids=MANY_ENDS)), 4)
    chunks = run(engine, a_search(4, n=2, stop_ids=MANY_ENDS))
    assert found(chunks, 4) == [*all_four[:2], [], []]
    assert isinstance(chunks[-1], Ended)
    assert chunks[-1].usage.completion_tokens == sum(len(each) for each in all_four[:2])


def test_a_long_answer_comes_at_the_end_in_parts_and_each_step_is_told(engine: Engine) -> None:
    chunks = run(engine, a_search(2, n=1, max_tokens=30, logprobs=20))
    assert [each.depth for each in chunks if isinstance(each, Searched)] == list(range(1, 30))
    parts = [each for each in chunks if isinstance(each, Tokens)]
    assert [(each.offset, len(each.ids) // 4, len(each.logprobs or ())) for each in parts] == [
        (0, 8, 8),
        (8, 8, 8),
        (16, 8, 8),
        (24, 6, 6),
    ]


def test_a_search_of_one_beam_is_greedy(engine: Engine) -> None:
    assert found(run(engine, a_search(1, max_tokens=25)), 1) == [ids(engine, max_tokens=25)]


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_when_a_search_is_settled(early_stopping: Any) -> None:
    ranking = Ranking(Beams(width=2, early_stopping=early_stopping), max_tokens=20)
    for total in (-4.0, -2.0):
        assert not ranking.settled(-0.1, 4)
        ranking.add(Complete(ranking.score(total, 4), [1], [], "stop"))
    assert [complete.score for complete in ranking.best] == [-0.5, -1.0]
    assert ranking.settled(-30.0, 5)  # -1.5 even at the end
    assert ranking.settled(-10.0, 5) == (early_stopping != "never")  # -2.0 now, -0.5 at the end
    assert ranking.settled(-4.0, 5) == (early_stopping is True)  # -0.8 now


def test_under_a_grammar_the_answers_are_its_likeliest_sentences(engine: Engine) -> None:
    sentences = ("abc", "abd", "ba", "bc", "zz", "zy", "q")
    grammar = Grammar(kind="regex", source="|".join(sentences))
    values: dict[str, Any] = {"width": 4, "length_penalty": 0.0}
    want = expected(engine, spell=text, sentences=sentences, **values)
    chunks = run(engine, a_search(grammar=grammar, max_tokens=12, **values))
    assert found(chunks, 4) == [each.ids for each in want]
    assert all(text(each) in sentences for each in found(chunks, 4))
    assert reasons(chunks) == ["stop"] * 4


def test_what_a_grammar_has_no_sentences_for_is_said_by_name(engine: Engine) -> None:
    two = Grammar(kind="regex", source="[01]")
    failed = [each for each in run(engine, a_search(5, n=3, grammar=two)) if isinstance(each, Failed)]
    assert [(each.code, each.reason) for each in failed] == [
        ("bad_request", "n is 3, and only 2 answers are possible")
    ]
    assert len(found(run(engine, a_search(5, n=2, grammar=two)), 2)) == 2


def test_a_stop_string_completes_a_sequence_wherever_its_tokens_part(engine: Engine) -> None:
    letters = [token for token, piece in PIECES.items() if set(piece) <= {"a", "b"}]
    values: dict[str, Any] = {
        "width": 3,
        "stops": ("abab", "bbb"),
        "bias": tuple((token, 50.0) for token in letters),
        "length_penalty": 0.0,
    }
    want = expected(engine, spell=text, **values)
    chunks = run(engine, a_search(max_tokens=12, **values))
    said = [text(each) for each in found(chunks, 3)]
    assert found(chunks, 3) == [each.ids for each in want]
    assert reasons(chunks) == [each.reason for each in want] and "stop" in reasons(chunks)
    for words, reason in zip(said, reasons(chunks), strict=True):
        assert bool(re.fullmatch("(?:(?!abab|bbb).)*(?:abab|bbb)[ab]?", words)) == (reason == "stop"), words


def test_beams_take_slots_and_who_has_none_waits(llama: Path) -> None:
    engine = loaded(llama, slots=4)
    for task in (a_search(3, request="b1"), a_task(request="o"), a_search(2, request="b2")):
        engine.add(task)
    chunks: list[Chunk] = []
    rows: list[int] = []
    while not engine.idle:
        chunks += engine.step()
        rows.append(engine.gauges.rows)
    assert max(rows) == 4
    last = [each.request for each in chunks if isinstance(each, Ended)]
    assert sorted(last) == ["b1", "b2", "o"] and last[-1] == "b2"
    failed = [each for each in run(engine, a_search(5, n=1)) if isinstance(each, Failed)]
    assert failed[0].reason == "beam_width is 5, and this instance makes 4 sequences at once"


def test_cancel_frees_all_beams_within_a_step(engine: Engine) -> None:
    undisturbed = ids(engine, max_tokens=40)
    engine.add(a_task(request="o", max_tokens=40))
    engine.add(a_search(6, max_tokens=300))
    chunks = [chunk for _ in range(8) for chunk in engine.step()]
    assert engine.gauges.rows == 7
    engine.cancel(R1, 0)
    chunks += engine.step()
    assert engine.gauges.rows == 1
    assert ends_of(chunks, "r1") == ["cancelled"] * 6
    assert tokens(chunks + finish(engine), "o") == undisturbed


def test_an_attempt_after_one_that_was_lost_says_the_same(engine: Engine) -> None:
    search: dict[str, Any] = {"width": 3, "stop_ids": MANY_ENDS}
    whole = found(run(engine, a_search(**search)), 3)
    made = (Made(pack_ids(whole[0]), "stop"), Made(pack_ids(whole[1][:1])), Made())
    again = run(engine, a_search(attempt=2, made=made, **search))
    assert found(again, 3)[1:] == whole[1:]
    assert isinstance(again[-1], Ended)
    assert again[-1].usage.completion_tokens == sum(map(len, whole))


def test_of_a_step_that_fails_the_search_begins_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.engine.row import Row

    def breaks(row: Row, *_: Any) -> list[Chunk]:
        raise RuntimeError("no such kernel")

    want = found(run(engine, a_search(4, max_tokens=20)), 4)
    other = ids(engine, max_tokens=20)
    engine.add(a_search(4, max_tokens=20))
    engine.add(a_task(request="o", max_tokens=20))
    chunks = [chunk for _ in range(6) for chunk in engine.step()]
    with monkeypatch.context() as patch:
        patch.setattr(type(only_band(engine)._batch), "step", breaks)  # type: ignore[attr-defined]
        chunks += engine.step()
    chunks += finish(engine)
    assert [chunk for chunk in chunks if isinstance(chunk, Failed)] == []
    assert found(chunks, 4) == want and tokens(chunks, "o") == other


def test_logits_that_are_not_finite_end_the_search_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlx.core as mx

    from actors.engine.ring import RingBatch

    whole = RingBatch.step

    def breaks(batch: RingBatch, given: mx.array) -> tuple[mx.array, mx.array]:
        best, logits = whole(batch, given)
        return mx.where(mx.arange(len(best)) == 2, logits.shape[-1], best), logits

    engine.add(a_task(request="o"))
    engine.add(a_search(4))
    chunks = [chunk for _ in range(4) for chunk in engine.step()]
    with monkeypatch.context() as patch:
        patch.setattr(RingBatch, "step", breaks)
        chunks += engine.step()
    chunks += finish(engine)
    failed = [chunk for chunk in chunks if isinstance(chunk, Failed)]
    assert [(chunk.request, chunk.code) for chunk in failed] == [(RequestId("r1"), "engine_failed")]
    assert tokens(chunks, "o") == ids(engine)
