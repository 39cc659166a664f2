"""Messages of rtnetlink as bytes, read back by pyroute2's decoder, which others wrote."""

from __future__ import annotations

import struct

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from pycontain.errors import InvalidInput
from pycontain.kernel import netlink
from pycontain.kernel.netlink import Batch


def decoded(batch: Batch, kind: type) -> object:
    message = kind(batch.bytes())
    message.decode()
    return message


def test_a_bridge() -> None:
    batch = Batch()
    netlink.new_bridge(batch, "pyc-0", 1400, "02:42:00:00:00:01")
    found = decoded(batch, ifinfmsg)
    assert found.get_attr("IFLA_IFNAME") == "pyc-0"  # type: ignore[attr-defined]
    assert found.get_attr("IFLA_ADDRESS") == "02:42:00:00:00:01"  # type: ignore[attr-defined]
    assert found.get_attr("IFLA_MTU") == 1400  # type: ignore[attr-defined]
    info = found.get_attr("IFLA_LINKINFO")  # type: ignore[attr-defined]
    assert info.get_attr("IFLA_INFO_KIND") == "bridge"
    assert batch.words == ["make bridge pyc-0"]


@pytest.mark.parametrize("names", [("veth01234567", "eth0"), ("a", "b"), ("veth1", "eth15")])
def test_a_veth_pair_and_the_place_of_the_namespace(names: tuple[str, str]) -> None:
    batch = Batch()
    netlink.set_link(batch, 1, up=True)
    start = len(batch.bytes())
    at = netlink.new_veth(batch, names[0], 7, names[1], "02:42:00:00:00:02", 1400, 2)
    data = bytearray(batch.bytes())
    struct.pack_into("=I", data, at, 4711)
    message = ifinfmsg(bytes(data[start:]))
    message.decode()
    assert message.get_attr("IFLA_IFNAME") == names[0]
    assert message.get_attr("IFLA_MASTER") == 7
    info = message.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer["index"] == 2
    assert peer.get_attr("IFLA_IFNAME") == names[1]
    assert peer.get_attr("IFLA_ADDRESS") == "02:42:00:00:00:02"
    assert peer.get_attr("IFLA_NET_NS_PID") == 4711


def test_a_peers_index_needs_one_here() -> None:
    batch = Batch()
    netlink.new_veth(batch, "veth0", 7, "eth0", peer_index=2)
    assert decoded(batch, ifinfmsg)["index"] >= 1 << 30  # type: ignore[index]
    batch = Batch()
    netlink.new_veth(batch, "veth0", 7, "eth0")
    assert decoded(batch, ifinfmsg)["index"] == 0  # type: ignore[index]


def test_macvlan() -> None:
    batch = Batch()
    at = netlink.new_macvlan(batch, "eth0", 3, mode="private")
    assert at == len(batch.bytes()) - 4
    found = decoded(batch, ifinfmsg)
    assert found.get_attr("IFLA_LINK") == 3  # type: ignore[attr-defined]
    info = found.get_attr("IFLA_LINKINFO")  # type: ignore[attr-defined]
    assert info.get_attr("IFLA_INFO_DATA").get_attr("IFLA_MACVLAN_MODE") == "private"


def test_addresses() -> None:
    batch = Batch()
    netlink.add_address(batch, 2, "10.1.2.3", 20, name="eth0")
    found = decoded(batch, ifaddrmsg)
    assert found.get_attr("IFA_LOCAL") == "10.1.2.3"  # type: ignore[attr-defined]
    assert found.get_attr("IFA_BROADCAST") == "10.1.15.255"  # type: ignore[attr-defined]
    assert batch.words == ["add address 10.1.2.3/20 to eth0"]
    batch = Batch()
    netlink.add_address(batch, 2, "fd00::2", 64)
    found = decoded(batch, ifaddrmsg)
    assert found.get_attr("IFA_ADDRESS") == "fd00::2"  # type: ignore[attr-defined]
    assert found["flags"] == 2  # type: ignore[index]  # nodad


def test_routes() -> None:
    batch = Batch()
    netlink.add_route(batch, None, "10.1.2.1", 2)
    found = decoded(batch, rtmsg)
    assert found["dst_len"] == 0  # type: ignore[index]
    assert found.get_attr("RTA_GATEWAY") == "10.1.2.1"  # type: ignore[attr-defined]
    assert found.get_attr("RTA_OIF") == 2  # type: ignore[attr-defined]
    batch = Batch()
    netlink.add_route(batch, "10.9.0.0/16", None, 2, name="eth0")
    assert decoded(batch, rtmsg).get_attr("RTA_DST") == "10.9.0.0"  # type: ignore[attr-defined]
    assert batch.words == ["add route 10.9.0.0/16 on eth0"]


def test_messages_are_numbered_and_aligned() -> None:
    batch = Batch()
    netlink.set_link(batch, "a", up=True)
    netlink.set_link(batch, "abcde", up=False)
    netlink.del_link(batch, "abcd")
    found = list(netlink.messages(batch.bytes()))
    assert [(kind, number) for kind, _, number, _ in found] == [(19, 0), (19, 1), (17, 2)]
    assert len(batch) == 3


@pytest.mark.parametrize("name", ["", "sixteen-letters-", "a/b", "a\0b"])
def test_names_that_no_device_has(name: str) -> None:
    with pytest.raises(InvalidInput):
        netlink.new_bridge(Batch(), name)


@pytest.mark.parametrize(
    "mac", ["01:00:00:00:00:01", "02:42", "zz:00:00:00:00:00", "1:2:3:4:5:600"]
)
def test_what_is_no_hardware_address(mac: str) -> None:
    with pytest.raises(InvalidInput):
        netlink.new_bridge(Batch(), "pyc-0", 0, mac)


def test_what_is_no_address() -> None:
    with pytest.raises(InvalidInput):
        netlink.add_address(Batch(), 2, "10.1.2", 24)
    with pytest.raises(InvalidInput):
        netlink.add_route(Batch(), None, None, 2)


def test_the_loopback_is_there() -> None:
    found = netlink.get_link("lo")
    assert found is not None
    assert (found.index, found.kind) == (1, "")
    assert netlink.get_link("nosuch0") is None
    assert "lo" in [link.name for link in netlink.links()]


def test_a_list_has_its_entries_whole_and_in_order() -> None:
    parts = [netlink.string(1, word) for word in ("a", "abc", "abcd")]
    assert [part.rstrip(b"\0") for part in netlink.entries(b"".join(parts))] == [
        part.rstrip(b"\0") for part in parts
    ]
    assert netlink.entries(b"") == []
    assert netlink.entries(b"\2\0\1\0") == []  # shorter than its own header
