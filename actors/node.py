"""The composition root: one process that runs some of the actors, and knows them all."""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_hex

import structlog

from actors import duration
from actors.bus_access import QUORUM_S, BusAccess, open_bus
from actors.downloader.downloader import Downloader
from actors.downloader.sources.bucket import BucketAccess
from actors.downloader.sources.hub import HubAccess
from actors.downloader.supply import Supply
from actors.election import Election
from actors.ensemble import Ensemble
from actors.first_models import load_first_models
from actors.journal import keep_journal
from actors.links.surveyor import Surveyor
from actors.machine.addresses import EVERYWHERE, LOOPBACK
from actors.machine.beats import sample_load, send_beats
from actors.machine.data_folder import DataFolder
from actors.machine.node_info import NodeInfo
from actors.machine.profile import measure_profile
from actors.master.master import Master
from actors.membership import Membership, TwinNode, require_no_twin
from actors.model_wish import wish
from actors.receptionist import Receptionist
from actors.settings import Settings
from actors.threads import in_thread
from actors.version import VERSION
from actors.worker.watchdog import Patience
from actors.worker.worker import Worker
from api.server import AddressUnusable, Api
from api.settings import ApiSettings
from bus.bus import Bus
from bus.lease import Holder, Lease
from bus.streams import StreamLimits
from bus.tracing import Tracing, TracingUnusable
from schemas.events import NodeJoined
from schemas.ids import InstanceId, NodeId
from schemas.node import Beat, NodeProfile
from schemas.split import SPLITS

log = structlog.get_logger()

BUILTIN = {"guide": Path(__file__).parent / "engine" / "guide" / "model"}
"""Models that come with the program, by name."""
CONNECT_S = 10.0
OnReady = Callable[[NodeInfo], None]


class CannotStart(Exception):
    """The API cannot take its port, or a node of this name runs already; a sentence with the way out."""


async def run_node(settings: Settings, on_ready: OnReady) -> int:
    """Run a node until SIGINT, SIGTERM or `StopNode`; returns the exit code.

    Raises DataFolderError, `PortTaken`, `CannotStart`, `UnusableServer`, `BusAway` or UnknownModel when it
    cannot start; each is a sentence with the way out.
    """
    keep_journal(settings.log_level, settings.log_format)
    async with AsyncExitStack() as stack:
        node = await Node.open(settings, stack)
        return await node.live(on_ready)


class Node:
    """What a node's actors share, and how they are made."""

    def __init__(
        self, settings: Settings, folder: DataFolder, access: BusAccess, bus: Bus, profile: NodeProfile
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._bus = bus
        self._profile = profile
        self._access = access
        self._holder = Holder(node=bus.node, incarnation=token_hex(4))
        self._ensemble = Ensemble()
        self._tracing = traced(settings, bus.node)
        self._api = (
            Api(bus, bus.node, api_settings(settings), self._tracing) if "api" in settings.roles else None
        )
        self._models = [wish(text, here=bus.node) for text in settings.models]

    @classmethod
    async def open(cls, settings: Settings, stack: AsyncExitStack) -> "Node":
        """Take the data folder and the ports, reach the bus; what was taken is given back with `stack`."""
        folder = DataFolder.open(settings.data_dir)
        stack.callback(folder.close)
        measuring = asyncio.create_task(in_thread(measure_profile))
        access = await open_bus(settings, folder, stack)
        bus = await Bus.connect(
            access.url,
            settings.cluster,
            f"node-{settings.name}",
            folder.node_id(),
            lease_ttl_s=settings.lease_ttl_s,
            joins=access.joins,
            limits=StreamLimits.of_three() if settings.bus_peers else None,
            deadline_s=QUORUM_S if settings.bus_peers else CONNECT_S,
        )
        stack.push_async_callback(bus.close)
        node = cls(settings, folder, access, bus, await measuring)
        stack.push_async_callback(node._tracing.close)
        stack.push_async_callback(node._ensemble.close)
        if node._api is not None:
            try:
                node._api.bind()
            except AddressUnusable as failure:
                raise CannotStart(str(failure)) from failure
        if access.server is not None:
            node._ensemble.start("server", access.server.watch)
        return node

    async def live(self, on_ready: OnReady) -> int:
        """Start the actors, say when they are ready, and wait for the end."""
        self._listen_to_signals()
        try:
            await require_no_twin(self._bus, self._holder)
        except TwinNode as twin:
            raise CannotStart(str(twin)) from twin
        await self._bus.view.start()
        self._start_actors()
        starting = asyncio.create_task(self._become_ready(on_ready))
        denied = asyncio.create_task(self._end_where_denied(starting))
        failure = await self._ensemble.until_over()
        starting.cancel()
        denied.cancel()
        await asyncio.wait([starting, denied])
        if failure:
            log.error("node.failed", reason=failure)
        return 1 if failure else 0

    async def _end_where_denied(self, starting: asyncio.Task[None]) -> None:
        """Credentials that do not suffice are told at the start; later the log tells of them, subject by subject."""
        reason = await self._bus.connection.until_denied()
        if not starting.done():
            self._ensemble.fail(reason)

    def _start_actors(self) -> None:
        start, bus, roles = self._ensemble.start, self._bus, self._settings.roles
        start("membership", lambda: Membership(bus, self._joining()).run())
        start("receptionist", lambda: Receptionist(bus, self._ensemble.stop).run())
        start("beats", lambda: send_beats(bus, bus.node, self._sample))
        if "master" in roles:
            start("election", lambda: Election(bus, self._holder, self._lead).run())
        if "worker" in roles:
            start("downloader", lambda: self._downloader().run())
            start("worker", lambda: self._worker().run())
            start("surveyor", lambda: Surveyor(bus, self._access.addresses).run())
        if self._api is not None:
            start("api", self._api.run)

    def _worker(self) -> Worker:
        bus, logs, settings = self._bus, self._folder.logs, self._settings
        return Worker(
            *(bus, bus.connection.url, logs, self._patience(), settings.log_level, settings.otlp_endpoint),
            spare=not settings.no_spare,
        )

    def _lead(self, lease: Lease) -> Awaitable[None]:
        return Master(self._bus, lease, duration.seconds(self._settings.forget_nodes_after)).run()

    async def _become_ready(self, on_ready: OnReady) -> None:
        me = self._bus.node
        await self._bus.view.until(lambda state: state.leader and me in state.nodes, timeout_s=None)
        if self._api is not None:
            await self._api.serving.wait()
        by_default = self._settings.models == Settings().models
        await load_first_models(self._bus, self._models, by_default=by_default)
        gc.collect()
        gc.freeze()  # what is here now stays: collections need not look at it while requests come and go
        info = self._info()
        self._folder.announce(info)
        on_ready(info)

    def _joining(self) -> NodeJoined:
        return NodeJoined(
            node=self._bus.node,
            incarnation=self._holder.incarnation,
            name=self._settings.name,
            profile=self._profile,
            roles=self._settings.roles,
            version=VERSION,
            api_url=self._api.url if self._api is not None else "",
            addresses=self._access.addresses,
            splits=SPLITS,
        )

    def _info(self) -> NodeInfo:
        return NodeInfo(
            node_id=self._bus.node,
            pid=os.getpid(),
            nats_url=self._bus.connection.url,
            api_url=self._api.url if self._api is not None else "",
            name=self._settings.name,
            cluster=self._settings.cluster,
            version=VERSION,
            join_url=self._access.join_url,
        )

    def _sample(self) -> Beat:
        carried = [
            InstanceId(i.id) for i in self._bus.view.state.instances.values() if self._bus.node in i.nodes
        ]
        return sample_load(self._bus.node, carried)

    def _downloader(self) -> Downloader:
        return Downloader(
            self._bus,
            self._folder.models,
            BUILTIN,
            supply=supply(self._settings, shares_bus=self._access.shared),
        )

    def _patience(self) -> Patience:
        settings = self._settings
        return Patience(
            start_s=settings.runner_start_s, load_s=settings.runner_load_s, step_s=settings.step_s
        )

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ensemble.stop)


def traced(settings: Settings, node: NodeId) -> Tracing:
    """Where this node's spans go; raises `CannotStart`."""
    try:
        return Tracing.towards(settings.otlp_endpoint, "troupe", node)
    except TracingUnusable as failure:
        raise CannotStart(str(failure)) from failure


def supply(settings: Settings, *, shares_bus: bool) -> Supply:
    """What of a node's settings the downloader is told; with `shares_bus` other machines are to reach it."""
    return Supply(
        hub=HubAccess(url=settings.hub_url, token=settings.hub_token),
        buckets=BucketAccess(
            settings.s3_endpoint, settings.s3_region, settings.s3_access_key, settings.s3_secret_key
        ),
        peer_host=settings.peer_host or (EVERYWHERE if shares_bus else LOOPBACK),
        peer_port=settings.peer_port,
        offline=settings.offline,
        bytes_s=settings.download_bytes_s,
        max_bytes=settings.models_max_bytes,
        verify_always=settings.verify_models == "always",
    )


def api_settings(settings: Settings) -> ApiSettings:
    """What of a node's settings the API is told."""
    return ApiSettings(
        host=settings.api_host,
        port=settings.api_port,
        max_body_bytes=settings.max_body_bytes,
        max_requests=settings.max_requests,
        wait_deadline_s=settings.wait_deadline_s,
        silence_deadline_s=settings.silence_deadline_s,
        stop_grace_s=settings.stop_s,
    )
