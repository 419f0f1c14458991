"""Options of `actors load` that say how a copy is to be placed."""

from typing import cast

import msgspec
from msgspec import Struct

from actors.cli.failure import USAGE, CommandFailed
from actors.cli.node_name import node_named
from schemas.model import Backend, ModelSpec, Objective, Share, Strategy
from schemas.nearest import did_you_mean
from schemas.split import PAIR
from schemas.state import State

STRATEGIES: tuple[Strategy, ...] = ("auto", "whole", "pipeline", "tensor", "hybrid")
BACKENDS: tuple[Backend, ...] = ("ring", "jaccl", "nccl")
OBJECTIVES: tuple[Objective, ...] = ("latency", "throughput")


class PlacementWishes(Struct, frozen=True, kw_only=True):
    """As they were written; nodes by any name that people have for them."""

    strategy: str = "auto"
    min_nodes: int = 1
    exclude: tuple[str, ...] = ()
    split: str = ""
    objective: str = "latency"
    backend: str = "ring"

    def added_to(self, spec: ModelSpec, state: State, *, bound: bool) -> ModelSpec:
        """`spec` with these wishes; a copy on several nodes is not kept to the one that has the folder, unless `bound`."""
        strategy = cast("Strategy", _one_of("--strategy", self.strategy, STRATEGIES))
        split = _split(self.split, state, width=PAIR if strategy == "hybrid" else 1)
        spread = strategy not in ("auto", "whole") or self.min_nodes > 1 or split
        return msgspec.structs.replace(
            spec,
            strategy=strategy,
            min_nodes=self.min_nodes,
            exclude=tuple(node_named(state, name) for name in self.exclude),
            split=split,
            objective=cast("Objective", _one_of("--objective", self.objective, OBJECTIVES)),
            backend=cast("Backend", _one_of("--backend", self.backend, BACKENDS)),
            node=None if spread and not bound else spec.node,
        )


def _one_of(option: str, text: str, known: tuple[str, ...]) -> str:
    if text in known:
        return text
    raise CommandFailed(
        f"{option} is {text!r}; it is one of {', '.join(known)}{did_you_mean(text, known)}", USAGE
    )


def _split(text: str, state: State, width: int) -> tuple[Share, ...]:
    """`a,b` or `a:10,b:14`: nodes in the order of the layers, each with the number of its layers or all without; always
    `width` after each other have the same layers."""
    shares: list[Share] = []
    first = 0
    for place, part in enumerate(text.split(",") if text else (), start=1):
        name, colon, count = part.strip().rpartition(":")
        if not colon:
            shares.append(Share(node=node_named(state, count)))
        elif count.isascii() and count.isdigit() and int(count) > 0:
            shares.append(Share(node=node_named(state, name), layers=(first, first + int(count))))
            first += int(count) if place % width == 0 else 0
        else:
            raise CommandFailed(
                f"--split says {part.strip()!r}; it is NODE, or NODE:LAYERS as in a:10,b:14", USAGE
            )
    return tuple(shares)
