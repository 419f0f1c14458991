"""`GET /cluster/previews?model=M`: how one more copy of a model could be placed now, asked of the leader."""

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from api.context import Context
from api.errors import bad_request, refused, unknown_model
from bus.commands import preview
from schemas.commands import PreviewModel
from schemas.ids import ModelId
from schemas.plan import Previews
from schemas.refused import Refused


def preview_routes(context: Context) -> list[HTTPRouteHandler]:
    """Nothing is decided by asking."""

    @get("/cluster/previews")
    async def previews(request: Request[Any, Any, Any]) -> Previews:
        model = _model(request)
        known = context.bus.view.state.models
        if model not in known:
            raise unknown_model(model, known)
        answer = await preview(context.bus, PreviewModel(model=model), context.settings.command_timeout_s)
        if isinstance(answer, Refused):
            raise refused(answer)
        return answer

    return [previews]


def _model(request: Request[Any, Any, Any]) -> ModelId:
    for name in request.query_params:
        if name != "model":
            raise bad_request(f"Unknown parameter: '{name}'. There is 'model'.", name, "unknown_parameter")
    model = request.query_params.get("model")
    if not model:
        raise bad_request("'model' is missing: GET /cluster/previews?model=NAME.", "model")
    return ModelId(model)
