"""Who is called what, and what the resolver makes of a question."""

from __future__ import annotations

import os
import struct
from types import SimpleNamespace
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
    # whatever kind of question it is
    for name in ("9.9.9.9.in-addr.arpa", "secret.example.com"):
        for kind in ("PTR", "TXT", "ANY"):
            reply = made.ask("10.2.0.2", name, kind)
            assert reply is not None, (name, kind)
            assert reply.header.rcode == dnslib.RCODE.REFUSED
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


def test_what_changes_in_the_same_tick_is_seen(
    made: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.13 a file's time is that of the clock's last tick."""
    folder = store.state_folder(made.layout, WEB)
    moment = os.stat(folder).st_mtime_ns
    monkeypatch.setattr(names, "time", SimpleNamespace(time_ns=lambda: moment))
    assert made.ask("10.1.0.2", "new") is None
    made.join("4" * 64, "new", place(WEB, "10.1.0.4/24"))
    os.utime(folder, ns=(moment, moment))
    assert made.addresses("10.1.0.2", "new") == ["10.1.0.4"]


def test_what_lies_beside_the_networks_is_none_of_them(made: Store) -> None:
    for name in ("resolver", "1" * 64):
        files.write_atomic(f"{made.layout.state_networks}/{name}", b"it ended\n", durable=False)
    assert made.addresses("10.1.0.3", "one") == ["10.1.0.2"]


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


def test_what_stands_behind_a_question_is_not_read(made: Store) -> None:
    """Pointers to pointers, more than anybody can follow, in what is no part of the question."""
    message = bytearray(dnslib.DNSRecord.question("one", "A").pack())
    message[6:8] = (2).to_bytes(2, "big")
    message += b"\0" + struct.pack("!HHIH", 65280, 1, 0, 2 + 2 * 1900) + b"\0\0"
    for _ in range(1901):
        message += struct.pack("!H", 0xC000 | len(message) - 2)
    message += struct.pack("!HHIH", 65280, 1, 0, 1) + b"x"
    with pytest.raises(RecursionError):
        dnslib.DNSRecord.parse(bytes(message))
    reply, _ = made.resolver.answer(bytes(message), "10.1.0.3")
    assert reply is not None
    assert str(dnslib.DNSRecord.parse(reply).rr[0].rdata) == "10.1.0.2"
    assert dnslib.DNSRecord.parse(made.resolver._failure(bytes(message))).header.rcode == 2


def test_questions_that_are_none(made: Store) -> None:
    head = bytes.fromhex("0007 0100 0001 0000 0000 0000")
    longest = b"\x3f" + b"a" * 63
    end = b"\0\0\1\0\1"
    for name, length in (
        (longest * 3 + b"\x3d" + b"a" * 61, 12 + 3 * 64 + 62 + 5),
        (longest * 3 + b"\x3e" + b"a" * 62, 0),
        (longest * 4, 0),
        (b"\x40" + b"a" * 64, 0),
        (b"\1a\xc0\x0c", 0),
        (b"", 12 + 5),
    ):
        assert resolver.question_end(head + name + end) == length, name
        made.resolver.answer(head + name + end, "10.1.0.2")
    question = bytes(dnslib.DNSRecord.question("one", "A").pack())
    for size in range(len(question)):
        assert resolver.question_end(question[:size]) == 0
    assert resolver.question_end(question[:5] + b"\2" + question[6:]) == 0


@pytest.mark.parametrize("name", ["x" * 64, "a..b", ".".join(["x" * 60] * 5)])
def test_a_name_that_no_message_can_have_is_the_short_id_backwards(made: Store, name: str) -> None:
    made.join("5" * 64, name, place(WEB, "10.1.0.5/24"))
    shown = made.addresses("10.1.0.3", "5.0.1.10.in-addr.arpa", "PTR")
    assert shown == [f"{'5' * 12}.web."]


def test_who_asks_much_leaves_room_for_others(made: Store) -> None:
    for at in range(resolver._MOST_PENDING):
        if not made.resolver._has_room("10.1.0.2"):
            break
        pending = resolver._Pending(b"", ("10.1.0.2", 1), [])
        made.resolver._pending[at] = None, pending  # type: ignore[assignment]
    assert 0 < len(made.resolver._pending) < resolver._MOST_PENDING
    assert made.resolver._has_room("10.1.0.3")


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
