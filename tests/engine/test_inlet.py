"""A rank finds the socket on which the next one sends among all that its process has, and sleeps until something is there."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Event, Thread

import pytest

from actors.engine.inlet import inlet_of
from schemas.group import Seat

HOST = "127.0.0.1"


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connected(ends: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Who connected, and who was waiting."""
    waiting = ends.enter_context(socket.create_server((HOST, 0)))
    one = ends.enter_context(socket.create_connection(waiting.getsockname()))
    return one, ends.enter_context(waiting.accept()[0])


def name(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def require_wakes(seat: Seat, sender: socket.socket) -> None:
    inlet, awake = inlet_of(seat), Event()
    assert inlet is not None

    def sleep() -> None:
        inlet.wait()
        awake.set()

    sleeper = Thread(target=sleep, daemon=True)
    sleeper.start()
    assert not awake.wait(0.1), "nothing has come yet"
    sender.sendall(b"hidden states")
    assert awake.wait(30)
    sleeper.join()


def test_of_many_ranks_the_next_one_is_heard(ends: ExitStack) -> None:
    """Where this one has connected; other sockets have their own names."""
    connected(ends)
    right, next_rank = connected(ends)
    before, left = connected(ends)
    addresses = (name(left.getsockname()), name(right.getpeername()), name(before.getsockname()))
    require_wakes(Seat(rank=0, split="pipeline", addresses=addresses, layers=(1, 1, 1)), next_rank)


def test_of_two_the_one_that_connected_is_heard(ends: ExitStack) -> None:
    """Both are on both sides of each other: what comes here was sent by who came to this one's address."""
    right, _ = connected(ends)
    came, left = connected(ends)
    addresses = (name(right.getpeername()), name(left.getsockname()))
    require_wakes(Seat(rank=1, split="pipeline", addresses=addresses, layers=(1, 1)), came)


def test_who_is_gone_is_no_reason_to_sleep(ends: ExitStack) -> None:
    right, next_rank = connected(ends)
    addresses = (f"{HOST}:1", name(right.getpeername()), f"{HOST}:2")
    inlet = inlet_of(Seat(rank=0, split="pipeline", addresses=addresses, layers=(1, 1, 1)))
    assert inlet is not None
    next_rank.close()
    inlet.wait()


def test_without_such_a_socket_nobody_sleeps() -> None:
    addresses = (f"{HOST}:1", f"{HOST}:2", f"{HOST}:3")
    seat = Seat(rank=0, split="pipeline", addresses=addresses, layers=(1, 1, 1))
    assert inlet_of(seat) is None
    assert inlet_of(Seat(rank=0, split="pipeline", addresses=addresses, backend="jaccl")) is None
