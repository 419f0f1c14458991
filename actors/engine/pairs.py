"""A pipeline of tensor groups: ranks 2s and 2s + 1 are stage s, whose layers both have, each of them half of every one.

MLX's ring has no groups within it, and sends between neighbours alone. The two of a pair are neighbours: they add up between them
what mlx-lm's layers would add up over a whole group. After that both have the same hidden state, so one link takes it over a border:
from rank 2s + 2 to its neighbour 2s + 1, which hands it on to 2s. As in other pipelines the first ranks have the last
layers, and rank 0 alone the result.
"""

from typing import Any

import mlx.core as mx

from actors.engine.arrays import after
from actors.engine.group import Group
from actors.engine.pipeline import Call, ask_for, cut, join
from actors.engine.port import EngineLoadError

_mlx: Any = mx.distributed
_of_mlx = _mlx.all_sum


class Pair:
    """What mlx-lm's `shard` and the layers that it makes take for their group."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._upper = group.rank % 2
        self._other = group.rank ^ 1

    def rank(self) -> int:
        return self._upper

    def size(self) -> int:
        return 2

    def sum(self, part: mx.array) -> mx.array:
        """Of both; one sends while the other receives, as both would wait for ever with more to send than sockets take."""
        if self._upper:
            other = receive(part, self._other, self._group)
            return other + send(after(part, other), self._other, self._group)
        own = send(part, self._other, self._group)
        return own + receive(own, self._other, self._group)


def send(hidden: mx.array, to: int, group: Group) -> mx.array:
    """The same; whoever uses it has sent it before."""
    return mx.distributed.send(hidden, to, group=group.ring)


def receive(before: mx.array, sender: int, group: Group) -> mx.array:
    """What `sender` has sent, shaped like `before`, and taken after that was computed.

    MLX knows of nothing that a receipt depends on. But of what one array is made of it computes that first which is named last:
    `before` and all that leads to it, then the receipt, which nobody else asks for.
    """
    return after(mx.distributed.recv_like(before, sender, group=group.ring), before)


def share_among_pairs(model: Any, group: Group) -> None:
    """Leaves this rank's half of its stage's layers; raises EngineLoadError where that cannot be."""
    _require_pairs(group)
    stages = group.seat.layers[::2]
    stage = group.rank // 2
    _mlx.all_sum = _sum
    inner, vocabulary = model.model, model(mx.array([[0]])).shape[-1]
    cut(inner, sum(stages[stage + 1 :]), stages[stage])
    model.shard(Pair(group))
    join(model, group, vocabulary, _receiving, _sending)


def _require_pairs(group: Group) -> None:
    layers = group.seat.layers
    if group.seat.backend != "ring":
        raise EngineLoadError("hybrid splits need the backend `ring`", retryable=False)
    if group.size < 4 or len(layers) != group.size or layers[::2] != layers[1::2]:
        reason = f"a hybrid split needs pairs of ranks with the same layers, two pairs or more, not {layers}"
        raise EngineLoadError(reason, retryable=False)


def _sum(part: mx.array, *, group: Any = None, **stream: Any) -> mx.array:
    return group.sum(part) if isinstance(group, Pair) else _of_mlx(part, group=group, **stream)


def _receiving(call: Call, group: Group) -> Call:
    """From the next rank, which has it from the stage before or from the neighbour that it has in that."""

    def received(layer: Any, hidden: mx.array, *rest: Any, **named: Any) -> mx.array:
        if group.rank < group.size - 2:
            hidden = mx.distributed.recv_like(hidden, group.rank + 1, group=group.ring)
            if group.rank % 2:
                hidden = send(hidden, group.rank - 1, group)
        return call(layer, hidden, *rest, **named)

    return received


def _sending(call: Call, group: Group) -> Call:
    def sent(layer: Any, hidden: mx.array, *rest: Any, **named: Any) -> mx.array:
        hidden = call(layer, hidden, *rest, **named)
        if group.rank > 1:
            if group.rank % 2 == 0:
                hidden = send(hidden, group.rank - 1, group)
            ask_for(hidden, *rest, **named)  # of both: the last sum needs the two
        return hidden

    return sent
