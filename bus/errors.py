"""What can go wrong on the bus; each message is a sentence for a person."""


class BusError(Exception):
    """Something on the bus did not work."""


class BusAway(BusError):
    """The bus cannot be reached at this moment; the connection keeps trying."""


class NobodyThere(BusError):
    """Nobody listens on the subject that was asked."""


class NoAnswer(BusError):
    """Somebody listens, but did not answer in time."""


class Fenced(BusError):
    """Somebody else has decided since: this writer is no longer the leader."""


class LeaseLost(BusError):
    """A lease is held by somebody else, or ran out."""


class TooLarge(BusError):
    """A message has more bytes than the server takes."""


class BlobMissing(BusError):
    """The object store does not hold that name."""


class UnusableServer(BusError):
    """A NATS server was found, but it cannot carry a cluster; says why."""


class PortTaken(BusError):
    """Another program listens on the port that a server was to use."""


class NotStored(BusError):
    """A stream refused a message."""


class StreamFull(NotStored):
    """A stream takes no more at this moment."""


class QueueFull(BusError):
    """The work queue takes no more tasks at this moment."""
