"""The engine that a job asks for."""

from pathlib import Path

from actors.engine.factory import Wanted
from actors.engine.port import Origin
from actors.runner.job import RunnerJob
from schemas.group import Seat


def wanted(job: RunnerJob, seat: Seat | None = None) -> Wanted:
    return Wanted(
        engine=job.spec.engine,
        folder=Path(job.path),
        origin=Origin(job.instance, job.node, job.attempt),
        context=job.spec.context,
        slots=job.spec.slots,
        cache_bytes=job.spec.cache_bytes,
        batch_bytes=job.spec.batch_bytes,
        speed=job.spec.simulated,
        draft=Path(job.draft_path) if job.draft_path else None,
        draft_tokens=job.spec.draft_tokens,
        seat=seat,
    )
