"""The guide's network: mlx-lm's Llama, very small, with random weights to begin with."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# mlx and mlx-lm are untyped

import math
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.llama import Model, ModelArgs

CONTEXT = 2048
START_SCALE = 0.04


def configuration(vocabulary: int, ids: dict[str, int]) -> dict[str, Any]:
    """Describe the network as `config.json` does; four heads divide over two or four ranks."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 400,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "float32",
        "vocab_size": vocabulary,
        **ids,
    }


def new_model(config: dict[str, Any], seed: int) -> Model:
    """Make the network with small random weights, the same for a seed."""
    mx.random.seed(seed)
    model = Model(ModelArgs.from_dict(config))
    deep = START_SCALE / math.sqrt(2 * config["num_hidden_layers"])
    model.load_weights([(path, random_weight(path, weight, deep)) for path, weight in parameters(model)])
    return model


def random_weight(path: str, weight: mx.array, deep: float) -> mx.array:
    """Draw a matrix, with scale `deep` where it writes to the residual stream; norms stay."""
    if weight.ndim == 1:
        return weight
    scale = deep if path.endswith(("o_proj.weight", "down_proj.weight")) else START_SCALE
    return mx.random.normal(weight.shape) * scale


def parameters(model: Model) -> list[tuple[str, mx.array]]:
    """List the weights with their names, as the safetensors file has them."""
    flat: Any = tree_flatten(model.parameters())
    return flat
