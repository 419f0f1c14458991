"""Options that many commands take."""

from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

Nats = Annotated[
    str | None,
    typer.Option("--nats", metavar="URL", help="The cluster's NATS server.", rich_help_panel="Which cluster"),
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="NAME", help="The cluster's name.", rich_help_panel="Which cluster"),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Data folder of a node of it.", rich_help_panel="Which cluster"
    ),
]
STALLED_S = 1800.0
Stalled = Annotated[
    float,
    typer.Option(
        "--timeout", min=0.1, metavar="SECONDS", help="Give up waiting after so long without progress."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class Where(Struct, frozen=True):
    """What was said on the command line about which cluster is meant."""

    nats: str | None = None
    cluster: str | None = None
    data_dir: Path | None = None
