"""What an API actor can be told."""

from msgspec import Struct


class ApiSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one API actor; the defaults suit one machine."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0: any free one."""
    max_body_bytes: int = 8 * 1024 * 1024
    offer_timeout_s: float = 2.0
    """How long an instance may take to answer an offer."""
    silence_deadline_s: float = 120.0
    """A request that runs, but brings no chunk for this long, is given up."""
    bus_silence_s: float = 30.0
    """Likewise after the bus was lost and is back: the last chunk may have been lost with it."""
    unheard_s: float = 2.0
    """A request that runs, but brings no chunk for this long: its runner is asked whether it still works on it; as often
    it is looked whether what waits is still in the queue."""
    wait_deadline_s: float = 600.0
    """A request that no runner has taken up after this long (model loading, all busy) is given up."""
    keepalive_s: float = 5.0
    """A stream that has nothing to send yet sends a comment this often."""
    sweep_s: float = 0.25
    """How often deadlines are looked at."""
    command_timeout_s: float = 10.0
    """How long a command may wait for a leader."""
    stop_grace_s: float = 5.0
    """How long running answers may go on after the API was told to stop."""
    inline_chars: int = 4000
    """Prompts up to this long are tokenised on the event loop, longer ones in a thread."""
    threads: int = 2
    """Threads for long prompts and for reading artifacts."""
    artifacts: int = 32
    """Models whose tokeniser is kept in memory."""
    max_requests: int = 4096
    """Requests that this actor owns at once; more are refused with 429."""
