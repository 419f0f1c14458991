"""`GET /metrics`: this API's requests, what the cluster says of itself, and this process, for Prometheus."""

from collections.abc import Iterator
from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from api.accounts.cluster_metrics import cluster_metrics
from api.accounts.process_metrics import process_metrics
from api.accounts.request_metrics import request_metrics
from api.context import Context
from bus.backlog import Depths, backlog
from bus.errors import BusError


def metrics_routes(context: Context) -> list[HTTPRouteHandler]:
    """The route of Prometheus; everything is counted where it happens, and only put together here."""

    @get("/metrics")
    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(Collected(context, await depths(context))), media_type=kind)

    return [metrics]


async def depths(context: Context) -> Depths:
    """What waits in the work queue; nothing is shown while the bus cannot tell."""
    try:
        return await backlog(context.bus.connection, context.bus.cluster)
    except BusError:
        return {}


class Collected(Collector):
    """Every metric, with or without samples."""

    def __init__(self, context: Context, waiting: Depths) -> None:
        self._context = context
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        context = self._context
        yield from request_metrics(context.requests.accounts, context.bus.audits)
        yield from cluster_metrics(context.bus, context.signs, self._waiting)
        yield from process_metrics()
