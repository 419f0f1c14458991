"""Small random models of several architectures, in folders, for what depends on heads and caches."""

import json
from pathlib import Path
from typing import Any

from tests.models import END, make_random_llama, tokenizer

VOCABULARY = 512
_COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "eos_token_id": END,
}
_EXPERTS: dict[str, Any] = {
    "moe_intermediate_size": 64,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "rope_theta": 10000.0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3": {"rope_theta": 10000.0},
    "qwen2": {"rope_theta": 10000.0, "num_key_value_heads": 4},
    "phi3": {"rope_theta": 10000.0, "head_dim": 16},
    "olmo2": {"rope_theta": 10000.0},
    "qwen3_moe": {**_EXPERTS, "num_experts": 4, "decoder_sparse_step": 1, "mlp_only_layers": []},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16, "rope_theta": 10000},
    "ministral3": {
        "rope_parameters": {
            "rope_theta": 10000.0,
            "llama_4_scaling_beta": 0.1,
            "original_max_position_embeddings": 2048,
            "rope_type": "default",
            "type": "default",
        }
    },
    "deepseek_v3": {
        **_EXPERTS,
        "num_key_value_heads": 4,
        "kv_lora_rank": 32,
        "q_lora_rank": 32,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 16,
        "v_head_dim": 32,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
    },
    "gemma3_text": {"sliding_window": 24, "sliding_window_pattern": 2, "num_hidden_layers": 4},
    "qwen3_next": {
        "num_hidden_layers": 4,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
        "linear_conv_kernel_dim": 4,
        "num_experts": 0,
        "num_experts_per_tok": 0,
        "decoder_sparse_step": 1,
        "shared_expert_intermediate_size": 64,
        "mlp_only_layers": [],
        "moe_intermediate_size": 64,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
    },
}
"""Other heads; rotating caches beside plain ones; recurrent layers beside plain caches."""


def make_random(architecture: str, folder: Path, layers: int | None = None) -> Path:
    """Needs MLX, with its BLAS loaded before."""
    if architecture == "llama":
        return make_random_llama(folder, layers=layers or 2, context=2048, seed=3)
    import mlx.core as mx
    from mlx_lm.utils import _get_classes

    folder.mkdir(parents=True)
    config = {"model_type": architecture, **_COMMON, **CONFIGS[architecture]}
    config["num_hidden_layers"] = layers or config["num_hidden_layers"]
    make_model, arguments = _get_classes(config)
    mx.random.seed(5)
    model = make_model(arguments.from_dict(config))
    model.save_weights(str(folder / "model.safetensors"))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(VOCABULARY)))
    return folder
