"""Batches of mlx-lm's own caches, for architectures that have no compiled step."""

from pathlib import Path

import pytest

from tests.engine.architectures import make_random


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "qwen3_next"])
def test_a_row_that_is_left_alone_is_joined_by_another(architecture: str, tmp_path: Path) -> None:
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    from actors.engine.fitting import prefilled
    from actors.engine.model_loader import load_model
    from actors.engine.plain import PlainBatch

    model = load_model(make_random(architecture, tmp_path / architecture)).model

    def read(*ids: int) -> list[object]:
        return list(prefilled(model, lambda: make_prompt_cache(model), ids))

    long, other, joins = list(range(2, 62)), list(range(9, 40)), [5, 4, 3]
    expected = []
    for ids in ([*long, 7], joins):
        alone = PlainBatch(model)
        alone.add([read(*ids)])
        expected.append(alone.step(mx.array([8]))[1])
    batch = PlainBatch(model)
    batch.add([read(*long), read(*other)])
    batch.step(mx.array([7, 7]))
    batch.keep([0])
    batch.add([read(*joins)])
    logits = batch.step(mx.array([8, 8]))[1]
    assert mx.allclose(logits, mx.concatenate(expected), atol=1e-4).item()
