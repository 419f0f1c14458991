"""`/cluster/...`: the state, the events, and which models the cluster is to serve."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from api.context import Context
from api.errors import bad_request, refused, unknown_model
from api.parameters import decode
from api.sse import EventStream, comment, event
from bus.commands import command
from schemas.commands import Done, LoadModel, MasterCommand, UnloadModel
from schemas.events import Recorded, UnknownEvent
from schemas.ids import ModelId
from schemas.instance import Instance
from schemas.model import ModelCard, ModelSpec, Share, SimulatedSpeed
from schemas.refused import Refused
from schemas.state import Download, State

IDLE_COMMENT_S = 15.0
"""A follower of events is sent a comment this often while nothing happens."""
EVENT_PARAMETERS = {"after", "follow"}


class WishedSpeed(SimulatedSpeed, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`SimulatedSpeed` as a person writes it: a typing mistake is refused."""


class WishedShare(Share, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`Share` as a person writes it."""


class WishedModel(ModelSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`ModelSpec` as a person writes it: a typing mistake is refused."""

    simulated: WishedSpeed | None = None
    split: Annotated[tuple[WishedShare, ...], Meta(max_length=64)] = ()


class ModelStatus(Struct, frozen=True, kw_only=True):
    """A wished-for model and how far the cluster has come with it."""

    spec: ModelSpec
    card: ModelCard | None
    instances: list[Instance]
    downloads: list[Download]
    unplaced: str = ""
    """Why a copy has no place; empty while nothing is missing."""
    missing_bytes: int = 0
    """Memory that would have to be free besides."""
    demanded: bool = False
    """Of one that is loaded on demand: whether it is to be loaded now."""
    idled_why: str = ""
    """Of one that is loaded on demand: why it was unloaded last."""


_wish = msgspec.json.Decoder(WishedModel)


def cluster_routes(context: Context) -> list[HTTPRouteHandler]:
    """The routes that show the cluster and change what it serves."""

    @get("/cluster/state", sync_to_thread=False)
    def state() -> State:
        return context.bus.view.state

    @get("/cluster/events", status_code=200)
    async def events(request: Request[Any, Any, Any]) -> ASGIApp:
        after, follow = _range(request)
        return EventStream(_events(context, after, follow))

    @get("/cluster/models", sync_to_thread=False)
    def models() -> list[ModelStatus]:
        known = context.bus.view.state
        return [model_status(known, name) for name in sorted(known.models)]

    @get("/cluster/models/{name:path}", sync_to_thread=False)
    def model(name: FromPath[str]) -> ModelStatus:
        return model_status(context.bus.view.state, _required(context, name))

    @post("/cluster/models", status_code=202)
    async def load(request: Request[Any, Any, Any]) -> Response[Done]:
        wish = decode(await request.body(), _wish)
        return await _ordered(context, LoadModel(spec=wish))

    @delete("/cluster/models/{name:path}", status_code=202)
    async def unload(name: FromPath[str]) -> Response[Done]:
        return await _ordered(context, UnloadModel(model=_required(context, name)))

    return [state, events, models, model, load, unload]


def model_status(state: State, name: ModelId) -> ModelStatus:
    model = state.models[name]
    spec = model.spec
    files = (name, spec.draft_id)
    return ModelStatus(
        spec=spec,
        unplaced=model.unplaced,
        missing_bytes=model.missing_bytes,
        demanded=model.demanded,
        idled_why=model.idled_why,
        card=state.card(name, spec.source),
        instances=state.instances_of(name),
        downloads=[download for download in state.downloads.values() if download.model in files],
    )


def _required(context: Context, path: str) -> ModelId:
    name = ModelId(path.removeprefix("/"))
    models = context.bus.view.state.models
    if name not in models:
        raise unknown_model(name, models)
    return name


async def _ordered(context: Context, order: MasterCommand) -> Response[Done]:
    answer = await command(context.bus, order, context.settings.command_timeout_s)
    if isinstance(answer, Refused):
        raise refused(answer)
    return Response(answer, status_code=202)


def _range(request: Request[Any, Any, Any]) -> tuple[int, bool]:
    """`after` and `follow`; a client that reconnects says in Last-Event-ID where it was."""
    for name in request.query_params:
        if name not in EVENT_PARAMETERS:
            raise bad_request(
                f"Unknown parameter: '{name}'. There are 'after' and 'follow'.", name, "unknown_parameter"
            )
    after = request.headers.get("last-event-id") or request.query_params.get("after", "0")
    if not (after.isascii() and after.isdigit() and int(after) < 2**63):
        raise bad_request(
            f"'after' must be the sequence of an event, 0 or more, not '{after[:50]}'.", "after"
        )
    follow = request.query_params.get("follow", "true")
    if follow not in ("true", "false"):
        raise bad_request(f"'follow' must be true or false, not '{follow[:50]}'.", "follow")
    return int(after), follow == "true"


async def _events(context: Context, after: int, follow: bool) -> AsyncGenerator[bytes]:
    """The log from there; without `follow` up to now, with it without end."""
    if not follow:
        context.bus.connection.require_up()
        async with aclosing(context.bus.log.past(after)) as past:
            async for recorded in past:
                yield _shown(recorded)
        return
    yield comment("following")
    queue: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1000)
    reading = asyncio.create_task(_read(context, after, queue))
    try:
        while not reading.done():
            data = comment("waiting")
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_COMMENT_S):
                    data = await queue.get()
            yield data
        reading.result()
    finally:
        reading.cancel()


async def _read(context: Context, after: int, queue: asyncio.Queue[bytes]) -> None:
    async with aclosing(context.bus.log.follow(after)) as log:
        async for recorded in log:
            await queue.put(_shown(recorded))


def _shown(recorded: Recorded) -> bytes:
    happened = recorded.event
    name = happened.type if isinstance(happened, UnknownEvent) else type(happened).__name__
    plain = "".join(character for character in name if character.isprintable())[:100]
    return event(msgspec.json.encode(recorded), name=plain, event_id=str(recorded.seq))
