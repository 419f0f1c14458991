"""`/health/live` and `/health/ready`, for those who watch a node."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from api.context import Context


class Health(Struct, frozen=True):
    """`waits_for` says what is missing, one sentence each."""

    status: str
    waits_for: list[str] = []


def health_routes(context: Context) -> list[HTTPRouteHandler]:
    """The routes of health checks."""

    @get("/health/live", sync_to_thread=False)
    def live() -> Health:
        return Health("live")

    @get("/health/ready", sync_to_thread=False)
    def ready() -> Response[Health]:
        missing = waits_for(context)
        if not missing:
            return Response(Health("ready"))
        return Response(Health("not ready", missing), status_code=503, headers={"retry-after": "1"})

    return [live, ready]


def waits_for(context: Context) -> list[str]:
    """What keeps this API from serving; empty when nothing does."""
    if not context.bus.connected:
        return ["The bus cannot be reached."]
    state = context.bus.view.state
    leader = state.leader
    if leader is None:
        return ["No leader has been elected yet."]
    node = state.nodes.get(leader.node)
    if node is not None and not node.alive:
        return [f"The leader {node.name} was lost; the next one is being elected."]
    return []
