"""A cluster of one real bus, one real API on a random port, and instances that do what a test says."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import httpx
import msgspec
from openai import AsyncOpenAI

from api.server import Api
from api.settings import ApiSettings
from bus.bus import Bus
from bus.tracing import Tracing
from schemas.chunks import Chunk, Ended, FinishReason, SequenceEnded, Started, Timings, Tokens, Usage
from schemas.events import (
    Decided,
    InstanceDeleted,
    InstancePlaced,
    InstanceRetried,
    LeaderElected,
    ModelDescribed,
    ModelDesired,
    ModelRemoved,
    NodeLost,
    RunnerReported,
)
from schemas.ids import InstanceId, ModelId, NodeId, RequestId
from schemas.instance import RunnerStatus, Shard
from schemas.model import ModelCard, ModelSpec
from schemas.refused import Refused
from schemas.task import Accepted, Cancel, FindTasks, Task, TasksFound, pack_ids
from tests.api import tokenizers_of
from tests.facts import joined

MODEL = ModelId("org/parrot")
NODE = NodeId("n1")
CONTEXT = 1000
TOKENIZER = tokenizers_of.byte_level()
END = 1
"""`<|im_end|>`."""

_packed = msgspec.msgpack.Encoder()


def ids_of(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def artifact(template: str = tokenizers_of.CHATML) -> bytes:
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        archive.writestr("tokenizer.json", TOKENIZER.to_str())
        archive.writestr("tokenizer_config.json", json.dumps({"chat_template": template}))
    return buffer.getvalue()


def card(context: int = CONTEXT) -> ModelCard:
    return ModelCard(
        architecture="llama",
        parameters=1,
        weights_bytes=1,
        vocabulary=TOKENIZER.get_vocab_size(),
        context=context,
        eos_ids=(END,),
        artifact="parrot-0123456789abcdef",
    )


Play = Callable[["Actor", Task], Coroutine[Any, Any, None]]


class Actor:
    """An instance on the bus: accepts what it is told to, and plays its part for each task."""

    def __init__(self, bus: Bus, instance: InstanceId, play: Play) -> None:
        self.bus = bus
        self.instance = instance
        self.attempt = 1
        self.play = play
        self.answer: Refused | None = None
        self.tasks: list[Task] = []
        self.ended: set[tuple[RequestId, int]] = set()
        self.cancelled: asyncio.Queue[Cancel] = asyncio.Queue()
        self.began = asyncio.Event()
        """It has a task."""
        self.played = asyncio.Event()
        """It has played its part for a task."""
        self._group: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def on_stage(self) -> AsyncGenerator["Actor"]:
        subjects = self.bus.subjects
        async with (
            asyncio.TaskGroup() as self._group,
            self.bus.listening(subjects.cancels, self._hear),
            self.bus.serving(subjects.run(self.instance), Task | FindTasks, self._asked, packed=True),
        ):
            await self.bus.connection.client.flush()
            yield self

    def _hear(self, payload: bytes, _subject: str) -> None:
        self.cancelled.put_nowait(msgspec.json.decode(payload, type=Cancel))

    async def _asked(self, message: Task | FindTasks) -> Accepted | Refused | TasksFound:
        if isinstance(message, Task):
            return self._offered(message)
        return TasksFound(attempts=tuple(each for each in message.attempts if each not in self.ended))

    def _offered(self, task: Task) -> Accepted | Refused:
        if self.answer is not None:
            return self.answer
        self.begin(task)
        return Accepted(instance=self.instance, node=NODE, attempt=self.attempt)

    def begin(self, task: Task) -> None:
        assert self._group is not None
        self.tasks.append(task)
        self.began.set()
        self._group.create_task(self._perform(task))

    async def _perform(self, task: Task) -> None:
        await self.play(self, task)
        self.played.set()

    async def send(self, task: Task, *chunks: Chunk) -> None:
        """A frame for each, as a slow engine does."""
        for chunk in chunks:
            await self.bus.send_raw(self.bus.subjects.out(task.api, task.request), _packed.encode([chunk]))

    async def start(self, task: Task) -> None:
        await self.send(task, Started(task.request, task.attempt, self.instance, NODE, self.attempt))

    async def tokens(self, task: Task, ids: list[int], offset: int = 0, index: int = 0) -> None:
        await self.send(task, Tokens(task.request, task.attempt, index, offset, pack_ids(ids)))

    async def end(self, task: Task, count: int, reason: FinishReason = "stop") -> None:
        usage = Usage(len(task.prompt) // 4, count)
        await self.send(
            task,
            SequenceEnded(task.request, task.attempt, 0, reason, count),
            Ended(task.request, task.attempt, usage, Timings()),
        )
        self.ended.add((task.request, task.attempt))


def says(text: str, reason: FinishReason = "stop") -> Play:
    """Answers `text`, a token a chunk."""

    async def play(actor: Actor, task: Task) -> None:
        ids = ids_of(text)
        await actor.start(task)
        for offset, token_id in enumerate(ids):
            await actor.tokens(task, [token_id], offset)
        await actor.end(task, len(ids), reason)

    return play


def stalls(text: str = "hel") -> Play:
    """Begins an answer and never goes on."""

    async def play(actor: Actor, task: Task) -> None:
        await actor.start(task)
        await actor.tokens(task, ids_of(text))

    return play


async def silent(actor: Actor, task: Task) -> None:
    """Accepts and says nothing at all."""


class Stage:
    """What tests do to the cluster, as its master and its workers would."""

    def __init__(self, bus: Bus, api: Api) -> None:
        self.bus = bus
        self.api = api
        self.http = httpx.AsyncClient(base_url=api.url, timeout=20)
        self.openai = AsyncOpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0, timeout=20)

    async def decide(self, decision: Decided) -> int:
        seq = await self.bus.log.decide(decision, 1, await self.bus.log.last_decision())
        return await self.seen(seq)

    async def seen(self, seq: int) -> int:
        await self.bus.view.until(lambda state: state.seq >= seq)
        return seq

    async def lead(self) -> None:
        await self.seen(await self.bus.log.record(joined(NODE)))
        await self.decide(LeaderElected(node=NODE, term=1))

    async def desire(self, model: ModelId = MODEL, *, described: bool = True) -> None:
        await self.decide(ModelDesired(spec=spec(model)))
        if described:
            await self.describe(model)

    async def describe(self, model: ModelId = MODEL, context: int = CONTEXT) -> None:
        await self.bus.artifacts.put(card().artifact, artifact())
        described = ModelDescribed(model=model, source=spec(model).source, card=card(context))
        await self.seen(await self.bus.log.record(described))

    async def place(self, name: str, status: RunnerStatus = "ready", model: ModelId = MODEL) -> InstanceId:
        instance = InstanceId(name)
        await self.decide(InstancePlaced(instance=instance, spec=spec(model), shards=(Shard(node=NODE),)))
        await self.report(instance, status)
        return instance

    async def report(
        self, instance: InstanceId, status: RunnerStatus, attempt: int = 1, **more: object
    ) -> None:
        fact = RunnerReported(instance=instance, node=NODE, attempt=attempt, status=status, **more)  # type: ignore[arg-type]
        await self.seen(await self.bus.log.record(fact))

    async def retry(self, instance: InstanceId, attempt: int) -> None:
        shards = (Shard(node=NODE),)
        await self.decide(InstanceRetried(instance=instance, attempt=attempt, shards=shards, why="told to"))

    async def delete(self, instance: InstanceId) -> None:
        await self.decide(InstanceDeleted(instance=instance, why="told to"))

    async def lose_node(self) -> None:
        await self.decide(NodeLost(node=NODE, incarnation="one", why="its lease ran out"))

    async def unload(self, model: ModelId = MODEL) -> None:
        await self.decide(ModelRemoved(model=model))

    @asynccontextmanager
    async def actor(self, play: Play, name: str = "i1") -> AsyncGenerator[Actor]:
        """A ready instance that plays."""
        instance = await self.place(name)
        async with Actor(self.bus, instance, play).on_stage() as actor:
            yield actor


def spec(model: ModelId = MODEL) -> ModelSpec:
    return ModelSpec(id=model, source=f"/models/{model}")


@asynccontextmanager
async def staged(bus: Bus, tracing: Tracing | None = None, /, **settings: object) -> AsyncGenerator[Stage]:
    """A served API on `bus`, with a leader and a described model, but no instance."""
    defaults: dict[str, object] = {
        "port": 0,
        "sweep_s": 0.02,
        "stop_grace_s": 1.0,
        "command_timeout_s": 0.5,
        "offer_timeout_s": 15.0,  # a busy machine: who is not heard in time is tried again, through a queue that nobody serves
    }
    api = Api(bus, NODE, ApiSettings(**(defaults | settings)), tracing)  # type: ignore[arg-type]
    api.bind()
    running = asyncio.create_task(api.run())
    serving = asyncio.create_task(api.serving.wait())
    await asyncio.wait((running, serving), return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    stage = Stage(bus, api)
    try:
        await stage.lead()
        await stage.desire()
        yield stage
    finally:
        await stage.http.aclose()
        await stage.openai.close()
        running.cancel()
        await asyncio.wait((running,))


@asynccontextmanager
async def api_beside(bus: Bus) -> AsyncGenerator[httpx.AsyncClient]:
    """A second API on the same cluster."""
    api = Api(bus, NodeId("n2"), ApiSettings(port=0))
    url = api.bind()
    running = asyncio.create_task(api.run())
    await api.serving.wait()
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        yield client
    running.cancel()
    await asyncio.wait((running,))


def chat(text: str = "hello", **more: object) -> dict[str, object]:
    body: dict[str, object] = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    return body | more


def events_of(body: str) -> list[str]:
    """The data of each event, and comments as they are."""
    apart = re.sub(r"(?m)^(: .*)\n", r"\1\n\n", body)
    blocks = [re.sub(r"\Aid: .*\n(?=data: )", "", block) for block in apart.split("\n\n") if block]
    return [block.removeprefix("data: ") for block in blocks]


def request_of(response: httpx.Response) -> RequestId:
    return RequestId(response.headers["x-request-id"])
