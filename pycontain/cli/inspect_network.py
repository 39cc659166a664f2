"""What ``inspect`` says of a container's networks and ports, in docker's fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontain.cli.template import GoMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.engine.containers import View
    from pycontain.model.container import ImageConfig, RunOptions
    from pycontain.model.network import Attachment


def port_bindings(options: RunOptions) -> dict[str, Any]:
    """Return what was asked for: for each of the container's ports those of the host."""
    found: dict[str, list[dict[str, str]]] = {}
    for entry in options.publish:
        port = "" if not entry.first else str(entry.first)
        if entry.last > entry.first:
            port = f"{entry.first}-{entry.last}"
        key = f"{entry.target}/{entry.protocol}"
        found.setdefault(key, []).append({"HostIp": entry.address, "HostPort": port})
    return GoMap(found)


def exposed(options: RunOptions, image: ImageConfig) -> dict[str, Any]:
    """Return the ports that a container says it uses, those that it publishes among them."""
    published = (f"{entry.target}/{entry.protocol}" for entry in options.publish)
    names = sorted({*(image.exposed_ports or ()), *options.expose, *published})
    return GoMap({name: {} for name in names})


def settings(view: View, attachments: Sequence[Attachment]) -> dict[str, Any]:
    """Return what a container has of the network now.

    Args:
        view: the container as it is.
        attachments: what it has in networks; none while it does not run.
    """
    # Docker's older fields tell of the default bridge alone.
    first = next((one for one in attachments if one.name == "bridge"), None)
    return {
        "Ports": _ports(view),
        **_addresses(first),
        "Networks": _networks(view.container.options, attachments),
    }


def _ports(view: View) -> dict[str, Any]:
    """Return for each port of a running container those of the host, null where there is none."""
    if not view.container.options.networks:
        return GoMap()
    from pycontain.engine import ports

    published, used = ports.shown(view.container, view.paths, view.status.state)
    found: dict[str, list[dict[str, str]] | None] = {}
    for number, protocol in used:
        found[f"{number}/{protocol}"] = None
    for entry in published:
        host = {"HostIp": entry.address, "HostPort": str(entry.port)}
        key = f"{entry.target}/{entry.protocol}"
        found[key] = [*(found.get(key) or ()), host]
    return GoMap(found)


def _addresses(attachment: Attachment | None) -> dict[str, Any]:
    """Return the addresses of a place in a network; empty ones where there is none."""
    found = {False: ("", "0"), True: ("", "0")}
    gateways = {False: "", True: ""}
    for address in attachment.addresses if attachment else ():
        word, _, prefix = address.partition("/")
        found[":" in word] = (word, prefix)
    for gateway in attachment.gateways if attachment else ():
        gateways[":" in gateway] = gateway
    return {
        "Gateway": gateways[False],
        "IPAddress": found[False][0],
        "IPPrefixLen": int(found[False][1]),
        "IPv6Gateway": gateways[True],
        "GlobalIPv6Address": found[True][0],
        "GlobalIPv6PrefixLen": int(found[True][1]),
        "MacAddress": attachment.mac if attachment else "",
    }


def _networks(options: RunOptions, attachments: Sequence[Attachment]) -> dict[str, Any]:
    """Return the networks that the container is in; one that joins another's is in none itself."""
    if options.network.startswith("container:"):
        return GoMap()
    if not options.networks:
        return GoMap({options.network: {"NetworkID": "", "Aliases": None, **_addresses(None)}})
    now = {attachment.name: attachment for attachment in attachments}
    found = {}
    for choice in options.networks:
        attachment = now.get(choice.name)
        found[choice.name] = {
            "NetworkID": attachment.network if attachment else "",
            "Aliases": list(choice.aliases) or None,
            **_addresses(attachment),
        }
    return GoMap(found)
