"""An answer that goes on past the context says what a model says that is shown, for each token, what is in view."""

from pathlib import Path
from typing import Any

import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.port import Engine
from actors.engine.rolling import in_view
from schemas.chunks import Chunk, Ended, Failed
from schemas.task import Beams, Grammar, Made, Task, pack_ids
from tests.engine.architectures import make_random
from tests.engine.running import ORIGIN, a_task, run, step_ahead, tokens

SLOW = pytest.mark.slow
CONTEXT = 48
PROMPT = [(7 * at + at * at % 13) % 500 + 2 for at in range(21)]


@pytest.fixture(
    scope="module",
    params=[
        "llama",
        "ahead",
        pytest.param("gemma3_text", marks=SLOW),
        pytest.param("qwen3_next", marks=SLOW),
    ],
)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """`ahead`: as on a GPU, with mlx-lm's batch caches, a token ahead."""
    name = "llama" if request.param == "ahead" else request.param
    folder: Path = make_random(name, tmp_path_factory.mktemp("models") / name)
    engine = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN, context=CONTEXT))
    engine.load(lambda _: None)
    if request.param == "ahead":
        step_ahead(engine)
    return engine


def a_long(prompt: list[int] = PROMPT, request: str = "r1", **values: Any) -> Task:
    return a_task(prompt, request, rolling=True, **{"max_tokens": 100, **values})


def reference(engine: Any, prompt: list[int], count: int) -> list[int]:
    """Greedy, without any cache: when prompt and view fill the context, the older half of the view goes."""
    import mlx.core as mx

    answer: list[int] = []
    view: list[int] = []
    while len(answer) < count:
        logits: Any = engine._prefill._model(mx.array([prompt + view]))[0, -1]
        token = logits.tolist().index(mx.max(logits).item())
        answer.append(token)
        view.append(token)
        if len(prompt) + len(view) == CONTEXT:
            view = view[-(len(view) // 2) :]
    return answer


def test_each_token_is_the_likeliest_after_what_is_in_view(engine: Engine) -> None:
    chunks = run(engine, a_long())
    assert tokens(chunks) == reference(engine, PROMPT, 100)
    assert isinstance(chunks[-1], Ended)
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (21, 100)
    assert chunks[-1].usage.cached_tokens == 0


SAMPLED: list[dict[str, Any]] = [
    {"temperature": 0.8, "seed": 3, "n": 2},
    {"temperature": 1.0, "top_p": 0.9, "seed": 4, "frequency_penalty": 0.5, "stop_ids": tuple(range(40))},
    {"repetition_penalty": 1.2, "max_tokens": 130},
]


def test_together_as_alone_and_migrated_as_undisturbed(engine: Engine) -> None:
    tasks = [a_long(PROMPT[number:], f"s{number}", **values) for number, values in enumerate(SAMPLED)]
    other = a_task([9, 8, 7], "o", max_tokens=CONTEXT - 3, temperature=0.9, seed=5)
    alone = {task.request: said(run(engine, task), task) for task in (*tasks, other)}
    together: list[Chunk] = []
    for task in (*tasks, other):
        engine.add(task)
        together += engine.step()
    together += run(engine)
    for task in (*tasks, other):
        assert said(together, task) == alone[task.request]
    for task, values in zip(tasks, SAMPLED, strict=True):
        for done in (26, 28, 41):
            made = [each[:done] for each in alone[task.request]]
            again = a_long(
                PROMPT[tasks.index(task) :],
                task.request,
                attempt=2,
                made=tuple(Made(pack_ids(each)) for each in made),
                **values,
            )
            moved = said(run(engine, again), again)
            assert [a + b for a, b in zip(made, moved, strict=True)] == alone[task.request], done


def said(chunks: list[Chunk], task: Task) -> list[list[int]]:
    assert [chunk for chunk in chunks if isinstance(chunk, Failed)] == []
    return [tokens(chunks, task.request, index) for index in range(task.n)]


def test_whoever_joins_when_it_is_full_changes_nothing(engine: Engine) -> None:
    alone = tokens(run(engine, a_long(max_tokens=40)))
    for steps in range(25, 31):  # there is room for 27 tokens
        engine.add(a_long(max_tokens=40))
        chunks = [chunk for _ in range(steps) for chunk in engine.step()]
        chunks += run(engine, a_task([5, 6, 7], "joins", max_tokens=2))
        assert tokens(chunks) == alone, steps


def test_of_what_was_rolled_nothing_is_kept_but_the_prompt(engine: Any) -> None:
    prompt = PROMPT + PROMPT[:14]
    engine._prefixes.clear()
    chunks = run(engine, a_long(prompt, max_tokens=50))
    assert tokens(chunks) == reference(engine, prompt, 50)
    plain = engine._prefill._plain
    assert [len(kept.ids) for kept in engine._prefixes._prefixes.values()] == [34] * plain
    assert plain or not len(engine._prefixes)


def test_what_is_in_view_depends_on_lengths_alone() -> None:
    for room in range(2, 12):
        view = 0
        for made in range(60):
            assert in_view(room, made) == view, (room, made)
            view += 1
            if view == room:
                view = room // 2


def test_what_cannot_roll_is_refused(engine: Engine) -> None:
    for task, why in (
        (a_long(PROMPT * 2), "42 tokens of prompt leave less than a quarter of the context of 48 tokens"),
        (a_long(grammar=Grammar(kind="regex", source="a+")), "under a grammar"),
        (a_long(beams=Beams(width=2)), "in a beam search"),
    ):
        (failed,) = [chunk for chunk in run(engine, task) if isinstance(chunk, Failed)]
        assert failed.code == "bad_request" and why in failed.reason
