"""The configuration file of an embedded nats-server."""

import socket
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bus.authority import ServerFiles

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
MAX_STORE_BYTES = 1024**4
"""Streams have bounds of their own; left alone the server takes three quarters of what is free at its start for its
limit, and with less than the bounds together it does not even take up the streams that it has."""


class Peers(Struct, frozen=True, kw_only=True):
    """That other machines may come in, and what they must know."""

    token: str
    addresses: tuple[str, ...]
    """Where this machine is reached; the first one stands in the join line."""
    routes: "Routes | None" = None
    """The other servers of the same bus; None: this one is all of it."""


class Routes(Struct, frozen=True, kw_only=True):
    """That several servers are one bus, whose streams are kept by three of them."""

    name: str
    """This server's own, the same in all its lives: what it has promised the others goes by it."""
    cluster: str
    port: int
    """Where it listens for the other servers."""
    servers: tuple[str, ...]
    """`host:port` of all of them, this one included."""

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(server.rpartition(":")[0] for server in self.servers)


def server_file(folder: Path, host: str, port: int, peers: Peers | None) -> str:
    """What nats-server reads; `port` 0: any free one."""
    settings: dict[str, Any] = {
        "host": host,
        "port": port or -1,
        "server_name": f"troupe-{socket.gethostname().split('.')[0]}",
        "ports_file_dir": str(folder),
        "pid_file": str(folder / "nats.pid"),
        "max_payload": MAX_PAYLOAD_BYTES,
        "log_file": str(folder / "nats.log"),
        "logfile_size_limit": 16 * 1024 * 1024,
        "logfile_max_num": 3,
        "write_deadline": "30s",
    }
    if peers is not None and peers.routes is not None:
        settings["server_name"] = peers.routes.name
        settings["cluster"] = _cluster(folder, host, peers.token, peers.routes)
    if peers is not None:
        settings["authorization"] = {"token": peers.token}
        settings["tls"] = {**_files(folder), "handshake_first": True}
    lines = [f"{key}: {_quoted(value)}" for key, value in settings.items()]
    store = _quoted(str(folder / "store"))
    lines.append(f"jetstream {{ store_dir: {store}, sync_interval: 10s, max_file_store: {MAX_STORE_BYTES} }}")
    return "\n".join(lines) + "\n"


def _cluster(folder: Path, host: str, token: str, routes: Routes) -> dict[str, Any]:
    """Servers know each other as clients know them: by certificates that the token makes, and the token."""
    return {
        "name": routes.cluster,
        "listen": f"{host}:{routes.port}",
        "authorization": {"user": "troupe", "password": token},
        "tls": {**_files(folder), "verify": True},
        "routes": [f"tls://troupe:{token}@{server}" for server in routes.servers],
    }


def _files(folder: Path) -> dict[str, str]:
    files = ServerFiles(folder / "tls")
    return {"cert_file": str(files.certificate), "key_file": str(files.key), "ca_file": str(files.authority)}


def _quoted(value: Any) -> str:
    """JSON is a part of the language of nats-server's files."""
    return msgspec.json.encode(value).decode()
