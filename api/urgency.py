"""How urgent a request is and how long its client waits: `service_tier`, `X-Troupe-Priority`, `X-Troupe-Timeout`."""

from collections.abc import Mapping

from msgspec import Struct

from api.errors import ApiError, bad_request
from schemas.openai import ServiceTier
from schemas.task import LANES, Lane

PRIORITY = "X-Troupe-Priority"
TIMEOUT = "X-Troupe-Timeout"
MAX_TIMEOUT_S = 7 * 24 * 3600.0

LANE_OF: dict[ServiceTier, Lane] = {"default": "normal", "flex": "batch", "priority": "high"}
TIER_OF: dict[Lane, str] = {"normal": "default", "batch": "flex", "high": "priority"}


class Urgency(Struct, frozen=True):
    """A lane, OpenAI's name of it where one was asked for, and seconds (0: for ever)."""

    lane: Lane
    tier: str
    timeout_s: float


def urgency(headers: Mapping[str, str], tier: ServiceTier | None) -> Urgency:
    """What headers and body say together; raises `ApiError` when they contradict each other."""
    said = _priority(headers.get(PRIORITY))
    tiered = LANE_OF.get(tier) if tier else None
    if said and tiered and said != tiered:
        raise bad_request(
            f"'service_tier' is '{tier}', but {PRIORITY} is '{said}': send one of them.", "service_tier"
        )
    lane = said or tiered or "normal"
    return Urgency(lane, TIER_OF[lane] if tier or said else "", _timeout(headers.get(TIMEOUT)))


def _priority(value: str | None) -> Lane | None:
    if value is None:
        return None
    for lane in LANES:
        if value.strip().lower() == lane:
            return lane
    raise _wrong(PRIORITY, f"must be one of {', '.join(LANES)}", value)


def _timeout(value: str | None) -> float:
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        seconds = float("nan")
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise _wrong(TIMEOUT, f"must be seconds, more than 0 and at most {MAX_TIMEOUT_S:.0f}", value)
    return seconds


def _wrong(header: str, rule: str, value: str) -> ApiError:
    return bad_request(f"The header {header} {rule}, not '{value[:100]}'.", header)
