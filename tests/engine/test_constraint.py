"""Answers under a grammar, beside others that have none."""

import re

from actors.engine.port import Engine
from schemas.chunks import Failed
from schemas.task import Grammar, Made, pack_ids
from tests.engine.running import a_task, ids, reasons, run, tokens
from tests.models import tokenizer

DATE = Grammar(kind="regex", source=r"[0-9]{4}-[01][0-9]-[0-3][0-9]")
PIECES = {at: piece for piece, at in tokenizer(1024)["model"]["vocab"].items()}  # type: ignore[index]


def text(tokens: list[int]) -> str:
    return "".join(PIECES[token] for token in tokens)


def test_an_answer_is_a_sentence_of_its_grammar_and_others_are_as_before(engine: Engine) -> None:
    undisturbed = ids(engine, max_tokens=20)
    tasks = [
        a_task(request=f"r{seed}", grammar=DATE, temperature=1.0, seed=seed, max_tokens=30)
        for seed in (2, 3, 4)
    ]
    chunks = run(engine, a_task(max_tokens=20), *tasks)
    said = [text(tokens(chunks, str(task.request))) for task in tasks]
    assert all(re.fullmatch(DATE.source, each) for each in said) and len(set(said)) == 3
    assert tokens(chunks) == undisturbed
    assert sorted(reasons(chunks)) == ["length", "stop", "stop", "stop"]


def test_with_a_stop_id_it_may_end_where_the_grammar_may(engine: Engine) -> None:
    digits = Grammar(kind="regex", source="[0-9]+")
    chunks = run(engine, a_task(grammar=digits, temperature=1.0, seed=1, max_tokens=200, stop_ids=(0,)))
    assert re.fullmatch("[0-9]+", text(tokens(chunks)))
    assert reasons(chunks) == ["stop"]


def test_a_later_attempt_goes_on_under_the_grammar(engine: Engine) -> None:
    values = {"grammar": DATE, "temperature": 1.0, "seed": 5, "max_tokens": 30}
    whole = ids(engine, **values)
    for done in (1, 4, len(whole) - 1, len(whole)):
        chunks = run(engine, a_task(made=(Made(pack_ids(whole[:done])),), **values))
        assert tokens(chunks) == whole[done:]
        assert reasons(chunks) == ["stop"]


def test_a_grammar_that_is_none_fails_its_own_request_alone(engine: Engine) -> None:
    wrong = Grammar(kind="regex", source="[0-9")
    chunks = run(engine, a_task(), a_task(request="bad", grammar=wrong))
    failed = [chunk for chunk in chunks if isinstance(chunk, Failed)]
    assert [(chunk.request, chunk.code) for chunk in failed] == [("bad", "bad_request")]
    assert "regular expression" in failed[0].reason
    assert len(tokens(chunks)) == 10
