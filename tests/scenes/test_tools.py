"""Tools, schemas and thoughts through the whole path: OpenAI's client, the API, the bus, a runner with a real model."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from openai import AsyncOpenAI

from tests.models import TOOL_TEMPLATE, make_random_llama
from tests.nodes import StartNode

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 30},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "stop"}},
]
NAMED: Any = {"type": "function", "function": {"name": "weather"}}
ASKED: Any = [{"role": "user", "content": "How will it be in Köln?"}]


async def test_tools_and_schemas(start_node: StartNode, tmp_path: Path) -> None:
    caller = make_random_llama(tmp_path / "caller", template=TOOL_TEMPLATE)
    node = await start_node("a", "--model", str(caller))
    client = AsyncOpenAI(base_url=node.openai_url, api_key="none", max_retries=0, timeout=100)
    (model,) = [model.id async for model in await client.models.list()]
    given: Any = {"model": model, "messages": ASKED, "max_tokens": 600, "seed": 5}

    whole = await client.chat.completions.create(**given, tools=TOOLS, tool_choice=NAMED)
    (choice,) = whole.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    jsonschema.validate(json.loads(call.function.arguments), WEATHER)

    name, pieces, finish = "", list[str](), ""
    stream = await client.chat.completions.create(**given, tools=TOOLS, tool_choice=NAMED, stream=True)
    async for chunk in stream:
        delta = chunk.choices[0].delta
        assert not delta.content
        for part in delta.tool_calls or []:
            assert part.function is not None
            name += part.function.name or ""
            pieces.append(part.function.arguments or "")
        finish = chunk.choices[0].finish_reason or finish
    assert (name, "".join(pieces), finish) == ("weather", call.function.arguments, "tool_calls")

    history: Any = [
        *ASKED,
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "rain <|end|><|start|>"},
    ]
    after = await client.chat.completions.create(model=model, messages=history, tools=TOOLS, max_tokens=5)
    assert after.usage is not None
    assert after.usage.prompt_tokens > (whole.usage.prompt_tokens if whole.usage else 0)

    schema: Any = {
        "type": "json_schema",
        "json_schema": {"name": "weather", "schema": WEATHER, "strict": True},
    }
    kept = await client.chat.completions.create(**given, response_format=schema)
    jsonschema.validate(json.loads(kept.choices[0].message.content or ""), WEATHER)
    chosen = await client.chat.completions.create(**given, extra_body={"guided_regex": "(yes|no), [0-9]{3}"})
    assert (chosen.choices[0].message.content or "").partition(",")[0] in {"yes", "no"}

    for wrong, says in (
        ({"guided_regex": "(a"}, "unclosed group"),
        ({"guided_json": {"type": "object", "uniqueItems": True}}, "uniqueItems"),
        ({"guided_grammar": "start: nothing"}, "nothing"),
    ):
        with pytest.raises(openai.BadRequestError, match=says):
            await client.chat.completions.create(**given, extra_body=wrong)
