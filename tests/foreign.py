"""Somebody else's NATS: a real server with a configuration of theirs, and operators who sign credentials."""

import asyncio
import time
from base64 import b32encode, urlsafe_b64encode
from binascii import crc_hqx
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bus.server import find_server
from tests.manual import snippet
from tests.ports import free_ports
from tests.relay import Relay, relaying

OPERATOR, ACCOUNT, USER, SEED = 14 << 3, 0, 20 << 3, 18 << 3
UNLIMITED = {"subs": -1, "data": -1, "payload": -1}


class Foreign:
    """One server, which listens on `port`."""

    def __init__(self, process: psutil.Popen, ports: dict[str, list[str]]) -> None:
        self.process = process
        self.port = int(ports["nats"][0].rsplit(":", 1)[1])

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


@asynccontextmanager
async def foreign(folder: Path, configuration: str) -> AsyncIterator[Foreign]:
    """Started by `configuration`, which says nothing of its own address."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "nats.conf"
    common = f'host: 127.0.0.1\nport: -1\nserver_name: {folder.name}\nports_file_dir: "{folder}"\nlog_file: "{folder}/nats.log"\n'
    file.write_text(common + configuration)
    binary = find_server()
    assert binary is not None
    process = psutil.Popen([str(binary), "-c", str(file)])
    try:
        async with asyncio.timeout(15):
            while not (ports := _ports(folder)):
                assert process.poll() is None, (folder / "nats.log").read_text()
                await asyncio.sleep(0.02)  # the pause: the server tells by a file alone
        yield Foreign(process, ports)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 15)


class Sites(NamedTuple):
    """As docs/joining.md tells it: the hub, the leaf, and the link between them."""

    hub: Foreign
    leaf: Foreign
    link: Relay


@asynccontextmanager
async def two_sites(folder: Path, jetstream: str = "") -> AsyncIterator[Sites]:
    """`jetstream`: what the leaf has of its own."""
    port = free_ports(1)[0]
    hub_says = snippet("joining.md", "hub").replace("/var/lib/nats", f"{folder}/hub-store")
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(relaying(port))
        where = f"host: 127.0.0.1, port: {port}, advertise: '127.0.0.1:{link.port}'"  # else the leaf finds a way around
        hub_says = hub_says.replace("port: 7422", where)
        hub = await stack.enter_async_context(foreign(folder / "hub", hub_says))
        leaf_says = snippet("joining.md", "leaf").replace("hub.example.com:7422", f"127.0.0.1:{link.port}")
        leaf_says += jetstream.replace("STORE", f"{folder}/leaf-store")
        leaf = await stack.enter_async_context(foreign(folder / "leaf", leaf_says))
        yield Sites(hub, leaf, link)


def _ports(folder: Path) -> dict[str, list[str]]:
    """What the server writes when it listens; it may be half written."""
    for file in folder.glob("*.ports"):
        try:
            return msgspec.json.decode(file.read_bytes(), type=dict[str, list[str]])
        except msgspec.MsgspecError:
            return {}
    return {}


class Key:
    """An nkey of some kind."""

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._secret = Ed25519PrivateKey.generate()

    @property
    def public(self) -> str:
        return _encoded(bytes([self._kind]) + self._secret.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        return _encoded(
            bytes([SEED | self._kind >> 5, (self._kind & 31) << 3]) + self._secret.private_bytes_raw()
        )

    def states(self, about: "Key", name: str, **nats: Any) -> str:
        """A JWT by this key about another one."""
        claims = {"jti": name, "iat": int(time.time()), "iss": self.public, "sub": about.public, "name": name}
        parts = ({"typ": "JWT", "alg": "ed25519-nkey"}, {**claims, "nats": {"version": 2, **nats}})
        said = ".".join(_url(msgspec.json.encode(part)) for part in parts)
        return f"{said}.{_url(self._secret.sign(said.encode()))}"


class Operator:
    """Who runs the server: one account with JetStream, whose users are given credentials."""

    def __init__(self) -> None:
        self._key, self._account, self._system = Key(OPERATOR), Key(ACCOUNT), Key(ACCOUNT)

    def configuration(self, store: Path) -> str:
        storage = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
        limits = {
            **UNLIMITED,
            "conn": -1,
            "leaf": -1,
            "imports": -1,
            "exports": -1,
            "wildcards": True,
            **storage,
        }
        account = self._key.states(self._account, "troupe", type="account", limits=limits)
        bare = {**limits, **dict.fromkeys(storage, 0)}
        system = self._key.states(self._system, "system", type="account", limits=bare)
        return (
            f"operator: {self._key.states(self._key, 'operator', type='operator')}\n"
            f"system_account: {self._system.public}\nresolver: MEMORY\n"
            f"resolver_preload: {{ {self._account.public}: {account}, {self._system.public}: {system} }}\n"
            f'jetstream {{ store_dir: "{store}" }}\n'
        )

    def credentials(self, file: Path, **permissions: Any) -> Path:
        """A new user's file."""
        user = Key(USER)
        jwt = self._account.states(user, "node", type="user", **UNLIMITED, **permissions)
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
        return file


def _encoded(raw: bytes) -> str:
    return b32encode(raw + crc_hqx(raw, 0).to_bytes(2, "little")).rstrip(b"=").decode()


def _url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
