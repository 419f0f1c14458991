"""Those who take turns on the same model: raw mlx-lm, mlx_lm.server, and the cluster that has to load it."""

import asyncio
import re
import socket
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict

import msgspec
from tokenizers import Tokenizer

from bus.commands import command
from schemas.commands import Done, LoadModel
from schemas.ids import ModelId
from schemas.model import ModelSpec
from tests.bench.conversation import Timed
from tests.bench.raw import Ask, AskMany, TimedMany
from tests.nodes import NodeProcess, watching


class Shape(TypedDict, total=False):
    """Of a random llama."""

    hidden: int
    layers: int
    heads: int


SHAPES: dict[str, Shape] = {
    "1M": {"hidden": 128, "layers": 4},
    "16M": {"hidden": 384, "layers": 7, "heads": 6},
}
AIMS = {"1M": 0.85, "16M": 0.95}
"""Least share of raw mlx-lm's tokens a second."""
CONTENT = "the old harbour lies quiet in the morning and nobody has come down to the boats yet"
PEER_WORDS = re.compile(rb'"content": ?"[^"]')


class Raw:
    """mlx-lm in a process of its own, asked over a pipe; the pipe is not in its figures."""

    def __init__(self, process: Process, blas: str) -> None:
        self._process = process
        self.blas = blas

    @classmethod
    async def start(cls, folder: Path) -> "Raw":
        process = await create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.raw", str(folder)), stdin=PIPE, stdout=PIPE
        )
        assert process.stdout is not None
        return cls(process, msgspec.json.decode(await process.stdout.readline(), type=str))

    async def ask(self, ids: list[int], max_tokens: int) -> Timed:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(Ask(ids, max_tokens)) + b"\n")
        return msgspec.json.decode(await self._process.stdout.readline(), type=Timed)

    async def ask_many(self, prompts: list[list[int]], max_tokens: int) -> TimedMany:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(AskMany(prompts, max_tokens)) + b"\n")
        return msgspec.json.decode(await self._process.stdout.readline(), type=TimedMany)

    async def stop(self) -> None:
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def peer(folder: Path) -> AsyncIterator[str]:
    """The address of mlx_lm.server, which serves the model called like its folder; ready when it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / "server.log").open("wb") as log:
        process = await create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.peer", "--model", str(folder), "--port", str(port)),
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionError:
                await asyncio.sleep(0.1)  # it says nothing when it is ready
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


class Prompts:
    """One after the other: of equal length, and different from the start, so that nobody finds them in a cache."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._count = 0

    def next(self) -> tuple[str, list[int]]:
        """The message, and what the template of `make_random_llama` makes of it."""
        self._count += 1
        content = f"{self._count:04d} {CONTENT}"
        text = f"<|start|>{content}<|end|><|start|>"
        return content, self._tokenizer.encode(text, add_special_tokens=False).ids


async def load(node: NodeProcess, folder: Path, name: str) -> None:
    async with watching(node) as bus:
        spec = ModelSpec(id=ModelId(name), source=str(folder), node=node.node)
        assert isinstance(await command(bus, LoadModel(spec=spec)), Done)
        await bus.view.until(lambda s: any(i.status == "ready" for i in s.instances_of(ModelId(name))), 120)
