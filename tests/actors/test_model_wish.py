"""What a model may be called on a command line, and what it means."""

from pathlib import Path

import pytest

from actors.model_wish import UnknownModel, wish
from schemas.ids import NodeId

HERE = NodeId("n1")


@pytest.mark.parametrize(
    ("text", "called", "source"),
    [
        ("guide", "guide", "builtin:guide"),
        ("builtin:guide", "guide", "builtin:guide"),
        ("org/model", "org/model", "hf:org/model"),
        ("org/model-4bit@v1.0", "org/model-4bit", "hf:org/model-4bit@v1.0"),
        ("s3://models/org/llama/", "llama", "s3://models/org/llama"),
        ("https://host/models/llama", "llama", "https://host/models/llama"),
        ("hf:org/model@refs/pr/1", "org/model", "hf:org/model@refs/pr/1"),
    ],
)
def test_names_mean_sources(text: str, called: str, source: str) -> None:
    spec = wish(text, here=HERE)
    assert (spec.id, spec.source, spec.node) == (called, source, None)


def test_a_folder_is_bound_to_the_node_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path)
    spec = wish("my-model", here=HERE)
    assert (spec.id, spec.source, spec.node) == ("my-model", str(tmp_path.resolve() / "my-model"), "n1")
    assert wish("./my-model/", here=HERE, node=NodeId("n2")).node == "n2"
    assert wish("my-model", model_id="mine").id == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("giude", r"did you mean 'guide'\? A model is"),
        ("nonsense", r"brings\. A model is `guide`, a folder"),
        ("./my-modle", r"no folder here; did you mean 'my-model'\?"),
        ("/no/such/folder", "is no folder here"),
        ("./file", "it is a file"),
        ("a/b/c", "is no model"),
        ("", "is no model"),
        ("s3://", "'s3://' names no model: write s3://BUCKET/PREFIX"),
        ("s3://bucket/", "names no model: write s3://BUCKET/PREFIX"),
        ("https:///models", "names no model"),
    ],
)
def test_other_names_are_answered_with_what_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (tmp_path / "my-model").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModel, match=said):
        wish(text)
