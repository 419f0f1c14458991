"""What a node is told when it starts, and where: a flag, else a `TROUPE_*` variable, else `troupe.toml`."""

import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from actors import duration
from actors.setting_sources import Given, SettingsError, from_environ, from_file, from_flags
from bus.address import asking, joining
from bus.authority import TOKEN
from schemas.node import Role

FILE_NAME = "troupe.toml"
OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""OpenTelemetry's own variable, which stands for all programs of a machine."""

Port = Annotated[int, Meta(ge=0, le=65535)]
"""0: any free one."""
Seconds = Annotated[float, Meta(gt=0, le=7 * 86_400)]
_URL = re.compile(r"(nats|tls|ws|wss)://[^\s/?]+/?(\?\S*)?")
_JOIN_URL = re.compile(rf"(nats|tls)://{TOKEN.pattern}@[^\s/@?]+/?")
_PEER = re.compile(r"[^\s:/@]+:\d{1,5}")
SOONEST_FORGOTTEN_S = 60.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be told to `actors up`."""

    name: Annotated[str, Meta(min_length=1, max_length=64)] = ""
    """What people call this node; the machine's name unless told otherwise."""
    cluster: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$")] = "troupe"
    nats: str = ""
    """URL of somebody else's NATS server; empty: this node runs its own."""
    nats_port: Port = 4222
    nats_host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """Where this node's own server listens; `0.0.0.0` where it accepts peers and nothing else is told."""
    accept_peers: bool = False
    """Other machines may join over this node's own server, with the token and TLS."""
    discover: bool = False
    """Join the cluster of this name on the local network; be its first node, and accept peers, where there is none."""
    no_announce: bool = False
    """Do not tell the local network that peers are accepted."""
    join: str = ""
    """`tls://TOKEN@host:4222`: the server of a node that accepts peers."""
    bus_peers: tuple[str, ...] = ()
    """The machines whose servers are one bus, this one included: `host` or `host:port`, three of them."""
    carry_over: bool = False
    """What this node's server has stored while it was alone goes with it when it becomes one of `bus_peers`."""
    route_port: Port = 6222
    """Where this node's server listens for the other servers of its bus."""
    join_token: str = ""
    """What peers must know; empty: what the data folder holds, or a new one."""
    tls_ca: str = ""
    """File with the authority that somebody else's server is trusted by; empty: the system's."""
    tls_cert: str = ""
    """File with the certificate that this node shows to somebody else's server."""
    tls_key: str = ""
    nats_creds: str = ""
    """Credentials file (JWT and seed) that this node shows to somebody else's server; read again at each connect."""
    nats_nkey: str = ""
    """File with the seed of the nkey that somebody else's server knows this node by."""
    js_domain: str = ""
    """The domain of somebody else's JetStream, where its server is a leaf with another JetStream of its own."""
    api_host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    api_port: Port = 8000
    data_dir: Path = Path("~/.troupe")
    models: tuple[str, ...] = ("guide",)
    """Loaded at the start: `guide`, a folder, or `OWNER/NAME[@REVISION]` on the hub."""
    no_api: bool = False
    no_worker: bool = False
    no_master: bool = False
    no_spare: bool = False
    """Keep no process ready for the next runner: a model's next life takes a second longer, and 75 MB less are in use."""
    api_only: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    lease_ttl_s: Annotated[float, Meta(ge=1, le=300)] = 3.0
    """A leader or node that is silent this long has lost its lease."""
    forget_nodes_after: Annotated[str, Meta(pattern=duration.PATTERN)] = "7d"
    """While this node leads, one that was lost or has left so long ago is forgotten; at least a minute, or `never`."""
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 8 * 1024 * 1024
    """Largest HTTP request that the API reads."""
    max_requests: Annotated[int, Meta(ge=1)] = 4096
    """Requests that one API owns at once; more are answered 429."""
    wait_deadline_s: Seconds = 600.0
    """A request that no runner has taken up after this long (model loading, all busy) is given up."""
    silence_deadline_s: Seconds = 120.0
    """A request that runs, but brings no token for this long, is given up."""
    runner_start_s: Seconds = 60.0
    """Longest time for a runner process to report in."""
    runner_load_s: Seconds = 1800.0
    """Longest time for a runner to load and warm up its model."""
    step_s: Seconds = 60.0
    """An engine step that takes longer without using the processor is stuck."""
    stop_s: Seconds = 10.0
    """Time for what runs when the node is told to stop; after it, the rest is cut."""
    hub_url: str = ""
    """Address of the model hub; empty: huggingface-hub's own (`HF_ENDPOINT`, or huggingface.co)."""
    hub_token: str = ""
    """In whose name the hub is asked, for gated models; empty: what `hf auth login` saved, for its own hub only."""

    s3_endpoint: str = ""
    """Address of the buckets (`http://minio:9000`); empty: `AWS_ENDPOINT_URL`, or Amazon's."""
    s3_region: str = ""
    s3_access_key: str = ""
    """In whose name buckets are asked; empty: `AWS_ACCESS_KEY_ID`, or the machine's role."""
    s3_secret_key: str = ""
    offline: bool = False
    """Fetch nothing from outside: models come from this node's disk, and from the other nodes."""
    download_bytes_s: Annotated[float, Meta(ge=0)] = 0
    """Most bytes a second that this node fetches from outside; 0: as fast as it goes."""
    models_max_bytes: Annotated[int, Meta(ge=0)] = 0
    """Most bytes of fetched models on this node; what was not used for longest goes first. 0: what the disk holds."""
    verify_models: Literal["changed", "always"] = "changed"
    """At each start of a model, read those files that were written to since they were checked, or all of them."""
    peer_host: str = ""
    """Where this node serves its models' files to the others; empty: only to this machine, unless other machines join."""
    peer_port: Port = 0

    otlp_endpoint: str = ""
    """Where spans are sent, OTLP over HTTP (`OTEL_EXPORTER_OTLP_ENDPOINT` too); empty: nowhere."""

    @property
    def bus_url(self) -> str:
        """The bus of others that this node uses; empty: it has a server of its own."""
        return (
            joining(self.join)
            if self.join
            else asking(
                self.nats,
                ca=self.tls_ca,
                cert=self.tls_cert,
                key=self.tls_key,
                creds=self.nats_creds,
                nkey=self.nats_nkey,
                domain=self.js_domain,
            )
        )

    @property
    def accepts_peers(self) -> bool:
        """Whether other machines may come in over this node's own server, if it comes to have one."""
        return self.accept_peers or self.discover or bool(self.bus_peers)

    @property
    def roles(self) -> tuple[Role, ...]:
        """What this node takes part in."""
        if self.api_only:
            return ("api",)
        without: Mapping[Role, bool] = {
            "master": self.no_master,
            "worker": self.no_worker,
            "api": self.no_api,
        }
        return tuple(role for role, absent in without.items() if not absent)


FIELDS: Mapping[str, Any] = get_type_hints(Settings, include_extras=True)


def load_settings(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """The settings of this process; `flags` hold only what was given on the command line."""
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    given = {**_everybodys(environ), **from_environ(environ, FIELDS), **from_flags(flags or {})}
    found = _find_file(environ, folder, given)
    if found is not None:
        given = {**_anchored(from_file(found, FIELDS), found.parent), **given}
    settings = Settings(**{name: _convert(name, one) for name, one in given.items()})
    return _checked(_completed(settings, folder))


def _everybodys(environ: Mapping[str, str]) -> dict[str, Given]:
    """What variables say that are not ours alone."""
    endpoint = environ.get(OTLP_ENDPOINT)
    return {"otlp_endpoint": Given(endpoint, f"{OTLP_ENDPOINT} in the environment")} if endpoint else {}


def wants_tracebacks() -> bool:
    """Whether `TROUPE_DEBUG` asks for tracebacks."""
    return os.environ.get("TROUPE_DEBUG", "").lower() not in {"", "0", "false"}


def without_settings() -> dict[str, str]:
    """The environment for a runner: it is told what it needs, and no tokens."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TROUPE_")}


def _find_file(environ: Mapping[str, str], folder: Path, given: Mapping[str, Given]) -> Path | None:
    """`TROUPE_CONFIG`, else the first of `troupe.toml` here and in the data folder."""
    named = environ.get("TROUPE_CONFIG")
    if named:
        return folder / Path(named).expanduser()
    data_dir = _convert("data_dir", given["data_dir"]) if "data_dir" in given else Settings().data_dir
    candidates = (folder / FILE_NAME, folder / data_dir.expanduser() / FILE_NAME)
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _anchored(given: dict[str, Given], folder: Path) -> dict[str, Given]:
    """With a data folder that is relative to the file's folder, not to where the command runs."""
    if "data_dir" not in given:
        return given
    absolute = folder / _convert("data_dir", given["data_dir"]).expanduser()
    return {**given, "data_dir": Given(absolute, given["data_dir"].where)}


def _convert(name: str, given: Given) -> Any:
    if name == "data_dir":
        return _folder(given)
    try:
        return msgspec.convert(given.value, FIELDS[name], strict=False)
    except msgspec.ValidationError as error:
        expected = _expected(name, str(error))
        raise SettingsError(f"{given.where} is {given.value!r}, which cannot be used: {expected}") from error


def _folder(given: Given) -> Path:
    if isinstance(given.value, Path):
        return given.value
    if not isinstance(given.value, str) or not given.value:
        raise SettingsError(f"{given.where} is {given.value!r}, which is no folder's name")
    return Path(given.value)


def _expected(name: str, problem: str) -> str:
    """What would have been right, in words."""
    if name == "cluster":
        return "a cluster's name is 1 to 32 letters, digits, '-' and '_'"
    if name == "forget_nodes_after":
        return duration.EXAMPLES
    if get_origin(FIELDS[name]) is Literal:
        return f"it is one of {', '.join(get_args(FIELDS[name]))}"
    return "e" + problem[1:].replace("`", "") if problem.startswith("Expected") else problem


def _completed(settings: Settings, folder: Path) -> Settings:
    """With what has no fixed default filled in, and the data folder absolute."""
    nats = settings.nats if "://" in settings.nats or not settings.nats else f"nats://{settings.nats}"
    opened = settings.accepts_peers and settings.nats_host == Settings().nats_host
    return msgspec.structs.replace(
        settings,
        name=settings.name or platform.node().split(".")[0] or "node",
        nats=nats,
        nats_host="0.0.0.0" if opened else settings.nats_host,  # noqa: S104  # asked for by accept_peers
        bus_peers=tuple(_with_port(peer) for peer in settings.bus_peers),
        join=_with_token(settings.join, settings.join_token),
        tls_ca=_absolute(settings.tls_ca, folder),
        tls_cert=_absolute(settings.tls_cert, folder),
        tls_key=_absolute(settings.tls_key, folder),
        nats_creds=_absolute(settings.nats_creds, folder),
        nats_nkey=_absolute(settings.nats_nkey, folder),
        data_dir=folder / settings.data_dir.expanduser(),
    )


def _with_port(peer: str) -> str:
    return peer if ":" in peer else f"{peer}:{Settings().route_port}"


def _with_token(join: str, token: str) -> str:
    """`host:4222` with the token of `--join-token`, where the address itself has none."""
    url = join if "://" in join or not join else f"tls://{join}"
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{token}@{rest}" if url and token and "@" not in rest else url


def _absolute(file: str, folder: Path) -> str:
    return str(folder / Path(file).expanduser()) if file else ""


def _checked(settings: Settings) -> Settings:
    for problem in _problems(settings):
        raise SettingsError(problem)
    return settings


def _problems(settings: Settings) -> Iterator[str]:
    if settings.nats and not _URL.fullmatch(settings.nats):
        yield f"{settings.nats!r} is no address of a NATS server; one looks like nats://host:4222"
    yield from _problems_of_joining(settings)
    yield from _problems_of_tls(settings)
    if settings.otlp_endpoint and not re.fullmatch(r"https?://[^\s/]+\S*", settings.otlp_endpoint):
        yield f"{settings.otlp_endpoint!r} is no address of a collector; one looks like http://host:4318"
    if duration.seconds(settings.forget_nodes_after) < SOONEST_FORGOTTEN_S:
        yield f"forget_nodes_after is {settings.forget_nodes_after}, too soon for a node that only starts again: 1min at least"
    if settings.api_only and settings.no_api:
        yield "api_only and no_api together leave nothing to run; give one of them"
    if not settings.roles:
        yield "no_api, no_worker and no_master together leave nothing to run; leave one of them out"


def _problems_of_joining(settings: Settings) -> Iterator[str]:
    for name in ("join", "accept_peers", "discover", "bus_peers"):
        if settings.nats and getattr(settings, name):
            yield f"nats and {name} together: somebody else's server, or the cluster's own; give one of them"
    for name in ("accept_peers", "discover", "bus_peers"):
        if settings.join and getattr(settings, name):
            yield f"join and {name} together: a node that joins has no server of its own; give one of them"
    if settings.bus_peers and (
        len(set(settings.bus_peers)) != 3 or not all(map(_PEER.fullmatch, settings.bus_peers))
    ):
        yield "bus_peers names three machines, this one included: host or host:port, as HERA,ZEUS,ARES"
    if settings.carry_over and not settings.bus_peers:
        yield "carry_over is for a server that becomes one of three, and bus_peers names none"
    if settings.bus_peers and settings.discover:
        yield "bus_peers and discover together: the three are known; give one of them"
    if settings.discover and settings.no_announce:
        yield "discover and no_announce together: nodes that look for each other are seen; give one of them"
    if settings.join and not _JOIN_URL.fullmatch(settings.join):
        yield "join is no address to join; one looks like tls://TOKEN@host:4222 (the first node's join line says it)"
    if settings.join_token and not TOKEN.fullmatch(settings.join_token):
        yield "join_token cannot be used: a token is 16 to 128 letters, digits, '-' and '_'"
    if settings.nats_host not in _LOOPBACK and not settings.accepts_peers:
        yield f"nats_host {settings.nats_host} would open this node's server to the network; say so with accept_peers"


def _problems_of_tls(settings: Settings) -> Iterator[str]:
    for name in ("tls_ca", "tls_cert", "tls_key", "nats_creds", "nats_nkey", "js_domain"):
        if getattr(settings, name) and not settings.nats:
            yield f"{name} is for somebody else's server, and nats names none; the cluster's own make theirs"
    if settings.nats_creds and settings.nats_nkey:
        yield "nats_creds and nats_nkey together: a credentials file holds the key, too; give one of them"
    if settings.js_domain and not re.fullmatch(r"[^\s.*>$]+", settings.js_domain):
        yield f"js_domain {settings.js_domain!r} is no domain's name: it is one word without dots"
    if bool(settings.tls_cert) != bool(settings.tls_key):
        yield "tls_cert and tls_key belong together; give both"
