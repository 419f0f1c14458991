"""`actors events`: the log of everything that was decided and seen."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, cast

import msgspec
import typer
from rich.text import Text

from actors.cli import screen
from actors.cli.cluster import bus_of
from actors.cli.options import Cluster, DataDir, Json, Nats, Where
from bus.bus import Bus
from schemas.events import Decided, Recorded, UnknownEvent
from schemas.unreadable import UNREADABLE

SHOWN = 50
_NOT_TOLD = frozenset({"type", "profile", "diagnostics", "incarnation"})


def events(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    after: Annotated[
        int | None, typer.Option(min=0, metavar="SEQ", help="Only what came after this event; 0: everything.")
    ] = None,
    last: Annotated[
        int, typer.Option("--last", "-n", min=0, help="How many, unless --after says from where.")
    ] = SHOWN,
    nats: Nats = None,
    cluster: Cluster = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """What was decided and what was seen, in order. With --json one event a line."""
    asyncio.run(_tell(Where(nats, cluster, data_dir), after, last, follow, as_json))


async def _tell(where: Where, after: int | None, last: int, follow: bool, as_json: bool) -> None:
    async with bus_of(where) as bus, aclosing(_chosen(bus, after, last, follow)) as chosen:
        async for recorded in chosen:
            if as_json:
                print(as_line(recorded).decode(), flush=True)
            else:
                screen.out.print(as_text(recorded))


async def _chosen(bus: Bus, after: int | None, last: int, follow: bool) -> AsyncGenerator[Recorded]:
    if after is None:
        _, newest = await bus.log.bounds()
        after = max(0, newest - last)
    source = bus.log.follow(after) if follow else bus.log.past(after)
    async with aclosing(source) as recorded:
        async for one in recorded:
            yield one


def as_line(recorded: Recorded) -> bytes:
    """One event as JSON; one that this version does not know stands as it came."""
    return msgspec.json.encode(
        {
            "seq": recorded.seq,
            "time": recorded.time,
            "term": recorded.term,
            "by": recorded.by,
            "decided": isinstance(recorded.event, Decided),
            "event": _content(recorded),
        }
    )


def _content(recorded: Recorded) -> Any:
    event = recorded.event
    if not isinstance(event, UnknownEvent):
        return event
    try:
        return msgspec.json.decode(event.raw)
    except UNREADABLE:
        return {"type": event.type, "unreadable": event.why}


def as_text(recorded: Recorded) -> Text:
    """`   12 14:03:55 InstancePlaced instance=3fa9 ...`; decisions are bold."""
    event = recorded.event
    decided = isinstance(event, Decided)
    kind = (event.type or "not an event") if isinstance(event, UnknownEvent) else type(event).__name__
    when = datetime.fromtimestamp(recorded.time).astimezone().strftime("%H:%M:%S.%f")[:-3]
    return Text.assemble(
        (f"{recorded.seq:>6} ", "dim"),
        f"{when} ",
        (f"{kind:<16} ", "bold green" if decided else "cyan"),
        _told(recorded),
        (f"  by {recorded.by}" if recorded.by else "", "dim"),
    )


def _told(recorded: Recorded) -> str:
    """The fields of an event that a person reads: those that say more than their default, nested ones as JSON."""
    content = msgspec.to_builtins(_content(recorded))
    if not isinstance(content, dict):
        return str(content)
    usual = {field.name: field.default for field in msgspec.structs.fields(type(recorded.event))}
    fields = cast("dict[str, Any]", content).items()
    told = ((name, value) for name, value in fields if name not in _NOT_TOLD and value != usual.get(name))
    return " ".join(f"{name}={_short(value)}" for name, value in told)


def _short(value: Any) -> str:
    if isinstance(value, dict) and "source" in value:
        return str(cast("dict[str, Any]", value).get("id"))
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
