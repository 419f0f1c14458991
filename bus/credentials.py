"""Who we are to somebody else's NATS server: a credentials file (a JWT and its seed), or the seed of an nkey alone.

The files are read at each connect, so that what was renewed there counts. nats-py would ask for two further packages
for this; all that they do is Ed25519, which `cryptography` has.
"""

import re
from base64 import b32decode, b32encode, b64encode
from binascii import crc_hqx
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_JWT = re.compile(r"-----BEGIN NATS USER JWT-----\s+([\w.-]+)\s+-+END")
_SEED = re.compile(r"\bSU[A-Z2-7]{56}\b")
"""The seed of a user's key; S and U stand for just that."""
_USER = bytes([20 << 3])


class BadCredentials(OSError):
    """A file does not hold what its option says; for nats-py a connect that failed, and is tried again."""


class Credentials:
    """One file, and what is said with it; `jwt` tells a credentials file from one with a seed alone."""

    def __init__(self, file: str, *, jwt: bool) -> None:
        self._file = Path(file)
        self._has_jwt = jwt
        self.sign("")
        self.jwt()

    def jwt(self) -> bytes:
        """What an operator has said about us; raises `BadCredentials`."""
        if not self._has_jwt:
            return b""
        found = _JWT.search(self._text())
        if found is None:
            raise BadCredentials(f"{self._file} is no credentials file: it holds no user's JWT")
        return found[1].encode()

    def sign(self, nonce: str) -> bytes:
        """The server's nonce, signed; base64. Raises `BadCredentials`."""
        return b64encode(self._key().sign(nonce.encode()))

    @property
    def public(self) -> str:
        """The nkey that the server knows."""
        raw = _USER + self._key().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return b32encode(raw + _checksum(raw)).rstrip(b"=").decode()

    def _key(self) -> Ed25519PrivateKey:
        found = _SEED.search(self._text())
        raw = b32decode(found[0] + "======") if found else b""
        if not raw or raw[-2:] != _checksum(raw[:-2]):
            raise BadCredentials(f"{self._file} holds no seed of a user's nkey (58 characters, SU...)")
        return Ed25519PrivateKey.from_private_bytes(raw[2:-2])

    def _text(self) -> str:
        try:
            return self._file.read_text()
        except (OSError, UnicodeDecodeError) as failure:
            raise BadCredentials(f"the credentials {self._file} cannot be read: {failure}") from failure


def _checksum(raw: bytes) -> bytes:
    return crc_hqx(raw, 0).to_bytes(2, "little")
