"""`actors`, whose APIs leave templates and tokens to the runner: `python -m tests.bench.worker_tokens up ...`.

The messages go to the runner as bytes, one a token id; what comes back is taken for text that the runner has made
(`tests/bench/worker_tokens_runner.py`). The API does nothing for a prompt and for an answer but hand it on.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

import actors.worker.runner_process as runner_process
from actors.cli import main
from api.text.prompt import ChatPrompt, Prompts
from api.text.tokenizer import ChatTokenizer, Rendered

START = asyncio.create_subprocess_exec


class HandsOn:
    """A detokenizer whose text is there already."""

    def add(self, ids: Iterable[int]) -> str:
        return "ab" * len(list(ids))

    def end(self) -> str:
        return ""


async def left_to_the_runner(_prompts: Prompts, _tokenizer: ChatTokenizer, prompt: ChatPrompt) -> Rendered:
    return Rendered(list(msgspec.json.encode([message.given() for message in prompt.messages])), "")


async def start(program: str, *arguments: str, **more: Any) -> asyncio.subprocess.Process:
    renamed = [each.replace("actors.runner", "tests.bench.worker_tokens_runner") for each in arguments]
    return await START(program, *renamed, **more)


if __name__ == "__main__":
    Prompts.rendered = left_to_the_runner  # type: ignore[method-assign,assignment]
    ChatTokenizer.detokenizer_showing = lambda *_: HandsOn  # type: ignore[method-assign]
    runner_process.asyncio.create_subprocess_exec = start  # type: ignore[assignment]
    main()
