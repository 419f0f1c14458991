"""What a grammar may cost: checked before it is compiled, because llguidance itself would take seconds, or crash.

Measured with llguidance 1.9.1 and a vocabulary of 1,024: a chain of 10,000 rules or `$ref`s overflows its stack
(2,000 do not), `multipleOf: 999983` takes 5 s and 400 MB (9,999: 17 ms), an object of 6,000 properties 6 s (1,500:
0.25). Its own limits hold the rest: 100-fold nested repetitions end after 90 ms and 11 MB instead of 700 and 200.
"""

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from llguidance import LLParserLimits

from schemas.task import Grammar

LIMITS = LLParserLimits(initial_lexer_fuel=100_000, max_lexer_states=50_000, verbose_errors=False)
MAX_SOURCE_CHARS = 256 * 1024
MAX_RULES = 2000
"""Lines of Lark, and `$ref`s."""
MAX_MULTIPLE = 10_000
"""Least common multiple of all `multipleOf`, as whole numbers of their smallest digit."""

MAX_PROPERTIES = 1000
"""Of one object; several may have as many as cost the same: it grows with the square."""

_DECODER = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal)
_TEMPERATURE = re.compile(r"^\s*[\w!?]+\s*\[[^\]\n]*\btemperature\s*=", re.MULTILINE)
_EMBEDDED = re.compile(r"%json\s*")


class GrammarError(ValueError):
    """A grammar that cannot be used, or an answer that cannot go on under it; says why in a sentence."""


def check_bounds(grammar: Grammar) -> None:
    """Raises `GrammarError` for what would cost too much, and for a schema that is no JSON."""
    source = grammar.source
    if len(source) > MAX_SOURCE_CHARS:
        raise GrammarError(f"The grammar has {len(source)} characters; at most {MAX_SOURCE_CHARS} are taken.")
    if grammar.kind == "lark" and source.count("\n") >= MAX_RULES:
        raise GrammarError(f"The grammar has more than {MAX_RULES} lines.")
    if grammar.kind == "lark" and _TEMPERATURE.search(source):
        raise GrammarError("The grammar gives a rule its own temperature, which is not supported.")
    try:
        schemas = list(_schemas(grammar))
    except RecursionError as error:
        raise GrammarError("The JSON schema is nested too deeply.") from error
    except (ValueError, InvalidOperation) as error:
        raise GrammarError(f"The JSON schema is no valid JSON: {error}.") from error
    _check_schemas([part for schema in schemas for part in _objects(schema)])


def _schemas(grammar: Grammar) -> Iterator[Any]:
    if grammar.kind == "json_schema":
        yield _DECODER.decode(grammar.source)
    elif grammar.kind == "lark":
        for start in _EMBEDDED.finditer(grammar.source):
            yield _DECODER.raw_decode(grammar.source, start.end())[0]


def _objects(root: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in it; on a stack of its own, for it may be deep."""
    rest = [root]
    while rest:
        part = rest.pop()
        if isinstance(part, dict):
            yield (found := cast("dict[str, Any]", part))
            rest.extend(found.values())
        elif isinstance(part, list):
            rest.extend(cast("list[Any]", part))


def _check_schemas(parts: list[dict[str, Any]]) -> None:
    if sum("$ref" in part for part in parts) > MAX_RULES:
        raise GrammarError(f"The JSON schema has more than {MAX_RULES} '$ref'.")
    sizes = [len(cast("dict[str, Any]", part["properties"])) for part in parts if _has_properties(part)]
    if sum(size**2 for size in sizes) > MAX_PROPERTIES**2:
        raise GrammarError(
            f"The JSON schema has too many properties: {max(sizes)} in its largest object, {sum(sizes)} in all."
        )
    steps = [part["multipleOf"] for part in parts if isinstance(part.get("multipleOf"), Decimal)]
    for step in steps:
        if not step.is_finite() or step <= 0:
            raise GrammarError(f"The JSON schema's 'multipleOf' must be above 0, and is {step}.")
    if math.lcm(*map(_whole, steps)) > MAX_MULTIPLE:
        named = ", ".join(str(step) for step in steps)
        raise GrammarError(f"The JSON schema's 'multipleOf' ({named}) is too much to keep to.")


def _has_properties(part: dict[str, Any]) -> bool:
    return isinstance(part.get("properties"), dict)


def _whole(step: Decimal) -> int:
    """12.50 is 125 of its last digit; 10 to the 400 is not computed."""
    normal = step.normalize()
    exponent = normal.as_tuple().exponent
    assert isinstance(exponent, int), "only infinities have another"
    return int(normal.scaleb(-exponent)) * 10 ** min(max(exponent, 0), 9)
