"""What a client wants of a model, whichever dialect it speaks."""

from collections.abc import Mapping
from secrets import randbits

import msgspec
from msgspec import Struct

from api.errors import ApiError
from api.openai.beam_parameters import beams
from api.openai.grammars import Named
from api.urgency import urgency
from bus.tracing import traceparent
from schemas.chat import ChatRequest
from schemas.completions import CompletionRequest
from schemas.ids import ModelId
from schemas.openai import Asked, Truncation
from schemas.task import Beams, Grammar, Lane, Sampling

PARAMETERS = {*ChatRequest.__struct_fields__, *CompletionRequest.__struct_fields__}


class Wish(Struct, frozen=True, kw_only=True):
    """Checked against everything but the model; `api/text/prompt.py` makes a task of it."""

    model: ModelId
    n: int = 1
    limit: int | None = None
    """Most tokens of each answer; None: the rest of the context."""
    min_tokens: int = 0
    ignore_eos: bool = False
    stops: tuple[str, ...] = ()
    sampling: Sampling = Sampling()
    """Its seed is that of `seed`, or random."""
    beams: Beams | None = None
    """A search in the place of draws."""
    logprobs: int = -1
    """How many alternatives to show with each token; -1: no log-probabilities at all."""
    grammar: Grammar | None = None
    grammar_name: str = ""
    """What the client called it."""
    lane: Lane = "normal"
    tier: str = ""
    """What the answer calls the lane, where the client asked for one."""
    timeout_s: float = 0.0
    """How long the client waits; 0: as long as it takes."""
    speculate: bool = True
    """The model's draft may propose tokens."""
    timings: bool = False
    truncation: Truncation = "disabled"
    endpoint: str = ""
    """Over which route it came, in OpenAI's words."""
    user: str = ""
    """Who the client asks for; this and the next stand in the record of what the request cost."""
    metadata: dict[str, str] = {}
    trace: str = ""
    """W3C trace context of the client."""


def wish(
    asked: Asked, headers: Mapping[str, str], limit: int | None, logprobs: int | None, grammar: Named | None
) -> Wish:
    """The wish of a checked request; `logprobs`: how many alternatives, None: no log-probabilities at all."""
    urgent = urgency(headers, asked.service_tier)
    name, kept = grammar or ("", None)
    return Wish(
        model=ModelId(asked.model),
        n=asked.choices,
        limit=limit,
        min_tokens=asked.min_tokens or 0,
        ignore_eos=bool(asked.ignore_eos),
        stops=asked.stops,
        sampling=sampling(asked),
        beams=beams(asked),
        logprobs=-1 if logprobs is None else logprobs,
        grammar=kept,
        grammar_name=name,
        lane=urgent.lane,
        tier=urgent.tier,
        timeout_s=urgent.timeout_s,
        speculate=asked.speculation,
        timings=asked.wants_timings,
        truncation=asked.truncation,
        user=asked.user or "",
        trace=traceparent(headers),
    )


def seeded(wished: Wish, seed: int) -> Wish:
    """The same with another seed of 64 bits."""
    if seed == wished.sampling.seed:
        return wished
    return msgspec.structs.replace(wished, sampling=msgspec.structs.replace(wished.sampling, seed=seed))


def kept_to(wished: Wish, grammar: Grammar | None) -> Wish:
    """The same with the grammar that `tool_choice` and the model's own marks made of it."""
    if grammar is wished.grammar:
        return wished
    name = wished.grammar_name or "tool_choice"
    return msgspec.structs.replace(wished, grammar=grammar, grammar_name=name)


def named(failure: ApiError, wished: Wish) -> ApiError:
    """A runner's refusal, with the name of the parameter that it speaks of."""
    if failure.code != "bad_request" or failure.param is not None:
        return failure
    first = failure.message.split(" ", 1)[0]
    if first in PARAMETERS:
        failure.param = first
    elif wished.grammar is not None:
        failure.param = wished.grammar_name
    return failure


def sampling(asked: Asked) -> Sampling:
    """OpenAI's defaults; without a seed every request has its own."""
    return Sampling(
        temperature=0.0 if asked.use_beam_search else _or(asked.temperature, 1.0),
        top_p=_or(asked.top_p, 1.0),
        seed=randbits(64) if asked.seed is None else asked.seed & (2**64 - 1),
        top_k=max(0, asked.top_k or 0),
        min_p=_or(asked.min_p, 0.0),
        presence_penalty=_or(asked.presence_penalty, 0.0),
        frequency_penalty=_or(asked.frequency_penalty, 0.0),
        repetition_penalty=_or(asked.repetition_penalty, 1.0),
        logit_bias=tuple(sorted((asked.logit_bias or {}).items())),
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
