"""What the engine's thread leaves behind for its pulse."""

from time import monotonic, process_time

from actors.engine.port import Gauges
from schemas.ids import InstanceId
from schemas.node import Pulse


class Vitals:
    """Written by the engine's thread at each step, read by the loop beside it; plain numbers, no lock."""

    def __init__(self) -> None:
        self._steps = 0
        self.gauges = Gauges()
        """As the engine's thread saw them last."""
        self._began: float | None = None
        self._began_cpu = 0.0
        self._slowest_s = 0.0
        self._tokens = 0
        self._counted = 0
        self._counted_at = monotonic()
        self.retired = False
        """The runner knows that it is to take no fresh requests."""

    def step_begins(self) -> None:
        self._began_cpu = process_time()
        self._began = monotonic()

    def step_ended(self) -> None:
        began = self._began
        self._began = None
        self._steps += 1
        if began is not None:
            self._slowest_s = max(self._slowest_s, monotonic() - began)

    def prepared(self) -> None:
        """Loading counts as the first step, but not as one that says how long steps take."""
        self._began = None
        self._steps += 1

    def sent(self, tokens: int) -> None:
        self._tokens += tokens

    def pulse(self, instance: InstanceId, attempt: int, rank: int, running: int) -> Pulse:
        """Now; the token rate is that since the last pulse."""
        now, began = monotonic(), self._began
        tokens, span = self._tokens - self._counted, now - self._counted_at
        self._counted, self._counted_at = self._tokens, now
        return Pulse(
            instance=instance,
            attempt=attempt,
            rank=rank,
            steps=self._steps,
            step_age_s=0.0 if began is None else now - began,
            step_cpu_s=0.0 if began is None else process_time() - self._began_cpu,
            slowest_step_s=self._slowest_s,
            running=running,
            tokens_s=tokens / span if span > 0 else 0.0,
            rows=self.gauges.rows,
            reading=self.gauges.reading,
            waiting=self.gauges.waiting,
            batch_bytes=self.gauges.batch_bytes,
            cache_bytes=self.gauges.cache_bytes,
            drafted=self.gauges.drafted,
            accepted=self.gauges.accepted,
            draft_lost=bool(self.gauges.draft_lost),
            retired=self.retired,
        )
