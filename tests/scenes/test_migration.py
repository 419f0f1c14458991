"""The built-in model under kill -9 of its runner: the words are those that would have been, drawn or not."""

import asyncio
import os
import signal
from typing import Any

import openai

from tests.nodes import NodeProcess, StartNode, watching

TOKENS = 1000
MANNERS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.8, "seed": 7},
    {"temperature": 0.8, "seed": 8, "n": 2},
]


class Reading:
    """One stream of the OpenAI SDK; `words` of each choice, and whether it has begun."""

    def __init__(self, client: openai.AsyncOpenAI, manner: dict[str, Any]) -> None:
        self._client = client
        self._manner = manner
        self.begun = asyncio.Event()
        self.words = [""] * manner.get("n", 1)
        self.completion_tokens = 0

    async def read(self) -> tuple[list[str], int]:
        """The words of each choice, and the tokens of all."""
        stream = await self._client.chat.completions.create(
            model="guide",
            messages=[{"role": "user", "content": "Count to 40"}],
            max_tokens=TOKENS,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
            **self._manner,
        )
        async for chunk in stream:
            for choice in chunk.choices:
                self.words[choice.index] += choice.delta.content or ""
            if all(len(words) > 20 for words in self.words):
                self.begun.set()
            self.completion_tokens = chunk.usage.completion_tokens if chunk.usage else 0
        return self.words, self.completion_tokens


async def test_the_words_are_those_that_would_have_been(start_node: StartNode) -> None:
    node = await start_node("a")
    client = openai.AsyncOpenAI(base_url=node.openai_url, api_key="none", max_retries=0, timeout=60)
    async with watching(node) as bus, client:
        undisturbed = await asyncio.gather(*(Reading(client, manner).read() for manner in MANNERS))
        assert [tokens for _, tokens in undisturbed] == [TOKENS, TOKENS, 2 * TOKENS]
        readings = [Reading(client, manner) for manner in MANNERS]
        reading = [asyncio.create_task(each.read()) for each in readings]
        for each in readings:
            await each.begun.wait()
        kill_runner(node)
        assert not any(task.done() for task in reading), "they were to be hit in the middle"
        assert [await task for task in reading] == undisturbed
        (instance,) = bus.view.state.instances.values()
        assert instance.attempt == 2
    assert "actor.failed" not in node.journal


def kill_runner(node: NodeProcess) -> None:
    (pid,) = node.runner_pids()
    os.kill(pid, signal.SIGKILL)
