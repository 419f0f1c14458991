"""Work for an API actor that is gone ends; that of one which listens goes on."""

import asyncio

from actors.runner.open_tasks import OpenTask, OpenTasks
from actors.runner.owners import Owners
from bus.bus import Bus
from schemas.ids import ApiId
from tests.engine.running import a_task


async def test_the_tasks_of_an_owner_that_is_gone_are_told(bus: Bus) -> None:
    tasks = OpenTasks()
    gone: asyncio.Queue[OpenTask] = asyncio.Queue()
    for api in ("lives", "dead"):
        tasks.take(a_task(request=f"of-{api}", api=api))
    async with bus.listening(bus.subjects.owner(ApiId("lives")), lambda *_: None):
        owners = asyncio.create_task(Owners(bus, tasks, gone.put_nowait, ask_s=0.02, patience_s=0.1).run())
        async with asyncio.timeout(30):
            told = [(await gone.get()).task.request for _ in range(3)]
        assert set(told) == {"of-dead"}
        tasks.close(told[0], 1)
    async with asyncio.timeout(30):
        while (await gone.get()).task.request != "of-lives":
            pass
    owners.cancel()
    await asyncio.wait((owners,))
