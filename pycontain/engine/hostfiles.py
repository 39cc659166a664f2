"""The files that a container sees in /etc: hosts, hostname, resolv.conf."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.model.container import RunOptions
    from pycontain.store.layout import ContainerPaths

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
RESOLVED = "/run/systemd/resolve/resolv.conf"
"""Where systemd-resolved keeps the real servers behind its loopback address."""


def write(paths: ContainerPaths, options: RunOptions, hostname: str) -> None:
    """Write the three files of a container.

    Raises:
        StoreError: they cannot be written.
    """
    hosts = _read("/etc/hosts") if options.network == "host" else _HOSTS
    if hosts and not hosts.endswith("\n"):
        hosts += "\n"
    hosts += "".join(_host_line(entry) for entry in options.add_host)
    files.write_atomic(paths.hosts, hosts.encode(), 0o644, durable=False)
    files.write_atomic(paths.hostname, f"{hostname}\n".encode(), 0o644, durable=False)
    text = resolv_conf(
        _read("/etc/resolv.conf"),
        _read(RESOLVED),
        host_network=options.network == "host",
        dns=options.dns,
        search=options.dns_search,
        option=options.dns_option,
    )
    files.write_atomic(paths.resolv_conf, text.encode(), 0o644, durable=False)


def _host_line(entry: str) -> str:
    separator = "=" if "=" in entry else ":"
    name, _, address = entry.partition(separator)
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
) -> str:
    """Return the container's resolv.conf (resolv.conf(5)).

    Args:
        host: the host's file.
        resolved: systemd-resolved's own list, used where `host` names only loopback servers.
        host_network: the container shares the host's network, so loopback servers are right.
        dns: servers that replace the host's.
        search: domains that replace the host's; ``.`` alone means none.
        option: options that replace the host's.
    """
    lines = _lines(host)
    servers = [words[1] for words in lines if words[0] == "nameserver" and len(words) > 1]
    if not host_network:
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
