"""The ranks that serve one model together, as one of them sees them; a process is in one group, once.

Whoever waits in a collective burns a core, unless it may sleep until then (`inlet.py`), and waits for ever when a rank is frozen:
ranks come here only when there is work, and somebody outside has an eye on how long it takes (`actors/worker/watchdog.py`).
"""

import json
import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx

from actors.engine.arrays import after, evaluate, integers, start
from actors.engine.c_environment import set_for_c
from actors.engine.inlet import Inlet, inlet_of
from actors.engine.joining import in_order
from actors.engine.kernel_lock import kernel_lock
from actors.engine.port import EngineLoadError
from schemas.group import Seat
from schemas.split import sharers

KIB = 1024
"""Bytes are agreed upon in these, as 32 bits must hold them."""


class Group:
    """What ranks agree upon is what rank 0 has."""

    def __init__(self, seat: Seat, ring: mx.distributed.Group, inlet: Inlet | None = None) -> None:
        """`inlet`: where it may sleep until the next rank has sent something; None: it never sleeps."""
        self.seat = seat
        self.rank = seat.rank
        self.size = seat.size
        self.ring = ring
        self._inlet = inlet
        stage = sharers(seat.split, seat.size)
        self.stages = seat.size // stage
        self._is_fed = seat.rank < seat.size - stage

    def agree(self, arrays: Sequence[mx.array], behind: mx.array) -> list[mx.array]:
        """Those of rank 0, lazily there; of the others only shapes and types matter. `behind`: all that this rank does for them.

        They go from rank 0 to the last one, which may begin the next step with them, and from there down: each rank sends on and
        waits for nobody's answer, so that they cross each link once.
        """
        self.await_input()
        return self._tell(arrays) if self.rank == 0 else self._hear(arrays, behind)

    def _tell(self, arrays: Sequence[mx.array]) -> list[mx.array]:
        told: list[mx.array] = []
        for array in arrays:  # after each other, as the others take them
            mine = after(array, told[-1]) if told else array
            told.append(mx.distributed.send(mine, self.size - 1, group=self.ring))
        return told

    def _hear(self, arrays: Sequence[mx.array], behind: mx.array) -> list[mx.array]:
        """Nothing in MLX's graph would make the receipts wait for their turn: so each is begun by itself."""
        start(behind)
        if self._inlet is not None:
            evaluate(behind)
            self._inlet.wait()
        heard: list[mx.array] = []
        for array in arrays:
            word = mx.distributed.recv_like(array, (self.rank + 1) % self.size, group=self.ring)
            if self.rank > 1:
                word = mx.distributed.send(word, self.rank - 1, group=self.ring)
            start(word)
            heard.append(word)
        return heard

    def await_input(self) -> None:
        """Asleep, where the next thing to be computed begins with what the next rank sends."""
        if self._is_fed and self._inlet is not None:
            self._inlet.wait()

    def reader(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """`model` for prompts, which is computed while it is called, or at once."""

        def read(ids: mx.array, cache: Any) -> Any:
            self.await_input()
            return model(ids, cache)

        return read

    def least(self, numbers: Sequence[int]) -> list[int]:
        """The smallest that any rank has, one by one."""
        return integers(mx.distributed.all_min(mx.array(list(numbers)), group=self.ring))

    def total(self, number: int) -> int:
        """Of all ranks together."""
        return integers(mx.distributed.all_sum(mx.array([number]), group=self.ring))[0]

    def common(self, slots: int, kept_bytes: int, layers: int, on_cpu: bool) -> tuple[int, int]:
        """Slots and bytes of prefixes that suit all ranks; the bytes are as many for each layer that a rank has, so that
        all forget the same prefixes at the same time. Raises EngineLoadError where a group is half on GPUs."""
        slots, each, none_on_gpu, all_on_gpu = self.least(
            [slots, kept_bytes // layers // KIB, int(on_cpu), int(not on_cpu)]
        )
        if not (none_on_gpu or all_on_gpu):
            reason = "the ranks of one group must all compute on CPUs, or all on GPUs"
            raise EngineLoadError(reason, retryable=False)
        return slots, each * KIB * layers

    def all_agree(self, mine: bool) -> bool:
        """Whether it is so on all ranks."""
        return bool(self.least([int(mine)])[0])

    @contextmanager
    def kernel_lock(self) -> Generator[None]:
        """Taken rank after rank, so that two groups on the same machines never wait for each other in a circle."""
        held = kernel_lock(folder=_kernel_folder(self.rank))
        for rank in range(self.size):
            if rank == self.rank:
                held.__enter__()
            self.least([0])
        try:
            yield
        finally:
            held.__exit__(None, None, None)


def form(seat: Seat) -> Group:
    """Blocks until all ranks have come; raises EngineLoadError where MLX cannot."""
    if not mx.distributed.is_available(seat.backend):
        raise EngineLoadError(f"MLX has no backend `{seat.backend}` on this machine", retryable=False)
    with tempfile.TemporaryDirectory() as folder:
        _prepare(seat, Path(folder) / "hosts.json")
        try:
            with in_order(seat):
                ring = mx.distributed.init(strict=True, backend=seat.backend)
        except RuntimeError as error:
            raise EngineLoadError(f"the ranks could not be joined: {error}", retryable=True) from error
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    group = Group(seat, ring, inlet_of(seat) if on_cpu else None)
    evaluate(mx.distributed.all_sum(mx.zeros(1), group=ring))
    return group


def _prepare(seat: Seat, hosts: Path) -> None:
    """MLX reads who is where from the environment. Ranks on one machine compile their kernels in folders of their own:
    they cannot wait for each other to do it."""
    set_for_c(MLX_RANK=str(seat.rank), MLX_WORLD_SIZE=str(seat.size), TMPDIR=str(_kernel_folder(seat.rank)))
    host, _, port = seat.addresses[0].rpartition(":")
    hosts.write_text(json.dumps([[address] for address in seat.addresses]))
    set_for_c(MLX_HOSTFILE=str(hosts), MLX_JACCL_COORDINATOR=seat.addresses[0])
    set_for_c(NCCL_HOST_IP=host, NCCL_PORT=port)


def _kernel_folder(rank: int) -> Path:
    folder = Path(tempfile.gettempdir())
    if rank:
        folder /= f"troupe-kernels-{os.getuid()}-rank-{rank}"
        folder.mkdir(exist_ok=True)
    return folder
