"""From messages, a text or token ids to a task: template, tokenizer, and whether it fits."""

from asyncio import get_running_loop
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from api.catalogue import Described
from api.errors import ApiError, bad_request, unavailable
from api.reading.manner import Calling, Reading, reading
from api.text.artifacts import ArtifactDamaged, Artifacts
from api.text.room import check_bias, check_ids, check_rolling, rolls, room, sampling_within
from api.text.template import TemplateRefused, VariableRefused
from api.text.tokenizer import ChatTokenizer, Rendered
from api.text.truncation import shorten
from api.wish import Wish
from bus.errors import BlobMissing
from schemas.chat import Message
from schemas.ids import ApiId, RequestId
from schemas.task import Grammar, Task, pack_ids
from schemas.version import version_of

T = TypeVar("T")

READ_BYTES_A_CHAR = 16
"""So many bytes of a body are read in the time that it takes to tokenise a character."""
MANY_CHARS = 10**9
"""As heavy as work that is always done in a thread."""
MESSAGE_CHARS = 64
"""What a template writes around a message takes the time of about so many characters."""


class ChatPrompt(Struct, frozen=True):
    """Messages, and tools, for the model's template."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    calling: Calling = Calling()
    variables: dict[str, Any] | None = None
    """The template's own."""
    name = "messages"

    @property
    def weight(self) -> int:
        """How much work it is, in characters: empty messages are work too."""
        more = len(msgspec.json.encode((self.tools, self.variables))) if self.tools or self.variables else 0
        return more + MESSAGE_CHARS * len(self.messages) + sum(message.weight for message in self.messages)

    def render(self, tokenizer: ChatTokenizer) -> Rendered:
        return tokenizer.render_chat(
            [message.given() for message in self.messages], self.tools, self.variables
        )

    def shortened(self, tokenizer: ChatTokenizer, most: int) -> tuple[Rendered, int]:
        """Without as few of the oldest turns as it takes to have `most` tokens, and how many messages those are."""

        def rendered(messages: list[Message]) -> Rendered:
            return msgspec.structs.replace(self, messages=messages).render(tokenizer)

        shorter = shorten(self.messages, lambda kept: len(rendered(kept).ids) <= most)
        return rendered(shorter.messages), shorter.dropped

    def reading(
        self, tokenizer: ChatTokenizer, tail: str, kept: Grammar | None
    ) -> tuple[Reading, Grammar | None]:
        """How to read the answer, and the grammar of all of it; raises `ApiError`."""
        return reading(tokenizer, self.calling, tail, kept)


class TextPrompt(Struct, frozen=True):
    """A text that goes to the tokenizer as it is, control tokens and all."""

    text: str
    add_special: bool = True
    name = "prompt"

    @property
    def weight(self) -> int:
        return len(self.text)

    def render(self, tokenizer: ChatTokenizer) -> Rendered:
        return Rendered(tokenizer.encode_text(self.text, self.add_special), "")

    def reading(
        self, tokenizer: ChatTokenizer, _tail: str, kept: Grammar | None
    ) -> tuple[Reading, Grammar | None]:
        """Text is text."""
        return Reading(tokenizer.detokenizer), kept

    def shown(self, _tokenizer: ChatTokenizer) -> str:
        return self.text


class IdsPrompt(Struct, frozen=True):
    """Token ids, as they are."""

    ids: list[int]
    name = "prompt"
    weight = 0

    def render(self, _tokenizer: ChatTokenizer) -> Rendered:
        return Rendered(self.ids, "")

    def reading(
        self, tokenizer: ChatTokenizer, _tail: str, kept: Grammar | None
    ) -> tuple[Reading, Grammar | None]:
        """Text is text."""
        return Reading(tokenizer.detokenizer), kept

    def shown(self, tokenizer: ChatTokenizer) -> str:
        return tokenizer.decode(self.ids)


RawPrompt = TextPrompt | IdsPrompt
Prompt = ChatPrompt | RawPrompt


class Prompts:
    """Makes tasks; long prompts in a thread, so that nobody's tokens wait for them."""

    def __init__(self, artifacts: Artifacts, threads: Executor, inline_chars: int) -> None:
        self._artifacts = artifacts
        self._threads = threads
        self._inline_chars = inline_chars

    async def tokenizer(self, model: Described) -> ChatTokenizer:
        try:
            return await self._artifacts.tokenizer(model.card.artifact)
        except BlobMissing as missing:
            raise unavailable(
                f"The tokenizer of '{model.spec.id}' is not on the bus: {missing}."
            ) from missing
        except (ArtifactDamaged, TemplateRefused) as damaged:
            raise ApiError(
                500, f"'{model.spec.id}' cannot chat: {damaged}.", code="model_damaged"
            ) from damaged

    async def rendered(self, tokenizer: ChatTokenizer, prompt: Prompt) -> Rendered:
        """The prompt as the model reads it; raises `ApiError` when the template does not take the messages."""
        return await self._templated(prompt.weight, lambda: prompt.render(tokenizer))

    async def fitted(self, tokenizer: ChatTokenizer, prompt: ChatPrompt, most: int) -> tuple[Rendered, int]:
        """The same in `most` tokens, if need be without its oldest turns: and how many messages those were."""
        rendered = await self.rendered(tokenizer, prompt)
        if len(rendered.ids) <= most:
            return rendered, 0
        return await self._templated(MANY_CHARS, lambda: prompt.shortened(tokenizer, most))

    async def _templated(self, weight: int, work: Callable[[], T]) -> T:
        try:
            return await self._worked(weight, work)
        except VariableRefused as why:
            name = "chat_template_kwargs"
            raise bad_request(f"'{name}' is not supported as it is: {why}.", name) from why
        except TemplateRefused as why:
            raise bad_request(f"The model's chat template refuses the messages: {why}.", "messages") from why

    async def text(self, tokenizer: ChatTokenizer, ids: list[int]) -> str:
        """The text of `ids`, control tokens and all."""
        return await self._worked(len(ids), lambda: tokenizer.decode(ids))

    async def read(self, body: bytes, reader: Callable[[bytes], T]) -> T:
        """What `reader` makes of `body`; to read and check it is less work than to tokenise it."""
        return await self._worked(len(body) // READ_BYTES_A_CHAR, lambda: reader(body))

    async def _worked(self, weight: int, work: Callable[[], T]) -> T:
        """Small work at once, large work in a thread."""
        if weight <= self._inline_chars:
            return work()
        return await get_running_loop().run_in_executor(self._threads, work)

    def task(
        self,
        request: RequestId,
        api: ApiId,
        wish: Wish,
        model: Described,
        ids: list[int],
        name: str,
        *,
        left_out: int = 0,
    ) -> Task:
        """What a runner needs; raises `ApiError` when the prompt, called `name`, does not fit.

        `left_out`: messages that are in it no more.
        """
        check_ids(model, ids, name)
        check_bias(model, wish)
        max_tokens = room(model, ids, wish, name, left_out)
        rolling = rolls(model, ids, wish)
        if rolling:
            check_rolling(wish)
        return Task(
            request=request,
            attempt=1,
            api=api,
            model=model.spec.id,
            prompt=pack_ids(ids),
            max_tokens=max_tokens,
            min_tokens=wish.min_tokens,
            sampling=sampling_within(model, wish.sampling),
            stop_ids=() if wish.ignore_eos else model.card.eos_ids,
            n=wish.n,
            grammar=wish.grammar,
            beams=wish.beams,
            rolling=rolling,
            speculate=wish.speculate,
            logprobs=min(wish.logprobs, model.card.vocabulary),
            lane=wish.lane,
            version=version_of(model.spec),
        )
