"""mlx-lm without transformers and the hub client: 0.1 s to import where it takes 1 s, or 4 s from a cold disk.

An engine sees token ids only. What mlx-lm imports for tokenizers and downloads is never called here, so that
stand-ins take its place while mlx-lm is imported, unless somebody has imported the real ones already.
"""

import importlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType

UNNEEDED = ("transformers", "transformers.tokenization_utils_base", "huggingface_hub")


class Unneeded:
    """Stands for whatever is taken out of a module that an engine does not need."""

    @staticmethod
    def register(*_: object, **__: object) -> None:
        """As `AutoTokenizer.register`, which mlx-lm calls while it is imported."""

    @staticmethod
    def apply_chat_template(*_: object, **__: object) -> None:
        raise NotImplementedError("an engine sees token ids only")


class StandIn(ModuleType):
    """A module in which every name is `Unneeded`."""

    def __getattr__(self, name: str) -> type[Unneeded]:
        if name.startswith("__"):
            raise AttributeError(name)
        return Unneeded


@contextmanager
def stand_ins() -> Generator[None]:
    """While the block runs, `UNNEEDED` modules that are not imported yet are stand-ins."""
    added = [name for name in UNNEEDED if name not in sys.modules]
    sys.modules.update({name: StandIn(name) for name in added})
    try:
        yield
    finally:
        for name in added:
            sys.modules.pop(name, None)


def import_mlx_lm(module: str) -> ModuleType:
    """A module of mlx-lm, such as `mlx_lm.utils`; a release that needs more than stand-ins gets the real ones."""
    try:
        with stand_ins():
            return importlib.import_module(module)
    except (ImportError, AttributeError, TypeError, NotImplementedError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "mlx_lm"]:
            del sys.modules[name]
        return importlib.import_module(module)
