"""Names become tokens injectively, and every subject is one that NATS accepts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.subjects import Subjects, token, untoken
from schemas.events import ModelRemoved
from schemas.ids import ApiId, InstanceId, ModelId, RequestId

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(names)
def test_a_token_is_one_token_and_gives_the_name_back(name: str) -> None:
    assert re.fullmatch(r"[-_=A-Za-z0-9]+", token(name))
    assert untoken(token(name)) == name


@given(names, names)
def test_two_names_never_share_a_token(one: str, other: str) -> None:
    assert (token(one) == token(other)) == (one == other)


def test_tokens_read_well() -> None:
    assert token("mlx-community/Qwen3-0.6B_4bit") == "mlx-community=2FQwen3-0=2E6B_4bit"


@pytest.mark.parametrize("cluster", ["", "a.b", "a b", "*", "x" * 33, "ä"])
def test_a_cluster_name_that_no_subject_can_hold_is_refused(cluster: str) -> None:
    with pytest.raises(ValueError, match="1 to 32 letters"):
        Subjects(cluster)


def test_the_names_that_others_rely_on() -> None:
    subjects = Subjects("troupe")
    model = ModelId("org/m.1")
    assert subjects.event(ModelRemoved(model=model)) == "troupe.evt.decided.model.org=2Fm=2E1"
    assert subjects.task(model, "batch") == "troupe.task.org=2Fm=2E1.batch"
    assert subjects.out(ApiId("a1"), RequestId("r1")) == "troupe.out.a1.r1"
    assert subjects.prefixes(InstanceId("i.1")) == "troupe.prefix.i=2E1"
    assert subjects.all_prefixes == "troupe.prefix.*"
    assert subjects.master == "troupe.cmd.master"
