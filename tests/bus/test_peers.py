"""A server that accepts peers: who gets in, who does not and is told why, and who never sees the token."""

import asyncio
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from bus.address import BadAddress, BusAddress, joining
from bus.authority import TOKEN, Authority, client_context, new_token
from bus.bus import Bus
from bus.clusters import NoCluster
from bus.connection import Connection
from bus.errors import BusAway, UnusableServer
from bus.server import Server
from bus.server_file import Peers
from schemas.ids import NodeId
from tests.facts import joined

OURS, OTHERS = "the-token-of-this-cluster", "the-token-of-another-one"
TOOL = Path(__file__).parents[2] / ".tools" / "bin" / "nats"


def server_for(folder: Path, token: str, port: int = 0) -> Server:
    return Server(folder, host="0.0.0.0", port=port, peers=Peers(token=token, addresses=("127.0.0.1",)))


@pytest.fixture
async def open_server(tmp_path: Path) -> AsyncIterator[Server]:
    server = server_for(tmp_path / "nats", OURS)
    await server.start()
    yield server
    await server.stop()


async def test_whoever_has_the_token_is_in(open_server: Server) -> None:
    for url in (open_server.url, joining(open_server.join_url)):
        bus = await Bus.connect(url, "troupe", "test", NodeId("n1"))
        assert await bus.log.record(joined("n1"))
        await bus.close()


async def test_another_token_is_told_before_it_is_sent(open_server: Server) -> None:
    url = open_server.url.replace(OURS, OTHERS)
    with pytest.raises(
        UnusableServer, match=r"is not to be trusted.*its token, which may be another one"
    ) as failure:
        await Connection.open(url, "test")
    assert OTHERS not in str(failure.value)


async def test_the_token_alone_opens_nothing_without_tls(open_server: Server) -> None:
    with pytest.raises(BusAway, match="no NATS server answers"):
        await Connection.open(f"nats://{OURS}@127.0.0.1:{open_server.port}", "test", deadline_s=0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", open_server.port)
    writer.write(f'CONNECT {{"auth_token": "{OURS}"}}\r\nPING\r\n'.encode())
    with suppress(ConnectionResetError):
        assert b"PONG" not in await reader.read()
    writer.close()


async def test_tls_alone_opens_nothing_without_the_token(open_server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", open_server.port, ssl=client_context(OURS))
    assert (await reader.readline()).startswith(b"INFO ")
    writer.write(b'CONNECT {"auth_token": "wrong"}\r\nPING\r\n')
    assert b"Authorization Violation" in await reader.readline()
    writer.close()


async def test_a_stranger_in_the_servers_place_never_sees_the_token() -> None:
    """It speaks first, as NATS does, and says that it wants no TLS; the joining node wants it."""
    heard = bytearray()

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576}\r\n')
        heard.extend(await reader.read(65536))
        writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(stranger, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(UnusableServer, match="does not speak TLS as asked"):
            await Connection.open(joining(f"nats://{OURS}@127.0.0.1:{port}"), "test")
    assert heard[:1] == b"\x16" and OURS.encode() not in heard  # a ClientHello, no more


async def test_who_joins_a_cluster_of_another_name_is_told(open_server: Server) -> None:
    with pytest.raises(BusAway, match="carries no cluster yet"):
        await Bus.connect(open_server.url, "troupe", "test", NodeId("n1"), joins=True, deadline_s=0.5)
    first = await Bus.connect(open_server.url, "troupe", "test", NodeId("n1"))
    with pytest.raises(NoCluster, match=r"carries no cluster named 'trope'; did you mean 'troupe'"):
        await Bus.connect(open_server.url, "trope", "test", NodeId("n2"), joins=True)
    await first.close()


async def test_a_new_token_takes_effect_and_the_data_stays(open_server: Server, tmp_path: Path) -> None:
    bus = await Bus.connect(open_server.url, "troupe", "test", NodeId("n1"))
    seq = await bus.log.record(joined("n1"))
    await bus.close()
    second = server_for(tmp_path / "nats", OTHERS)
    await second.start()
    try:
        assert second.port == open_server.port and second.pid != open_server.pid
        bus = await Bus.connect(second.url, "troupe", "test", NodeId("n1"))
        assert await bus.log.bounds() == (1, seq)
        await bus.close()
        with pytest.raises(UnusableServer):
            await Connection.open(open_server.url, "test")
    finally:
        await second.stop()


async def test_nobody_else_reads_the_secrets(open_server: Server, tmp_path: Path) -> None:
    for name in ("nats.conf", "server.json", "tls/key.pem"):
        assert stat.S_IMODE((tmp_path / "nats" / name).stat().st_mode) == 0o600, name


async def test_the_stock_command_gets_in_with_the_authoritys_file(
    open_server: Server, tmp_path: Path
) -> None:
    ran = await asyncio.to_thread(
        subprocess.run,
        [
            TOOL,
            "--server",
            open_server.join_url,
            "--tlsfirst",
            "--tlsca",
            tmp_path / "nats/tls/ca.pem",
            "server",
            "check",
            "jetstream",
        ],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path)},
    )
    assert ran.returncode == 0 and ran.stdout.startswith("OK"), ran.stdout + ran.stderr


def test_all_who_know_the_token_make_the_same_authority() -> None:
    assert Authority(OURS).pem == Authority(OURS).pem != Authority(OTHERS).pem
    assert TOKEN.fullmatch(new_token()) and not TOKEN.fullmatch("short")


def test_an_address_says_how_the_server_is_trusted() -> None:
    assert BusAddress.read(joining("nats://secret@host")) == BusAddress(
        url="tls://host:4222", token="secret", trust="token"
    )
    assert BusAddress.read("nats://me:p%40ss@host:1") == BusAddress(
        url="nats://host:1", user="me", password="p@ss"
    )
    with pytest.raises(BadAddress, match="asked for 'cred', which is unknown; did you mean 'creds'"):
        BusAddress.read("nats://host:4222?cred=/a/file")
    with pytest.raises(BadAddress, match="has no token"):
        BusAddress.read("tls://host:4222?trust=token")
    with pytest.raises(BadAddress, match="nowhere"):
        BusAddress.read("tls://host:4222?ca=/nowhere.pem").options()
