"""`/metrics` as a test reads it."""

import asyncio

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.api.stage import Stage


async def scraped(stage: Stage) -> dict[str, Metric]:
    response = await stage.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(response.text)}


async def value(on: Stage, name: str, **labels: str) -> float:
    """Of the one sample that has these labels among its own; 0 when there is none."""
    samples = [sample for family in (await scraped(on)).values() for sample in family.samples]
    found = [s for s in samples if s.name == name and labels.items() <= s.labels.items()]
    assert len(found) <= 1, found
    return found[0].value if found else 0.0


async def until(on: Stage, name: str, wanted: float, **labels: str) -> None:
    """Scrape until it is so."""
    async with asyncio.timeout(10):
        while await value(on, name, **labels) != wanted:
            pass
