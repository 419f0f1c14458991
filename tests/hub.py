"""A hub of models on this machine: real HTTP, the part of Hugging Face's protocol that downloads use.

It speaks as the hub does to `huggingface_hub`: model info, tree, resolve (HEAD, GET, Range, ETag,
X-Repo-Commit), large files behind a relative redirect. What goes wrong is planned by file name.
"""

import hashlib
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

PIECE = 16 * 1024
_INFO = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)(/revision/(?P<revision>.+))?")
_TREE = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)")
_RESOLVE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_STATIC = re.compile(r"/static/(?P<name>[^/]+/[^/]+)/(?P<file>[^/]+)")
_LARGE = re.compile(r"/large/(?P<name>[^/]+/[^/]+)/(?P<commit>[^/]+)/(?P<file>.+)")


@dataclass(frozen=True)
class Asked:
    """One request, as it came."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Refusal:
    """An answer that is an error."""

    status: int
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Hold:
    """The bytes of a file stop after some of them, until they are let go."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.reached = threading.Event()
        self.go_on = threading.Event()


@dataclass
class Plan:
    """What goes wrong with the bytes of one file."""

    refusals: list[Refusal] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    """Each answer ends after so many bytes, in turn."""
    hold: Hold | None = None
    spoiled: bool = False
    no_ranges: bool = False
    body: bytes = b""
    """Sent in place of what should be sent."""


@dataclass
class Repository:
    """One model: its files at each commit, and where its branches are."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    token: str = ""
    """Who does not send it may not read."""
    gated: bool = False

    def commit(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


class Hub:
    """Runs in threads of its own between `start` and `stop`; keeps its port when it is started again."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.plans: dict[str, Plan] = {}
        self.info: Plan = Plan()
        """What goes wrong when a repository is asked for its contents."""
        self.asked: list[Asked] = []
        self.counting = threading.Lock()
        self.served: Counter[str] = Counter()
        """Bytes of content sent, by file."""
        self.sizes: dict[str, int] = {}
        """Sizes to lie about, by file."""
        self.store_url = ""
        """Where large files are; empty: on this host, so that redirects are relative."""
        self.port = 0
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        hub = self

        class Bound(Handler):
            def __init__(self, *given: Any) -> None:
                self.hub = hub
                super().__init__(*given)

        self._server = Server(("127.0.0.1", self.port), Bound)
        self.port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def stop(self) -> None:
        for plan in self.plans.values():
            if plan.hold is not None:
                plan.hold.go_on.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.close_all()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add(self, name: str, files: Path | Mapping[str, bytes], branch: str = "main") -> str:
        """Commit `files`, or the files of a folder, to a branch; returns the commit."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}
        digest = hashlib.sha1(name.encode())
        for file, content in sorted(files.items()):
            digest.update(file.encode() + content)
        repository = self.repositories.setdefault(name, Repository())
        repository.commits[digest.hexdigest()] = dict(files)
        repository.branches[branch] = digest.hexdigest()
        return digest.hexdigest()

    def plan(self, file: str) -> Plan:
        """What will go wrong with `file`, to be changed."""
        return self.plans.setdefault(file, Plan())

    def hold(self, file: str, after: int) -> Hold:
        """Stop sending `file` after some bytes."""
        self.plan(file).hold = hold = Hold(after)
        return hold

    def asked_for(self, file: str) -> list[Asked]:
        """The requests for the content of `file`."""
        return [one for one in self.asked if one.method == "GET" and one.path.endswith(f"/{file}")]


class Server(ThreadingHTTPServer):
    """Knows its connections, so that stopping it cuts them."""

    daemon_threads = True

    def __init__(self, *given: Any) -> None:
        self.open: set[socket.socket] = set()
        super().__init__(*given)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no news."""

    def close_all(self) -> None:
        for connection in list(self.open):
            self.shutdown_request(connection)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
        """Requests are kept in `Hub.asked`."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        self.hub.asked.append(Asked(self.command, path, dict(self.headers.items())))
        if match := _TREE.fullmatch(path):
            self._tree(match["name"], match["revision"])
        elif match := _INFO.fullmatch(path):
            self._info(match["name"], match["revision"] or "main", "blobs" in parse_qs(address.query))
        elif match := _RESOLVE.fullmatch(path):
            self._resolve(match["name"], match["revision"], match["file"])
        elif match := _LARGE.fullmatch(path):
            files = self.hub.repositories[match["name"]].commits[match["commit"]]
            self._content(match["file"], files, {"X-Repo-Commit": match["commit"]})
        elif match := _STATIC.fullmatch(path):
            self._static(match["name"], match["file"])
        else:
            self._refuse(Refusal(404))

    def _static(self, name: str, file: str) -> None:
        """The files of `main`, as a plain web server has them."""
        repository = self.hub.repositories.get(name)
        files = repository.commits[repository.branches["main"]] if repository is not None else {}
        if file not in files:
            return self._refuse(Refusal(404))
        return self._content(file, files)

    def _info(self, name: str, revision: str, with_blobs: bool) -> None:
        if self.hub.info.refusals:
            return self._refuse(self.hub.info.refusals.pop(0))
        found = self._find(name, revision)
        if found is None:
            return None
        commit, files = found
        siblings = [
            {"rfilename": file, **(self._blob(file, files[file]) if with_blobs else {})} for file in files
        ]
        return self._json({"id": name, "modelId": name, "sha": commit, "siblings": siblings})

    def _blob(self, file: str, content: bytes) -> dict[str, Any]:
        size = self.hub.sizes.get(file, len(content))
        large = {"sha256": sha256(content), "size": size, "pointerSize": 134}
        return {"size": size, "blobId": blob_id(content), **({"lfs": large} if is_large(file) else {})}

    def _tree(self, name: str, revision: str) -> None:
        found = self._find(name, revision)
        if found is None:
            return
        entries = [
            {"type": "file", "path": file, "size": len(content), "oid": blob_id(content)}
            | ({"lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 134}}
               if is_large(file) else {})
            for file, content in found[1].items()
        ]  # fmt: skip
        self._json(entries)

    def _resolve(self, name: str, revision: str, file: str) -> None:
        found = self._find(name, revision)
        if found is None:
            return None
        commit, files = found
        if file not in files:
            return self._refuse(Refusal(404, "EntryNotFound"))
        if not is_large(file):
            return self._content(file, files, {"X-Repo-Commit": commit})
        self.send_response(302)
        self.send_header("Location", f"{self.hub.store_url}/large/{name}/{commit}/{file}")
        self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Linked-Size", str(len(files[file])))
        self.send_header("X-Linked-Etag", f'"{sha256(files[file])}"')
        self.send_header("X-Xet-Hash", sha256(files[file]))
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def _content(
        self, file: str, files: Mapping[str, bytes], headers: Mapping[str, str] | None = None
    ) -> None:
        plan, content = self.hub.plan(file), files[file]
        if plan.refusals and self.command == "GET":
            return self._refuse(plan.refusals.pop(0))
        begin, end = self._range(len(content))
        is_part = "Range" in self.headers and not plan.no_ranges
        if plan.no_ranges:
            begin, end = 0, len(content)
        if begin >= len(content) > 0:
            return self._refuse(Refusal(416))
        self.send_response(206 if is_part else 200)
        self.send_header("ETag", f'"{sha256(content) if is_large(file) else blob_id(content)}"')
        self.send_header("Content-Length", str(end - begin))
        if is_part:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        for header, value in (headers or {}).items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self._send(file, plan, content if not plan.spoiled else bytes(len(content)), begin, end)
        return None

    def _send(self, file: str, plan: Plan, content: bytes, begin: int, end: int) -> None:
        cut = plan.cuts.pop(0) if plan.cuts else None
        stop = end if cut is None else min(begin + cut, end)
        for piece in self._pieces(plan, memoryview(content)[:stop], begin):
            self.wfile.write(piece)
            with self.hub.counting:
                self.hub.served[file] += len(piece)
        if stop < end:
            self.close_connection = True

    def _pieces(self, plan: Plan, content: memoryview, begin: int) -> Iterator[memoryview]:
        """In order; stops where the plan says so."""
        hold = plan.hold
        stop = hold.after if hold is not None and not hold.go_on.is_set() else None
        for at in range(begin, len(content), PIECE):
            piece = content[at : at + PIECE]
            if hold is not None and stop is not None and at <= stop < at + len(piece):
                yield piece[: stop - at]
                hold.reached.set()
                hold.go_on.wait()
                piece = piece[stop - at :]
            yield piece

    def _range(self, size: int) -> tuple[int, int]:
        """First byte, and the one after the last."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match:
            return 0, size
        return int(match[1]), min(int(match[2]) + 1, size) if match[2] else size

    def _find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and its files; None when a refusal has been sent."""
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self._refuse(Refusal(401, "RepoNotFound"))
        if repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
            return self._refuse(Refusal(401, "GatedRepo" if repository.gated else "RepoNotFound"))
        commit = repository.commit(revision)
        if commit is None:
            return self._refuse(Refusal(404, "RevisionNotFound"))
        return commit, repository.commits[commit]

    def _refuse(self, refusal: Refusal) -> None:
        self.send_response(refusal.status)
        if refusal.code:
            self.send_header("X-Error-Code", refusal.code)
        for header, value in refusal.headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, answer: Any) -> None:
        body = self.hub.info.body or json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def is_large(file: str) -> bool:
    return file.endswith((".safetensors", ".bin", ".gguf")) or file == "tokenizer.json"


@cache
def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache
def blob_id(content: bytes) -> str:
    """Git's name for a file's content."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
