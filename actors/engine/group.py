"""The ranks that serve one model together, as one of them sees them; a process is in one group, once.

Whoever waits in a collective burns a core, and waits for ever when a rank is frozen: ranks come here only when there is work,
and somebody outside has an eye on how long it takes (`actors/worker/watchdog.py`).
"""

import json
import os
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx

from actors.engine.arrays import after, evaluate, integers
from actors.engine.c_environment import set_for_c
from actors.engine.kernel_lock import kernel_lock
from actors.engine.port import EngineLoadError
from schemas.group import Seat

KIB = 1024
"""Bytes are agreed upon in these, as 32 bits must hold them."""


class Group:
    """What ranks agree upon is what rank 0 has."""

    def __init__(self, seat: Seat, ring: mx.distributed.Group) -> None:
        self.seat = seat
        self.rank = seat.rank
        self.size = seat.size
        self.ring = ring

    def agree(self, arrays: Sequence[mx.array]) -> list[mx.array]:
        """Those of rank 0, lazily; after each other, since all ranks must ask for them in the same order."""
        agreed: list[mx.array] = []
        for array in arrays:
            mine = array if self.rank == 0 else after(mx.zeros_like(array), array)
            if agreed:
                mine = after(mine, agreed[-1])
            agreed.append(mx.distributed.all_sum(mine, group=self.ring))
        return agreed

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
            ring = mx.distributed.init(strict=True, backend=seat.backend)
        except RuntimeError as error:
            raise EngineLoadError(f"the ranks could not be joined: {error}", retryable=True) from error
    group = Group(seat, ring)
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
