"""Makes the engine that a model asks for; MLX is imported here, after a fast BLAS and without transformers."""

import importlib
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from actors.engine.blas import load_fast_blas
from actors.engine.lean_mlx_lm import import_mlx_lm
from actors.engine.lockstep import RankEngine
from actors.engine.port import Engine, EngineLoadError, Origin
from actors.engine.simulated import SimulatedEngine
from schemas.group import Seat
from schemas.model import EngineName, SimulatedSpeed


class Wanted(Struct, frozen=True, kw_only=True):
    """An engine that is to be made."""

    engine: EngineName
    folder: Path
    origin: Origin
    context: int | None = None
    slots: int | None = None
    """Sequences at once; None: what suits the machine."""
    cache_bytes: int | None = None
    """Most memory for prefixes that are kept; None: what suits the machine."""
    batch_bytes: int | None = None
    """Most memory for keys and values of sequences that run; None: what suits the machine."""
    speed: SimulatedSpeed | None = None
    draft: Path | None = None
    """Folder of a model that proposes tokens; None: nobody does."""
    draft_tokens: int = 4
    """Most tokens that it proposes at once."""
    seat: Seat | None = None
    """Its place in a group of ranks; None: it is alone."""


def make_engine(wanted: Wanted) -> Engine:
    """The engine, not loaded yet; raises EngineLoadError where it cannot run at all."""
    if wanted.engine == "simulated":
        if wanted.batch_bytes is not None:
            reason = "the simulated engine has no keys and values that batch_bytes could bound"
            raise EngineLoadError(reason, retryable=False)
        speed = wanted.speed or SimulatedSpeed()
        if wanted.slots is not None:
            speed = msgspec.structs.replace(speed, slots=wanted.slots)
        return SimulatedEngine(wanted.folder, wanted.origin, speed, wanted.context)
    return _make_mlx(wanted)


def make_rank(wanted: Wanted) -> RankEngine:
    """The engine of one rank, not loaded yet: loading it waits for the others. Raises EngineLoadError."""
    if wanted.engine != "mlx":
        raise EngineLoadError(f"the engine `{wanted.engine}` cannot be split over nodes", retryable=False)
    return _make_mlx(wanted)


def import_mlx() -> None:
    """All that an engine imports, which computes nothing; raises EngineLoadError."""
    try:
        if "mlx.core" not in sys.modules:
            load_fast_blas()
        import_mlx_lm("mlx_lm.utils")
        importlib.import_module("actors.engine.mlx_engine")
    except ImportError as error:
        raise EngineLoadError(f"MLX cannot be imported on this machine: {error}", retryable=False) from error


def _make_mlx(wanted: Wanted) -> RankEngine:
    import_mlx()
    from actors.engine.draft_loader import DraftWish
    from actors.engine.limits import Limits
    from actors.engine.mlx_engine import MlxEngine

    limits = Limits(wanted.context, wanted.slots, wanted.cache_bytes, wanted.batch_bytes)
    draft = DraftWish(wanted.draft, wanted.draft_tokens) if wanted.draft else None
    return MlxEngine(wanted.folder, wanted.origin, limits, wanted.seat, draft)
