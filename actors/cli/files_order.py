"""Orders to the downloaders of nodes, and whom and what they are about."""

from collections.abc import Iterable

from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_random

from actors.cli.failure import USAGE, CommandFailed
from actors.cli.rows import FileRow, name_of
from actors.model_wish import UnknownModel, name_and_source
from bus.bus import Bus
from bus.errors import NoAnswer, NobodyThere
from schemas.commands import Done, FilesAnswer, FilesFound, PullModel, RemoveModel
from schemas.ids import ModelId, NodeId
from schemas.refused import Refused
from schemas.state import State

DEADLINE_S = 10.0


def source_of(state: State, text: str) -> tuple[ModelId, str]:
    """A model that the cluster knows by this name, else what the name means anywhere."""
    model = ModelId(text)
    if model in state.models:
        return model, state.models[model].spec.source
    for download in state.downloads.values():
        if download.model == model:
            return model, download.source
    try:
        called, source = name_and_source(text)
    except UnknownModel as error:
        raise CommandFailed(str(error), USAGE) from error
    return ModelId(called), source


async def ordered(bus: Bus, node: NodeId, order: PullModel | RemoveModel) -> int:
    """The sequence of the fact that came of it; CommandFailed when the node does not do it."""
    name = name_of(bus.view.state, node)
    tries = AsyncRetrying(
        retry=retry_if_exception_type((NobodyThere, NoAnswer)),
        wait=wait_random(0.05, 0.25),
        stop=stop_after_delay(DEADLINE_S),
    )
    try:
        answer: Done | FilesFound | Refused = await tries(
            bus.ask, bus.subjects.files(node), order, FilesAnswer, DEADLINE_S
        )
    except RetryError as failure:
        raise CommandFailed(f"{name} does not answer; `actors nodes` says whether it is there") from failure
    if isinstance(answer, Refused):
        raise CommandFailed(f"{name}: {answer.reason}")
    return answer.seq if isinstance(answer, Done) else 0


def node_names(rows: Iterable[FileRow]) -> str:
    return ", ".join(row.name for row in rows)
