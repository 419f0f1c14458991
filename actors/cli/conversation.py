"""A conversation with a model over the API: asks, and reads the answer as it comes."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from actors.cli.failure import NO_CLUSTER, CommandFailed
from schemas.nearest import did_you_mean

SILENCE_S = 120.0
"""The API sends a comment every few seconds while nothing is to be said; seconds."""


class Delta(Struct, frozen=True):
    """What a piece adds to the answer."""

    content: str | None = None


class Choice(Struct, frozen=True):
    """The one sequence that was asked for."""

    delta: Delta = Delta()
    finish_reason: str | None = None


class Trouble(Struct, frozen=True):
    """An error in the shape of OpenAI's API."""

    message: str


class Piece(Struct, frozen=True):
    """One event of the stream."""

    choices: list[Choice] = []
    usage: dict[str, Any] | None = None
    error: Trouble | None = None


class Named(Struct, frozen=True):
    """One entry of `/v1/models`."""

    id: str


class Models(Struct, frozen=True):
    """What `/v1/models` answers."""

    data: list[Named] = []


class Conversation:
    """Messages to and from one model; `text`, `finish_reason` and `usage` are those of the last answer."""

    def __init__(
        self, client: httpx.Client, model: str, parameters: Mapping[str, Any], system: str = ""
    ) -> None:
        self._client = client
        self._parameters = parameters
        self.model = model
        self.messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
        self.text = ""
        self.finish_reason = ""
        self.usage: dict[str, Any] = {}

    def ask(self, question: str) -> Generator[str]:
        """The answer, as it comes; closing the generator cancels it, and what has come stays said.

        Raises `CommandFailed` with the API's sentence; the question then counts as not asked.
        """
        self.text, self.finish_reason, self.usage = "", "", {}
        self.messages.append({"role": "user", "content": question})
        try:
            for piece in self._pieces():
                self.text += piece
                yield piece
        except CommandFailed:
            self.messages.pop()
            raise
        except (GeneratorExit, KeyboardInterrupt):  # Ctrl-C strikes here or where the piece is written
            self._remember()
            raise
        self._remember()

    def _remember(self) -> None:
        self.messages.append({"role": "assistant", "content": self.text})

    def _pieces(self) -> Iterator[str]:
        body = {
            "model": self.model,
            "messages": self.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._parameters,
        }
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
                if not response.is_success:
                    response.read()
                    raise CommandFailed(trouble(response))
                yield from self._read(response.iter_lines())
        except httpx.HTTPError as error:
            raise CommandFailed(unreachable(self._client, error), NO_CLUSTER) from error

    def _read(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            if not line.startswith("data:"):
                continue  # comments keep the line alive
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                return
            piece = msgspec.json.decode(data, type=Piece)
            if piece.error is not None:
                raise CommandFailed(piece.error.message)
            self.usage = piece.usage or self.usage
            for choice in piece.choices:
                self.finish_reason = choice.finish_reason or self.finish_reason
                if choice.delta.content:
                    yield choice.delta.content
        raise CommandFailed("the answer broke off: the API closed the connection before it had ended")


@contextmanager
def conversation_with(
    url: str, model: str | None, parameters: Mapping[str, Any], system: str
) -> Generator[Conversation]:
    """A conversation with `model`, or with the likeliest one, over the API at `url`."""
    timeout = httpx.Timeout(SILENCE_S, connect=5.0)
    with httpx.Client(base_url=url, timeout=timeout, trust_env=False) as client:
        yield Conversation(client, choose_model(client, model), parameters, system)


def choose_model(client: httpx.Client, wanted: str | None) -> str:
    """The model to talk to: the one that is wanted, else the only one, else `guide`, else the first."""
    try:
        response = client.get("/v1/models")
    except httpx.HTTPError as error:
        raise CommandFailed(unreachable(client, error), NO_CLUSTER) from error
    if not response.is_success:
        raise CommandFailed(trouble(response))
    names = [named.id for named in msgspec.json.decode(response.content, type=Models).data]
    if wanted:
        if names and wanted not in names:
            raise CommandFailed(
                f"no model {wanted!r} is served here{did_you_mean(wanted, names) or _only(names)}"
            )
        return wanted
    if not names:
        raise CommandFailed("no model is served yet; load one with `actors load guide`")
    return "guide" if "guide" in names else names[0]


def _only(names: list[str]) -> str:
    return f"; there are {', '.join(names)}" if len(names) > 1 else f"; there is only {names[0]!r}"


def trouble(response: httpx.Response) -> str:
    """The API's own sentence, or the status."""
    try:
        found = msgspec.json.decode(response.content, type=Piece).error
    except msgspec.MsgspecError:
        found = None
    return found.message if found else f"the API answered {response.status_code} {response.reason_phrase}"


def unreachable(client: httpx.Client, error: httpx.HTTPError) -> str:
    said = str(error) or type(error).__name__
    return (
        f"the API at {client.base_url} does not answer ({said}); `actors status` shows which nodes have one"
    )
