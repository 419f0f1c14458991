"""`actors load` and `actors unload`: what the cluster is to serve."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated, cast

import msgspec
import typer
from msgspec import Struct

from actors.cli import screen
from actors.cli.cluster import bus_at, bus_of, find_cluster
from actors.cli.demand_wishes import DemandWishes
from actors.cli.failure import FAILED, USAGE, CommandFailed
from actors.cli.load_display import Display, display_for
from actors.cli.node_name import node_named
from actors.cli.options import STALLED_S, Cluster, DataDir, Json, Nats, Stalled, Where
from actors.cli.placement_wishes import PlacementWishes
from actors.cli.progress import Progress, progress_of
from actors.model_wish import UnknownModel, wish
from bus.bus import Bus
from bus.commands import command
from schemas.commands import LoadModel, UnloadModel
from schemas.ids import ModelId, NodeId
from schemas.model import DRAFT_TOKENS, IDLE_TIMEOUT_S, EngineName, ModelSpec, SimulatedSpeed
from schemas.refused import Refused
from schemas.revision import as_meant

GONE_S = 30.0
SIMULATED = "Only with --engine simulated"
PLACE = "Where it goes"
WHEN = "When it is loaded"


class Loaded(Struct, frozen=True, kw_only=True):
    """What `actors load --json` prints."""

    model: ModelId
    source: str
    seq: int
    progress: Progress | None = None


def load(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="`guide`, a folder, or OWNER/NAME\\[@REVISION] on the hub.")
    ],
    model_id: Annotated[
        str | None, typer.Option("--id", metavar="NAME", help="What clients call it.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=0, max=64, help="How many copies.")] = 1,
    context: Annotated[
        int | None, typer.Option(min=1, metavar="TOKENS", help="Most tokens of prompt and answer together.")
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, max=4096, help="How many sequences run at once in a copy.")
    ] = None,
    cache_bytes: Annotated[
        int | None, typer.Option(min=0, metavar="BYTES", help="Most memory of a copy for kept prefixes.")
    ] = None,
    batch_bytes: Annotated[
        int | None, typer.Option(min=1, metavar="BYTES", help="Most memory of a copy for what runs.")
    ] = None,
    node: Annotated[
        str | None, typer.Option(help="The only node that may carry it.", rich_help_panel=PLACE)
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            metavar="[auto|whole|pipeline|tensor|hybrid]", help="How a copy is spread.", rich_help_panel=PLACE
        ),
    ] = "auto",
    min_nodes: Annotated[
        int, typer.Option(min=1, max=64, help="Fewest nodes of a copy.", rich_help_panel=PLACE)
    ] = 1,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="Not on this node (repeatable).", rich_help_panel=PLACE),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="A:10,B:14", help="These nodes, with so many layers each (or A,B).", rich_help_panel=PLACE
        ),
    ] = "",
    objective: Annotated[
        str,
        typer.Option(
            metavar="[latency|throughput]", help="What a split is chosen for.", rich_help_panel=PLACE
        ),
    ] = "latency",
    backend: Annotated[
        str,
        typer.Option(
            metavar="[ring|jaccl|nccl]", help="How a split copy's parts are joined.", rich_help_panel=PLACE
        ),
    ] = "ring",
    on_demand: Annotated[
        bool,
        typer.Option(
            "--on-demand",
            help="Load it when somebody asks for it; unload it when idle.",
            rich_help_panel=WHEN,
        ),
    ] = False,
    idle_timeout: Annotated[
        float | None,
        typer.Option(
            min=5,
            metavar="SECONDS",
            help=f"Unload it after so long without a request (default {IDLE_TIMEOUT_S:g}).",
            rich_help_panel=WHEN,
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Once somebody has asked, keep it.", rich_help_panel=WHEN)
    ] = False,
    draft: Annotated[
        str, typer.Option(metavar="MODEL", help="A small model with the same tokens, which proposes some.")
    ] = "",
    draft_tokens: Annotated[
        int, typer.Option(min=1, max=16, metavar="K", help="Tokens that the draft proposes at once.")
    ] = DRAFT_TOKENS,
    engine: Annotated[str, typer.Option(metavar="[mlx|simulated]", help="What computes it.")] = "mlx",
    prefill: Annotated[
        float | None, typer.Option(metavar="TOKENS/S", help="How fast it reads.", rich_help_panel=SIMULATED)
    ] = None,
    decode: Annotated[
        float | None, typer.Option(metavar="TOKENS/S", help="How fast it writes.", rich_help_panel=SIMULATED)
    ] = None,
    load_s: Annotated[
        float | None,
        typer.Option("--load-s", metavar="SECONDS", help="How long it loads.", rich_help_panel=SIMULATED),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is ready, or has failed.")] = True,
    timeout: Stalled = STALLED_S,
    nats: Nats = None,
    cluster: Cluster = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Serve a model, and show how far it is."""
    if draft_tokens != DRAFT_TOKENS and not draft:
        raise CommandFailed("--draft-tokens only goes with --draft", USAGE)
    if model_id == "":
        raise CommandFailed("--id is empty: it is what clients call the model", USAGE)
    speed = _speed(engine, {"prefill": prefill, "decode": decode, "load_s": load_s})
    limits = _Limits(context, slots, cache_bytes, batch_bytes)
    places = PlacementWishes(
        strategy=strategy,
        min_nodes=min_nodes,
        exclude=tuple(exclude or ()),
        split=split,
        objective=objective,
        backend=backend,
    )
    asked = _Asked(
        *(model, model_id or "", replicas, limits, cast("EngineName", engine), node, speed, places),
        *(draft, draft_tokens),
        DemandWishes(on_demand=on_demand, idle_timeout_s=idle_timeout, keep=keep),
    )
    loaded = asyncio.run(_load(Where(nats, cluster, data_dir), asked, timeout if wait else None, as_json))
    if as_json:
        screen.print_json(loaded)
    else:
        _report(loaded)
    if loaded.progress is not None and loaded.progress.stage not in ("ready", "idle"):
        raise typer.Exit(FAILED)


def unload(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The name that clients call it by.")],
    wait: Annotated[bool, typer.Option(help="Wait until no node carries it any more.")] = True,
    nats: Nats = None,
    cluster: Cluster = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Serve a model no longer."""
    seq = asyncio.run(_unload(Where(nats, cluster, data_dir), ModelId(model), wait))
    if as_json:
        screen.print_json({"model": model, "seq": seq})
    else:
        screen.out.print(f"{model} is no longer served.")


class _Limits(Struct, frozen=True):
    """Bounds of each copy; None: what suits model and node."""

    context: int | None
    slots: int | None
    cache_bytes: int | None
    batch_bytes: int | None


class _Asked(Struct, frozen=True):
    """What was asked for on the command line, before anything is known of the cluster."""

    model: str
    model_id: str
    replicas: int
    limits: _Limits
    engine: EngineName
    node: str | None
    speed: SimulatedSpeed | None
    places: PlacementWishes
    draft: str
    draft_tokens: int
    when: DemandWishes


def _speed(engine: str, given: dict[str, float | None]) -> SimulatedSpeed | None:
    said = {name: value for name, value in given.items() if value is not None}
    if engine not in ("mlx", "simulated"):
        raise CommandFailed(f"--engine is {engine!r}; it is one of mlx, simulated", USAGE)
    if engine == "mlx":
        if said:
            options = ", ".join("--" + name.replace("_", "-") for name in said)
            verb = "goes" if len(said) == 1 else "go"
            raise CommandFailed(f"{options} only {verb} with --engine simulated", USAGE)
        return None
    for name, value in said.items():
        try:
            msgspec.convert({name: value}, SimulatedSpeed)
        except msgspec.ValidationError as error:
            option, least = "--" + name.replace("_", "-"), str(error).partition(" - at")[0].partition("` ")[2]
            raise CommandFailed(f"{option} is {value:g}, and is to be {least}", USAGE) from error
    return msgspec.convert(said, SimulatedSpeed)


async def _load(where: Where, asked: _Asked, patience_s: float | None, as_json: bool) -> Loaded:
    address = find_cluster(where)
    async with bus_at(address) as bus:
        await bus.view.start()
        wished = _spec(asked, bus, address.local.node_id if address.local else None)
        # Here, too: the leader may not have heard yet of what was pulled just now.
        spec = as_meant(bus.view.state, wished)
        seq = await _ordered(bus, LoadModel(spec=spec))
        loaded = Loaded(model=spec.id, source=spec.source, seq=seq)
        if patience_s is None:
            return loaded
        with display_for(spec.id, as_json) as display:
            progress = await _until_over(bus, spec.id, seq, patience_s, display)
        return msgspec.structs.replace(loaded, progress=progress)


def _spec(asked: _Asked, bus: Bus, here: NodeId | None) -> ModelSpec:
    try:
        spec = wish(
            asked.model,
            model_id=asked.model_id,
            replicas=asked.replicas,
            context=asked.limits.context,
            slots=asked.limits.slots,
            cache_bytes=asked.limits.cache_bytes,
            batch_bytes=asked.limits.batch_bytes,
            engine=asked.engine,
            node=node_named(bus.view.state, asked.node) if asked.node else None,
            here=here,
            simulated=asked.speed,
            draft=asked.draft,
            draft_tokens=asked.draft_tokens,
        )
        spec = asked.when.added_to(spec)
        spec = asked.places.added_to(spec, bus.view.state, bound=asked.node is not None)
        return msgspec.convert(msgspec.to_builtins(spec), ModelSpec)
    except (UnknownModel, msgspec.ValidationError) as error:
        raise CommandFailed(str(error), USAGE) from error


async def _ordered(bus: Bus, order: LoadModel | UnloadModel) -> int:
    """The sequence of the event that carried the order out."""
    answer = await command(bus, order)
    if isinstance(answer, Refused):
        raise CommandFailed(answer.reason)
    return answer.seq


async def _until_over(bus: Bus, model: ModelId, seq: int, patience_s: float, display: Display) -> Progress:
    loop, last = asyncio.get_running_loop(), Progress(stage="waiting")
    try:
        async with asyncio.timeout(patience_s) as limit, aclosing(bus.view.states()) as states:
            async for state in states:
                progress = progress_of(state, model)
                if state.seq < seq or progress == last:
                    continue
                last = progress
                limit.reschedule(loop.time() + patience_s)
                display.show(progress)
                if progress.final:
                    return progress
    except TimeoutError:
        why = f"nothing has happened for {patience_s:g} s" + (f"; {last.reason}" if last.reason else "")
        return msgspec.structs.replace(last, reason=why)
    raise AssertionError("states never end")


async def _unload(where: Where, model: ModelId, wait: bool) -> int:
    async with bus_of(where) as bus:
        await bus.view.start()
        seq = await _ordered(bus, UnloadModel(model=model))
        if wait:
            try:
                await bus.view.until(
                    lambda state: model not in state.models and not state.instances_of(model), GONE_S
                )
            except TimeoutError as error:
                raise CommandFailed(f"{model} is still carried somewhere after {GONE_S:g} s") from error
        return seq


def _report(loaded: Loaded) -> None:
    progress = loaded.progress
    if progress is None:
        screen.out.print(
            f"{loaded.model} is asked for (event {loaded.seq}); `actors models` says how far it is."
        )
    elif progress.stage == "ready":
        copies = f" ({progress.ready} copies)" if progress.wanted > 1 else ""
        screen.out.print(f"[green]{loaded.model} is ready[/]{copies}. Talk to it: actors chat {loaded.model}")
    elif progress.stage == "idle":
        when = " The first request loads it." if progress.on_demand else ""
        screen.out.print(f"{loaded.model} is known, with no copy loaded.{when}")
    else:
        _report_failure(loaded.model, progress)


def _report_failure(model: ModelId, progress: Progress) -> None:
    again = "" if progress.final else " The cluster goes on trying."
    screen.err.print(
        f"{model} is not ready ({progress.stage}): {progress.reason or 'no reason was given'}.{again}"
    )
    tail: Sequence[str] = progress.diagnostics.strip().splitlines()[-10:]
    for line in tail:
        screen.err.print(f"  {line}", style="dim", markup=False)
