"""`actors chat` against a stub of the API, from scripts and in a terminal."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bus.bus import Bus
from bus.server import Server
from tests.cli.command import HERE, actors, environment
from tests.cli.stub_api import StubApi, piece, stub_api
from tests.facts import joined

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
HELLO = [": a comment", piece("Hel"), piece("lo.", "stop"), {"choices": [], "usage": USAGE}, "data: [DONE]"]


@pytest.fixture
async def api() -> AsyncIterator[StubApi]:
    async with stub_api() as started:
        yield started


async def test_one_question_and_its_answer(api: StubApi) -> None:
    api.answers = [HELLO]
    ran = await actors(
        *("chat", "--api", api.url, "--once", "Say hello", "--system", "Be kind."),
        *("--temperature", "0", "--max-tokens", "9"),
    )
    assert (ran.code, ran.out, ran.err) == (0, "Hello.\n", "")
    (asked,) = api.asked
    assert asked["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Say hello"},
    ]
    assert (asked["model"], asked["temperature"], asked["max_tokens"], asked["stream"]) == (
        "guide",
        0,
        9,
        True,
    )


async def test_text_from_a_pipe_is_the_question(api: StubApi) -> None:
    api.answers = [HELLO]
    ran = await actors("chat", "--api", api.url, "--json", typed="Say\nhello\n")
    assert ran.json == {"model": "guide", "text": "Hello.", "finish_reason": "stop", "usage": USAGE}
    assert api.asked[0]["messages"] == [{"role": "user", "content": "Say\nhello"}]
    assert "temperature" not in api.asked[0]


async def test_the_apis_own_sentence_is_told(api: StubApi) -> None:
    api.status = "400 Bad Request"
    api.answers = [[{"error": {"message": "the prompt has 600 tokens, the context 512", "type": "x"}}]]
    ran = await actors("chat", "--api", api.url, "--once", "x")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "actors: the prompt has 600 tokens, the context 512\n"


@pytest.mark.parametrize(
    ("last", "said"),
    [([{"error": {"message": "the runner was lost"}}], "the runner was lost"), ([], "the answer broke off")],
)
async def test_an_answer_that_ends_in_an_error_is_a_failure(api: StubApi, last: list, said: str) -> None:
    api.answers = [[piece("Hel"), *last]]
    ran = await actors("chat", "--api", api.url, "--once", "x")
    assert (ran.code, ran.out, said in ran.err) == (1, "Hel", True)


async def test_an_unknown_model_is_answered_with_the_nearest(api: StubApi) -> None:
    ran = await actors("chat", "giude", "--api", api.url, "--once", "x")
    assert (ran.code, "no model 'giude' is served here; did you mean 'guide'?" in ran.err) == (1, True)
    api.models = []
    ran = await actors("chat", "--api", api.url, "--once", "x")
    assert (ran.code, "actors load guide" in ran.err) == (1, True)


async def test_an_api_that_is_not_there_is_named() -> None:
    ran = await actors("chat", "--api", "http://127.0.0.1:9", "--once", "x")
    assert (ran.code, "the API at http://127.0.0.1:9 does not answer" in ran.err) == (3, True)


async def test_the_api_of_any_node_of_the_cluster_is_found(
    bus: Bus, nats_server: Server, api: StubApi
) -> None:
    ran = await actors("chat", "--nats", nats_server.url, "--once", "x")
    assert (ran.code, "no node of this cluster has an API" in ran.err) == (3, True)
    await bus.log.record(joined("n1", api_url=""))
    await bus.log.record(joined("n2", api_url=api.url))
    api.answers = [HELLO]
    assert (await actors("chat", "--nats", nats_server.url, "--once", "x")).out == "Hello.\n"


class Terminal:
    """`actors chat` with a terminal for its keyboard and its screen."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.process = process
        self._master = master
        self._arrived = asyncio.Event()
        self._seen = ""
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            self._seen += os.read(self._master, 4096).decode(errors="replace")
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self._master)
        self._arrived.set()

    async def until(self, text: str) -> None:
        """Wait until `text` has been written, and forget what came before it."""
        async with asyncio.timeout(30):
            while text not in self._seen:
                self._arrived.clear()
                await self._arrived.wait()
        self._seen = self._seen.split(text, 1)[1]

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    async def interrupted(self) -> int:
        """Press Ctrl-C until the process ends: readline misses one that comes just when it has written its prompt."""
        ended = asyncio.create_task(self.process.wait())
        async with asyncio.timeout(20):
            while not ended.done():
                self.process.send_signal(signal.SIGINT)
                await asyncio.wait([ended], timeout=0.5)
        return await ended


@asynccontextmanager
async def terminal(*arguments: str) -> AsyncIterator[Terminal]:
    master, slave = os.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "actors.cli", *arguments),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(),
        cwd=HERE,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)


async def test_a_conversation_in_a_terminal(api: StubApi) -> None:
    api.answers = [[piece("One, two")], HELLO, [piece("cut", "length"), "data: [DONE]"]]
    api.stay = True
    async with terminal("chat", "--api", api.url) as screen:
        await screen.until("> ")
        screen.type("count\n")
        await screen.until("One, two")
        screen.process.send_signal(signal.SIGINT)
        await screen.until("(stopped)")
        await asyncio.wait_for(api.left.wait(), 10)
        screen.type("hello\n")
        await screen.until("Hello.")
        screen.type("more\n")
        await screen.until("has reached its longest length")
        await screen.until("> ")
        screen.type("\x04")
        assert await asyncio.wait_for(screen.process.wait(), 10) == 0
    assert [message["content"] for message in api.asked[2]["messages"]] == [
        "count",
        "One, two",
        "hello",
        "Hello.",
        "more",
    ]


async def test_an_error_does_not_end_a_conversation_and_ctrl_c_at_the_prompt_does(api: StubApi) -> None:
    api.answers = [[{"error": {"message": "the runner was lost"}}], HELLO]
    async with terminal("chat", "--api", api.url) as screen:
        await screen.until("> ")
        screen.type("one\n")
        await screen.until("the runner was lost")
        screen.type("two\n")
        await screen.until("Hello.")
        await screen.until("> ")
        assert await screen.interrupted() == 130
    assert api.asked[1]["messages"] == [{"role": "user", "content": "two"}]
