"""What makes a task unfit for an engine, so that nothing in it can crash one."""

import math
from collections.abc import Iterator
from itertools import chain

from schemas.task import Beams, Sampling, Task, rolling_room

MAX_LOGPROBS = 100


def fault(
    task: Task,
    prompt: list[int],
    made: list[list[int]],
    vocabulary: int,
    context: int | None,
    slots: int,
) -> str | None:
    """Why the task with these ids cannot be run, with the numbers; None: it can."""
    faults = chain(
        _wrong_counts(task, prompt, context, slots),
        _wrong_ids([prompt, *made], vocabulary),
        _wrong_sampling(task.sampling, vocabulary),
        _wrong_logprobs(task, vocabulary),
    )
    return next(faults, None)


def _wrong_counts(task: Task, prompt: list[int], context: int | None, slots: int) -> Iterator[str]:
    if task.n < 1:
        yield f"n is {task.n}, and must be at least 1"
    if task.n > slots:
        yield f"n is {task.n}, and this instance makes {slots} sequences at once"
    if task.beams is not None:
        yield from _wrong_beams(task, task.beams, slots)
    if task.made and len(task.made) != task.n:
        yield f"n is {task.n}, and {len(task.made)} sequences were made before"
    if not prompt:
        yield "the prompt is empty"
    if task.max_tokens < 1:
        yield f"max_tokens is {task.max_tokens}, and must be at least 1"
    if not 0 <= task.min_tokens <= max(task.max_tokens, 0):
        yield f"min_tokens is {task.min_tokens}, and must be between 0 and max_tokens, which is {task.max_tokens}"
    if task.rolling:
        yield from _wrong_rolling(task, len(prompt), context)
    elif context is not None and len(prompt) + task.max_tokens > context:
        yield (
            f"{len(prompt)} tokens of prompt and {task.max_tokens} of answer are more than the context "
            f"of {context} tokens"
        )


def _wrong_rolling(task: Task, prompt: int, context: int | None) -> Iterator[str]:
    if task.grammar is not None or task.beams is not None:
        yield "an answer cannot go on past the context under a grammar, or in a beam search"
    if context is not None and context - prompt < rolling_room(context):
        yield f"{prompt} tokens of prompt leave less than a quarter of the context of {context} tokens"


def _wrong_beams(task: Task, beams: Beams, slots: int) -> Iterator[str]:
    if beams.width < task.n:
        yield f"beam_width is {beams.width}, and must be at least n, which is {task.n}"
    if beams.width > slots:
        yield f"beam_width is {beams.width}, and this instance makes {slots} sequences at once"
    if task.sampling.temperature:
        yield f"temperature is {task.sampling.temperature}, and must be 0 in a beam search"
    if not math.isfinite(beams.length_penalty):
        yield f"length_penalty is {beams.length_penalty}, and must be a finite number"


def _wrong_ids(lists: list[list[int]], vocabulary: int) -> Iterator[str]:
    for ids in lists:
        if ids and max(ids) >= vocabulary:
            yield f"token {max(ids)} is outside of the vocabulary, which has {vocabulary} tokens"


def _wrong_sampling(sampling: Sampling, vocabulary: int) -> Iterator[str]:
    for name, least, most in (
        ("temperature", 0.0, math.inf),
        ("top_p", 0.0, 1.0),
        ("min_p", 0.0, 1.0),
        ("presence_penalty", -math.inf, math.inf),
        ("frequency_penalty", -math.inf, math.inf),
        ("repetition_penalty", 0.0, math.inf),
    ):
        value: float = getattr(sampling, name)
        if not (math.isfinite(value) and least <= value <= most):
            yield f"{name} is {value}, and must be {_between(least, most)}"
    if sampling.repetition_penalty == 0:
        yield "repetition_penalty is 0, and must be more"
    if not 0 <= sampling.top_k <= vocabulary:
        yield f"top_k is {sampling.top_k}, and must be between 0 and {vocabulary}, the size of the vocabulary"
    for token, bias in sampling.logit_bias:
        if not 0 <= token < vocabulary:
            yield f"logit_bias names token {token}, and the vocabulary has {vocabulary} tokens"
        if not math.isfinite(bias):
            yield f"logit_bias of token {token} is {bias}, and must be a finite number"


def _between(least: float, most: float) -> str:
    if most < math.inf:
        return f"between {least:g} and {most:g}"
    return f"a number of at least {least:g}" if least > -math.inf else "a finite number"


def _wrong_logprobs(task: Task, vocabulary: int) -> Iterator[str]:
    if task.logprobs > min(MAX_LOGPROBS, vocabulary):
        yield f"logprobs is {task.logprobs}, and may be {min(MAX_LOGPROBS, vocabulary)} at most"
