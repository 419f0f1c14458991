"""One client, one stream: the whole cluster beside raw mlx-lm and mlx_lm.server, taking turns on the same model."""

import asyncio
import re
import socket
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from tokenizers import Tokenizer

from bus.commands import command
from schemas.commands import Done, LoadModel
from schemas.ids import ModelId
from schemas.model import ModelSpec
from tests.bench.conversation import Conversation, Timed
from tests.bench.raw import Ask
from tests.bench.table import Table, ms, percentile
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode, watching

pytestmark = pytest.mark.bench

SHAPES = {"1M": {"hidden": 128, "layers": 4}, "16M": {"hidden": 384, "layers": 7, "heads": 6}}
AIMS = {"1M": 0.85, "16M": 0.95}
CONTENT = "the old harbour lies quiet in the morning and nobody has come down to the boats yet"
SHORT, SHORT_TOKENS = 150, 3
LONG = {"1M": (15, 256), "16M": (10, 128)}
"""How often, and how many tokens."""
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

    async def stop(self) -> None:
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def peer(folder: Path) -> AsyncIterator[Conversation]:
    """mlx_lm.server; ready when it answers."""
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
        yield Conversation(f"http://127.0.0.1:{port}", PEER_WORDS)
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


@pytest.mark.parametrize("size", SHAPES)
async def test_one_stream(size: str, table: Table, start_node: StartNode, tmp_path: Path) -> None:
    folder = make_random_llama(tmp_path / size, **SHAPES[size])
    prompts = Prompts(folder)
    node = await start_node("a", "--model", "none", "--log-level", "info")
    await load(node, folder, size)
    async with AsyncExitStack() as stack:
        raw = await Raw.start(folder)
        stack.push_async_callback(raw.stop)
        cluster = Conversation(node.info.api_url)
        server = await stack.enter_async_context(peer(folder))

        async def take_turns(rounds: int, tokens: int) -> dict[str, list[Timed]]:
            kept: dict[str, list[Timed]] = {"raw": [], "cluster": [], "server": []}
            for _ in range(rounds):
                content, ids = prompts.next()
                kept["raw"].append(await raw.ask(ids, tokens))
                kept["cluster"].append(await asyncio.to_thread(cluster.ask, size, content, tokens))
                kept["server"].append(await asyncio.to_thread(server.ask, str(folder), content, tokens))
            return kept

        rounds, tokens = LONG[size]
        await take_turns(3, tokens)  # warm
        short, long = await take_turns(SHORT, SHORT_TOKENS), await take_turns(rounds, tokens)
        cluster.close()
        server.close()
    assert {timed.tokens for timed in [*long["raw"], *long["cluster"]]} == {tokens}
    assert {t.prompt_tokens for asked in short.values() for t in asked} == {len(prompts.next()[1])}
    write(table, size, short, long, f"{len(prompts.next()[1])} tokens of prompt; {raw.blas}")


def write(
    table: Table, size: str, short: dict[str, list[Timed]], long: dict[str, list[Timed]], note: str
) -> None:
    group = f"One stream, {size} parameters, float32"
    first = {name: [timed.first_s for timed in asked] for name, asked in short.items()}
    between = {name: percentile([t.between_s for t in asked], 0.5) for name, asked in long.items()}
    speed = {name: percentile([t.tokens / t.last_s for t in asked], 0.5) for name, asked in long.items()}
    raw_first = percentile(first["raw"], 0.5)
    for name, called in (("cluster", "Troupe"), ("server", "mlx_lm.server")):
        ours = name == "cluster"
        p50, p99 = percentile(first[name], 0.5), percentile(first[name], 0.99)
        aside = f"{ms(raw_first)} -> {ms(p50)}; {note}" if ours else f"-> {ms(p50)}"
        table.add(group, f"{called}: added TTFT, p50", ms(p50 - raw_first), "<= 3 ms" if ours else "", aside)
        raw_p99 = percentile(first["raw"], 0.99)
        aside = f"{ms(raw_p99)} -> {ms(p99)}"
        table.add(group, f"{called}: added TTFT, p99", ms(p99 - raw_p99), "<= 15 ms" if ours else "", aside)
        aside = f"{ms(between['raw'])} -> {ms(between[name])}"
        table.add(group, f"{called}: added inter-token time", ms(between[name] - between["raw"]), "", aside)
        aim = f">= {AIMS[size]}" if ours else ""
        aside = f"{speed['raw']:.0f} -> {speed[name]:.0f} tokens/s, answers of {long['raw'][0].tokens} tokens"
        table.add(group, f"{called}: tokens/s, ratio to raw", f"{speed[name] / speed['raw']:.2f}", aim, aside)
