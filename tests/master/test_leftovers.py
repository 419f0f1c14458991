"""What is forgotten, and what is not: nodes that are gone for long, cards and files of models that nobody wishes for."""

from actors.duration import seconds
from actors.master.decisions import decide
from actors.master.leftovers import FORGET_MODEL_S, FORGET_NODE_S, Leftovers
from schemas.commands import ForgetNode
from schemas.events import (
    Decided,
    DownloadReported,
    DownloadStatus,
    Forgotten,
    InstancePlaced,
    LinksMeasured,
    ModelDescribed,
    ModelDesired,
    ModelRemoved,
    NodeLeft,
    Recorded,
    Seen,
)
from schemas.files import earlier_id
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Shard
from schemas.model import ModelSpec
from schemas.refused import Refused
from schemas.revision import marked
from schemas.state import State, apply
from tests.facts import joined
from tests.schemas.histories import card

N1, N2, MODEL = NodeId("n1"), NodeId("n2"), ModelId("m")
HUB = "hf:org/m"


def after(state: State, *events: Decided | Seen, time: float = 0.0) -> State:
    for event in events:
        state = apply(state, Recorded(seq=state.seq + 1, time=time, event=event))  # type: ignore[arg-type]
    return state


def file(
    node: NodeId, source: str = HUB, status: DownloadStatus = "complete", done: int = 7
) -> DownloadReported:
    return DownloadReported(node=node, model=MODEL, source=source, status=status, bytes_done=done)


def left(state: State, time: float = 0.0) -> State:
    return after(state, NodeLeft(node=N1, incarnation="one"), time=time)


BOTH = after(State(), joined("n1"), joined("n2"), LinksMeasured(node=N1, links=()), file(N1), file(N2))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_node_that_is_gone_for_long_is_forgotten_with_all_that_it_said() -> None:
    state = left(BOTH, time=1000.0)
    assert Leftovers().ripe(state, 1000.0 + FORGET_NODE_S - 1) == []
    state = after(state, *Leftovers().ripe(state, 1000.0 + FORGET_NODE_S))
    assert state.nodes.keys() == {N2} and not state.links and state.downloads.keys() == {"n2/m"}
    assert Leftovers().ripe(state, 1e12) == []


def test_the_leader_is_told_when_a_node_is_gone_for_long() -> None:
    state = left(BOTH, time=1000.0)
    assert Leftovers(60.0).ripe(state, 1059.0) == []
    assert N1 in [event.id for event in Leftovers(60.0).ripe(state, 1060.0) if event.kind == "node"]
    assert Leftovers(seconds("never")).ripe(state, 1e12) == []


def test_a_node_that_lives_is_not_forgotten_whenever_it_joined() -> None:
    assert Leftovers().ripe(BOTH, 1e12) == []


def test_a_bus_that_has_told_no_time_yet_makes_nobody_old() -> None:
    assert Leftovers().ripe(left(BOTH, time=1000.0), 0.0) == []


def test_forget_is_refused_while_a_node_lives_or_is_needed() -> None:
    assert isinstance(decide(BOTH, ForgetNode(node=NodeId("n3"))), Refused)
    alive = decide(BOTH, ForgetNode(node=N1))
    assert isinstance(alive, Refused) and "alive" in alive.reason
    spec = ModelSpec(id=MODEL, source=HUB, node=N1)
    placed = InstancePlaced(instance=InstanceId("i"), spec=spec, shards=(Shard(node=N1),))
    carrying = decide(left(after(BOTH, placed)), ForgetNode(node=N1))
    assert isinstance(carrying, Refused) and "still carries m" in carrying.reason
    events = decide(left(BOTH), ForgetNode(node=N1))
    assert not isinstance(events, Refused)
    assert after(left(BOTH), *events).nodes.keys() == {N2}


def test_who_comes_back_meanwhile_is_not_forgotten() -> None:
    gone = left(BOTH)
    events = decide(gone, ForgetNode(node=N1))
    assert not isinstance(events, Refused)
    state = after(after(gone, joined("n1", "two")), *events)
    assert state.nodes[N1].alive


def test_what_is_known_of_a_model_is_forgotten_an_hour_after_nobody_wishes_for_it() -> None:
    clock = Clock()
    leftovers = Leftovers(clock=clock)
    spec = ModelSpec(id=MODEL, source="/models/m")
    state = after(State(), joined("n1"), file(N1, "/models/m"), ModelDesired(spec=spec))
    state = after(state, ModelDescribed(model=MODEL, source="/models/m", card=card))
    assert leftovers.ripe(state, 0.0) == []
    clock.now = 10 * FORGET_MODEL_S
    state = after(state, ModelRemoved(model=MODEL))
    assert leftovers.ripe(state, 0.0) == []
    clock.now += FORGET_MODEL_S
    (download,) = leftovers.ripe(state, 0.0)
    state = after(state, download)
    assert not state.downloads and state.cards
    leftovers.ripe(state, 0.0)
    clock.now += FORGET_MODEL_S
    state = after(state, *leftovers.ripe(state, 0.0))
    assert not state.cards


def test_wishing_again_begins_the_hour_anew() -> None:
    clock = Clock()
    leftovers = Leftovers(clock=clock)
    unwished = after(State(), joined("n1"), ModelDescribed(model=MODEL, source=HUB, card=card))
    leftovers.ripe(unwished, 0.0)
    leftovers.ripe(after(unwished, ModelDesired(spec=ModelSpec(id=MODEL, source=HUB))), 0.0)
    clock.now = FORGET_MODEL_S
    assert leftovers.ripe(unwished, 0.0) == []


def test_files_that_a_node_keeps_stay_known() -> None:
    """`actors models` shows them, `actors rm` deletes them, other nodes fetch them."""
    clock = Clock()
    leftovers = Leftovers(clock=clock)
    state = after(State(), joined("n1"), ModelDescribed(model=MODEL, source=HUB, card=card), file(N1))
    state = after(state, joined("n2"), file(N2, status="failed", done=0))
    leftovers.ripe(state, 0.0)
    clock.now = 10 * FORGET_MODEL_S
    state = after(state, *leftovers.ripe(state, 0.0))
    assert state.downloads.keys() == {"n1/m"} and state.cards


def test_a_draft_is_needed_by_its_model() -> None:
    clock = Clock()
    leftovers = Leftovers(clock=clock)
    spec = ModelSpec(id=MODEL, source=HUB, draft="/models/draft")
    state = after(
        State(),
        ModelDesired(spec=spec),
        ModelDescribed(model=spec.draft_id, source="/models/draft", card=card),
    )
    leftovers.ripe(state, 0.0)
    clock.now = FORGET_MODEL_S
    assert leftovers.ripe(state, 0.0) == []


def test_the_files_of_a_version_that_still_serves_are_needed() -> None:
    """It is used in place, and another version that is wished for does not come to be ready."""
    clock = Clock()
    leftovers = Leftovers(clock=clock)
    older = ModelSpec(id=MODEL, source="/models/m")
    said = DownloadReported(
        node=N1, model=earlier_id(MODEL, older.source), source=older.source, status="complete"
    )
    placed = InstancePlaced(instance=InstanceId("i"), spec=older, shards=(Shard(node=N1),))
    state = after(State(), joined("n1"), placed, ModelDesired(spec=ModelSpec(id=MODEL, source=HUB)), said)
    leftovers.ripe(state, 0.0)
    clock.now = FORGET_MODEL_S
    assert leftovers.ripe(state, 0.0) == []


def test_a_folder_that_was_pulled_is_what_load_means_however_long_that_waits() -> None:
    """The one that was pulled last, and as long as its model is wished for."""
    clock = Clock()
    leftovers = Leftovers(clock=clock)
    spec = ModelSpec(id=ModelId("mine"), source="/models/m")
    pulls = [
        DownloadReported(
            node=N1,
            model=ModelId(marked(MODEL, revision)),
            source=marked(spec.source, revision),
            status="complete",
            pulled=True,
        )
        for revision in ("0123456789ab", "cdef01234567")
    ]
    state = after(State(), joined("n1"), ModelDesired(spec=spec), *pulls)
    leftovers.ripe(state, 0.0)
    clock.now = FORGET_MODEL_S
    state = after(state, *leftovers.ripe(state, 0.0))
    assert [each.source for each in state.downloads.values()] == [pulls[1].source]
    state = after(state, ModelRemoved(model=spec.id))
    leftovers.ripe(state, 0.0)
    clock.now += FORGET_MODEL_S
    assert not after(state, *leftovers.ripe(state, 0.0)).downloads


def test_what_was_said_since_is_not_forgotten() -> None:
    state = after(State(), file(N1), file(N1, done=8))
    old = Forgotten(kind="download", id="n1/m", as_of=1)
    assert after(state, old).downloads == state.downloads
