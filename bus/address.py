"""Where a bus is and what it asks for, all in one URL: `tls://TOKEN@host:4222?trust=token`."""

import ssl
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from msgspec import Struct

from bus.authority import client_context

BY_TOKEN = "token"  # noqa: S105  # the word, not a secret
_OURS = ("trust", "ca", "cert", "key")


class BadAddress(ValueError):
    """An address of a bus says something that cannot be used."""


class BusAddress(Struct, frozen=True, kw_only=True):
    """A server, and how it is trusted and spoken to; what nats-py does not know stands in the URL's query.

    `trust=token`: the server proves by its certificate that it knows the token (`bus/authority.py`), before it is
    told anything. `ca=FILE`: as any TLS server, trusted by that file. `cert=FILE&key=FILE`: who we are.
    """

    url: str
    """What nats-py is given."""
    token: str = ""
    trust: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""

    @classmethod
    def read(cls, url: str) -> "BusAddress":
        """Raises `BadAddress`."""
        parts = urlsplit(url)
        asked = {name: values[-1] for name, values in parse_qs(parts.query).items() if name in _OURS}
        token = parts.username if parts.username and parts.password is None else ""
        host = parts.netloc.rpartition("@")[2] if token else parts.netloc
        if asked.get("trust", BY_TOKEN) != BY_TOKEN:
            raise BadAddress(f"trust={asked['trust']} in {public(url)}: it is trust={BY_TOKEN} or nothing")
        if "trust" in asked and not token:
            raise BadAddress(f"{public(url)} has no token: it looks like tls://TOKEN@host:4222")
        return cls(url=urlunsplit((parts.scheme, host, parts.path, "", "")), token=token or "", **asked)

    def options(self) -> dict[str, Any]:
        """What `Client.connect` is told beside the URL; raises `BadAddress` for files that cannot be read."""
        told: dict[str, Any] = {"token": self.token} if self.token else {}
        if self.trust:
            return {**told, "tls": client_context(self.token), "tls_handshake_first": True}
        if self.ca or self.cert:
            return {**told, "tls": self._context()}
        return told

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None)
        except (OSError, ssl.SSLError) as failure:
            files = ", ".join(name for name in (self.ca, self.cert, self.key) if name)
            raise BadAddress(f"TLS cannot be set up with {files}: {failure}") from failure
        return context


def joining(url: str) -> str:
    """The address behind `--join`: TLS, and trust by the token, whatever its scheme says."""
    parts = urlsplit(url)
    host = parts.netloc if parts.port else f"{parts.netloc}:4222"
    return urlunsplit(("tls", host, "", urlencode({"trust": BY_TOKEN}), ""))


def with_files(url: str, ca: str, cert: str, key: str) -> str:
    """The address with the files that TLS with somebody else's server needs."""
    files = {"ca": ca, "cert": cert, "key": key}
    query = urlencode({name: file for name, file in files.items() if file})
    return urlunsplit((*urlsplit(url)[:3], query, "")) if query else url


def public(url: str) -> str:
    """The address without its credentials."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if parts.username or parts.password else url
