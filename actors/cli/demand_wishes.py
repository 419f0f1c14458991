"""Options of `actors load` that say when there are copies of a model."""

import msgspec
from msgspec import Struct

from actors.cli.failure import USAGE, CommandFailed
from schemas.model import ModelSpec


class DemandWishes(Struct, frozen=True, kw_only=True):
    """As they were written."""

    on_demand: bool = False
    idle_timeout_s: float | None = None
    keep: bool = False

    def added_to(self, spec: ModelSpec) -> ModelSpec:
        """`spec` with these wishes; the leader says which of them contradict each other."""
        if not self.on_demand and (self.keep or self.idle_timeout_s is not None):
            option = "--keep" if self.keep else "--idle-timeout"
            raise CommandFailed(
                f"{option} only goes with --on-demand: without it a model stays loaded", USAGE
            )
        return msgspec.structs.replace(
            spec, on_demand=self.on_demand, idle_timeout_s=self.idle_timeout_s, keep=self.keep
        )
