"""While ranks join they share a core; afterwards every thread has what it had."""

import os
import sys
import threading

import pytest

from actors.engine.joining import in_order
from schemas.group import Seat

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a thread choose its core")
HERE = ("127.0.0.1:1", "127.0.0.1:2")


@pytest.mark.parametrize(
    ("addresses", "rank", "policy"),
    [
        (HERE, 0, os.SCHED_BATCH),
        (HERE, 1, os.SCHED_OTHER),
        (("10.0.0.1:1", "10.0.0.2:1"), 0, os.SCHED_OTHER),
    ],
)
def test_one_core_in_order_and_then_all_of_them(addresses: tuple[str, ...], rank: int, policy: int) -> None:
    had = seen()
    end = threading.Event()
    with in_order(Seat(rank=rank, split="tensor", addresses=addresses)):
        cores, given = seen()
        assert len(cores) == (1 if addresses == HERE else len(had[0])) and given == policy
        thread = threading.Thread(target=end.wait)
        thread.start()
    assert thread.native_id is not None
    assert seen() == seen(thread.native_id) == had
    end.set()
    thread.join()


def test_a_rank_in_real_time_keeps_its_cores_and_its_priority() -> None:
    found: list[object] = []

    def join() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        except PermissionError:
            return
        for rank in (0, 1):
            with in_order(Seat(rank=rank, split="tensor", addresses=HERE)):
                pass
            found.append((*seen(), os.sched_getparam(0).sched_priority))

    had = os.sched_getaffinity(0)
    thread = threading.Thread(target=join)
    thread.start()
    thread.join()
    if not found:
        pytest.skip("this machine gives nobody real time")
    assert found == [(had, os.SCHED_RR, 1)] * 2


def seen(thread: int = 0) -> tuple[set[int], int]:
    return os.sched_getaffinity(thread), os.sched_getscheduler(thread)
