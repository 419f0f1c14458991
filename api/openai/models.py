"""`GET /v1/models`: what clients may name."""

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from api.context import Context
from api.errors import unknown_model
from schemas.ids import ModelId
from schemas.openai import ModelList, ModelObject
from schemas.state import Model, State


def model_routes(context: Context) -> list[HTTPRouteHandler]:
    """The routes of OpenAI's models."""

    @get("/v1/models", sync_to_thread=False)
    def models() -> ModelList:
        state = context.bus.view.state
        return ModelList(data=[_shown(state, state.models[name]) for name in sorted(state.models)])

    @get("/v1/models/{name:path}", sync_to_thread=False)
    def model(name: FromPath[str]) -> ModelObject:
        state = context.bus.view.state
        name = name.removeprefix("/")
        found = state.models.get(ModelId(name))
        if found is None:
            raise unknown_model(name, state.models)
        return _shown(state, found)

    return [models, model]


def _shown(state: State, model: Model) -> ModelObject:
    """`created` is when an instance became ready; 0 before that."""
    ready = [instance.ready_at for instance in state.instances_of(model.spec.id)]
    return ModelObject(id=model.spec.id, created=int(max(ready, default=0.0)))
