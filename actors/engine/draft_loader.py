"""Brings a draft into MLX beside its model, where the two fit together."""

from functools import partial
from pathlib import Path

from mlx_lm.models.cache import KVCache, make_prompt_cache
from msgspec import Struct
from tokenizers import Tokenizer

from actors.engine.batch import Cache
from actors.engine.draft import Draft
from actors.engine.fitting import fitting
from actors.engine.model_loader import LoadedModel, load_model
from actors.engine.port import EngineLoadError
from actors.engine.speculation import Speculation


class DraftWish(Struct, frozen=True):
    """A model that proposes tokens to another one."""

    folder: Path
    tokens: int
    """Most that it proposes at once."""


def load_speculation(
    wish: DraftWish, folder: Path, loaded: LoadedModel, context: int | None = None
) -> Speculation:
    """For the model in `folder`, which is loaded, and whose answers and prompts have `context` tokens at most; raises
    EngineLoadError, which says why the two do not fit."""
    require_equal_tokens(wish.folder, folder)
    draft = load_model(wish.folder)
    for each, where in ((loaded, folder), (draft, wish.folder)):
        _require_rewindable(each, where)
    make_cache: partial[Cache] = partial(make_prompt_cache, draft.model)
    batch, _ = fitting(draft.model, make_cache, draft.on_cpu)
    reader = Draft(draft.model, batch, make_cache, loaded.vocabulary, draft.vocabulary)
    contexts = [most for most in (context, draft.context) if most is not None]
    return Speculation(reader, wish.tokens, min(contexts, default=None))


def require_equal_tokens(draft: Path, model: Path) -> None:
    """A token that means something else to the draft would never be right."""
    theirs, ours = _tokens(draft), _tokens(model)
    if len(theirs) != len(ours):
        raise _unfit(
            f"the draft in {draft} has {len(theirs):,} tokens, and the model in {model} {len(ours):,}"
        )
    for at, token in sorted(ours.items()):
        if theirs.get(at) != token:
            raise _unfit(
                f"token {at} is {theirs.get(at)!r} to the draft in {draft}, and {token!r} to the model in {model}"
            )


def _tokens(folder: Path) -> dict[int, str]:
    if not (folder / "tokenizer.json").exists():
        raise _unfit(f"tokenizer.json is missing in {folder}")
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises nothing narrower
        raise _unfit(f"tokenizer.json in {folder} is no tokenizer: {error}") from error
    return {at: token for token, at in tokenizer.get_vocab(with_added_tokens=True).items()}


def _require_rewindable(loaded: LoadedModel, folder: Path) -> None:
    kinds = {type(layer).__name__ for layer in make_prompt_cache(loaded.model)} - {KVCache.__name__}
    if kinds:
        raise _unfit(
            f"tokens cannot be taken back from the model in {folder}: its layers keep {', '.join(kinds)}"
        )


def _unfit(reason: str) -> EngineLoadError:
    return EngineLoadError(f"no draft is possible: {reason}", retryable=False)
