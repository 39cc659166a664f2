"""What the kernel remembers of connections (nf_conntrack): flows are forgotten here.

Where a flow leads to is decided by its first packet, and kept as long as it goes on. One of
datagrams goes on while somebody sends: with the port that it comes from, it would never learn that
a published port leads to another container by now.

Sources: linux/netfilter/nfnetlink_conntrack.h, conntrack(8).
"""

from __future__ import annotations

import struct
from _socket import AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_RAW, inet_pton
from _socket import socket as _socket

from pycontain.errors import NotSupported, PycontainError, kernel_error
from pycontain.kernel import netlink

_AF_NETLINK = 16
_NETLINK_NETFILTER = 12
_GET = 1 << 8 | 1  # the upper byte is the subsystem (NFNL_SUBSYS_CTNETLINK)
_DELETE = 1 << 8 | 2
_DUMP = 0x300
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_TUPLE_ORIG = 1
_TUPLE_REPLY = 2
_STATUS = 3
_ID = 12
_FILTER = 25
_FILTER_ORIG = 1
_BY_PROTOCOL = 1 << 3
_BY_TARGET_PORT = 1 << 5
_OF_IP = 1
_OF_PROTOCOL = 2
_SOURCE = {AF_INET: 1, AF_INET6: 3}
_NUMBER = 1
_TARGET_PORT = 3
_DST_NAT = 1 << 5  # of the status: IPS_DST_NAT
_UDP = 17
_NFGENMSG = struct.Struct("=BBH")  # family, version, resource
_U32 = struct.Struct("=I")
_U32BE = struct.Struct(">I")
_U16BE = struct.Struct(">H")
_BUFFER = 1 << 17
_ENOENT = 2
_UNKNOWN = (22, 93, 95)  # EINVAL and its like: nobody answers for that subsystem


def forget_datagrams(port: int, address: str) -> int:
    """Forget the flows of datagrams to a port of this host that were led elsewhere.

    Those to the same port of other addresses, too, if they are led: their next datagram begins them
    anew.

    Args:
        port: of the host.
        address: where it leads to now; its family is whose flows are meant.

    Returns:
        How many there were.

    Raises:
        NotSupported: the kernel has no nf_conntrack_netlink.
        KernelError: it does not forget.
    """
    family = AF_INET6 if ":" in address else AF_INET
    wanted = inet_pton(family, address)
    step = f"forget connections to udp port {port}"
    try:
        socket = _socket(_AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, _NETLINK_NETFILTER)
    except OSError as err:
        raise kernel_error(step, "nf_conntrack", err.errno or 0) from err
    try:
        stale = [flow for flow in _flows(socket, family, port, step) if _is_stale(flow, wanted)]
        for flow in stale:
            _forget(socket, family, flow, step)
        return len(stale)
    except OSError as err:
        raise kernel_error(step, "nf_conntrack", err.errno or 0) from err
    finally:
        socket.close()


def _flows(socket: _socket, family: int, port: int, step: str) -> list[dict[int, bytes]]:
    protocol = netlink.attribute(_NUMBER, bytes([_UDP]))
    protocol += netlink.attribute(_TARGET_PORT, _U16BE.pack(port))
    flags = netlink.attribute(_FILTER_ORIG, _U32.pack(_BY_PROTOCOL | _BY_TARGET_PORT))
    tuple_ = netlink.attribute(_OF_PROTOCOL, protocol, nested=True)
    body = netlink.attribute(_TUPLE_ORIG, tuple_, nested=True)
    body += netlink.attribute(_FILTER, flags, nested=True)
    _send(socket, _GET, _DUMP, family, body, step)
    found: list[dict[int, bytes]] = []
    while True:
        for kind, _, _, data in netlink.messages(socket.recv(_BUFFER)):
            if kind == _NLMSG_DONE:
                return found
            if kind == _NLMSG_ERROR:
                raise _refused(step, data)
            found.append(netlink.attributes(data[_NFGENMSG.size :]))


def _is_stale(flow: dict[int, bytes], wanted: bytes) -> bool:
    """Whether it is led somewhere, and its answers come from another address than `wanted`."""
    if not _U32BE.unpack(flow[_STATUS])[0] & _DST_NAT:
        return False
    source = netlink.attributes(netlink.attributes(flow[_TUPLE_REPLY])[_OF_IP])
    return wanted not in (source.get(kind) for kind in _SOURCE.values())


def _forget(socket: _socket, family: int, flow: dict[int, bytes], step: str) -> None:
    body = netlink.attribute(_TUPLE_ORIG, flow[_TUPLE_ORIG], nested=True)
    body += netlink.attribute(_ID, flow[_ID])
    _send(socket, _DELETE, 0, family, body, step)
    for kind, _, _, data in netlink.messages(socket.recv(_BUFFER)):
        if kind == _NLMSG_ERROR and _number(data) not in (0, _ENOENT):
            raise _refused(step, data)


def _send(socket: _socket, kind: int, flags: int, family: int, body: bytes, step: str) -> None:
    batch = netlink.Batch()
    batch.add(kind, flags, _NFGENMSG.pack(family, 0, 0) + body, step)
    socket.send(batch.bytes())


def _number(data: bytes) -> int:
    return -int.from_bytes(data[:4], "little", signed=True)


def _refused(step: str, data: bytes) -> PycontainError:
    number = _number(data)
    if number in _UNKNOWN:
        hint = "load the kernel's module nf_conntrack_netlink"
        return NotSupported(step, "nf_conntrack", 95, hint)
    return kernel_error(step, "nf_conntrack", number)
