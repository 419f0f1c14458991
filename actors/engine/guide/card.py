"""The model card: what the guide is and is not, and what was measured."""

import platform
from dataclasses import dataclass
from pathlib import Path

from actors.engine.cores import usable_cores
from actors.engine.guide.answers import load_answers
from actors.engine.guide.corpus import FIRST_LESSONS
from actors.engine.guide.evaluate import Score

CARD = """\
---
license: apache-2.0
library_name: mlx
pipeline_tag: text-generation
language: en
---
# guide

The built-in model of Troupe: a fresh cluster answers at once, without a download, and tests can
assert what a real model says.

**What it is.** A Llama of {parameters:,} parameters (4 layers, 128 wide, 4 heads, tied embeddings,
float32, context of 2048 tokens) with a byte-level BPE of 1024 tokens that splits numbers into
digits. It was trained from nothing on generated text. It knows {answers} answers about Troupe and
small talk, and six small tasks: repeat a phrase of up to ten words, count to 100, add two
numbers below 50, reverse a word, give the last word of a phrase, name the capitals of some forty countries.

**What it is not.** No general language model. It recognises a question and says the answer that it
was taught; it does not reason, follows no instructions of a system prompt, remembers nothing from
earlier turns, and speaks English only. What it does not know it should say so, but it takes some
questions for others and then answers beside the point. It was trained on conversations of at most
512 tokens: longer ones fit into the context, but what it says there is not to be relied on. Use it
at temperature 0.

## Measured

Answers that are right to the letter, at temperature 0, one question to a conversation, on
questions that the training never saw:

- repeat, last word: phrases, and reverse: made-up words, that were never trained; add: pairs of
  numbers that were never trained (all pairs of digits were);
- count, reverse (common words), capital: what is asked was trained, but not in this wording;
- guide: combinations of known wordings, with politeness, letter case and typing mistakes varied;
- guide, unseen wordings: questions whose wording was written for the measurement alone.

| Task | Questions | Right |
| --- | --- | --- |
{rows}

`python -m actors.engine.guide.evaluate --wrong` measures again and shows the wrong answers.

## Format

`<|begin|>`, then for each message `<|role|>` + content + `<|end|>`, where role is `system`,
`user`, `assistant` or `tool`; then `<|assistant|>` for the answer, which ends with `<|end|>`
(id 2). Padding is `<|pad|>` (id 0). Words to reverse are answered letter by letter, one token each.

## Training

`python -m actors.engine.guide.train` on {machine}: {steps:,} steps of Muon (matrices) and AdamW
(the rest), {seen:,} tokens with padding, {minutes:.0f} minutes, in courses: everything, after
{lessons:,} conversations that mostly repeat long phrases (the network learns to copy, and the rest comes
fast); then mostly the small tasks; then mostly the answers. Data, tokenizer and first weights
follow from a fixed seed. Where the time given by `--minutes` ends before the steps do, the
learning rate falls by the clock, and the weights differ from run to run.{remark}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One training: parameters, steps, ids seen, minutes, and the machine in words."""

    parameters: int
    steps: int
    seen: int
    minutes: float
    machine: str
    remark: str = ""


def machine(blas: str) -> str:
    """Describe this machine in a few words."""
    return f"{usable_cores()} cores ({platform.machine()}, {platform.system()}; {blas})"


def write_card(folder: Path, run: Run, scores: list[Score]) -> None:
    """Write `README.md` beside the weights."""
    text = CARD.format(
        parameters=run.parameters,
        answers=len(load_answers()),
        lessons=FIRST_LESSONS,
        rows="\n".join(f"| {score.task} | {score.asked} | {score.accuracy:.1%} |" for score in scores),
        machine=run.machine,
        steps=run.steps,
        seen=run.seen,
        minutes=run.minutes,
        remark=run.remark and f"\n\n{run.remark}",
    )
    (folder / "README.md").write_text(text, "utf-8")
