"""Moving network devices into another network namespace, and back where that has to be undone.

A move takes from a device what lives in the namespace that it leaves (its addresses, that it is up)
and leaves it what is its own (hardware address, MTU, queues): the addresses are read before and
given anew. What routes there were, which bridge it was a port of, and its settings in
/proc/sys/net are lost, in both directions: they are the namespace's.

pyroute2 is imported here, and with it asyncio, a quarter of a second: only who moves a device
imports this module.
"""

from __future__ import annotations

import errno
import os

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pycontain._native._kernel import ffi, lib
from pycontain.errors import InvalidInput, PycontainError, kernel_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pycontain.errors import KernelError

_STEP = "move network device"
_IFF_UP = 1  # netdevice(7)
# rtnetlink(7) and linux/if_addr.h; the lower ones say how an address is to be used, the kernel's
# own state (tentative, deprecated, secondary …) is not for us to set.
_IFA_F_PERMANENT = 0x80
_IFA_F_SETTABLE = 0x02 | 0x04 | 0x10 | 0x100 | 0x200 | 0x400
_RT_SCOPE_UNIVERSE = 0
_KEPT = ("local", "address", "broadcast", "rt_priority", "proto")


class _Place:
    """One network namespace: a descriptor of it, and a conversation with the kernel in it."""

    __slots__ = ("fd", "route")

    def __init__(self, path: str) -> None:
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as err:
            raise kernel_error("open network namespace", path, err.errno or 0) from err
        socket = lib.netlink_in(self.fd)
        if socket < 0:
            number = ffi.errno
            os.close(self.fd)
            raise kernel_error("enter network namespace", path, number)
        self.route = IPRoute(fileno=socket, groups=0, strict_check=True, ext_ack=True)

    def close(self) -> None:
        self.route.close()
        os.close(self.fd)

    def find(self, name: str) -> Any | None:
        """The device with that name, None where there is none."""
        try:
            return self.route.link("get", ifname=name)[0]
        except NetlinkError as err:
            if err.code == errno.ENODEV:
                return None
            raise

    def free_index(self, wanted: int) -> int:
        """An index that no device has: `wanted` if that can be."""
        used = {link["index"] for link in self.route.get_links()}
        return wanted if wanted not in used else max(used) + 1

    def addresses(self, index: int) -> list[Any]:
        """The addresses of a device that somebody gave it for good."""
        return [
            address
            for address in self.route.get_addr(index=index)
            if address["index"] == index and _flags(address) & _IFA_F_PERMANENT
        ]

    def give(self, index: int, target: _Place, name: str, new_index: int) -> None:
        """Change a device's namespace, name and index.

        The index is ours to choose, so that it is known there by more than a name that the kernel
        may make up.
        """
        self.route.link("set", index=index, net_ns_fd=target.fd, ifname=name, new_ifindex=new_index)

    def equip(self, index: int, old: str, addresses: Sequence[Any], *, up: bool) -> None:
        """Give a device that came as `old` its addresses, and bring it up."""
        name = self.route.link("get", index=index)[0].get_attr("IFLA_IFNAME")
        for address in addresses:
            self.add_address(index, address, _label(address.get_attr("IFA_LABEL"), old, name))
        if up:
            self.route.link("set", index=index, state="up")

    def add_address(self, index: int, address: Any, label: str | None) -> None:
        life = address.get_attr("IFA_CACHEINFO")
        values = {key: address.get_attr(f"IFA_{key.upper()}") for key in _KEPT}
        self.route.addr(
            "add",
            index=index,
            family=address["family"],
            prefixlen=address["prefixlen"],
            scope=address["scope"],
            flags=_flags(address) & _IFA_F_SETTABLE,
            # Preferred for no time is one that no new connection uses.
            preferred=life["ifa_preferred"],
            valid=life["ifa_valid"],
            label=label,
            **{key: value for key, value in values.items() if value is not None},
        )


class _Device:
    """What a device was before its move.

    Attributes:
        name: its name.
        index: its index.
        there: the index that it gets.
        up: it was up.
        addresses: those that it had for good.
    """

    __slots__ = ("addresses", "index", "name", "there", "up")

    def __init__(self, place: _Place, name: str, target: _Place) -> None:
        found = place.find(name)
        if found is None:
            raise kernel_error(_STEP, name, errno.ENODEV)
        # Asked for by another of its names (ip-link(8), altname), it keeps the first.
        self.name: str = found.get_attr("IFLA_IFNAME")
        self.index: int = found["index"]
        self.there = target.free_index(self.index)
        self.up = bool(found["flags"] & _IFF_UP)
        self.addresses = place.addresses(self.index)


class Moves:
    """Network devices moved from the caller's network namespace into a process's.

    Made for one creation: ``undo`` brings back what has been moved, ``close`` ends it either way.
    The other namespace lives as long as this does, whatever becomes of the process.
    """

    __slots__ = ("_here", "_moved", "_there")

    def __init__(self, pid: int) -> None:
        """Open both namespaces.

        Args:
            pid: of the process, which the caller knows to be the one that is meant.

        Raises:
            InvalidInput: it is in the caller's network namespace.
            KernelError: its namespace cannot be entered.
        """
        self._moved: list[_Device] = []
        self._there = _Place(f"/proc/{pid}/ns/net")
        try:
            self._here = _Place("/proc/thread-self/ns/net")
        except BaseException:
            self._there.close()
            raise
        if os.path.sameopenfile(self._here.fd, self._there.fd):
            self.close()
            raise InvalidInput(
                "linux.netDevices: the network namespace is the one that the devices are in"
            )

    def close(self) -> None:
        """Let go of both namespaces."""
        self._here.close()
        self._there.close()

    def move(self, names: Mapping[str, str]) -> None:
        """Move devices, with their permanent global addresses, and bring them up.

        runtime-spec 1.3, config-linux.md, "Network Devices".

        Args:
            names: name here → name there, which may hold ``%d`` for the kernel to choose a number.

        Raises:
            KernelError: one cannot be moved, its name is taken, or an address cannot be given it.
                Those before it stay moved until ``undo``.
        """
        for name, new in names.items():
            try:
                self._move(name, new)
            except (NetlinkError, OSError) as err:
                raise _error(_STEP, f"{name} as {new}" if new != name else name, err) from err

    def _move(self, name: str, new: str) -> None:
        device = _Device(self._here, name, self._there)
        # A device whose old name is free there would be moved first and renamed then: too late
        # to refuse.
        if "%" not in new and self._there.find(new) is not None:
            raise kernel_error(_STEP, f"{name} as {new}", errno.EEXIST)
        kept = [a for a in device.addresses if a["scope"] == _RT_SCOPE_UNIVERSE]
        self._moved.append(device)
        self._here.give(device.index, self._there, new, device.there)
        self._there.equip(device.there, device.name, kept, up=True)

    def undo(self) -> list[PycontainError]:
        """Bring the moved devices back, named, addressed and up as they were.

        Returns:
            Why some are not, or not as they were.
        """
        failures: list[PycontainError] = []
        while self._moved:
            device = self._moved.pop()
            try:
                self._bring_back(device)
            except (NetlinkError, OSError) as err:
                failures.append(_error("bring network device back", device.name, err))
        return failures

    def _bring_back(self, device: _Device) -> None:
        found = self._here.find(device.name)
        if found is not None and found["index"] == device.index:
            return  # it never left
        index = self._here.free_index(device.index)
        self._there.give(device.there, self._here, device.name, index)
        self._here.equip(index, device.name, device.addresses, up=device.up)


def _flags(address: Any) -> int:
    flags = address.get_attr("IFA_FLAGS")
    return int(address["flags"] if flags is None else flags)


def _label(label: str | None, old: str, new: str) -> str | None:
    """The label of an IPv4 address, which begins with the device's name, after a renaming."""
    return new + label[len(old) :] if label and label.startswith(old) else label


def _error(step: str, subject: str, err: NetlinkError | OSError) -> KernelError:
    number = err.errno or 0 if isinstance(err, OSError) else int(err.code)
    said = err.args[1] if len(err.args) > 1 else ""
    # The kernel's own words, where it has any (netlink(7), NETLINK_EXT_ACK).
    hint = f"the kernel says: {said}" if said and said != os.strerror(number) else None
    return kernel_error(step, subject, number, hint)
