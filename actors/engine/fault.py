"""What makes a task unfit for an engine, so that nothing in it can crash one."""

import math

from schemas.task import Task, made_of

MAX_LOGPROBS = 100


def fault(task: Task, ids: list[int], vocabulary: int, context: int | None) -> str | None:
    """Why the task with these ids of prompt and earlier tokens cannot be run, with the numbers; None: it can."""
    prompt = len(ids) - made_of(task).count
    sampling = task.sampling
    if task.n != 1:
        return f"n is {task.n}, and this engine makes one answer for a request"
    if prompt < 1:
        return "the prompt is empty"
    if task.max_tokens < 1:
        return f"max_tokens is {task.max_tokens}, and must be at least 1"
    if min(ids) < 0 or max(ids) >= vocabulary:
        return f"token {max(ids)} is outside of the vocabulary, which has {vocabulary} tokens"
    if context is not None and prompt + task.max_tokens > context:
        return (
            f"{prompt} tokens of prompt and {task.max_tokens} of answer are more than the context "
            f"of {context} tokens"
        )
    if not math.isfinite(sampling.temperature) or sampling.temperature < 0:
        return f"temperature is {sampling.temperature}, and must be a number of at least 0"
    if not 0 <= sampling.top_p <= 1:
        return f"top_p is {sampling.top_p}, and must be between 0 and 1"
    if task.logprobs > min(MAX_LOGPROBS, vocabulary):
        return f"logprobs is {task.logprobs}, and may be {min(MAX_LOGPROBS, vocabulary)} at most"
    return None
