"""One span for each attempt that a runner has worked on, and beneath it where its time went."""

from time import time

from actors.runner.open_tasks import OpenTask
from bus.tracing import Tracing
from schemas.chunks import Ended, Failed
from schemas.ids import InstanceId


class Spans:
    """Told once, at the end of an attempt: nothing of it is in the way of a step."""

    def __init__(self, tracing: Tracing, instance: InstanceId) -> None:
        self._tracing = tracing
        self._instance = instance

    def tell(self, open_task: OpenTask, end: Ended | Failed) -> None:
        """An attempt whose owner wants to know."""
        task, now = open_task.task, time()
        if not task.trace:
            return
        values = {"troupe.instance": self._instance, "troupe.attempt": task.attempt}
        if isinstance(end, Failed):
            self._tracing.tell("run", task.trace, open_task.taken_at, now, {**values, "error.type": end.code})
            return
        context = self._tracing.tell("run", task.trace, open_task.taken_at, now, values)
        decoded, prefilled = now - end.timings.decode_s, end.timings.prefill_s
        self._tracing.tell("prefill", context, decoded - prefilled, decoded)
        self._tracing.tell("decode", context, decoded, now)
