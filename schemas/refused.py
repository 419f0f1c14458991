"""The answer of an actor that does not do what it was asked."""

from typing import Literal

from msgspec import Struct

RefusalCode = Literal[
    "bad_request",
    "not_found",
    "conflict",
    "busy",
    "no_leader",
    "not_leader",
    "unavailable",
    "too_large",
    "no_place",
]


class Refused(Struct, frozen=True, tag="Refused"):
    """A command or an offer was not carried out; `reason` names what is wrong and the way out."""

    code: RefusalCode
    reason: str


def without_place(reason: str, missing_bytes: int) -> str:
    """Why a model has no place, and the bytes of memory that would have to be free besides."""
    missing = f" {missing_bytes} bytes of memory are missing." if missing_bytes else ""
    return f"{reason}.{missing}"
