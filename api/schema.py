"""`GET /schema`: the OpenAPI document, made of the same Structs that are read and written."""

from typing import Any

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from api.cancel import Cancelled
from api.cluster import ModelStatus, WishedModel
from api.health import Health
from api.openai.chat_parameters import NEUTRAL, NEUTRAL_MESSAGE, NEUTRAL_PART
from api.openai.completion_parameters import NEUTRAL_COMPLETION
from api.parameters import NEUTRAL_OPTION, Neutral
from api.resuming.seal import HEADER
from api.urgency import MAX_TIMEOUT_S, PRIORITY, TIMEOUT
from schemas.chat import ChatCompletion, ChatCompletionChunk, ChatRequest
from schemas.commands import Done
from schemas.completions import CompletionRequest, TextCompletion
from schemas.events import KnownEvent
from schemas.openai import ErrorBody, ModelList, ModelObject
from schemas.plan import Previews
from schemas.state import State
from schemas.task import LANES
from schemas.tokens import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest

Document = dict[str, Any]


class ShownEvent(Struct, frozen=True):
    """What `/cluster/events` sends: `Recorded`, but for events of versions that this one does not know."""

    seq: int
    time: float
    event: KnownEvent
    term: int = 0
    by: str = ""


TYPES = (
    ChatRequest,
    ChatCompletion,
    ChatCompletionChunk,
    CompletionRequest,
    TextCompletion,
    TokenizeRequest,
    Tokenized,
    DetokenizeRequest,
    Detokenized,
    Cancelled,
    ErrorBody,
    ModelList,
    ModelObject,
    Health,
    State,
    ShownEvent,
    ModelStatus,
    WishedModel,
    Previews,
    Done,
)
UNBUILT: dict[str, dict[str, Neutral]] = {
    "ChatRequest": NEUTRAL,
    "CompletionRequest": NEUTRAL_COMPLETION,
    "StreamOptions": NEUTRAL_OPTION,
    "Message": NEUTRAL_MESSAGE,
    "Part": NEUTRAL_PART,
}


def schema_routes() -> list[HTTPRouteHandler]:
    """The route of the document."""
    document = msgspec.json.encode(openapi())

    @get("/schema", sync_to_thread=False)
    def schema() -> Response[bytes]:
        return Response(document, media_type="application/json")

    return [schema]


def openapi() -> Document:
    """OpenAPI 3.1, of every path."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Troupe",
            "version": "1",
            "description": "A cluster of actors that serves language models.",
        },
        "paths": paths(),
        "components": {"schemas": components()},
    }


def components() -> Document:
    """All types; fields that are not built show their neutral values and the reason."""
    _, found = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    for name, neutral in UNBUILT.items():
        for field, (values, why) in neutral.items():
            found[name]["properties"][field] = {"enum": list(values), "description": f"Not supported: {why}."}
    found["Part"]["properties"]["type"] = {"enum": ["text"]}
    found["Part"]["required"] = ["type", "text"]
    found["Message"]["properties"]["role"] = {"enum": ["system", "developer", "user", "assistant"]}
    found["Message"]["required"] = ["role", "content"]
    return found


def paths() -> Document:
    chat = _streamed("ChatCompletion", "ChatCompletionChunk")
    text = _streamed("TextCompletion", "TextCompletion")
    name = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}]
    return {
        "/v1/chat/completions": {
            "post": _operation("complete", "Answer a chat.", chat, _WRONG, _HEADERS, body="ChatRequest")
        },
        "/v1/completions": {
            "post": _operation("goOn", "Go on from prompts.", text, _WRONG, _HEADERS, body="CompletionRequest")
        },
        "/v1/cancel/{name}": {
            "post": _operation("cancel", "End a request from outside.", _ok("Cancelled"), [404, 503], name)
        },
        "/tokenize": {
            "post": _operation("tokenize", "A text or a chat as token ids.", _ok("Tokenized"), [400, 404, 413, 503], body="TokenizeRequest")
        },
        "/detokenize": {
            "post": _operation("detokenize", "Token ids as text.", _ok("Detokenized"), [400, 404, 413, 503], body="DetokenizeRequest")
        },
        "/v1/models": {"get": _operation("models", "All models.", _ok("ModelList"))},
        "/v1/models/{name}": {"get": _operation("model", "One model.", _ok("ModelObject"), [404], name)},
        "/metrics": {"get": _operation("metrics", "Metrics for Prometheus.", _METRICS)},
        "/health/live": {"get": _operation("live", "The process answers.", _ok("Health"))},
        "/health/ready": {"get": _operation("ready", "It can serve.", _ok("Health") | _ok("Health", 503))},
        "/cluster/state": {"get": _operation("state", "The cluster's state.", _ok("State"))},
        "/cluster/events": {"get": _operation("events", "The cluster's log.", _EVENTS, [400, 503], _RANGE)},
        "/cluster/models": {
            "get": _operation("wishes", "Wished-for models and how far they are.", _ok("ModelStatus", many=True)),
            "post": _operation("load", "Have a model served.", _ok("Done", 202), [400, 409, 413, 429, 503], body="WishedModel"),
        },
        "/cluster/models/{name}": {
            "get": _operation("wish", "One model and how far it is.", _ok("ModelStatus"), [404], name),
            "delete": _operation("unload", "Forget a model.", _ok("Done", 202), [404, 409, 503], name),
        },
        "/cluster/previews": {
            "get": _operation("previews", "How a model could be placed, and why not otherwise.", _ok("Previews"), [400, 404, 503], _MODEL)
        },
        "/schema": {"get": _operation("schema", "This document.", {"200": {"description": "OpenAPI 3.1."}})},
    }  # fmt: skip


_METRICS: Document = {
    "200": {"description": "Prometheus' text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
_EVENTS: Document = {
    "200": {
        "description": "Events of the log; the id of each is its sequence.",
        "content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/ShownEvent"}}},
    }
}
_MODEL: list[Document] = [
    {"name": "model", "in": "query", "required": True, "schema": {"type": "string", "minLength": 1}}
]
_RANGE: list[Document] = [
    {"name": "after", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}},
    {"name": "follow", "in": "query", "schema": {"type": "boolean"}},
    {
        "name": "Last-Event-ID",
        "in": "header",
        "schema": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    },
]


_WRONG = [400, 404, 409, 413, 429, 500, 503, 504]
_HEADERS: list[Document] = [
    {"name": HEADER, "in": "header", "schema": {"type": "string"}},
    {"name": PRIORITY, "in": "header", "schema": {"enum": list(LANES)}},
    {
        "name": TIMEOUT,
        "in": "header",
        "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_S},
    },
]


def _streamed(whole: str, chunk: str) -> Document:
    return {
        "200": {
            "description": "The answer: whole, or with `stream` as events that end with `[DONE]`.",
            "content": {
                "application/json": {"schema": _ref(whole)},
                "text/event-stream": {"schema": _ref(chunk)},
            },
        }
    }


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _ok(name: str, status: int = 200, *, many: bool = False) -> Document:
    schema = {"type": "array", "items": _ref(name)} if many else _ref(name)
    return {str(status): {"description": name, "content": {"application/json": {"schema": schema}}}}


def _operation(
    name: str,
    summary: str,
    answers: Document,
    errors: list[int] | None = None,
    parameters: list[Document] | None = None,
    body: str = "",
) -> Document:
    wrong = {
        "description": "Refused; the message says why.",
        "content": {"application/json": {"schema": _ref("ErrorBody")}},
    }
    operation: Document = {
        "operationId": name,
        "summary": summary,
        "responses": answers | {str(status): wrong for status in errors or []},
    }
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
    return operation
