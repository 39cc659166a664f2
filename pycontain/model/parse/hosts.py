"""What the container is called on its networks, and whom it asks: host names, hosts, DNS."""

from __future__ import annotations

import os

from pycontain.model.parse.words import ALNUM, bad


def parse_hostname(word: str) -> str:
    """Check ``--hostname``: 1 to 64 bytes (uname(2)) without white space.

    White space, which docker lets through, would forge lines of the container's hosts file.

    Raises:
        InvalidInput: too long, empty, white space or a control character.
    """
    return _host_word("--hostname", word)


def parse_domainname(word: str) -> str:
    """Check ``--domainname``: 1 to 64 bytes (uname(2)) without white space.

    Raises:
        InvalidInput: too long, empty, white space or a control character.
    """
    return _host_word("--domainname", word)


def _host_word(flag: str, word: str) -> str:
    if not 1 <= len(os.fsencode(word)) <= 64:
        raise bad(flag, word, "not 1 to 64 bytes long")
    if _has_blanks(word):
        raise bad(flag, word, "white space or control characters")
    return word


def _has_blanks(word: str) -> bool:
    return any(character.isspace() or not character.isprintable() for character in word)


def _address(text: str) -> str | None:
    """Return the IP address in its canonical form, None where it is none."""
    import ipaddress  # 5 ms of start-up that only these flags pay

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def parse_add_host(word: str) -> str:
    """Read ``--add-host NAME:IP`` or ``NAME=IP``; the address may be in brackets.

    Returns:
        ``NAME:IP``, the name ends at the first colon. ``host-gateway`` is an address too: that of
        the host, as the container's networks have it.

    Raises:
        InvalidInput: no name, no address, or white space, which would forge lines of the hosts
            file.
    """
    flag = "--add-host"
    name, separator, address = word.partition("=")
    if not separator or ":" in name:
        name, separator, address = word.partition(":")
    if not separator or not name:
        raise bad(flag, word, "not in the form NAME:IP")
    if _has_blanks(name):
        raise bad(flag, word, "white space in the name")
    if address == "host-gateway":
        return f"{name}:{address}"
    if address[:1] + address[-1:] == "[]":
        address = address[1:-1]
    canonical = _address(address) if "%" not in address else None
    if canonical is None:
        raise bad(flag, word, f"invalid address {address!r}")
    return f"{name}:{canonical}"


def parse_dns(word: str) -> str:
    """Read ``--dns ADDRESS`` and return the address.

    Raises:
        InvalidInput: not an IP address.
    """
    address = _address(word)
    if address is None:
        raise bad("--dns", word, "invalid address")
    return address


def parse_dns_search(word: str) -> str:
    """Check ``--dns-search``: a domain of letters, digits, ``-`` and ``_``, or ``.`` for none.

    Raises:
        InvalidInput: not a domain (RFC 1035, section 2.3.1), or longer than 255 bytes.
    """
    if word == ".":
        return word
    labels = word.removesuffix(".").split(".")
    if len(word) > 255 or not all(_is_label(label) for label in labels):
        raise bad("--dns-search", word, "not a valid domain")
    return word


def _is_label(label: str) -> bool:
    ends = {label[:1], label[-1:]}
    return 1 <= len(label) <= 63 and set(label) <= ALNUM | set("-_") and "-" not in ends


def parse_dns_option(word: str) -> str:
    """Check ``--dns-option``: one option of resolv.conf(5), a word without blanks.

    Raises:
        InvalidInput: empty, or white space, which would forge lines of resolv.conf.
    """
    if not word or _has_blanks(word):
        raise bad("--dns-option", word, "not one word")
    return word
