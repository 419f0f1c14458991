"""What MLX may raise for a request, and what its client is told."""

from actors.engine.model_loader import sentence
from schemas.chunks import FailureCode

Errors = tuple[type[Exception], ...]
REQUEST_ERRORS: Errors = (
    *(RuntimeError, ValueError, TypeError, IndexError, KeyError),
    *(AttributeError, MemoryError, OverflowError, AssertionError),
)
"""What one request may raise in MLX, its sampler or its grammar; it ends that request alone."""


def failure(error: BaseException) -> tuple[FailureCode, str]:
    """Code and sentence."""
    exhausted = isinstance(error, MemoryError) or "alloc" in str(error)
    code: FailureCode = "out_of_memory" if exhausted else "engine_failed"
    return code, f"the engine could not go on: {sentence(error)}"
