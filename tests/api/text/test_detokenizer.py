"""Increments joined are the whole decode, for any ids, cut anywhere."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from api.text.detokenizer import (
    ByteLevelDetokenizer,
    FallbackDetokenizer,
    MetaspaceDetokenizer,
    WholeDetokenizer,
    byte_alphabet,
    detokenizers,
)
from tests.api import tokenizers_of

FAMILIES = {
    "byte_level": (tokenizers_of.byte_level(), ByteLevelDetokenizer),
    "llama": (tokenizers_of.byte_fallback(strip=True), FallbackDetokenizer),
    "gemma": (tokenizers_of.byte_fallback(strip=False), FallbackDetokenizer),
    "metaspace": (tokenizers_of.metaspace("always"), MetaspaceDetokenizer),
    "metaspace_first": (tokenizers_of.metaspace("first"), MetaspaceDetokenizer),
    "metaspace_never": (tokenizers_of.metaspace("never"), MetaspaceDetokenizer),
    "wordpiece": (tokenizers_of.wordpiece(), WholeDetokenizer),
}


def in_pieces(tokenizer: Tokenizer, ids: list[int], sizes: list[int]) -> list[str]:
    detokenizer = detokenizers(tokenizer)()
    texts, at = [], 0
    for size in sizes:
        texts.append(detokenizer.add(ids[at : at + size]))
        at += size
    return [*texts, detokenizer.add(ids[at:]), detokenizer.end()]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_its_detokenizer(family: str) -> None:
    tokenizer, kind = FAMILIES[family]
    assert type(detokenizers(tokenizer)()) is kind


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
@settings(max_examples=150)
def test_increments_are_the_whole_decode(family: str, data: st.DataObject) -> None:
    tokenizer, _ = FAMILIES[family]
    ids = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() + 5), max_size=40))
    sizes = data.draw(st.lists(st.integers(0, 5), max_size=20))
    assert "".join(in_pieces(tokenizer, ids, sizes)) == tokenizer.decode(ids, skip_special_tokens=True)


@given(text=st.text(max_size=30), sizes=st.lists(st.integers(1, 3), max_size=60))
def test_text_comes_back_without_half_characters(text: str, sizes: list[int]) -> None:
    tokenizer, _ = FAMILIES["byte_level"]
    pieces = in_pieces(tokenizer, tokenizer.encode(text, add_special_tokens=False).ids, sizes)
    assert "".join(pieces) == tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids)
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


@given(raw=st.binary(max_size=40), sizes=st.lists(st.integers(1, 3), max_size=60))
def test_every_byte_sequence(raw: bytes, sizes: list[int]) -> None:
    tokenizer, _ = FAMILIES["byte_level"]

    characters = {byte: character for character, byte in byte_alphabet().items()}
    ids = [tokenizer.token_to_id(characters[byte]) for byte in raw]
    assert "".join(in_pieces(tokenizer, ids, sizes)) == raw.decode(errors="replace") == tokenizer.decode(ids)
