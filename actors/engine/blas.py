"""A fast BLAS for MLX on Linux CPUs, loaded before MLX is.

MLX's Linux CPU wheel is linked with the reference BLAS: one thread, 8 GFLOP/s where OpenBLAS does 450. The loader
takes a symbol from the first library in the global scope that has it, so an OpenBLAS that is loaded there before
`import mlx` is the one that MLX calls. `scipy-openblas32` is OpenBLAS as a wheel of 8 MB (MKL's: 310 MB, Intel
only), but each of its names begins with `scipy_`; it is loaded from memory with the prefix cut off.
"""

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

from msgspec import Struct

from actors.engine.cores import usable_cores
from actors.engine.elf import UnknownLibraryFormat, without_prefix

WHEEL = "scipy_openblas32"
PREFIX = b"scipy_"
SYSTEM_LIBRARIES = (
    "libopenblas.so.0",  # Debian, Ubuntu, Arch; Debian's link follows `update-alternatives`
    "libopenblasp.so.0",  # Fedora: the variant with pthreads
)
# 2^4 turns: a thread of OpenBLAS that has nothing to do goes to sleep. Left at 2^26 (about 0.1 s), it spins through
# the gaps between the matrix products of one token: on two cores that costs the bus, the API and MLX itself a core
# (16M parameters: 190 tokens/s at 1.97 cores; with 4: 240 tokens/s at 1.29).
SPIN = "4"


class Blas(Struct, frozen=True):
    """The linear algebra that MLX computes with on the CPU of this process."""

    name: str
    path: str
    version: str
    threads: int
    note: str = ""

    @property
    def is_fast(self) -> bool:
        """Whether it is anything but the wheel's reference BLAS."""
        return self.name != "reference"


class BlasUnusable(Exception):
    """The BLAS that was asked for by name cannot be loaded; says the way out."""


def load_fast_blas(path: Path | None = None, threads: int | None = None) -> Blas:
    """Load the best BLAS there is, for as many threads as this process has cores unless told otherwise.

    Call it before anything imports MLX: afterwards MLX is bound to the reference BLAS, and this raises. A `path`
    is an order: when it cannot be followed, BlasUnusable says why. The wheel is looked for before the system's
    library, because its version is the one that was tested.
    """
    if sys.platform == "darwin":
        return Blas(
            "Accelerate", "/System/Library/Frameworks/Accelerate.framework", "", threads or usable_cores()
        )
    if "mlx.core" in sys.modules:
        raise RuntimeError("load_fast_blas() must come before the first import of mlx")
    if path is not None:
        return _ordered(path, threads)
    refused: list[str] = []
    for source in (_from_wheel, _from_system):
        try:
            return _described(*source(), threads)
        except (OSError, UnknownLibraryFormat, LookupError) as error:
            refused.append(str(error))
    return Blas("reference", "", "", 1, f"30 to 50 times slower: {'; '.join(refused)}")


def _ordered(path: Path, threads: int | None) -> Blas:
    try:
        return _described(_opened(path), str(path), threads)
    except (OSError, UnknownLibraryFormat) as error:
        raise BlasUnusable(f"{path} is no BLAS that can be loaded: {error}") from error


def _from_wheel() -> tuple[ctypes.CDLL, str]:
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise LookupError("scipy-openblas32 is not installed")
    path = Path(spec.origin).parent / "lib" / "libscipy_openblas.so"
    return _opened(path), str(path)


def _from_system() -> tuple[ctypes.CDLL, str]:
    for name in SYSTEM_LIBRARIES:
        try:
            return _loaded(name), name
        except OSError:
            continue
    raise LookupError("the system has no OpenBLAS (Debian, Ubuntu: apt install libopenblas0-pthread)")


def _opened(path: Path) -> ctypes.CDLL:
    """Load a library by its file; the names of one that has them prefixed are laid bare first."""
    if "scipy_openblas" not in path.name:
        return _loaded(str(path))
    memory = os.memfd_create(path.name)
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(without_prefix(path.read_bytes(), PREFIX))
        return _loaded(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)


def _loaded(name: str) -> ctypes.CDLL:
    with _SleepyThreads():
        library = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    if not hasattr(library, "cblas_sgemm"):
        raise OSError(f"{name} has no cblas_sgemm")
    return library


class _SleepyThreads:
    """Tells an OpenBLAS that is being loaded to let idle threads sleep; a value that the user has set stands.

    OpenBLAS reads this once, from the C environment, while it is loaded; there is no call for it. So it is set for
    that moment, by C, and Python's `os.environ` never sees it.
    """

    name = b"OPENBLAS_THREAD_TIMEOUT"

    def __enter__(self) -> None:
        self.libc = ctypes.CDLL(None)
        self.libc.getenv.restype = ctypes.c_void_p
        self.was_set = self.libc.getenv(self.name) is not None
        self.libc.setenv(self.name, SPIN.encode(), 0)

    def __exit__(self, *_: object) -> None:
        if not self.was_set:
            self.libc.unsetenv(self.name)


def _described(library: ctypes.CDLL, path: str, threads: int | None) -> Blas:
    if not hasattr(library, "openblas_get_config"):
        return Blas(Path(path).name, path, "", threads or usable_cores())
    library.openblas_get_config.restype = ctypes.c_char_p
    library.openblas_get_corename.restype = ctypes.c_char_p
    library.openblas_set_num_threads(threads or usable_cores())
    version = library.openblas_get_config().decode().split()[1]
    kernels = library.openblas_get_corename().decode()
    return Blas("OpenBLAS", path, version, library.openblas_get_num_threads(), f"kernels for {kernels}")
