"""Raw mlx-lm in a process of its own: `python -m tests.bench.raw FOLDER`; Ask lines on stdin, Timed lines on stdout.

The same BLAS, threads and import as a runner, and nothing else: no bus, no HTTP, no text.
"""

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from actors.engine.blas import load_fast_blas
from tests.bench.conversation import Timed


class Ask(Struct, frozen=True, tag=True):
    """A prompt and how many tokens are wanted."""

    ids: list[int]
    max_tokens: int


class AskMany(Struct, frozen=True, tag=True):
    """Prompts that are answered in one batch, all with `max_tokens` tokens."""

    prompts: list[list[int]]
    max_tokens: int


class TimedMany(Struct, frozen=True):
    """One batch, from its first prompt to its last token."""

    wall_s: float
    tokens: int


def main() -> None:
    blas = load_fast_blas()
    import mlx.core as mx
    from mlx_lm.generate import BatchGenerator, generate_step
    from mlx_lm.utils import load_model

    model: Any = load_model(Path(sys.argv[1]))[0]
    say(f"{blas.name} {blas.version} {blas.note}, {blas.threads} threads")
    for line in sys.stdin.buffer:
        ask = msgspec.json.decode(line, type=Ask | AskMany)
        sent = time.perf_counter()
        if isinstance(ask, AskMany):
            batch: Any = BatchGenerator(model, max_tokens=ask.max_tokens)
            batch.insert(ask.prompts)
            count = 0
            while count < len(ask.prompts) * ask.max_tokens:
                count += len(batch.next_generated())
            batch.close()
            say(TimedMany(time.perf_counter() - sent, count))
            continue
        first, count = 0.0, 0
        for _token, _ in generate_step(mx.array(ask.ids), model, max_tokens=ask.max_tokens):
            first = first or time.perf_counter()
            count += 1
        say(Timed(first - sent, time.perf_counter() - sent, count, len(ask.ids)))


def say(message: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
