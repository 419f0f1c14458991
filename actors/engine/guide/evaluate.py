"""Measures the guide on its held-out questions: `python -m actors.engine.guide.evaluate`."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.engine.blas import load_fast_blas
from actors.engine.guide.corpus import held_out
from actors.engine.guide.tasks import Exchange

MODEL_FOLDER = Path(__file__).with_name("model")
SEED = 1000
SIZE = 200
SLACK = 8
BATCH = 32


@dataclass(frozen=True, slots=True)
class Score:
    """How many questions of one task were answered exactly, and the ones that were not."""

    task: str
    asked: int
    wrong: tuple[tuple[Exchange, str], ...]

    @property
    def accuracy(self) -> float:
        """The share that was answered exactly, from 0 to 1."""
        return 1 - len(self.wrong) / self.asked


def measure(folder: Path, size: int = SIZE, seed: int = SEED) -> list[Score]:
    """Ask the model in a folder the held-out questions, at temperature 0."""
    from mlx_lm import load

    model, tokenizer, *_ = load(str(folder))
    return [
        score(task, exchanges, answers(model, tokenizer, exchanges))
        for task, exchanges in held_out(seed, size).items()
    ]


def score(task: str, exchanges: list[Exchange], said: list[str]) -> Score:
    """Compare what was said with what is right."""
    pairs = zip(exchanges, said, strict=True)
    wrong = tuple((asked, text) for asked, text in pairs if text != asked.answer)
    return Score(task, len(exchanges), wrong)


def answers(model: Any, tokenizer: Any, exchanges: list[Exchange]) -> list[str]:
    """Answer each question greedily, alone in its conversation."""
    from mlx_lm import batch_generate  # pyright: ignore[reportUnknownVariableType]  # untyped in mlx-lm

    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": exchange.question}], add_generation_prompt=True
        )
        for exchange in exchanges
    ]
    longest = [len(tokenizer.encode(exchange.answer)) + SLACK for exchange in exchanges]
    return batch_generate(model, tokenizer, prompts, max_tokens=longest, completion_batch_size=BATCH).texts


def main() -> None:
    """Print the accuracy of each task, and what went wrong if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="the model's folder")
    parser.add_argument("--size", type=int, default=SIZE, help="questions a task")
    parser.add_argument("--wrong", action="store_true", help="print the wrong answers")
    options = parser.parse_args()
    load_fast_blas()
    for result in measure(options.model, options.size):
        print(f"{result.task:24} {result.accuracy:7.1%} of {result.asked}")
        for exchange, said in result.wrong if options.wrong else ():
            print(f"    {exchange.question!r}: {said!r}, not {exchange.answer!r}")


if __name__ == "__main__":
    main()
