"""Tells a runner that is stuck or frozen from one that is slow, from its pulses alone."""

from typing import Literal

import msgspec
from msgspec import Struct

from schemas.node import Pulse

GROUP_SILENCE_S = 5.0
Health = Literal["healthy", "slow", "stuck", "frozen"]
"""slow: its step takes long, and it works on it; stuck: it does not; frozen: the whole process is silent."""


class Patience(Struct, frozen=True, kw_only=True):
    """What a runner is given; seconds unless it says otherwise."""

    start_s: float = 60.0
    """Until the first pulse of a process."""
    load_s: float = 1800.0
    """For loading and warming."""
    silence_s: float = 10.0
    """Between two pulses, while the bus is there."""
    serving_silence_s: float | None = None
    """Once it is loaded; None: as long as before."""
    step_s: float = 60.0
    """For a step, at least."""
    times_slowest: float = 10.0
    """A step may take so many times as long as the slowest one so far."""
    times_working: float = 10.0
    """A step that uses the processor may take so many times the deadline of one that does not."""
    busy: float = 0.05
    """Part of one core that a process uses at least when it works on a step."""

    def of_group(self) -> "Patience":
        """For a rank: the others wait for it, and whoever waits burns a core, so that this is no sign of work."""
        return msgspec.structs.replace(self, serving_silence_s=GROUP_SILENCE_S, times_working=1.0)


class Watched(Struct, frozen=True, kw_only=True):
    """What is known of a runner; times by the watcher's monotonic clock."""

    started_at: float
    bus_up_since: float | None
    """None while the bus is away: silence means nothing then."""
    heard_at: float | None = None
    pulse: Pulse | None = None
    progressed_at: float = 0.0
    """When a pulse last told of a finished step, of no step, or of a processor at work."""


def judge(watched: Watched, now: float, patience: Patience) -> Health:
    """How the runner is, as far as its pulses tell."""
    pulse = watched.pulse
    if _silence_s(watched, now) > _longest_silence_s(pulse, patience):
        return "frozen"
    if pulse is None:
        return "healthy"
    deadline_s = step_deadline_s(pulse, patience)
    if pulse.step_age_s <= deadline_s:
        return "healthy"
    if pulse.steps == 0 or pulse.step_age_s > deadline_s * patience.times_working:
        return "stuck"
    return "slow" if now - watched.progressed_at <= patience.silence_s else "stuck"


def _longest_silence_s(pulse: Pulse | None, patience: Patience) -> float:
    if pulse is None:
        return patience.start_s
    return (pulse.steps and patience.serving_silence_s) or patience.silence_s


def step_deadline_s(pulse: Pulse, patience: Patience) -> float:
    """How long the running step may take; loading is the step before the first one."""
    if pulse.steps == 0:
        return patience.load_s
    return max(patience.step_s, patience.times_slowest * pulse.slowest_step_s)


def hear(watched: Watched, pulse: Pulse, now: float, patience: Patience) -> Watched:
    """With one more pulse."""
    progressed = _progressed(watched, pulse, now, patience)
    return msgspec.structs.replace(
        watched, heard_at=now, pulse=pulse, progressed_at=now if progressed else watched.progressed_at
    )


def _progressed(watched: Watched, pulse: Pulse, now: float, patience: Patience) -> bool:
    before, heard_at = watched.pulse, watched.heard_at
    if before is None or heard_at is None or pulse.steps != before.steps or pulse.step_age_s == 0:
        return True
    return pulse.step_cpu_s - before.step_cpu_s >= patience.busy * (now - heard_at)


def _silence_s(watched: Watched, now: float) -> float:
    """Time without a pulse during which the bus could have carried one."""
    if watched.bus_up_since is None:
        return 0.0
    return now - max(watched.started_at, watched.bus_up_since, watched.heard_at or 0.0)


class Watchdog:
    """Keeps what is known of one runner."""

    def __init__(self, patience: Patience, now: float, bus_up: bool = True) -> None:
        self._patience = patience
        self._watched = Watched(started_at=now, bus_up_since=now if bus_up else None)

    def hear(self, pulse: Pulse, now: float) -> None:
        self._watched = hear(self._watched, pulse, now, self._patience)

    def note_bus(self, up: bool, now: float) -> None:
        """Tell it when the bus goes and comes; the same news twice changes nothing."""
        if up != (self._watched.bus_up_since is not None):
            self._watched = msgspec.structs.replace(self._watched, bus_up_since=now if up else None)

    def health(self, now: float) -> Health:
        return judge(self._watched, now, self._patience)

    def complaint(self, now: float) -> str:
        """What is wrong, for the reason of a failure; empty when nothing is."""
        pulse, health = self._watched.pulse, self.health(now)
        if health == "frozen":
            return f"the runner was silent for {_silence_s(self._watched, now):.1f} s"
        if health == "stuck" and pulse is not None:
            step = "loading the model" if pulse.steps == 0 else "a step of the engine"
            deadline_s = step_deadline_s(pulse, self._patience)
            return f"{step} took {pulse.step_age_s:.1f} s, {deadline_s:.1f} s were allowed"
        return ""
