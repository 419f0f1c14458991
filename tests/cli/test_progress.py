"""How far a model is, for each thing that a state can say about it."""

from io import StringIO
from time import time

import msgspec
import pytest
from rich.console import Console

from actors.cli.load_display import Live, live_bar
from actors.cli.progress import Progress, progress_of
from actors.cli.rows import model_rows, stage_words
from actors.cli.units import in_bytes, in_thousands, since
from schemas.events import (
    DownloadReported,
    InstancePlaced,
    InstanceRetried,
    KnownEvent,
    ModelDesired,
    ModelUnplaced,
    Recorded,
    RunnerReported,
)
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Shard
from schemas.model import ModelSpec
from schemas.state import State
from tests.facts import joined
from tests.replay import replay

GUIDE = ModelSpec(id=ModelId("guide"), source="builtin:guide")
N1 = NodeId("n1")


def state(*events: KnownEvent) -> State:
    return replay(
        Recorded(seq=seq, time=float(seq), event=event) for seq, event in enumerate(events, start=1)
    )


def placed(instance: str = "i1", spec: ModelSpec = GUIDE) -> InstancePlaced:
    return InstancePlaced(instance=InstanceId(instance), spec=spec, shards=(Shard(node=N1),))


def reported(status: str, instance: str = "i1", **more: object) -> RunnerReported:
    values = {"instance": instance, "node": "n1", "attempt": 1, "status": status, **more}
    return msgspec.convert(values, RunnerReported)


def download(status: str, **more: object) -> DownloadReported:
    values = {"node": "n1", "model": "guide", "source": GUIDE.source, "status": status, **more}
    return msgspec.convert(values, DownloadReported)


def progress(*events: KnownEvent) -> Progress:
    return progress_of(state(joined("n1"), ModelDesired(spec=GUIDE), *events), GUIDE.id)


def test_a_model_that_nobody_wants_is_unloaded() -> None:
    assert progress_of(State(), GUIDE.id) == Progress(stage="unloaded", final=True)


def test_without_a_worker_it_waits_and_says_so() -> None:
    unplaced = ModelUnplaced(model=GUIDE.id, reason="no node with a worker is there", absent=True)
    waiting = progress_of(state(ModelDesired(spec=GUIDE), unplaced), GUIDE.id)
    assert waiting == Progress(stage="waiting", wanted=1, reason="no node with a worker is there")


def test_nobody_waits_for_memory_that_is_not_there() -> None:
    unplaced = ModelUnplaced(model=GUIDE.id, reason="it is too large", missing_bytes=7)
    waiting = progress_of(state(joined("n1"), ModelDesired(spec=GUIDE), unplaced), GUIDE.id)
    assert (waiting.stage, waiting.final) == ("waiting", True)
    assert waiting.reason == "it is too large (7 bytes are missing)"


@pytest.mark.parametrize("status", ["starting", "loading", "warming", "ready"])
def test_the_runners_status_is_the_stage(status: str) -> None:
    now = progress(placed(), reported(status))
    assert (now.stage, now.final) == (status, status == "ready")


def test_a_download_is_told_in_bytes() -> None:
    now = progress(placed(), download("downloading", bytes_done=43, bytes_total=100))
    assert (now.stage, now.bytes_done, now.bytes_total) == ("downloading", 43, 100)
    assert stage_words(now) == " 43 %"


def test_a_download_of_another_source_is_not_this_models() -> None:
    old = msgspec.structs.replace(download("failed", reason="gone", retryable=False), source="hf:a/b")
    assert progress(placed(), old).stage == "starting"


def test_a_failed_download_of_an_earlier_life_is_over() -> None:
    broken = download("failed", reason="config.json is missing", retryable=False)
    again = InstanceRetried(instance=InstanceId("i1"), attempt=2, shards=(Shard(node=N1),), why="load")
    now = progress(placed(), broken, reported("failed", retryable=False), again)
    assert (now.stage, now.final) == ("starting", False)


def test_a_failed_download_is_the_models_failure() -> None:
    now = progress(placed(), download("failed", reason="config.json is missing", retryable=False))
    assert (now.stage, now.reason, now.final) == ("failed", "config.json is missing", True)


def test_a_failure_that_is_tried_again_is_not_the_end() -> None:
    assert not progress(placed(), reported("failed", reason="killed")).final
    assert progress(placed(), reported("failed", reason="no such layer", retryable=False)).final


def test_an_instance_of_an_earlier_wish_does_not_count() -> None:
    longer = msgspec.structs.replace(GUIDE, context=64)
    assert progress(placed(), reported("ready"), ModelDesired(spec=longer)).stage == "waiting"
    more = msgspec.structs.replace(GUIDE, replicas=2)
    now = progress(placed(), reported("ready"), ModelDesired(spec=more))
    assert (now.stage, now.ready, now.wanted) == ("waiting", 1, 2)


def test_the_copy_that_is_furthest_is_told_and_a_failure_for_good_before_all() -> None:
    three = msgspec.structs.replace(GUIDE, replicas=3)
    copies = [placed(name, three) for name in ("i1", "i2", "i3")]
    events = [
        joined("n1"),
        ModelDesired(spec=three),
        *copies,
        reported("loading", "i2"),
        reported("starting", "i3"),
    ]
    assert progress_of(state(*events), GUIDE.id).stage == "loading"
    broken = reported("failed", "i1", retryable=False, reason="broken")
    assert progress_of(state(*events, broken), GUIDE.id).reason == "broken"


def test_no_copies_are_wanted() -> None:
    none = msgspec.structs.replace(GUIDE, replicas=0)
    assert progress_of(state(ModelDesired(spec=none)), GUIDE.id).stage == "idle"


def test_a_row_says_what_the_progress_says() -> None:
    rows = model_rows(state(joined("n1"), ModelDesired(spec=GUIDE), placed(), reported("ready")))
    assert [(row.id, row.stage, row.ready, row.replicas) for row in rows] == [("guide", "ready", 1, 1)]


def test_the_bar_of_a_terminal_tells_stage_and_bytes() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=120, color_system=None)
    with live_bar(console) as bar:
        display = Live("guide", bar)
        display.show(Progress(stage="downloading", bytes_done=2**20, bytes_total=2**22))
        console.print(bar.get_renderable())
        display.show(Progress(stage="loading"))
        console.print(bar.get_renderable())
    assert isinstance(console.file, StringIO)
    lines = [line for line in console.file.getvalue().splitlines() if "guide" in line]
    assert any("downloading 25 %" in line and "1.0 MiB of 4.0 MiB" in line for line in lines)
    assert any("loading" in line and "MiB" not in line for line in lines)


def test_sizes_and_times_are_told_as_people_read_them() -> None:
    assert [in_bytes(count) for count in (0, 1023, 1536, 5_617_280, 2**40 * 3)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.4 MiB",
        "3.0 TiB",
    ]
    assert [in_thousands(count) for count in (950, 1234, 82_000_000, 7_200_000_000)] == [
        "950",
        "1.2K",
        "82M",
        "7.2B",
    ]
    assert since(0) == ""
    assert since(time() - 10_000) == "3 h"
