"""What every route of one API actor works with."""

from concurrent.futures import ThreadPoolExecutor

from api.generation import Generations
from api.requests.requests import Requests
from api.resuming.telling import Tellings
from api.settings import ApiSettings
from api.text.artifacts import Artifacts
from api.text.prompt import Prompts
from bus.bus import Bus
from bus.signs import Signs
from bus.tracing import Tracing


class Context:
    """Built once for each life of an API actor."""

    def __init__(self, bus: Bus, settings: ApiSettings, tracing: Tracing | None = None) -> None:
        self.bus = bus
        self.settings = settings
        self.threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="api")
        self.signs = Signs(bus)
        self.requests = Requests(bus, settings, tracing)
        artifacts = Artifacts(bus.artifacts, self.threads, settings.artifacts)
        self.prompts = Prompts(artifacts, self.threads, settings.inline_chars)
        self.tellings = Tellings(bus, self.requests.api)
        self.generations = Generations(self.requests, self.prompts, bus.view)

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
