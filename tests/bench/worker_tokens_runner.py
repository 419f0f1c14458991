"""A runner that renders, tokenises and detokenises itself, on its loop, as servers do whose workers have the text."""

from pathlib import Path

import msgspec

from actors.downloader.artifact import pack
from actors.runner.__main__ import main
from actors.runner.runner import Runner
from api.text.artifacts import read_artifact
from api.text.detokenizer import Detokenizer
from api.text.tokenizer import ChatTokenizer
from schemas.chunks import Chunk, Ended, Tokens
from schemas.ids import ModelId, RequestId
from schemas.task import Task, pack_ids, unpack_ids


class Text:
    """What the API does elsewhere."""

    def __init__(self, folder: str) -> None:
        self.tokenizer: ChatTokenizer = read_artifact(pack(ModelId("m"), Path(folder)).data)
        self._open: dict[tuple[RequestId, int], Detokenizer] = {}

    def prompt(self, handed_on: bytes) -> bytes:
        messages = msgspec.json.decode(bytes(unpack_ids(handed_on)))
        return pack_ids(self.tokenizer.render_chat(messages).ids)

    def read(self, chunk: Chunk) -> None:
        if isinstance(chunk, Tokens):
            name = chunk.request, chunk.index
            if name not in self._open:
                self._open[name] = self.tokenizer.detokenizer()
            self._open[name].add(unpack_ids(chunk.ids))
        elif isinstance(chunk, Ended):
            self._open.pop((chunk.request, 0), None)


TEXTS: dict[int, Text] = {}
TAKE, SEND = Runner._take, Runner._send  # pyright: ignore[reportPrivateUsage]


def text_of(runner: Runner) -> Text:
    """The runner of this process: there is one."""
    if not TEXTS:
        TEXTS[0] = Text(runner._job.path)  # pyright: ignore[reportPrivateUsage]
    return TEXTS[0]


def take(runner: Runner, task: Task) -> None:
    TAKE(runner, msgspec.structs.replace(task, prompt=text_of(runner).prompt(task.prompt)))


def send(runner: Runner, chunks: list[Chunk]) -> None:
    for chunk in chunks:
        text_of(runner).read(chunk)
    SEND(runner, chunks)


if __name__ == "__main__":
    Runner._take, Runner._send = take, send  # type: ignore[method-assign]  # pyright: ignore[reportPrivateUsage]
    main()
