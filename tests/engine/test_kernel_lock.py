"""Two engines of one machine do not compile at once."""

import threading
from pathlib import Path

import pytest

from actors.engine.kernel_lock import kernel_lock


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


def test_no_lock_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with kernel_lock():
        pass
