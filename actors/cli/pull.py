"""`actors pull`: bring a model's files to nodes, before anything serves it."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated

import typer
from msgspec import Struct

from actors.cli import screen
from actors.cli.cluster import bus_at, find_cluster
from actors.cli.failure import FAILED, USAGE, CommandFailed
from actors.cli.files_order import node_names, ordered, source_of
from actors.cli.load_display import Display, display_for
from actors.cli.newest import Found, carrier, newest
from actors.cli.node_name import node_named
from actors.cli.options import STALLED_S, Cluster, DataDir, Json, Nats, Stalled, Where
from actors.cli.progress import Progress
from actors.cli.rows import FileRow, file_rows
from bus.bus import Bus
from schemas.commands import PullModel
from schemas.ids import ModelId, NodeId
from schemas.revision import meant, revision_of, unmarked
from schemas.state import Download, State


class Pulled(Struct, frozen=True, kw_only=True):
    """What `actors pull --json` prints."""

    model: ModelId
    source: str
    files: list[FileRow]
    newer: bool | None = None
    """The place holds something newer than what was known of it, and that is what was brought; null: nobody has asked it."""
    unasked: str = ""
    """Why the place was not asked whether it does."""
    was: str = ""
    """What was known of it, by its revision: to go back to it."""


def pull(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="OWNER/NAME\\[@REVISION], or a model that is served.")
    ],
    node: Annotated[
        list[str] | None, typer.Option("--node", metavar="NAME", help="Where to; may be repeated.")
    ] = None,
    everywhere: Annotated[bool, typer.Option("--all", help="To every node that carries models.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte that is there; bring again what is damaged.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the files are there.")] = True,
    timeout: Stalled = STALLED_S,
    nats: Nats = None,
    cluster: Cluster = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Bring a model's files to this machine's node, or to others."""
    if everywhere and node:
        raise CommandFailed("--all is every node, and --node says which: give one of them", USAGE)
    where = Where(nats, cluster, data_dir)
    pulled = asyncio.run(
        _pull(where, model, node or [], everywhere, verify, timeout if wait else None, as_json)
    )
    if as_json:
        screen.print_json(pulled)
    elif wait:
        _report(pulled)
    else:
        screen.out.print(f"{pulled.model} is on its way; `actors models` says how far it is.", markup=False)
    if any(row.status == "failed" for row in pulled.files):
        raise typer.Exit(FAILED)


async def _pull(
    where: Where,
    text: str,
    names: Sequence[str],
    everywhere: bool,
    verify: bool,
    patience_s: float | None,
    as_json: bool,
) -> Pulled:
    address = find_cluster(where)
    async with bus_at(address) as bus:
        await bus.view.start()
        state = bus.view.state
        model, source = source_of(state, text)
        here = address.local.node_id if address.local else None
        of_folder = None if names else carrier(state, model, source)
        nodes = [of_folder] if of_folder else _nodes(state, names, everywhere, here)
        found = Found(source)
        if not revision_of(text) and not verify:
            found = await newest(bus, nodes[0], meant(state, model, unmarked(source)))
        if not found.to_fetch:
            return Pulled(
                model=model, source=found.source, files=[], newer=found.newer, unasked=found.unasked
            )
        name, source = found.name_for(model), found.source
        order = PullModel(model=name, source=source, verify=verify)
        since = {node: await ordered(bus, node, order) for node in nodes}
        if patience_s is not None:
            with display_for(name, as_json) as display:
                await _until_over(bus, name, since, patience_s, display)
        files = [row for row in file_rows(bus.view.state, name) if row.node in since]
        return Pulled(
            model=model,
            source=source,
            files=files,
            newer=found.newer,
            unasked=found.unasked,
            was=found.was,
        )


def _nodes(state: State, names: Sequence[str], everywhere: bool, here: NodeId | None) -> list[NodeId]:
    carriers = [node.id for node in state.nodes.values() if node.alive and "worker" in node.roles]
    if everywhere:
        return carriers
    if names:
        return list(dict.fromkeys(node_named(state, name) for name in names))
    if here is not None and here in carriers:
        return [here]
    raise CommandFailed("which node is to have it? Say --node NAME, or --all for every one", USAGE)


async def _until_over(
    bus: Bus, model: ModelId, since: dict[NodeId, int], patience_s: float, display: Display
) -> None:
    loop, last = asyncio.get_running_loop(), Progress(stage="waiting")
    try:
        async with asyncio.timeout(patience_s) as limit, aclosing(bus.view.states()) as states:
            async for state in states:
                downloads = [state.download(node, model) for node in since]
                fresh = [each for each in downloads if each is not None and each.seq >= since[each.node]]
                progress = _progress(fresh)
                if progress != last:
                    last = progress
                    limit.reschedule(loop.time() + patience_s)
                    display.show(progress)
                if len(fresh) == len(since) and all(each.is_over for each in fresh):
                    return
    except TimeoutError as error:
        raise CommandFailed(f"nothing has happened for {patience_s:g} s; the nodes go on with it") from error


def _progress(downloads: Sequence[Download]) -> Progress:
    return Progress(
        stage="downloading",
        bytes_done=sum(each.bytes_done for each in downloads),
        bytes_total=sum(each.bytes_total for each in downloads),
        reason=next((each.reason for each in downloads if each.reason), ""),
    )


def _report(pulled: Pulled) -> None:
    for row in pulled.files:
        if row.status == "failed":
            screen.err.print(f"{pulled.model} is not on {row.name}: {row.reason}", markup=False)
    if pulled.unasked:
        screen.err.print(f"Whether there is a newer version nobody knows: {pulled.unasked}", markup=False)
    there = node_names(row for row in pulled.files if row.status == "complete")
    if pulled.newer and there:
        was = "" if pulled.source.startswith("/") else f"; before: {pulled.was}"
        words = f"{pulled.model} is on {there} in a newer version ({pulled.source}{was})."
        again = f"To serve it, load it again as before: {_load_again(pulled)}"
        screen.out.print(f"{words} {again}", markup=False, soft_wrap=True)
    elif there:
        same = " Its place holds nothing newer." if pulled.newer is False else ""
        screen.out.print(f"{pulled.model} is on {there}.{same}", markup=False)
    elif pulled.newer is False:
        screen.out.print(f"{pulled.source} has not changed.", markup=False)
    elif pulled.source.startswith("/"):
        screen.out.print(f"{pulled.source} is used where it is; nothing is fetched.", markup=False)


def _load_again(pulled: Pulled) -> str:
    place = unmarked(pulled.source).removeprefix("hf:")
    return f"actors load {place}" + (f" --id {pulled.model}" if pulled.model != place else "")
