"""Clients that read one stream after the other, and know each word that is to come."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import openai
from msgspec import Struct

MODEL = "sim"
Answer = tuple[str, ...]
"""The words of each choice."""


class Broken(Struct, frozen=True):
    """A stream that was not what it would have been."""

    reader: int
    why: str


class Readers:
    """`size` of them; every third asks for two choices."""

    def __init__(self, client: openai.AsyncOpenAI, size: int, tokens: int) -> None:
        self._client = client
        self._size = size
        self._tokens = tokens
        self._expected: list[Answer] = []
        self._leaving = False
        self.read = 0
        self.broken: list[Broken] = []

    async def learn(self) -> None:
        """What each of them is told while nothing disturbs."""
        self._expected = list(await asyncio.gather(*(self._stream(each) for each in range(self._size))))
        assert len(set(self._expected)) == self._size, "answers that are alike would hide a mix-up"

    @contextmanager
    def _noting(self, reader: int) -> Iterator[None]:
        try:
            yield
        except (openai.APIError, AssertionError, TimeoutError) as broken:
            self.broken.append(Broken(reader, f"{type(broken).__name__}: {broken}"))

    async def read_on(self) -> None:
        """Until `leave`; every stream that has begun is read to its end."""
        async with asyncio.TaskGroup() as readers:
            for reader in range(self._size):
                readers.create_task(self._read_on(reader))

    def leave(self) -> None:
        self._leaving = True

    async def _read_on(self, reader: int) -> None:
        while not self._leaving:
            with self._noting(reader):
                answer = await self._stream(reader)
                assert answer == self._expected[reader], f"{answer} instead of {self._expected[reader]}"
            self.read += 1

    async def _stream(self, reader: int) -> Answer:
        choices = 2 if reader % 3 == 2 else 1
        words, ends = [""] * choices, Counter[str]()
        stream = await self._client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": f"Tell me about {reader}"}],
            max_tokens=self._tokens,
            seed=reader,
            n=choices,
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            for choice in chunk.choices:
                words[choice.index] += choice.delta.content or ""
                ends[choice.finish_reason or ""] += 1
            if chunk.usage is not None:
                assert chunk.usage.completion_tokens == choices * self._tokens
        assert ends["length"] == choices, f"choices ended {ends}"
        return tuple(words)
