"""The BLAS that MLX really calls, seen from outside a fresh process."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="macOS computes with Accelerate")

LOAD_AND_MULTIPLY = """
import json, sys
from pathlib import Path
from actors.engine.blas import load_fast_blas

blas = load_fast_blas(**json.loads(sys.argv[1]))

import numpy as np
import mlx.core as mx
from actors.engine.measurement import measure_speed

mx.set_default_device(mx.cpu)
rng = np.random.default_rng(7)
left = rng.standard_normal((65, 130), dtype=np.float32)
right = rng.standard_normal((130, 33), dtype=np.float32)
square = left[:33, :33] + 33 * np.eye(33, dtype=np.float32)
with mx.stream(mx.cpu):
    product = np.array(mx.array(left) @ mx.array(right))
    row = np.array(mx.array(left[:1]) @ mx.array(right))
    inverse = np.array(mx.linalg.inv(mx.array(square)))
print(json.dumps({
    "name": blas.name, "threads": blas.threads, "is_fast": blas.is_fast, "note": blas.note,
    "product": float(abs(product - left @ right).max()),
    "row": float(abs(row - left[:1] @ right).max()),
    "inverse": float(abs(inverse @ square - np.eye(33)).max()),
    "flop_s": measure_speed().flop_s,
    "environ": __import__("os").environ.get("OPENBLAS_THREAD_TIMEOUT"),
}))
"""


def in_fresh_process(
    script: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **(environment or {})},
        cwd=Path(__file__).parents[2],
    )


def test_products_are_those_of_numpy() -> None:
    done = in_fresh_process(LOAD_AND_MULTIPLY, "{}")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["is_fast"], found["note"]
    assert found["product"] < 1e-4
    assert found["row"] < 1e-4
    assert found["inverse"] < 1e-4
    assert found["flop_s"] > 0
    assert found["environ"] is None


@linux_only
def test_mlx_is_bound_to_the_library_that_was_loaded() -> None:
    done = in_fresh_process(LOAD_AND_MULTIPLY, "{}", environment={"LD_DEBUG": "bindings"})
    assert done.returncode == 0, done.stderr[-2000:]
    bound = re.findall(
        r"binding file \S*libmlx\.so \[0\] to (\S+) \[0\]: normal symbol `(cblas_sgemm|sgetrf_)'", done.stderr
    )
    assert {symbol for _, symbol in bound} == {"cblas_sgemm", "sgetrf_"}
    for library, _ in bound:
        assert "libblas" not in library, "the wheel's reference BLAS"
        assert "liblapack" not in library, "the wheel's reference LAPACK"


@linux_only
def test_threads_are_as_many_as_asked_for() -> None:
    done = in_fresh_process(LOAD_AND_MULTIPLY, json.dumps({"threads": 1}))
    assert json.loads(done.stdout)["threads"] == 1


@linux_only
def test_idle_threads_sleep() -> None:
    done = in_fresh_process("""
import resource, time
from actors.engine.blas import load_fast_blas
load_fast_blas(threads=2)
from actors.engine.measurement import measure_speed
measure_speed()
begun, spent = time.monotonic(), time.process_time()
while time.monotonic() - begun < 0.5:
    time.sleep(0.5)
print(time.process_time() - spent)
""")
    assert float(done.stdout) < 0.25, done.stderr


@linux_only
def test_an_order_that_cannot_be_followed_is_refused_by_name(tmp_path: Path) -> None:
    junk = tmp_path / "libscipy_openblas.so"
    junk.write_bytes(b"\x7fELF\x02\x01 and nothing more")
    for path in (junk, tmp_path / "absent.so"):
        done = in_fresh_process(
            "import sys; from pathlib import Path; from actors.engine.blas import *; load_fast_blas(Path(sys.argv[1]))",
            str(path),
        )
        assert f"BlasUnusable: {path} is no BLAS" in done.stderr


@linux_only
def test_after_mlx_it_is_too_late() -> None:
    done = in_fresh_process(
        "import mlx.core; from actors.engine.blas import load_fast_blas; load_fast_blas()"
    )
    assert "must come before the first import of mlx" in done.stderr
