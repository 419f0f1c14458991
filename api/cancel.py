"""`POST /v1/cancel/{request}`: on any node, whichever holds the request's client."""

import re
from typing import Literal

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from api.context import Context
from api.errors import ApiError
from bus.errors import NoAnswer, NobodyThere
from schemas.commands import Done
from schemas.ids import RequestId
from schemas.task import Cancel

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
OWNER_ANSWERS_S = 1.0
"""An owner that has not answered after this has no such request, or is gone; seconds."""


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to whoever cancels; the client of the request is told by an error `cancelled`."""

    id: RequestId
    object: Literal["request.cancelled"] = "request.cancelled"
    cancelled: Literal[True] = True


def cancel_routes(context: Context) -> list[HTTPRouteHandler]:
    """The route that ends a request from outside."""
    bus = context.bus

    @post("/v1/cancel/{name:path}", status_code=200)
    async def cancel(name: FromPath[str]) -> Response[bytes]:
        request = request_named(name.strip("/"))
        try:
            order = Cancel(request=request, whole=True)
            await bus.ask(bus.subjects.cancel(request), order, Done, OWNER_ANSWERS_S)
        except (NoAnswer, NobodyThere) as nobody:
            raise unknown(name) from nobody
        return Response(msgspec.json.encode(Cancelled(id=request)), media_type="application/json")

    return [cancel]


def request_named(name: str) -> RequestId:
    """The request that an answer's `id` names, or `x-request-id`; raises `ApiError` for what can be no name."""
    request = name.removeprefix("chatcmpl-").removeprefix("cmpl-")
    if not _NAME.fullmatch(request):
        raise unknown(name)
    return RequestId(request)


def unknown(name: str) -> ApiError:
    shown = name.strip("/")[:100]
    return ApiError(
        404, f"No request '{shown}' is running: it has ended, or there never was one.", code="not_found"
    )
