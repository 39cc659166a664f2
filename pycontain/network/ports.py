"""The words for ports: ``--publish``, ``--expose``, an image's ExposedPorts, and ports as shown.

Nothing here looks at the machine. Spelling follows docker's reference of ``docker run``; SCTP,
which no forwarder here speaks, is refused.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import TYPE_CHECKING, Literal, cast

from pycontain.errors import InvalidInput
from pycontain.model.container import PortBinding, Publish

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Protocol = Literal["tcp", "udp"]

PROTOCOLS = ("tcp", "udp")
ANY = ("0.0.0.0", "::")  # noqa: S104 what "all addresses" is called
_MOST = 65535


def parse_publish(word: str) -> tuple[Publish, ...]:
    """Read ``-p [ADDRESS:][HOST[-HOST]:]CONTAINER[-CONTAINER][/PROTOCOL]``.

    An IPv6 address is in brackets. Without a host port, or with an empty one, it is any free one;
    of more host ports than container ports it is the first free one of them. Docker's long form,
    ``published=8080,target=80,protocol=tcp``, is the same.

    Returns:
        One for each port of the container.

    Raises:
        InvalidInput: in docker's words.
    """
    text = _long_form(word) if "=" in word else word
    body, _, name = text.partition("/")
    protocol = _protocol(name or "tcp", word)
    address, host, container = _parts(body, word)
    if not container:
        raise _bad(word, f"no port specified: {word}<empty>")
    targets = _range(container, word, "containerPort", least=1)
    hosts = _range(host, word, "hostPort", least=0) if host else (0, 0)
    count, room = targets[1] - targets[0], hosts[1] - hosts[0]
    if host and count != room and count:
        raise _bad(
            word, f"invalid ranges specified for container and host Ports: {container} and {host}"
        )
    if not host or hosts == (0, 0):
        return _each(protocol, address, targets, None)
    if count != room:
        first, last = hosts
        return (Publish(protocol=protocol, address=address, first=first, last=last,
                        target=targets[0]),)  # fmt: skip
    return _each(protocol, address, targets, hosts[0])


def _each(
    protocol: Protocol, address: str, targets: tuple[int, int], first: int | None
) -> tuple[Publish, ...]:
    found = []
    for target in range(targets[0], targets[1] + 1):
        host = 0 if first is None else first + target - targets[0]
        found.append(
            Publish(protocol=protocol, address=address, first=host, last=host, target=target)
        )
    return tuple(found)


def _bad(word: str, reason: str, flag: str = "--publish") -> InvalidInput:
    return InvalidInput(f"{flag} {word!r}: {reason}")


def _long_form(word: str) -> str:
    """Docker's comma-separated form in the short one; an address has no place in it."""
    fields = {"protocol": "tcp", "published": "", "target": ""}
    for part in word.split(","):
        name, equals, value = part.partition("=")
        if not equals or not value or name not in fields:
            raise _bad(word, f"invalid field {part!r}: there are published, target and protocol")
        fields[name] = value
    return f"{fields['published']}:{fields['target']}/{fields['protocol']}"


def _protocol(name: str, word: str, flag: str = "--publish") -> Protocol:
    name = name.lower()
    if name == "sctp":
        raise _bad(word, "sctp ports cannot be published", flag)
    if name not in PROTOCOLS:
        raise _bad(word, f"invalid proto: {name}", flag)
    return cast("Protocol", name)


def _parts(body: str, word: str) -> tuple[str, str, str]:
    """Address, host's and container's ports; the first two may be empty."""
    rest, _, container = body.rpartition(":")
    if not rest:
        return "", "", container
    if rest.startswith("["):
        address, bracket, host = rest[1:].partition("]")
        if not bracket or (host and not host.startswith(":")):
            raise _bad(word, f"invalid ip address: {rest}")
        return canonical(address, word), host[1:], container
    address, colon, host = rest.rpartition(":")
    if ":" in address:
        raise _bad(word, "an IPv6 address has to be in brackets")
    if not colon:
        return "", rest, container
    return (canonical(address, word) if address else ""), host, container


def canonical(address: str, word: str) -> str:
    """Return an address in its usual form.

    Raises:
        InvalidInput: it is none; `word` is what the user wrote.
    """
    family = AF_INET6 if ":" in address else AF_INET
    try:
        return inet_ntop(family, inet_pton(family, address))
    except (OSError, ValueError):
        raise _bad(word, f"invalid ip address: {address}") from None


def _range(text: str, word: str, what: str, least: int, flag: str = "--publish") -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = [first, last if dash else first]
    if not all(number.isascii() and number.isdecimal() for number in numbers):
        raise _bad(word, f"invalid {what}: {text}", flag)
    low, high = map(int, numbers)
    if not least <= low <= high <= _MOST:
        raise _bad(word, f"invalid {what}: {text}", flag)
    return low, high


def parse_expose(word: str) -> tuple[str, ...]:
    """Read ``--expose PORT[-PORT][/PROTOCOL]``; returns ``80/tcp`` for each.

    Raises:
        InvalidInput: no port, or no protocol that there is.
    """
    if ":" in word:
        raise _bad(word, f"invalid port format for --expose: {word}", "--expose")
    body, _, name = word.partition("/")
    protocol = _protocol(name or "tcp", word, "--expose")
    low, high = _range(body, word, "range format for --expose", 1, "--expose")
    return tuple(f"{number}/{protocol}" for number in range(low, high + 1))


def exposed(words: Iterable[str]) -> tuple[tuple[int, Protocol], ...]:
    """Return port and protocol of each of an image's ExposedPorts, in their order.

    Raises:
        InvalidInput: one is none of TCP or UDP.
    """
    found: dict[tuple[int, Protocol], None] = {}
    for word in words:
        for entry in parse_expose(word):
            number, _, protocol = entry.partition("/")
            found[int(number), cast("Protocol", protocol)] = None
    return tuple(sorted(found))


# ---- shown ----


def told(entries: Iterable[str]) -> tuple[tuple[int, str], ...]:
    """Return port and protocol of what an image and its user say is used, SCTP among it.

    For those who look: what says no port is left out, where ``exposed`` refuses it.
    """
    found: dict[tuple[int, str], None] = {}
    for entry in entries:
        numbers, _, name = entry.partition("/")
        protocol = name.lower() or "tcp"
        if protocol not in (*PROTOCOLS, "sctp"):
            continue
        try:
            low, high = _range(numbers, entry, "port", 1, "--expose")
        except InvalidInput:
            continue
        found |= dict.fromkeys((number, protocol) for number in range(low, high + 1))
    return tuple(sorted(found))


def words(bindings: Sequence[PortBinding], others: Iterable[tuple[int, str]] = ()) -> str:
    """Return ports in docker's words, ``81-82/tcp, 0.0.0.0:8080->80/tcp``.

    Ports in a row are one word where host and container have the same numbers, or the host none.

    Args:
        bindings: the published ones.
        others: port and protocol of those that are only exposed.
    """
    published = {(entry.target, entry.protocol) for entry in bindings}
    plain = [(number, "", 0, protocol) for number, protocol in others
             if (number, protocol) not in published]  # fmt: skip
    known = [(entry.target, entry.address, entry.port, entry.protocol) for entry in bindings]
    rows: dict[tuple[str, str], list[list[int]]] = {}
    single = []
    for target, address, port, protocol in sorted([*plain, *known]):
        if address and port != target:
            single.append(f"{endpoint(address, port)}->{target}/{protocol}")
            continue
        row = rows.setdefault((address, protocol), [])
        if row and row[-1][-1] + 1 == target:
            row[-1].append(target)
        else:
            row.append([target])
    return ", ".join([*_rows(rows), *single])


def _rows(rows: Mapping[tuple[str, str], Sequence[Sequence[int]]]) -> Iterator[str]:
    for (address, protocol), found in rows.items():
        for numbers in found:
            row = f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
            yield f"{endpoint(address, row)}->{row}/{protocol}" if address else f"{row}/{protocol}"


def endpoint(address: str, port: int | str) -> str:
    """Return address and port as one word, ``[::]:80``."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
