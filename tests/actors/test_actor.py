"""Actors and their supervisor: dispatch that is checked when the class is made, lives that begin afresh."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec import Struct

from actors.actor import Actor, forever, handles
from actors.supervisor import GaveUp, Supervisor, reason_of
from bus.bus import Bus
from schemas.commands import Answer, Done, LoadModel, MasterCommand, RestartInstance, StopNode, UnloadModel
from schemas.ids import ModelId


def test_a_missing_handler_fails_when_the_class_is_defined() -> None:
    with pytest.raises(TypeError, match=r"Deaf: no handler for .*StopNode"):

        class Deaf(Actor):
            messages = StopNode


def test_a_handler_for_what_nobody_sends_fails_too() -> None:
    with pytest.raises(TypeError, match=r"no such message as .*StopNode"):

        class Keen(Actor):
            @handles(StopNode)
            async def stop(self, _: StopNode) -> None: ...


def test_one_handler_for_each_member_of_a_union() -> None:
    with pytest.raises(TypeError, match=r"no handler for .*(RestartInstance|LoadModel)"):

        class Half(Actor):
            messages = MasterCommand

            @handles(UnloadModel)
            async def unload(self, _: UnloadModel) -> None: ...


class Again(Struct, frozen=True):
    """A thought of Echo's own."""


class Echo(Actor):
    """Answers, fails on demand, and thinks for itself."""

    messages = UnloadModel | LoadModel | RestartInstance
    own_messages = Again

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, inbox="troupe.cmd.echo")
        self.thoughts = asyncio.Event()
        self.lived: list[str] = []

    async def setup(self) -> None:
        self.lived.append("setup")

    async def teardown(self) -> None:
        self.lived.append("teardown")

    @forever
    async def think(self) -> None:
        self.tell(Again())

    @handles(Again)
    async def again(self, _: Again) -> None:
        self.thoughts.set()

    @handles(UnloadModel)
    async def unload(self, _: UnloadModel) -> Done:
        return Done(seq=7)

    @handles(LoadModel)
    async def load(self, _: LoadModel) -> Done:
        raise ValueError("this one is too heavy")

    @handles(RestartInstance)
    async def restart(self, _: RestartInstance) -> None: ...


async def test_an_actor_answers_thinks_and_leaves(bus: Bus) -> None:
    echo = Echo(bus)
    life = asyncio.create_task(echo.run())
    await asyncio.wait_for(echo.thoughts.wait(), 5)
    await bus.log.bounds()  # its subscription has reached the server
    assert await bus.ask("troupe.cmd.echo", UnloadModel(model=ModelId("m")), Answer) == Done(seq=7)
    garbage = await bus.connection.request("troupe.cmd.echo", b"{", 5)
    assert b"bad_request" in garbage.data
    life.cancel()
    await asyncio.wait([life])
    assert echo.lived == ["setup", "teardown"]


async def test_who_asks_a_failing_actor_is_told(bus: Bus) -> None:
    echo = Echo(bus)
    life = asyncio.create_task(echo.run())
    await asyncio.wait_for(echo.thoughts.wait(), 5)
    await bus.log.bounds()
    message = b'{"type":"LoadModel","spec":{"id":"m","source":"/m"}}'
    refused = await bus.connection.request("troupe.cmd.echo", message, 5)
    assert b"unavailable" in refused.data
    with pytest.raises(ExceptionGroup) as failure:
        await life
    assert reason_of(failure.value) == "this one is too heavy"
    assert echo.lived == ["setup", "teardown"]


async def test_a_supervisor_starts_afresh_and_gives_up_in_the_end() -> None:
    lives: list[int] = []

    def failing(times: int) -> Callable[[], asyncio.Future[None]]:
        async def life() -> None:
            lives.append(len(lives))
            if len(lives) <= times:
                raise OSError("lost")

        return lambda: asyncio.ensure_future(life())

    await Supervisor("mended").run(failing(2))
    assert lives == [0, 1, 2]
    lives.clear()
    with pytest.raises(GaveUp, match="hopeless failed 3 times within 60 s, at last with: lost"):
        await Supervisor("hopeless", most_failures=2).run(failing(100))
