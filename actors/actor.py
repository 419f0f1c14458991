"""What all actors are: one inbox, one handler for each kind of message, loops beside it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar, cast, get_args

import structlog
from msgspec import Struct

from bus.bus import Bus
from schemas.refused import Refused

Handler = Callable[[Any, Any], Awaitable[Struct | None]]
Loop = Callable[[Any], Awaitable[None]]
F = TypeVar("F", bound=Callable[..., Any])

INBOX_SIZE = 1000


def handles(*kinds: type[Struct]) -> Callable[[F], F]:
    """Mark a method as the handler of messages of these types."""

    def mark(method: F) -> F:
        cast("Any", method).handled = kinds
        return method

    return mark


def forever(method: F) -> F:
    """Mark a method as a loop that runs beside the inbox for as long as the actor lives."""
    cast("Any", method).is_loop = True
    return method


class Actor:
    """A life in three lines: `setup`, then inbox and loops, then `teardown`.

    Messages come from the subject `inbox`, where one is given, and from the actor itself (`tell`); they are
    handled one after the other. An exception ends the actor; its supervisor starts a new one.
    """

    messages: ClassVar[Any] = None
    """The union of the messages that come over the bus; each has exactly one handler."""
    own_messages: ClassVar[Any] = None
    """Likewise, of those that only the actor itself sends (`tell`)."""
    _handlers: ClassVar[dict[type, Handler]] = {}
    _loops: ClassVar[list[Loop]] = []

    def __init_subclass__(cls) -> None:
        members = [getattr(cls, name) for name in dir(cls)]
        cls._handlers = {kind: member for member in members for kind in getattr(member, "handled", ())}
        cls._loops = [member for member in members if hasattr(member, "is_loop")]
        expected = _members(cls.messages) | _members(cls.own_messages)
        missing, extra = expected - set(cls._handlers), set(cls._handlers) - expected
        if missing or extra:
            raise TypeError(
                f"{cls.__name__}: no handler for {missing or '{}'}, no such message as {extra or '{}'}"
            )

    def __init__(self, bus: Bus, inbox: str = "") -> None:
        self.bus = bus
        self._inbox = inbox
        self._mail: asyncio.Queue[tuple[Struct, asyncio.Future[Struct | None] | None]] = asyncio.Queue(
            INBOX_SIZE
        )
        self.logger = structlog.get_logger().bind(actor=type(self).__name__.lower(), node=bus.node)

    async def setup(self) -> None:
        """Comes before the first message."""

    async def teardown(self) -> None:
        """Comes last, also when the actor failed or was stopped."""

    async def run(self) -> None:
        """Live until cancelled or failed."""
        try:
            await self.setup()
            async with asyncio.TaskGroup() as tasks:
                for loop in self._loops:
                    tasks.create_task(cast("Any", loop)(self), name=f"{type(self).__name__}.{loop.__name__}")
                tasks.create_task(self._work(), name=f"{type(self).__name__}.inbox")
                if self._inbox:
                    tasks.create_task(self._receive(), name=f"{type(self).__name__}.receive")
        finally:
            await self.teardown()

    def tell(self, message: Struct) -> bool:
        """Put a message into this actor's own inbox; False: it is full, and drops it (a later one will do the same)."""
        if self._mail.full():
            return False
        self._mail.put_nowait((message, None))
        return True

    async def _receive(self) -> None:
        async with self.bus.serving(self._inbox, self.messages, self._accept):
            await asyncio.Event().wait()

    async def _accept(self, message: Struct) -> Struct:
        if self._mail.full():
            return Refused("busy", f"{type(self).__name__} has {INBOX_SIZE} messages waiting; try again")
        answer: asyncio.Future[Struct | None] = asyncio.get_running_loop().create_future()
        self._mail.put_nowait((message, answer))
        return await answer or Refused("bad_request", f"{type(message).__name__} has no answer")

    async def _work(self) -> None:
        while True:
            message, answer = await self._mail.get()
            try:
                reply = await self._handlers[type(message)](self, message)
            except BaseException:
                if answer is not None and not answer.done():
                    answer.set_result(
                        Refused("unavailable", f"{type(self).__name__} stopped while it worked on this")
                    )
                raise
            if answer is not None and not answer.done():
                answer.set_result(reply)


def _members(union: Any) -> set[type]:
    """The types of a union; a single type is one, None is none."""
    return set(get_args(union) or ([union] if union else []))
