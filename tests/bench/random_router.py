"""`actors`, whose APIs choose an instance by chance: `python -m tests.bench.random_router up ...`."""

import random
from collections.abc import Iterable

import api.routing.router
from actors.cli import main
from api.routing.costs import Candidate
from schemas.ids import InstanceId


def by_chance(_prompt: int, candidates: Iterable[Candidate]) -> list[InstanceId]:
    order = [each.instance for each in candidates]
    random.shuffle(order)
    return order


if __name__ == "__main__":
    api.routing.router.ranked = by_chance
    main()
