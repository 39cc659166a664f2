"""Addresses as numbers: ranges, what is in them, what overlaps.

The standard library's ipaddress does all this and costs a start of a container as much as the rest
of its network.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from pycontain.errors import InvalidInput

BITS = {AF_INET: 32, AF_INET6: 128}


class Range:
    """A range of addresses: ``10.90.0.0/24``.

    Attributes:
        family: AF_INET or AF_INET6.
        first: its first address, as a number.
        prefix: how many bits all its addresses share.
    """

    __slots__ = ("family", "first", "prefix")

    def __init__(self, family: int, first: int, prefix: int) -> None:
        self.family = family
        self.first = first
        self.prefix = prefix

    @property
    def last(self) -> int:
        """Its last address."""
        return self.first | self._rest

    @property
    def _rest(self) -> int:
        return (1 << (BITS[self.family] - self.prefix)) - 1

    def holds(self, other: Range) -> bool:
        """Whether all of `other` is in it."""
        return self.overlaps(other) and self.prefix <= other.prefix

    def overlaps(self, other: Range) -> bool:
        """Whether they have an address in common."""
        return self.family == other.family and self.first <= other.last and other.first <= self.last

    def contains(self, family: int, number: int) -> bool:
        """Whether an address is in it."""
        return family == self.family and self.first <= number <= self.last

    def usable(self) -> tuple[int, int]:
        """Return the first and the last address that a host may have.

        In IPv4 the first is the network's and the last that of all hosts (RFC 1122, 3.2.1.3), but
        in ranges of two (RFC 3021) and of one; in IPv6 the first is any router's (RFC 4291, 2.6.1).
        """
        width = BITS[self.family] - self.prefix
        if width < 2:
            return self.first, self.last
        return self.first + 1, self.last - (self.family == AF_INET)

    def __str__(self) -> str:
        return f"{text(self.family, self.first)}/{self.prefix}"


def number(address: str) -> tuple[int, int]:
    """Return family and number of an address.

    Raises:
        InvalidInput: it is none.
    """
    family = AF_INET6 if ":" in address else AF_INET
    try:
        return family, int.from_bytes(inet_pton(family, address), "big")
    except (OSError, ValueError) as err:
        raise InvalidInput(f"invalid IP address: {address}") from err


def text(family: int, value: int) -> str:
    """Return an address in words."""
    return inet_ntop(family, value.to_bytes(BITS[family] // 8, "big"))


def parse(word: str, *, strict: bool = True) -> Range:
    """Return the range that ``ADDRESS/PREFIX`` means.

    Args:
        word: the text.
        strict: bits of the address after the prefix are an error; else they are left out.

    Raises:
        InvalidInput: it is none.
    """
    address, slash, prefix = word.partition("/")
    if not slash or not (prefix.isascii() and prefix.isdecimal()):
        raise InvalidInput(f"invalid CIDR address: {word}", "write it as 10.90.0.0/24")
    family, value = number(address)
    width = BITS[family]
    if int(prefix) > width:
        raise InvalidInput(f"invalid CIDR address: {word}", f"at most {width} bits")
    mask = ~((1 << (width - int(prefix))) - 1)
    if strict and value & ~mask & ((1 << width) - 1):
        meant = text(family, value & mask & ((1 << width) - 1))
        raise InvalidInput(
            f"invalid subnet {word}: it has host bits set", f"write it as {meant}/{prefix}"
        )
    return Range(family, value & mask & ((1 << width) - 1), int(prefix))


def normal(address: str) -> str:
    """Return an address in its one usual spelling.

    Raises:
        InvalidInput: it is none.
    """
    return text(*number(address))
