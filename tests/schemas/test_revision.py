"""Sources with a revision, and which of them somebody means who names none."""

import pytest

from schemas.events import DownloadReported, ModelDemanded, ModelDesired, ModelUnplaced
from schemas.ids import ModelId, NodeId
from schemas.model import ModelSpec
from schemas.revision import marked, meant, revision_of, unmarked
from schemas.state import State
from tests.master.clusters import after

ME, SOURCE = ModelId("org/llama"), "hf:org/llama"
OLDER, NEWER = "0123456789ab", "cdef01234567"


@pytest.mark.parametrize("name", ["hf:org/llama", "/models/a#b", "s3://b/p", "/models/c#0123456789AB"])
def test_a_name_without_a_revision(name: str) -> None:
    assert (unmarked(name), revision_of(name)) == (name, "")
    assert revision_of(marked(name, NEWER)) == NEWER
    assert unmarked(marked(marked(name, OLDER), NEWER)) == name


def pulled(source: str, node: str = "n1") -> DownloadReported:
    name = ModelId(marked(ME, revision_of(source))) if revision_of(source) else ME
    return DownloadReported(node=NodeId(node), model=name, source=source, status="complete", pulled=True)


def test_what_was_pulled_last_is_meant() -> None:
    older, newer = marked(SOURCE, OLDER), marked(SOURCE, NEWER)
    state = after(State(), pulled(SOURCE))
    assert meant(state, ME, SOURCE) == SOURCE
    state = after(state, pulled(older), pulled(newer), pulled(marked("hf:org/other", OLDER)))
    assert meant(state, ME, SOURCE) == newer
    assert meant(after(state, pulled(older, "n2")), ME, SOURCE) == older, "it was pulled again since"
    assert meant(state, ME, older) == older, "somebody has named it"


def test_what_is_served_stays_where_nothing_was_pulled() -> None:
    served = marked(SOURCE, OLDER)
    state = after(State(), ModelDesired(spec=ModelSpec(id=ME, source=served)))
    assert meant(state, ME, SOURCE) == served
    assert meant(state, ME, "hf:org/other") == "hf:org/other"
    assert meant(state, ModelId("mine"), SOURCE) == SOURCE


def test_what_was_loaded_since_by_its_revision_stays() -> None:
    """Somebody went back to it, and now wants another copy."""
    older, newer = marked(SOURCE, OLDER), marked(SOURCE, NEWER)
    back = ModelDesired(spec=ModelSpec(id=ME, source=older))
    state = after(State(), pulled(newer), ModelDesired(spec=ModelSpec(id=ME, source=newer)), back)
    assert meant(state, ME, SOURCE) == older
    state = after(state, ModelUnplaced(model=ME, reason="no place"))
    assert meant(state, ME, SOURCE) == older
    assert meant(state, ModelId("mine"), SOURCE) == newer
    assert meant(after(state, pulled(newer)), ME, SOURCE) == newer
    demanded = after(state, pulled(newer), ModelDemanded(model=ME))
    assert meant(demanded, ME, SOURCE) == newer


def test_a_draft_is_meant_like_its_model() -> None:
    draft = "hf:org/draft"
    spec = ModelSpec(id=ME, source=SOURCE, draft=marked(draft, OLDER))
    state = after(State(), ModelDesired(spec=spec))
    assert meant(state, ME, draft) == spec.draft
    assert meant(state, ME, SOURCE) == SOURCE
    assert meant(state, ME, "") == "", "one without a draft"
    assert meant(after(state, pulled(marked(draft, NEWER))), ME, draft) == marked(draft, NEWER)
