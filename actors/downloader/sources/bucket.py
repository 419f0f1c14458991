"""Models in a bucket that speaks S3: `s3://BUCKET/PREFIX`."""

import hashlib
import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx2
import obstore
from msgspec import Struct
from obstore.exceptions import BaseError, GenericError
from obstore.store import S3Store

from actors.downloader.sources.checksums import NAME, parse_sums
from actors.downloader.sources.outside import TIMEOUT
from actors.downloader.sources.source import Unavailable, Unobtainable
from actors.downloader.sources.wanted_files import WANTED
from schemas.manifest import ListedFile, Manifest

PREFIX = "s3://"
_SOURCE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<prefix>[^?#]+)")
SIGNED_FOR = timedelta(hours=1)
_RETRIES = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}


class BucketAccess(Struct, frozen=True):
    """Where buckets are, and in whose name to ask; what is empty is taken from `AWS_*`, or from the machine's role."""

    endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = ""

    def store(self, bucket: str) -> S3Store:
        known = {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
        }
        given: Any = {name: value for name, value in known.items() if value}
        options: Any = {"allow_http": True}  # an endpoint that is http:// is meant so
        retries: Any = _RETRIES
        return S3Store(bucket, config=given, client_options=options, retry_config=retries)


class BucketModel:
    """What lies directly beneath a prefix, as it was when it was first listed."""

    def __init__(self, access: BucketAccess, source: str) -> None:
        """The model that `source` names; raises Unobtainable."""
        found = _SOURCE.fullmatch(source.rstrip("/"))
        if found is None:
            raise Unobtainable(f"{source} names no model in a bucket: write {PREFIX}BUCKET/PREFIX")
        self.source = source.rstrip("/")
        self.prefix = found["prefix"]
        self.folder_name = (
            f"{self.prefix.rpartition('/')[2]}@{hashlib.sha256(self.source.encode()).hexdigest()[:12]}"
        )
        with _plain(self.source):
            self._store = access.store(found["bucket"])

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(timeout=TIMEOUT, headers={"Accept-Encoding": "identity"})

    async def address(self, manifest: Manifest, file: ListedFile) -> str:  # noqa: ARG002 - it has no commits
        with _plain(self.source):
            return await obstore.sign_async(self._store, "GET", f"{self.prefix}/{file.name}", SIGNED_FOR)

    async def listing(self, client: httpx2.AsyncClient) -> Manifest:  # noqa: ARG002 - the port's
        with _plain(self.source):
            listed = await obstore.list_with_delimiter_async(  # pyright: ignore[reportUnknownMemberType] # its Arrow form is untyped
                self._store, self.prefix
            )
            objects = {entry["path"].rpartition("/")[2]: entry for entry in listed["objects"]}
            sums = await self._sums() if NAME in objects else {}
        files = [
            ListedFile(name, entry["size"], sha256=sums.get(name, ""), tag=entry["e_tag"] or "")
            for name, entry in sorted(objects.items())
            if WANTED.fullmatch(name)
        ]
        commit = hashlib.sha256(repr(files).encode()).hexdigest()
        return Manifest(commit, tuple(files))

    async def _sums(self) -> dict[str, str]:
        found = await obstore.get_async(self._store, f"{self.prefix}/{NAME}")
        return parse_sums(bytes(await found.bytes_async()).decode(errors="replace"))


@contextmanager
def _plain(source: str) -> Generator[None]:
    """Turn what obstore raises into Unavailable or Unobtainable; its first line says enough."""
    try:
        yield
    except GenericError as error:
        raise Unavailable(f"{source} cannot be read: {_first_line(error)}") from error
    except BaseError as error:
        raise Unobtainable(f"{source} cannot be fetched: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
