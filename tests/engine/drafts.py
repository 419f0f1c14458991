"""Drafts for small models: the model itself, the model with noise on its weights, and one that has nothing to do with it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from actors.engine.speculation_worth import Worth
from tests.models import save_safetensors

DRAFTS = ("itself", "noisy", "other")


def make_draft(kind: str, model: Path, folder: Path, noise: float = 0.2) -> Path:
    """`noise`: its standard deviation, as a share of that of each weight."""
    if kind == "itself":
        return model
    shutil.copytree(model, folder)
    random = np.random.default_rng(11)
    weights = load_file(model / "model.safetensors")
    for name, weight in weights.items():
        strange = (random.standard_normal(weight.shape) * weight.std()).astype(np.float32)
        weights[name] = strange if kind == "other" and weight.ndim > 1 else weight + noise * strange
    save_safetensors(folder / "model.safetensors", weights)
    return folder


def speculate_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow it is: for models so small that it does not pay."""
    monkeypatch.setattr(Worth, "resting", property(lambda _: False))
    monkeypatch.setattr("actors.engine.speculation.AFFORDABLE", float("inf"))
