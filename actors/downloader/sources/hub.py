"""A hub that speaks Hugging Face's protocol: in whose name to ask it."""

import httpx2
from huggingface_hub import constants, get_async_session
from huggingface_hub.utils import build_hf_headers  # pyright: ignore[reportUnknownVariableType] # a bare `dict`
from msgspec import Struct

from actors.downloader.sources.outside import TIMEOUT
from actors.version import VERSION


class HubAccess(Struct, frozen=True):
    """Where a hub is, and the token to ask it with.

    Without an address: what huggingface_hub is set to (`HF_ENDPOINT`, else huggingface.co). Without a token: the
    one that `hf auth login` has saved, but only for huggingface_hub's own hub, never for one that is named here.
    """

    url: str = ""
    token: str = ""

    @property
    def endpoint(self) -> str:
        return (self.url or constants.ENDPOINT).rstrip("/")

    def client(self) -> httpx2.AsyncClient:
        """huggingface_hub's client; bytes are asked for as they are, so that they can be counted."""
        token = self.token or (False if self.url else None)
        client = get_async_session()
        client.timeout = TIMEOUT
        client.headers.update(build_hf_headers(token=token, library_name="troupe", library_version=VERSION))
        client.headers["Accept-Encoding"] = "identity"
        return client
