"""MLX behind the port: many sequences in one batch, prompts read in chunks beside it.

Imported by `actors.engine.factory` alone, which has loaded a fast BLAS before.
"""

import time
from collections import deque
from contextlib import AbstractContextManager
from functools import partial
from itertools import product
from pathlib import Path

import mlx.core as mx
import structlog
from mlx_lm.models.cache import make_prompt_cache
from msgspec import Struct
from msgspec.structs import replace

from actors.engine.answer import Answer, Tally
from actors.engine.bands import Bands
from actors.engine.batch import Cache
from actors.engine.beam_search import BeamSearch
from actors.engine.decoding import Decoding, Joining
from actors.engine.draft_loader import DraftWish, load_speculation
from actors.engine.failure import REQUEST_ERRORS, Errors, failure
from actors.engine.fault import fault
from actors.engine.fitting import all_plain, fitting, prefilled
from actors.engine.footprint import footprint
from actors.engine.grammar import GrammarError, Grammars
from actors.engine.group import Group, form
from actors.engine.kernel_lock import kernel_lock
from actors.engine.limits import Limits
from actors.engine.model_loader import LoadedModel, load_model, sentence
from actors.engine.port import EngineLoadError, Gauges, Origin, PrefixChanges, Report
from actors.engine.prefill import Prefill
from actors.engine.prefix_cache import PrefixCache
from actors.engine.ring import RingBatch
from actors.engine.rolling import RollingRow
from actors.engine.room import Room
from actors.engine.row import Row, rows_of
from actors.engine.speculation import Speculation, SpeculationFailed
from actors.engine.suspects import Suspects
from actors.engine.turn import Turn
from schemas.chunks import Chunk, Failed
from schemas.group import Seat
from schemas.ids import ApiId, ModelId, RequestId
from schemas.task import Sampling, Task, pack_ids, unpack_ids

log = structlog.get_logger()

CPU_PREFILL_CHUNK, GPU_PREFILL_CHUNK = 512, 2048
"""Most tokens of prompt in one step."""
WARM = Turn(now=0.0, budget=CPU_PREFILL_CHUNK)
PADDED_SHARE = 8
"""Rows of a batch may be laid out longer than they are by this part of what may run, one eighth."""
CLEAR_EVERY = 256
"""Steps after which MLX gives back the memory that it keeps for reuse."""


class Waiting(Struct, frozen=True):
    """A task that has its place in the line."""

    answer: Answer
    prompt: list[int]
    made: list[list[int]]


class MlxEngine:
    """Serves the model in `folder`, or as one rank of several a part of it: then all ranks do the same steps."""

    def __init__(
        self,
        folder: Path,
        origin: Origin,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        seat: Seat | None = None,
        draft: DraftWish | None = None,
    ) -> None:
        self.compiled = False
        """Whether steps of decoding are replayed instead of built anew."""
        self.slots = 0
        self.room = Room()
        self._folder = folder
        self._origin = origin
        self._limits = limits
        self._seat = seat
        self._draft = draft
        self._draft_lost = ""
        self._drafted = Tally()
        """What the draft has done, once there is none any more."""
        self._group: Group | None = None
        self._forgiven: Errors = REQUEST_ERRORS if seat is None else ()
        """Errors of a step that end only those who were in it; a group cannot go on when one rank has failed."""
        self._context = limits.context
        self._vocabulary = 0
        self._answers: list[Answer] = []
        self._waiting: deque[Waiting] = deque()
        self._chunks: list[Chunk] = []
        self._suspects = Suspects()
        self._deadline = 0.0
        self._steps = 0

    @property
    def idle(self) -> bool:
        return not (self._answers or self._chunks or self._decoding.occupied)

    @property
    def gauges(self) -> Gauges:
        decoding, prefixes = self._decoding, self._prefixes
        rows = len(decoding.rows)
        tally = decoding.speculation.tally if decoding.speculation else self._drafted
        return Gauges(
            *(rows, self._prefill.rows, len(self._waiting), decoding.nbytes, prefixes.nbytes),
            *(tally.drafted, tally.accepted, self._draft_lost),
        )

    def load(self, report: Report) -> None:
        if self._seat is not None:
            report("joining")
            self._group = form(self._seat)
        report("reading")
        loaded = load_model(self._folder, self._group)
        self._context = self._limits.within(loaded.context)
        self._vocabulary = loaded.vocabulary
        self._grammars = Grammars(self._folder, loaded.vocabulary)
        report("compiling")
        with self._kernel_lock():
            speculation = self._speculation(loaded)
            self._fit(loaded)
            self._decoding.speculation = speculation

    def _speculation(self, loaded: LoadedModel) -> Speculation | None:
        if self._draft is None:
            return None
        if self._seat is not None:
            raise EngineLoadError("a model that is split over nodes cannot have a draft", retryable=False)
        return load_speculation(self._draft, self._folder, loaded, self._context)

    def _fit(self, loaded: LoadedModel) -> None:
        """On a GPU a token ahead; on a CPU compiled steps, where they give the same logits."""
        on_cpu, group = loaded.on_cpu, self._group
        make_cache: partial[Cache] = partial(make_prompt_cache, loaded.model)
        slots, kept = self._limits.sequences(on_cpu), self._limits.prefix_bytes(on_cpu)
        alike, common, reader = bool, list[int], loaded.model
        if group is not None:
            slots, kept = group.common(slots, kept, len(make_cache()), on_cpu)
            alike, common, reader = group.all_agree, group.least, group.reader(loaded.model)
        plain = all_plain(make_cache, alike)
        batch, many = fitting(loaded.model, make_cache, on_cpu, alike)
        self.compiled = isinstance(batch, RingBatch)
        self.slots = slots if many else 1
        self._prefixes = PrefixCache(kept if plain else 0)
        taken = footprint(loaded.model, prefilled(loaded.model, make_cache, [0]))
        all_of_it = taken
        if group is not None and self._limits.batch_bytes is not None:  # they are for all ranks together
            all_of_it = replace(taken, token=group.total(taken.token))
        running = all_of_it.tokens(self._limits.running_bytes(on_cpu))
        worth, running = common([taken.tokens(taken.weights), running])
        self.room = self._limits.room(running, self._context)
        self._decoding = Bands(
            lambda: Decoding(batch.another(), loaded.vocabulary, not on_cpu, self._prefixes, group),
            min(worth, running // PADDED_SHARE),
        )
        most = CPU_PREFILL_CHUNK if on_cpu else GPU_PREFILL_CHUNK
        stages = group.stages if group else 1
        self._prefill = Prefill(
            *(reader, make_cache, most, self._prefixes, plain, self._forgiven),
            stops=group is None,
            stages=stages,
        )

    def _kernel_lock(self) -> AbstractContextManager[None]:
        return kernel_lock() if self._group is None else self._group.kernel_lock()

    def warm(self) -> None:
        """Runs short and longer prompts, alone and together, so that all kernels were used once."""
        self._grammars.prepare()
        longer = max(1, min(40, self._context or 40) - 4)
        prompts = (1, Sampling(temperature=0)), (1, Sampling()), (longer, Sampling(top_p=0.9))
        with self._kernel_lock():
            for (length, sampling), rows in product(prompts, (1, 2)[: self.slots]):
                self._warm(length, sampling, rows)
        if self._decoding.speculation is not None:
            self._decoding.speculation.begin()

    def _warm(self, length: int, sampling: Sampling, rows: int) -> None:
        task = Task(
            request=RequestId("warm"),
            attempt=1,
            api=ApiId(""),
            model=ModelId(""),
            prompt=pack_ids([0] * length),
            max_tokens=min(3, self._context or 3),
            sampling=sampling,
            n=rows,
        )
        if self._decoding.speculation is not None:
            self._decoding.speculation.begin(at_once=True)
        self.add(task)
        while not self.idle:
            self._require_run(self.step(WARM))

    def _require_run(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            if isinstance(chunk, Failed):
                reason = f"the model in {self._folder} does not run: {chunk.reason}"
                raise EngineLoadError(reason, retryable=chunk.code != "bad_request")

    def add(self, task: Task) -> None:
        try:
            prompt, made = unpack_ids(task.prompt), [unpack_ids(made.ids) for made in task.made]
        except ValueError as error:
            return self._refuse(task, f"the prompt is no list of tokens: {sentence(error)}")
        wrong = fault(task, prompt, made, self._vocabulary, self._context, self.slots)
        wrong = wrong or self._limits.too_much(task, self.room)
        if wrong is not None:
            return self._refuse(task, wrong)
        answer = Answer(task, len(prompt))
        if answer.over:  # earlier attempts have completed all its sequences
            self._chunks += [answer.start(self._origin), answer.ended()]
            return None
        self._answers.append(answer)
        self._waiting.append(Waiting(answer, prompt, made))
        if task.deadline:
            self._deadline = min(self._deadline or task.deadline, task.deadline)

    def _refuse(self, task: Task, reason: str) -> None:
        self._chunks.append(Failed(task.request, task.attempt, "bad_request", reason))

    def cancel(self, request: RequestId, attempt: int, index: int | None = None) -> None:
        for answer in self._answers:
            if answer.is_of(request, attempt):
                self._chunks += (
                    answer.end_all("cancelled") if index is None else answer.end(index, "cancelled")
                )

    def turn(self) -> Turn:
        """What the clock says for the next step."""
        turn = self._prefill.turn(time.time(), len(self._decoding.rows), self._decoding.step_s)
        return replace(turn, band=self._decoding.choose())

    def step(self, turn: Turn | None = None) -> list[Chunk]:
        """The paragraph that all is about: who leaves, who comes, a chunk of prompt, a token for everybody."""
        turn = turn or self.turn()
        self._expire(turn.now)
        self._answers = [answer for answer in self._answers if not answer.over]
        self._admit()
        if (suspect := self._suspects.next()) is not None:
            self._prefill.add([suspect])
        chunks, self._chunks = self._chunks, []
        joining, read = self._prefill.step(turn)
        chunks += read
        chunks += self._decode(joining, turn.band)
        self._roll()
        self._answers = [answer for answer in self._answers if not answer.over]
        self._steps += 1
        if self._steps % CLEAR_EVERY == 0:
            mx.clear_cache()
        return chunks

    def _roll(self) -> None:
        full, self._decoding.full = self._decoding.full, []
        for row in full:
            row.roll()
            self._prefill.add([row])

    def _decode(self, joining: list[Joining], band: int) -> list[Chunk]:
        try:
            return self._decoding.step(joining, self._prefill.rows > 0, band)
        except SpeculationFailed as error:
            self._lose_draft(str(error))
            rows, chunks = self._decoding.give_up()
            self._prefill.add(rows)
            return chunks
        except self._forgiven as error:
            self._prefixes.clear()  # memory may be what is short
            rows, chunks = self._decoding.give_up()
            return [*chunks, *self._suspects.accuse(rows, error)]

    def _lose_draft(self, why: str) -> None:
        """For good: what failed once for lack of memory would fail again."""
        log.error("draft.dropped", reason=why)
        if self._decoding.speculation is not None:
            self._drafted = self._decoding.speculation.tally
        self._decoding.speculation = None
        self._draft_lost = f"it goes on without its draft, which failed: {why}"

    def _expire(self, now: float) -> None:
        if not self._deadline or now < self._deadline:
            return
        for answer in self._answers:
            if answer.task.deadline and answer.task.deadline <= now:
                self._chunks += answer.fail("deadline", "the request's deadline has passed")
        self._deadline = min(
            (a.task.deadline for a in self._answers if not a.over and a.task.deadline), default=0.0
        )

    def _admit(self) -> None:
        """In the order they came, while there are seats and memory for all sequences of the next."""
        while self._waiting:
            waiting = self._waiting[0]
            if not (waiting.answer.over or self._has_room_for(waiting.answer)):
                return
            self._waiting.popleft()
            if not waiting.answer.over:  # cancelled while it waited
                self._begin(waiting)

    def _has_room_for(self, answer: Answer) -> bool:
        """Whoever would be alone is let in."""
        begun = [each for each in self._answers if each.begun]
        if not begun:
            return True
        seats = sum(each.seats for each in (*begun, answer))
        tokens = sum(self.room.needed(each.task, each.seats) for each in (*begun, answer))
        return seats <= self.slots and tokens <= self.room.tokens

    def _begin(self, waiting: Waiting) -> None:
        answer = waiting.answer
        try:
            rows = self._rows(waiting)
            ended = [chunk for row in rows for chunk in self._prepare(row)]
            left = [row for row in rows if not row.over]
            if left:
                self._prefill.add(left)
        except GrammarError as error:
            ended = answer.fail("bad_request", str(error))
        except REQUEST_ERRORS as error:
            ended = answer.fail(*failure(error))
        self._chunks += [answer.start(self._origin), *ended]

    def _rows(self, waiting: Waiting) -> list[Row]:
        """A row for each sequence that is not complete; a search begins with one, and from the prompt each time."""
        answer, beams = waiting.answer, waiting.answer.task.beams
        if beams is None and self._context and answer.task.rolling:
            made = waiting.made or [[]] * answer.task.n
            return [
                RollingRow(answer, index, waiting.prompt, made[index], self._context)
                for index in sorted(answer.open)
            ]
        if beams is None:
            return rows_of(answer, waiting.prompt, waiting.made)
        if beams.stops:
            self._grammars.require_spelling("stop")
        return [BeamSearch(answer, waiting.prompt, beams, self._grammars.spell).again()]

    def _prepare(self, row: Row) -> list[Chunk]:
        """What must be known before the first draw; earlier attempts may have left nothing to do."""
        task = row.answer.task
        if row.position >= task.max_tokens:
            return row.answer.end(row.index, "length")
        if task.grammar is None:
            return []
        return row.constrain(self._grammars.begin(task.grammar, task.stop_ids))

    def prefix_changes(self) -> PrefixChanges | None:
        return self._prefixes.changes.take()

    def wake(self) -> None:
        """Nothing to do: its steps never wait."""

    def close(self) -> None:
        self._waiting.clear()
        self._answers = []
        self._suspects = Suspects()
        self._prefill.clear()
        self._decoding.clear()
        self._prefixes.clear()
        mx.clear_cache()
