"""MLX behind the port: one request at a time, the others wait in the order they came.

Imported by `actors.engine.factory` alone, which has loaded a fast BLAS before.
"""

from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache
from msgspec import Struct

from actors.engine.decoding import CompiledStep, PlainStep, Step, compiled, usable
from actors.engine.ending import ending
from actors.engine.fault import fault
from actors.engine.kernel_lock import kernel_lock
from actors.engine.model_loader import LoadedModel, load_model, sentence
from actors.engine.port import EngineLoadError, Origin, Report
from actors.engine.sequence import AnswerSequence, Decoder
from schemas.chunks import Chunk, Failed, FailureCode, Started
from schemas.ids import ApiId, ModelId, RequestId
from schemas.task import Sampling, Task, made_of, pack_ids, unpack_ids

CPU_PREFILL_CHUNK = 256
GPU_PREFILL_CHUNK = 1024
CLEAR_EVERY = 256
"""Steps after which MLX gives back the memory that it keeps for reuse."""
REQUEST_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, MemoryError, OverflowError)
"""What one request may raise in MLX; it ends that request alone."""


class Waiting(Struct, frozen=True):
    """A task that has its place in the line."""

    task: Task
    ids: list[int]
    since: float


class MlxEngine:
    """Serves the model in `folder`; prompt and answer together have at most `context` tokens."""

    def __init__(self, folder: Path, origin: Origin, context: int | None = None) -> None:
        self.compiled = False
        """Whether steps of decoding are replayed instead of built anew."""
        self._folder = folder
        self._origin = origin
        self._context = context
        self._vocabulary = 0
        self._decoder: Decoder | None = None
        self._waiting: deque[Waiting] = deque()
        self._running: AnswerSequence | None = None
        self._chunks: list[Chunk] = []
        self._steps = 0

    @property
    def slots(self) -> int:
        return 1

    @property
    def idle(self) -> bool:
        return self._running is None and not self._waiting and not self._chunks

    def load(self, report: Report) -> None:
        report("reading")
        loaded = load_model(self._folder)
        limits = [limit for limit in (self._context, loaded.context) if limit]
        self._context = min(limits) if limits else None
        self._vocabulary = loaded.vocabulary
        report("compiling")
        with kernel_lock():
            self._decoder = self._decoder_for(loaded)

    def _decoder_for(self, loaded: LoadedModel) -> Decoder:
        """On a GPU plain steps, a token ahead; on a CPU compiled steps, where they give the same logits."""
        make_cache: partial[Sequence[Any]] = partial(make_prompt_cache, loaded.model)
        begin: partial[Step] = partial(PlainStep, loaded.model)
        if not loaded.on_cpu:
            return Decoder(loaded.model, make_cache, begin, GPU_PREFILL_CHUNK, ahead=True)
        replay = compiled(loaded.model)
        self.compiled = usable(loaded.model, make_cache, replay)
        if self.compiled:
            begin = partial(CompiledStep, replay)
        return Decoder(loaded.model, make_cache, begin, CPU_PREFILL_CHUNK, ahead=False)

    def warm(self) -> None:
        """Runs short and longer prompts, greedy and sampled, so that all kernels were used once."""
        longer = min(40, self._context or 40) - 4
        for length, temperature, top_p in ((1, 0.0, 1.0), (1, 1.0, 1.0), (max(1, longer), 1.0, 0.9)):
            task = Task(
                request=RequestId("warm"),
                attempt=1,
                api=ApiId(""),
                model=ModelId(""),
                prompt=pack_ids([0] * length),
                max_tokens=min(3, self._context or 3),
                sampling=Sampling(temperature=temperature, top_p=top_p),
            )
            self.add(task)
            with kernel_lock():
                while not self.idle:
                    self._require_run(self.step())

    def _require_run(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            if isinstance(chunk, Failed):
                reason = f"the model in {self._folder} does not run: {chunk.reason}"
                raise EngineLoadError(reason, retryable=True)

    def add(self, task: Task) -> None:
        try:
            ids = unpack_ids(task.prompt + made_of(task).ids)
        except ValueError as error:
            return self._refuse(task, f"the prompt is no list of tokens: {sentence(error)}")
        wrong = fault(task, ids, self._vocabulary, self._context)
        if wrong is not None:
            return self._refuse(task, wrong)
        self._waiting.append(Waiting(task, ids, perf_counter()))

    def cancel(self, request: RequestId, attempt: int) -> None:
        for waiting in [each for each in self._waiting if _meant(each.task, request, attempt)]:
            self._waiting.remove(waiting)
            task = waiting.task
            self._chunks += ending(
                task, len(waiting.ids) - made_of(task).count, made_of(task).count, "cancelled"
            )
        running = self._running
        if running is not None and _meant(running.task, request, attempt):
            self._chunks += running.end("cancelled")
            self._running = None

    def step(self) -> list[Chunk]:
        chunks, self._chunks = self._chunks, []
        if self._running is None and self._waiting:
            self._running = self._begin(self._waiting.popleft(), chunks)
        running = self._running
        if running is not None:
            try:
                chunks += running.step()
            except REQUEST_ERRORS as error:
                chunks.append(_failed(running.task, error))
                self._running = None
            if running.ended:
                self._running = None
        self._steps += 1
        if self._steps % CLEAR_EVERY == 0:
            mx.clear_cache()
        return chunks

    def _begin(self, waiting: Waiting, chunks: list[Chunk]) -> AnswerSequence:
        if self._decoder is None:
            raise EngineLoadError(f"the model in {self._folder} is not loaded", retryable=True)
        task, origin = waiting.task, self._origin
        chunks.append(Started(task.request, task.attempt, origin.instance, origin.node, origin.attempt))
        return AnswerSequence(task, waiting.ids, self._decoder, perf_counter() - waiting.since)

    def _refuse(self, task: Task, reason: str) -> None:
        self._chunks.append(Failed(task.request, task.attempt, "bad_request", reason))

    def wake(self) -> None:
        """Nothing to do: its steps never wait."""

    def close(self) -> None:
        self._waiting.clear()
        self._running, self._decoder = None, None
        mx.clear_cache()


def _meant(task: Task, request: RequestId, attempt: int) -> bool:
    return task.request == request and attempt in (0, task.attempt)


def _failed(task: Task, error: BaseException) -> Failed:
    exhausted = isinstance(error, MemoryError) or "alloc" in str(error)
    code: FailureCode = "out_of_memory" if exhausted else "engine_failed"
    return Failed(task.request, task.attempt, code, f"the engine could not go on: {sentence(error)}")
