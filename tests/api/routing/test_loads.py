"""How much an instance has: our own exactly, others' as its runner says."""

from api.requests.attempt import Attempt
from api.requests.request import InFlight
from api.routing.loads import Loads, Share
from api.routing.router import unread
from schemas.chunks import Tokens
from schemas.ids import InstanceId, ModelId, RequestId
from schemas.node import Pulse
from schemas.task import pack_ids

ONE, TWO = InstanceId("one"), InstanceId("two")


def pulse(running: int) -> Pulse:
    return Pulse(
        instance=ONE, attempt=1, steps=1, step_age_s=0, step_cpu_s=0, slowest_step_s=0, running=running
    )


def test_an_attempt_is_at_one_instance_at_a_time() -> None:
    loads, attempt = Loads(), Attempt(1, 0.0)
    loads.add(attempt, ONE, Share(sequences=3, unread=100))
    assert (loads.running(ONE), loads.unread(ONE), loads.running(TWO)) == (3, 100, 0)
    loads.add(attempt, TWO, Share(sequences=2, unread=50))
    assert (loads.running(ONE), loads.unread(ONE)) == (0, 0)
    assert (loads.running(TWO), loads.unread(TWO)) == (2, 50)
    assert loads.remove(attempt) == Share(sequences=2, unread=50) and loads.remove(attempt) is None
    assert (loads.running(TWO), loads.unread(TWO)) == (0, 0)


def test_what_has_a_token_is_read() -> None:
    loads, attempts = Loads(), [Attempt(1, 0.0) for _ in range(2)]
    for attempt in attempts:
        loads.add(attempt, ONE, Share(unread=100))
    attempts[0].progressed = True
    assert (loads.running(ONE), loads.unread(ONE)) == (2, 100)


def test_others_are_what_its_runner_has_beside_ours() -> None:
    loads, attempt = Loads(), Attempt(1, 0.0)
    loads.add(attempt, ONE, Share(sequences=4))
    loads.hear(pulse(running=3))
    assert loads.running(ONE) == 4 + 2
    loads.remove(attempt)
    assert loads.running(ONE) == 2, "what has ended since is not taken for somebody else's"
    loads.hear(pulse(running=0))
    loads.add(attempt, ONE, Share())
    loads.hear(pulse(running=0))  # it was on its way when ours was sent
    assert loads.running(ONE) == 1
    loads.hear(pulse(running=5))
    loads.forget_all_but([TWO])
    assert loads.running(ONE) == 1


async def test_what_earlier_attempts_made_is_read_again_too() -> None:
    request = InFlight(RequestId("r1"), ModelId("m"), n=2)
    request.account.prompt_tokens = 100
    for index in range(2):
        request.take(Tokens(request.id, 1, index, 0, pack_ids([5, 6, 7])))
    assert unread(request) == 106
