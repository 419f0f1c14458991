"""The rules of the house that can be read off the files (CONTRIBUTING.md says why each is there)."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "bus", "actors", "api")
COMPOSITION_ROOT = "actors/node.py"
SPEAK_TO_A_PERSON = (
    "actors/cli.py",
    "actors/cli/",
    "actors/engine/guide/train.py",
    "actors/engine/guide/evaluate.py",
)
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}

MAY_IMPORT = {
    "schemas": {"schemas"},
    "bus": {"schemas", "bus"},
    "actors": {"schemas", "bus", "actors"},
    "api": {"schemas", "bus", "api"},
}
DOORS = {
    "nats": ("bus/",),
    "zeroconf": ("bus/",),
    "cryptography": ("bus/",),
    "litestar": ("api/",),
    "uvicorn": ("api/", "actors/downloader/peers/"),
    "prometheus_client": ("api/",),
    "opentelemetry": ("bus/",),
    "mlx": ("actors/engine/",),
    "mlx_lm": ("actors/engine/",),
    "llguidance": ("actors/engine/",),
    "greenlet": ("actors/engine/",),
}

Node = TypeVar("Node", bound=ast.AST)


class Source(NamedTuple):
    """One file, read."""

    path: str
    tree: ast.Module

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and full name of everything imported, at the top or later."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.lineno, "." * node.level + (node.module or "")

    def nodes(self, kind: type[Node]) -> Iterator[Node]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kind))


def tracked() -> list[str]:
    """What git holds or would add, as far as it is there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file())


def sources(*folders: str) -> list[Source]:
    return [
        Source(name, ast.parse((ROOT / name).read_text(), filename=name))
        for name in tracked()
        if name.endswith(".py") and name.startswith(tuple(f"{folder}/" for folder in folders))
    ]


PRODUCT = sources(*PACKAGES)
TESTS = sources("tests")


def test_there_is_something_to_read() -> None:
    assert {source.path.split("/")[0] for source in PRODUCT} == set(PACKAGES)


def test_imports_point_inward() -> None:
    """Rule 2; the composition root alone builds the API's actor too."""
    wrong = [
        f"{source.path}:{line} imports {name}"
        for source in PRODUCT
        for line, name in source.imports()
        if (package := name.split(".")[0]) in MAY_IMPORT
        and package not in MAY_IMPORT[source.path.split("/")[0]]
        and not (source.path == COMPOSITION_ROOT and package == "api")
    ]
    assert wrong == []


def test_the_product_imports_by_full_name_and_no_tests() -> None:
    wrong = [
        f"{source.path}:{line} imports {name}"
        for source in PRODUCT
        for line, name in source.imports()
        if name.startswith(".") or name.split(".")[0] in {"tests", "pytest", "hypothesis"}
    ]
    assert wrong == []


@pytest.mark.parametrize("dependency", DOORS)
def test_each_dependency_has_one_door(dependency: str) -> None:
    """Rule 3."""
    wrong = [
        f"{source.path}:{line}"
        for source in PRODUCT
        for line, name in source.imports()
        if name.split(".")[0] == dependency and not source.path.startswith(DOORS[dependency])
    ]
    assert wrong == []


def test_the_environment_is_read_in_settings_alone() -> None:
    """Rule 3: whatever a node can be told has a flag, a variable and a line in the file, all in one place."""
    wrong = [
        f"{source.path}:{node.lineno}"
        for source in PRODUCT
        if source.path != "actors/settings.py"
        for node in source.nodes(ast.AST)
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv", "os.putenv"})
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {alias.name for alias in node.names} & {"environ", "getenv", "putenv"}
        )
    ]
    assert wrong == []


def test_files_are_named_by_their_noun() -> None:
    """Rule 1."""
    assert [name for name in tracked() if Path(name).stem in NAMELESS and name.endswith(".py")] == []


CATCH_EVERYTHING = ("actors/supervisor.py", "api/sse.py")
"""The second: a stream that has begun can only be told of a fault by an event."""


def test_only_the_supervisor_catches_everything() -> None:
    """Rule 8; to clean up and raise again, or to say what a library's bare `Exception` means, is not to catch."""
    wrong = [
        f"{source.path}:{handler.lineno}"
        for source in PRODUCT
        if source.path not in CATCH_EVERYTHING
        for handler in source.nodes(ast.ExceptHandler)
        if (handler.type is None or {"Exception", "BaseException"} & caught(handler.type))
        and not isinstance(handler.body[-1], ast.Raise)
    ]
    assert wrong == []


def caught(kind: ast.expr) -> set[str]:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return {ast.unparse(each) for each in kinds}


def calls(source: Source, names: set[str]) -> Iterator[ast.Call]:
    return (call for call in source.nodes(ast.Call) if ast.unparse(call.func) in names)


def test_only_the_command_line_prints() -> None:
    """Rule 11."""
    wrong = [
        f"{source.path}:{call.lineno}"
        for source in PRODUCT
        if not source.path.startswith(SPEAK_TO_A_PERSON)
        for call in calls(source, {"print"})
    ]
    assert wrong == []


def test_tests_wait_for_what_they_mean() -> None:
    """Rule 15: never for a time. `asyncio.sleep(0)` lets others run, and is no wait.

    Chaos and benchmarks pause to let time pass; elsewhere a pause that is the point says so: `# the pause: ...`.
    """
    wrong = [
        f"{source.path}:{call.lineno}"
        for source in TESTS
        if not source.path.startswith(("tests/chaos/", "tests/bench/"))
        for call in calls(source, {"time.sleep", "asyncio.sleep", "anyio.sleep", "sleep"})
        if not (call.args and ast.unparse(call.args[0]) == "0")
        and "# the pause: " not in (ROOT / source.path).read_text().splitlines()[call.lineno - 1]
    ]
    assert wrong == []


def test_every_module_says_what_it_is_for() -> None:
    """Rule 12."""
    assert [source.path for source in PRODUCT if not ast.get_docstring(source.tree)] == []


INDEX_ADDRESS = re.compile(
    r"(?:--(?:extra-)?index-url|--find-links|--trusted-host)[ =]\S|(?:pypi|pythonhosted)\.org/|/simple/?['\"\s]",
)
LOCAL_PATH = re.compile(
    "|".join(re.escape(path) for path in {str(ROOT), str(Path.home()), sys.prefix} if path.count("/") > 1)
    or "$^"
)


@pytest.mark.parametrize("name", [name for name in tracked() if name.endswith(".lock")])
def test_a_lock_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    assert re.search(r"https?://| @ |file:|^-", text, re.MULTILINE) is None
    packages = re.findall(
        r"^[A-Za-z0-9][\w.-]*==.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)*", text, re.MULTILINE
    )
    assert packages
    assert [package.split()[0] for package in packages if "--hash=" not in package] == []


def test_no_file_names_an_index_or_a_path_of_this_machine() -> None:
    wrong: list[str] = []
    for name in tracked():
        if (ROOT / name).resolve() == Path(__file__).resolve():
            continue
        try:
            lines = (ROOT / name).read_text().splitlines()
        except UnicodeDecodeError:
            continue
        wrong += [
            f"{name}:{number}: {found[0]}"
            for number, line in enumerate(lines, 1)
            if (found := INDEX_ADDRESS.search(line) or LOCAL_PATH.search(line))
        ]
    assert wrong == []
