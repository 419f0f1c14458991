"""The Litestar application of one API actor."""

from litestar import Litestar
from litestar.datastructures import State
from litestar.types import Scope

from api.accounts.metrics import metrics_routes
from api.cancel import cancel_routes
from api.cluster import cluster_routes
from api.context import Context
from api.errors import answer_error
from api.health import health_routes
from api.openai.chat import chat_routes
from api.openai.completions import completion_routes
from api.openai.models import model_routes
from api.openai.tokenize import tokenize_routes
from api.previews import preview_routes
from api.schema import schema_routes


def create_app(context: Context) -> Litestar:
    """All routes; every error leaves through `answer_error`."""

    async def count_refusal(failure: Exception, _scope: Scope) -> None:
        context.requests.accounts.refused(failure)

    return Litestar(
        route_handlers=[
            *chat_routes(context),
            *completion_routes(context),
            *tokenize_routes(context),
            *cancel_routes(context),
            *model_routes(context),
            *health_routes(context),
            *metrics_routes(context),
            *cluster_routes(context),
            *preview_routes(context),
            *schema_routes(),
        ],
        exception_handlers={Exception: answer_error},
        after_exception=[count_refusal],
        request_max_body_size=context.settings.max_body_bytes,
        state=State({"max_body_bytes": context.settings.max_body_bytes}),
        openapi_config=None,
        logging_config=None,
    )
