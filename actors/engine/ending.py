"""The chunks that end a request."""

from schemas.chunks import Chunk, Ended, FinishReason, SequenceEnded, Timings, Usage
from schemas.task import Task

NO_TIME = Timings()


def ending(
    task: Task, prompt: int, position: int, reason: FinishReason, timings: Timings = NO_TIME
) -> list[Chunk]:
    """A request with one sequence ends at `position`; `prompt` counts the client's tokens alone."""
    return [
        SequenceEnded(task.request, task.attempt, 0, reason),
        Ended(task.request, task.attempt, Usage(prompt, position), timings),
    ]
