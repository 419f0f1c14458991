"""Commands to the leader, whoever it is: asked again while an election goes on."""

from typing import Any

from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_random

from bus.bus import Bus
from bus.errors import BusAway, NoAnswer, NobodyThere
from schemas.commands import Answer, MasterCommand, MasterMessage, PreviewAnswer, PreviewModel
from schemas.refused import Refused

DEPOSED = ("not_leader", "unavailable")


class _Deposed(Exception):
    """The asked leader is none any more, or ceased to be one over the command."""


async def command(bus: Bus, order: MasterCommand, deadline_s: float = 10.0) -> Answer:
    """What the leader answers; `Refused(no_leader)` when there is none within `deadline_s` seconds.

    Commands are idempotent, so that asking again is safe. Raises `BusAway` when the bus stays away.
    """
    return await _until_led(bus, order, Answer, deadline_s)


async def preview(bus: Bus, question: PreviewModel, deadline_s: float = 10.0) -> PreviewAnswer:
    """Likewise, of a question that nothing is decided by."""
    return await _until_led(bus, question, PreviewAnswer, deadline_s)


async def _until_led(bus: Bus, order: MasterMessage, kind: Any, deadline_s: float) -> Any:
    tries = AsyncRetrying(
        retry=retry_if_exception_type((NobodyThere, NoAnswer, BusAway, _Deposed)),
        wait=wait_random(0.05, 0.25),
        stop=stop_after_delay(deadline_s),
    )
    try:
        async for attempt in tries:
            with attempt:
                return await _ask(bus, order, kind)
    except RetryError as failure:
        last = failure.last_attempt.exception()
        if isinstance(last, BusAway):
            raise last from failure
        return Refused("no_leader", f"no leader carried the command out within {deadline_s:g} s ({last})")
    raise AssertionError("tenacity either returns or raises")


async def _ask(bus: Bus, order: MasterMessage, kind: Any) -> Any:
    """`kind` is a union of messages, which no type variable can stand for."""
    answer: Any = await bus.ask(bus.subjects.master, order, kind, timeout_s=5.0)
    if isinstance(answer, Refused) and answer.code in DEPOSED:
        raise _Deposed(answer.reason)
    return answer
