"""The version of Troupe that runs here."""

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("troupe")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0.0.0+checkout"


VERSION = _installed()
