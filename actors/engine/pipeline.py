"""A model whose layers are shared out: each rank has some, takes what the rank before it made, and hands on its own.

The first layer of a rank receives and its last one sends, and the model's own code runs between them, over fewer layers than it
was made with. Rank 0 has the last layers, and alone has the result: to bring that to the others would take a way over each
link in every step, and what is drawn from it comes to them anyway (`Group.agree`).
"""

from collections.abc import Callable
from typing import Any, cast

import mlx.core as mx

from actors.engine.arrays import after
from actors.engine.group import Group

INDICES = {"fa_idx": False, "ga_idx": False, "swa_idx": True}
"""Where mlx-lm's models keep the number of a layer whose cache they make a mask from, and whether that is a sliding one."""


def share_layers(model: Any, group: Group) -> None:
    """Leaves this rank's layers in `model`; lazily loaded weights of the others are never read."""
    inner, vocabulary = model.model, model(mx.array([[0]])).shape[-1]
    if hasattr(inner, "pipeline"):  # would bring the result to all ranks, if it knew that there are others
        inner.pipeline(group.ring, list(group.seat.layers))
        inner.pipeline_rank, inner.pipeline_size = 0, 1
    else:
        cut(inner, sum(group.seat.layers[group.rank + 1 :]), group.seat.layers[group.rank])
    join(model, group, vocabulary, _receiving, _sending)


def cut(inner: Any, first: int, mine: int) -> None:
    """Leaves so many layers, from `first` on."""
    inner.layers = inner.layers[first : first + mine]
    if hasattr(inner, "layer_types"):
        _number_anew(inner, inner.layer_types[first : first + mine])


def _number_anew(inner: Any, kinds: list[str]) -> None:
    """Masks are made from the first cache of their kind that this rank has; of a kind that it lacks none is used."""
    inner.layer_types = kinds
    slides = [kind != "full_attention" for kind in kinds]
    for name, sliding in INDICES.items():
        if getattr(inner, name, None) is not None:
            setattr(inner, name, slides.index(sliding) if sliding in slides else 0)


Call = Callable[..., mx.array]
Around = Callable[[Call, Group], Call]


def wrap(layer: Any, around: Callable[[Call], Call]) -> None:
    """The same layer, of a class of its own: modules are called by their class."""
    kind = cast("type[Any]", type(layer))
    call = cast("Call", kind.__call__)
    layer.__class__ = type(kind.__name__, (kind,), {"__call__": around(call)})


def join(model: Any, group: Group, vocabulary: int, receiving: Around, sending: Around) -> None:
    """The first layer that is left here is `receiving`, the last one `sending`, and rank 0 alone has a head."""
    wrap(model.layers[0], lambda call: receiving(call, group))
    wrap(model.layers[-1], lambda call: sending(call, group))
    if group.rank:
        wrap(model, lambda _: _headless(vocabulary))


def _receiving(call: Call, group: Group) -> Call:
    def receive(layer: Any, hidden: mx.array, *rest: Any, **named: Any) -> mx.array:
        if group.rank < group.size - 1:
            hidden = mx.distributed.recv_like(hidden, group.rank + 1, group=group.ring)
        return call(layer, hidden, *rest, **named)

    return receive


def _sending(call: Call, group: Group) -> Call:
    def send(layer: Any, hidden: mx.array, *rest: Any, **named: Any) -> mx.array:
        hidden = call(layer, hidden, *rest, **named)
        if group.rank:
            hidden = mx.distributed.send(hidden, group.rank - 1, group=group.ring)
            ask_for(hidden, *rest, **named)
        return hidden

    return send


def ask_for(hidden: mx.array, *rest: Any, **named: Any) -> None:
    """A prompt is read for its caches alone: they must ask for the sending. `rest`, `named`: what its layer was called with."""
    cache: Any = named.get("cache", rest[-1] if rest else None)
    if hasattr(cache, "keys"):
        cache.keys = after(cache.keys, hidden)
    elif cache is not None:  # a recurrent layer's
        cache[0] = after(cache[0], hidden)


def _headless(vocabulary: int) -> Call:
    """Logits that nobody looks at, there when this rank's part is done."""

    def run(model: Any, inputs: mx.array, cache: Any = None) -> mx.array:
        return after(mx.broadcast_to(mx.array(0.0), (*inputs.shape, vocabulary)), model.model(inputs, cache))

    return run
