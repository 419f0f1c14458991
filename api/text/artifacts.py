"""Models' tokenizers from the object store: read once, kept while they are used."""

import json
from asyncio import Future, ensure_future, get_running_loop, shield
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Executor
from io import BytesIO
from typing import cast
from zipfile import BadZipFile, ZipFile

import structlog
from tokenizers import Tokenizer

from api.text.template import ChatTemplate
from api.text.tokenizer import ChatTokenizer
from bus.blobs import Blobs

log = structlog.get_logger()


class ArtifactDamaged(Exception):
    """A model's artifact cannot be used; names the file."""


class Artifacts:
    """The last `keep` tokenizers that were asked for, by the name of their artifact."""

    def __init__(self, blobs: Blobs, threads: Executor, keep: int) -> None:
        self._blobs = blobs
        self._threads = threads
        self._keep = keep
        self._kept: OrderedDict[str, ChatTokenizer] = OrderedDict()
        self._coming: dict[str, Future[ChatTokenizer]] = {}

    async def tokenizer(self, artifact: str) -> ChatTokenizer:
        """Raises `BlobMissing`, `BusAway`, `ArtifactDamaged`, `TemplateRefused`."""
        kept = self._kept.get(artifact)
        if kept is not None:
            self._kept.move_to_end(artifact)
            return kept
        if artifact not in self._coming:
            coming = self._coming[artifact] = ensure_future(self._fetch(artifact))
            coming.add_done_callback(lambda done: self._came(artifact, done))
        return await shield(self._coming[artifact])

    def _came(self, artifact: str, done: Future[ChatTokenizer]) -> None:
        """A failure is not kept: the next request tries again. It may be that nobody waits for it any more."""
        del self._coming[artifact]
        if not done.cancelled():
            done.exception()

    async def _fetch(self, artifact: str) -> ChatTokenizer:
        raw = await self._blobs.get(artifact)
        tokenizer = await get_running_loop().run_in_executor(self._threads, read_artifact, raw)
        self._kept[artifact] = tokenizer
        while len(self._kept) > self._keep:
            self._kept.popitem(last=False)
        log.info("artifact.read", artifact=artifact, bytes=len(raw))
        return tokenizer


def read_artifact(raw: bytes) -> ChatTokenizer:
    """A tokenizer and its template out of the zip that the downloader made."""
    files = _unzip(raw)
    if "tokenizer.json" not in files:
        raise ArtifactDamaged("the model has no tokenizer.json: it cannot be used for chats")
    configuration = _json(files, "tokenizer_config.json")
    special = special_tokens(configuration, _json(files, "special_tokens_map.json"))
    sources = template_source(files, configuration), template_source(files, configuration, "tool_use")
    template, with_tools = (None if source is None else ChatTemplate(source, special) for source in sources)
    return ChatTokenizer(_tokenizer(files["tokenizer.json"]), template, with_tools)


def _tokenizer(source: str) -> Tokenizer:
    try:
        return Tokenizer.from_str(source)
    except Exception as error:  # tokenizers raises nothing narrower
        raise ArtifactDamaged(f"tokenizer.json is no tokenizer: {error}") from error


def _unzip(raw: bytes) -> dict[str, str]:
    try:
        with ZipFile(BytesIO(raw)) as archive:
            return {name: archive.read(name).decode() for name in archive.namelist()}
    except (BadZipFile, UnicodeDecodeError, EOFError) as damaged:
        raise ArtifactDamaged(f"the model's artifact is damaged: {damaged}") from damaged


def _json(files: Mapping[str, str], name: str) -> dict[str, object]:
    try:
        value: object = json.loads(files.get(name, "{}"))
    except ValueError as broken:
        raise ArtifactDamaged(f"{name} is no valid JSON: {broken}") from broken
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def template_source(
    files: Mapping[str, str], configuration: Mapping[str, object], name: str = "default"
) -> str | None:
    """`chat_template.jinja`, else what tokenizer_config.json holds: one template, or several with names.

    A model with one template has none by the name of `tool_use`: the one is for everything.
    """
    if "chat_template.jinja" in files:
        return files["chat_template.jinja"] if name == "default" else None
    held = configuration.get("chat_template")
    if isinstance(held, list):
        named = {entry.get("name"): entry.get("template") for entry in cast("list[dict[str, str]]", held)}
        held = named.get(name)
    elif name != "default":
        return None
    return held if isinstance(held, str) else None


def special_tokens(*sources: Mapping[str, object]) -> dict[str, str]:
    """`bos_token`, `eos_token` ...: strings, or objects that hold one under `content`; the first source wins."""
    found: dict[str, str] = {}
    for source in sources:
        for name, value in source.items():
            text = cast("dict[str, object]", value).get("content") if isinstance(value, dict) else value
            if name.endswith("_token") and isinstance(text, str):
                found.setdefault(name, text)
    return found
