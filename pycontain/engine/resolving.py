"""The resolver of a store: started by the first who needs it, ended by the last who leaves.

Whoever finds it gone starts it again, and gives it back its ports in the bridges.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from typing import TYPE_CHECKING

from pycontain._native._kernel import ffi, lib
from pycontain.errors import KernelError, NotFound, PycontainError, kernel_error
from pycontain.kernel import netlink, process
from pycontain.network import names, store
from pycontain.store import files

if TYPE_CHECKING:
    from pycontain.model.network import Network
    from pycontain.store.layout import Layout

_PATIENCE = 20.0  # seconds; it takes a tenth of one
_SIGTERM = 15
_PROGRAM = """\
import sys
sys.path.extend(sys.argv[3:])
from pycontain.network.resolver import main
main(sys.argv[1], sys.argv[2])
"""


def ready_path(layout: Layout) -> str:
    """Return what says who the resolver is: ``PID START THREAD``; why it ended, where it never was
    ready.
    """
    return f"{layout.state_networks}/resolver"


def attach(layout: Layout, network: Network, bridge: int) -> None:
    """See that there is a resolver, with a port in a network's bridge; the network's lock is held.

    Args:
        layout: of the store.
        network: that has names.
        bridge: the index of its bridge.

    Raises:
        PycontainError: the resolver cannot be started, or not be connected.
    """
    with files.Lock(layout.lock("network", "resolver")):
        thread = _thread(layout)
        found = netlink.get_link(_port(network))
        if thread and found is not None:
            if found.master != bridge:  # the bridge was made anew
                batch = netlink.Batch()
                netlink.set_link(batch, found.index, up=True, master=bridge, name=_port(network))
                netlink.send(batch)
            return
        thread = thread or _start(layout)
        _connect(network, bridge, thread)


def is_lost(layout: Layout) -> bool:
    """Whether there is no resolver: one that is started then has ports in no network yet."""
    return not _thread(layout)


def detach(layout: Layout, network: Network) -> None:
    """Take the resolver's port out of a network that nobody is in; with the last one it ends.

    Raises:
        KernelError: the port cannot be removed.
    """
    with files.Lock(layout.lock("network", "resolver")):
        _remove(_port(network))
        others = (_port(one) for one in store.every(layout) if one.id != network.id)
        if any(netlink.get_link(other) is not None for other in others):
            return
        _stop(layout)


def _port(network: Network) -> str:
    return f"pycr{network.id[:8]}"


def _remove(port: str) -> None:
    if netlink.get_link(port) is None:
        return
    batch = netlink.Batch()
    netlink.del_link(batch, port)
    try:
        netlink.send(batch)
    except KernelError as err:
        if err.errno != errno.ENODEV:
            raise


def _words(layout: Layout) -> tuple[int, int, int]:
    try:
        pid, start, thread = files.read_word(ready_path(layout)).split()
        return int(pid), int(start), int(thread)
    except (NotFound, ValueError):
        return 0, 0, 0


def recorded(layout: Layout) -> tuple[int, int] | None:
    """Return pid and start time of the resolver, which may have ended; None if there was none."""
    pid, start, _ = _words(layout)
    return (pid, start) if pid else None


def _thread(layout: Layout) -> int:
    """The thread of the resolver that is in its own network namespace; 0 where there is none."""
    pid, start, thread = _words(layout)
    return thread if pid and process.start_time(pid) == start else 0


def _start(layout: Layout) -> int:
    files.remove(ready_path(layout))
    program = os.open(sys.executable, os.O_RDONLY | os.O_CLOEXEC)
    try:
        argv = [
            sys.executable, "-I", "-S", "-c", _PROGRAM, layout.root, layout.state,
            *filter(None, sys.path),
        ]  # fmt: skip
        _, pidfd = process.spawn(program, argv, (), -1)
    finally:
        os.close(program)
    try:
        _await(layout, pidfd)
    finally:
        os.close(pidfd)
    return _words(layout)[2]


def _await(layout: Layout, pidfd: int) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    for _ in range(int(_PATIENCE / 0.002)):
        if _words(layout)[0]:
            return
        if poller.poll(2):
            break
    process.send_signal(pidfd, _SIGTERM)
    try:
        reason = files.read_word(ready_path(layout))
    except NotFound:
        reason = ""
    reason = reason or "it ended, or did not get ready, and said nothing"
    raise PycontainError(f"start the resolver of names: {reason}")


def _connect(network: Network, bridge: int, thread: int) -> None:
    """Make the resolver's port in a bridge, and give its other end the resolver's address."""
    port, inner = _port(network), f"n{network.id[:8]}"
    _remove(port)
    path = f"/proc/{thread}/ns/net"
    try:
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise kernel_error("open the resolver's namespace", path, err.errno or 0) from err
    try:
        batch = netlink.Batch()
        place = netlink.new_veth(batch, port, bridge, inner, namespace=netlink.NET_NS_FD)
        batch.fill(place, namespace)
        netlink.send(batch)
        link = netlink.get_link(inner, _socket(namespace))
        if link is None:
            raise kernel_error("look at device", inner, errno.ENODEV)
        batch = netlink.Batch()
        word = names.resolver_address(network)
        prefix = next(
            int(one.subnet.rpartition("/")[2]) for one in network.subnets if ":" not in one.subnet
        )
        netlink.add_address(batch, link.index, word, prefix, name=inner)
        netlink.set_link(batch, link.index, up=True, name=inner)
        netlink.send(batch, _socket(namespace))
    finally:
        os.close(namespace)


def _socket(namespace: int) -> int:
    found: int = lib.netlink_in(namespace)
    if found < 0:
        raise kernel_error("enter the resolver's namespace", "", ffi.errno)
    return found


def _stop(layout: Layout) -> None:
    pid, start, _ = _words(layout)
    pidfd = process.open_process(pid, start) if pid else None
    if pidfd is not None:
        process.send_signal(pidfd, _SIGTERM)
        os.close(pidfd)
    files.remove(ready_path(layout))
