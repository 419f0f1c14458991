"""Where settings are written down: flags, `TROUPE_*` variables, `troupe.toml`; a wrong name is an error."""

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from schemas.nearest import nearest

PREFIX = "TROUPE_"
ABOUT_THE_COMMAND = ("config", "debug")
"""Variables that are no settings: the file to read, tracebacks."""
LISTS = ("models", "bus_peers")
"""Settings that a variable holds with commas between the parts."""
_SERVICE_LINK = re.compile(r"TROUPE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")


class SettingsError(Exception):
    """A setting cannot be used; the message says which one, where it was found, and what would do."""


class Given(Struct, frozen=True):
    """One value that somebody gave, and where: `TROUPE_API_PORT in the environment`."""

    value: Any
    where: str


def from_flags(flags: Mapping[str, Any]) -> dict[str, Given]:
    """What was given on the command line; its names were checked there."""
    spelled = {"models": "--model"}
    return {
        name: Given(value, spelled.get(name, "--" + name.replace("_", "-"))) for name, value in flags.items()
    }


def from_environ(environ: Mapping[str, str], known: Collection[str]) -> dict[str, Given]:
    """What the `TROUPE_*` variables say; SettingsError for one that is no setting."""
    given: dict[str, Given] = {}
    for variable in sorted(environ):
        name, value = variable.removeprefix(PREFIX).lower(), environ[variable]
        if not variable.startswith(PREFIX) or name in ABOUT_THE_COMMAND:
            continue
        if _is_service_link(variable, name in known, value):
            continue
        where = f"{variable} in the environment"
        if name not in known:
            raise SettingsError(
                f"{where} is no setting{_guess(name, (*known, *ABOUT_THE_COMMAND), _variable)}"
            )
        given[name] = Given(_parts(value) if name in LISTS else value, where)
    return given


def from_file(path: Path, known: Collection[str]) -> dict[str, Given]:
    """What a TOML file says; SettingsError when it cannot be read or has a key that is no setting."""
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    for key in table:
        if key not in known:
            raise SettingsError(f"{key!r} in {path} is no setting{_guess(key.replace('-', '_'), known)}")
    return {key: Given(value, f"{key!r} in {path}") for key, value in table.items()}


def _is_service_link(variable: str, is_known: bool, value: str) -> bool:
    """Whether Kubernetes made this variable, for a service whose name begins with `troupe`."""
    return bool(_SERVICE_LINK.fullmatch(variable)) and (not is_known or value.startswith("tcp://"))


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _guess(typed: str, names: Collection[str], spell: Callable[[str], str] = str) -> str:
    close = nearest(typed, names)
    if close:
        return f"; did you mean {spell(close)}?"
    return f"; the settings are {', '.join(spell(name) for name in names)}"
