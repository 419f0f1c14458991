"""Tasks for engines in tests, and what comes of them."""

from typing import Any

from actors.engine.port import Engine, Origin
from schemas.chunks import Chunk, SequenceEnded, Started, Tokens
from schemas.ids import ApiId, InstanceId, ModelId, NodeId, RequestId
from schemas.task import Sampling, Task, pack_ids, unpack_ids

R1 = RequestId("r1")
ORIGIN = Origin(InstanceId("i1"), NodeId("n1"), 3)
STARTED = Started(R1, 1, ORIGIN.instance, ORIGIN.node, ORIGIN.attempt)
PROMPT = [5, 300, 17, 42, 700]


def a_task(prompt: list[int] | None = None, request: str = "r1", **values: Any) -> Task:
    """Greedy, ten tokens, unless told otherwise; fields of `Sampling` make its sampling."""
    names = Sampling.__struct_fields__
    sampling: dict[str, Any] = {"temperature": 0.0} | {
        name: values.pop(name) for name in names if name in values
    }
    given = {
        "attempt": 1,
        "api": ApiId("a1"),
        "model": ModelId("m"),
        "max_tokens": 10,
        "prompt": pack_ids(PROMPT if prompt is None else prompt),
    }
    return Task(request=RequestId(request), sampling=Sampling(**sampling), **(given | values))


def finish(engine: Engine) -> list[Chunk]:
    """All chunks until the engine has nothing to do."""
    chunks: list[Chunk] = []
    while not engine.idle:
        chunks += engine.step()
    return chunks


def run(engine: Engine, *tasks: Task) -> list[Chunk]:
    for task in tasks:
        engine.add(task)
    return finish(engine)


def tokens(chunks: list[Chunk], request: str = "r1", index: int = 0) -> list[int]:
    """The ids of one of a request's sequences, which must come without a gap."""
    found: list[int] = []
    begin = None
    for chunk in chunks:
        if isinstance(chunk, Tokens) and chunk.request == request and chunk.index == index:
            begin = chunk.offset if begin is None else begin
            assert chunk.offset == begin + len(found)
            found += unpack_ids(chunk.ids)
    return found


def likelihoods(chunks: list[Chunk], request: str) -> list[float]:
    """The log-probabilities of a request's tokens, and of the likeliest others as far as it has asked for them."""
    return [
        number
        for chunk in chunks
        if isinstance(chunk, Tokens) and chunk.request == request
        for token in chunk.logprobs or ()
        for number in (token.logprob, *token.top_logprobs)
    ]


def ids(engine: Engine, **values: Any) -> list[int]:
    return tokens(run(engine, a_task(**values)))


def reasons(chunks: list[Chunk]) -> list[str]:
    return [chunk.reason for chunk in chunks if isinstance(chunk, SequenceEnded)]


def step_ahead(engine: Any, worth: int = 1) -> None:
    """As on a GPU: mlx-lm's batch caches, a token ahead."""
    from actors.engine.bands import Bands
    from actors.engine.decoding import Decoding
    from actors.engine.plain import PlainBatch

    batch, vocabulary = PlainBatch(engine._prefill._model), engine._vocabulary
    engine._decoding = Bands(lambda: Decoding(batch.another(), vocabulary, ahead=True), worth)


def only_band(engine: Any) -> Any:
    """The `Decoding` of an engine whose rows are all in one batch."""
    (band,) = engine._decoding._bands
    return band.decoding
