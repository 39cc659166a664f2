"""Ranges of addresses, against the standard library's ipaddress."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput
from pycontain.network import address

four = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
    lambda pair: ipaddress.ip_network(pair, strict=False)
)
six = st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(
    lambda pair: ipaddress.ip_network(pair, strict=False)
)
networks = four | six


@given(networks)
def test_a_range_is_what_ipaddress_says(network: ipaddress.IPv4Network) -> None:
    found = address.parse(str(network))
    assert ipaddress.ip_network(str(found)) == network  # of mapped ones there are two spellings
    assert (found.first, found.last) == (
        int(network.network_address),
        int(network.broadcast_address),
    )


@given(networks, networks)
def test_overlaps(one: ipaddress.IPv4Network, other: ipaddress.IPv4Network) -> None:
    ours = address.parse(str(one)), address.parse(str(other))
    assert ours[0].overlaps(ours[1]) == (one.version == other.version and one.overlaps(other))
    same = one.version == other.version
    assert ours[0].holds(ours[1]) == (same and other.subnet_of(one))


def test_what_a_host_may_have() -> None:
    def words(text: str) -> tuple[str, str]:
        found = address.parse(text)
        low, high = found.usable()
        return address.text(found.family, low), address.text(found.family, high)

    assert words("10.1.2.0/24") == ("10.1.2.1", "10.1.2.254")
    assert words("10.1.2.4/31") == ("10.1.2.4", "10.1.2.5")
    assert words("10.1.2.4/30") == ("10.1.2.5", "10.1.2.6")
    assert words("fd00::/120") == ("fd00::1", "fd00::ff")


@pytest.mark.parametrize(
    "word",
    ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/24", "10.0.0.1/24", "fd00::/129", "fd00::1/64", "a/8",
     "10.0.0.0/-1", "10.0.0.0/1x", "10.0.0.0/ 8", "010.0.0.0/8"],
)  # fmt: skip
def test_what_is_no_range(word: str) -> None:
    with pytest.raises(InvalidInput):
        address.parse(word)


def test_host_bits_are_told_with_what_was_meant() -> None:
    with pytest.raises(InvalidInput) as caught:
        address.parse("10.1.2.3/24")
    assert caught.value.hint == "write it as 10.1.2.0/24"
    assert str(address.parse("10.1.2.3/24", strict=False)) == "10.1.2.0/24"
