"""Who is called what, and what the resolver makes of a question."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import dnslib
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pycontain.model.network import Attachment, Endpoints, Network, Subnet
from pycontain.network import names, resolver, store
from pycontain.network.leases import Leases
from pycontain.store import files
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

WEB, INSIDE = "a" * 64, "b" * 64
ONE, OTHER = "1" * 64, "2" * 64


class Store:
    """Containers in networks, as their state folders say it."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(f"{folder}/root", f"{folder}/state")
        self.layout.prepare()
        os.mkdir(self.layout.state_networks)
        # It asks nothing of the sockets that it would listen on.
        self.resolver = resolver._Resolver(self.layout, None)  # type: ignore[arg-type]

    def join(self, identity: str, name: str, *places: Attachment, **more: Any) -> None:
        paths = self.layout.container(identity)
        files.make_folder(paths.state_folder)
        for place in places:
            leases = Leases(store.state_folder(self.layout, place.network))
            for word in place.addresses:
                leases.take(word.partition("/")[0], f"{identity} run", lambda _: True)
        endpoints = Endpoints(run="run", container=name, attachments=places, **more)
        files.write_atomic(paths.endpoints, files.dump(endpoints), durable=False)
        for place in places:
            os.utime(store.state_folder(self.layout, place.network))

    def ask(self, source: str, name: str, kind: str = "A") -> dnslib.DNSRecord | None:
        question = dnslib.DNSRecord.question(name, kind).pack()
        reply, _ = self.resolver.answer(bytes(question), source)
        return None if reply is None else dnslib.DNSRecord.parse(reply)

    def addresses(self, source: str, name: str, kind: str = "A") -> list[str] | None:
        reply = self.ask(source, name, kind)
        return None if reply is None else sorted(str(record.rdata) for record in reply.rr)


def place(network: str, *addresses: str, **more: Any) -> Attachment:
    name = "web" if network == WEB else "inside"
    return Attachment(
        network=network, name=name, device="pyc", device_index=1, mac="", addresses=addresses,
        internal=network == INSIDE, **more,
    )  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Store:
    found = Store(tmp_path)
    found.join(ONE, "one", place(WEB, "10.1.0.2/24", "fd00::2/64", aliases=("uno", "both")))
    found.join(OTHER, "other", place(WEB, "10.1.0.3/24", aliases=("both",)))
    return found


def test_names(made: Store) -> None:
    for name in ("one", "ONE", "uno", "1" * 12, "one.web", "uno.web"):
        assert made.addresses("10.1.0.3", name) == ["10.1.0.2"], name
        assert made.addresses("10.1.0.3", name, "AAAA") == ["fd00::2"], name
    assert made.addresses("10.1.0.2", "both") == ["10.1.0.2", "10.1.0.3"]


def test_a_name_without_an_address_of_that_kind_is_no_unknown_one(made: Store) -> None:
    reply = made.ask("10.1.0.2", "other", "AAAA")
    assert reply is not None
    assert (reply.header.rcode, reply.rr) == (0, [])
    assert made.addresses("10.1.0.2", "other", "MX") == []


def test_addresses_have_names(made: Store) -> None:
    assert made.addresses("10.1.0.3", "2.0.1.10.in-addr.arpa", "PTR") == ["one.web."]
    six = f"2.{'0.' * 27}0.0.d.f.ip6.arpa"
    assert made.addresses("10.1.0.3", six, "PTR") == ["one.web."]
    for name in ("9.9.9.9.in-addr.arpa", "x.0.1.10.in-addr.arpa", "1.10.in-addr.arpa"):
        assert made.ask("10.1.0.3", name, "PTR") is None


def test_what_is_of_the_outside_and_who_may_ask(made: Store) -> None:
    question = bytes(dnslib.DNSRecord.question("example.com").pack())
    reply, client = made.resolver.answer(question, "10.1.0.2")
    assert reply is None
    assert client is not None
    assert client.outside
    assert made.resolver.answer(question, "10.1.0.9") == (None, None)  # nobody of ours
    made.join("3" * 64, "third", place(INSIDE, "10.2.0.2/24"))
    refused = made.ask("10.2.0.2", "example.com")
    assert refused is not None
    assert refused.header.rcode == dnslib.RCODE.REFUSED
    # neither does it see those of other networks
    assert made.ask("10.2.0.2", "one").header.rcode == dnslib.RCODE.REFUSED  # type: ignore[union-attr]


def test_containers_come_and_go(made: Store) -> None:
    assert made.ask("10.1.0.2", "new") is None
    made.join("4" * 64, "new", place(WEB, "10.1.0.4/24"), servers=("192.0.2.53",))
    assert made.addresses("10.1.0.2", "new") == ["10.1.0.4"]
    question = bytes(dnslib.DNSRecord.question("example.com").pack())
    client = made.resolver.answer(question, "10.1.0.4")[1]
    assert client is not None
    assert resolver._servers(client, "") == ["192.0.2.53"]
    Leases(store.state_folder(made.layout, WEB)).free("10.1.0.4", f"{'4' * 64} run")
    assert made.ask("10.1.0.2", "new") is None


def test_a_long_answer_is_cut_and_says_so(made: Store) -> None:
    for number in range(60):
        word = f"10.1.1.{number}/24"
        made.join(f"{number:064x}", f"many{number}", place(WEB, word, aliases=("crowd",)))
    question = bytes(dnslib.DNSRecord.question("crowd").pack())
    reply, _ = made.resolver.answer(question, "10.1.0.2")
    assert reply is not None
    short = dnslib.DNSRecord.parse(made.resolver._shortened(reply))
    assert short.header.tc
    assert len(made.resolver._shortened(reply)) <= 512


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(data=b"")
@example(data=b"\0\0\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1")  # a name that points to itself
@given(data=st.binary(max_size=80))
def test_whatever_comes_is_answered_or_not(made: Store, data: bytes) -> None:
    question = bytearray(dnslib.DNSRecord.question("one", "A").pack())
    for at, byte in enumerate(data[:20]):
        question[(at * 7 + byte) % len(question)] = byte
    for words in (data, bytes(question)):
        reply, _ = made.resolver.answer(words, "10.1.0.2")
        assert reply is None or dnslib.DNSRecord.parse(reply).header.qr


def network(*subnets: tuple[str, str], name: str = "web") -> Network:
    made = tuple(Subnet(subnet=subnet, gateway=gateway) for subnet, gateway in subnets)
    return Network(id=WEB, name=name, created=0, interface="pyc", subnets=made)


@pytest.mark.parametrize(
    ("subnets", "wanted"),
    [
        ((("10.1.0.0/24", "10.1.0.1"),), "10.1.0.254"),
        ((("10.1.0.0/24", "10.1.0.254"),), "10.1.0.253"),
        ((("10.1.0.0/29", "10.1.0.1"),), "10.1.0.6"),
        ((("10.1.0.0/30", "10.1.0.1"),), ""),
        ((("fd00::/64", "fd00::1"), ("10.1.0.0/24", "10.1.0.1")), "10.1.0.254"),
    ],
)
def test_where_a_resolver_is(subnets: tuple[tuple[str, str], ...], wanted: str) -> None:
    assert names.resolver_address(network(*subnets)) == wanted
    assert names.resolver_address(network(*subnets, name="bridge")) == ""
