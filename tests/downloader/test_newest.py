"""A name that stays the same, and other files behind it: seen by what the files are, fetched beside what was here."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from actors.downloader.sources.fetched_model import FetchedModel
from actors.downloader.sources.source import Progress, Unobtainable
from actors.downloader.sources.sources import Sources
from bus.errors import NobodyThere
from schemas.commands import Done, FindNewest, Newest, NewestAnswer, PullModel
from schemas.events import InstancePlaced, ModelDesired
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Shard
from schemas.model import ModelSpec
from schemas.refused import Refused
from schemas.revision import marked, revision_of
from tests.downloader.member import ME, SOURCE, Join, Member
from tests.downloader.test_website import contents
from tests.hub import Hub
from tests.models import make_random_llama


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The same model with other weights."""
    return make_random_llama(tmp_path / "other", seed=1)


async def asked(member: Member, source: str) -> Newest | Refused:
    bus = member.bus
    while True:
        with suppress(NobodyThere):  # it has only just begun
            return await bus.ask(
                bus.subjects.newest(bus.node), FindNewest(source=source), NewestAnswer, timeout_s=60
            )


async def newest(member: Member, source: str) -> str:
    answer = await asked(member, source)
    assert isinstance(answer, Newest), answer
    return answer.source


async def test_only_what_differs_is_fetched_and_both_are_here(
    join: Join, hub: Hub, llama: Path, other: Path
) -> None:
    first = await join("a")
    await first.pull()
    await first.pulled()
    assert await newest(first, SOURCE) == SOURCE
    hub.add("org/llama", other)
    before = hub.served.total()
    source = await newest(first, SOURCE)
    assert revision_of(source) and source.startswith(SOURCE)
    order = PullModel(model=ModelId("me#newer"), source=source)
    assert isinstance(await first.ask(order), Done)
    await first.bus.view.until(
        lambda state: (each := state.download(NodeId("a"), order.model)) and each.status == "complete",
        timeout_s=60,
    )
    weights = (other / "model.safetensors").stat().st_size
    assert hub.served.total() - before == weights, "the tokenizer is the same"
    there = first.folder / f"org--llama@main+{revision_of(source)}"
    assert {name: there.joinpath(name).read_bytes() for name in contents(other)} == contents(other)
    assert {name: first.model.joinpath(name).read_bytes() for name in contents(llama)} == contents(llama)
    assert await newest(first, source) == source


async def test_a_commit_that_changes_no_file_is_nothing_newer(join: Join, hub: Hub, llama: Path) -> None:
    first = await join("a")
    await first.pull()
    await first.pulled()
    hub.add("org/llama", {**contents(llama), "README.md": b"words"})
    assert await newest(first, SOURCE) == SOURCE


async def test_what_is_removed_takes_nothing_from_the_other_version(
    join: Join, hub: Hub, other: Path
) -> None:
    first = await join("a")
    await first.pull()
    await first.pulled()
    hub.add("org/llama", other)
    source = await newest(first, SOURCE)
    model = first.actor.sources.named(source)
    assert isinstance(model, FetchedModel)
    fetched = await model.fetch(Progress())
    assert await first.actor.sources.shelf.remove(first.model)
    assert contents(fetched.folder) == contents(other)


async def test_a_place_that_does_not_answer_is_said(join: Join, hub: Hub) -> None:
    first = await join("a")
    await first.pull()
    await first.pulled()
    hub.stop()
    answer = await asked(first, SOURCE)
    assert isinstance(answer, Refused) and "cannot be read" in answer.reason


async def test_a_place_that_says_nothing_is_not_waited_for(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.downloader.downloader.NEWEST_S", 0.2)
    first = await join("a")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answer = await asked(first, f"http://127.0.0.1:{silent.getsockname()[1]}/llama")
    assert isinstance(answer, Refused) and "has not answered within 0.2 s" in answer.reason


async def test_what_another_node_has_of_a_revision_comes_from_there(
    join: Join, hub: Hub, llama: Path, other: Path
) -> None:
    """Though its place has moved on, and the node is offline."""
    first, second = await join("a"), await join("b", offline=True)
    await first.pull()
    await first.pulled()
    hub.add("org/llama", other)
    offline = await asked(second, SOURCE)
    assert isinstance(offline, Refused) and offline.reason == f"`offline` forbids to ask for {SOURCE}"
    order = PullModel(model=ModelId("me#newer"), source=await newest(first, SOURCE))
    for member in (first, second):
        assert isinstance(await member.ask(order), Done)
        await member.bus.view.until(
            lambda state, node=member.bus.node: (
                (each := state.download(node, order.model)) and each.status == "complete"
            ),
            timeout_s=60,
        )
        hub.add("org/llama", llama)
    there = second.folder / f"org--llama@main+{revision_of(order.source)}"
    assert {name: there.joinpath(name).read_bytes() for name in contents(other)} == contents(other)


async def test_a_disk_that_knows_no_second_names_has_the_files_twice(
    known: Sources, hub: Hub, llama: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    hub.add("org/llama", llama)
    await known.named(SOURCE).fetch(Progress())
    hub.add("org/llama", other)
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    newer = marked(SOURCE, await known.named(SOURCE).newest())
    fetched = await known.named(newer).fetch(Progress())
    assert contents(fetched.folder) == contents(other)


async def test_the_way_back_to_what_was_here_first_needs_no_place(
    known: Sources, hub: Hub, llama: Path, other: Path
) -> None:
    hub.add("org/llama", llama)
    first = await known.named(SOURCE).fetch(Progress())
    hub.add("org/llama", other)
    await known.named(marked(SOURCE, await known.named(SOURCE).newest())).fetch(Progress())
    hub.stop()
    back = await known.named(marked(SOURCE, first.revision)).fetch(Progress())
    assert back.folder != first.folder and contents(back.folder) == contents(llama)
    assert back.revision == first.revision


async def test_what_has_moved_on_since_is_no_more(known: Sources, hub: Hub, llama: Path, other: Path) -> None:
    hub.add("org/llama", llama)
    was = marked(SOURCE, await known.named(SOURCE).newest())
    hub.add("org/llama", other)
    with pytest.raises(Unobtainable, match="is no more: its place holds #"):
        await known.named(was).fetch(Progress())


async def test_a_folder_that_was_changed(join: Join, llama: Path, other: Path) -> None:
    first = await join("a")
    served = ModelSpec(id=ME, source=str(llama), node=NodeId("a"))
    placed = InstancePlaced(instance=InstanceId("i"), spec=served, shards=(Shard(node=NodeId("a")),))
    await decide(first, ModelDesired(spec=served), placed)
    await first.pulled()
    assert await newest(first, served.source) == served.source
    (other / "model.safetensors").replace(llama / "model.safetensors")
    source = await newest(first, served.source)
    newer = ModelSpec(id=ME, source=source, node=NodeId("a"))
    since = (await first.pulled()).seq
    await decide(
        first,
        ModelDesired(spec=newer),
        InstancePlaced(instance=InstanceId("j"), spec=newer, shards=(Shard(node=NodeId("a")),)),
    )
    assert (await first.pulled(since)).source == source
    await first.bus.view.until(
        lambda state: any("newer version" in each.reason for each in state.downloads.values()),
        timeout_s=60,
    )
    assert await newest(first, source) == source


async def test_no_version_that_is_carried_goes_for_another_model(
    join: Join, hub: Hub, llama: Path, other: Path
) -> None:
    first = await join("a", max_bytes=5 * sum(map(len, contents(llama).values())) // 2)
    older = ModelSpec(id=ME, source=SOURCE)
    shards = (Shard(node=NodeId("a")),)
    await decide(
        first, ModelDesired(spec=older), InstancePlaced(instance=InstanceId("i"), spec=older, shards=shards)
    )
    since = (await first.pulled()).seq
    hub.add("org/llama", other)
    hub.add("org/other", make_random_llama(other.parent / "third", seed=2))
    newer = ModelSpec(id=ME, source=await newest(first, SOURCE))
    await decide(
        first, ModelDesired(spec=newer), InstancePlaced(instance=InstanceId("j"), spec=newer, shards=shards)
    )
    assert (await first.pulled(since)).source == newer.source
    order = PullModel(model=ModelId("third"), source="hf:org/other")
    assert isinstance(await first.ask(order), Done)
    await first.bus.view.until(
        lambda state: (
            (each := state.download(NodeId("a"), order.model)) and "models_max_bytes" in each.reason
        ),
        timeout_s=60,
    )
    assert contents(first.model) == contents(llama)
    assert contents(first.folder / f"org--llama@main+{revision_of(newer.source)}") == contents(other)


async def decide(member: Member, *events: ModelDesired | InstancePlaced) -> None:
    for event in events:
        await member.bus.log.decide(event, term=1, after=await member.bus.log.last_decision())
