"""Trust among the nodes of a cluster: whoever knows the join token can prove it, and check that others can.

The token makes one key, the same everywhere (scrypt, Ed25519). That key signs the certificates of the cluster's servers;
who joins makes it too, and so knows a server of the cluster before it says a word of its own: a stranger who answers
in its place, or announces itself on the network, never sees the token. No file has to be carried from node to node.
"""

import datetime
import ipaddress
import os
import re
import ssl
from functools import cache
from pathlib import Path
from secrets import token_urlsafe

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
"""Anybody who sees a certificate can try tokens against it for as long as he likes: a short one would be found."""
_BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)
"""Fixed, so that the authority's certificate is the same on every node; a machine without a clock may join too."""


def new_token() -> str:
    return token_urlsafe(24)


class Authority:
    """Signs and knows the servers of one cluster."""

    def __init__(self, token: str) -> None:
        secret = Scrypt(salt=b"troupe join token", length=32, n=2**14, r=8, p=1).derive(token.encode())
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Troupe cluster")])
        self._certificate = self._own()
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority's certificate, the same for all who know the token."""
        return self._certificate.fingerprint(SHA256()).hex()

    def write(self, folder: Path, addresses: tuple[str, ...]) -> "ServerFiles":
        """Make a server's key and certificate in `folder`; OSError when that cannot be written."""
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        files = ServerFiles(folder)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_secret(files.key, secret)
        files.certificate.write_bytes(self._server(key, addresses).public_bytes(Encoding.PEM))
        files.authority.write_bytes(self.pem)
        return files

    def _own(self) -> x509.Certificate:
        only_signs = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = _builder(self._name, self._name).public_key(self._key.public_key()).serial_number(1)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(only_signs, critical=True)
        known_by = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        return builder.add_extension(known_by, critical=False).sign(self._key, None)

    def _server(self, key: ec.EllipticCurvePrivateKey, addresses: tuple[str, ...]) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Troupe server")])
        builder = _builder(name, self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        names = x509.SubjectAlternativeName([_named(address) for address in addresses])
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(names, critical=False).add_extension(signer, critical=False)
        return builder.sign(self._key, None)


class ServerFiles:
    """What a server needs to prove who it is: PEM files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.key = folder / "key.pem"
        self.certificate = folder / "cert.pem"
        self.authority = folder / "ca.pem"


@cache
def authority(token: str) -> Authority:
    """The authority that `token` makes; takes a tenth of a second the first time, by design of scrypt."""
    return Authority(token)


@cache
def client_context(token: str) -> ssl.SSLContext:
    """Believes the servers of the cluster whose token it is, at whatever address, and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # servers move; that they know the token is the proof
    context.load_verify_locations(cadata=authority(token).pem.decode())
    return context


def write_secret(file: Path, content: bytes) -> None:
    """Write a file that only its owner reads."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written:
        os.fchmod(written.fileno(), 0o600)
        written.write(content)


def _builder(subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    return builder.not_valid_before(_BEGIN).not_valid_after(_END)


def _named(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)
