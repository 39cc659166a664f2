"""Connecting a container to a network, and disconnecting it, running or not.

Of one that runs, the devices are made and removed from here: a netlink socket in its namespace is
all that takes. What it asks for is changed in its document, for its next starts.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pycontain.engine import hostfiles, networks, records
from pycontain.errors import (
    Conflict,
    InvalidInput,
    KernelError,
    NotFound,
    PycontainError,
    kernel_error,
)
from pycontain.kernel import firewall, netlink, process
from pycontain.model.network import Endpoints
from pycontain.network import store
from pycontain.runtime import links
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.model.container import Container, NetworkChoice
    from pycontain.model.network import Attachment, Network
    from pycontain.store.layout import ContainerPaths, Layout

_HOST = "container sharing network namespace with another container or host cannot be connected to"
_SETTINGS = """\
import os, sys
sys.path.extend(sys.argv[4:])
from pycontain.kernel import process
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_CLOEXEC)
process.enter(fd, 0x40000000)
folder = f"/proc/sys/net/ipv6/conf/{sys.argv[2]}"
if os.path.isdir(folder):
    for name, value in (("accept_ra", "0"), ("disable_ipv6", sys.argv[3])):
        with open(f"{folder}/{name}", "w") as file:
            file.write(value)
"""


# ---- connect ----


def connect(layout: Layout, identity: str, network: Network, choice: NetworkChoice) -> Container:
    """Connect a container to a network.

    Args:
        layout: of the store.
        identity: the container's id.
        network: that it is to be in.
        choice: what it wants there.

    Returns:
        The container.

    Raises:
        NotFound: there is no such container.
        Conflict: it is in that network, an address is in use, or none is free.
        InvalidInput: its network mode has no networks.
        KernelError: a device cannot be made.
    """
    paths = layout.container(identity)
    with files.Lock(paths.lock):
        container = _load(paths, identity)
        options = container.options
        if options.network not in ("bridge",):
            kind = "none" if options.network == "none" else options.network
            raise InvalidInput(
                f"{_HOST} any other network" if kind != "none" else
                "container cannot be connected to multiple networks with one of the networks in"
                " private (none) mode",
                f"container {container.name} was made with --network {kind}",
            )  # fmt: skip
        if _place_of(layout, container, network) is not None:
            raise Conflict(
                f"endpoint with name {container.name} already exists in network {network.name}"
            )
        if _runs(paths):
            _attach(layout, paths, container, network, choice)
        chosen = (*options.networks, replace(choice, name=network.name))
        _store(paths, replace(container, options=replace(options, networks=chosen)))
    return container


def _load(paths: ContainerPaths, identity: str) -> Container:
    try:
        return records.load(paths)
    except NotFound:
        raise NotFound(f"No such container: {identity}") from None


def _store(paths: ContainerPaths, container: Container) -> None:
    durable = not records.is_volatile(paths)
    files.write_atomic(paths.document, files.dump(container), durable=durable)


def _runs(paths: ContainerPaths) -> bool:
    try:
        return records.status(paths).state == "running"
    except records.Lost:
        return False


def _place_of(layout: Layout, container: Container, network: Network) -> int | None:
    """Where among the networks that a container asks for one is."""
    for at, choice in enumerate(container.options.networks):
        try:
            if store.find(layout, choice.name).id == network.id:
                return at
        except NotFound:
            continue
    return None


def _attach(
    layout: Layout,
    paths: ContainerPaths,
    container: Container,
    network: Network,
    choice: NetworkChoice,
) -> None:
    run = records.last_run(paths)
    before = networks.read(layout, container.id) or Endpoints(
        run=run, container=container.name, servers=container.options.dns
    )
    place = _free_place(before.attachments)
    made = networks.attach(layout, container.id, run, network, choice, place, before.attachments)
    after = replace(before, attachments=(*before.attachments, made))
    try:
        networks.write(layout, container.id, after)
        networks.tell_names(layout, [made])
        _make_device(paths, made, hairpin=_publishes(container))
        _lead_ports(layout, paths, container, before.attachments, after)
        hostfiles.change(
            paths, container.options, hostname(container), before.attachments, after.attachments
        )
    except BaseException:
        _detach(layout, paths, container, after, made)
        raise


def _publishes(container: Container) -> bool:
    return bool(container.options.publish) or container.options.publish_all


def _lead_ports(
    layout: Layout,
    paths: ContainerPaths,
    container: Container,
    before: Sequence[Attachment],
    after: Endpoints,
) -> None:
    """Write what a container has from now on; its ports follow the network with the way out."""
    if not _publishes(container):
        networks.write(layout, container.id, after)
        return
    from pycontain.engine import ports

    networks.relead(layout, container.id, after, ports.bound(paths))
    address = ports.led_to(after.attachments)
    if address != ports.led_to(before):
        _tell_monitor(paths, address)


def _tell_monitor(paths: ContainerPaths, address: str) -> None:
    from pycontain.runtime import attachment

    try:
        attachment.lead_ports(paths.attach, address)
    except PycontainError:
        if _runs(paths):
            raise


def hostname(container: Container) -> str:
    """Return what a container calls itself."""
    from pycontain.engine.containers import hostname as called

    return called(container)


def _free_place(attachments: Sequence[Attachment]) -> int:
    taken = {attachment.interface for attachment in attachments}
    return next(at for at in range(len(taken) + 1) if f"eth{at}" not in taken)


def _open_namespace(paths: ContainerPaths) -> int:
    """Return a descriptor of the network namespace of a running container."""
    record = records.load_run(paths)
    path = f"/proc/{record.pid}/ns/net" if record else ""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise kernel_error("open network namespace", path, err.errno or 0) from err
    # Checked after the open: another process may have come to that number before.
    if record is None or process.start_time(record.pid) != record.pid_start:
        os.close(fd)
        raise NotFound("connect to network: the container has ended")
    return fd


def _make_device(paths: ContainerPaths, made: Attachment, *, hairpin: bool = False) -> None:
    namespace = _open_namespace(paths)
    try:
        batch, at = links.device(made, hairpin=hairpin, namespace=netlink.NET_NS_FD)
        batch.fill(at, namespace)
        netlink.send(batch)
        _set_up(namespace, made)
    finally:
        os.close(namespace)


def _set_up(namespace: int, made: Attachment) -> None:
    """Settings of a device that is down, then its addresses, then up, then its routes."""
    path = f"/proc/{os.getpid()}/fd/{namespace}"
    argv = [
        sys.executable, "-I", "-S", "-c", _SETTINGS, path, made.interface,
        "0" if made.ipv6 else "1", *filter(None, sys.path),
    ]  # fmt: skip
    said, code = firewall.run(argv, b"")
    if code != 0:
        raise PycontainError(
            f"set up {made.interface}: {(said.strip().splitlines() or ['no reason'])[-1].lower()}"
        )
    netlink.send_within(links.settings(made), namespace)


# ---- disconnect ----


def disconnect(layout: Layout, identity: str, network: Network) -> Container:
    """Take a container out of a network. Ports that led to it there lead to where else it is.

    Args:
        layout: of the store.
        identity: the container's id.
        network: that it is in.

    Returns:
        The container.

    Raises:
        NotFound: there is no such container.
        InvalidInput: it is not in that network.
        KernelError: a device cannot be removed.
    """
    paths = layout.container(identity)
    with files.Lock(paths.lock):
        container = _load(paths, identity)
        place = _place_of(layout, container, network)
        if place is None:
            raise InvalidInput(
                f"container {container.name} is not connected to network {network.name}"
            )
        endpoints = networks.read(layout, identity)
        if endpoints is not None and _runs(paths):
            for attachment in endpoints.attachments:
                if attachment.network == network.id:
                    _detach(layout, paths, container, endpoints, attachment)
        options = container.options
        rest = options.networks[:place] + options.networks[place + 1 :]
        _store(paths, replace(container, options=replace(options, networks=rest)))
    return container


def _detach(
    layout: Layout,
    paths: ContainerPaths,
    container: Container,
    endpoints: Endpoints,
    gone: Attachment,
) -> None:
    left = tuple(one for one in endpoints.attachments if one.network != gone.network)
    namespace = _open_namespace(paths)
    try:
        _remove_device(namespace, gone)
        left = _rerouted(layout, namespace, left, gone)
    finally:
        os.close(namespace)
    after = replace(endpoints, attachments=left)
    _lead_ports(layout, paths, container, endpoints.attachments, after)
    networks.give_back(layout, container.id, gone)
    hostfiles.change(paths, container.options, hostname(container), endpoints.attachments, left)


def _remove_device(namespace: int, gone: Attachment) -> None:
    """One end of a veth pair takes the other with it."""
    batch = netlink.Batch()
    netlink.del_link(batch, gone.index)
    try:
        netlink.send_within(batch, namespace)
    except KernelError as err:
        if err.errno != errno.ENODEV:
            raise


def _rerouted(
    layout: Layout, namespace: int, left: tuple[Attachment, ...], gone: Attachment
) -> tuple[Attachment, ...]:
    """What is left; where the one that is gone was the way out, another becomes it."""
    found = list(left)
    for lost in gone.gateways:
        for at, attachment in enumerate(found):
            gateway = _gateway(layout, attachment, six=":" in lost)
            if gateway:
                batch = netlink.Batch()
                netlink.add_route(batch, None, gateway, attachment.index, name=attachment.interface)
                netlink.send_within(batch, namespace)
                found[at] = replace(attachment, gateways=(*attachment.gateways, gateway))
                break
    return tuple(found)


def _gateway(layout: Layout, attachment: Attachment, *, six: bool) -> str:
    network = store.load(layout, attachment.name)
    if network.internal:
        return ""
    words = (subnet.gateway for subnet in network.subnets)
    return next((word for word in words if word and (":" in word) == six), "")
