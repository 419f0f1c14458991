"""A node's secrets are where they must be, and nowhere else: not in state, log, answers, journals or lists of processes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE
from urllib.request import urlopen

import msgspec
import psutil
import pytest

from bus.bucket import Bucket
from bus.streams import Streams
from tests.cli.command import actors
from tests.nodes import NodeProcess, StartNode, watching

SECRETS = {
    "TROUPE_JOIN_TOKEN": "join-secret-0123456789",
    "TROUPE_HUB_TOKEN": "hf_hub-secret-0123456789",
    "TROUPE_S3_ACCESS_KEY": "s3-name-0123456789",
    "TROUPE_S3_SECRET_KEY": "s3-secret-0123456789",
}
PATHS = ("/cluster/state", "/cluster/events?follow=false", "/cluster/models", "/metrics", "/v1/models")


@pytest.mark.slow
async def test_secrets_are_told_to_nobody(start_node: StartNode, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    node = await start_node("a", "--accept-peers", "--no-announce", "--model", "guide")
    async with watching(node) as bus:
        await bus.view.until(lambda state: any(one.status == "ready" for one in state.instances.values()), 60)
        found = {
            "state": msgspec.json.encode(bus.view.state),
            "events": b"\n".join([msgspec.json.encode(one.event) async for one in bus.log.past()]),
            "bucket": b"\n".join(
                entry.value or b""
                for entry in await Bucket(bus.connection, Streams(bus.cluster).state).entries()
            ),
        }
    for path in PATHS:
        found[path] = await asyncio.to_thread(read, node.info.api_url + path)
    for command in ("status", "nodes", "instances", "models"):
        ran = await actors(command, "--json", "--data-dir", str(node.folder))
        assert ran.code == 0, ran.err
        found[command] = (ran.out + ran.err).encode()
    found["command lines"] = "\n".join(command_lines(node)).encode()
    found["environment of runners"] = b"\n".join(environments(node))
    leaks = [
        (where, name) for where, text in found.items() for name in SECRETS if SECRETS[name].encode() in text
    ]
    assert leaks == []
    assert node.info.join_url.count(SECRETS["TROUPE_JOIN_TOKEN"]) == 1  # which is what it is for


@pytest.mark.slow
async def test_files_with_secrets_are_for_their_owner_alone(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    node = await start_node("a", "--accept-peers", "--no-announce", "--model", "none")
    holding = {file.relative_to(node.folder).as_posix(): file for file in files_with_secrets(node.folder)}
    assert "node.json" in holding
    assert {name: oct(S_IMODE(file.stat().st_mode)) for name, file in holding.items()} == dict.fromkeys(
        holding, "0o600"
    )
    assert not [name for name in holding if name.endswith(".log")]


def files_with_secrets(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        if file.is_file() and any(one.encode() in file.read_bytes() for one in SECRETS.values()):
            yield file


def read(url: str) -> bytes:
    with urlopen(url, timeout=30) as answer:
        return answer.read()


def processes(node: NodeProcess) -> list[psutil.Process]:
    own = psutil.Process(node.process.pid)
    return [own, psutil.Process(node.bus_pid()), *own.children(recursive=True)]


def command_lines(node: NodeProcess) -> Iterator[str]:
    """Anybody on the machine can read these."""
    return (" ".join(process.cmdline()) for process in processes(node))


def environments(node: NodeProcess) -> Iterator[bytes]:
    """What runners, which read models from anywhere, are given."""
    for pid in node.runner_pids():
        yield Path(f"/proc/{pid}/environ").read_bytes()
