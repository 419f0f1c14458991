"""How many requests wait in the work queue, by model and lane."""

from typing import cast, get_args

import msgspec
from msgspec import Struct

from bus.connection import Connection
from bus.errors import BusAway
from bus.streams import Streams
from bus.subjects import Subjects, untoken
from schemas.ids import ModelId
from schemas.task import Lane

ANSWER_S = 2.0
"""A bus that does not tell within this time is away; seconds."""
Depths = dict[tuple[ModelId, Lane], int]


class _State(Struct, frozen=True):
    subjects: dict[str, int] | None = None


class _Info(Struct, frozen=True):
    state: _State = _State()


async def backlog(connection: Connection, cluster: str) -> Depths:
    """What the whole cluster has waiting now; raises `BusError`."""
    subject = f"{connection.api}.STREAM.INFO.{Streams(cluster).tasks}"
    question: dict[str, str] = {"subjects_filter": Subjects(cluster).tasks}
    reply = await connection.request(subject, msgspec.json.encode(question), ANSWER_S)
    try:
        info = msgspec.json.decode(reply.data, type=_Info)
    except msgspec.MsgspecError as unreadable:
        raise BusAway(f"the bus does not tell what waits: {unreadable}") from unreadable
    return dict(_waiting(subject, count) for subject, count in (info.state.subjects or {}).items())


def _waiting(subject: str, count: int) -> tuple[tuple[ModelId, Lane], int]:
    model, lane = subject.split(".")[-2:]
    assert lane in get_args(Lane), "the work queue's subjects end in a lane"
    return (ModelId(untoken(model)), cast("Lane", lane)), count
