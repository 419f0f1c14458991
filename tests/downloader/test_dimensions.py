"""What placement is told of a model, from real folders and from headers as other models have them."""

from pathlib import Path

import pytest

from actors.downloader.dimensions import measure
from actors.downloader.model_files import describe
from actors.downloader.weights import Tensor
from schemas.ids import ModelId
from tests.models import make_random_llama


def tensors(sizes: dict[str, int], dtype: str = "BF16") -> dict[str, Tensor]:
    return {name: Tensor(dtype, (size // 2,), (0, size)) for name, size in sizes.items()}


def test_a_llama_is_counted_layer_by_layer(tmp_path: Path) -> None:
    card = describe(
        ModelId("m"), make_random_llama(tmp_path / "m", hidden=64, layers=3, vocab=512, heads=4)
    ).card
    layer = 4 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 256)
    assert card.layer_bytes == (layer,) * 3
    assert card.head_bytes == 4 * 512 * 64  # the embedding is the head
    assert card.outer_bytes == card.head_bytes + 4 * 64
    assert sum(card.layer_bytes) + card.outer_bytes == card.weights_bytes
    assert (card.hidden, card.heads, card.kv_heads, card.read_share) == (64, 4, 2, 1.0)
    assert card.cache_bytes == 2 * 2 * 16 * 4  # keys and values, two heads of 16 numbers, float32


def test_the_built_in_model_is_counted() -> None:
    card = describe(ModelId("guide"), Path("actors/engine/guide/model").absolute()).card
    assert len(card.layer_bytes) > 1
    assert sum(card.layer_bytes) + card.outer_bytes == card.weights_bytes


def test_a_mixture_of_experts_reads_a_part_of_itself() -> None:
    sizes = {
        f"model.layers.{layer}.mlp.experts.{expert}.up.weight": 100 for layer in (0, 1) for expert in range(8)
    }
    sizes |= {f"model.layers.{layer}.self_attn.q_proj.weight": 200 for layer in (0, 1)}
    found = measure(tensors(sizes | {"lm_head.weight": 50}), {"num_experts": 8, "num_experts_per_tok": 2})
    assert found.layer_bytes == (1000, 1000)
    assert found.read_share == pytest.approx(0.4)
    assert (found.head_bytes, found.outer_bytes, found.hidden) == (50, 50, 0)


def test_what_sees_is_no_layer_of_what_speaks() -> None:
    sizes = {"vision_tower.encoder.layers.0.q.weight": 70, "language_model.model.layers.0.q.weight": 10}
    found = measure(tensors(sizes), {"hidden_size": 3, "text_config": {"hidden_size": 5, "head_dim": 4}})
    assert (found.layer_bytes, found.outer_bytes, found.hidden) == ((10,), 70, 5)


def test_latent_attention_keeps_little() -> None:
    found = measure(
        tensors({"a": 2}), {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "num_attention_heads": 128}
    )
    assert found.cache_bytes == 2 * 576


@pytest.mark.parametrize(
    "odd", [{"num_key_value_heads": [1, 2]}, {"hidden_size": "wide"}, {"text_config": 7}]
)
def test_what_is_not_understood_is_not_known(odd: dict[str, object]) -> None:
    found = measure(tensors({"model.layers.1.q.weight": 6}), odd)
    assert found.layer_bytes == ()
    assert (found.hidden, found.cache_bytes) == (0, 0)
