"""What a new network is to be: the user's words checked, and what was not said chosen."""

from __future__ import annotations

import os
import time
from _socket import AF_INET, AF_INET6
from typing import TYPE_CHECKING

from pycontain.errors import Conflict, InvalidInput, NotFound
from pycontain.kernel import netlink
from pycontain.model.network import Network, Subnet
from pycontain.network import address, bridge, store
from pycontain.network.address import Range
from pycontain.network.leases import bounds
from pycontain.network.names import resolver_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pycontain.model.network import Driver
    from pycontain.store.layout import Layout

OPTION_NAME = "com.docker.network.bridge.name"
_MTU = ("mtu", "com.docker.network.driver.mtu")
_OF_BRIDGES = (OPTION_NAME, *_MTU)
_OF_MACVLAN = ("parent", "mode", "macvlan_mode", *_MTU)
_DEFAULT_ROOT = "/var/lib/pycontain"
DEFAULT_BRIDGE = "pycontain0"
_OF_DEVICES = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
_LOCK = "/run/pycontain-subnets.lock"

# The default network of the host's own store has room for as many as docker's; other networks,
# and those of other stores (tests, say), have 253 addresses each.
_WIDE = ("10.90.0.0/16", "10.91.0.0/16")
_POOL = "10.92.0.0/14"
_PIECE = 24

# Of this network, of groups and of nobody: no host has such an address (RFC 6890; RFC 4291, 2.7).
_NOBODYS = ("0.0.0.0/8", "224.0.0.0/3", "ff00::/8")


def lock(layout: Layout) -> str:
    """Return what is held by whoever looks for a free subnet until it is taken.

    All stores of the host share it; that of an ordinary user has a network namespace of its own.
    """
    return _LOCK if os.access("/run", os.W_OK) else f"{layout.state}/subnets.lock"


class Request:
    """What ``network create`` was asked for.

    Attributes:
        name: of the network.
        driver: ``bridge`` or ``macvlan``.
        subnets, gateways, ranges: as the user wrote them; a gateway and a range belong to the
            subnet that they are in.
        ipv6: give it IPv6; without an IPv6 subnet one is made up (RFC 4193).
        internal: nothing outside is to be reached.
        options, labels: by name.
    """

    __slots__ = (
        "driver", "gateways", "internal", "ipv6", "labels", "name", "options", "ranges", "subnets",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        *,
        driver: str = "bridge",
        subnets: Sequence[str] = (),
        gateways: Sequence[str] = (),
        ranges: Sequence[str] = (),
        ipv6: bool = False,
        internal: bool = False,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.driver = driver
        self.subnets = subnets
        self.gateways = gateways
        self.ranges = ranges
        self.ipv6 = ipv6
        self.internal = internal
        self.options = dict(options or {})
        self.labels = dict(labels or {})


def network(layout: Layout, request: Request, known: Iterable[Network]) -> Network:
    """Return the network that is asked for; nothing is made. ``lock`` is held.

    Args:
        layout: of the store.
        request: the words.
        known: the networks of the store.

    Raises:
        InvalidInput: it cannot be.
        Conflict: a subnet is in use, or none is free.
        NotFound: the parent of a macvlan network is not there.
    """
    driver = _driver(request)
    _check_options(request, driver)
    identity = os.urandom(32).hex()
    subnets = _subnets(layout, request, list(known), identity)
    made = Network(
        id=identity,
        name=request.name,
        driver=driver,
        created=time.time_ns(),
        subnets=subnets,
        internal=request.internal,
        ipv6=any(":" in subnet.subnet for subnet in subnets),
        labels=request.labels,
        options=request.options,
        interface=_interface(layout, request, driver, identity),
        mtu=_mtu(request.options, ipv6=request.ipv6),
        mode=_mode(request.options),
    )
    for subnet in subnets:
        _check_pool(made, subnet)
    return made


def _driver(request: Request) -> Driver:
    if request.driver == "macvlan":
        return "macvlan"
    if request.driver != "bridge":
        raise InvalidInput(
            f"network driver {request.driver!r}: there is no such driver", "bridge or macvlan"
        )
    return "bridge"


def _check_options(request: Request, driver: Driver) -> None:
    known = _OF_BRIDGES if driver == "bridge" else _OF_MACVLAN
    for name in request.options:
        if name not in known:
            raise InvalidInput(
                f"network option {name!r}: the driver {driver} has no such option",
                f"there are {', '.join(known)}",
            )
    _mtu(request.options, ipv6=request.ipv6)


def _mtu(options: Mapping[str, str], *, ipv6: bool) -> int:
    found = {options[name] for name in _MTU if name in options}
    if not found:
        return 0
    word = found.pop()
    # Less than 1280 bytes is no link for IPv6, less than 68 none for IPv4 (RFC 8200, 5; RFC 791).
    least = 1280 if ipv6 else 68
    if found or not word.isdecimal() or not least <= int(word) <= 65535:
        raise InvalidInput(
            f"network option mtu: {word!r}: a number from {least} to 65535, said once"
        )
    return int(word)


def _mode(options: Mapping[str, str]) -> str:
    word = options.get("mode", options.get("macvlan_mode", "bridge"))
    if word not in netlink.MACVLAN_MODES:
        raise InvalidInput(
            f"network option mode: {word!r}", f"one of {', '.join(netlink.MACVLAN_MODES)}"
        )
    return word


def _interface(layout: Layout, request: Request, driver: Driver, identity: str) -> str:
    if driver == "macvlan":
        parent = request.options.get("parent", "")
        if not parent:
            raise InvalidInput(
                f"network {request.name}: the driver macvlan needs --opt parent=DEVICE",
                "the device of this host on whose network the containers are to be",
            )
        if netlink.get_link(parent) is None:
            raise NotFound(f"network {request.name}: parent {parent}: there is no such device")
        return parent
    wanted = request.options.get(OPTION_NAME, "")
    if not wanted:
        default = request.name == store.DEFAULT and layout.root == _DEFAULT_ROOT
        return DEFAULT_BRIDGE if default else f"pyc-{identity[:10]}"
    netlink.set_link(netlink.Batch(), wanted)  # a name that no device can have is refused
    # nft(8) reads others as patterns or as quotes, sysctl(8) these words as all devices.
    if wanted.strip(_OF_DEVICES) or wanted in ("all", "default"):
        raise InvalidInput(
            f"network option {OPTION_NAME}: {wanted!r}: not a name of a bridge",
            "letters of ASCII, digits, '_', '.' and '-'",
        )
    if netlink.get_link(wanted) is not None:
        raise Conflict(f"network {request.name}: a device {wanted} is there already")
    return wanted


# ---- subnets ----


def _subnets(
    layout: Layout, request: Request, known: list[Network], identity: str
) -> tuple[Subnet, ...]:
    asked = [address.parse(word) for word in request.subnets]
    for place, subnet in enumerate(asked):
        for other in asked[:place]:
            if subnet.overlaps(other):
                raise InvalidInput(f"subnets {other} and {subnet} overlap")
    taken = _taken(known)
    for subnet in asked:
        _check_size(subnet)
        _check_kind(subnet)
        _check_taken(request, subnet, taken)
    _check_families(request, asked)
    if not any(subnet.family == AF_INET for subnet in asked):
        asked.insert(0, _free(layout, request.name, identity, taken))
    if request.ipv6 and not any(subnet.family == AF_INET6 for subnet in asked):
        asked.append(_unique_local(identity))
    gateways, ranges = list(request.gateways), list(request.ranges)
    made = tuple(_subnet(subnet, gateways, ranges) for subnet in asked)
    if gateways or ranges:
        word = (gateways or ranges)[0]
        kind = "gateway" if gateways else "ip-range"
        raise InvalidInput(f"no matching subnet for {kind} {word}")
    return made


def _check_size(subnet: Range) -> None:
    low, high = subnet.usable()
    if high - low < 1:
        raise InvalidInput(
            f"subnet {subnet}: too small", "it has to hold a gateway and one container"
        )


def _check_pool(network: Network, subnet: Subnet) -> None:
    """Refuse a range of which no container can have an address."""
    if not subnet.ip_range:
        return
    pool = address.parse(subnet.ip_range)
    low, high = bounds(pool, address.parse(subnet.subnet))
    kept = {subnet.gateway, resolver_address(network)}
    # One more than are kept is enough to find one that is free, however large the range is.
    for number in range(low, min(high, low + len(kept)) + 1):
        if address.text(pool.family, number) not in kept:
            return
    raise InvalidInput(
        f"ip-range {pool}: it has no address for a container",
        "the first and the last of a subnet are nobody's; its gateway has one, and so has its"
        " resolver of names, mostly the last that is left",
    )


def _check_kind(subnet: Range) -> None:
    for word in _NOBODYS:
        if subnet.overlaps(address.parse(word)):
            raise InvalidInput(
                f"subnet {subnet}: no host can have an address of {word}",
                "take one of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or fd00::/8",
            )


def _check_families(request: Request, asked: list[Range]) -> None:
    if sum(subnet.family == AF_INET for subnet in asked) > 1:
        raise InvalidInput("a bridge has one IPv4 subnet", "make a network for each")
    if sum(subnet.family == AF_INET6 for subnet in asked) > 1:
        raise InvalidInput("a bridge has one IPv6 subnet", "make a network for each")
    if any(subnet.family == AF_INET6 for subnet in asked) and not request.ipv6:
        raise InvalidInput("an IPv6 subnet needs --ipv6")


def _taken(known: Iterable[Network]) -> list[tuple[Range, str]]:
    """The ranges that are in use, and by what."""
    names = {link.index: link.name for link in netlink.links()}
    found = [
        (address.parse(subnet.subnet), f"network {network.name}")
        for network in known
        for subnet in network.subnets
    ]
    return (
        found
        + [(range_, _owner(names.get(index))) for index, range_ in bridge.occupied()]
        + [(range_, f"device {name}") for name, range_ in bridge.behind()]
    )


def _owner(device: str | None) -> str:
    return f"device {device}" if device else "a route of the host"


def _check_taken(request: Request, subnet: Range, taken: list[tuple[Range, str]]) -> None:
    for other, owner in taken:
        # A macvlan network is on the network of its parent: the host's routes know it.
        if subnet.overlaps(other) and not (
            request.driver == "macvlan" and owner == f"device {request.options.get('parent')}"
        ):
            raise Conflict(
                f"network {request.name}: subnet {subnet} overlaps {other}, which {owner} has",
                "choose another --subnet, or none to be given a free one",
            )


def _free(layout: Layout, name: str, identity: str, taken: list[tuple[Range, str]]) -> Range:
    """The first free subnet.

    Stores do not know of each other's networks while those are down. So the host's own store
    counts from the beginning, and others begin somewhere.
    """
    own = layout.root == _DEFAULT_ROOT
    if own and name == store.DEFAULT:
        for word in _WIDE:
            wide = address.parse(word)
            if not any(wide.overlaps(other) for other, _ in taken):
                return wide
    pool = address.parse(_POOL)
    count = 1 << (_PIECE - pool.prefix)
    start = 0 if own else int(identity[:8], 16)
    size = 1 << (32 - _PIECE)
    for number in range(count):
        found = Range(AF_INET, pool.first + (start + number) % count * size, _PIECE)
        if not any(found.overlaps(other) for other, _ in taken):
            return found
    raise Conflict(f"network {name}: no subnet of {pool} is free", "give it one with --subnet")


def _unique_local(identity: str) -> Range:
    """A subnet of unique local addresses whose global id is random (RFC 4193, 3.2)."""
    first = (0xFD << 120) | (int(identity[-14:], 16) << 64)
    return Range(AF_INET6, first, 64)


def _subnet(subnet: Range, gateways: list[str], ranges: list[str]) -> Subnet:
    gateway = _pick(gateways, subnet)
    pool = _pick(ranges, subnet)
    low, high = subnet.usable()
    if gateway:
        number = address.number(gateway)[1]
        if not low <= number <= high:
            raise InvalidInput(f"gateway {gateway}: no host of {subnet} can have that address")
    return Subnet(
        subnet=str(subnet),
        gateway=address.normal(gateway) if gateway else address.text(subnet.family, low),
        ip_range=str(address.parse(pool, strict=False)) if pool else "",
    )


def _pick(words: list[str], subnet: Range) -> str:
    """Take out of `words` the first that is in a subnet; empty where none is."""
    for word in words:
        found = address.parse(word if "/" in word else f"{word}/{_width(word)}", strict=False)
        if subnet.holds(found):
            words.remove(word)
            return word
    return ""


def _width(word: str) -> int:
    return address.BITS[address.number(word)[0]]
