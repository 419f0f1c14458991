"""Parts for instances on the stage whose answers have several sequences, log-probabilities, timings."""

from schemas.chunks import Chunk, Ended, FinishReason, SequenceEnded, Timings, TokenLogprobs, Tokens, Usage
from schemas.task import Task, pack_ids
from tests.api.stage import Actor, Play, ids_of

TIMINGS = Timings(0.25, 0.5, 2.0)


def logprob_of(token_id: int) -> float:
    """A value that tells the token."""
    return -token_id / 1000


def word(task: Task, index: int, offset: int, token_id: int) -> Tokens:
    """One token, with log-probabilities if the task asks for them: next to it stand ids 0, 1, 2 ..."""
    logprobs = None
    if task.logprobs >= 0:
        others = tuple(range(task.logprobs))
        logprobs = (TokenLogprobs(logprob_of(token_id), others, tuple(map(logprob_of, others))),)
    return Tokens(task.request, task.attempt, index, offset, pack_ids([token_id]), logprobs)


def speaks(*texts: str, reasons: tuple[FinishReason, ...] = (), ids: list[int] | None = None) -> Play:
    """Says all texts at once, a token of each in turn; `ids` instead of one text."""

    async def play(actor: Actor, task: Task) -> None:
        await actor.start(task)
        voices = [ids] if ids is not None else [ids_of(text) for text in texts]
        for offset in range(max(map(len, voices))):
            for index, voice in enumerate(voices):
                if offset < len(voice):
                    await actor.send(task, word(task, index, offset, voice[offset]))
        await actor.send(task, *ends(task, [len(voice) for voice in voices], reasons))

    return play


def ends(task: Task, counts: list[int], reasons: tuple[FinishReason, ...] = ()) -> list[Chunk]:
    """The end of every sequence, and of all."""
    why = [*reasons, *["stop"] * (len(counts) - len(reasons))]
    over: list[Chunk] = [
        SequenceEnded(task.request, task.attempt, index, reason)  # type: ignore[arg-type]
        for index, reason in enumerate(why)
    ]
    usage = Usage(len(task.prompt) // 4, sum(counts), 2)
    return [*over, Ended(task.request, task.attempt, usage, TIMINGS)]
