"""Two engines of one machine do not compile at once."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from actors.engine.kernel_lock import kernel_lock

ROOT = Path(__file__).parents[2]
HOLDER = """
from actors.engine.kernel_lock import kernel_lock
with kernel_lock():
    print("held", flush=True)
    input()
"""


def lock_file() -> Path:
    return Path(tempfile.gettempdir()) / f"troupe-kernels-{os.getuid()}.lock"


def test_the_second_waits_for_the_first() -> None:
    entered, order = threading.Event(), list[str]()

    def second() -> None:
        with kernel_lock():
            order.append("second")
            entered.set()

    with kernel_lock():
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.05)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_one_that_is_frozen_keeps_nobody_for_ever() -> None:
    frozen = subprocess.Popen(
        (sys.executable, "-c", HOLDER), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    with frozen:
        assert frozen.stdout is not None
        assert frozen.stdout.readline() == "held\n"
        frozen.send_signal(signal.SIGSTOP)
        with kernel_lock(patience_s=0.1), kernel_lock(patience_s=0.1):
            pass  # gets here
        frozen.kill()
    with kernel_lock(patience_s=30) as _, pytest.raises(BlockingIOError), lock_file().open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_no_lock_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with kernel_lock():
        pass
