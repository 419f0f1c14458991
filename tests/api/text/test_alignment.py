"""Whatever is held back, tokens are shown once, in order, and with their text."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from api.text.answer import Answer
from api.text.detokenizer import detokenizers
from api.text.token_text import TokenTexts
from schemas.chunks import TokenLogprobs
from tests.api import tokenizers_of

LETTERS = "hello wörld 東京 \N{GRINNING FACE} ab"
FAMILIES = {
    "byte level": tokenizers_of.byte_level(),
    "byte fallback": tokenizers_of.byte_fallback(strip=False),
    "metaspace": tokenizers_of.metaspace("never"),
}


def shown_of(
    tokenizer: Tokenizer, ids: list[int], stops: tuple[str, ...], sizes: list[int]
) -> tuple[str, list[int], list[str]]:
    """The text, the tokens that were shown, and the text that was sent by then; ids come in groups of `sizes`."""
    answer = Answer(detokenizers(tokenizer)(), stops, aligned=True)
    text, shown, by_then = "", list[int](), list[str]()
    at = 0
    while at < len(ids) and not answer.stopped:
        size = sizes[at % len(sizes)]
        group = ids[at : at + size]
        text += answer.add(group, [TokenLogprobs(0.0)] * len(group))
        new = answer.shown()
        shown += [each.id for each in new]
        by_then += [text] * len(new)
        at += size
    text += answer.end()
    last = answer.shown()
    return text, shown + [each.id for each in last], by_then


@settings(deadline=None)
@example("byte level", "aö", [], [1])
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.text(LETTERS, max_size=30),
    st.lists(st.text(LETTERS, min_size=1, max_size=4), max_size=2),
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
)
def test_shown_tokens_are_those_of_the_text(
    family: str, text: str, stops: list[str], sizes: list[int]
) -> None:
    tokenizer = FAMILIES[family]
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    plain = Answer(detokenizers(tokenizer)(), tuple(stops))
    expected = plain.add(ids) + plain.end()
    said, shown, by_then = shown_of(tokenizer, ids, tuple(stops), sizes)
    assert said == expected
    assert shown == ids[: len(shown)], "in order, each once"
    texts = TokenTexts(tokenizer)
    spoken = b"".join(texts[token_id].raw or b"" for token_id in shown)
    assert spoken.decode(errors="replace").startswith(said), "all of the text has its tokens"
    if not plain.stopped:
        assert shown == ids, "and all tokens are shown"
    for count, sent in enumerate(by_then, 1):
        so_far = b"".join(texts[token_id].raw or b"" for token_id in shown[:count])
        whole = so_far.decode(errors="ignore")
        assert sent.startswith(whole), "no token is shown before the last whole character of its text"


def test_tokens_after_a_stop_string_are_not_shown() -> None:
    tokenizer = FAMILIES["byte level"]
    ids = tokenizer.encode("hello world the dog", add_special_tokens=False).ids
    said, shown, _ = shown_of(tokenizer, ids, (" the",), [1])
    assert said == "hello world"
    assert shown == tokenizer.encode("hello world", add_special_tokens=False).ids


def test_bytes_of_half_characters() -> None:
    tokenizer = FAMILIES["byte fallback"]
    texts = TokenTexts(tokenizer)
    first = tokenizer.encode("東", add_special_tokens=False).ids[0]
    assert (texts[first].raw, texts[first].escaped, texts[first].text) == (
        b"\xe6",
        "\\xe6",
        "\N{REPLACEMENT CHARACTER}",
    )
    end = tokenizer.encode("<|im_end|>", add_special_tokens=False).ids[0]
    assert (texts[end].text, texts[end].raw) == ("<|im_end|>", None)
