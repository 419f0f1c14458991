"""`actors chat`: talk to a model in the terminal, or ask one question from a script."""

import asyncio
import importlib
import re
import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.cli import screen
from actors.cli.cluster import bus_at, find_cluster
from actors.cli.failure import INTERRUPTED, NO_CLUSTER, USAGE, CommandFailed
from actors.cli.options import Cluster, DataDir, Json, Nats, Where

if TYPE_CHECKING:
    from actors.cli.conversation import Conversation


def chat(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Which model; the guide unless told.")
    ] = None,
    once: Annotated[
        str | None, typer.Option("--once", metavar="TEXT", help="Ask this, print the answer, leave.")
    ] = None,
    system: Annotated[str, typer.Option(metavar="TEXT", help="What the model is told beforehand.")] = "",
    temperature: Annotated[float | None, typer.Option(min=0.0, max=2.0)] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1)] = None,
    api: Annotated[
        str | None, typer.Option(metavar="URL", help="An API's address.", rich_help_panel="Which cluster")
    ] = None,
    nats: Nats = None,
    cluster: Cluster = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Talk to a model. Ctrl-C stops an answer, Ctrl-D leaves; text from a pipe is asked as one question."""
    question = once if once is not None else None if sys.stdin.isatty() else sys.stdin.read().strip()
    if question == "":
        raise CommandFailed("there is nothing to ask: the text is empty", USAGE)
    if question is None and as_json:
        raise CommandFailed("--json needs a question: --once TEXT, or text from a pipe", USAGE)
    parameters = {"temperature": temperature, "max_tokens": max_tokens}
    given = {name: value for name, value in parameters.items() if value is not None}
    from actors.cli.conversation import conversation_with  # HTTP is of no use to the other commands

    if api is not None and not re.match(r"https?://[^\s/]", api):
        raise CommandFailed(f"{api!r} is no address of an API; one looks like http://host:8000", USAGE)
    url = api or find_api(Where(nats, cluster, data_dir))
    with conversation_with(url, model, given, system) as conversation:
        if question is None:
            _talk(conversation, url)
        else:
            _ask_once(conversation, question, as_json)


def find_api(where: Where) -> str:
    """The address of an API of the cluster: this machine's node's, else any that is there."""
    address = find_cluster(where)
    if address.local is not None and address.local.api_url and address.stale is None:
        return address.local.api_url
    return asyncio.run(_any_api(where))


async def _any_api(where: Where) -> str:
    async with bus_at(find_cluster(where)) as bus:
        await bus.view.start()
        urls = [node.api_url for node in bus.view.state.nodes.values() if node.alive and node.api_url]
    if not urls:
        raise CommandFailed(
            "no node of this cluster has an API; start one with `actors up --api-only`", NO_CLUSTER
        )
    return urls[0]


def _ask_once(conversation: "Conversation", question: str, as_json: bool) -> None:
    with closing(conversation.ask(question)) as pieces:
        for piece in pieces:
            if not as_json:
                _write(piece)
    if as_json:
        answer: dict[str, Any] = {
            "model": conversation.model,
            "text": conversation.text,
            "finish_reason": conversation.finish_reason,
            "usage": conversation.usage,
        }
        screen.print_json(answer)
    else:
        _write("\n")


def _talk(conversation: "Conversation", url: str) -> None:
    """Questions and answers until Ctrl-D, or Ctrl-C where no answer runs."""
    with suppress(ImportError):
        importlib.import_module("readline")  # gives `input` a history
    screen.out.print(
        f"[bold]{conversation.model}[/] at {url}. Ctrl-C stops an answer, Ctrl-D leaves.", style="dim"
    )
    while True:
        try:
            question = input("\n> ").strip()
        except EOFError:
            return _write("\n")
        except KeyboardInterrupt:
            _write("\n")
            raise typer.Exit(INTERRUPTED) from None
        if question:
            _answer(conversation, question)


def _answer(conversation: "Conversation", question: str) -> None:
    try:
        with closing(conversation.ask(question)) as pieces:
            for piece in pieces:
                _write(piece)
    except KeyboardInterrupt:
        screen.out.print(" [dim](stopped)[/]")
    except CommandFailed as failure:
        screen.err.print(failure.message, style="red", markup=False)
    else:
        cut = " [dim](cut: the answer has reached its longest length)[/]"
        screen.out.print(cut if conversation.finish_reason == "length" else "")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
