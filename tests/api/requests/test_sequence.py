"""Tokens of one sequence, as they come over the bus: late, repeated, overlapping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.requests.sequence import Fresh, Sequence
from schemas.chunks import TokenLogprobs, Tokens
from schemas.ids import RequestId
from schemas.task import Made, pack_ids

REQUEST = RequestId("r")
IDS = list(range(100, 140))


def chunk(begin: int, end: int) -> Tokens:
    logprobs = tuple(TokenLogprobs(-float(token)) for token in IDS[begin:end])
    return Tokens(REQUEST, 1, 0, begin, pack_ids(IDS[begin:end]), logprobs)


spans = st.tuples(st.integers(0, len(IDS)), st.integers(0, len(IDS))).map(sorted)


@given(st.lists(spans, max_size=60), st.data())
def test_each_token_comes_out_once_and_in_order(cuts: list[list[int]], data: st.DataObject) -> None:
    sequence, out = Sequence(0), list[int]()
    for begin, end in [*cuts, [0, len(IDS)]]:
        before = sequence.received
        assert (sequence.take(chunk(begin, end)) >= 0) == (begin <= before), "only a gap is refused"
        assert sequence.received == (before if begin > before else max(before, end))
        if data.draw(st.booleans()) and (fresh := sequence.fresh()) is not None:
            assert [-each.logprob for each in fresh.logprobs] == fresh.ids
            out += fresh.ids
    rest = sequence.fresh()
    assert out + (rest.ids if rest else []) == IDS
    assert sequence.made == Made(pack_ids(IDS))


def test_the_reason_is_told_once_with_the_last_tokens_or_alone() -> None:
    sequence = Sequence(0)
    sequence.take(chunk(0, 2))
    sequence.reason = "length"
    fresh = sequence.fresh()
    assert fresh is not None and (fresh.ids, fresh.reason) == (IDS[:2], "length")
    assert sequence.fresh() is None


def test_a_stopped_sequence_hands_out_nothing_more_and_is_complete_for_the_next_attempt() -> None:
    sequence = Sequence(3)
    sequence.take(chunk(0, 2))
    assert sequence.fresh() == Fresh(3, IDS[:2], list(chunk(0, 2).logprobs or ()), None)
    sequence.stop()
    sequence.take(chunk(2, 4))
    assert sequence.fresh() is None
    assert sequence.over and sequence.made == Made(pack_ids(IDS[:4]), "stop")


@pytest.mark.parametrize(
    "senseless",
    [Tokens(REQUEST, 1, 0, 0, b"odd"), Tokens(REQUEST, 1, 0, 0, pack_ids([1, 2]), (TokenLogprobs(-1.0),))],
)
def test_what_makes_no_sense_is_refused(senseless: Tokens) -> None:
    sequence = Sequence(0)
    with pytest.raises(ValueError, match="tokens of sequence 0"):
        sequence.take(senseless)
    assert sequence.received == 0
