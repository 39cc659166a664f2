"""The words for ports, and how ports are shown."""

from __future__ import annotations

import pytest

from pycontain.errors import InvalidInput
from pycontain.model.container import PortBinding, Publish
from pycontain.network.ports import exposed, parse_expose, parse_publish, told, words

ALL4, ALL6 = "0.0.0.0", "::"


def port(
    target: int, first: int = 0, last: int = 0, address: str = "", proto: str = "tcp"
) -> Publish:
    return Publish(
        protocol="udp" if proto == "udp" else "tcp", address=address, first=first,
        last=last or first, target=target,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("80", [port(80)]),
        (":80", [port(80)]),
        ("0:80", [port(80)]),
        ("8080:80", [port(80, 8080)]),
        ("8080:80/tcp", [port(80, 8080)]),
        ("8053:53/UDP", [port(53, 8053, proto="udp")]),
        ("127.0.0.1:8080:80", [port(80, 8080, address="127.0.0.1")]),
        ("127.0.0.1::80", [port(80, address="127.0.0.1")]),
        ("[::1]:8080:80", [port(80, 8080, address="::1")]),
        ("[::1]::80", [port(80, address="::1")]),
        ("[0:0::1]:8080:80", [port(80, 8080, address="::1")]),
        ("8080-8082:80", [port(80, 8080, 8082)]),
        ("80-81", [port(80), port(81)]),
        ("8080-8081:80-81", [port(80, 8080), port(81, 8081)]),
        ("8080-8080:80", [port(80, 8080)]),
        ("0.0.0.0:8080:80", [port(80, 8080, address=ALL4)]),
        ("published=8080,target=80", [port(80, 8080)]),
        ("target=53,protocol=udp", [port(53, proto="udp")]),
    ],
)
def test_what_is_published(word: str, found: list[Publish]) -> None:
    assert list(parse_publish(word)) == found


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("", "no port specified"),
        ("8080:", "no port specified"),
        ("x", "invalid containerPort: x"),
        ("0", "invalid containerPort: 0"),
        ("65536", "invalid containerPort: 65536"),
        ("90-80", "invalid containerPort: 90-80"),
        ("-80", "invalid containerPort: -80"),
        ("x:80", "invalid hostPort: x"),
        ("65536:80", "invalid hostPort: 65536"),
        ("80/sctp", "sctp"),
        ("80/icmp", "invalid proto: icmp"),
        ("80/tcp/udp", "invalid proto: tcp/udp"),
        ("8080-8081:80-82", "invalid ranges"),
        ("localhost:8080:80", "invalid ip address: localhost"),
        ("::1:8080:80", "in brackets"),
        ("[::1:8080:80", "invalid ip address"),
        ("[::1]8080:80", "invalid ip address"),
        ("[x]:8080:80", "invalid ip address: x"),
        ("256.0.0.1:8080:80", "invalid ip address: 256.0.0.1"),
        ("target=80,mode=host", "invalid field 'mode=host'"),
        ("published=80", "no port specified"),
        ("²:80", "invalid hostPort: ²"),
    ],
)
def test_what_cannot_be_published(word: str, part: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_publish(word)
    assert part in caught.value.message
    assert repr(word) in caught.value.message


def test_exposed_ports() -> None:
    assert parse_expose("80") == ("80/tcp",)
    assert parse_expose("80-81/udp") == ("80/udp", "81/udp")
    assert exposed(["90/udp", "80", "80/tcp"]) == ((80, "tcp"), (90, "udp"))
    for word in ("", "x", "80:90", "0", "2-1", "80/sctp"):
        with pytest.raises(InvalidInput, match="--expose"):
            parse_expose(word)


def bound(port: int, target: int, *addresses: str, udp: bool = False) -> list[PortBinding]:
    protocol = "udp" if udp else "tcp"
    return [
        PortBinding(protocol=protocol, address=address, port=port, target=target)  # type: ignore[arg-type]
        for address in addresses
    ]


def test_what_an_image_says_is_told_as_far_as_it_can_be() -> None:
    said = ("80/tcp", "53/UDP", "9", "7-8/sctp", "80/tcp", "", "x/tcp", "0/tcp", "70000", "80/icmp")
    assert told(said) == (
        (7, "sctp"), (8, "sctp"), (9, "tcp"), (53, "udp"), (80, "tcp"),
    )  # fmt: skip


def test_ports_in_words() -> None:
    assert words(()) == ""
    assert words((), [(80, "tcp"), (53, "udp")]) == "53/udp, 80/tcp"
    both = bound(8080, 80, ALL4, ALL6)
    found = words(both, [(80, "tcp"), (90, "tcp")])
    assert found == "90/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
    assert words(bound(5, 6, "::1", udp=True)) == "[::1]:5->6/udp"


def test_ports_in_a_row_are_one_word() -> None:
    assert words((), [(90, "tcp"), (91, "tcp"), (93, "tcp")]) == "90-91/tcp, 93/tcp"
    same = [one for number in (80, 81) for one in bound(number, number, ALL4, ALL6)]
    assert words(same) == "0.0.0.0:80-81->80-81/tcp, [::]:80-81->80-81/tcp"
    other = [one for number in range(2) for one in bound(8000 + number, 80 + number, ALL4)]
    assert words(other) == "0.0.0.0:8000->80/tcp, 0.0.0.0:8001->81/tcp"
