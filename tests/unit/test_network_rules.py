"""Scripts of rules, as text; that nft takes them is seen on the host."""

from __future__ import annotations

from pycontain.model.network import Network, PublishedPort, Subnet
from pycontain.network import rules

WEB = Network(
    id="a" * 64, name="web", created=0, interface="pyc-aaaaaaaaaa", ipv6=True,
    subnets=(Subnet(subnet="10.1.2.0/24", gateway="10.1.2.1"),
             Subnet(subnet="fd00:1::/64", gateway="fd00:1::1")),
)  # fmt: skip
INSIDE = Network(
    id="b" * 64, name="db", created=0, interface="pyc-bbbbbbbbbb", internal=True,
    subnets=(Subnet(subnet="10.1.3.0/24", gateway="10.1.3.1"),),
)  # fmt: skip
PORT = PublishedPort(
    protocol="tcp", host_address="0.0.0.0", host_port=8080, address="10.1.2.2", port=80
)
ONE = PublishedPort(
    protocol="udp", host_address="FD00::0001", host_port=53, address="fd00:1::2", port=5353
)


def test_a_network_comes_and_goes_as_elements() -> None:
    assert rules.add_network("t", WEB).splitlines() == [
        'add element inet t bridges { "pyc-aaaaaaaaaa" }',
        'add element inet t within { "pyc-aaaaaaaaaa" . "pyc-aaaaaaaaaa" }',
        'add element inet t local4 { "pyc-aaaaaaaaaa" . 10.1.2.0/24 }',
        "add element inet t masked4 { 10.1.2.0/24 }",
        'add element inet t local6 { "pyc-aaaaaaaaaa" . fd00:1::/64 }',
        "add element inet t masked6 { fd00:1::/64 }",
    ]
    added = rules.add_network("t", WEB).replace("add element", "delete element")
    assert rules.delete_network("t", WEB) == added


def test_nothing_of_an_internal_network_is_masked() -> None:
    script = rules.add_network("t", INSIDE)
    assert "masked" not in script
    assert 'internal { "pyc-bbbbbbbbbb" }' in script


def test_ports() -> None:
    assert rules.add_ports("t", [PORT, ONE]).splitlines() == [
        "add element inet t ports4 { tcp . 8080 : 10.1.2.2 . 80 }",
        "add element inet t ports6at { fd00::1 . udp . 53 : fd00:1::2 . 5353 }",
    ]
    assert rules.delete_ports("t", [PORT, ONE]).splitlines() == [
        "delete element inet t ports4 { tcp . 8080 }",
        "delete element inet t ports6at { fd00::1 . udp . 53 }",
    ]


def test_the_whole_table_replaces_whatever_there_was() -> None:
    script = rules.whole("t", [WEB, INSIDE], [PORT])
    assert script.startswith("add table inet t\ndelete table inet t\ntable inet t {\n")
    assert script.endswith(
        rules.add_network("t", WEB) + rules.add_network("t", INSIDE) + rules.add_ports("t", [PORT])
    )


def test_only_tables_of_ours_are_named() -> None:
    for script in (rules.whole("t", [WEB], [PORT]), rules.none("t"), rules.add_ports("t", [ONE])):
        for line in script.splitlines():
            if line.split()[0] in ("add", "delete", "table", "flush"):
                assert "inet t" in line


def test_uses_counts_rules_and_jumps() -> None:
    assert rules.uses() == {
        "publish": 6, "prerouting": 1, "output": 3, "postrouting": 6, "forward": 5, "enter": 3,
    }  # fmt: skip


def test_the_sets_are_known_by_name() -> None:
    script = rules.whole("t", [WEB, INSIDE], [PORT, ONE])
    used = {line.split()[4] for line in script.splitlines() if line.startswith("add element")}
    assert used < set(rules.SETS)
    assert len(rules.SETS) == script.count("  set ") + script.count("  map ")
