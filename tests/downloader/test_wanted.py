"""Which models a node needs, as a pure function of the state."""

from actors.downloader.wanted import Life, Wanted, covers, together, wanted
from schemas.files import earlier_id
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Instance, Shard
from schemas.model import ModelSpec
from schemas.state import Model, State

HERE, ME = NodeId("here"), ModelId("me")


def instance(
    name: str,
    seq: int,
    source: str = "/a",
    node: str = HERE,
    attempt: int = 1,
    layers: tuple[int, int] | None = None,
) -> Instance:
    spec = ModelSpec(id=ME, source=source)
    shards = (Shard(node=NodeId(node), layers=layers),)
    return Instance(seq=seq, id=InstanceId(name), spec=spec, shards=shards, attempt=attempt)


def lives(**attempts: int) -> frozenset[Life]:
    return frozenset((InstanceId(name), attempt) for name, attempt in attempts.items())


def state(*instances: Instance, desired: str = "") -> State:
    models = {ME: Model(seq=1, spec=ModelSpec(id=ME, source=desired))} if desired else {}
    return State(instances={one.id: one for one in instances}, models=models)


def test_what_is_placed_elsewhere_is_not_wanted() -> None:
    assert wanted(state(instance("i1", 2, node="there")), HERE) == {}


def test_all_lives_of_a_model_are_served_at_once() -> None:
    both = state(instance("i1", 2), instance("i2", 3, attempt=4))
    assert wanted(both, HERE) == {ME: Wanted("/a", lives(i1=1, i2=4))}


def test_the_source_that_is_desired_now_has_the_models_name_and_the_earlier_one_its_own() -> None:
    both = (instance("old", 9, "/a"), instance("new", 3, "/b"))
    assert wanted(state(*both, desired="/b"), HERE) == {
        ME: Wanted("/b", lives(new=1)),
        earlier_id(ME, "/a"): Wanted("/a", lives(old=1), earlier=True),
    }


def test_else_the_source_of_the_latest_instance_counts() -> None:
    both = (instance("old", 2, "/a"), instance("new", 3, "/b"))
    assert wanted(state(*both), HERE)[ME].source == "/b"
    assert wanted(state(*both, desired="/c"), HERE)[ME].source == "/b"


def test_the_layers_of_all_shards_are_needed_together() -> None:
    two = state(instance("i1", 2, layers=(0, 4)), instance("i2", 3, layers=(8, 12)))
    assert wanted(two, HERE)[ME].need == ((0, 4), (8, 12))
    assert wanted(state(instance("i1", 2, layers=(0, 4)), instance("i2", 3)), HERE)[ME].need is None


def test_a_draft_is_wanted_beside_its_model() -> None:
    spec = ModelSpec(id=ME, source="/a", draft="hf:o/small")
    one = Instance(seq=2, id=InstanceId("i1"), spec=spec, shards=(Shard(node=HERE),))
    assert wanted(state(one), HERE) == {
        ME: Wanted("/a", lives(i1=1)),
        ModelId("me (draft)"): Wanted("hf:o/small", lives(i1=1)),
    }


def test_runs_that_touch_are_one() -> None:
    assert together([(4, 8), (0, 4), (12, 14), (13, 20)]) == ((0, 8), (12, 20))


def test_what_is_here_covers_what_is_within_it() -> None:
    assert covers(None, ((0, 4),))
    assert covers(((0, 8),), ((2, 4),))
    assert not covers(((0, 8),), None)
    assert not covers(((0, 8),), ((6, 9),))
