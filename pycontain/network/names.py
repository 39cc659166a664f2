"""Who is called what in the networks of a store, read from what each running container has there.

A container of a user's network is known to those of the same network by its name, its aliases there
and the first twelve digits of its id; also with ``.NETWORK`` behind them. Nothing is kept twice: a
network's folder changes whenever an address is given or freed, and its names are read anew then.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from pycontain.errors import NotFound, StoreError
from pycontain.model.network import Attachment, Endpoints
from pycontain.network import address, store
from pycontain.network.leases import Leases
from pycontain.store import files

if TYPE_CHECKING:
    from pycontain.model.network import Network
    from pycontain.store.layout import Layout

_SHORT_ID = 12
_LEAST_HOSTS = 4
_LONGEST_LABEL = 63
_LONGEST_NAME = 253
_TICK = 20_000_000  # nanoseconds; twice the longest tick of the kernel's clock, of 100 Hz


def resolver_address(network: Network) -> str:
    """Return the address of a network's resolver: its last IPv4 one; empty where it has none.

    The default network has no names, as in docker; nor has one of less than four addresses.
    """
    if network.name == store.DEFAULT or network.driver != "bridge":
        return ""
    for subnet in network.subnets:
        if ":" in subnet.subnet:
            continue
        found = address.parse(subnet.subnet)
        low, high = found.usable()
        if high - low + 1 < _LEAST_HOSTS:
            return ""
        word = address.text(found.family, high)
        return word if word != subnet.gateway else address.text(found.family, high - 1)
    return ""


class Client:
    """A container that asks.

    Attributes:
        networks: that it is in.
        servers: the user's own for this container (``--dns``).
        outside: whether it may ask for what is not of its networks.
    """

    __slots__ = ("networks", "outside", "servers")

    def __init__(self, endpoints: Endpoints) -> None:
        self.networks = tuple(one.network for one in endpoints.attachments)
        self.servers = endpoints.servers
        self.outside = any(not one.internal for one in endpoints.attachments)


class _Table:
    """The names of one network, as they were when its folder was last changed.

    Attributes:
        changed: when that was; -1 where the next change may have the same time.
    """

    __slots__ = ("addresses", "changed", "clients", "names")

    def __init__(self, changed: int) -> None:
        self.changed = changed
        self.names: dict[str, list[str]] = {}
        self.addresses: dict[str, str] = {}
        self.clients: dict[str, Client] = {}

    def add(self, identity: str, endpoints: Endpoints, attachment: Attachment) -> None:
        own = [word.partition("/")[0] for word in attachment.addresses]
        client = Client(endpoints)
        called = {endpoints.container, identity[:_SHORT_ID], *attachment.aliases}
        for name in called:
            known = self.names.setdefault(name.lower(), [])
            known += own
            self.names.setdefault(f"{name}.{attachment.name}".lower(), known)
        full = (f"{name}.{attachment.name}" for name in (endpoints.container, identity[:_SHORT_ID]))
        shown = next(filter(_is_sendable, full), identity[:_SHORT_ID])
        for word in own:
            self.addresses[word] = shown
            self.clients[word] = client


def _is_sendable(name: str) -> bool:
    """Whether a name can be written in a DNS message (RFC 1035, 2.3.4); containers may have longer
    ones, and those with two dots in a row.
    """
    labels = name.split(".")
    return len(name) <= _LONGEST_NAME and all(0 < len(word) <= _LONGEST_LABEL for word in labels)


class Names:
    """The names of a store; asked again and again.

    Args:
        layout: of the store.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._tables: dict[str, _Table] = {}

    def client(self, source: str) -> Client | None:
        """Return the container that has an address, None where there is none.

        Raises:
            StoreError: a document is damaged.
        """
        for table in self._current().values():
            if source in table.clients:
                return table.clients[source]
        return None

    def addresses(self, client: Client, name: str) -> list[str] | None:
        """Return the addresses of a name in the networks of `client`; None for an unknown name."""
        found: list[str] | None = None
        for network in client.networks:
            table = self._tables.get(network)
            if table is not None and name.lower() in table.names:
                found = (found or []) + table.names[name.lower()]
        return found

    def name(self, client: Client, word: str) -> str | None:
        """Return the name of an address in the networks of `client`; None for an unknown one."""
        for network in client.networks:
            table = self._tables.get(network)
            if table is not None and word in table.addresses:
                return table.addresses[word]
        return None

    def _current(self) -> dict[str, _Table]:
        try:
            listed = os.listdir(self._layout.state_networks)
        except FileNotFoundError:
            listed = []
        found = {}
        for identity in listed:
            folder = store.state_folder(self._layout, identity)
            try:
                info = os.stat(folder)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(info.st_mode):  # of all networks, as who the resolver is
                continue
            changed = info.st_mtime_ns
            table = self._tables.get(identity)
            if table is None or table.changed != changed:
                table = self._read(identity, changed)
            found[identity] = table
        self._tables = found
        return found

    def _read(self, identity: str, changed: int) -> _Table:
        # Files have the time of the clock's last tick (before Linux 6.13, and on some file systems
        # since), so what changes in the same one would not be seen.
        table = _Table(changed if abs(time.time_ns() - changed) > _TICK else -1)
        leases = Leases(store.state_folder(self._layout, identity))
        for holder in set(leases.all().values()):
            container, _, run = holder.partition(" ")
            try:
                path = self._layout.in_networks(container).endpoints
                endpoints = files.load(path, Endpoints)
            except (NotFound, StoreError):
                continue
            if endpoints.run == run:
                for attachment in endpoints.attachments:
                    if attachment.network == identity:
                        table.add(container, endpoints, attachment)
        return table
