"""Every place that a model may come from, by how its name begins."""

from collections.abc import Mapping
from pathlib import Path

from actors.downloader.sources import bucket, builtin, hub_model, website
from actors.downloader.sources.bucket import BucketAccess, BucketModel
from actors.downloader.sources.builtin import BuiltinModel
from actors.downloader.sources.fetched_model import FetchedModel
from actors.downloader.sources.folder import LocalFolder
from actors.downloader.sources.hub import HubAccess
from actors.downloader.sources.hub_model import HubModel
from actors.downloader.sources.shelf import Shelf
from actors.downloader.sources.source import Source, Unobtainable
from actors.downloader.sources.website import Website
from schemas.revision import revision_of, unmarked


class Sources:
    """What this node can fetch."""

    def __init__(
        self,
        shelf: Shelf,
        builtin_models: Mapping[str, Path],
        access: HubAccess | None = None,
        buckets: BucketAccess | None = None,
    ) -> None:
        self.shelf = shelf
        self.builtin_models = builtin_models
        self.access = access or HubAccess()
        self.buckets = buckets or BucketAccess()

    def named(self, source: str) -> Source:
        """The place that `source` names; raises Unobtainable when it names none."""
        place, revision = unmarked(source), revision_of(source)
        if source.startswith(builtin.PREFIX):
            return BuiltinModel(source.removeprefix(builtin.PREFIX), self.builtin_models)
        if source.startswith(hub_model.PREFIX):
            return FetchedModel(self.shelf, HubModel(self.access, place), revision)
        if source.startswith(bucket.PREFIX):
            return FetchedModel(self.shelf, BucketModel(self.buckets, place), revision)
        if source.startswith(website.PREFIXES):
            return FetchedModel(self.shelf, Website(place), revision)
        if source.startswith(("/", "~")):
            return LocalFolder(source)
        raise Unobtainable(
            f"{source!r} names no place of models: write builtin:NAME, hf:OWNER/NAME[@REVISION], s3://BUCKET/PREFIX, "
            "https://HOST/FOLDER, or a folder's whole path (/models/llama)"
        )
