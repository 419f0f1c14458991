"""What people call a model, turned into what the cluster is asked for."""

import re
from pathlib import Path

from schemas.ids import ModelId, NodeId
from schemas.model import DRAFT_TOKENS, EngineName, ModelSpec, SimulatedSpeed
from schemas.nearest import did_you_mean
from schemas.revision import marked, revision_of, unmarked

BUILTIN = ("guide",)
PLACES = ("s3://", "https://", "http://")
_HUB = re.compile(r"(?:hf:)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


class UnknownModel(Exception):
    """A name that is neither a built-in model, nor a folder, nor a model on the hub."""


def wish(
    text: str,
    *,
    model_id: str = "",
    replicas: int = 1,
    context: int | None = None,
    slots: int | None = None,
    cache_bytes: int | None = None,
    batch_bytes: int | None = None,
    engine: EngineName = "mlx",
    node: NodeId | None = None,
    here: NodeId | None = None,
    simulated: SimulatedSpeed | None = None,
    draft: str = "",
    draft_tokens: int = DRAFT_TOKENS,
) -> ModelSpec:
    """The model that `text` names: `guide`, a folder, or `OWNER/NAME[@REVISION]` on the hub; `draft` likewise.

    A folder is bound to `here`, the node that has it, unless `node` says another. Raises `UnknownModel`.
    """
    called, source = name_and_source(text)
    draft_source = name_and_source(draft)[1] if draft else ""
    in_folder = source.startswith("/") or draft_source.startswith("/")
    return ModelSpec(
        id=ModelId(model_id or called),
        source=source,
        replicas=replicas,
        engine=engine,
        context=context,
        slots=slots,
        cache_bytes=cache_bytes,
        batch_bytes=batch_bytes,
        node=node or (here if in_folder else None),
        simulated=simulated,
        draft=draft_source,
        draft_tokens=draft_tokens,
    )


def name_and_source(text: str) -> tuple[str, str]:
    """How the model is called unless somebody says otherwise, and where its files come from."""
    if revision := revision_of(text):
        called, source = name_and_source(unmarked(text))
        return called, marked(source, revision)
    if text.startswith(PLACES):
        return _at(text.rstrip("/"), text)
    builtin = text.removeprefix("builtin:")
    if builtin in BUILTIN:
        return builtin, f"builtin:{builtin}"
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return folder.resolve().name, str(folder.resolve())
    if folder.is_absolute() or text.startswith((".", "~")) or folder.is_file():
        raise UnknownModel(f"{text!r} is no folder here{_siblings(folder)}")
    hub = _HUB.fullmatch(text)
    if hub is None:
        raise UnknownModel(_sentence(text))
    revision = f"@{hub['revision']}" if hub["revision"] else ""
    return hub["repo"], f"hf:{hub['repo']}{revision}"


def _at(address: str, text: str) -> tuple[str, str]:
    """Called as its folder is."""
    host, _, folder = address.partition("//")[2].partition("/")
    if not host or (text.startswith("s3://") and not folder):
        raise UnknownModel(f"{text!r} names no model: write s3://BUCKET/PREFIX or https://HOST/FOLDER")
    return address.rpartition("/")[2], address


def _siblings(folder: Path) -> str:
    if folder.is_file():
        return "; it is a file, and a model is the folder around it"
    names = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
    return did_you_mean(folder.name, names)


def _sentence(text: str) -> str:
    guess = did_you_mean(text, BUILTIN) or "."
    return (
        f"{text!r} is no model that this version brings{guess} "
        "A model is `guide`, a folder such as ./my-model, or OWNER/NAME[@REVISION] on the hub."
    )
