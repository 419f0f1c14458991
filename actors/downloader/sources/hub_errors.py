"""What goes wrong with a hub or with the disk, as sentences and as either transient or not."""

import errno
from collections.abc import Generator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http.client import NOT_FOUND, PRECONDITION_FAILED
from pathlib import Path
from time import time

import httpx2
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from actors.downloader.sources.source import Progress, Unavailable, Unobtainable, Vanished
from actors.downloader.sources.spare import lacks_room, room

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
LONGEST_RETRY_AFTER_S = 600.0


@contextmanager
def plain_errors(source: str, url: str) -> Generator[None]:
    """Turn what a request for `url`, a part of `source`, raises into Unavailable or Unobtainable."""
    try:
        yield
    except HfHubHTTPError as error:
        raise answered(error, source, url) from error
    except OfflineModeIsEnabled as error:
        raise Unobtainable(f"{source} is not on this node, and HF_HUB_OFFLINE forbids to fetch it") from error
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise Unobtainable(f"{url} is no address of a hub: {error}") from error
    except httpx2.HTTPError as error:
        raise Unavailable(f"{url} cannot be read: {str(error) or type(error).__name__}") from error


def answered(error: HfHubHTTPError, source: str, url: str) -> Unavailable | Unobtainable:
    """What an answer that is an error means for `source`."""
    status = error.response.status_code
    match error:
        case GatedRepoError():
            return Unobtainable(
                f"{source} is gated ({url} answered {status}): accept its terms on the hub, and give this node a "
                "token of the account that did"
            )
        case RevisionNotFoundError():
            return Vanished(f"{source} has no such revision ({url} answered {status})")
        case RemoteEntryNotFoundError():
            return Vanished(f"{source} lacks a file ({url} answered {status})")
        case RepositoryNotFoundError():
            return Unobtainable(
                f"{source} is not on the hub, or is private ({url} answered {status}): check the name, or give "
                "this node a token that may read it"
            )
        case _ if status == NOT_FOUND:
            return Vanished(f"{source} lacks a file ({url} answered {status})")
        case _ if status == PRECONDITION_FAILED:
            return Vanished(f"{source} was changed while it was fetched ({url} answered {status})")
        case _ if status in TRANSIENT:
            return Unavailable(f"{url} answered {status}", retry_after_s(error.response.headers))
        case _:
            return Unobtainable(f"{source} cannot be fetched: {url} answered {status}")


def retry_after_s(headers: httpx2.Headers) -> float:
    """Seconds that the other side asks to wait; 0 when it does not say."""
    asked = headers.get("Retry-After", "").strip()
    try:
        wait_s = float(asked) if asked.isdigit() else parsedate_to_datetime(asked).timestamp() - time()
    except ValueError:
        return 0.0
    return min(max(wait_s, 0.0), LONGEST_RETRY_AFTER_S)


@contextmanager
def disk_errors(source: str, path: Path, progress: Progress | None = None) -> Generator[None]:
    """Turn what writing to `path`, or making it, raises into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE and progress is not None:
            missing = progress.bytes_total - progress.bytes_done
            sentence = lacks_room(source, path.parent, missing, room(path.parent))
            raise Unobtainable(f"{sentence} ({error.strerror})") from error
        raise Unobtainable(f"{source} cannot be stored: {path}: {error.strerror}") from error
