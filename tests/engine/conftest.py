"""A tiny random model, loaded once, and ways to run tasks on an engine."""

from pathlib import Path

import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.port import Engine
from tests.engine.running import ORIGIN
from tests.models import make_random_llama


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random llama of 0.2M parameters and a context of 512."""
    return make_random_llama(tmp_path_factory.mktemp("llama"), context=512)


@pytest.fixture(scope="session")
def warm_engine(llama: Path) -> Engine:
    engine = make_engine(Wanted(engine="mlx", folder=llama, origin=ORIGIN, cache_bytes=0))
    engine.load(lambda _: None)
    engine.warm()
    return engine


@pytest.fixture
def engine(warm_engine: Engine) -> Engine:
    """MLX with the random llama, with nothing to do."""
    assert warm_engine.idle
    return warm_engine


@pytest.fixture(scope="session")
def roomy_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """For prompts that need several chunks, however fast the machine is."""
    folder = make_random_llama(tmp_path_factory.mktemp("roomy"), context=8192)
    engine = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN, cache_bytes=0))
    engine.load(lambda _: None)
    return engine
