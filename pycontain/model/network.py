"""Networks as users make them, and what one container has in one."""

from typing import Literal

import msgspec

Driver = Literal["bridge", "macvlan", "host", "null"]


class Subnet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One range of addresses of a network.

    Attributes:
        subnet: ``10.90.0.0/24``, its host bits zero.
        gateway: the address of the way out; empty where the network has none.
        ip_range: the part of `subnet` that addresses are given from; empty for all of it.
    """

    subnet: str
    gateway: str = ""
    ip_range: str = ""


class Network(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A network: what was asked for, immutable.

    Attributes:
        version: of this document's form.
        id: 64 hexadecimal digits.
        driver: ``bridge``: a bridge of its own on this host. ``macvlan``: containers are beside the
            host on the network of one of its devices. ``host`` and ``null`` are docker's words for
            what is no network: the host's own, and none.
        created: nanoseconds since the epoch.
        subnets: at most one of IPv4 and any number of IPv6 in the order in which they were said.
        internal: nothing of it reaches anything outside.
        ipv6: containers have IPv6 in it.
        options: as the user wrote them (``--opt``).
        interface: the bridge, or the device that macvlan devices are made of.
        mtu: bytes, 0 leaves it to the kernel.
        mode: how macvlan devices see each other: ``bridge``, ``private``, ``vepa``, ``passthru``.
    """

    version: int = 1
    id: str
    name: str
    driver: Driver = "bridge"
    created: int
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    ipv6: bool = False
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    interface: str
    mtu: int = 0
    mode: str = "bridge"


class Attachment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one container has in one network, in one run.

    Attributes:
        network, name: id and name of the network.
        driver: as of the network.
        device: the bridge, or the device that the macvlan device is made of.
        device_index: its index when the container was started.
        interface: what the device is called in the container: ``eth0``, ``eth1``, …
        index: its index there.
        host_interface: the host's end of the veth pair; empty for macvlan.
        mac: its hardware address.
        mtu: bytes, 0 leaves it to the kernel.
        mode: of a macvlan device.
        addresses: with prefix lengths, IPv4 before IPv6: ``10.90.0.2/24``.
        gateways: by which it has its default routes: one of each family, in one network of the
            container at most; empty elsewhere and in internal networks.
        ipv6: the network has IPv6; where not, the device has it switched off.
        internal: as of the network.
        aliases: the names that the user gave it in this network.
        dns: the resolver of the network; empty where it has none.
        upstream: stands for the host's resolvers that listen on its loopback; empty where nothing
            does.
    """

    network: str
    name: str
    driver: Driver = "bridge"
    device: str
    device_index: int
    interface: str = "eth0"
    index: int = 2
    host_interface: str = ""
    mac: str
    mtu: int = 0
    mode: str = "bridge"
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    ipv6: bool = False
    internal: bool = False
    aliases: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    upstream: str = ""


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A port of the host that leads to one of a container, by the kernel's rules.

    Attributes:
        protocol: ``tcp`` or ``udp``.
        host_address: the address of the host; ``0.0.0.0`` and ``::`` are all but the loopback ones.
        host_port: 1 to 65535.
        address: of the container, of the same family.
        port: of the container.
    """

    protocol: Literal["tcp", "udp"]
    host_address: str
    host_port: int
    address: str
    port: int


class Endpoints(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``network.json`` in a container's state folder: its attachments in its present run.

    Attributes:
        run: the run's id.
        container: the container's name when it started.
        attachments: in the order in which they were asked for.
        ports: what the kernel's rules do for it.
        servers: those that its questions for names of the outside go to; empty for the host's.
    """

    run: str
    container: str
    attachments: tuple[Attachment, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    servers: tuple[str, ...] = ()
