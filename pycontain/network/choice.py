"""The words for networks that a container is to be in: ``--network`` and the flags beside it."""

from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from pycontain.config import ORIGIN_BUILT_IN
from pycontain.errors import InvalidInput
from pycontain.model.container import NetworkChoice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.config import Config

DEFAULT = "bridge"
OF_PODS = "kube"
"""Of what manifests declare, where none is configured: there pods know each other by name."""
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_FIELDS = {"ip": "ip", "ip6": "ip6", "mac": "mac", "mac-address": "mac", "alias": "alias",
           "name": "name"}  # fmt: skip


def default_network(settings: Config) -> str:
    """Return the network of what names none.

    An ordinary user's containers have none by default where nothing could lead out of it.
    """
    from pycontain.kernel import userns

    is_root = os.geteuid() == 0 and not userns.inside()
    if is_root or settings.origins["network"] != ORIGIN_BUILT_IN:
        return settings.network
    from pycontain.network import outside

    return settings.network if outside.is_usable() else "none"


def parse_network(word: str) -> str | NetworkChoice:
    """Read one ``--network``.

    Returns:
        ``none``, ``host`` or ``container:NAME``; else a network: ``NAME``, ``default`` (which is
        ``bridge``), podman's ``NAME:ip=…,mac=…,alias=…``, or docker's ``name=NAME,ip=…``.

    Raises:
        InvalidInput: not such a word.
    """
    if word in ("none", "host"):
        return word
    mode, colon, rest = word.partition(":")
    if mode == "container" and "=" not in mode:
        if not rest:
            raise _bad(word, "invalid container format container:<name|id>")
        return word
    if "=" in mode:
        return _choice(word, "", word)
    if colon and not rest:
        raise _bad(word, "nothing behind the colon")
    return _choice(word, mode, rest)


def _bad(word: str, reason: str) -> InvalidInput:
    return InvalidInput(f"--network {word!r}: {reason}")


def _choice(word: str, name: str, fields: str) -> NetworkChoice:
    found: dict[str, str] = {}
    aliases: list[str] = []
    for part in filter(None, fields.split(",")):
        key, equals, value = part.partition("=")
        field = _FIELDS.get(key)
        if not equals or not value or field is None or (field == "name" and name):
            raise _bad(word, f"invalid field {part!r}: there are ip, ip6, mac and alias")
        if field == "alias":
            aliases.append(parse_alias(value))
        else:
            found[field] = value
    name = _name(word, found.get("name", name))
    return NetworkChoice(
        name=name,
        ip=parse_ip(found["ip"], "--network") if "ip" in found else "",
        ip6=parse_ip6(found["ip6"], "--network") if "ip6" in found else "",
        mac=parse_mac(found["mac"], "--network") if "mac" in found else "",
        aliases=tuple(aliases),
    )


def _name(word: str, name: str) -> str:
    if name in ("", "none", "host") or name[0] not in _LETTERS or set(name) - _LETTERS - set("_.-"):
        raise _bad(word, f"invalid network name {name!r}")
    return DEFAULT if name == "default" else name


def parse_ip(word: str, flag: str = "--ip") -> str:
    """Return an IPv4 address in its usual form.

    Raises:
        InvalidInput: it is none.
    """
    return _address(word, AF_INET, flag)


def parse_ip6(word: str, flag: str = "--ip6") -> str:
    """Return an IPv6 address in its usual form.

    Raises:
        InvalidInput: it is none.
    """
    return _address(word, AF_INET6, flag)


def _address(word: str, family: int, flag: str) -> str:
    try:
        return inet_ntop(family, inet_pton(family, word))
    except (OSError, ValueError):
        kind = "IPv4" if family == AF_INET else "IPv6"
        raise InvalidInput(f"{flag} {word!r}: not an {kind} address") from None


def parse_mac(word: str, flag: str = "--mac-address") -> str:
    """Return a hardware address in lower case, ``02:42:ac:11:00:02``.

    Raises:
        InvalidInput: it is none, or that of a group (its first byte is odd).
    """
    parts = word.lower().replace("-", ":").split(":")
    hexadecimal = all(len(part) == 2 and not part.strip("0123456789abcdef") for part in parts)
    if len(parts) != 6 or not hexadecimal:
        raise InvalidInput(f"{flag} {word!r}: not a mac address")
    if int(parts[0], 16) & 1 or set(parts) == {"00"}:
        raise InvalidInput(f"{flag} {word!r}: not a mac address that a device can have")
    return ":".join(parts)


def parse_alias(word: str) -> str:
    """Check a name that others are to know a container by.

    Raises:
        InvalidInput: it cannot be one.
    """
    if not word or len(word) > 253 or set(word) - _LETTERS - set("_.-") or word[0] in ".-":
        raise InvalidInput(f"--network-alias {word!r}: not a host name")
    return word


def resolve(
    chosen: Sequence[str | NetworkChoice],
    default: str,
    *,
    ip: str = "",
    ip6: str = "",
    mac: str = "",
    aliases: Sequence[str] = (),
) -> tuple[str, tuple[NetworkChoice, ...]]:
    """Return the mode (``RunOptions.network``) and the networks.

    Args:
        chosen: what ``--network`` said, several times.
        default: the mode or network where it said nothing.
        ip: IPv4 address in the first network.
        ip6: IPv6 address there.
        mac: hardware address there.
        aliases: further names there.

    Raises:
        InvalidInput: they contradict each other.
    """
    said = chosen or (parse_network(default),)
    modes = [entry for entry in said if isinstance(entry, str)]
    networks = [entry for entry in said if not isinstance(entry, str)]
    if modes and len(said) > 1:
        raise InvalidInput(
            f"--network {modes[0]!r}: it cannot be combined with another network",
        )
    names = [entry.name for entry in networks]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"--network {name!r}: given twice")
    extra = {"ip": ip, "ip6": ip6, "mac-address": mac, "network-alias": aliases}
    given = [flag for flag, value in extra.items() if value]
    if modes:
        if given:
            raise InvalidInput(f"conflicting options: {given[0]} and the network mode")
        return modes[0], ()
    return "bridge", (_with(networks[0], ip, ip6, mac, aliases), *networks[1:])


def _with(
    choice: NetworkChoice, ip: str, ip6: str, mac: str, aliases: Sequence[str]
) -> NetworkChoice:
    for flag, value, own in (("ip", ip, choice.ip), ("ip6", ip6, choice.ip6),
                             ("mac-address", mac, choice.mac)):  # fmt: skip
        if value and own and value != own:
            raise InvalidInput(f"conflicting options: {flag} and --network {choice.name}:…")
    merged = tuple(dict.fromkeys((*choice.aliases, *aliases)))
    if merged and choice.name == DEFAULT:
        raise InvalidInput(
            "network-scoped alias is supported only for containers in user defined networks",
            "make one: pycontain network create NAME",
        )
    return NetworkChoice(
        name=choice.name, ip=ip or choice.ip, ip6=ip6 or choice.ip6, mac=mac or choice.mac,
        aliases=merged,
    )  # fmt: skip
