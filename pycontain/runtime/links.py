"""The steps that give a container its network devices.

Pure, as plans are: from attachments to two batches of rtnetlink messages for each of them. One is
sent in the host's namespace, after the clone, because only there the container's process has a
number by which its namespace is named; the other in the container's.
"""

from __future__ import annotations

from pycontain.kernel import netlink
from pycontain.runtime.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontain.model.network import Attachment


class Links:
    """The steps for all devices of a container.

    Attributes:
        host: after the clone, on the host's side.
        container: in the container, after those.
    """

    __slots__ = ("container", "host")

    def __init__(self, host: Iterable[Step] = (), container: Iterable[Step] = ()) -> None:
        self.host = tuple(host)
        self.container = tuple(container)


def steps(attachments: Iterable[Attachment], *, ipv6: bool, published: bool = False) -> Links:
    """Return the steps for `attachments`.

    Args:
        attachments: in the order in which the devices are made.
        published: ports of the host lead to the container, by which it may reach itself.
        ipv6: this kernel has IPv6, so that there is something to switch off.

    Raises:
        InvalidInput: a name or an address cannot be one.
    """
    host, container = [], []
    for attachment in attachments:
        host.append(_host(attachment, hairpin=published))
        if ipv6:
            container += _ipv6(attachment)
        container.append(_container(attachment))
    return Links(host, container)


def _host(attachment: Attachment, *, hairpin: bool) -> Step:
    batch, place = device(attachment, hairpin=hairpin)
    if attachment.driver == "macvlan":
        how = f"device {attachment.interface} of {attachment.device}"
    else:
        how = f"bridge {attachment.device}, {attachment.host_interface} to {attachment.interface}"
    text = f"connect to network {attachment.name} ({how})"
    return Step("netlink_host", batch.bytes(), place, tuple(batch.words), text=text)


def device(
    attachment: Attachment, *, hairpin: bool = False, namespace: int = netlink.NET_NS_PID
) -> tuple[netlink.Batch, int]:
    """Return the messages that make a device in a namespace, from the host's.

    Args:
        attachment: what is made.
        hairpin: ports of the host lead to it, by which it may reach itself.
        namespace: as for ``netlink.new_veth``.

    Returns:
        The messages, and the offset of the namespace in them, which is to be filled in.

    Raises:
        InvalidInput: a name or an address cannot be one.
    """
    batch = netlink.Batch()
    if attachment.driver == "macvlan":
        place = netlink.new_macvlan(
            batch, attachment.interface, attachment.device_index, attachment.mac, attachment.mtu,
            attachment.index, mode=attachment.mode, namespace=namespace,
        )  # fmt: skip
        return batch, place
    place = netlink.new_veth(
        batch, attachment.host_interface, attachment.device_index, attachment.interface,
        attachment.mac, attachment.mtu, attachment.index, namespace=namespace,
    )  # fmt: skip
    if hairpin:
        netlink.set_port(batch, attachment.host_interface, hairpin=True)
    return batch, place


def _ipv6(attachment: Attachment) -> list[Step]:
    """Settings of a device that is still down: nothing has been sent or accepted on it.

    Who may send on the network could send router advertisements, and take the container's traffic.
    """
    folder = f"net/ipv6/conf/{attachment.interface}"
    if not attachment.ipv6:
        return [
            Step("sysctl", f"{folder}/disable_ipv6", "1",
                 text=f"switch IPv6 off on {attachment.interface}")
        ]  # fmt: skip
    return [
        Step("sysctl", f"{folder}/accept_ra", "0",
             text=f"accept no router advertisements on {attachment.interface}")
    ]  # fmt: skip


def _container(attachment: Attachment) -> Step:
    batch = settings(attachment)
    name = attachment.interface
    text = f"set up {name} with {', '.join(attachment.addresses) or 'no address'}"
    if attachment.gateways:
        text += f", by {', '.join(attachment.gateways)}"
    return Step("netlink", batch.bytes(), tuple(batch.words), text=text)


def settings(attachment: Attachment) -> netlink.Batch:
    """Return the messages that set a device up in its namespace: addresses, up, routes.

    Raises:
        InvalidInput: an address cannot be one.
    """
    batch = netlink.Batch()
    index, name = attachment.index, attachment.interface
    for entry in attachment.addresses:
        address, _, prefix = entry.partition("/")
        netlink.add_address(batch, index, address, int(prefix), name=name)
    netlink.set_link(batch, index, up=True, name=name)
    for gateway in attachment.gateways:
        netlink.add_route(batch, None, gateway, index, name=name)
    return batch
