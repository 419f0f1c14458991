"""Stop strings: never leaked, never late, wherever the text is cut."""

from hypothesis import given
from hypothesis import strategies as st

from api.text.stop import StopStrings

TEXT = st.text(alphabet="ab<|", max_size=24)
STOPS = st.lists(st.text(alphabet="ab<|", min_size=1, max_size=5), min_size=1, max_size=4)


def expected(text: str, stops: list[str]) -> tuple[str, bool]:
    """Character by character, as if each were a token."""
    for length in range(len(text) + 1):
        found = [length - len(stop) for stop in stops if text[:length].endswith(stop)]
        if found:
            return text[: min(found)], True
    return text, False


@given(text=TEXT, stops=STOPS, sizes=st.lists(st.integers(1, 4), max_size=24))
def test_any_cut_gives_the_same(text: str, stops: list[str], sizes: list[int]) -> None:
    gate, out, at = StopStrings(tuple(stops)), "", 0
    want, hit = expected(text, stops)
    for size in [*sizes, len(text)]:
        out += gate.add(text[at : at + size])
        at += size
        assert want.startswith(out), "nothing of a stop string is ever let out"
    assert (gate.hit is not None) == hit
    assert out + gate.end() == want


def test_a_prefix_is_withheld_and_then_let_go() -> None:
    gate = StopStrings(("STOP",))
    assert [gate.add("go ST"), gate.add("O"), gate.add("RM"), gate.end()] == ["go ", "", "STORM", ""]


def test_nothing_follows_a_hit() -> None:
    gate = StopStrings(("\n\n",))
    assert [gate.add("a\n"), gate.add("\nb"), gate.add("c"), gate.end()] == ["a", "", "", ""]
    assert gate.hit == "\n\n"
