"""Trains the guide from nothing: `python -m actors.engine.guide.train [--out DIR] [--minutes N]`."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# mlx and mlx-lm are untyped

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.engine.blas import load_fast_blas

BLAS = load_fast_blas(threads=1)  # as fast as two while others use the machine, at half the work

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx_lm.models.llama import Model

from actors.engine.guide.batches import Encoder, batches
from actors.engine.guide.card import Run, machine, write_card
from actors.engine.guide.corpus import FIRST_LESSONS, Conversation, conversations, exercises, revision
from actors.engine.guide.evaluate import MODEL_FOLDER, measure
from actors.engine.guide.network import CONTEXT, configuration, new_model, parameters
from actors.engine.guide.tokenizer import BEGIN, END, PAD, save_tokenizer, token_id, train_tokenizer


@dataclass(frozen=True, slots=True)
class Course:
    """One part of the training: its data by seed, its steps and its share of the peak rates.

    The rates reach nothing at step `horizon`, where the course may have ended before.
    """

    data: Callable[[int], Iterator[Conversation]]
    steps: int
    horizon: int
    strength: float


SEED = 20
MINUTES = 57.0
BATCH_TOKENS = 2048
MATRIX_RATE = 0.02
REST_RATE = 3e-3
COURSES = (
    Course(conversations, 3200, 4200, 1.0),
    Course(exercises, 2100, 2100, 0.5),
    Course(revision, 2600, 2600, 0.5),
    Course(revision, 900, 900, 0.3),
)
SAVE_EVERY = 400
WARMUP = 0.02
TOKENIZER_CONVERSATIONS = 30_000

Step = Callable[[mx.array, mx.array], mx.array]


def write_folder(folder: Path) -> tuple[Encoder, dict[str, Any]]:
    """Train the tokenizer, and write all of the folder but the weights and the card."""
    folder.mkdir(parents=True, exist_ok=True)
    sample = itertools.islice(conversations(SEED + 1), FIRST_LESSONS, FIRST_LESSONS + TOKENIZER_CONVERSATIONS)
    tokenizer = train_tokenizer(turn.text for turns in sample for turn in turns)
    save_tokenizer(tokenizer, folder, CONTEXT)
    names = {"bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": PAD}
    ids = {name: token_id(tokenizer, token) for name, token in names.items()}
    config = configuration(tokenizer.get_vocab_size(), ids)
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", {**ids, "do_sample": False, "temperature": 0.0})
    return Encoder(tokenizer), config


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that people can read."""
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def loss(model: Model, ids: mx.array, weights: mx.array) -> mx.array:
    """Weighted mean of the cross-entropy, in nats."""
    losses = nn.losses.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
    return (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()


def strength(progress: float) -> float:
    """Rise to 1 at first, then fall to nothing along a cosine; `progress` runs from 0 to 1."""
    if progress < WARMUP:
        return progress / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP)))


class Optimizers:
    """Muon for the matrices, which learn to copy far sooner with it, and AdamW for the rest."""

    def __init__(self) -> None:
        self.matrices = optim.Muon(learning_rate=0.0, weight_decay=0.0)
        self.rest = optim.AdamW(learning_rate=0.0, betas=[0.9, 0.98], weight_decay=0.0)
        self.both = optim.MultiOptimizer([self.matrices, self.rest], [is_matrix])

    def set_strength(self, share: float) -> None:
        """Set both learning rates to a share of their peaks."""
        self.matrices.learning_rate = mx.array(MATRIX_RATE * share)
        self.rest.learning_rate = mx.array(REST_RATE * share)


def is_matrix(path: str, weight: mx.array) -> bool:
    """Say whether a weight is a matrix inside a layer."""
    return weight.ndim == 2 and "embed" not in path


def compile_step(model: Model, optimizer: optim.Optimizer) -> Step:
    """Make one step of the optimiser a single compiled graph."""
    state: list[Any] = [model.state, optimizer.state]
    gradient: Any = nn.value_and_grad(model, loss)

    def step(ids: mx.array, weights: mx.array) -> mx.array:
        value, gradients = gradient(model, ids, weights)
        gradients, _ = optim.clip_grad_norm(gradients, 1.0)
        optimizer.update(model, gradients)
        return value

    return mx.compile(step, inputs=state, outputs=state)


def fit(model: Model, course: Course, encoder: Encoder, folder: Path, minutes: float) -> tuple[int, int]:
    """Take a course to its end, or until its minutes are over; returns steps and ids seen."""
    optimizers = Optimizers()
    step = compile_step(model, optimizers.both)
    started, seen = time.monotonic(), 0
    for done, (ids, weights) in enumerate(batches(encoder, course.data(SEED), BATCH_TOKENS)):
        spent = (time.monotonic() - started) / (60 * minutes)
        progress = max(done / course.steps, spent)
        if done % SAVE_EVERY == 0:
            save_weights(model, folder)
        if progress >= 1:
            return done, seen
        optimizers.set_strength(course.strength * strength(progress * course.steps / course.horizon))
        value = step(mx.array(ids), mx.array(weights))
        mx.eval(model.state, optimizers.both.state)
        seen += int(ids.size)
        if done % 50 == 0:
            speed = seen / (time.monotonic() - started)
            print(f"step {done} {progress:.1%} loss {value.item():.4f} {speed:.0f} tokens/s", flush=True)
    raise AssertionError("the conversations have no end")


def save_weights(model: Model, folder: Path) -> None:
    """Write the weights as they are now."""
    mx.save_safetensors(str(folder / "model.safetensors"), dict(parameters(model)), {"format": "mlx"})


def train(folder: Path, minutes: float) -> None:
    """Make the whole model folder."""
    encoder, config = write_folder(folder)
    model = new_model(config, SEED)
    started, steps, seen = time.monotonic(), 0, 0
    for course in COURSES:
        share = course.steps / sum(each.steps for each in COURSES)
        course_steps, course_seen = fit(model, course, encoder, folder, minutes * share)
        steps, seen = steps + course_steps, seen + course_seen
    spent_s = time.monotonic() - started
    save_weights(model, folder)
    size = sum(weight.size for _, weight in parameters(model))
    run = Run(size, steps, seen, spent_s / 60, machine(f"{BLAS.name}, threads: {BLAS.threads}"))
    write_card(folder, run, measure(folder))


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=MODEL_FOLDER, help="the folder to write")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="train no longer than this")
    options = parser.parse_args()
    train(options.out, options.minutes)


if __name__ == "__main__":
    main()
