"""Where settings come from, which one wins, and what a wrong one is answered with."""

from pathlib import Path

import msgspec
import pytest

from actors.setting_sources import SettingsError
from actors.settings import Settings, load_settings


def load(folder: Path, flags: dict[str, object] | None = None, /, **environ: str) -> Settings:
    return load_settings(flags, {"TROUPE_DATA_DIR": str(folder / "data"), **environ}, folder)


def test_defaults_are_those_of_the_design(tmp_path: Path) -> None:
    settings = load_settings({}, {}, tmp_path)
    assert (settings.cluster, settings.nats_port, settings.api_host, settings.api_port) == (
        "troupe",
        4222,
        "127.0.0.1",
        8000,
    )
    assert settings.models == ("guide",)
    assert settings.data_dir == Path.home() / ".troupe"
    assert settings.roles == ("master", "worker", "api")
    assert settings.name


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "troupe.toml").write_text('api_port = 1\nnats_port = 2\ncluster = "three"\n')
    settings = load(tmp_path, {"api_port": 10}, TROUPE_API_PORT="11", TROUPE_NATS_PORT="12")
    assert (settings.api_port, settings.nats_port, settings.cluster) == (10, 12, "three")


def test_a_collector_is_named_by_opentelemetrys_variable_too(tmp_path: Path) -> None:
    everybodys = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    (tmp_path / "troupe.toml").write_text('otlp_endpoint = "http://file:4318"\n')
    assert load(tmp_path, **everybodys).otlp_endpoint == "http://collector:4318"
    assert (
        load(tmp_path, TROUPE_OTLP_ENDPOINT="https://ours:1/x", **everybodys).otlp_endpoint
        == "https://ours:1/x"
    )
    with pytest.raises(SettingsError, match="'collector:4318' is no address of a collector"):
        load(tmp_path, TROUPE_OTLP_ENDPOINT="collector:4318")


def test_joining_is_asked_for_in_one_way(tmp_path: Path) -> None:
    token = "a-token-of-some-length"
    for join in (f"nats://{token}@hera:4222", f"tls://{token}@hera", f"{token}@hera"):
        assert load(tmp_path, {"join": join}).bus_url == f"tls://{token}@hera:4222?trust=token"
    assert load(tmp_path, {"join": "hera", "join_token": token}).bus_url.startswith(
        f"tls://{token}@hera:4222?"
    )
    assert load(tmp_path).nats_host == "127.0.0.1"
    assert load(tmp_path, {"accept_peers": True}).nats_host == "0.0.0.0"
    tls = load(tmp_path, {"nats": "tls://n:1", "tls_ca": "ca.pem"})
    assert tls.bus_url.startswith("tls://n:1?ca=/") and tls.bus_url.endswith("ca.pem")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"join": "tls://hera:4222"}, "join is no address to join"),
        ({"join": "tls://short@hera:4222"}, "join is no address to join"),
        ({"join": "a-token-of-some-length@hera", "nats": "nats://n:1"}, "nats and join together"),
        ({"accept_peers": True, "nats": "nats://n:1"}, "nats and accept_peers together"),
        ({"accept_peers": True, "join": "a-token-of-some-length@hera"}, "join and accept_peers together"),
        ({"join_token": "short"}, "join_token cannot be used"),
        ({"nats_host": "10.0.0.5"}, "would open this node's server to the network"),
        ({"tls_ca": "x.pem"}, "tls_ca is for somebody else's server"),
        ({"nats": "tls://n:1", "tls_cert": "x.pem"}, "tls_cert and tls_key belong together"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path: Path, flags: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as failure:
        load(tmp_path, flags)
    assert "a-token" not in str(failure.value)


def test_the_file_here_wins_over_the_one_in_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "troupe.toml").write_text("api_port = 7\n")
    assert load(tmp_path).api_port == 7
    (tmp_path / "troupe.toml").write_text("nats_port = 8\n")
    assert (load(tmp_path).api_port, load(tmp_path).nats_port) == (8000, 8)


def test_a_named_file_is_the_only_one_and_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "troupe.toml").write_text("api_port = 7\n")
    (tmp_path / "other.toml").write_text("nats_port = 9\n")
    settings = load(tmp_path, TROUPE_CONFIG="other.toml")
    assert (settings.api_port, settings.nats_port) == (8000, 9)
    with pytest.raises(SettingsError, match=r"absent\.toml cannot be read"):
        load(tmp_path, TROUPE_CONFIG="absent.toml")


def test_a_data_folder_in_the_file_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "troupe.toml").write_text('data_dir = "kept"\n')
    settings = load_settings({}, {"TROUPE_CONFIG": "conf/troupe.toml"}, tmp_path)
    assert settings.data_dir == tmp_path / "conf" / "kept"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("api_prot = 8000", r"'api_prot' in .*troupe\.toml is no setting; did you mean api_port\?"),
        ("api-port = 8000", "did you mean api_port"),
        ("api_port = 'many'", r"'api_port' in .*troupe\.toml is 'many', which cannot be used: expected int"),
        ("api_port = 70000", "expected int <= 65535"),
        ("models = 3", "expected array"),
        ("log_level = 'loud'", "it is one of debug, info, warning, error"),
        ("api_port = 1\napi_port = 2\n", r"troupe\.toml is not valid TOML: .*line 2"),
        ("data_dir = 5", "no folder's name"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "troupe.toml").write_text(content)
    with pytest.raises(SettingsError, match=said):
        load(tmp_path)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            "TROUPE_API_PROT",
            "1",
            r"TROUPE_API_PROT in the environment is no setting; did you mean TROUPE_API_PORT\?",
        ),
        ("TROUPE_XYZZY", "1", "the settings are TROUPE_NAME, "),
        (
            "TROUPE_API_PORT",
            "-1",
            "TROUPE_API_PORT in the environment is '-1', which cannot be used: expected int >= 0",
        ),
        ("TROUPE_NO_API", "perhaps", "TROUPE_NO_API"),
        ("TROUPE_CLUSTER", "a b", "1 to 32 letters, digits"),
        ("TROUPE_LEASE_TTL_S", "0.1", "expected float >= 1"),
        ("TROUPE_FORGET_NODES_AFTER", "a week", "a time looks like 90s, 30min, 12h or 7d, or it is never"),
        ("TROUPE_FORGET_NODES_AFTER", "604800", "a time looks like 90s"),
        ("TROUPE_FORGET_NODES_AFTER", "7d\n", "a time looks like 90s"),
        ("TROUPE_FORGET_NODES_AFTER", "59s", "forget_nodes_after is 59s, too soon .* 1min at least"),
        ("TROUPE_NATS", "http://x", "no address of a NATS server; one looks like nats://host:4222"),
    ],
)
def test_a_mistake_in_the_environment_is_named(tmp_path: Path, variable: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(tmp_path, **{variable: value})


def test_variables_hold_lists_and_switches(tmp_path: Path) -> None:
    settings = load(tmp_path, TROUPE_MODELS="guide, org/model", TROUPE_NO_API="true", TROUPE_NO_MASTER="0")
    assert settings.models == ("guide", "org/model")
    assert settings.roles == ("master", "worker")
    assert load(tmp_path, TROUPE_MODELS="").models == ()


def test_what_kubernetes_says_of_a_service_named_troupe_is_no_setting(tmp_path: Path) -> None:
    links = {
        "TROUPE_SERVICE_HOST": "10.0.0.1",
        "TROUPE_PORT_8000_TCP_ADDR": "10.0.0.1",
        "TROUPE_NATS_PORT": "tcp://10.0.0.1:4222",
    }
    assert load(tmp_path, **links).nats_port == 4222


def test_an_address_needs_no_scheme(tmp_path: Path) -> None:
    assert load(tmp_path, TROUPE_NATS="bus.local:4222").nats == "nats://bus.local:4222"


@pytest.mark.parametrize(
    "flags", [{"no_api": True, "no_worker": True, "no_master": True}, {"api_only": True, "no_api": True}]
)
def test_a_node_that_would_run_nothing_is_refused(tmp_path: Path, flags: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="leave nothing to run"):
        load(tmp_path, flags)


def test_api_only_takes_part_in_nothing_else(tmp_path: Path) -> None:
    assert load(tmp_path, {"api_only": True}).roles == ("api",)


def test_settings_are_frozen_and_know_their_fields() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"api_prot": 1}', type=Settings)
