"""A model's tokenizer at the door: conversations in, ids out; users' text never becomes a control token.

The usual path is exactly Hugging Face's: render the template, encode the text without adding anything. Only
when a message contains the text of a control token (`<|im_end|>`), the message is rendered with a break after
that text's first character. The break is itself a token of this copy of the tokenizer, with a random name, so
that nothing can match across it, and its ids are taken out of what was encoded.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from secrets import token_hex

from tokenizers import AddedToken, Tokenizer

from api.detokenizer import Detokenizer, detokenizers
from api.template import ChatMessage, ChatTemplate, TemplateRefused
from api.token_text import TokenText, TokenTexts


class ChatTokenizer:
    """One model's tokenizer and template."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        added = tokenizer.get_added_tokens_decoder().values()
        source = template.source if template else ""
        self._special = _broken([token.content for token in added if token.special])
        self._control = _broken([token.content for token in added if _is_control(token, source)])
        self._folds = tokenizer.normalizer is not None and any(token.normalized for token in added)
        self._break = f"\ue000{token_hex(8)}\ue001"
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.add_special_tokens([AddedToken(self._break, normalized=False)])  # pyright: ignore[reportUnknownMemberType] - its stub says a bare `list`
        self._break_id = tokenizer.token_to_id(self._break)
        self.detokenizer: Callable[[], Detokenizer] = detokenizers(tokenizer)
        self.texts = TokenTexts(tokenizer)
        if self._break_id is not None:
            self.texts[self._break_id] = TokenText("", None)

    def encode_chat(self, messages: Sequence[ChatMessage]) -> list[int]:
        """The ids of the whole prompt; raises `TemplateRefused`."""
        if self._template is None:
            raise TemplateRefused("this model has no chat template")
        messages = [self._adapted(message) for message in messages]
        if not any(self._mentions_control(message["content"]) for message in messages):
            return self.encode(self._template.render(messages))
        ids = self.encode(self._render_broken(self._template, messages))
        return [token_id for token_id in ids if token_id != self._break_id]

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

    def _adapted(self, message: ChatMessage) -> ChatMessage:
        """OpenAI's newer name of the system's role, for templates that do not know it."""
        if message["role"] == "developer" and self._template and "developer" not in self._template.source:
            return {**message, "role": "system"}
        return message

    def _mentions_control(self, text: str) -> bool:
        return self._control.search(self._folded(text)) is not None

    def _folded(self, text: str) -> str:
        """As the tokenizer will see it, where a control token is looked for after normalisation."""
        if not self._folds or self._tokenizer.normalizer is None:
            return text
        folded = self._tokenizer.normalizer.normalize_str(text)
        return folded if self._control.search(folded) and not self._control.search(text) else text

    def _render_broken(self, template: ChatTemplate, messages: Sequence[ChatMessage]) -> str:
        """Breaks in all control tokens, if the template does the same with them as without.

        Where it does not, it looks for some in the assistant's words (`</think>`): there, those that the
        tokenizer does not call special stay whole.
        """
        everywhere = [self._with_breaks(message, self._control) for message in messages]
        rendered = template.render(everywhere)
        if rendered.replace(self._break, "") == template.render(messages):
            return rendered
        return template.render(
            [
                self._with_breaks(message, self._special if message["role"] == "assistant" else self._control)
                for message in messages
            ]
        )

    def _with_breaks(self, message: ChatMessage, control: re.Pattern[str]) -> ChatMessage:
        content = control.sub(lambda first: first[0] + self._break, self._folded(message["content"]))
        return {**message, "content": content}


def _is_control(token: AddedToken, template: str) -> bool:
    """DeepSeek's `<|User|>` is not marked special; that its template writes it tells what it is."""
    return token.special or (bool(token.content.strip()) and token.content in template)


def _broken(controls: Iterable[str]) -> re.Pattern[str]:
    """Finds the first character of each control token's text, overlapping ones too; one character cannot be broken."""
    long = sorted({re.escape(text) for text in controls if len(text) > 1})
    return re.compile(f"(?={'|'.join(long)}).", re.DOTALL) if long else re.compile(r"(?!)")
