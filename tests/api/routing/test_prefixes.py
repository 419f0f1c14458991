"""The index of kept prefixes: digests chain, messages are numbered, a gap is no lie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.routing.prefixes import EXPECT_S, EXPECTED, PrefixIndex
from schemas.ids import InstanceId
from schemas.prefix import BLOCK, MOST_DIGESTS, Digest, Prefixes, block_digests, join
from schemas.task import pack_ids

ONE, TWO = InstanceId("one"), InstanceId("two")


def digests(ids: list[int]) -> list[Digest]:
    return list(block_digests(pack_ids(ids)))


PROMPT = digests(list(range(10 * BLOCK)))


def whole(number: int, row: list[bytes], attempt: int = 1) -> Prefixes:
    return Prefixes(ONE, attempt, number, True, join(row))


@given(st.lists(st.integers(0, 2**32 - 1), max_size=200), st.lists(st.integers(0, 2**32 - 1), max_size=200))
def test_equal_digests_are_equal_beginnings(one: list[int], two: list[int]) -> None:
    shared = 0
    for first, second in zip(one, two, strict=False):
        if first != second:
            break
        shared += 1
    blocks = shared // BLOCK
    ours, theirs = digests(one), digests(two)
    assert ours[:blocks] == theirs[:blocks]
    assert set(ours[blocks:]).isdisjoint(theirs[blocks:])
    assert len(ours) == len(one) // BLOCK


def test_what_was_announced_is_found_from_its_beginning_on() -> None:
    index = PrefixIndex()
    index.hear(whole(1, PROMPT[:4]))
    assert index.cached_tokens(ONE, PROMPT) == 4 * BLOCK
    assert index.cached_tokens(ONE, PROMPT[1:]) == 3 * BLOCK
    assert index.cached_tokens(ONE, digests([7] * 100)) == 0
    assert index.cached_tokens(TWO, PROMPT) == 0


def test_changes_follow_each_other() -> None:
    index = PrefixIndex()
    index.hear(whole(1, PROMPT[:2]))
    index.hear(Prefixes(ONE, 1, 2, False, join(PROMPT[2:6])))
    assert index.cached_tokens(ONE, PROMPT) == 6 * BLOCK
    index.hear(Prefixes(ONE, 1, 3, False, b"", join(PROMPT[3:6])))
    assert index.cached_tokens(ONE, PROMPT) == 3 * BLOCK


def test_a_repeated_message_changes_nothing() -> None:
    index = PrefixIndex()
    index.hear(whole(1, PROMPT[:2]))
    index.hear(Prefixes(ONE, 1, 2, False, join(PROMPT[2:3])))
    index.hear(Prefixes(ONE, 1, 2, False, b"", join(PROMPT[:1])))
    assert index.cached_tokens(ONE, PROMPT) == 3 * BLOCK


def test_a_gap_makes_it_unknown_until_all_is_told_again() -> None:
    index = PrefixIndex()
    index.hear(whole(1, PROMPT[:2]))
    index.hear(Prefixes(ONE, 1, 3, False, join(PROMPT[2:3])))
    assert index.cached_tokens(ONE, PROMPT) == 0
    index.hear(Prefixes(ONE, 1, 4, False, join(PROMPT[3:4])))
    assert index.cached_tokens(ONE, PROMPT) == 0
    index.hear(whole(5, PROMPT[:4]))
    assert index.cached_tokens(ONE, PROMPT) == 4 * BLOCK


def test_a_new_life_keeps_nothing_of_the_old_one() -> None:
    index = PrefixIndex()
    index.hear(whole(1, PROMPT[:2]))
    index.expect(ONE, PROMPT)
    index.hear(whole(1, [], attempt=2))
    assert index.cached_tokens(ONE, PROMPT) == 0


def test_siblings_of_a_burst_follow_the_first() -> None:
    index = PrefixIndex()
    index.expect(ONE, PROMPT)
    assert index.cached_tokens(ONE, PROMPT) == 10 * BLOCK
    index.hear(whole(1, PROMPT[:2]))
    assert index.cached_tokens(ONE, PROMPT) == 10 * BLOCK


def test_what_is_expected_is_bounded() -> None:
    index = PrefixIndex()
    index.expect(ONE, PROMPT)
    index.expect(ONE, [bytes([0, *number.to_bytes(7)]) for number in range(EXPECTED)])
    assert index.cached_tokens(ONE, PROMPT) == 0


def test_those_that_are_gone_are_forgotten() -> None:
    index = PrefixIndex()
    index.expect(ONE, PROMPT)
    index.expect(TWO, PROMPT)
    index.forget_all_but([TWO])
    assert (index.cached_tokens(ONE, PROMPT), index.cached_tokens(TWO, PROMPT)) == (0, 10 * BLOCK)


def test_an_instance_that_is_unknown_is_still_expected_to_keep_what_was_sent() -> None:
    index = PrefixIndex()
    index.expect(ONE, PROMPT[:3])
    index.hear(Prefixes(ONE, 1, 7, False, join(PROMPT)))
    assert index.cached_tokens(ONE, PROMPT) == 3 * BLOCK
    index.hear(whole(8, PROMPT[:6]))
    assert index.cached_tokens(ONE, PROMPT) == 6 * BLOCK


def test_what_is_let_go_is_not_expected_any_more() -> None:
    index = PrefixIndex()
    index.hear(whole(1, []))
    index.expect(ONE, PROMPT)
    index.hear(Prefixes(ONE, 1, 2, False, join(PROMPT)))
    index.hear(Prefixes(ONE, 1, 3, False, b"", join(PROMPT[4:])))
    assert index.cached_tokens(ONE, PROMPT) == 4 * BLOCK


def test_what_was_not_taken_is_not_expected() -> None:
    index = PrefixIndex()
    index.expect(ONE, PROMPT[:3])
    new = index.expect(ONE, PROMPT)
    index.unexpect(ONE, new)
    assert index.cached_tokens(ONE, PROMPT) == 3 * BLOCK


def test_who_never_announces_what_was_expected_keeps_none() -> None:
    now = 0.0
    index = PrefixIndex(lambda: now)
    index.expect(ONE, PROMPT)
    now = EXPECT_S / 2
    assert index.cached_tokens(ONE, PROMPT) == 10 * BLOCK
    index.expect(ONE, PROMPT[:2])
    now = EXPECT_S + 1
    assert index.cached_tokens(ONE, PROMPT) == 2 * BLOCK


def test_an_earlier_life_says_nothing_any_more() -> None:
    index = PrefixIndex()
    index.hear(whole(1, PROMPT[:2], attempt=2))
    index.hear(whole(9, PROMPT, attempt=1))
    index.hear(Prefixes(ONE, 1, 10, False, join(PROMPT)))
    assert index.cached_tokens(ONE, PROMPT) == 2 * BLOCK


def test_more_than_anybody_may_announce_is_unknown() -> None:
    index = PrefixIndex()
    index.hear(whole(1, PROMPT))
    index.hear(Prefixes(ONE, 1, 2, False, b"".join(at.to_bytes(8) for at in range(MOST_DIGESTS))))
    assert index.cached_tokens(ONE, PROMPT) == 0


@pytest.mark.parametrize("news", [Prefixes(ONE, 1, 1, True, b"cut"), Prefixes(ONE, 1, 1, False, b"", b"c")])
def test_digests_that_are_cut_change_nothing(news: Prefixes) -> None:
    index = PrefixIndex()
    index.hear(whole(0, PROMPT))
    with pytest.raises(ValueError, match="no whole digests"):
        index.hear(news)
    assert index.cached_tokens(ONE, PROMPT) == 10 * BLOCK
