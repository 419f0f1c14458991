"""Small random models for tests: real folders, real weights, nonsense answers."""

import json
import string
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

END = 0
"""Id of `<|end|>`, the only token that ends an answer of a random model."""
TEMPLATE = "{% for message in messages %}<|start|>{{ message.content }}<|end|>{% endfor %}<|start|>"

TOOL_TEMPLATE = """\
{%- if tools %}{{- '<|start|>tools' }}{% for tool in tools %}{{- tool.function | tojson }}{% endfor %}{{- '<|end|>' }}
{%- endif %}
{%- for message in messages %}
{{- '<|start|>' + message.role + ': ' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson + '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|end|>' }}
{%- endfor %}
{{- '<|start|>' }}{% if enable_thinking | default(false) %}{{- '<think>\\n' }}{% endif %}
"""
"""In the manner of Hermes: calls in `<tool_call>`; with `enable_thinking` the prompt ends within a thought."""


def make_random_llama(
    folder: Path,
    hidden: int = 64,
    layers: int = 2,
    vocab: int = 1024,
    heads: int = 4,
    context: int = 2048,
    seed: int = 0,
    template: str = TEMPLATE,
) -> Path:
    """A llama of random float32 weights in `folder`, with a byte-level tokenizer of `vocab` >= 260 tokens.

    With `TOOL_TEMPLATE` it is one that was made for tools; what a grammar does not force, it does not call.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = llama_config(hidden, layers, vocab, heads, context)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(vocab)))
    settings = {
        "chat_template": template,
        "eos_token": "<|end|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    save_safetensors(folder / "model.safetensors", random_weights(hidden, layers, vocab, heads, seed))
    return folder


def llama_config(hidden: int, layers: int, vocab: int, heads: int, context: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "vocab_size": vocab,
        "bos_token_id": 1,
        "eos_token_id": END,
    }


def random_weights(
    hidden: int, layers: int, vocab: int, heads: int, seed: int
) -> dict[str, NDArray[np.float32]]:
    """By the names of Hugging Face's llama; small embeddings, so that answers are not one token for ever."""
    random = np.random.default_rng(seed)
    narrow = hidden // 2  # keys and values: half as many heads as queries

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return (random.standard_normal((rows, columns)) / columns**0.5).astype(np.float32)

    weights = {"model.embed_tokens.weight": matrix(vocab, hidden)}
    weights["model.norm.weight"] = np.ones(hidden, np.float32)
    for layer in range(layers):
        at = f"model.layers.{layer}"
        weights[f"{at}.input_layernorm.weight"] = np.ones(hidden, np.float32)
        weights[f"{at}.post_attention_layernorm.weight"] = np.ones(hidden, np.float32)
        for name, rows in (("q", hidden), ("k", narrow), ("v", narrow), ("o", hidden)):
            weights[f"{at}.self_attn.{name}_proj.weight"] = matrix(rows, hidden)
        for name in ("gate", "up"):
            weights[f"{at}.mlp.{name}_proj.weight"] = matrix(4 * hidden, hidden)
        weights[f"{at}.mlp.down_proj.weight"] = matrix(hidden, 4 * hidden)
    return weights


def save_safetensors(path: Path, weights: dict[str, NDArray[np.float32]]) -> None:
    """Length of the header (u64), header (JSON), data: so that a test needs no torch and no MLX."""
    header: dict[str, object] = {}
    end = 0
    for name, weight in weights.items():
        begin, end = end, end + weight.nbytes
        header[name] = {"dtype": "F32", "shape": list(weight.shape), "data_offsets": [begin, end]}
    head = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for weight in weights.values():
            file.write(np.ascontiguousarray(weight).tobytes())


def tokenizer(vocab: int) -> dict[str, object]:
    """Two special tokens, the 256 bytes, then syllables that are made by merges of letters."""
    alphabet = byte_letters()
    pairs = [(first, second) for first in string.ascii_lowercase for second in string.ascii_lowercase]
    pairs += [(first, second) for first in string.ascii_uppercase for second in string.ascii_lowercase]
    merges = pairs[: vocab - 2 - len(alphabet)]
    tokens = ["<|end|>", "<|start|>", *alphabet, *("".join(pair) for pair in merges)]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [{"id": at, "content": tokens[at], **special} for at in (0, 1)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {piece: at for at, piece in enumerate(tokens)},
            "merges": [list(pair) for pair in merges],
        },
    }


def byte_letters() -> list[str]:
    """The 256 printable letters that byte-level tokenizers write bytes as (GPT-2's table)."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    moved = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(moved)) for byte in range(256)]
