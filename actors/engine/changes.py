"""What has come to be kept, and what no longer is, since somebody asked last."""

from actors.engine.port import PrefixChanges
from schemas.prefix import Digest


class Changes:
    """What came and went in between is no change; never more than there was then, and is now."""

    def __init__(self) -> None:
        self._added: dict[Digest, None] = {}
        self._removed: dict[Digest, None] = {}

    def add(self, digest: Digest) -> None:
        if digest in self._removed:
            del self._removed[digest]
        else:
            self._added[digest] = None

    def remove(self, digest: Digest) -> None:
        if digest in self._added:
            del self._added[digest]
        else:
            self._removed[digest] = None

    def take(self) -> PrefixChanges | None:
        """None when there are none."""
        if not (self._added or self._removed):
            return None
        taken = PrefixChanges(tuple(self._added), tuple(self._removed))
        self._added, self._removed = {}, {}
        return taken
