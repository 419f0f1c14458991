"""How much work each instance has: this API's own, exactly, and that of others as its runner's last pulse says."""

from collections import defaultdict
from collections.abc import Iterable

from msgspec import Struct

from api.requests.attempt import Attempt
from schemas.ids import InstanceId
from schemas.node import Pulse
from schemas.prefix import Digest


class Share(Struct, frozen=True):
    """What one attempt adds."""

    sequences: int = 1
    unread: int = 0
    """Tokens that are to be read before its first one is made."""
    expected: tuple[Digest, ...] = ()
    """Blocks that nobody had expected there before."""


class Loads:
    """An attempt counts from when it is offered, so that a burst of requests spreads."""

    def __init__(self) -> None:
        self._own: defaultdict[InstanceId, dict[Attempt, Share]] = defaultdict(dict)
        self._others: dict[InstanceId, int] = {}

    def add(self, attempt: Attempt, instance: InstanceId, share: Share) -> None:
        """It is there, and nowhere else."""
        self.remove(attempt)
        attempt.counted = instance
        self._own[instance][attempt] = share

    def remove(self, attempt: Attempt) -> Share | None:
        """What it was, if it was anywhere."""
        if attempt.counted is None:
            return None
        own = self._own[attempt.counted]
        share = own.pop(attempt, None)
        if not own:
            del self._own[attempt.counted]
        attempt.counted = None
        return share

    def hear(self, pulse: Pulse) -> None:
        """Whatever runs there and is not this API's is somebody else's."""
        self._others[pulse.instance] = max(0, pulse.running - len(self._own.get(pulse.instance, ())))

    def running(self, instance: InstanceId) -> int:
        """Sequences; of others' requests it is not known how many they have."""
        own = self._own.get(instance, {}).values()
        return self._others.get(instance, 0) + sum(share.sequences for share in own)

    def unread(self, instance: InstanceId) -> int:
        """Tokens of this API's prompts that are not read yet."""
        own = self._own.get(instance, {}).items()
        return sum(share.unread for attempt, share in own if not attempt.progressed)

    def forget_all_but(self, instances: Iterable[InstanceId]) -> None:
        there = set(instances)
        self._others = {instance: count for instance, count in self._others.items() if instance in there}
