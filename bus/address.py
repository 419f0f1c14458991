"""Where a bus is and what it asks for, all in one URL: `tls://TOKEN@host:4222?trust=token`."""

import ssl
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit, urlunsplit

from msgspec import Struct

from bus.authority import client_context
from bus.credentials import BadCredentials, Credentials
from schemas.nearest import did_you_mean

BY_TOKEN = "token"  # noqa: S105  # the word, not a secret
_OURS = ("trust", "ca", "cert", "key", "creds", "nkey", "domain")


class BadAddress(ValueError):
    """An address of a bus says something that cannot be used."""


class BusAddress(Struct, frozen=True, kw_only=True):
    """A server, and how it is trusted and spoken to; what nats-py does not know stands in the URL's query.

    `trust=token`: the server proves by its certificate that it knows the token (`bus/authority.py`), before it is
    told anything. `ca=FILE`: as any TLS server, trusted by that file. `cert=FILE&key=FILE`, `creds=FILE` or
    `nkey=FILE`: who we are. `domain=NAME`: whose JetStream is meant, where there are several.
    """

    url: str
    """What nats-py is given."""
    user: str = ""
    password: str = ""
    token: str = ""
    trust: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    creds: str = ""
    nkey: str = ""
    domain: str = ""

    @classmethod
    def read(cls, url: str) -> "BusAddress":
        """Raises `BadAddress`."""
        parts = urlsplit(url)
        asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        for name in asked.keys() - set(_OURS):
            raise BadAddress(
                f"{public(url)} is asked for {name!r}, which is unknown{did_you_mean(name, _OURS)}"
            )
        user, password = unquote(parts.username or ""), parts.password
        who = {"token": user} if password is None else {"user": user, "password": unquote(password)}
        if asked.get("trust", BY_TOKEN) != BY_TOKEN:
            raise BadAddress(f"trust={asked['trust']} in {public(url)}: it is trust={BY_TOKEN} or nothing")
        if "trust" in asked and not who.get("token"):
            raise BadAddress(f"{public(url)} has no token: it looks like tls://TOKEN@host:4222")
        host = parts.netloc.rpartition("@")[2]
        return cls(url=urlunsplit((parts.scheme, host, parts.path, "", "")), **who, **asked)

    def options(self) -> dict[str, Any]:
        """What `Client.connect` is told beside the URL; raises `BadAddress` for files that cannot be read."""
        told: dict[str, Any] = {"token": self.token} if self.token else {}
        if self.user:  # not in the URL: the other servers of a cluster are to be told, too
            told |= {"user": self.user, "password": self.password}
        if (credentials := self.credentials()) is not None:
            told |= {"signature_cb": credentials.sign, "user_jwt_cb": credentials.jwt}
        if self.trust:
            return {**told, "tls": client_context(self.token), "tls_handshake_first": True}
        if self.ca or self.cert:
            return {**told, "tls": self._context()}
        return told

    def credentials(self) -> Credentials | None:
        """The file that says who we are, where there is one; raises `BadAddress`."""
        try:
            return (
                Credentials(self.creds or self.nkey, jwt=bool(self.creds))
                if self.creds or self.nkey
                else None
            )
        except BadCredentials as failure:
            raise BadAddress(str(failure)) from failure

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


def asking(url: str, **more: str) -> str:
    """The address with more of what `BusAddress` knows; what is empty is left out."""
    parts = urlsplit(url)
    told = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    query = urlencode(told | {name: value for name, value in more.items() if value}, safe="/")
    return urlunsplit((*parts[:3], query, ""))


def public(url: str) -> str:
    """The address without its credentials."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
