"""Networks as users name them: made, looked at, removed; containers connected and disconnected."""

from __future__ import annotations

import contextlib
import os
from hashlib import blake2s
from typing import TYPE_CHECKING, NamedTuple

from pycontain.engine import networks, records, rootless
from pycontain.engine.failure import told
from pycontain.errors import Conflict, InvalidInput, NotFound
from pycontain.model.network import Network
from pycontain.network import create as creation
from pycontain.network import store
from pycontain.network.choice import OF_PODS
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pycontain.engine.events import Events
    from pycontain.model.container import Container, NetworkChoice
    from pycontain.model.network import Attachment, Driver
    from pycontain.store.layout import Layout

_MODES: dict[str, Driver] = {"host": "host", "none": "null"}


class Member(NamedTuple):
    """A running container in a network.

    Attributes:
        id, name: the container's.
        attachment: what it has there.
    """

    id: str
    name: str
    attachment: Attachment


class NetworkView(NamedTuple):
    """A network, and who is in it."""

    network: Network
    members: tuple[Member, ...]


class Networks:
    """The networks of one store.

    Args:
        layout: of the store.
        events: of the same store.
    """

    def __init__(self, layout: Layout, events: Events) -> None:
        self._layout = layout
        self._events = events

    # ---- making ----

    @told("create network")
    @rootless.there
    def create(
        self,
        name: str,
        *,
        driver: str = "bridge",
        subnets: Sequence[str] = (),
        gateways: Sequence[str] = (),
        ranges: Sequence[str] = (),
        ipv6: bool = False,
        internal: bool = False,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Network:
        """Make a network. Its bridge comes with its first container.

        Args:
            name: of the network.
            driver: ``bridge`` or ``macvlan``.
            subnets: one IPv4 and one IPv6 subnet, ``10.0.0.0/24``; one that is not said is chosen.
            gateways: the address of the host in a subnet.
            ranges: the part of a subnet that containers get addresses of.
            ipv6: give it IPv6; without an IPv6 subnet one is made up (RFC 4193).
            internal: nothing outside is to be reached.
            options: of the driver, as ``{"mtu": "1400"}``.
            labels: by name.

        Raises:
            InvalidInput: it cannot be.
            Conflict: the name, a subnet or the bridge's name is taken.
            NotFound: the parent of a macvlan network.
        """
        store.check_name(name)
        if name in (store.DEFAULT, *store.MODES, "default", "container"):
            raise InvalidInput(
                f"operation is not permitted on predefined {name} network",
                "give it another name",
            )
        request = creation.Request(
            name, driver=driver, subnets=subnets, gateways=gateways, ranges=ranges, ipv6=ipv6,
            internal=internal, options=options, labels=labels,
        )  # fmt: skip
        network = _make(self._layout, request)
        self._events.tell_network("create", network.id, network.name, network.driver)
        return network

    # ---- looking ----

    @told("list networks")
    @rootless.there
    def list(self) -> Sequence[Network]:
        """Return all networks by name; ``bridge``, ``host`` and ``none`` are always among them.

        Those that killed commands left up go in a moment.

        Raises:
            StoreError: a document is damaged.
            Conflict: no subnet is free for the default network.
        """
        networks.retire_unused(self._layout)
        found = [_mode(self._layout, name) for name in _MODES]
        make_default(self._layout)
        found += store.every(self._layout)
        return sorted(found, key=lambda network: network.name)

    @told("look at network")
    @rootless.there
    def get(self, ref: str) -> Network:
        """Return a network by name, id, or unique start of its id.

        Raises:
            NotFound: there is none.
        """
        for name in _MODES:
            network = _mode(self._layout, name)
            if ref == name or (len(ref) >= 12 and network.id.startswith(ref)):
                return network
        return networks.resolve(self._layout, ref)

    @told("look at network")
    @rootless.there
    def view(self, ref: str) -> NetworkView:
        """Return a network and the running containers in it, by id.

        Raises:
            NotFound: there is no such network.
        """
        network = self.get(ref)
        return NetworkView(network, tuple(self._members(network)))

    def exists(self, ref: str) -> bool:
        """Return whether there is such a network, by name or id."""
        try:
            self.get(ref)
        except NotFound:
            return False
        return True

    def _members(self, network: Network) -> Iterator[Member]:
        if network.driver in ("host", "null"):
            return
        for identity, endpoints in networks.members(self._layout, network):
            for attachment in endpoints.attachments:
                if attachment.network == network.id:
                    yield Member(identity, endpoints.container, attachment)

    # ---- who is in it ----

    @told("connect to network")
    def connect(self, ref: str, container: str, choice: NetworkChoice | None = None) -> None:
        """Connect a container to a network, now where it runs, and at its next starts.

        Args:
            ref: name or id of the network.
            container: the container's id.
            choice: the address and aliases that it wants there; its name does not matter.

        Raises:
            NotFound: there is no such network or container.
            Conflict: it is in that network, or an address is in use.
            InvalidInput: the container's network mode has no networks.
            KernelError: a device cannot be made.
        """
        from pycontain.engine import connecting
        from pycontain.model.container import NetworkChoice

        network = self._real(ref, "connect to")
        asked = choice or NetworkChoice(name=network.name)
        rootless.there(connecting.connect)(self._layout, container, network, asked)
        rootless.reach_out(self._layout, networks.attachments(self._layout, container))
        self._tell(network, "connect", container)

    @told("disconnect from network")
    def disconnect(self, ref: str, container: str) -> None:
        """Take a container out of a network, now where it runs, and for its next starts.

        Raises:
            NotFound: there is no such network or container.
            InvalidInput: it is not in that network.
            KernelError: a device cannot be removed.
        """
        from pycontain.engine import connecting

        network = self._real(ref, "disconnect from")
        rootless.there(connecting.disconnect)(self._layout, container, network)
        self._tell(network, "disconnect", container)

    def _real(self, ref: str, step: str) -> Network:
        network = self.get(ref)
        if network.driver in ("host", "null"):
            raise InvalidInput(
                f"{step} network: {network.name}: that is a mode of containers",
                "it is chosen when the container is made",
            )
        return network

    def _tell(self, network: Network, action: str, container: str) -> None:
        self._events.tell_network(
            action, network.id, network.name, network.driver, container=container
        )

    # ---- removing ----

    @told("remove network")
    @rootless.there
    def remove(self, ref: str) -> Network:
        """Remove a network that nobody is in.

        Raises:
            NotFound: there is none.
            Conflict: a running container is in it, or it is there from the beginning.
        """
        network = self.get(ref)
        if network.name in (store.DEFAULT, *store.MODES):
            raise Conflict(
                f"error while removing network: {network.name} is a pre-defined network and cannot"
                " be removed"
            )
        self._remove(network)
        return network

    def _remove(self, network: Network) -> None:
        path = self._layout.lock("network", network.id)
        with files.Lock(path):
            if not networks.retire_locked(self._layout, network.id):
                raise Conflict(
                    f"error while removing network: network {network.name} id {network.id} has"
                    " active endpoints",
                    "stop its containers, or disconnect them",
                )
            networks.call_off(self._layout, network.id)
            store.remove(self._layout, network)
            files.remove(path)
        self._events.tell_network("destroy", network.id, network.name, network.driver)

    @told("prune networks")
    @rootless.there
    def prune(self, accept: Callable[[Network], bool] = lambda _: True) -> Sequence[str]:
        """Remove the networks that no container asks for, running or not.

        Args:
            accept: which of them.

        Returns:
            Their names.

        Raises:
            StoreError: a document is damaged: whoever it asks for is not known.
        """
        used = self.in_use()
        self.sweep()
        removed = []
        for network in store.every(self._layout):
            starts = any(network.id.startswith(name) for name in used)
            if network.name == store.DEFAULT or network.name in used or starts:
                continue
            if accept(network):
                with contextlib.suppress(Conflict):  # somebody has come in meanwhile
                    self._remove(network)
                    removed.append(network.name)
        return removed

    def _containers(self) -> Iterator[Container]:
        for identity in records.ids(self._layout):
            with contextlib.suppress(NotFound):
                yield records.load(self._layout.container(identity))

    def in_use(self) -> set[str]:
        """Return the names of the networks that any container or pod asks for."""
        found = {
            choice.name for container in self._containers() for choice in container.options.networks
        }
        if os.path.isdir(self._layout.pods):
            from pycontain.engine import sandbox

            found.update(one.name for pod in sandbox.every(self._layout) for one in pod.networks)
        return found

    @told("look at networks")
    @rootless.there
    def sweep(self) -> None:
        """Free what killed commands left: void leases, and bridges that nobody uses.

        Raises:
            KernelError, StoreError: something cannot be removed.
        """
        for network in store.every(self._layout):
            if os.path.isdir(store.state_folder(self._layout, network.id)) and networks.retire(
                self._layout, network.id
            ):
                networks.call_off(self._layout, network.id)


def make_default(layout: Layout) -> Network:
    """Return the default network; it is made when it is first asked for.

    Raises:
        Conflict: no subnet is free.
    """
    try:
        return store.load(layout, store.DEFAULT)
    except NotFound:
        pass
    from pycontain import config

    subnet = config.load(os.environ).default_subnet
    request = creation.Request(store.DEFAULT, subnets=(subnet,) if subnet else ())
    try:
        return _make(layout, request)
    except Conflict:
        try:
            return store.load(layout, store.DEFAULT)  # somebody was faster
        except NotFound:
            pass
        raise


def ensure_of_pods(layout: Layout, choices: Iterable[NetworkChoice]) -> None:
    """See that there is the network that declared pods get by themselves.

    Nobody has to make it, and anybody may remove it while it is of no use.

    Args:
        layout: of the store.
        choices: the networks of a declared pod; that one need not be among them.

    Raises:
        Conflict: no subnet is free for it.
        StoreError: it cannot be written.
    """
    from pycontain.engine.events import Events

    verbs = Networks(layout, Events(layout))
    if all(one.name != OF_PODS for one in choices) or verbs.exists(OF_PODS):
        return
    try:
        verbs.create(OF_PODS)
    except Conflict:
        if not verbs.exists(OF_PODS):  # another pod's, at the same time
            raise


def _make(layout: Layout, request: creation.Request) -> Network:
    with files.Lock(creation.lock(layout)):
        known = store.every(layout)
        if any(network.name == request.name for network in known):
            raise Conflict(f"network with name {request.name} already exists")
        network = creation.network(layout, request, known)
        store.add(layout, network)
    return network


def _mode(layout: Layout, name: str) -> Network:
    """A mode of containers that docker lists as a network."""
    identity = blake2s(f"{layout.root} {name}".encode()).hexdigest()
    return Network(id=identity, name=name, driver=_MODES[name], created=0, interface="")
