"""Ranks that share a model's layers, or the heads of each, answer as one process does: greedy and drawn, alone and together."""

from pathlib import Path

import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.port import Engine
from schemas.chunks import Chunk
from schemas.split import splittable
from schemas.task import Beams
from tests.engine.architectures import make_random
from tests.engine.ranks import Answers, Job, Script, play
from tests.engine.running import ORIGIN, a_task, finish, likelihoods, run, tokens

PROMPTS = ([5, 300, 17, 42, 400], [7] * 40, list(range(2, 150)), [9, 8, 7])
PIPELINES = {
    "llama": (3, 1),
    "qwen2": (1, 3),
    "qwen3": (2, 2),
    "qwen3_moe": (2, 2),
    "gpt_oss": (3, 1),
    "phi3": (1, 3),
    "olmo2": (2, 2),
    "ministral3": (1, 3),
    "qwen3_next": (2, 2),
    "deepseek_v3": (2, 2),
}
TENSORS = ("llama", "qwen2", "qwen3", "qwen3_moe", "gpt_oss", "ministral3", "deepseek_v3")


def asked(engine: Engine) -> Answers:
    """Each prompt alone, all together, again with what is kept of them, drawn, joined late and left early."""
    answers: Answers = {}
    for kind in ("alone", "again"):
        for at, prompt in enumerate(PROMPTS):
            chunks = run(engine, a_task(prompt, kind, max_tokens=16))
            answers[f"{kind} {at}"] = tokens(chunks, kind)
    answers |= together(engine, 16)
    chunks = run(engine, a_task(PROMPTS[2], "drawn", max_tokens=16, temperature=0.9, seed=5, n=2))
    answers |= {f"drawn {index}": tokens(chunks, "drawn", index) for index in (0, 1)}
    return answers | joined_and_left(engine)


def joined_and_left(engine: Engine) -> Answers:
    engine.add(a_task(PROMPTS[0], "first", max_tokens=40))
    engine.add(a_task(PROMPTS[3], "left", max_tokens=200))
    chunks = [chunk for _ in range(8) for chunk in engine.step()]
    engine.add(a_task(PROMPTS[2], "late", max_tokens=16))
    chunks += [chunk for _ in range(4) for chunk in engine.step()]
    engine.cancel(a_task(request="left").request, 0)
    chunks += finish(engine)
    assert 0 < len(tokens(chunks, "left")) < 100
    return {name: tokens(chunks, name) for name in ("first", "late")}


def asked_briefly(engine: Engine) -> Answers:
    """More ranks than cores wait for each other's turns on them."""
    answers = together(engine, 6)
    again = tokens(run(engine, a_task(PROMPTS[2], "again", max_tokens=6)), "again")
    searched = run(engine, a_task(PROMPTS[2], "searched", max_tokens=6, beams=Beams(width=3)))
    answers["searched"] = tokens(searched, "searched")
    return {"again": again, **of_all_lengths(engine), **answers}


def together(engine: Engine, most: int) -> Answers:
    given = {f"r{at}": prompt for at, prompt in enumerate(PROMPTS)}
    chunks = run(engine, *(a_task(given[name], name, max_tokens=most, logprobs=3) for name in given))
    return weighed(chunks, *given)


def weighed(chunks: list[Chunk], *requests: str) -> Answers:
    """What they say and how likely it was: random models say much the same whatever happens within them."""
    said: Answers = {name: tokens(chunks, name) for name in requests}
    return said | {f"{name}, how likely": likelihoods(chunks, name) for name in requests}


def asked_alike(engine: Engine) -> Answers:
    """Prompts that are read side by side where all layers keep all tokens."""
    prompts = {f"alike {at}": PROMPTS[2][: 20 + at] for at in range(4)}
    chunks = run(engine, *(a_task(prompt, name, max_tokens=4) for name, prompt in prompts.items()))
    return {name: tokens(chunks, name) for name in prompts}


def by_one(folder: Path, script: Script) -> Answers:
    engine = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN))
    engine.load(lambda _: None)
    try:
        return script(engine)
    finally:
        engine.close()


def of_all_lengths(engine: Engine) -> Answers:
    """A long one beside short ones is a batch of its own, and which is stepped is told by rank 0's clock."""
    long = [(7 * at + at * at % 13) % 500 + 2 for at in range(1900)]
    asked = {"long": long, "short": PROMPTS[0], "other": PROMPTS[3], "third": PROMPTS[1]}
    chunks: list[Chunk] = []
    for name, prompt in asked.items():
        engine.add(a_task(prompt, name, max_tokens=60 if name == "long" else 12))
        while not tokens(chunks, "long"):
            chunks += engine.step()
    chunks += finish(engine)
    return {name: tokens(chunks, name) for name in asked}


def require_equal(size: int, jobs: list[Job], script: Script = asked) -> None:
    """Deadlocked ranks are a failure too: nothing here may wait for ever."""
    expected = {folder: by_one(folder, script) for folder in {job.folder for job in jobs}}
    for job, answers in zip(jobs, play(size, jobs, script), strict=True):
        near = {name: pytest.approx(said, abs=1e-3) for name, said in expected[job.folder].items()}
        differ = {name for name, said in near.items() if answers[name] != said}
        assert not differ, f"{job.folder.name} {job.split} x{size}: {differ}"


def folder_of(architecture: str, tmp_path: Path) -> Path:
    return make_random(architecture, tmp_path / architecture, layers=4)


@pytest.mark.timeout(300)
def test_two_ranks_are_one(tmp_path: Path) -> None:
    qwen = folder_of("qwen3", tmp_path)
    require_equal(2, [Job(qwen, "pipeline", (3, 1)), Job(qwen, "tensor")], asked_briefly)


@pytest.mark.timeout(300)
def test_ranks_whose_layers_are_of_different_kinds_are_one(tmp_path: Path) -> None:
    """Rank 0's layer keeps all tokens, rank 1's has a window."""
    oss = make_random("gpt_oss", tmp_path / "gpt_oss", layers=2)
    require_equal(2, [Job(oss, "pipeline", (1, 1), 1 << 20)], asked_alike)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_ranks_are_one_whatever_the_architecture(tmp_path: Path) -> None:
    folders = {name: folder_of(name, tmp_path) for name in PIPELINES}
    jobs = [Job(folders[name], "pipeline", layers) for name, layers in PIPELINES.items()]
    require_equal(2, [*jobs, *(Job(folders[name], "tensor") for name in TENSORS)])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_more_ranks_than_two(tmp_path: Path) -> None:
    llama, qwen = folder_of("llama", tmp_path), folder_of("qwen2", tmp_path)
    require_equal(3, [Job(llama, "pipeline", (2, 1, 1)), Job(qwen, "pipeline", (1, 1, 2))], asked_briefly)
    require_equal(4, [Job(llama, "pipeline", (1, 1, 1, 1)), Job(qwen, "tensor")], asked_briefly)


def test_what_is_tried_here_may_be_split() -> None:
    assert all("pipeline" in splittable(name) for name in PIPELINES)
    assert all("tensor" in splittable(name) for name in TENSORS)
