"""The files that a container sees in /etc: hosts, hostname, resolv.conf."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.errors import InvalidInput
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.model.container import RunOptions
    from pycontain.model.network import Attachment
    from pycontain.store.layout import ContainerPaths

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_OF_HOST = "host.containers.internal host.docker.internal"
HOST_GATEWAY = "host-gateway"
"""An address of ``--add-host`` that stands for the host's, as containers see it."""
RESOLVED = "/run/systemd/resolve/resolv.conf"
"""Where systemd-resolved keeps the real servers behind its loopback address."""


def write(
    paths: ContainerPaths,
    options: RunOptions,
    hostname: str,
    attachments: Sequence[Attachment] = (),
    host: str = "",
) -> None:
    """Write the three files of a container.

    Args:
        paths: of the container.
        options: what was asked for.
        hostname: the container's.
        attachments: what it has in networks: its name stands for its addresses there.
        host: the host's address, where that is not the gateway of its networks.

    Raises:
        StoreError: they cannot be written.
    """
    hosts = _read("/etc/hosts") if options.network == "host" else _HOSTS
    if hosts and not hosts.endswith("\n"):
        hosts += "\n"
    gateway = host_gateway(attachments)
    gateway = host or gateway if gateway else ""
    hosts += "".join(_host_line(entry, gateway) for entry in options.add_host)
    if gateway:
        hosts += f"{gateway}\t{_OF_HOST}\n"
    hosts += own_lines(attachments, hostname, options.domainname)
    files.write_atomic(paths.hosts, hosts.encode(), 0o644, durable=False)
    files.write_atomic(paths.hostname, f"{hostname}\n".encode(), 0o644, durable=False)
    text = _resolv_conf(options, attachments)
    files.write_atomic(paths.resolv_conf, text.encode(), 0o644, durable=False)


def change(
    paths: ContainerPaths,
    options: RunOptions,
    hostname: str,
    before: Sequence[Attachment],
    after: Sequence[Attachment],
) -> None:
    """Change the files of a running container whose networks have changed.

    It has them as mounts, so they are written where they are. Lines of its own in hosts stay; a
    resolv.conf that it has changed stays as it is.

    Args:
        paths: of the container.
        options: what was asked for.
        hostname: the container's.
        before: what it had in networks.
        after: what it has.

    Raises:
        StoreError: they cannot be written.
    """
    old = _lines_of(before, options, hostname)
    new = _lines_of(after, options, hostname)
    lines = [line for line in _read(paths.hosts).splitlines() if line not in old or line in new]
    lines += [line for line in new if line not in lines]
    _write_there(paths.hosts, "".join(f"{line}\n" for line in lines))
    if _read(paths.resolv_conf) == _resolv_conf(options, before):
        _write_there(paths.resolv_conf, _resolv_conf(options, after))


def _lines_of(attachments: Sequence[Attachment], options: RunOptions, hostname: str) -> list[str]:
    """The lines of hosts that depend on networks.

    An ordinary user's containers have the host at an address that is in none of their networks.
    """
    gateway = host_gateway(attachments)
    text = ""
    if gateway and not any(one.upstream for one in attachments):
        asked = (one for one in options.add_host if _is_gateway(one))
        text = "".join(_host_line(entry, gateway) for entry in asked)
        text += f"{gateway}\t{_OF_HOST}\n"
    return (text + own_lines(attachments, hostname, options.domainname)).splitlines()


def _is_gateway(entry: str) -> bool:
    return entry.partition("=" if "=" in entry else ":")[2] == HOST_GATEWAY


def _write_there(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as err:
        raise files.store_error("write", path, err) from err


def _resolv_conf(options: RunOptions, attachments: Sequence[Attachment]) -> str:
    return resolv_conf(
        _read("/etc/resolv.conf"),
        _read(RESOLVED),
        host_network=options.network == "host",
        dns=options.dns,
        search=options.dns_search,
        option=options.dns_option,
        resolver=next((word for one in attachments for word in one.dns), ""),
        upstream=next((one.upstream for one in attachments if one.upstream), ""),
    )


def own_lines(attachments: Sequence[Attachment], hostname: str, domain: str | None) -> str:
    """Return the lines of a container's own name, one for each of its addresses (hosts(5))."""
    names = f"{hostname}.{domain} {hostname}" if domain else hostname
    return "".join(
        f"{address.partition('/')[0]}\t{names}\n"
        for attachment in attachments
        for address in attachment.addresses
    )


def host_gateway(attachments: Sequence[Attachment]) -> str:
    """Return the address by which a container reaches its host; empty where it has none."""
    return next((word for one in attachments for word in one.gateways), "")


def _host_line(entry: str, gateway: str) -> str:
    separator = "=" if "=" in entry else ":"
    name, _, address = entry.partition(separator)
    if address == HOST_GATEWAY:
        if not gateway:
            raise InvalidInput(
                f"--add-host {entry}: the container has no gateway",
                "it needs a network with a way out",
            )
        address = gateway
    return f"{address.strip('[]')}\t{name}\n"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""  # a host without the file has nothing to hand on


def resolv_conf(
    host: str,
    resolved: str,
    *,
    host_network: bool,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    option: Sequence[str] = (),
    resolver: str = "",
    upstream: str = "",
) -> str:
    """Return the container's resolv.conf (resolv.conf(5)).

    Args:
        host: the host's file.
        resolved: systemd-resolved's own list, used where `host` names only loopback servers.
        host_network: the container shares the host's network, so loopback servers are right.
        dns: servers that replace the host's.
        search: domains that replace the host's; ``.`` alone means none.
        option: options that replace the host's.
        resolver: that of the container's network, which asks the servers itself.
        upstream: leads to the servers on the host's loopback.
    """
    lines = _lines(host)
    servers = [words[1] for words in lines if words[0] == "nameserver" and len(words) > 1]
    if upstream:
        near = (upstream if _is_loopback(server) else server for server in servers)
        servers = list(dict.fromkeys(near))
    elif not host_network:
        real = [server for server in servers if not _is_loopback(server)]
        if servers and not real:
            lines = _lines(resolved) or lines
            servers = [words[1] for words in lines if words[0] == "nameserver" and len(words) > 1]
            real = [server for server in servers if not _is_loopback(server)]
        servers = real
    # "domain" is the old name of "search"; of several the last one counts.
    said = [words[1:] for words in lines if words[0] in ("search", "domain")]
    domains = list(search) or (said[-1] if said else [])
    options = list(option) or [
        word for words in lines if words[0] == "options" for word in words[1:]
    ]
    if resolver:
        dns = (resolver,)
        # Names of one word are names in the network: they are asked for before any domain is tried.
        if not any(word.startswith("ndots:") for word in options):
            options.append("ndots:0")
    text = "".join(f"nameserver {server}\n" for server in dns or servers)
    if domains and domains != ["."]:
        text += f"search {' '.join(domains)}\n"
    if options:
        text += f"options {' '.join(options)}\n"
    return text


def _lines(text: str) -> list[list[str]]:
    lines = (line.split("#")[0].split(";")[0].split() for line in text.splitlines())
    return [words for words in lines if words]


def _is_loopback(server: str) -> bool:
    return server.startswith("127.") or server.split("%")[0] == "::1"
