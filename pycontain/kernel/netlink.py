"""Messages of rtnetlink(7), written and read with struct alone: links, addresses, routes.

A start of a container speaks to the kernel through this, so it is small: pyroute2, which knows all
of rtnetlink, takes longer to import than the container to start. A ``Batch`` is bytes. They are
sent here (``send``), or by a native program in another network namespace.

Sources: rtnetlink(7), netlink(7), linux/if_link.h, linux/rtnetlink.h, linux/veth.h.
"""

from __future__ import annotations

import struct
from _socket import AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_RAW, inet_ntop, inet_pton
from _socket import socket as _socket
from binascii import crc32

from pycontain._native._kernel import ffi, lib
from pycontain.errors import InvalidInput, kernel_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.errors import KernelError

    _Bytes = bytes  # inside a class that has a method of that name

_AF_NETLINK = 16
_NETLINK_ROUTE = 0
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12

# Kinds of messages.
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
RTM_NEWLINK = 16
RTM_DELLINK = 17
_RTM_GETLINK = 18
RTM_SETLINK = 19
RTM_NEWADDR = 20
_RTM_GETADDR = 22
RTM_NEWROUTE = 24
_RTM_GETROUTE = 26

# Flags of a message; REPLACE, EXCL and CREATE are of NEW ones, DUMP of GET ones.
_REQUEST = 0x1
_ACK = 0x4
_REPLACE = 0x100
_EXCL = 0x200
_CREATE = 0x400
_DUMP = 0x300
_ACK_TLVS = 0x200
_CAPPED = 0x100

# Attributes of links.
_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINK = 5
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
NET_NS_PID = 19
NET_NS_FD = 28
_IFLA_EXT_MASK = 29
_INFO_KIND = 1
_INFO_DATA = 2
_VETH_INFO_PEER = 1
_INFO_SLAVE_KIND = 4
_INFO_SLAVE_DATA = 5
_BRPORT_MODE = 4
_MACVLAN_MODE = 1
_RTEXT_FILTER_SKIP_STATS = 8
_NESTED = 0x8000

# Of addresses and routes.
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_BROADCAST = 4
_IFA_F_NODAD = 0x02
_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RT_TABLE_MAIN = 254
_RTPROT_BOOT = 3
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
_RTN_UNICAST = 1

_NLMSGERR_ATTR_MSG = 1
_IFF_UP = 1
_IFNAME_MOST = 15  # IFNAMSIZ counts the final NUL
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBi")  # ifaddrmsg: family, prefix, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg
_U32 = struct.Struct("=I")
_ERROR = struct.Struct("=i")
_BUFFER = 1 << 17
_HIGH_INDEX = 1 << 30  # far above what the kernel gives, and still positive


class Batch:
    """Messages that are sent at once; each asks for an acknowledgement, and is told by its number.

    Attributes:
        words: what each message does, for errors: ``add address 10.89.0.2/24 to eth0``.
    """

    __slots__ = ("_data", "words")

    def __init__(self) -> None:
        self._data = bytearray()
        self.words: list[str] = []

    def __len__(self) -> int:
        """Return how many messages there are."""
        return len(self.words)

    def bytes(self) -> _Bytes:
        """Return the messages, one after the other."""
        return bytes(self._data)

    def add(self, kind: int, flags: int, body: _Bytes, words: str) -> int:
        """Append a message.

        Args:
            kind: RTM_….
            flags: NLM_F_… beside those that every message has.
            body: after the header.
            words: what it does.

        Returns:
            The offset of `body` in the batch.
        """
        start = len(self._data) + _HEADER.size
        self._data += _HEADER.pack(
            _HEADER.size + len(body), kind, _REQUEST | _ACK | flags, len(self.words), 0
        )
        self._data += body + b"\0" * (-len(body) % 4)
        self.words.append(words)
        return start

    def fill(self, offset: int, value: int) -> None:
        """Write 32 bits that a maker of a message left to the caller."""
        _U32.pack_into(self._data, offset, value)


class Link:
    """A network device.

    Attributes:
        index: its number in its namespace.
        name: its name.
        mac: its hardware address in words, empty where it has none.
        mtu: bytes.
        kind: what it is (``bridge``, ``veth`` …), empty for hardware.
        master: the index of the bridge that it is a port of, 0 for none.
        up: it is up (IFF_UP).
    """

    __slots__ = ("index", "kind", "mac", "master", "mtu", "name", "up")

    def __init__(
        self, index: int, name: str, mac: str, mtu: int, kind: str, master: int, up: bool
    ) -> None:
        self.index = index
        self.name = name
        self.mac = mac
        self.mtu = mtu
        self.kind = kind
        self.master = master
        self.up = up


# ---- links ----


def new_bridge(batch: Batch, name: str, mtu: int = 0, mac: str = "") -> None:
    """Make a bridge, which is not up yet. An `mtu` of 0 and no `mac` leave both to the kernel.

    Without an address of its own a bridge takes the lowest of its ports', and changes it as they
    come and go.

    Raises:
        InvalidInput: the name or address cannot be one.
    """
    body = _LINK.pack(0, 0, 0, 0, 0) + _name(name) + _mac(mac) + _mtu(mtu) + _kind("bridge")
    batch.add(RTM_NEWLINK, _CREATE | _EXCL, body, f"make bridge {name}")


def new_veth(
    batch: Batch,
    host_name: str,
    bridge_index: int,
    peer_name: str,
    peer_mac: str = "",
    mtu: int = 0,
    peer_index: int = 0,
    *,
    namespace: int = NET_NS_PID,
    host_index: int = 0,
) -> int:
    """Make a veth pair whose end here is up and a port of a bridge, the other elsewhere.

    Args:
        batch: to append to.
        host_name: name of the end here.
        bridge_index: the bridge's, 0 for none.
        peer_name: name of the end there.
        peer_mac: its hardware address; empty is the kernel's choice.
        mtu: bytes of both, 0 is the kernel's choice.
        peer_index: the index of the end there, 0 is the kernel's choice.
        namespace: ``NET_NS_PID`` or ``NET_NS_FD``: what the 32 bits at the offset will be, a
            process's number or a descriptor of the sender.
        host_index: the index of the end here. The kernel heeds `peer_index` only beside one: not
            given, it is a high number made of `host_name`.

    Returns:
        The offset in the batch of those 32 bits, which are 0 and have to be filled in.

    Raises:
        InvalidInput: a name or address cannot be one.
    """
    if peer_index and not host_index:
        host_index = _HIGH_INDEX | crc32(host_name.encode()) % _HIGH_INDEX
    place = _attribute(namespace, _U32.pack(0))
    peer = _LINK.pack(0, 0, peer_index, 0, 0)
    peer += _name(peer_name) + _mac(peer_mac) + _mtu(mtu) + place
    data = _attribute(_INFO_DATA | _NESTED, _attribute(_VETH_INFO_PEER | _NESTED, peer))
    body = _LINK.pack(0, 0, host_index, _IFF_UP, _IFF_UP) + _name(host_name) + _mtu(mtu)
    if bridge_index:
        body += _attribute(_IFLA_MASTER, _U32.pack(bridge_index))
    # The place is the last attribute of the last attribute: no nest has padding after it.
    body += _attribute(_IFLA_LINKINFO | _NESTED, _attribute(_INFO_KIND, b"veth\0") + data)
    words = f"make veth pair {host_name} and {peer_name}"
    return batch.add(RTM_NEWLINK, _CREATE | _EXCL, body, words) + len(body) - _U32.size


def new_macvlan(
    batch: Batch,
    name: str,
    parent_index: int,
    mac: str = "",
    mtu: int = 0,
    index: int = 0,
    *,
    mode: str = "bridge",
    namespace: int = NET_NS_PID,
) -> int:
    """Make a macvlan device of `parent_index` in another namespace.

    Args:
        batch: to append to.
        name: of the device, there.
        parent_index: the index of the device that it is made of, here.
        mac: its hardware address; empty is the kernel's choice.
        mtu: bytes, 0 is the parent's.
        index: its index there, 0 is the kernel's choice.
        mode: ``bridge``, ``private``, ``vepa`` or ``passthru``.
        namespace: as for ``new_veth``.

    Returns:
        As ``new_veth``.

    Raises:
        InvalidInput: a name or address cannot be one.
    """
    data = _attribute(_MACVLAN_MODE, _U32.pack(MACVLAN_MODES[mode]))
    info = _attribute(_INFO_KIND, b"macvlan\0") + _attribute(_INFO_DATA | _NESTED, data)
    body = _LINK.pack(0, 0, index, 0, 0) + _name(name) + _mac(mac) + _mtu(mtu)
    body += _attribute(_IFLA_LINK, _U32.pack(parent_index))
    body += _attribute(_IFLA_LINKINFO | _NESTED, info)
    body += _attribute(namespace, _U32.pack(0))
    words = f"make macvlan device {name}"
    return batch.add(RTM_NEWLINK, _CREATE | _EXCL, body, words) + len(body) - _U32.size


def set_link(
    batch: Batch,
    link: int | str,
    *,
    up: bool | None = None,
    master: int | None = None,
    mtu: int = 0,
    name: str = "",
) -> None:
    """Change a device.

    Args:
        batch: to append to.
        link: its index or its name.
        up: bring it up or take it down.
        master: index of the bridge that it becomes a port of, 0 for none.
        mtu: bytes, 0 leaves it.
        name: what it is called in errors, where `link` is an index.
    """
    flags = _IFF_UP if up else 0
    change = 0 if up is None else _IFF_UP
    body = _LINK.pack(0, 0, link if isinstance(link, int) else 0, flags, change)
    if isinstance(link, str):
        body += _name(link)
    body += _mtu(mtu)
    if master is not None:
        body += _attribute(_IFLA_MASTER, _U32.pack(master))
    step = "change" if up is None else "bring up" if up else "take down"
    batch.add(RTM_SETLINK, 0, body, f"{step} {name or link}")


def set_port(batch: Batch, name: str, *, hairpin: bool) -> None:
    """Set what a bridge does with frames of one of its ports (bridge(8)).

    Args:
        batch: to append to.
        name: of the device that is the port.
        hairpin: a frame may leave by the port that it came in by. Where netfilter sees bridged
            frames (br_netfilter), a packet to a port that its own sender publishes is such a one.
    """
    data = _attribute(_BRPORT_MODE, bytes([hairpin]))
    info = _attribute(_INFO_SLAVE_KIND, b"bridge\0")
    info += _attribute(_INFO_SLAVE_DATA | _NESTED, data)
    body = _LINK.pack(0, 0, 0, 0, 0) + _name(name) + _attribute(_IFLA_LINKINFO | _NESTED, info)
    batch.add(RTM_NEWLINK, 0, body, f"set bridge port {name}")


def del_link(batch: Batch, link: int | str) -> None:
    """Remove a device, by index or by name."""
    body = _LINK.pack(0, 0, link if isinstance(link, int) else 0, 0, 0)
    if isinstance(link, str):
        body += _name(link)
    batch.add(RTM_DELLINK, 0, body, f"remove {link}")


# ---- addresses and routes ----


def add_address(
    batch: Batch, index: int, address: str, prefix: int, *, name: str = "", replace: bool = False
) -> None:
    """Give a device an address.

    An IPv6 address is used at once: nobody else can have one of a network that is ours.

    Args:
        batch: to append to.
        index: of the device.
        address: IPv4 or IPv6.
        prefix: length of its network.
        name: of the device, for errors.
        replace: it may be there already.

    Raises:
        InvalidInput: it is no address.
    """
    family, data = pack(address)
    flags = _IFA_F_NODAD if family == AF_INET6 else 0
    body = _ADDRESS.pack(family, prefix, flags, _RT_SCOPE_UNIVERSE, index)
    body += _attribute(_IFA_LOCAL, data) + _attribute(_IFA_ADDRESS, data)
    if family == AF_INET and prefix < 31:  # RFC 3021: two addresses have no third for all
        host = (1 << (32 - prefix)) - 1
        broadcast = int.from_bytes(data, "big") | host
        body += _attribute(_IFA_BROADCAST, broadcast.to_bytes(4, "big"))
    words = f"add address {address}/{prefix} to {name or f'device {index}'}"
    batch.add(RTM_NEWADDR, _CREATE | (_REPLACE if replace else _EXCL), body, words)


def add_route(
    batch: Batch, destination: str | None, gateway: str | None, index: int, *, name: str = ""
) -> None:
    """Add a route.

    Args:
        batch: to append to.
        destination: ``ADDRESS/PREFIX``; None for the default route, of the gateway's family.
        gateway: None where the destination is on the link.
        index: of the device.
        name: of the device, for errors.

    Raises:
        InvalidInput: one is no address, or neither is given.
    """
    target, _, prefix = (destination or "").partition("/")
    if not (target or gateway):
        raise InvalidInput("add route: neither destination nor gateway")
    family, _ = pack(target or gateway or "")
    scope = _RT_SCOPE_UNIVERSE if gateway or family == AF_INET6 else _RT_SCOPE_LINK
    length = int(prefix) if target else 0
    body = _ROUTE.pack(family, length, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, scope, _RTN_UNICAST, 0)
    if target:
        body += _attribute(_RTA_DST, pack(target)[1])
    if gateway:
        body += _attribute(_RTA_GATEWAY, pack(gateway)[1])
    body += _attribute(_RTA_OIF, _U32.pack(index))
    by = f"by {gateway}" if gateway else f"on {name or f'device {index}'}"
    batch.add(RTM_NEWROUTE, _CREATE | _EXCL, body, f"add route {destination or 'default'} {by}")


# ---- talking ----


def send(batch: Batch, fd: int = -1) -> None:
    """Send a batch and read its acknowledgements.

    The kernel carries the messages out one after the other, those after a failed one too.

    Args:
        batch: what to send.
        fd: a netlink socket in another namespace, which is closed; -1 is this one's.

    Raises:
        KernelError: the first that failed, with the kernel's own words as hint where it has any.
    """
    if len(batch) == 0:
        return
    socket = _open(batch.words[0], fd)
    try:
        failed = _converse(socket, batch)
    finally:
        socket.close()
    if failed is not None:
        raise failed


def send_within(batch: Batch, namespace: int) -> None:
    """Send a batch in the network namespace that a descriptor is of.

    Raises:
        KernelError: as for ``send``; the namespace cannot be entered.
    """
    fd: int = lib.netlink_in(namespace)
    if fd < 0:
        raise kernel_error("enter network namespace", "", ffi.errno)
    send(batch, fd)


def _converse(socket: _socket, batch: Batch) -> KernelError | None:
    failed: KernelError | None = None
    seen = 0
    try:
        socket.send(batch.bytes())
        while seen < len(batch):
            for kind, flags, number, body in messages(socket.recv(_BUFFER)):
                if kind != _NLMSG_ERROR:
                    continue
                seen += 1
                failed = failed or _failure(batch.words[number], flags, body)
    except OSError as err:
        raise kernel_error(batch.words[0], "", err.errno or 0) from err
    return failed


def get_link(name: str, fd: int = -1) -> Link | None:
    """Return the device with a name, None where there is none.

    Args:
        name: the device's.
        fd: as for ``send``.

    Raises:
        KernelError: the kernel does not say.
    """
    body = _LINK.pack(0, 0, 0, 0, 0) + _name(name)
    body += _attribute(_IFLA_EXT_MASK, _U32.pack(_RTEXT_FILTER_SKIP_STATS))
    try:
        found = _ask(_RTM_GETLINK, 0, body, f"look at device {name}", fd)
    except OSError as err:
        raise kernel_error(f"look at device {name}", "", err.errno or 0) from err
    return _link(found[0]) if found else None


def links(fd: int = -1) -> list[Link]:
    """Return all devices of the namespace.

    Raises:
        KernelError: the kernel does not say.
    """
    body = _LINK.pack(0, 0, 0, 0, 0)
    body += _attribute(_IFLA_EXT_MASK, _U32.pack(_RTEXT_FILTER_SKIP_STATS))
    return [_link(found) for found in _ask(_RTM_GETLINK, _DUMP, body, "list devices", fd)]


def addresses(fd: int = -1, *, index: int = 0) -> list[tuple[int, str, int]]:
    """Return index of the device, address and prefix length of the addresses of the namespace.

    Args:
        fd: as for ``send``.
        index: of the device whose addresses are meant, 0 for all.

    Raises:
        KernelError: the kernel does not say.
    """
    body = _ADDRESS.pack(0, 0, 0, 0, index)
    found = []
    for data in _ask(_RTM_GETADDR, _DUMP, body, "list addresses", fd):
        family, prefix, _, _, owner = _ADDRESS.unpack_from(data)
        values = attributes(data[_ADDRESS.size :])
        raw = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if raw and family in (AF_INET, AF_INET6):
            found.append((owner, inet_ntop(family, raw), prefix))
    return found


def routes(fd: int = -1) -> list[tuple[int, str]]:
    """Return index of the device and destination of the routes of the main table.

    Raises:
        KernelError: the kernel does not say.
    """
    body = _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)
    found = []
    for data in _ask(_RTM_GETROUTE, _DUMP, body, "list routes", fd):
        family, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(data)
        values = attributes(data[_ROUTE.size :])
        if table != _RT_TABLE_MAIN or kind != _RTN_UNICAST or family not in (AF_INET, AF_INET6):
            continue
        raw = values.get(_RTA_DST) or bytes(4 if family == AF_INET else 16)
        found.append((_number(values.get(_RTA_OIF)), f"{inet_ntop(family, raw)}/{prefix}"))
    return found


def _ask(kind: int, flags: int, body: bytes, words: str, fd: int) -> list[bytes]:
    """The bodies of the answers; nothing where the kernel knows no such device."""
    batch = Batch()
    batch.add(kind, flags, body, words)
    socket = _open(words, fd)
    found: list[bytes] = []
    try:
        socket.send(batch.bytes())
        while True:
            for answer, answer_flags, _, data in messages(socket.recv(_BUFFER)):
                if answer == _NLMSG_DONE:
                    return found
                if answer != _NLMSG_ERROR:
                    found.append(data)
                    continue
                failed = _failure(words, answer_flags, data)
                if failed is None or failed.errno == 19:  # ENODEV
                    return found
                raise failed
    except OSError as err:
        raise kernel_error(words, "", err.errno or 0) from err
    finally:
        socket.close()


def _open(words: str, fd: int) -> _socket:
    try:
        if fd >= 0:
            socket = _socket(_AF_NETLINK, SOCK_RAW, _NETLINK_ROUTE, fileno=fd)
        else:
            socket = _socket(_AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, _NETLINK_ROUTE)
        for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK, _NETLINK_GET_STRICT_CHK):
            socket.setsockopt(_SOL_NETLINK, option, 1)
    except OSError as err:
        raise kernel_error(words, "open a netlink socket", err.errno or 0) from err
    return socket


def _failure(words: str, flags: int, body: bytes) -> KernelError | None:
    number = -int(_ERROR.unpack_from(body)[0])
    if number == 0:
        return None
    said = _words(flags, body)
    return kernel_error(words, "", number, f"the kernel says: {said}" if said else None)


def _words(flags: int, body: bytes) -> str:
    """What the kernel says about a failure (netlink(7), NETLINK_EXT_ACK)."""
    if not flags & _ACK_TLVS:
        return ""
    start = _ERROR.size + _HEADER.size
    if not flags & _CAPPED:  # the message that failed follows whole
        length = _HEADER.unpack_from(body, _ERROR.size)[0]
        start = _ERROR.size + (length + 3 & ~3)
    text = attributes(body[start:]).get(_NLMSGERR_ATTR_MSG, b"")
    return text.rstrip(b"\0").decode("utf-8", "replace")


# ---- reading ----


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield type, flags, sequence number and body of each message in `data`."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, flags, number, data[at + _HEADER.size : at + length]
        at += length + 3 & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes of a message, or of one that nests others."""
    found = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & ~_NESTED] = data[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
    return found


def entries(data: bytes) -> list[bytes]:
    """Return the attributes of one that is a list of others, each with its header."""
    found = []
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, _ = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found.append(data[at : at + length])
        at += length + 3 & ~3
    return found


def _link(data: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(data)
    values = attributes(data[_LINK.size :])
    info = attributes(values.get(_IFLA_LINKINFO, b""))
    return Link(
        index,
        _text(values.get(_IFLA_IFNAME)),
        values.get(_IFLA_ADDRESS, b"").hex(":"),
        _number(values.get(_IFLA_MTU)),
        _text(info.get(_INFO_KIND)),
        _number(values.get(_IFLA_MASTER)),
        bool(flags & _IFF_UP),
    )


def _text(data: bytes | None) -> str:
    return (data or b"").rstrip(b"\0").decode("utf-8", "replace")


def _number(data: bytes | None) -> int:
    return int(_U32.unpack(data)[0]) if data else 0


# ---- writing ----


def pack(address: str) -> tuple[int, bytes]:
    """Return family (AF_INET or AF_INET6) and bytes of an address.

    Raises:
        InvalidInput: it is none.
    """
    family = AF_INET6 if ":" in address else AF_INET
    try:
        return family, inet_pton(family, address)
    except (OSError, ValueError) as err:
        raise InvalidInput(f"{address!r} is not an IP address") from err


def attribute(kind: int, data: bytes, *, nested: bool = False) -> bytes:
    """Return an attribute; with `nested` its data are attributes (NLA_F_NESTED)."""
    return _attribute(kind | _NESTED if nested else kind, data)


def string(kind: int, text: str) -> bytes:
    """Return an attribute that is a text."""
    return _attribute(kind, text.encode() + b"\0")


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _name(name: str) -> bytes:
    raw = name.encode()
    if not raw or len(raw) > _IFNAME_MOST or b"/" in raw or raw.isspace() or b"\0" in raw:
        raise InvalidInput(
            f"network device {name!r}: not a name: 1 to {_IFNAME_MOST} characters without a slash"
        )
    return _attribute(_IFLA_IFNAME, raw + b"\0")


def _mac(mac: str) -> bytes:
    if not mac:
        return b""
    try:
        raw = bytes(int(part, 16) for part in mac.split(":"))
    except ValueError:
        raw = b""
    if len(raw) != 6 or raw[0] & 1:  # the lowest bit of the first byte marks groups
        raise InvalidInput(f"{mac!r} is not the hardware address of a device")
    return _attribute(_IFLA_ADDRESS, raw)


def _mtu(mtu: int) -> bytes:
    return _attribute(_IFLA_MTU, _U32.pack(mtu)) if mtu else b""


def _kind(kind: str) -> bytes:
    return _attribute(_IFLA_LINKINFO | _NESTED, _attribute(_INFO_KIND, kind.encode() + b"\0"))
