"""Published ports: sockets of the host that are bound before a container starts.

Its monitor holds them till its end, so a port is never another's meanwhile and never outlives the
container. What the kernel does not redirect comes in at these sockets, and is carried to the
container by a process that the monitor starts then (native/forward.h).
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from pycontain.errors import Conflict, InvalidInput, NotFound, PycontainError, kernel_error
from pycontain.model.container import PortBinding, Publish
from pycontain.network import ports as words
from pycontain.runtime.steps import Handle, Step
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pycontain.model.container import Container
    from pycontain.model.network import Attachment
    from pycontain.store.layout import ContainerPaths, Layout

MOST = 900  # sockets: a plan hands over at most 1024 descriptors (native/plan.h)
_ATTEMPTS = 50
_BACKLOG = 4096  # cut to net.core.somaxconn
_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class Held:
    """Bound sockets.

    Attributes:
        bindings: what each is, in order.
        sockets: their descriptors.
    """

    __slots__ = ("bindings", "sockets")

    def __init__(self) -> None:
        self.bindings: list[PortBinding] = []
        self.sockets: list[int] = []

    def close(self) -> None:
        """Let the ports go; a monitor that has the sockets keeps them."""
        for fd in self.sockets:
            os.close(fd)
        self.sockets = []

    def given(self) -> Mapping[Handle, int]:
        """Return the handles of the sockets in a plan."""
        return {_handle(at): fd for at, fd in enumerate(self.sockets)}

    def steps(self, attachments: Sequence[Attachment]) -> list[Step]:
        """Return the settings by which a monitor holds the sockets."""
        address = target_address(attachments)
        return [
            Step("publish", _handle(at), address, binding.target)
            for at, binding in enumerate(self.bindings)
        ]


def _handle(number: int) -> Handle:
    return Handle("given", f"published socket {number}")


def target_address(attachments: Sequence[Attachment]) -> str:
    """Return the container's address that the host connects to, IPv4 where there is one.

    Raises:
        InvalidInput: no network of the container can be reached from the host.
    """
    found = led_to(attachments)
    if not found:
        raise InvalidInput(
            "publish: no network of the container has ports that can be published",
            "internal and macvlan networks have none",
        )
    return found


def led_to(attachments: Sequence[Attachment]) -> str:
    """Return the same; empty where nothing of the container can be reached."""
    from pycontain.engine.networks import target_of

    return target_of(attachments, ipv6=False) or target_of(attachments, ipv6=True)


def wanted(container: Container) -> tuple[Publish, ...]:
    """Return what a container publishes; with ``publish_all`` whatever it exposes, too."""
    options = container.options
    asked = options.publish
    if not options.publish_all:
        return asked
    there = {(entry.target, entry.protocol) for entry in asked}
    return asked + tuple(
        Publish(protocol=protocol, target=number)
        for number, protocol in words.exposed(_exposed(container))
        if (number, protocol) not in there
    )


def _exposed(container: Container) -> tuple[str, ...]:
    """What a container and its image say they use."""
    return (*(container.config.exposed_ports or ()), *container.options.expose)


def hold(layout: Layout, container: Container) -> Held:
    """Bind the host's ports of a container.

    Raises:
        Conflict: one is taken; the message names by whom.
        KernelError: one cannot be bound.
        InvalidInput: there are too many.
    """
    held = Held()
    try:
        for entry in wanted(container):
            _hold_one(layout, container, entry, held)
            if len(held.sockets) > MOST:
                raise InvalidInput(f"publish: more than {MOST} ports of the host")
    except BaseException:
        held.close()
        raise
    return held


def hold_again(layout: Layout, container: Container, bindings: Iterable[PortBinding]) -> Held:
    """Bind the same ports as before.

    Raises:
        Conflict: one is taken; the message names by whom.
        KernelError: one cannot be bound.
    """
    held = Held()
    try:
        for one in bindings:
            entry = Publish(
                protocol=one.protocol, address=one.address, first=one.port, last=one.port,
                target=one.target,
            )  # fmt: skip
            _hold_one(layout, container, entry, held)
    except BaseException:
        held.close()
        raise
    return held


def _hold_one(layout: Layout, container: Container, entry: Publish, held: Held) -> None:
    """Bind the first free port of an entry on each of its addresses."""
    addresses = (entry.address,) if entry.address else words.ANY
    candidates = [0] * _ATTEMPTS if not entry.first else range(entry.first, entry.last + 1)
    taken: tuple[str, int] | None = None
    for port in candidates:
        found = _bind_all(entry.protocol, addresses, port)
        if isinstance(found, tuple):
            taken = found
            continue
        for address, number, fd in found:
            held.sockets.append(fd)
            held.bindings.append(
                PortBinding(
                    protocol=entry.protocol, address=address, port=number, target=entry.target
                )
            )
        return
    assert taken is not None
    raise _taken(layout, container, entry, *taken)


def _bind_all(
    protocol: str, addresses: Iterable[str], port: int
) -> list[tuple[str, int, int]] | tuple[str, int]:
    """Address, port and socket of each; or the address and port that is taken."""
    found: list[tuple[str, int, int]] = []
    try:
        for address in addresses:
            number = found[0][1] if found else port  # the same for both families
            try:
                bound = _bind(protocol, address, number)
            except OSError as err:
                if err.errno == errno.EADDRINUSE:
                    _close(found)
                    return address, number
                # A host without IPv6 has only the other to publish on.
                if found and err.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    continue
                raise _refused(protocol, address, number, err) from err
            found.append((address, bound.getsockname()[1], bound.detach()))
    except BaseException:
        _close(found)
        raise
    return found


def _close(found: Iterable[tuple[str, int, int]]) -> None:
    for _, _, fd in found:
        os.close(fd)


def _bind(protocol: str, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, _TYPES[protocol] | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            # What is left of connections of the one before holds no port up (socket(7)).
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        if protocol == "tcp":
            bound.listen(_BACKLOG)
    except BaseException:
        bound.close()
        raise
    return bound


def _refused(protocol: str, address: str, port: int, err: OSError) -> PycontainError:
    where = f"{words.endpoint(address, port)}/{protocol}"
    hint = None
    if err.errno == errno.EADDRNOTAVAIL:
        hint = "no device of the host has that address"
    elif err.errno == errno.EACCES:
        hint = (
            "ports below the sysctl net.ipv4.ip_unprivileged_port_start are root's: take a higher"
            f" one, or as root: sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
        )
    return kernel_error("publish", where, err.errno or 0, hint)


# ---- who has a port ----


def _taken(
    layout: Layout, container: Container, entry: Publish, address: str, port: int
) -> PycontainError:
    if not entry.first:
        return Conflict(f"publish {entry.target}/{entry.protocol}: no free port of the host found")
    # Docker's phrase for what scripts look for.
    owner = _our_owner(layout, container, entry.protocol, port) or _process(entry.protocol, port)
    said = f"Bind for {words.endpoint(address, port)} failed: port is already allocated"
    if entry.last > entry.first:
        said = f"no free port from {entry.first} to {entry.last}: {said}"
    by = f" by {owner}" if owner else ""
    return Conflict(f"publish {entry.target}/{entry.protocol}: {said}{by}")


def _our_owner(layout: Layout, container: Container, protocol: str, port: int) -> str:
    from pycontain.engine import records

    for identity in records.ids(layout):
        if identity == container.id:
            continue
        paths = layout.container(identity)
        try:
            has = any(entry.port == port and entry.protocol == protocol for entry in bound(paths))
            if has and records.status(paths).state == "running":
                return f"container {records.load(paths).name}"
        except (PycontainError, records.Lost):
            continue  # damaged or gone: then nobody is named
    if os.path.isdir(layout.pods):
        from pycontain.engine import sandbox

        pod = sandbox.owner_of_port(layout, protocol, port, container.id)
        return f"pod {pod}" if pod else ""
    return ""


def _process(protocol: str, port: int) -> str:
    """The process that has a socket at a port (proc_pid_net(5)), empty where none is found."""
    inodes = {inode for number, inode in _sockets(protocol) if number == port}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    if not wanted:
        return ""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        if not wanted.isdisjoint(_links(pid)):
            try:
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    return f"process {pid} ({file.read().strip()})"
            except OSError:
                break  # it has ended
    return ""


def _links(pid: str) -> Iterator[str]:
    """What a process has open."""
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except OSError:
        return  # it has ended
    for number in numbers:
        try:
            yield os.readlink(f"{folder}/{number}")
        except OSError:
            continue  # closed meanwhile


def _sockets(protocol: str) -> Iterator[tuple[int, str]]:
    """Local port and inode of each listening socket."""
    for name in (protocol, f"{protocol}6"):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if protocol == "udp" or fields[3] == "0A":  # TCP_LISTEN
                yield int(fields[1].rpartition(":")[2], 16), fields[9]


# ---- what runs ----


def write(paths: ContainerPaths, bindings: Sequence[PortBinding]) -> None:
    """Keep what a container publishes in its present run.

    Raises:
        StoreError: it cannot be written.
    """
    path = _path(paths)
    if bindings:
        files.write_atomic(path, files.dump(list(bindings)), durable=False)
    else:
        files.remove(path)


def bound(paths: ContainerPaths) -> tuple[PortBinding, ...]:
    """Return what a container published when it was started last; nothing where it did not.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        return files.load(_path(paths), tuple[PortBinding, ...])
    except NotFound:
        return ()


def _path(paths: ContainerPaths) -> str:
    return f"{paths.state_folder}/ports.json"


def shown(
    container: Container, paths: ContainerPaths, state: str
) -> tuple[tuple[PortBinding, ...], tuple[tuple[int, str], ...]]:
    """Return what a container publishes now, and which ports it exposes; both empty where it does
    not run, or in no network.

    Raises:
        StoreError: a file is damaged.
    """
    options = container.options
    if not options.networks or state not in ("running", "paused"):
        return (), ()
    published = bound(paths) if options.publish or options.publish_all else ()
    others = ((entry.target, entry.protocol) for entry in options.publish)
    return published, tuple(dict.fromkeys((*words.told(_exposed(container)), *others)))
