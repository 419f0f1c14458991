"""What a place holds under a name that stays the same: `SOURCE#REVISION` is what SOURCE held at one time."""

import re
from hashlib import sha256

from msgspec.structs import replace

from schemas.ids import ModelId
from schemas.model import ModelSpec
from schemas.state import State

_MARKED = re.compile(r"(?P<base>.+)#(?P<revision>[0-9a-f]{12})", re.DOTALL)


def unmarked(name: str) -> str:
    """A source, or a model's id, without the revision."""
    found = _MARKED.fullmatch(name)
    return found["base"] if found else name


def revision_of(source: str) -> str:
    """Empty where none is said."""
    found = _MARKED.fullmatch(source)
    return found["revision"] if found else ""


def marked(name: str, revision: str) -> str:
    return f"{unmarked(name)}#{revision}"


def revision_name(content: str) -> str:
    """Twelve hexadecimal digits that stand for `content`, a description of files that differs when they do."""
    return sha256(content.encode()).hexdigest()[:12]


def meant(state: State, model: ModelId, source: str) -> str:
    """What somebody means who asks for `source` without a revision: what was pulled of it last, since `model` was wished for
    as it is now; else what that has of it."""
    known = state.models.get(model)
    now = () if known is None else (known.spec.source, known.spec.draft)
    served = [each for each in now if unmarked(each) == source]
    since = known.wished if known is not None and served else 0
    pulled = [
        each
        for each in state.downloads.values()
        if each.pulled and each.status == "complete" and each.seq > since
        if each.source != source and unmarked(each.source) == source
    ]
    return max(pulled, key=lambda each: each.seq).source if pulled else (*served, source)[0]


def as_meant(state: State, wish: ModelSpec) -> ModelSpec:
    """`wish` with the revisions of its sources, where it names none and there are several."""
    source, draft = meant(state, wish.id, wish.source), meant(state, wish.id, wish.draft)
    return replace(wish, source=source, draft=draft)
