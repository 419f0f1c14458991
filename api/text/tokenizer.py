"""A model's tokenizer at the door: conversations in, ids out; users' text never becomes a control token.

The usual path is exactly Hugging Face's: render the template, encode the text without adding anything. Only
when a message, a tool or a template's variable contains the text of a control token (`<|im_end|>`), all is rendered
with a break after that text's first character. The break is itself a token of this copy of the tokenizer, with a
random name, so that nothing can match across it, and its ids are taken out of what was encoded.
"""

from collections.abc import Callable, Collection, Sequence
from secrets import token_hex
from typing import Any

from msgspec import Struct
from tokenizers import AddedToken, Tokenizer

from api.reading.reasoning import Thinking, thinks
from api.text.control_text import ControlText
from api.text.conversation import Conversation, rendered
from api.text.detokenizer import Detokenizer, detokenizers
from api.text.template import ChatMessage, ChatTemplate, Json, TemplateRefused
from api.text.token_text import TokenText, TokenTexts
from api.tools.format import ToolFormat
from api.tools.tools import family

TAIL_CHARS = 200


class Rendered(Struct, frozen=True):
    """A conversation as the model reads it."""

    ids: list[int]
    tail: str
    """The last characters of the text: `api.reading.reasoning.opens` looks there."""


class ChatTokenizer:
    """One model's tokenizer and template; `tool_template` is the one for conversations with tools, if it differs."""

    def __init__(
        self, tokenizer: Tokenizer, template: ChatTemplate | None, tool_template: ChatTemplate | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._tool_template = tool_template or template
        added = tokenizer.get_added_tokens_decoder().values()
        source = "".join(each.source for each in (template, tool_template) if each)
        self.control = frozenset(token.content for token in added if token.special)
        """Texts of the control tokens."""
        self._break = f"\ue000{token_hex(8)}\ue001"
        self._special = ControlText(tokenizer, self.control, self._break)
        controls = [token.content for token in added if _is_control(token, source)]
        self._control = ControlText(tokenizer, controls, self._break)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.add_special_tokens([AddedToken(self._break, normalized=False)])  # pyright: ignore[reportUnknownMemberType] - its stub says a bare `list`
        self._break_id = tokenizer.token_to_id(self._break)
        self._detokenizers: dict[frozenset[str], Callable[[], Detokenizer]] = {}
        self.detokenizer: Callable[[], Detokenizer] = self.detokenizer_showing(())
        self.texts = TokenTexts(tokenizer)
        if self._break_id is not None:
            self.texts[self._break_id] = TokenText("", None)

    @property
    def tool_format(self) -> ToolFormat | None:
        """How the model calls tools; None: not at all, or in a way that is not known here."""
        return family(self._tool_template.source) if self._tool_template else None

    @property
    def thinking(self) -> Thinking | None:
        """How the model thinks aloud; None: it does not."""
        return thinks(self._template.source) if self._template else None

    def detokenizer_showing(self, markers: Collection[str]) -> Callable[[], Detokenizer]:
        """Makes detokenizers whose text has these control tokens in it; they share one table."""
        shown = self.control & frozenset(markers)
        if shown not in self._detokenizers:
            self._detokenizers[shown] = detokenizers(self._tokenizer, shown)
        return self._detokenizers[shown]

    def render_chat(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Json] | None = None,
        variables: Json | None = None,
    ) -> Rendered:
        """The ids of the whole prompt, and how its text ends; raises `TemplateRefused`.

        Messages and tools as OpenAI's requests have them, `tool_calls` with their `arguments` in a string included.
        """
        template = self._tool_template if tools else self._template
        if template is None:
            raise TemplateRefused("this model has no chat template")
        asked = Conversation(
            [_adapted(message, template) for message in messages], list(tools) if tools else None, variables
        )
        chat, text = rendered(asked, template)
        if not chat.mentions(self._control):
            return Rendered(self.encode(text), text[-TAIL_CHARS:])
        ids = self.encode(self._render_broken(template, chat, text))
        return Rendered([token_id for token_id in ids if token_id != self._break_id], text[-TAIL_CHARS:])

    def encode(self, text: str) -> list[int]:
        """Ids with nothing added; `encode_batch_fast` computes no offsets and lets other threads run."""
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def encode_text(self, text: str, add_special: bool) -> list[int]:
        """Ids of a text in which control tokens count; `add_special`: with what the tokenizer puts around it."""
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special)[0].ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, control tokens and all."""
        known = [token_id for token_id in ids if token_id != self._break_id]
        return self._tokenizer.decode(known, skip_special_tokens=False)

    def _render_broken(self, template: ChatTemplate, chat: Conversation, text: str) -> str:
        """Breaks in all control tokens, if the template does the same with them as without.

        Where it does not, it looks for some in the assistant's words (`</think>`): there, those that the
        tokenizer does not call special stay whole.
        """
        broken = chat.broken(self._control, self._control).render(template)
        if broken.replace(self._break, "") == text:
            return broken
        return chat.broken(self._control, self._special).render(template)


def _adapted(message: ChatMessage, template: ChatTemplate) -> dict[str, Any]:
    """OpenAI's newer name of the system's role, for templates that do not know it."""
    if message["role"] == "developer" and "developer" not in template.source:
        return {**message, "role": "system"}
    return dict(message)


def _is_control(token: AddedToken, template: str) -> bool:
    """DeepSeek's `<|User|>` is not marked special; that its template writes it tells what it is."""
    return token.special or (bool(token.content.strip()) and token.content in template)
