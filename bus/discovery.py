"""Nodes of one name find each other on the network they share (mDNS), and agree on whose server is the bus.

What is announced is no secret: cluster, node, stage, port and addresses. The join token is never among it, and who
joins checks the server by the token (`bus/authority.py`) before it says a word: an announcement is only a hint.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import msgspec
import structlog
from msgspec import Struct, structs
from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from bus.errors import BusError
from schemas.ids import NodeId

log = structlog.get_logger()

SERVICE = "_troupe._tcp.local."
TTL_S = 20
"""How long others remember a node that vanished; browsers ask again before."""
RESOLVE_MS = 2000
LOOK_S = 1.5
"""How long a node looks before it believes that nobody is there."""
SETTLE_S = 0.5
"""How long the first node waits for another that became the first at the same moment."""
ELDER_S = 20.0
"""How long a node waits for one that goes before it and says no more."""

Stage = Literal["seeking", "first", "bus"]


class NoNetwork(BusError):
    """mDNS cannot be used on this machine."""


class Notice(Struct, frozen=True, kw_only=True):
    """What a node says of itself."""

    cluster: str
    node: NodeId
    stage: Stage
    """It looks for a cluster; it is the first and starts the bus; its server is the bus."""
    remembers: bool = False
    """Its data folder holds the memory of a cluster."""
    several: bool = False
    """Its server is one of several that are one bus: others of them announce themselves too."""
    port: int = 0
    addresses: tuple[str, ...] = ()
    """The one to try first is first; the others in no order that means anything."""

    @property
    def rank(self) -> tuple[bool, str]:
        """Who is first among equals: whoever remembers, then the lowest id; the same wherever it is asked."""
        return (not self.remembers, self.node)


class Neighbours:
    """One node's ear and voice on the network."""

    def __init__(self, mine: Notice) -> None:
        self._mine = mine
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._info: AsyncServiceInfo | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self._changed = asyncio.Event()
        self.seen: dict[str, Notice] = {}

    async def open(self) -> None:
        """Look, and say the first word; raises `NoNetwork`."""
        try:
            self._zeroconf = AsyncZeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.V4Only)
            self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._on_change])
            await self.say(self._mine.stage)
        except (OSError, ZeroconfError) as failure:
            await self.close()
            raise NoNetwork(
                f"mDNS does not work here ({failure}): say where the cluster is with --join"
            ) from failure

    async def say(self, stage: Stage, port: int = 0) -> None:
        """Tell everybody how far this node is."""
        assert self._zeroconf is not None
        self._mine = structs.replace(self._mine, stage=stage, port=port)
        info = _service(self._mine)
        if self._info is None:
            sent = await self._zeroconf.async_register_service(info, cooperating_responders=True)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # untyped in zeroconf
        else:
            sent = await self._zeroconf.async_update_service(info)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        self._info = info
        self._keep(asyncio.ensure_future(sent))  # pyright: ignore[reportUnknownArgumentType]

    async def find(self) -> Notice | None:
        """The node whose server is the bus; None: this node is the first, and has told everybody."""
        silent: set[Notice] = set()
        await self.until(self._has_bus, LOOK_S)
        while not self._has_bus():
            elder = min(filter(self._goes_before, set(self.seen.values()) - silent), key=_rank, default=None)
            if elder is None:
                if await self._is_first():
                    return None
                continue
            await self._until_more_of(elder)
            if self.seen.get(elder.node) == elder:
                silent.add(elder)
        return min(self._buses(), key=_rank)

    async def _until_more_of(self, elder: Notice) -> None:
        await self.until(lambda: self._has_bus() or self.seen.get(elder.node) != elder, ELDER_S)

    async def close(self) -> None:
        """Say goodbye."""
        for task in self._tasks:
            task.cancel()
        browser, zeroconf = self._browser, self._zeroconf
        self._browser = self._zeroconf = None
        if browser is not None:
            await browser.async_cancel()
        if zeroconf is not None:
            await zeroconf.async_close()

    async def _is_first(self) -> bool:
        """Two may come here at the same moment: each says so before it acts, and one gives way."""
        await self.say("first")
        await self.until(self._has_rival, SETTLE_S)
        gives_way = self._has_rival()
        if gives_way:
            await self.say("seeking")
        return not gives_way

    def _has_rival(self) -> bool:
        return any(
            other.stage == "bus" or (other.stage == "first" and other.rank < self._mine.rank)
            for other in self.seen.values()
        )

    def _goes_before(self, other: Notice) -> bool:
        return other.stage == "first" or other.rank < self._mine.rank

    def _has_bus(self) -> bool:
        return bool(self._buses())

    def _buses(self) -> list[Notice]:
        return [other for other in self.seen.values() if other.stage == "bus"]

    async def until(self, is_so: Callable[[], bool], timeout_s: float) -> None:
        """Until it is so, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not is_so():
                    self._changed.clear()
                    await self._changed.wait()

    def _on_change(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is ServiceStateChange.Removed:
            self._note(name, None)
        else:
            self._keep(asyncio.ensure_future(self._resolve(zeroconf, service_type, name)))

    async def _resolve(self, zeroconf: Zeroconf, service_type: str, name: str) -> None:
        info = AsyncServiceInfo(service_type, name)
        if await info.async_request(zeroconf, RESOLVE_MS):
            self._note(name, _notice(info))

    def _note(self, name: str, notice: Notice | None) -> None:
        node = name.removesuffix(f".{SERVICE}").rpartition(" ")[2]
        if notice is None:
            self.seen.pop(node, None)
        elif notice.cluster == self._mine.cluster and notice.node != self._mine.node:
            if self._mine.stage == "bus" == notice.stage and not notice.several and node not in self.seen:
                log.error("discovery.two_clusters", cluster=notice.cluster, other=notice.addresses)
            self.seen[node] = notice
        self._changed.set()

    def _keep(self, task: "asyncio.Future[Any]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _rank(notice: Notice) -> tuple[bool, str]:
    return notice.rank


def _service(notice: Notice) -> AsyncServiceInfo:
    return AsyncServiceInfo(
        SERVICE,
        f"{notice.cluster} {notice.node}.{SERVICE}",
        port=notice.port,
        properties={
            "cluster": notice.cluster,
            "node": notice.node,
            "stage": notice.stage,
            "remembers": str(int(notice.remembers)),
            "several": str(int(notice.several)),
            "first": next(iter(notice.addresses), ""),
        },
        server=f"troupe-{notice.node}.local.",
        parsed_addresses=list(notice.addresses),
        host_ttl=TTL_S,
        other_ttl=TTL_S,
    )


def _notice(info: AsyncServiceInfo) -> Notice | None:
    """What a service says; None when it is none of ours."""
    properties = {name: value or "" for name, value in info.decoded_properties.items()}
    addresses = sorted(info.parsed_addresses(IPVersion.V4Only))  # they come in any order
    said = {
        **properties,
        "port": info.port or 0,
        "addresses": sorted(addresses, key=lambda address: address != properties.get("first")),
    }
    try:
        return msgspec.convert(said, Notice, strict=False)
    except msgspec.ValidationError:
        return None
