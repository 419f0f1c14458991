"""Calls of tools are found in every family's words, however these come, and nothing else is taken for one."""

import itertools
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.reading.events import AnswerEvent, CallArguments, CallBegan, Said, Thought
from api.reading.reader import AnswerReader
from api.reading.reasoning import FAMILIES, ThoughtReader
from api.tools.deepseek import ALL_BEGIN, ALL_END, BEGIN, DEEPSEEK, DEEPSEEK_PLAIN, END, SEP
from api.tools.format import ToolFormat, Tools
from api.tools.glm import GLM
from api.tools.hermes import HERMES
from api.tools.llama import LLAMA
from api.tools.mistral import MISTRAL, MISTRAL_ARGS
from api.tools.nemotron import NEMOTRON
from api.tools.qwen_coder import XML
from api.tools.reader import ToolReader, new_call_id
from api.tools.tags import TagsBody
from api.tools.tools import family

FORMATS = [HERMES, LLAMA, MISTRAL, MISTRAL_ARGS, DEEPSEEK, DEEPSEEK_PLAIN, XML, GLM, NEMOTRON]
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS: Tools = {"weather": CITY, "stop": {}}
ARGUMENTS = '{"city": "Köln \\"}</tool_call>[{", "days": 2}'
CALL = f'{{"name": "weather", "arguments": {ARGUMENTS}}}'
STOP = '{"name": "stop", "arguments": {}}'

WRITTEN = {
    "hermes": (HERMES, f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{STOP}\n</tool_call>"),
    "hermes, other keys": (
        HERMES,
        (
            f'<tool_call>{{"arguments": {ARGUMENTS}, "name": "weather", "id": 3}}</tool_call>'
            '<tool_call>{"name": "stop", "arguments": {}, "id": "x"}</tool_call>'
        ),
    ),
    "hermes, arguments in a string": (
        HERMES,
        (
            f'<tool_call>{{"name": "weather", "arguments": {json.dumps(ARGUMENTS)}}}</tool_call>'
            '<tool_call>{"name": "stop"}</tool_call>'
        ),
    ),
    "hermes, no end": (HERMES, f"<tool_call>\n{CALL}\n<tool_call>\n{STOP}"),
    "llama": (
        LLAMA,
        f'{{"name": "weather", "parameters": {ARGUMENTS}}}; {{"name": "stop", "parameters": {{}}}}',
    ),
    "llama, typed": (
        LLAMA,
        (
            f'<|python_tag|>{{"type": "function", "name": "weather", "parameters": {ARGUMENTS}}};'
            '{"type": "function", "name": "stop", "parameters": {}}'
        ),
    ),
    "mistral": (MISTRAL, f"[TOOL_CALLS] [{CALL}, {STOP}]"),
    "mistral, args": (MISTRAL_ARGS, f"[TOOL_CALLS]weather[ARGS]{ARGUMENTS}[TOOL_CALLS]stop[ARGS]{{}}"),
    "deepseek": (
        DEEPSEEK,
        (
            f"{ALL_BEGIN}{BEGIN}function{SEP}weather\n```json\n{ARGUMENTS}\n```{END}\n"
            f"{BEGIN}function{SEP}stop\n```json\n{{}}\n```{END}{ALL_END}"
        ),
    ),
    "deepseek 3.1": (
        DEEPSEEK_PLAIN,
        f"{ALL_BEGIN}{BEGIN}weather{SEP}{ARGUMENTS}{END}{BEGIN}stop{SEP}{{}}{END}{ALL_END}",
    ),
    "nemotron": (NEMOTRON, f"<TOOLCALL>[{CALL}, {STOP}]</TOOLCALL>"),
    "glm": (
        GLM,
        (
            '<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Köln "}</tool_call>[{</arg_value>\n'
            "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>stop\n</tool_call>"
        ),
    ),
    "xml": (
        XML,
        (
            '<tool_call>\n<function=weather>\n<parameter=city>\nKöln "}</tool_call>[{\n</parameter>\n<parameter=days>\n2\n'
            "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=stop>\n</function>\n</tool_call>"
        ),
    ),
}


def reader(written: ToolFormat, tools: Tools = TOOLS) -> ToolReader:
    return ToolReader(written, tools, lambda: "id")


def read(written: ToolFormat, pieces: Iterable[str], tools: Tools = TOOLS) -> list[AnswerEvent]:
    reads = reader(written, tools)
    return merged([*(event for piece in pieces for event in reads.add(piece)), *reads.end()])


def merged(events: Iterable[AnswerEvent]) -> list[AnswerEvent]:
    """Neighbours that go on are one."""
    whole: list[AnswerEvent] = []
    for event in events:
        match whole[-1] if whole else None, event:
            case Said(before), Said(text):
                whole[-1] = Said(before + text)
            case Thought(before), Thought(text):
                whole[-1] = Thought(before + text)
            case CallArguments(index, before), CallArguments(same, piece) if index == same:
                whole[-1] = CallArguments(index, before + piece)
            case _:
                whole.append(event)
    return whole


def said(events: Iterable[AnswerEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Said))


def call(index: int, name: str, arguments: str) -> list[AnswerEvent]:
    return [CallBegan(index, "id", name), CallArguments(index, arguments)]


def cut(text: str, places: Iterable[int]) -> list[str]:
    at = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(at)]


@pytest.mark.parametrize("of", WRITTEN)
def test_calls_are_read(of: str) -> None:
    written, text = WRITTEN[of]
    for pieces in ([text], list(text)):
        began, first, again, second = read(written, pieces)
        assert began == CallBegan(0, "id", "weather")
        assert isinstance(first, CallArguments)
        assert json.loads(first.piece) == json.loads(ARGUMENTS)
        assert [again, second] == call(1, "stop", "{}")


@pytest.mark.parametrize("of", [of for of in WRITTEN if not of.startswith("llama")])
def test_words_before_and_after_calls_are_said(of: str) -> None:
    written, text = WRITTEN[of]
    events = read(written, list(f" Let me look.\n\n{text}\n\nDone < soon. "))
    assert events[0] == Said(" Let me look.")
    assert events[-1] == Said("\n\nDone < soon. ")
    assert [type(event) for event in events[1:-1]] == [CallBegan, CallArguments] * 2


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (HERMES, f"<tool_call>{CALL}"),
        (LLAMA, '{"name": "weather", "parameters": {"city": "Bonn"}}'),
        (MISTRAL, f"[TOOL_CALLS][{CALL}"),
        (MISTRAL_ARGS, f"[TOOL_CALLS]weather[ARGS]{ARGUMENTS}"),
        (XML, "<tool_call><function=weather><parameter=city>\nBonn on the Rhine\n"),
    ],
)
def test_arguments_are_streamed(written: ToolFormat, text: str) -> None:
    """Each piece is handed on when it comes, not when the call is whole."""
    reads = reader(written)
    events = [reads.add(character) for character in text]
    pieces = [event.piece for some in events for event in some if isinstance(event, CallArguments)]
    assert len(pieces) > 15
    assert all(len(piece) == 1 for piece in pieces[1:])


@pytest.mark.parametrize("written", FORMATS, ids=lambda written: written.name)
@given(text=st.text(), places=st.lists(st.integers(0, 100)))
def test_text_without_calls_is_said_whole(written: ToolFormat, text: str, places: list[int]) -> None:
    assert said(read(written, cut(text, places))) == text


BITS = [
    *(mark for written in FORMATS for mark in (written.opener, *written.tail, written.again) if mark),
    *(
        "<tool_call>",
        "</tool_",
        "[TOOL",
        "[ARGS]",
        "[CALL_ID]",
        "a1",
        "weather",
        "stop",
        "function",
        "```json\n",
    ),
    *(
        CALL,
        STOP,
        ARGUMENTS,
        '{"name": "nobody", "parameters": {}}',
        '{"name":',
        ' "stop"',
        ', "arguments": ',
        "{}",
        "{",
    ),
    *(
        "}",
        "]",
        "[",
        ",",
        ";",
        '"',
        "\\",
        " ",
        "\n",
        "word",
        "é",
        "<",
        '"parameters": {"a": [1, {}]}}',
        "null",
    ),
    *(
        "<function=stop>",
        "<function=weather>",
        "<parameter=days>",
        "<parameter=city>",
        "</parameter>",
        "</function>",
    ),
    *(BEGIN, SEP, END, "<arg_key>days</arg_key>", "<arg_key>", "<arg_value>", "</arg_value>", "</arg_"),
]


@pytest.mark.parametrize("written", FORMATS, ids=lambda written: written.name)
@given(bits=st.lists(st.sampled_from(BITS), max_size=20), places=st.lists(st.integers(0, 1000), max_size=30))
def test_how_the_text_is_cut_makes_no_difference(
    written: ToolFormat, bits: list[str], places: list[int]
) -> None:
    text = "".join(bits)
    whole = read(written, [text])
    assert read(written, cut(text, places)) == whole
    assert read(written, list(text)) == whole
    assert len(said(whole)) <= len(text)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (HERMES, "<tool_call>not json</tool_call>"),
        (HERMES, '<tool_call>{"tool": "weather"}</tool_call>'),
        (HERMES, '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>'),
        (HERMES, '<tool_call>{"name": 5, "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"arguments": {}}</tool_call>'),
        (HERMES, ' <tool_call> {"name": "wea'),
        (HERMES, "a </tool_call> b <tool_cal"),
        (LLAMA, '{"name": "Ada", "parameters": {}}'),
        (LLAMA, '{"answer": {"name": "weather", "parameters": {}}}'),
        (LLAMA, 'It is {"name": "weather", "parameters": {}}'),
        (MISTRAL, "[TOOL_CALLS] []"),
        (MISTRAL_ARGS, "[TOOL_CALLS]weather[ARGS]5"),
        (MISTRAL_ARGS, "[TOOL_CALLS]what is it?"),
        (DEEPSEEK, f"{ALL_BEGIN}{BEGIN}function{SEP}weather"),
        (DEEPSEEK, f"{ALL_BEGIN} {{}}"),
        (XML, "<tool_call>\n<func=weather>"),
        (GLM, "<tool_call>what is <this>?</tool_call>"),
        (NEMOTRON, "<TOOLCALL>weather</TOOLCALL>"),
        (XML, f"<tool_call>\n{CALL}\n</tool_call>"),
    ],
)
def test_what_is_no_call_is_said_whole(written: ToolFormat, text: str) -> None:
    for pieces in ([text], list(text)):
        assert read(written, pieces) == [Said(text)]


def test_a_call_after_one_that_is_none() -> None:
    events = read(HERMES, [f"<tool_call>no</tool_call> <tool_call>{STOP}</tool_call>"])
    assert events == [Said("<tool_call>no</tool_call>"), *call(0, "stop", "{}")]


def test_a_call_that_is_cut_off_keeps_what_it_has() -> None:
    assert read(HERMES, ['<tool_call>{"name": "weather", "arguments": {"city": "Bo']) == call(
        0, "weather", '{"city": "Bo'
    )
    assert read(
        XML, ["<tool_call><function=weather><parameter=days>3</parameter><parameter=city>\nBo"]
    ) == call(0, "weather", '{"days": 3, "city": "Bo')


def test_a_known_tool_alone_makes_json_a_call_where_nothing_marks_it() -> None:
    text = '{"name": "weather", "parameters": {}}'
    assert read(LLAMA, [text]) == call(0, "weather", "{}")
    assert read(LLAMA, [text], {"other": {}}) == [Said(text)]
    assert read(HERMES, [f"<tool_call>{STOP}</tool_call>"], {"other": {}}) == call(0, "stop", "{}"), (
        "the client is told what the model wanted"
    )


def test_json_that_cannot_be_a_call_is_not_held_back() -> None:
    reads = reader(LLAMA)
    assert merged(reads.add('{"answer": "')) == [Said('{"answer": "')]
    reads = reader(LLAMA)
    assert merged(reads.add('{"name": "Ada", "age')) == [Said('{"name": "Ada", "age')]


def test_a_very_long_call_without_a_name_is_text_in_the_end() -> None:
    text = '<tool_call>{"arguments": {"a": "' + "x" * 70_000 + '"}, "name": "stop"}</tool_call>'
    assert read(HERMES, [text]) == [Said(text)] == read(HERMES, cut(text, range(0, 70_000, 5000)))


@pytest.mark.parametrize(
    ("kind", "value", "means"),
    [
        ({"type": "string"}, "5", "5"),
        ({"type": "string"}, 'two\nlines <b> "q"', 'two\nlines <b> "q"'),
        ({"type": "integer"}, "5", 5),
        ({"type": "boolean"}, "True", True),
        ({"type": ["integer", "null"]}, "None", None),
        ({"type": "array"}, '[1, {"a": 2}]', [1, {"a": 2}]),
        ({"type": "integer"}, "about five", "about five"),
        ({"enum": ["1", "2"]}, "1", "1"),
        ({}, '{"a": 1}', {"a": 1}),
        (None, "5", "5"),
    ],
)
def test_values_between_tags_become_json_by_their_schema(kind: object, value: str, means: object) -> None:
    properties = {} if kind is None else {"key": kind}
    text = f"<tool_call>\n<function=f>\n<parameter=key>\n{value}\n</parameter>\n</function>\n</tool_call>"
    events = read(XML, list(text), {"f": {"type": "object", "properties": properties}})
    assert isinstance(events[1], CallArguments)
    assert json.loads(events[1].piece) == {"key": means}


def test_what_is_no_parameter_ends_the_call() -> None:
    text = "<tool_call><function=weather><parameter=days>3</parameter> well</function></tool_call>"
    assert read(XML, list(text)) == [*call(0, "weather", '{"days": 3}'), Said(" well</function></tool_call>")]


def test_a_long_value_is_read_in_time_that_grows_with_it() -> None:
    """Each token looks at what is new: a file that a model writes has 100,000 of them."""
    reads, looked = reader(XML), 0
    reads.add("<tool_call><function=weather><parameter=days>[")
    body = reads._body
    assert isinstance(body, TagsBody)
    for _ in range(1000):
        reads.add("1234,")
        looked += len(body._held) - body._seen
    assert looked == 0
    assert merged(reads.add("5]</parameter></function>")) == [CallArguments(0, f"[{'1234,' * 1000}5]}}")]


def test_a_reader_tells_when_a_call_is_whole() -> None:
    reads = reader(HERMES)
    assert not reads.called
    reads.add("well <tool_call>" + STOP[:-2])
    assert reads.calls == 1
    assert not reads.called
    reads.add("}")
    assert reads.called
    reads.add("}\n</tool_call> <tool_call>")
    assert not reads.called, "another one may come"


def test_ids_are_of_the_family() -> None:
    assert len({new_call_id(HERMES) for _ in range(100)}) == 100
    assert new_call_id(HERMES).startswith("call_")
    assert len(new_call_id(MISTRAL)) == 9
    given = read(MISTRAL_ARGS, ["[TOOL_CALLS]stop[CALL_ID]abc123DEF[ARGS]{}"])
    assert given[0] == CallBegan(0, "abc123DEF", "stop")


def test_thoughts_then_words_then_calls() -> None:
    text = f"<think>\nhm <tool_call>{STOP}</tool_call>\n</think>\n\nOK\n<tool_call>{STOP}</tool_call>"
    for pieces in ([text], list(text)):
        reads = AnswerReader(ThoughtReader(FAMILIES[0]), reader(HERMES))
        events = merged([*(event for piece in pieces for event in reads.add(piece)), *reads.end()])
        assert events == [Thought(f"hm <tool_call>{STOP}</tool_call>"), Said("OK"), *call(0, "stop", "{}")]


TOOLS_IN = "{% if tools %}{{ tools | tojson }}{% endif %}"
QWEN = TOOLS_IN + '<tool_call>\\n{"name": "\' + tool_call.name + \'", "arguments": '


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (QWEN, HERMES),
        (TOOLS_IN + "<tool_call>\\n<function=' + name + '>\\n<parameter=", XML),
        (TOOLS_IN + "[TOOL_CALLS]", MISTRAL),
        (TOOLS_IN + "[TOOL_CALLS]' + name + '[ARGS]'", MISTRAL_ARGS),
        (TOOLS_IN + ALL_BEGIN + "```json", DEEPSEEK),
        (TOOLS_IN + ALL_BEGIN, DEEPSEEK_PLAIN),
        (TOOLS_IN + "<|python_tag|>", LLAMA),
        (TOOLS_IN + '{"name": function name, "parameters": dictionary', LLAMA),
        ("<tool_call>", None),
        (TOOLS_IN, None),
        (TOOLS_IN + "<tool_call>{name}<arg_key>", GLM),
        (TOOLS_IN + "<TOOLCALL>[", NEMOTRON),
        ("no mytools_here" + ALL_BEGIN, None),
        ("{{ messages }}", None),
    ],
)
def test_the_template_tells_the_family(template: str, expected: ToolFormat | None) -> None:
    assert family(template) is expected
