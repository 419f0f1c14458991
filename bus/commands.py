"""Commands to the leader, whoever it is: asked again while an election goes on."""

from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_random

from bus.bus import Bus
from bus.errors import BusAway, NoAnswer, NobodyThere
from schemas.commands import Answer, MasterCommand
from schemas.refused import Refused

DEPOSED = ("not_leader", "unavailable")


class _Deposed(Exception):
    """The asked leader is none any more, or ceased to be one over the command."""


async def command(bus: Bus, order: MasterCommand, deadline_s: float = 10.0) -> Answer:
    """What the leader answers; `Refused(no_leader)` when there is none within `deadline_s` seconds.

    Commands are idempotent, so that asking again is safe. Raises `BusAway` when the bus stays away.
    """
    tries = AsyncRetrying(
        retry=retry_if_exception_type((NobodyThere, NoAnswer, BusAway, _Deposed)),
        wait=wait_random(0.05, 0.25),
        stop=stop_after_delay(deadline_s),
    )
    try:
        async for attempt in tries:
            with attempt:
                return await _ask(bus, order)
    except RetryError as failure:
        last = failure.last_attempt.exception()
        if isinstance(last, BusAway):
            raise last from failure
        return Refused("no_leader", f"no leader carried the command out within {deadline_s:g} s ({last})")
    raise AssertionError("tenacity either returns or raises")


async def _ask(bus: Bus, order: MasterCommand) -> Answer:
    answer = await bus.ask(bus.subjects.master, order, Answer, timeout_s=5.0)
    if isinstance(answer, Refused) and answer.code in DEPOSED:
        raise _Deposed(answer.reason)
    return answer
