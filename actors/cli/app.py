"""The commands, in the order in which a newcomer meets them."""

from typing import Annotated

import typer

from actors.cli import (
    chat,
    doctor,
    down,
    drain,
    events,
    forget,
    instances,
    load,
    models,
    nodes,
    preview,
    pull,
    rm,
    status,
    up,
)
from actors.version import VERSION

app = typer.Typer(
    name="actors",
    help="A cluster of actors that serves language models. Begin with `actors up`.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 no cluster found, 130 interrupted.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(VERSION)
        raise typer.Exit


@app.callback()
def everywhere(
    version: Annotated[  # answered by its callback
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[  # taken out before, so that it may stand anywhere
        bool, typer.Option("--debug", help="Show tracebacks and the log; TROUPE_DEBUG=1 as well.")
    ] = False,
) -> None:
    """A cluster of actors that serves language models."""


RUN, LOOK, USE = "Run", "Look", "Use"
app.command("up", rich_help_panel=RUN)(up.up)
app.command("down", rich_help_panel=RUN)(down.down)
app.command("drain", rich_help_panel=RUN)(drain.drain)
app.command("forget", rich_help_panel=RUN)(forget.forget)
app.command("doctor", rich_help_panel=RUN)(doctor.doctor)
app.command("chat", rich_help_panel=USE)(chat.chat)
app.command("load", rich_help_panel=USE)(load.load)
app.command("unload", rich_help_panel=USE)(load.unload)
app.command("pull", rich_help_panel=USE)(pull.pull)
app.command("rm", rich_help_panel=USE)(rm.rm)
app.command("models", rich_help_panel=USE)(models.models)
app.command("status", rich_help_panel=LOOK)(status.status)
app.command("nodes", rich_help_panel=LOOK)(nodes.nodes)
app.command("instances", rich_help_panel=LOOK)(instances.instances)
app.command("preview", rich_help_panel=LOOK)(preview.preview)
app.command("events", rich_help_panel=LOOK)(events.events)
