"""`actors preview`: how a model could be placed, and why not otherwise."""

import asyncio
from typing import Annotated

import typer

from actors.cli import screen
from actors.cli.cluster import bus_of
from actors.cli.failure import CommandFailed
from actors.cli.options import Cluster, DataDir, Json, Nats, Where
from actors.cli.rows import name_of
from actors.cli.units import in_bytes
from bus.commands import preview as ask_for_preview
from schemas.commands import PreviewModel
from schemas.ids import ModelId
from schemas.plan import Burden, Plan, Previews, RefusedPlan
from schemas.refused import Refused
from schemas.state import State

COLUMNS = ("plan", "tokens/s", "all slots", "first token", "nodes: layers, memory", "to fetch")


def preview(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The name that clients call it by.")],
    nats: Nats = None,
    cluster: Cluster = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """How one more copy of a model could be placed now, how fast it would be, and why not otherwise."""
    found, state = asyncio.run(_ask(Where(nats, cluster, data_dir), ModelId(model)))
    if as_json:
        screen.print_json(found)
        return
    rows = [_plan_cells(plan, state) for plan in found.plans]
    screen.print_table(COLUMNS, rows, f"{model} cannot be placed now.")
    for refused in found.refused:
        screen.out.print(_refusal(refused, state), markup=False)


async def _ask(where: Where, model: ModelId) -> tuple[Previews, State]:
    async with bus_of(where) as bus:
        await bus.view.start()
        answer = await ask_for_preview(bus, PreviewModel(model=model))
        if isinstance(answer, Refused):
            raise CommandFailed(answer.reason)
        return answer, bus.view.state


def _plan_cells(plan: Plan, state: State) -> tuple[str, ...]:
    return (
        plan.split,
        f"{plan.tokens_s:.1f}",
        f"{plan.full_tokens_s:.1f}",
        f"{plan.ttft_s:.2f} s",
        ", ".join(_part(part, state) for part in plan.parts),
        in_bytes(sum(part.fetch_bytes for part in plan.parts)),
    )


def _part(part: Burden, state: State) -> str:
    layers = f"{part.layers[0]}-{part.layers[1] - 1}, " if part.layers else ""
    return (
        f"{name_of(state, part.node)}: {layers}{in_bytes(part.memory_bytes)} of {in_bytes(part.free_bytes)}"
    )


def _refusal(refused: RefusedPlan, state: State) -> str:
    nodes = f" on {', '.join(name_of(state, node) for node in refused.nodes)}" if refused.nodes else ""
    missing = f" ({in_bytes(refused.missing_bytes)} are missing)" if refused.missing_bytes else ""
    return f"not {refused.split}{nodes}: {refused.reason}{missing}"
