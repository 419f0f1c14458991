"""docs/cli.md names every command, every flag and every setting."""

from pathlib import Path

import typer.main

from actors.cli.app import app
from actors.settings import FIELDS

MANUAL = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
EVERYWHERE = {"--help", "--version", "--install-completion", "--show-completion"}


def test_every_command_and_flag_is_in_the_manual() -> None:
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # pyright: ignore[reportAttributeAccessIssue]  # it is a group
        assert f"`actors {name}" in MANUAL
        for parameter in command.params:
            flags = {flag for flag in (*parameter.opts, *parameter.secondary_opts) if flag.startswith("--")}
            assert not flags or flags & EVERYWHERE or any(f"`{flag}" in MANUAL for flag in flags), (
                name,
                flags,
            )


def test_every_setting_is_in_the_manual() -> None:
    missing = [
        name for name in FIELDS if f"`{name}`" not in MANUAL and name not in ("no_worker", "no_master")
    ]
    assert missing == []
    assert all(f"TROUPE_{name.upper()}" in MANUAL for name in FIELDS if not name.startswith("no_"))
