"""What a model thinks aloud is told from what it says."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.reading.events import AnswerEvent, Said, Thought
from api.reading.reasoning import FAMILIES, Thinking, ThoughtReader, opens, thinks

THINK = FAMILIES[0]


def read(pieces: Iterable[str], *, inside: bool = False, thinking: Thinking = THINK) -> tuple[str, str]:
    """All the thoughts, all the words; a thought after a word would be wrong."""
    reader = ThoughtReader(thinking, inside=inside)
    events: list[AnswerEvent] = [*(event for piece in pieces for event in reader.add(piece)), *reader.end()]
    kinds = [type(event) for event in events]
    assert kinds == sorted(kinds, key=[Thought, Said].index)
    thoughts = "".join(event.text for event in events if isinstance(event, Thought))
    return thoughts, "".join(event.text for event in events if isinstance(event, Said))


@pytest.mark.parametrize(
    ("text", "inside", "thought", "words"),
    [
        ("<think>\nhm, yes\n</think>\n\nFine. ", False, "hm, yes", "Fine. "),
        ("\n<think>hm</think>ok", False, "hm", "ok"),
        ("hm\n</think>\n\nok", True, "hm", "ok"),
        ("<think>\n\n</think>\n\nok", False, "", "ok"),
        ("</think>ok", True, "", "ok"),
        ("<think>a < b </thin k> c", False, "a < b </thin k> c", ""),
        ("<think>cut </thi", False, "cut </thi", ""),
        ("just words <think>no</think>", False, "", "just words <think>no</think>"),
        (" <thin", False, "", " <thin"),
        ("<thick> <think>", False, "", "<thick> <think>"),
        ("ok </think> ok", False, "", "ok </think> ok"),
        ("<think>a</think>b</think>c", False, "a", "b</think>c"),
        ("<think>a</think> \n", False, "a", ""),
        (" \n", False, "", " \n"),
        ("", True, "", ""),
    ],
)
def test_thoughts_and_words(text: str, inside: bool, thought: str, words: str) -> None:
    assert read([text], inside=inside) == (thought, words)
    assert read(text, inside=inside) == (thought, words)


BITS = ["<think>", "</think>", "<", "<thi", "</thi", "nk>", ">", " ", "\n", "word", "é", "/"]


@given(
    bits=st.lists(st.sampled_from(BITS), max_size=12),
    places=st.lists(st.integers(0, 100), max_size=10),
    inside=st.booleans(),
)
def test_how_the_text_is_cut_makes_no_difference(bits: list[str], places: list[int], inside: bool) -> None:
    text = "".join(bits)
    at = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    whole = read([text], inside=inside)
    assert read([text[start:end] for start, end in pairwise(at)], inside=inside) == whole
    assert read(text, inside=inside) == whole


@given(text=st.text().filter(lambda text: not text.lstrip().startswith("<think>")))
def test_words_alone_are_left_as_they_are(text: str) -> None:
    assert read(text) == ("", text)


def test_words_and_thoughts_come_at_once() -> None:
    reader = ThoughtReader(THINK)
    assert reader.add("<think>a") == [Thought("a")]
    assert reader.add(" b") == [Thought(" b")]
    assert reader.add("</think> c") == [Said("c")]
    assert reader.add(" ") == [Said(" ")]


def test_the_template_tells_the_marks() -> None:
    assert thinks("{{ '<think>\\n' }}") == THINK
    assert thinks("content.split('</think>')[-1]") == THINK
    assert thinks("[THINK]") == Thinking("[THINK]", "[/THINK]")
    assert thinks("{{ messages }}") is None
    assert read("[THINK]a[/THINK]b", thinking=Thinking("[THINK]", "[/THINK]")) == ("a", "b")


def test_a_prompt_may_have_begun_the_thought() -> None:
    assert opens(THINK, "<|im_start|>assistant\n<think>\n")
    assert not opens(THINK, "<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not opens(THINK, "<think>what?<|im_end|>\n<|im_start|>assistant\n")
