"""The NATS server that a node brings along when it uses nobody else's."""

from actors.machine.addresses import own_addresses
from actors.machine.data_folder import DataFolder
from actors.settings import Settings
from bus.authority import new_token
from bus.server import Server
from bus.server_file import Peers


def own_server(settings: Settings, folder: DataFolder) -> Server | None:
    """Not started yet; None where the settings name a bus of others."""
    if settings.bus_url:
        return None
    peers = None
    if settings.accept_peers:
        token = folder.join_token(settings.join_token, new_token)
        peers = Peers(token=token, addresses=own_addresses())
    return Server(folder.nats, host=settings.nats_host, port=settings.nats_port, peers=peers)
