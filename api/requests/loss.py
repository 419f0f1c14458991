"""Why an attempt at a request ended without an answer, and what its client is told if there is no other."""

from msgspec import Struct

from api.errors import ApiError, unavailable
from schemas.chunks import Failed, FailureCode
from schemas.ids import ModelId
from schemas.instance import Fate

LOST_RETRY_S = 1.0
"""When to ask again after a runner was lost: another may be ready; seconds."""
LOADING_RETRY_S = 10.0
"""When to ask again for a model that was still loading; seconds."""
STATUS: dict[FailureCode, int] = {
    "bad_request": 400,
    "engine_failed": 500,
    "runner_lost": 503,
    "out_of_memory": 503,
    "cancelled": 499,
    "deadline": 504,
    "unavailable": 503,
}
FINAL: tuple[FailureCode, ...] = ("bad_request", "cancelled")
"""Another attempt would end the same way."""
FAULTS: tuple[FailureCode, ...] = ("engine_failed", "out_of_memory")
"""The engine's, or the task's."""
MOST_FAULTS = 3
MOST_LOSSES = 10
"""Attempts in a row without one token, after which a request is given up."""


class Loss(Struct, frozen=True):
    """The end of an attempt."""

    error: ApiError
    fate: Fate = ""
    """How the runner's process ended, if that was it."""
    final: bool = False
    tries: int = MOST_LOSSES


def failed(chunk: Failed) -> Loss:
    """A runner says so itself."""
    status = STATUS[chunk.code]
    retry_after_s = LOST_RETRY_S if status == 503 else None
    error = ApiError(
        status, chunk.reason or "The engine failed.", code=chunk.code, retry_after_s=retry_after_s
    )
    tries = MOST_FAULTS if chunk.code in FAULTS else MOST_LOSSES
    return Loss(error, final=chunk.code in FINAL, tries=tries)


def runner_lost(why: str, fate: Fate = "") -> Loss:
    return Loss(_broken_off(why, "runner_lost"), fate)


def chunks_lost(what: str) -> Loss:
    return Loss(_broken_off(what, "chunks_lost"))


def silent(after_s: float) -> Loss:
    said = f"The answer broke off: nothing came for {after_s:.1f} s. Send the request again."
    return Loss(ApiError(504, said, code="silent"))


def poison(model: ModelId, request: str) -> ApiError:
    """Whoever tries this task again ends one more runner."""
    return ApiError(
        500,
        f"The request {request} ended each runner of '{model}' that worked on it, and is not tried again: "
        "its prompt or its parameters crash the engine.",
        code="poison",
    )


def too_late(seconds: float) -> ApiError:
    return ApiError(504, f"The answer was not complete within {seconds:g} s.", code="deadline")


def waited(model: ModelId, after_s: float) -> ApiError:
    return unavailable(
        f"No instance of '{model}' had room within {after_s:g} s.", LOADING_RETRY_S, "wait_deadline"
    )


def _broken_off(why: str, code: str) -> ApiError:
    return unavailable(f"The answer broke off: {why}. Send the request again.", LOST_RETRY_S, code)
