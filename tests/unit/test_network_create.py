"""What becomes of the words of ``network create``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pycontain.errors import Conflict, InvalidInput, NotFound
from pycontain.network import address, create, store
from pycontain.network.create import Request
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from pycontain.model.network import Network


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    made.prepare()
    return made


def make(layout: Layout, name: str = "web", **asked: Any) -> Network:
    network = create.network(layout, Request(name, **asked), store.every(layout))
    store.add(layout, network)
    return network


def test_one_that_nothing_was_said_of(layout: Layout) -> None:
    network = make(layout)
    (subnet,) = network.subnets
    found = address.parse(subnet.subnet)
    assert found.prefix == 24
    assert address.parse("10.92.0.0/14").holds(found)
    assert subnet.gateway == address.text(found.family, found.first + 1)
    assert network.interface == f"pyc-{network.id[:10]}"
    assert not network.ipv6
    assert store.load(layout, "web") == network


def test_free_subnets_do_not_overlap(layout: Layout) -> None:
    found = [address.parse(make(layout, f"n{at}").subnets[0].subnet) for at in range(12)]
    for at, one in enumerate(found):
        assert not any(one.overlaps(other) for other in found[:at])


def test_the_words_are_kept(layout: Layout) -> None:
    network = make(
        layout, subnets=["10.7.0.0/16", "fd00:7::/64"], gateways=["10.7.9.9"],
        ranges=["10.7.128.5/17"], ipv6=True, internal=True, labels={"a": "b"},
        options={"mtu": "1400", "com.docker.network.bridge.name": "pyct7"},
    )  # fmt: skip
    four, six = network.subnets
    assert (four.gateway, four.ip_range) == ("10.7.9.9", "10.7.128.0/17")
    assert six.gateway == "fd00:7::1"
    assert network.ipv6
    assert network.internal
    assert (network.mtu, network.interface) == (1400, "pyct7")


def test_ipv6_gets_unique_local_addresses(layout: Layout) -> None:
    six = make(layout, ipv6=True).subnets[1]
    assert address.parse("fd00::/8").holds(address.parse(six.subnet))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"driver": "overlay"}, "no such driver"),
        ({"subnets": ["10.7.0.1/24"]}, "host bits"),
        ({"subnets": ["10.7.0.0/24"], "ranges": ["10.7.0.0/31"]}, "no address for a container"),
        ({"subnets": ["10.7.0.0/24"], "ranges": ["10.7.0.254/31"]}, "no address for a container"),
        (
            {"subnets": ["10.7.0.0/24"], "ranges": ["10.7.0.9/32"], "gateways": ["10.7.0.9"]},
            "no address for a container",
        ),
        ({"subnets": ["10.7.0.0/32"]}, "too small"),
        ({"subnets": ["224.0.0.0/24"]}, r"no host can have an address of 224\.0\.0\.0/3"),
        ({"subnets": ["240.0.0.0/24"]}, "no host can"),
        ({"subnets": ["0.0.0.0/0"]}, r"no host can have an address of 0\.0\.0\.0/8"),
        ({"subnets": ["ff02::/64"], "ipv6": True}, "no host can"),
        ({"subnets": ["::/0"], "ipv6": True}, "no host can"),
        ({"subnets": ["10.7.0.0/24", "10.7.0.0/25"]}, "overlap"),
        ({"subnets": ["10.7.0.0/24", "10.8.0.0/24"]}, "one IPv4 subnet"),
        ({"subnets": ["fd00:7::/64"]}, "needs --ipv6"),
        ({"subnets": ["fd00:7::/64", "fd00:8::/64"], "ipv6": True}, "one IPv6 subnet"),
        ({"subnets": ["10.7.0.0/24"], "gateways": ["10.8.0.1"]}, "no matching subnet"),
        ({"subnets": ["10.7.0.0/24"], "gateways": ["10.7.0.255"]}, "no host of"),
        ({"subnets": ["10.7.0.0/24"], "ranges": ["10.7.0.0/16"]}, "no matching subnet"),
        ({"subnets": ["10.7.0.0/24"], "gateways": ["10.7.0.1", "10.7.0.2"]}, "no matching"),
        ({"options": {"mtu": "12"}}, "mtu"),
        ({"options": {"mtu": "1279"}, "ipv6": True}, "mtu.*from 1280"),
        ({"options": {"mtu": "many"}}, "mtu"),
        ({"options": {"com.docker.network.bridge.name": "sixteen-letters-"}}, "not a name"),
        ({"options": {"parent": "eth0"}}, "no such option"),
        ({"options": {"com.docker.network.bridge.enable_icc": "false"}}, "no such option"),
        ({"driver": "macvlan"}, "parent"),
        ({"driver": "macvlan", "options": {"parent": "lo", "mode": "odd"}}, "mode"),
    ],
)
def test_what_cannot_be(layout: Layout, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make(layout, **asked)


@pytest.mark.parametrize("name", ['a"b', "web*", "a b", "a:b", "a\\b", "\u00e4", "all", "default"])
def test_a_bridge_cannot_have_that_name(layout: Layout, name: str) -> None:
    with pytest.raises(InvalidInput, match="not a name"):
        make(layout, options={"com.docker.network.bridge.name": name})


def test_a_parent_that_is_not_there(layout: Layout) -> None:
    with pytest.raises(NotFound, match="nosuch0"):
        make(layout, driver="macvlan", options={"parent": "nosuch0"})


def test_what_others_have(layout: Layout) -> None:
    make(layout, subnets=["10.7.0.0/24"])
    with pytest.raises(Conflict, match="network web has"):
        make(layout, "other", subnets=["10.7.0.128/25"])
    with pytest.raises(Conflict, match="device lo has"):
        make(layout, "other", subnets=["127.0.0.0/24"])
    with pytest.raises(Conflict, match="there already"):
        make(layout, "other", options={"com.docker.network.bridge.name": "lo"})
    with pytest.raises(Conflict, match="already exists"):
        make(layout)


@pytest.mark.parametrize("name", ["", ".", "a/b", "-a", "a b", "ä", "a\n", "a" * 129, "\u0661"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(InvalidInput):
        store.check_name(name)


def test_finding(layout: Layout) -> None:
    web = make(layout)
    assert store.find(layout, "web") == web
    assert store.find(layout, web.id[:8]) == web
    for word in ("", "nosuch", "../web"):
        with pytest.raises(NotFound):
            store.find(layout, word)
    store.remove(layout, web)
    store.remove(layout, web)
    with pytest.raises(NotFound):
        store.find(layout, "web")
