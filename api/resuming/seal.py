"""Signs what the ids of events say, together with the body that it was said of: nobody resumes another's answer."""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from api.errors import ApiError, bad_request
from api.resuming.birth import Birth

HEADER = "Last-Event-ID"
MAC_BYTES = 12

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Birth).decode


class Seal:
    """Every API actor of a cluster has the same."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def stem(self, birth: Birth, body: bytes) -> str:
        """How the id of every event begins."""
        packed = _encode(birth)
        return urlsafe_b64encode(packed + self._mac(packed, body)).decode().rstrip("=")

    def birth(self, stem: str, body: bytes) -> Birth:
        """What `stem` says; raises `ApiError` when it was not made here, or of another body."""
        try:
            raw = urlsafe_b64decode(stem + "=" * (-len(stem) % 4))
            packed, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
            birth = _decode(packed)
        except (ValueError, msgspec.MsgspecError) as garbage:
            raise no_event_id() from garbage
        if not hmac.compare_digest(mac, self._mac(packed, body)):
            raise ApiError(
                409,
                f"The header {HEADER} is of another request: send exactly the body again that the answer was begun "
                "with, byte for byte, to the same cluster.",
                code="event_of_another_request",
                param=HEADER,
            )
        return birth

    def _mac(self, packed: bytes, body: bytes) -> bytes:
        return hmac.digest(self._secret, packed + hashlib.sha256(body).digest(), "sha256")[:MAC_BYTES]


def no_event_id() -> ApiError:
    return bad_request(f"The header {HEADER} is no id of an event of this server's answers.", HEADER)
