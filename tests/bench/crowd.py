"""Many streaming clients in one lean process: `python -m tests.bench.crowd`, a Job on stdin, a Result on stdout.

No asyncio and no HTTP library: one selector and counted bytes, so that little of the two cores is taken from what
is measured. Each connection sends its next request when its last answer has ended.
"""

import re
import selectors
import socket
import sys
import time

import msgspec
from msgspec import Struct

RECEIVE = 256 * 1024
WORDS = b'"delta":{"content":'
EVENT = b"data: "
END = b"\r\n0\r\n\r\n"
USAGE = re.compile(rb'"completion_tokens": ?(\d+)')


class Job(Struct, frozen=True, kw_only=True):
    """`streams` connections, each asking `requests` times for `tokens` tokens."""

    host: str
    port: int
    model: str
    streams: int
    requests: int
    tokens: int
    stream: bool = True
    prompts: list[str] = []
    """One for each stream; none: all ask the same."""
    greedy: bool = False
    lane: str = ""
    """Empty: none is asked for."""
    closes: bool = False
    """The server ends an answer by closing the connection, as mlx_lm.server does."""


class Result(Struct, frozen=True, kw_only=True):
    """What came; times in seconds."""

    wall_s: float
    cpu_s: float
    answers: int
    tokens: int
    """As the usage of each answer says."""
    deltas: int
    """Events with words: fewer than tokens where several came in one."""
    errors: list[str]
    first_s: list[float]
    """From each request to its first byte of words (to its end, when it does not stream)."""
    whole_s: list[float]


class Caller:
    """One connection."""

    def __init__(self, job: Job, request: bytes) -> None:
        self.job = job
        self.socket = socket.create_connection((job.host, job.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.left = job.requests
        self.request = request
        self.tail = b""
        self.tokens = self.deltas = 0
        self.errors: list[str] = []
        self.first_s: list[float] = []
        self.whole_s: list[float] = []

    def ask(self) -> None:
        self.left -= 1
        self.heard = False
        self.tail = b""
        self.sent = time.perf_counter()
        self.socket.sendall(self.request)

    def receive(self, buffer: bytearray) -> bool:
        """Whether the answer is complete."""
        count = self.socket.recv_into(buffer)
        if not count and not self.job.closes:
            raise ConnectionError("the server closed the connection")
        kept = len(self.tail)
        data = self.tail + buffer[:count]
        deltas = data.count(WORDS) - self.tail.count(WORDS)
        if deltas:
            self.deltas += deltas
            if not self.heard:
                self.heard = True
                self.first_s.append(time.perf_counter() - self.sent)
        if not kept and not data.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
            raise ConnectionError(data[:1000].decode(errors="replace"))
        self.tail = data[-600:] if kept + count > 600 else data
        return self.complete(closed=not count)

    def complete(self, closed: bool) -> bool:
        tail = self.tail
        if self.job.closes and not closed:
            return False
        if self.job.stream and not self.job.closes and not tail.endswith(END):
            return False
        if not self.job.stream and not (tail.endswith(b"}") and b"\r\n\r\n" in tail):
            return False
        self.whole_s.append(time.perf_counter() - self.sent)
        if not self.heard:
            self.first_s.append(self.whole_s[-1])
        found = USAGE.findall(tail)
        if found:
            self.tokens += int(found[-1])
        if not found or b'"error"' in tail:
            self.errors.append(tail[-300:].decode(errors="replace"))
        return True


def request_of(job: Job, stream: int) -> bytes:
    content = job.prompts[stream] if job.prompts else "Tell me about the sea."
    body: dict[str, object] = {
        "model": job.model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": job.tokens,
    }
    if job.greedy:
        body["temperature"] = 0
    if job.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    raw = msgspec.json.encode(body)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {job.host}:{job.port}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n"
        f"{f'x-troupe-priority: {job.lane}' if job.lane else 'accept: */*'}\r\n\r\n"
    )
    return head.encode() + raw


def run(job: Job) -> Result:
    callers = [Caller(job, request_of(job, stream)) for stream in range(job.streams)]
    selector, buffer = selectors.DefaultSelector(), bytearray(RECEIVE)
    for caller in callers:
        selector.register(caller.socket, selectors.EVENT_READ, caller)
    began, began_cpu = time.perf_counter(), time.process_time()
    for caller in callers:
        caller.ask()
    busy = len(callers)
    while busy:
        ready = selector.select(120)
        if not ready:
            raise TimeoutError("nothing came for two minutes")
        for key, _ in ready:
            caller: Caller = key.data
            if caller.receive(buffer):
                if caller.left:
                    caller.ask()
                else:
                    selector.unregister(caller.socket)
                    busy -= 1
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    for caller in callers:
        caller.socket.close()
    return Result(
        wall_s=wall,
        cpu_s=cpu,
        answers=sum(len(caller.whole_s) for caller in callers),
        tokens=sum(caller.tokens for caller in callers),
        deltas=sum(caller.deltas for caller in callers),
        errors=[error for caller in callers for error in caller.errors][:5],
        first_s=[s for caller in callers for s in caller.first_s],
        whole_s=[s for caller in callers for s in caller.whole_s],
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))))
