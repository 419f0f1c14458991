"""One client on one blocking socket: when each word came, with next to nothing between it and the kernel."""

import re
import socket
import time

import msgspec
from msgspec import Struct

WORDS = re.compile(rb'"delta":\{"content":')
USAGE = re.compile(rb'"completion_tokens": ?(\d+)')
PROMPT = re.compile(rb'"prompt_tokens": ?(\d+)')


class Timed(Struct, frozen=True):
    """One answer; seconds since the request was sent."""

    first_s: float
    """To the first words."""
    last_s: float
    tokens: int
    prompt_tokens: int

    @property
    def between_s(self) -> float:
        """Mean time from one token to the next."""
        return (self.last_s - self.first_s) / max(1, self.tokens - 1)


class Conversation:
    """Asks one thing after the other, each over a connection of its own."""

    def __init__(self, url: str, words: re.Pattern[bytes] = WORDS) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._host, self._port = host, int(port)
        self._words = words
        self._socket = self._connected()

    def _connected(self) -> socket.socket:
        made = socket.create_connection((self._host, self._port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.settimeout(120)
        return made

    def ask(self, model: str, content: str, max_tokens: int) -> Timed:
        """Greedy, streamed, with usage."""
        self._socket.close()
        self._socket = self._connected()  # it was idle for long: the server may be about to close it
        request = self._request(
            {
                "model": model,
                "messages": [{"role": "user", "content": content}],
                "max_tokens": max_tokens,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )
        sent = time.perf_counter()
        self._socket.sendall(request)
        first = last = 0.0
        heard = b""
        while b"data: [DONE]" not in heard[-64:]:
            block = self._socket.recv(65_536)
            now = time.perf_counter()
            if not block:
                raise ConnectionError(heard[-300:])
            if self._words.search(block):
                first, last = first or now, now
            heard += block
        tokens, prompt = USAGE.findall(heard), PROMPT.findall(heard)
        return Timed(first - sent, last - sent, int(tokens[-1]), int(prompt[-1]))

    def _request(self, body: dict[str, object]) -> bytes:
        raw = msgspec.json.encode(body)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
        )
        return head.encode() + raw

    def close(self) -> None:
        self._socket.close()
