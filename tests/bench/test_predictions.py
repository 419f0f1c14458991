"""What placement predicts of a plan, beside what comes of it: real ranks on machines with one core each, over shaped links.

The prediction is the product's own: its profile of the machines, its measured links, its preview.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from actors.downloader.model_files import describe
from actors.master.placement import preview
from schemas.events import LinksMeasured, ModelDescribed
from schemas.ids import ModelId
from schemas.instance import Split
from schemas.model import ModelSpec, Share
from schemas.node import NodeProfile
from schemas.plan import Plan
from schemas.state import State
from tests.bench.pinned import Place, real_time, speak
from tests.bench.rank import Job
from tests.bench.table import Table, percentile
from tests.facts import GIB, joined
from tests.lan import lan
from tests.master.test_decisions import after
from tests.models import make_random_llama

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

SIZES = {"16M": (384, 8), "160M": (1024, 10)}
"""Width and layers."""
PROMPT, ANSWERS = 512, 3
WITHIN = 0.2


class Case(Struct, frozen=True):
    """A placement; `layers` of each stage."""

    size: str
    split: Split = "whole"
    layers: tuple[int, ...] = ()
    rate: str = ""
    delay_s: float = 0.0
    tokens: int = 24

    @property
    def ranks(self) -> int:
        return 1 if self.split == "whole" else max(2, len(self.layers))

    @property
    def name(self) -> str:
        cut = " ".join(map(str, self.layers)) if self.split == "pipeline" else ""
        ranks = "" if self.split == "whole" else f" x{self.ranks}"
        link = f", {self.rate}" if self.rate else f", {self.delay_s * 1e3:g} ms" if self.delay_s else ""
        return f"{self.size} {self.split}{ranks} {cut}".strip() + link


CASES = (
    Case("16M", tokens=64),
    Case("16M", "pipeline", (4, 4), tokens=64),
    Case("16M", "tensor", tokens=64),
    Case("160M"),
    Case("160M", "pipeline", (5, 5)),
    Case("160M", "pipeline", (7, 3)),
    Case("160M", "pipeline", (4, 3, 3)),
    Case("160M", "tensor"),
    Case("160M", "pipeline", (5, 5), rate="100mbit"),
    Case("160M", "tensor", rate="100mbit"),
    Case("160M", "pipeline", (5, 5), delay_s=0.005),
    Case("160M", "pipeline", (3, 7), delay_s=0.020),
    Case("160M", "tensor", delay_s=0.005, tokens=12),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    at = tmp_path_factory.mktemp("models")
    return {
        name: make_random_llama(at / name, hidden, layers, heads=hidden // 64 * 2)
        for name, (hidden, layers) in SIZES.items()
    }


@pytest.fixture(scope="module")
def places() -> Iterator[list[Place]]:
    hurry = real_time()
    with (
        lan(3) as machines
    ):  # the third one shares a core: of a pipeline that decodes one rank works, and the others sleep
        yield [Place(machine, at % 2, hurry) for at, machine in enumerate(machines)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_plan_does_what_it_promised(
    case: Case, places: list[Place], folders: dict[str, Path], table: Table, tmp_path: Path
) -> None:
    used = places[: case.ranks]
    folder = folders[case.size]
    with ExitStack() as shaped:
        if case.delay_s:
            shaped.enter_context(places[1].machine.slow(case.delay_s))
        for place in used if case.rate else ():
            place.machine.starve(case.rate)
            shaped.callback(place.machine.feed)
        plan = predicted(case, used, folder)
        job = Job(str(folder), str(tmp_path), None, PROMPT, case.tokens, ANSWERS)
        answers = speak(used, case.split, case.layers, job)
    speed = 1 / percentile([each.token_s for each in answers], 0.5)
    first_s = percentile([each.first_s for each in answers], 0.5)
    off, first_off = plan.tokens_s / speed - 1, plan.ttft_s / first_s - 1
    note = f"TTFT {plan.ttft_s * 1e3:,.0f} predicted, {first_s * 1e3:,.0f} ms measured: {first_off:+.0%}"
    value = f"{plan.tokens_s:.2f} predicted, {speed:.2f} tokens/s: {off:+.0%}"
    table.add("Predicted and measured", case.name, value, f"{WITHIN:.0%}", note)
    assert max(abs(off), abs(first_off)) < 3 * WITHIN, (
        "the model of cost is wrong, whatever else the machine did"
    )


def predicted(case: Case, places: list[Place], folder: Path) -> Plan:
    """What `actors preview` would say of these nodes, had each of them just started."""
    spec = ModelSpec(
        id=ModelId("m"), source=str(folder), strategy=case.split, split=tuple(shares(case, places))
    )
    state = State()
    for place in places:
        report = place.engine()
        assert report.speed is not None
        profile = NodeProfile(
            hostname=place.machine.name,
            platform="linux",
            cores=1,
            memory_bytes=16 * GIB,
            **msgspec.structs.asdict(report.speed),
        )
        state = after(state, joined(place.node, profile=profile))
    for one, other in permutations(places, 2):
        state = after(state, LinksMeasured(node=one.node, links=(one.link(other),)))  # type: ignore[arg-type]
    card = describe(spec.id, folder).card
    state = after(state, ModelDescribed(model=spec.id, source=spec.source, card=card))
    plans = preview(spec, state).plans
    return plans[0]


def shares(case: Case, places: list[Place]) -> Iterator[Share]:
    begin = 0
    for place, count in zip(places, case.layers or (0,) * len(places), strict=True):
        layers = (begin, begin + count) if case.split == "pipeline" else None
        begin += count
        if case.split != "whole":
            yield Share(node=place.node, layers=layers)
