"""The words for networks that a container is to be in."""

from __future__ import annotations

from typing import Any

import pytest

from pycontain.errors import InvalidInput
from pycontain.model.container import NetworkChoice
from pycontain.network.choice import parse_alias, parse_mac, parse_network, resolve


def net(name: str, **fields: Any) -> NetworkChoice:
    return NetworkChoice(name=name, **fields)


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("none", "none"),
        ("host", "host"),
        ("container:web", "container:web"),
        ("bridge", net("bridge")),
        ("default", net("bridge")),
        ("back-end.1", net("back-end.1")),
        ("app:ip=10.1.0.9", net("app", ip="10.1.0.9")),
        (
            "app:ip6=FD00:0::9,mac=02-42-AA-bb-cc-01,alias=a,alias=b",
            net("app", ip6="fd00::9", mac="02:42:aa:bb:cc:01", aliases=("a", "b")),
        ),
        ("name=app,ip=10.1.0.9,mac-address=02:42:aa:bb:cc:01",
         net("app", ip="10.1.0.9", mac="02:42:aa:bb:cc:01")),
    ],
)  # fmt: skip
def test_networks(word: str, found: str | NetworkChoice) -> None:
    assert parse_network(word) == found


@pytest.mark.parametrize(
    "word",
    [
        "", "container:", "a:", "a:x", "a:x=1", "a:ip=", "a:ip=10.0.0", "a:ip=::1", "a:ip6=1.1.1.1",
        "a:name=b", "a/b", "-a", "ns:/proc/1/ns/net", "name=", "ip=10.0.0.1", "a:mac=1:2",
        "a:alias=-x", "a b", "none:ip=1",
    ],
)  # fmt: skip
def test_what_is_no_network(word: str) -> None:
    with pytest.raises(InvalidInput):
        parse_network(word)


def test_hardware_addresses() -> None:
    assert parse_mac("02:42:AC:11:00:02") == "02:42:ac:11:00:02"
    for word in ("", "02:42", "02:42:ac:11:00:zz", "01:42:ac:11:00:02", "00:00:00:00:00:00",
                 "2:42:ac:11:00:02"):  # fmt: skip
        with pytest.raises(InvalidInput, match="--mac-address"):
            parse_mac(word)


def test_aliases() -> None:
    assert parse_alias("db_1.local") == "db_1.local"
    for word in ("", ".a", "a b", "a" * 254, "ä"):
        with pytest.raises(InvalidInput, match="--network-alias"):
            parse_alias(word)


def test_the_default_holds_where_nothing_is_said() -> None:
    assert resolve([], "none") == ("none", ())
    assert resolve([], "bridge") == ("bridge", (net("bridge"),))
    assert resolve(["host"], "bridge") == ("host", ())


def test_the_other_flags_are_the_first_networks() -> None:
    mode, networks = resolve(
        [net("a", aliases=("x",)), net("b")], "none", ip="10.0.0.2", ip6="fd00::2",
        mac="02:42:00:00:00:01", aliases=["y", "x"],
    )  # fmt: skip
    assert mode == "bridge"
    assert networks == (
        net("a", ip="10.0.0.2", ip6="fd00::2", mac="02:42:00:00:00:01", aliases=("x", "y")),
        net("b"),
    )


@pytest.mark.parametrize(
    ("chosen", "more", "part"),
    [
        (["none", net("a")], {}, "cannot be combined"),
        ([net("a"), "host"], {}, "cannot be combined"),
        (["none", "none"], {}, "cannot be combined"),
        ([net("a"), net("b"), net("a")], {}, "given twice"),
        (["none"], {"ip": "10.0.0.1"}, "ip and the network mode"),
        (["host"], {"aliases": ["x"]}, "network-alias and the network mode"),
        ([net("a", ip="10.0.0.1")], {"ip": "10.0.0.2"}, "conflicting options: ip"),
        ([net("bridge")], {"aliases": ["x"]}, "user defined networks"),
        ([], {"aliases": ["x"]}, "user defined networks"),
    ],
)
def test_contradictions(chosen: list[Any], more: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidInput, match=part):
        resolve(chosen, "bridge", **more)
