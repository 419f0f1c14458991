"""Which models are in use: what runners' pulses say, and who demands what, by this process's own clock."""

from collections.abc import Callable, Iterable
from time import monotonic

from schemas.ids import InstanceId, ModelId
from schemas.instance import Instance
from schemas.node import Pulse

FRESH_S = 5.0
"""A runner that was not heard for so long may be doing anything."""


class Activity:
    """A new leader begins to count anew, so that it takes nothing for idle too soon."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._used: dict[ModelId, float] = {}
        self._pulses: dict[InstanceId, tuple[float, Pulse]] = {}

    def use(self, model: ModelId) -> None:
        """Somebody has asked for it, and perhaps waits."""
        self._used[model] = self._clock()

    def hear(self, pulse: Pulse, model: ModelId) -> None:
        """One runner of `model`: it has worked since its last pulse if it has done a step, or has a request."""
        before = self._pulses.get(pulse.instance)
        known = before is not None and before[1].attempt == pulse.attempt
        if pulse.running or not known or (before is not None and before[1].steps != pulse.steps):
            self.use(model)
        self._pulses[pulse.instance] = (self._clock(), pulse)

    def unused_s(self, model: ModelId) -> float:
        """Since it was last seen in use; at first since now."""
        now = self._clock()
        return now - self._used.setdefault(model, now)

    def is_quiet(self, instance: Instance) -> bool:
        """Whether its runner has said a moment ago that it has no request; only of one that is ready."""
        heard_at, pulse = self._pulses.get(instance.id, (float("-inf"), None))
        fresh = self._clock() - heard_at < FRESH_S
        return fresh and pulse is not None and pulse.attempt == instance.attempt and not pulse.running

    def is_drained(self, instance: Instance) -> bool:
        """Whether its runner knows that it is retired, and has no request left: none comes to it any more."""
        pulse = self._pulses[instance.id][1] if instance.id in self._pulses else None
        return self.is_quiet(instance) and pulse is not None and pulse.retired

    def forget_all_but(self, models: Iterable[ModelId], instances: Iterable[InstanceId]) -> None:
        there, carried = set(models), set(instances)
        self._used = {model: at for model, at in self._used.items() if model in there}
        self._pulses = {key: heard for key, heard in self._pulses.items() if key in carried}
