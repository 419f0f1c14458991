"""Every error that a client can see, in OpenAI's shape, with its status."""

from collections.abc import Iterable
from difflib import get_close_matches
from math import ceil
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from bus.errors import BusAway, BusError, TooLarge
from schemas.ids import new_request_id
from schemas.openai import Error, ErrorBody
from schemas.refused import RefusalCode, Refused

log = structlog.get_logger()

STATUS: dict[RefusalCode, int] = {
    "bad_request": 400,
    "not_found": 404,
    "conflict": 409,
    "busy": 429,
    "no_leader": 503,
    "not_leader": 503,
    "unavailable": 503,
    "too_large": 413,
    "no_place": 503,
}
KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
AWAY_RETRY_S = 2.0
"""The bus reconnects, and a leader is elected, within this; seconds."""


class ApiError(Exception):
    """An answer that is an error: raised anywhere in the API, written in one place."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def kind(self) -> str:
        return KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    @property
    def body(self) -> bytes:
        return msgspec.json.encode(ErrorBody(Error(self.message, self.kind, self.param, self.code)))

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_s is None else {"retry-after": str(max(1, ceil(self.retry_after_s)))}


def bad_request(message: str, param: str | None = None, code: str | None = "invalid_value") -> ApiError:
    return ApiError(400, message, code=code, param=param)


def unavailable(message: str, retry_after_s: float = AWAY_RETRY_S, code: str = "unavailable") -> ApiError:
    return ApiError(503, message, code=code, retry_after_s=retry_after_s)


def bus_away(failure: BusError) -> ApiError:
    return unavailable(f"The cluster's bus cannot be reached at this moment: {failure}", code="bus_away")


def unknown_model(name: str, known: Iterable[str]) -> ApiError:
    """404 that names the nearest model, or all there are when they are few."""
    names = sorted(known)
    nearest = get_close_matches(name, names, n=1, cutoff=0.4)
    if nearest:
        hint = f"Did you mean '{nearest[0]}'?"
    elif names:
        hint = f"This cluster serves: {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}."
    else:
        hint = "This cluster serves no model yet: load one with `actors load` or POST /cluster/models."
    return ApiError(
        404, f"The model '{_short(name)}' does not exist. {hint}", code="model_not_found", param="model"
    )


def refused(answer: Refused) -> ApiError:
    """What the master, or an instance, did not do."""
    status = STATUS[answer.code]
    retry_after_s = AWAY_RETRY_S if status in (429, 503) else None
    return ApiError(status, answer.reason, code=answer.code, retry_after_s=retry_after_s)


def from_exception(failure: Exception) -> ApiError:
    """The error that a client is shown for `failure`; what is not foreseen is logged with its trace."""
    match failure:
        case ApiError():
            return failure
        case BusAway():
            return bus_away(failure)
        case TooLarge():
            return ApiError(413, f"The request is too large: {failure}.", code="too_large")
        case BusError():
            return unavailable(f"The cluster did not answer: {failure}")
        case HTTPException():
            return _http(failure)
        case _:
            log.error("api.failed", exc_info=failure)
            return ApiError(500, "This is a fault of the server; its log says more.", code="internal_error")


def _http(failure: HTTPException) -> ApiError:
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(failure.status_code)
    return ApiError(failure.status_code, failure.detail or "The request was refused.", code=code)


def answer_error(request: Request[Any, Any, Any], failure: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything."""
    error = _in_context(request, from_exception(failure), failure)
    headers = {"x-request-id": new_request_id(), **error.headers}
    if isinstance(failure, HTTPException) and failure.headers:
        headers |= {name.lower(): value for name, value in failure.headers.items()}
    return Response(error.body, status_code=error.status, headers=headers, media_type="application/json")


def _in_context(request: Request[Any, Any, Any], error: ApiError, failure: Exception) -> ApiError:
    """Litestar's bare words become a sentence that names the request's method and path."""
    if not isinstance(failure, HTTPException):
        return error
    method, path = request.method, _short(request.url.path)
    if error.status == 404:
        error.message = f"There is nothing at {path}: GET /schema lists every path."
    elif error.status == 405:
        error.message = f"{method} is not possible at {path}: GET /schema lists the methods of every path."
    elif error.status == 413:
        limit = request.app.state.get("max_body_bytes", 0)
        error.message = f"The body is larger than this server takes ({limit} bytes)."
    return error


def _short(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:200]}..."
