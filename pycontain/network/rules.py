"""The rules of a store's networks as scripts of nft(8): text, carried out elsewhere.

One table for each store. Its chains never change; what differs is in sets and maps, so that a
network or a published port comes and goes as elements. Rules decide, in the order in which a packet
meets them:

- prerouting, output: a published port of an address of this host leads to its container. Not on
  the loopback: what comes to 127.0.0.1 is a matter of the process that listens there.
- forward: within a network all, and what was begun; of an internal network nothing else. What a
  published port led here may enter; else nothing enters a network, neither from other networks
  (refused) nor from elsewhere (dropped).
- postrouting: what leaves its network has the host's address, and so has what comes back into the
  network that it is from, by a published port: else the answer would take a shorter way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.network import address

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pycontain.model.network import Network, PublishedPort

_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to

# Priorities are numbers: nft 1.0.6 knows their names at some hooks only.
_CHAINS = """\
  set bridges { type ifname; }
  set within { type ifname . ifname; }
  set internal { type ifname; }
  set local4 { type ifname . ipv4_addr; flags interval; }
  set local6 { type ifname . ipv6_addr; flags interval; }
  set masked4 { type ipv4_addr; flags interval; }
  set masked6 { type ipv6_addr; flags interval; }
  map ports4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
  map ports6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
  map ports4at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
  map ports6at { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
  chain publish {
    dnat ip to ip daddr . meta l4proto . th dport map @ports4at
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6at
    dnat ip to meta l4proto . th dport map @ports4
    dnat ip6 to meta l4proto . th dport map @ports6
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    fib daddr type local meta l4proto { tcp, udp } jump publish
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    fib daddr type local meta l4proto { tcp, udp } jump publish
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ct status dnat oifname . ip saddr @local4 masquerade
    ct status dnat oifname . ip6 saddr @local6 masquerade
    oifname . ip saddr @local4 return
    oifname . ip6 saddr @local6 return
    ip saddr @masked4 masquerade
    ip6 saddr @masked6 masquerade
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname . oifname @within accept
    ct state established,related accept
    iifname @internal reject with icmpx type admin-prohibited
    ct status dnat accept
    oifname @bridges jump enter
  }
  chain enter {
    iifname @bridges reject with icmpx type admin-prohibited
    drop
  }
"""


SETS = tuple(line.split()[1] for line in _CHAINS.splitlines() if line.split()[0] in ("set", "map"))
"""The names of the sets and maps of a table."""


def whole(table: str, networks: Iterable[Network], ports: Iterable[PublishedPort]) -> str:
    """Return the script that makes the table anew, whatever was there, in one transaction.

    Args:
        table: its name.
        networks: those that are up.
        ports: those that are published.
    """
    # Added first: removing a table that is not there is an error.
    start = f"add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n"
    elements = "".join(add_network(table, network) for network in networks)
    # Of a run that was lost something may be left beside its successor's: a key has one value.
    once = {(_map(port), _key(port)): port for port in ports}
    return f"{start}{_CHAINS}}}\n{elements}{add_ports(table, list(once.values()))}"


def uses() -> dict[str, int]:
    """Return how often each chain of the table is used, by its rules and by jumps to it.

    It is always the same: with ``kernel.firewall.chains`` it tells whether the table is as it was
    made, or somebody flushed it.
    """
    found: dict[str, int] = {}
    chain = ""
    for line in _CHAINS.splitlines():
        words = line.split()
        if words[0] == "chain":
            chain = words[1]
            found[chain] = found.get(chain, 0)
        elif words[0] == "}":
            chain = ""
        elif chain and words[0] != "type":
            found[chain] += 1
            if "jump" in words:
                found[words[-1]] = found.get(words[-1], 0) + 1
    return found


def none(table: str) -> str:
    """Return the script after which there is no table."""
    return f"add table inet {table}\ndelete table inet {table}\n"


def add_network(table: str, network: Network) -> str:
    """Return the script that adds a network; its elements may be there."""
    return _network("add", table, network)


def delete_network(table: str, network: Network) -> str:
    """Return the script that takes a network away; it fails where an element is missing."""
    return _network("delete", table, network)


def _network(verb: str, table: str, network: Network) -> str:
    name = f'"{network.interface}"'
    found = [("bridges", name), ("within", f"{name} . {name}")]
    if network.internal:
        found.append(("internal", name))
    for subnet in network.subnets:
        kind = "6" if ":" in subnet.subnet else "4"
        found.append((f"local{kind}", f"{name} . {subnet.subnet}"))
        if not network.internal:
            found.append((f"masked{kind}", subnet.subnet))
    return "".join(_element(verb, table, set_name, words) for set_name, words in found)


def add_ports(table: str, ports: Sequence[PublishedPort]) -> str:
    """Return the script that publishes ports; it fails where one leads elsewhere already."""
    return "".join(
        _element("add", table, _map(port), f"{_key(port)} : {port.address} . {port.port}")
        for port in ports
    )


def delete_ports(table: str, ports: Sequence[PublishedPort]) -> str:
    """Return the script that takes ports back; it fails where one is missing."""
    return "".join(_element("delete", table, _map(port), _key(port)) for port in ports)


def _map(port: PublishedPort) -> str:
    kind = "6" if ":" in port.address else "4"
    return f"ports{kind}" if port.host_address in _ANY else f"ports{kind}at"


def _key(port: PublishedPort) -> str:
    key = f"{port.protocol} . {port.host_port}"
    if port.host_address in _ANY:
        return key
    return f"{address.normal(port.host_address)} . {key}"


def _element(verb: str, table: str, name: str, words: str) -> str:
    return f"{verb} element inet {table} {name} {{ {words} }}\n"
