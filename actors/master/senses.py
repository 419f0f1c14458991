"""What one leader notices besides the state: who lasts without a lease, what has failed long ago, what nobody uses."""

import time
from collections.abc import Callable, Iterable

from actors.master.activity import Activity
from actors.master.complaints import Complaints
from actors.master.decisions import backoff_s
from actors.master.ripe import Ripe
from schemas.ids import ModelId, NodeId
from schemas.node import Pulse
from schemas.presence import is_whole
from schemas.state import Model, State

RETIRE_S = 600.0
"""How long a retired instance may take to end its last requests; seconds."""
IDLE_S = 3.0
"""A model that was used so shortly ago makes room for nobody; seconds."""
AGAIN_S = 1.0
"""When to look again at what may be idle and was not heard; seconds."""


class Senses:
    """Clocks of several machines are never compared: a new leader begins to count anew."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.activity = Activity(clock)
        self._complaints = Complaints()
        self._clock = clock

    def hear(self, pulse: Pulse, state: State) -> bool:
        """Whether what a runner says is worth a look now."""
        instance = state.instances.get(pulse.instance)
        if instance is None or pulse.rank:
            return False
        self.activity.hear(pulse, instance.spec.id)
        return bool(instance.retired) and self.activity.is_drained(instance)

    def ripe(self, state: State, lost: Iterable[NodeId], grace_s: float) -> tuple[Ripe, float | None]:
        """What has lasted for long enough, and in how many seconds something else will have."""
        self.activity.forget_all_but(state.models, state.instances)
        gone = {
            f"node {node} {state.nodes[node].seq}": node for node in lost
        }  # who has joined since begins anew
        failed = {
            f"instance {one.id}.{one.attempt}": one
            for one in state.instances.values()
            if one.status == "failed" and one.retryable
        }
        retired = {f"retired {one.id}": one for one in state.instances.values() if one.retired}
        delays = dict.fromkeys(gone, grace_s) | {
            name: backoff_s(one.failures) for name, one in failed.items()
        }
        ripe, wait_s = self._complaints.ripe(delays | dict.fromkeys(retired, RETIRE_S), self._clock())
        idle, unused, idle_wait_s = self._idle(state)
        waits = [each for each in (wait_s, idle_wait_s) if each is not None]
        known = Ripe(
            lost=frozenset(gone[name] for name in ripe & gone.keys()),
            failed=frozenset(failed[name].id for name in ripe & failed.keys()),
            overdue=frozenset(retired[name].id for name in ripe & retired.keys()),
            drained=frozenset(one.id for one in retired.values() if self.activity.is_drained(one)),
            idle=idle,
            unused=unused,
        )
        return known, min(waits, default=None)

    def _idle(self, state: State) -> tuple[tuple[ModelId, ...], frozenset[ModelId], float | None]:
        """Who could make room, who is to go, and when to look again."""
        idle: list[tuple[float, ModelId]] = []
        over: list[ModelId] = []
        waits: list[float] = []
        starved = any(model.unplaced and not model.absent for model in state.models.values())
        for model in state.models.values():
            after_s = model.spec.idle_after_s
            if after_s is None or not model.wanted:
                continue
            unused_s = self.activity.unused_s(model.spec.id)
            wait_s = max(AGAIN_S, after_s - unused_s)
            waits.append(min(wait_s, IDLE_S) if starved else wait_s)
            if not self._is_quiet(model, state):
                continue
            if unused_s >= after_s:
                over.append(model.spec.id)
            if unused_s >= IDLE_S and _is_loaded(model, state):
                idle.append((-unused_s, model.spec.id))
        return tuple(model for _, model in sorted(idle)), frozenset(over), min(waits, default=None)

    def _is_quiet(self, model: Model, state: State) -> bool:
        """Nobody is served by it: one that is not ready, or whose node is lost, serves nobody, and who waits for it says so."""
        return all(
            one.status != "ready" or not is_whole(state, one) or self.activity.is_quiet(one)
            for one in state.instances_of(model.spec.id)
        )


def _is_loaded(model: Model, state: State) -> bool:
    return all(one.status == "ready" for one in state.instances_of(model.spec.id))
