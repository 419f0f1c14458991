"""A random model that must call a tool calls it rightly, alone, beside others, and taken up by another engine."""

import json
from pathlib import Path

import jsonschema
import pytest
from msgspec.structs import replace
from tokenizers import Tokenizer

from actors.engine.factory import Wanted, make_engine
from actors.engine.port import Engine
from api.reading.events import CallArguments, CallBegan, Said
from api.text.template import ChatTemplate
from api.text.tokenizer import ChatTokenizer
from api.tools.format import Tools
from api.tools.grammar import NamedTool, tool_grammar
from api.tools.reader import ToolReader
from schemas.task import Made, pack_ids
from tests.engine.running import ORIGIN, a_task, reasons, run, tokens
from tests.models import END, TOOL_TEMPLATE, make_random_llama

TOOLS: Tools = {
    "weather": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"enum": [1, 2, 3]}},
        "required": ["city", "days"],
    },
    "stop": {},
}
MESSAGES = [{"role": "user", "content": "How will it be?"}]
GIVEN = [
    {"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in TOOLS.items()
]
N = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_llama(tmp_path_factory.mktemp("caller"), template=TOOL_TEMPLATE)


@pytest.fixture(scope="module")
def caller(folder: Path) -> Engine:
    engine = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN))
    engine.load(lambda _: None)
    return engine


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> ChatTokenizer:
    return ChatTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), ChatTemplate(TOOL_TEMPLATE, {}))


def read(tokenizer: ChatTokenizer, ids: list[int]) -> tuple[str, str]:
    """Name and arguments of the one call; nothing else is said."""
    written = tokenizer.tool_format
    assert written is not None
    reader, detokenizer = ToolReader(written, TOOLS), tokenizer.detokenizer_showing(written.markers)()
    text = detokenizer.add(ids) + detokenizer.end()
    events = [*reader.add(text), *reader.end()]
    began = [event for event in events if isinstance(event, CallBegan)]
    assert len(began) == 1
    assert not [event for event in events if isinstance(event, Said)]
    return began[0].name, "".join(event.piece for event in events if isinstance(event, CallArguments))


def test_the_template_is_one_for_tools(tokenizer: ChatTokenizer) -> None:
    prompt = tokenizer.decode(tokenizer.render_chat(MESSAGES, GIVEN).ids)
    assert prompt.count("weather") == 1
    assert tokenizer.render_chat(MESSAGES, None, {"enable_thinking": True}).tail.endswith("<think>\n")


@pytest.mark.parametrize("choice", ["required", NamedTool("weather")])
def test_forced_calls(caller: Engine, tokenizer: ChatTokenizer, choice: NamedTool) -> None:
    written = tokenizer.tool_format
    assert written is not None
    task = a_task(
        tokenizer.render_chat(MESSAGES, GIVEN).ids,
        grammar=tool_grammar(written, TOOLS, choice, False, tokenizer.control),
        stop_ids=(END,),
        max_tokens=600,
        temperature=1.0,
        seed=7,
        n=N,
    )
    chunks = run(caller, task)
    made = [tokens(chunks, index=index) for index in range(N)]
    assert reasons(chunks) == ["stop"] * N
    calls = [read(tokenizer, ids) for ids in made]
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), TOOLS[name])
        assert choice == "required" or name == "weather"
    assert len(set(calls)) > 1, "each sequence has its own words"
    half = tuple(Made(pack_ids(ids[: len(ids) // 2])) for ids in made)
    again = run(caller, replace(task, attempt=2, made=half))
    for index, ids in enumerate(made):
        assert tokens(again, index=index) == ids[len(ids) // 2 :]
