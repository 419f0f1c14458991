"""`actors up`: run a node."""

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from actors.cli import screen
from actors.cli.failure import USAGE, CommandFailed
from actors.cli.options import Json
from actors.machine.node_info import NodeInfo
from actors.model_wish import wish
from actors.settings import Settings, load_settings
from bus.address import public

BUS, API, ROLES, LOG = "The bus", "The API", "What it takes part in", "Its log"


def up(
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What people call this node.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="NAME", help="The cluster's name.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where this node keeps its things.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="MODEL", help="Load this; may be repeated; `none` for none. Default: guide."
        ),
    ] = None,
    nats: Annotated[
        str | None, typer.Option(metavar="URL", help="Use this NATS server.", rich_help_panel=BUS)
    ] = None,
    nats_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", help="Port of this node's own NATS server; 0: any.", rich_help_panel=BUS
        ),
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Join the cluster of a node that accepts peers.", rich_help_panel=BUS
        ),
    ] = None,
    accept_peers: Annotated[
        bool, typer.Option("--accept-peers", help="Let other machines join.", rich_help_panel=BUS)
    ] = False,
    discover: Annotated[
        bool,
        typer.Option(
            "--discover", help="Join the cluster of this network, or begin it.", rich_help_panel=BUS
        ),
    ] = False,
    no_announce: Annotated[
        bool, typer.Option("--no-announce", help="Accept peers in silence.", rich_help_panel=BUS)
    ] = False,
    bus_peers: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="Three nodes whose servers are one bus.", rich_help_panel=BUS),
    ] = None,
    carry_over: Annotated[
        bool,
        typer.Option("--carry-over", help="Take along what its own server has stored.", rich_help_panel=BUS),
    ] = False,
    route_port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Where they meet.", rich_help_panel=BUS)
    ] = None,
    join_token: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="What they must know. Default: made once.", rich_help_panel=BUS),
    ] = None,
    nats_host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Where this node's own server listens.", rich_help_panel=BUS),
    ] = None,
    tls_ca: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Whom to believe, with --nats tls://.", rich_help_panel=BUS),
    ] = None,
    tls_cert: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What to show, with --nats tls://.", rich_help_panel=BUS),
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option(metavar="FILE", help="The key of that.", rich_help_panel=BUS)
    ] = None,
    nats_creds: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Who we are to --nats: JWT and seed.", rich_help_panel=BUS),
    ] = None,
    nats_nkey: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Who we are to --nats: a seed alone.", rich_help_panel=BUS),
    ] = None,
    js_domain: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The domain of its JetStream.", rich_help_panel=BUS),
    ] = None,
    api_host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Where it listens.", rich_help_panel=API)
    ] = None,
    api_port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Its port; 0: any free one.", rich_help_panel=API)
    ] = None,
    no_api: Annotated[
        bool, typer.Option("--no-api", help="Answer no clients.", rich_help_panel=ROLES)
    ] = False,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Carry no models.", rich_help_panel=ROLES)
    ] = False,
    no_master: Annotated[
        bool, typer.Option("--no-master", help="Never lead.", rich_help_panel=ROLES)
    ] = False,
    no_spare: Annotated[
        bool,
        typer.Option("--no-spare", help="Keep no process ready for the next runner.", rich_help_panel=ROLES),
    ] = False,
    forget_nodes_after: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="While it leads: forget nodes that are gone for so long, as 12h; 7d; or never.",
            rich_help_panel=ROLES,
        ),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Fetch no models from outside, only from other nodes.", rich_help_panel=ROLES
        ),
    ] = False,
    api_only: Annotated[
        bool, typer.Option("--api-only", help="Only answer clients.", rich_help_panel=ROLES)
    ] = False,
    log_level: Annotated[
        str | None, typer.Option(metavar="[debug|info|warning|error]", rich_help_panel=LOG)
    ] = None,
    log_format: Annotated[str | None, typer.Option(metavar="[console|json]", rich_help_panel=LOG)] = None,
    as_json: Json = False,
) -> None:
    """Run a node until Ctrl-C. The first one starts the bus, leads, and serves the built-in model."""
    flags = {
        "name": name,
        "cluster": cluster,
        "data_dir": data_dir,
        "models": _without_none(model),
        "nats": nats,
        "nats_port": nats_port,
        "join": join,
        "accept_peers": accept_peers or None,
        "discover": discover or None,
        "no_announce": no_announce or None,
        "bus_peers": bus_peers.split(",") if bus_peers else None,
        "carry_over": carry_over or None,
        "route_port": route_port,
        "join_token": join_token,
        "nats_host": nats_host,
        "tls_ca": tls_ca,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "nats_creds": nats_creds,
        "nats_nkey": nats_nkey,
        "js_domain": js_domain,
        "api_host": api_host,
        "api_port": api_port,
        "no_api": no_api or None,
        "no_worker": no_worker or None,
        "no_master": no_master or None,
        "no_spare": no_spare or None,
        "forget_nodes_after": forget_nodes_after,
        "api_only": api_only or None,
        "offline": offline or None,
        "log_level": log_level,
        "log_format": log_format,
    }
    settings = load_settings({flag: value for flag, value in flags.items() if value is not None})
    for text in settings.models:  # before a server is started
        wish(text)
    raise typer.Exit(_run(settings, as_json))


def _without_none(models: list[str] | None) -> list[str] | None:
    """`--model none` is how a command line says an empty list."""
    if models and "none" in models and len(models) > 1:
        raise CommandFailed("--model none goes alone: it is the list without models", USAGE)
    return [] if models == ["none"] else models or None


def _run(settings: Settings, as_json: bool) -> int:
    import uvloop

    from actors.node import CannotStart, run_node

    def on_ready(info: NodeInfo) -> None:
        if as_json:
            screen.print_json(info)
        else:
            greet(info, settings)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(run_node(settings, on_ready))
        except CannotStart as failure:
            raise CommandFailed(str(failure)) from failure


def greet(info: NodeInfo, settings: Settings) -> None:
    """The addresses, and what to type next."""
    lines: dict[str, Any] = {
        "API": info.api_url,
        "NATS": public(info.nats_url),
        "data": settings.data_dir,
        "models": ", ".join(settings.models),
    }
    screen.out.print(f"[bold green]{info.name} is up[/], node {info.node_id} of cluster {info.cluster}.")
    for word, value in lines.items():
        if value:
            screen.out.print(f"  {word:<7}{value}", markup=False)
    if settings.accepts_peers:
        screen.out.print(
            f"Another machine joins with: [bold]actors up --join {info.join_url}[/]", soft_wrap=True
        )
    if "api" in settings.roles and settings.models:
        here = (
            ""
            if settings.data_dir == Settings().data_dir.expanduser()
            else f" --data-dir {settings.data_dir}"
        )
        screen.out.print(f"In another terminal: [bold]{_command()} chat{here}[/]. Ctrl-C stops this node.")


def _command() -> str:
    """How to call this program from here: by its name where the shell would find it, else by its path."""
    if shutil.which("actors"):
        return "actors"
    program = Path(sys.argv[0])
    return os.path.relpath(program) if program.name == "actors" else "python -m actors.cli"
