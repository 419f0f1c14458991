"""The files of an instance's draft on this node."""

from bus.bus import Bus
from schemas.files import files_of
from schemas.ids import NodeId
from schemas.instance import Instance
from schemas.state import Download, State


async def draft_files(bus: Bus, instance: Instance, node: NodeId) -> Download:
    """Wait for the downloader, as for the model's own files: until they are here, or cannot be had."""
    spec = instance.spec

    def known(state: State) -> bool:
        found = files_of(state, node, spec.draft_id, spec.draft)
        if found is None:
            return False
        failed = found.status == "failed" and not found.retryable and found.seq > instance.seq
        return failed or (found.status == "complete" and found.covers(None))

    state = await bus.view.until(known, timeout_s=None)
    found = files_of(state, node, spec.draft_id, spec.draft)
    assert found is not None, "that was waited for"
    return found
