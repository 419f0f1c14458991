"""What is work for a thread, and what is not."""

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, cast

import pytest
from tokenizers import processors

from api.settings import ApiSettings
from api.text.prompt import ChatPrompt, Prompts, TextPrompt
from api.text.template import ChatTemplate
from api.text.tokenizer import ChatTokenizer
from schemas.chat import Message
from tests.api import tokenizers_of
from tests.api.stage import TOKENIZER

INLINE = ApiSettings().inline_chars


class Counting(ThreadPoolExecutor):
    """Counts what it is given."""

    def __init__(self) -> None:
        super().__init__(1)
        self.jobs = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs += 1
        return super().submit(fn, *args, **kwargs)


def prompts(threads: Executor) -> Prompts:
    return Prompts(cast("Any", None), threads, INLINE)


@pytest.mark.parametrize(
    ("messages", "jobs"),
    [
        ([Message("user", "hi")], 0),
        ([Message("user", "hi " * INLINE)], 1),
        ([Message("user", "")] * 100_000, 1),
    ],
)
def test_many_empty_messages_are_as_heavy_as_long_ones(messages: list[Message], jobs: int) -> None:
    assert (ChatPrompt(messages).weight > INLINE) == bool(jobs)


@pytest.mark.parametrize(("text", "jobs"), [("hi", 0), ("hi " * INLINE, 1)])
async def test_only_heavy_work_goes_to_a_thread(text: str, jobs: int) -> None:
    tokenizer = ChatTokenizer(TOKENIZER, None)
    with Counting() as threads:
        ids = (await prompts(threads).rendered(tokenizer, TextPrompt(text))).ids
        assert await prompts(threads).text(tokenizer, ids) == text
        assert threads.jobs >= jobs
        assert (threads.jobs == 0) == (jobs == 0)


@pytest.mark.parametrize(("size", "jobs"), [(1000, 0), (1_000_000, 1)])
async def test_large_bodies_are_read_in_a_thread(size: int, jobs: int) -> None:
    with Counting() as threads:
        assert await prompts(threads).read(b" " * size, len) == size
        assert threads.jobs == jobs


def test_a_text_gets_what_its_tokenizer_puts_before_it() -> None:
    """Unless it is told not to; a chat never does: its template writes that."""
    raw = tokenizers_of.byte_level()
    begin = raw.encode("<s>", add_special_tokens=False).ids
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin[0])])
    tokenizer = ChatTokenizer(raw, ChatTemplate("{{ messages[0].content }}", {}))
    hello = TextPrompt("hello", add_special=False).render(tokenizer).ids
    assert TextPrompt("hello").render(tokenizer).ids == begin + hello
    assert ChatPrompt([Message("user", "hello")]).render(tokenizer).ids == hello
