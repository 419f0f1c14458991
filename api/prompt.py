"""From messages to a task: template, tokenizer, and whether it fits."""

from asyncio import get_running_loop
from collections.abc import Sequence
from concurrent.futures import Executor
from secrets import randbits

from api.artifacts import ArtifactDamaged, Artifacts
from api.catalogue import Described
from api.errors import ApiError, bad_request, unavailable
from api.template import ChatMessage, TemplateRefused
from api.tokenizer import ChatTokenizer
from bus.bus import Bus
from bus.errors import BlobMissing
from schemas.ids import ApiId, RequestId
from schemas.openai import ChatRequest
from schemas.task import Sampling, Task, pack_ids

MAX_INLINE_BYTES = 512 * 1024
"""A prompt larger than this travels through the object store."""


class Prompts:
    """Makes tasks of chat requests; long prompts in a thread, so that nobody's tokens wait for them."""

    def __init__(self, bus: Bus, artifacts: Artifacts, threads: Executor, inline_chars: int) -> None:
        self._bus = bus
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

    async def ids(self, tokenizer: ChatTokenizer, chat: ChatRequest) -> list[int]:
        """The prompt's ids; raises `ApiError` when the template does not take the messages."""
        messages = [{"role": message.role, "content": message.text} for message in chat.messages]
        try:
            return await self._encode(tokenizer, messages)
        except TemplateRefused as why:
            raise bad_request(
                f"The chat template of '{chat.model}' refuses the messages: {why}.", "messages"
            ) from why

    async def _encode(self, tokenizer: ChatTokenizer, messages: Sequence[ChatMessage]) -> list[int]:
        if sum(len(message["content"]) for message in messages) <= self._inline_chars:
            return tokenizer.encode_chat(messages)
        return await get_running_loop().run_in_executor(self._threads, tokenizer.encode_chat, messages)

    async def task(
        self, request: RequestId, api: ApiId, chat: ChatRequest, model: Described, ids: list[int]
    ) -> Task:
        """What a runner needs; raises `ApiError` when the prompt does not fit."""
        prompt, payload = pack_ids(ids), ""
        max_tokens = room(model, ids, chat.limit)
        if len(prompt) > MAX_INLINE_BYTES:
            payload = f"prompt-{request}"
            await self._bus.payloads.put(payload, prompt)
        return Task(
            request=request,
            attempt=1,
            api=api,
            model=model.spec.id,
            prompt=b"" if payload else prompt,
            payload=payload,
            max_tokens=max_tokens,
            sampling=sampling(chat),
            stop_ids=model.card.eos_ids,
        )


def sampling(chat: ChatRequest) -> Sampling:
    """OpenAI's defaults; without a seed every request has its own."""
    seed = randbits(64) if chat.seed is None else chat.seed & (2**64 - 1)
    return Sampling(
        temperature=1.0 if chat.temperature is None else chat.temperature,
        top_p=1.0 if chat.top_p is None else chat.top_p,
        seed=seed,
    )


def room(model: Described, ids: list[int], limit: int | None) -> int:
    """Most tokens of the answer: what was asked for, or the rest of the context; raises `ApiError`."""
    if not ids:
        raise bad_request("The messages make an empty prompt: say something.", "messages")
    if max(ids) >= model.card.vocabulary:
        raise ApiError(
            500, f"The tokenizer of '{model.spec.id}' does not fit its weights.", code="model_damaged"
        )
    rest = model.context - len(ids)
    if rest >= (limit or 1):
        return limit or rest
    asked = "" if limit is None else f" and {limit} for the answer"
    raise bad_request(
        f"This model's maximum context length is {model.context} tokens. However, you requested "
        f"{len(ids) + (limit or 1)} tokens: {len(ids)} in the messages{asked}. "
        "Shorten the messages, or lower max_tokens.",
        "messages" if rest < 1 or limit is None else "max_tokens",
        "context_length_exceeded",
    )
