"""Bridges: made when the first container comes, removed when the last has gone.

All of it is done under the network's lock, and may be repeated: who finds a bridge as it should be
has asked the kernel twice.
"""

from __future__ import annotations

import errno
import os
import sys
from _socket import AF_INET

from pycontain.errors import Conflict, KernelError, NotSupported, kernel_error
from pycontain.kernel import netlink
from pycontain.network import address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pycontain.kernel.netlink import Link
    from pycontain.model.network import Network
    from pycontain.store import files

_SETTINGS = "/proc/sys/net"
_MODULE = "the kernel may lack the module bridge: modprobe bridge"


def ensure(
    network: Network, ports: Callable[[], Iterable[tuple[str, bool]]], lock: files.Lock
) -> Link:
    """Return the bridge of a network, up and with its addresses.

    Args:
        network: of the driver ``bridge``.
        ports: the host's ends of those containers that are in the network now, and whether these
            publish ports: asked for where the bridge was gone, and made its ports again.
        lock: taken while a bridge is made: that nobody has its addresses, and that they are taken,
            is one step.

    Raises:
        Conflict: the name is another device's, or another device has these addresses.
        NotSupported: the kernel has no bridges.
        KernelError: a step failed.
    """
    found = netlink.get_link(network.interface)
    if found is None:
        with lock:
            return _make(network, ports())
    if not _is_ours(network, found):
        raise Conflict(
            f"network {network.name}: the device {network.interface} is there and is not of it",
            "remove that device, or make a network with another bridge name",
        )
    if not _is_equipped(network, found):
        _equip(network, found.index)
    return found


def _is_ours(network: Network, link: Link) -> bool:
    return link.kind == "bridge" and link.mac == _mac(network)


def _is_equipped(network: Network, link: Link) -> bool:
    """Whether a bridge is as it should be.

    Asking is cheap. Changing, even to what it is, waits for whoever else changes devices: the
    kernel has one lock for all of that, which the end of each container holds for milliseconds.
    """
    there = {(word, prefix) for _, word, prefix in netlink.addresses(index=link.index)}
    return link.up and there >= {
        (address.normal(subnet.gateway), int(subnet.subnet.rpartition("/")[2]))
        for subnet in network.subnets
        if subnet.gateway
    }


def _make(network: Network, ports: Iterable[tuple[str, bool]]) -> Link:
    check_free(network)
    batch = netlink.Batch()
    netlink.new_bridge(batch, network.interface, network.mtu, _mac(network))
    try:
        netlink.send(batch)
    except NotSupported as err:
        raise NotSupported(err.step, err.subject, err.errno, _MODULE) from err
    found = netlink.get_link(network.interface)
    if found is None:
        raise kernel_error("look at bridge", network.interface, errno.ENODEV)
    try:
        _settings(network)
        _equip(network, found.index)
        _connect(found.index, ports)
    except BaseException:
        remove(network)
        raise
    return found


def _mac(network: Network) -> str:
    """An address that stays: a bridge without its own takes the lowest of its ports'."""
    return "02:42:" + ":".join(network.id[at : at + 2] for at in range(0, 8, 2))


def _settings(network: Network) -> None:
    """Take no router's word, speak IPv6 only where the network does, and forward."""
    own = f"{_SETTINGS}/ipv6/conf/{network.interface}"
    if os.path.isdir(own):
        _write(f"{own}/accept_ra", "0")
        _write(f"{own}/disable_ipv6", "0" if network.ipv6 else "1")
    elif network.ipv6:
        raise NotSupported("make bridge", network.interface, errno.EAFNOSUPPORT, "no IPv6 here")
    if network.internal:
        return
    forward("ipv4/ip_forward")
    if network.ipv6:
        _keep_routers()
        forward("ipv6/conf/all/forwarding")


def forward(name: str) -> None:
    """Let the host forward packets, unless it does.

    Raises:
        KernelError: the setting cannot be written.
    """
    path = f"{_SETTINGS}/{name}"
    if _read(path) == "0":
        _write(path, "1")


def _keep_routers() -> None:
    """A host that forwards heeds no router, unless told (ip-sysctl.rst, accept_ra).

    Its own way out may come from one.
    """
    folder = f"{_SETTINGS}/ipv6/conf"
    if _read(f"{folder}/all/forwarding") != "0":
        return
    for name in os.listdir(folder):
        if name not in ("all", "default", "lo") and _read(f"{folder}/{name}/accept_ra") == "1":
            _write(f"{folder}/{name}/accept_ra", "2")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""
    except OSError as err:
        raise kernel_error("read setting", path, err.errno or 0) from err


def _write(path: str, value: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except OSError as err:
        raise kernel_error("write setting", path, err.errno or 0, f"sysctl: {value}") from err


def _equip(network: Network, index: int) -> None:
    batch = netlink.Batch()
    for subnet in network.subnets:
        if subnet.gateway:
            prefix = int(subnet.subnet.rpartition("/")[2])
            netlink.add_address(
                batch, index, subnet.gateway, prefix, name=network.interface, replace=True
            )
    netlink.set_link(batch, index, up=True, name=network.interface)
    netlink.send(batch)


def _connect(index: int, ports: Iterable[tuple[str, bool]]) -> None:
    for port, publishes in ports:
        if netlink.get_link(port) is None:
            continue  # its container is ending, or has not got so far
        batch = netlink.Batch()
        netlink.set_link(batch, port, up=True, master=index)
        if publishes:
            netlink.set_port(batch, port, hairpin=True)
        netlink.send(batch)


def check_free(network: Network) -> None:
    """See that no other device of the host has addresses or routes in a network's subnets.

    Raises:
        Conflict: one has; naming it.
    """
    wanted = [address.parse(subnet.subnet) for subnet in network.subnets]
    names = {link.index: link.name for link in netlink.links()}
    for index, found in occupied():
        owner = names.get(index, "")
        if owner != network.interface and any(found.overlaps(subnet) for subnet in wanted):
            raise Conflict(
                f"network {network.name}: {found} is in use on this host by"
                f" {f'device {owner}' if owner else 'a route'}",
                "make a network with another --subnet",
            )


def occupied() -> list[tuple[int, address.Range]]:
    """Return the device's index and the range of each address and route of this host.

    The default routes, which lead everywhere, are not among them.

    Raises:
        KernelError: the kernel does not say.
    """
    found = [
        (index, address.parse(f"{word}/{prefix}", strict=False))
        for index, word, prefix in netlink.addresses()
    ]
    found += [
        (index, address.parse(word)) for index, word in netlink.routes() if not word.endswith("/0")
    ]
    return found


def behind() -> list[tuple[str, address.Range]]:
    """Return device and range of the IPv4 routes of the host, where these networks are elsewhere.

    An ordinary user's are in another network namespace than the process as such: only this thread
    is there (proc_pid_net(5)). A subnet that the host has a route to would hide what is there.
    """
    here, process = os.stat("/proc/thread-self/ns/net"), os.stat("/proc/self/ns/net")
    if here.st_ino == process.st_ino:
        return []
    found = []
    with open("/proc/self/net/route", encoding="ascii") as file:
        for line in file.readlines()[1:]:
            words = line.split()
            first, mask = (int.from_bytes(bytes.fromhex(words[at]), sys.byteorder) for at in (1, 7))
            if mask:
                text = f"{address.text(AF_INET, first)}/{mask.bit_count()}"
                found.append((words[0], address.parse(text)))
    return found


def remove(network: Network) -> bool:
    """Remove a network's bridge; False where there is none.

    Raises:
        KernelError: the kernel refuses.
    """
    found = netlink.get_link(network.interface)
    if found is None or not _is_ours(network, found):
        return False
    batch = netlink.Batch()
    netlink.del_link(batch, network.interface)
    try:
        netlink.send(batch)
    except KernelError as err:
        if err.errno != errno.ENODEV:
            raise
        return False
    return True
