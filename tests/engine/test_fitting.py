"""Which batch suits a model, found by trying."""

import json
from pathlib import Path
from typing import Any

import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.mlx_engine import MlxEngine
from actors.engine.port import Engine
from schemas.chunks import Chunk, Failed
from tests.engine.architectures import make_random
from tests.engine.running import ORIGIN, a_task, ids, run, tokens
from tests.models import make_random_llama


def loaded(folder: Path, **wanted: Any) -> MlxEngine:
    engine = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN, cache_bytes=0, **wanted))
    assert isinstance(engine, MlxEngine)
    engine.load(lambda _: None)
    return engine


def test_plain_caches_are_replayed_and_others_are_batched_as_mlx_lm_does(
    tmp_path: Path, warm_engine: Engine
) -> None:
    qwen, gemma = (loaded(make_random(name, tmp_path / name), slots=5) for name in ("qwen3", "gemma3_text"))
    assert (qwen.compiled, qwen.slots, gemma.compiled, gemma.slots) == (True, 5, False, 5)


def test_a_model_that_cannot_be_batched_runs_one_sequence_after_the_other(
    tmp_path: Path, warm_engine: Engine
) -> None:
    """mlx-lm's dynamic rope takes one offset for all rows."""
    folder = make_random_llama(tmp_path / "dynamic", context=256)
    config = json.loads((folder / "config.json").read_text())
    config["rope_scaling"] = {"type": "dynamic", "factor": 2.0}
    (folder / "config.json").write_text(json.dumps(config))
    engine = loaded(folder, slots=8)
    assert engine.slots == 1 and not engine.compiled
    alone = ids(engine), ids(engine, prompt=[9, 8])
    chunks: list[Chunk] = run(engine, a_task(), a_task([9, 8], "r2"))
    assert (tokens(chunks), tokens(chunks, "r2")) == alone
    failed = run(engine, a_task(n=2))[-1]
    assert isinstance(failed, Failed) and "n is 2, and this instance makes 1 sequences" in failed.reason


def test_traces_are_forgotten_when_they_are_many(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.engine import ring_step

    task = a_task(max_tokens=200)
    undisturbed = tokens(run(engine, task))
    monkeypatch.setattr(ring_step, "MOST_TRACES", 2)
    assert tokens(run(engine, task)) == undisturbed
