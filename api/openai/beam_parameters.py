"""Reads `use_beam_search` and what belongs to it, under the names that vLLM gave them."""

from api.errors import ApiError, bad_request
from schemas.openai import Asked
from schemas.task import Beams

OWN = ("beam_width", "length_penalty", "early_stopping")
"""Parameters that mean nothing without a search."""
DRAWING = {"top_p": (None, 1), "top_k": (None, 0, -1), "min_p": (None, 0)}
"""Those that steer a draw, and their values that steer nothing."""


def check_beams(asked: Asked) -> None:
    """Raises `ApiError` with the name of what does not go together."""
    if not asked.use_beam_search:
        return _check_no_search(asked)
    if asked.temperature not in (None, 0):
        raise bad_request(
            f"'temperature' must be 0 when 'use_beam_search' is true, not {asked.temperature:g}: "
            "nothing is drawn. Leave it out, or send 0.",
            "temperature",
        )
    for name, neutral in DRAWING.items():
        if getattr(asked, name) not in neutral:
            raise _pointless(name, "is not supported together with 'use_beam_search': nothing is drawn")
    if None not in (asked.beam_width, asked.best_of) and asked.beam_width != asked.best_of:
        raise bad_request("'beam_width' and 'best_of' mean the same here: set one of them.", "best_of")
    if width(asked) < asked.choices:
        name = "best_of" if asked.beam_width is None else "beam_width"
        raise bad_request(f"'{name}' is {width(asked)}, and must be at least 'n' ({asked.choices}).", name)
    return None


def _check_no_search(asked: Asked) -> None:
    for name in OWN:
        if getattr(asked, name) is not None:
            raise _pointless(name, "is only allowed when 'use_beam_search' is true")
    if asked.best_of not in (None, asked.choices):
        what = f"is not supported but as 'n' ({asked.choices}), unless 'use_beam_search' is true: "
        raise _pointless("best_of", f"{what}every answer is returned")


def _pointless(name: str, why: str) -> ApiError:
    return bad_request(f"'{name}' {why}. Leave it out.", name, "unsupported_parameter")


def width(asked: Asked) -> int:
    """Sequences that are followed at once."""
    return asked.beam_width or asked.best_of or asked.choices


def beams(asked: Asked) -> Beams | None:
    """The search of a checked request; None: tokens are drawn."""
    if not asked.use_beam_search:
        return None
    return Beams(
        width=width(asked),
        length_penalty=1.0 if asked.length_penalty is None else asked.length_penalty,
        early_stopping=asked.early_stopping or False,
        stops=asked.stops,
    )
