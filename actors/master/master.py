"""Turns commands and facts into fenced decisions, keeps the KV state, heals the cluster."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress

import msgspec
from msgspec import Struct

from actors.actor import Actor, forever, handles
from actors.master.artifact_keeper import ArtifactKeeper
from actors.master.decisions import decide, heal, unknown_model
from actors.master.leftovers import FORGET_NODE_S, Leftovers
from actors.master.placement import preview
from actors.master.ripe import Ripe
from actors.master.senses import Senses
from actors.master.unmet import Unmet
from bus.bus import Bus
from bus.errors import BusAway, BusError, Fenced, LeaseLost
from bus.lease import Holder, Lease, node_lease
from schemas.commands import (
    DemandModel,
    Done,
    DrainNode,
    ForgetNode,
    LoadModel,
    MasterCommand,
    MasterMessage,
    PreviewModel,
    RestartInstance,
    UnloadModel,
)
from schemas.events import Decided, LeaderElected
from schemas.ids import NodeId
from schemas.node import Pulse
from schemas.plan import Previews
from schemas.presence import concerns_places
from schemas.refused import Refused
from schemas.state import State
from schemas.unreadable import UNREADABLE

CONFIRM_S = 0.3
"""How long a node may be without a lease before it is lost: log and leases are two streams."""
TIDY_S = 60.0
"""How often it is looked at what may be forgotten; what is waited for takes an hour or days."""
_pulse = msgspec.json.Decoder(Pulse).decode


class Heal(Struct, frozen=True):
    """To itself: something may have changed."""


class Tidy(Struct, frozen=True):
    """To itself: time has passed."""


class Master(Actor):
    """One reign: it lasts as long as the lease, and every decision is fenced by the log.

    Nodes that were lost or have left are forgotten after `forget_nodes_after_s`, as this leader is told.
    Raises `LeaseLost`, `Fenced` or `BusAway` when it can no longer know that it leads.
    """

    messages = MasterMessage
    own_messages = Heal | Tidy

    def __init__(self, bus: Bus, lease: Lease, forget_nodes_after_s: float = FORGET_NODE_S) -> None:
        super().__init__(bus, inbox=bus.subjects.master)
        self._lease = lease
        self._term = 0
        self._last = 0
        self._leases: Mapping[str, Holder] | None = None
        self._senses = Senses()
        self._next_look: asyncio.TimerHandle | None = None
        self._looks = False
        self._leftovers = Leftovers(forget_nodes_after_s)
        self._artifacts = ArtifactKeeper(bus)
        self._unmet = Unmet()

    async def setup(self) -> None:
        """Ascend: the first act of a leader is to say so in the log, after all that was decided before."""
        while not self._term:
            self._last = await self.bus.log.last_decision()
            state = await self.bus.view.until(lambda state: state.seq >= self._last)
            term = max(self._lease.revision, state.leader.term + 1 if state.leader else 0)
            with suppress(Fenced):  # an earlier leader's last decision came between
                await self._append(LeaderElected(node=self.bus.node, term=term), term)
                self._term = term
        self.logger.info("master.ascended", term=self._term, seq=self._last)

    async def teardown(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()

    @handles(LoadModel, UnloadModel, RestartInstance, DrainNode, ForgetNode)
    async def carry_out(self, order: MasterCommand) -> Done | Refused:
        events = decide(self.bus.view.state, order, self._ripe())
        if isinstance(events, Refused):
            self.logger.info("command.refused", command=type(order).__name__, reason=events.reason)
            return events
        await self._decide(events)
        self._look()
        return Done(seq=self._last)

    @handles(DemandModel)
    async def demand_model(self, order: DemandModel) -> Done | Refused:
        self._senses.activity.use(order.model)
        if (known := self._unmet.answer(order, self.bus.view.state)) is not None:
            return known
        before = self._last
        answer = await self.carry_out(order)
        if self._last == before:
            self._unmet.note(order, answer)
        return answer

    @handles(PreviewModel)
    async def preview_model(self, question: PreviewModel) -> Previews | Refused:
        model = self.bus.view.state.models.get(question.model)
        if model is None:
            return unknown_model(question.model, self.bus.view.state)
        return preview(model.spec, self.bus.view.state)

    @handles(Heal)
    async def heal(self, _: Heal) -> None:
        """Mend until nothing is left to be mended now."""
        self._looks = False
        while self._leases is not None and (events := heal(self.bus.view.state, self._ripe())):
            await self._decide(events)

    @handles(Tidy)
    async def tidy(self, _: Tidy) -> None:
        """Forget what nobody needs any more."""
        await self._decide(self._leftovers.ripe(self.bus.view.state, self.bus.view.bus_time))

    @forever
    async def remember_to_tidy(self) -> None:
        while True:
            self.tell(Tidy())
            await asyncio.sleep(TIDY_S)

    @forever
    async def keep_artifacts(self) -> None:
        while True:
            await asyncio.sleep(TIDY_S)
            try:
                await self._artifacts.tidy(self._lease.require_valid)
            except LeaseLost:
                raise
            except (BusError, TimeoutError) as failure:  # a store that does not work ends no reign
                self.logger.warning("artifacts.kept", reason=str(failure))

    @forever
    async def watch_state(self) -> None:
        async with aclosing(self.bus.view.states()) as states:
            before = State()
            async for state in states:
                if concerns_places(before, state):
                    self._look()
                before = state

    @forever
    async def watch_leases(self) -> None:
        async with aclosing(self.bus.leases.holders()) as pictures:
            async for held in pictures:
                self._leases = held
                self._look()

    @forever
    async def watch_pulses(self) -> None:
        async with self.bus.listening(self.bus.subjects.pulses, self._hear_pulse):
            await asyncio.Event().wait()

    @forever
    async def snapshot(self) -> None:
        self.bus.snapshots.forget()
        async with aclosing(self.bus.view.states()) as states:
            async for state in states:
                try:
                    await self.bus.snapshots.write(state)
                except BusAway:
                    await self.bus.until_connected()

    async def _decide(self, events: Sequence[Decided]) -> None:
        for event in events:
            await self._append(event, self._term)
        await self.bus.view.until(lambda state: state.seq >= self._last)

    async def _append(self, event: Decided, term: int) -> None:
        self._lease.require_valid()
        self._last = await self.bus.log.decide(event, term, after=self._last)
        self.logger.info("event.decided", event_kind=type(event).__name__, id=event.entity_id, seq=self._last)

    def _hear_pulse(self, payload: bytes, subject: str) -> None:
        try:
            pulse = _pulse(payload)
        except UNREADABLE as garbage:
            self.bus.note_garbage(subject, garbage)
            return
        if self._senses.hear(pulse, self.bus.view.state):
            self._look()

    def _ripe(self) -> Ripe:
        """What has lasted for long enough; looks again when something else will have."""
        ripe, wait_s = self._senses.ripe(self.bus.view.state, self._without_lease(), self._grace_s())
        self._look_again(wait_s)
        return ripe

    def _without_lease(self) -> list[NodeId]:
        leases = self._leases or {}
        return [
            node.id
            for node in self.bus.view.state.nodes.values()
            if node.alive
            and (
                (holder := leases.get(node_lease(node.id))) is None or holder.incarnation != node.incarnation
            )
        ]

    def _grace_s(self) -> float:
        """After the bus was away every lease may have run out: nodes get time to return."""
        return CONFIRM_S if self.bus.connection.steady_s > 2 * self._lease.ttl_s else self._lease.ttl_s

    def _look(self) -> None:
        """Heal soon: once, however many things have changed until then."""
        self._looks = self._looks or self.tell(Heal())

    def _look_again(self, wait_s: float | None) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        if wait_s is not None:
            self._next_look = asyncio.get_running_loop().call_later(wait_s + 0.01, self._look)
