"""The process that answers containers' questions for names: one for each store.

It stands in two network namespaces. One thread has one of its own, with a port in the bridge of
each user's network: there the sockets listen, so nothing of the host, neither another resolver nor
a firewall's input rules, comes between a container and its answer. All else is in the host's:
questions for the outside go from there to the host's servers, those on its loopback included.

It is started and ended by ``engine.resolving``; what it knows it reads (``names``).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import random
import select
import socket
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING

from pycontain.errors import NotFound, PycontainError, StoreError, kernel_error
from pycontain.kernel import cgroup, process
from pycontain.network import outside
from pycontain.network.names import Client, Names
from pycontain.store import files
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from dnslib import DNSRecord

_CLONE_NEWNET = 0x40000000
_PR_SET_KEEPCAPS = 8
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_DAC_READ_SEARCH = 1 << 2
_NOBODY = 65534
_ANYBODY = 1  # where that one is not mapped: in the small range of an ordinary user
_PORT = 53
_UDP_SIZE = 512  # RFC 1035, 2.3.4
_HEADER = 12
_LONGEST_LABEL = 63
_LONGEST_NAME = 255  # RFC 1035, 2.3.4
_MOST_PENDING = 256
_MOST_STREAMS = 32
_SHARE = 4  # who asks has at most this part of either to itself
_PATIENCE = 6.0  # seconds a question may take; resolv.conf(5) has clients ask again after 5
_NEXT_SERVER = 2.0
_LOOK = 30.0  # seconds between two looks whether we are wanted
_RESOLVED = "/run/systemd/resolve/resolv.conf"
# A new namespace has the host's settings of IPv4, forwarding among them (net.rst,
# devconf_inherit_init_net): with a port in each network it would be a way from any to any other.
# And who says to be from another network than its own is not heard.
_SETTINGS = {
    "ipv4/ip_forward": "0",
    "ipv4/conf/all/rp_filter": "1",
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
}


def ready_path(layout: Layout) -> str:
    """Return what says who the resolver is, ``PID START THREAD``, once it listens; where it ended
    before, the reason.
    """
    return f"{layout.state_networks}/resolver"


def main(root: str, state: str) -> None:
    """Be the resolver of a store until a signal ends it."""
    layout = Layout(root, state)
    # Opened while we may, and written when we have given that up: nobody is to ask us before.
    said = os.open(ready_path(layout), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        cgroup.leave()
        place = _Place()
        start = process.start_time(os.getpid())
        _give_up_privileges()
    except (PycontainError, OSError) as err:
        os.write(said, str(err).encode())
        sys.exit(1)
    # One write of a few bytes: whoever reads has all or nothing.
    os.write(said, f"{os.getpid()} {start} {place.thread}".encode())
    os.close(said)
    _Resolver(layout, place).serve()


def _give_up_privileges() -> None:
    """Keep of root no more than may read the store's folders (capabilities(7)).

    Questions come from containers. The thread in the other namespace keeps nothing at all.

    Raises:
        KernelError: they cannot be given up.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    kept = struct.pack("=IIIIII", _DAC_READ_SEARCH, _DAC_READ_SEARCH, 0, 0, 0, 0)
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_KEEPCAPS, 1)):
        if libc.prctl(option, value, 0, 0, 0) < 0:
            raise kernel_error("give up privileges", "prctl", ctypes.get_errno())
    os.setgroups([])
    for change in (os.setresgid, os.setresuid):
        try:
            change(_NOBODY, _NOBODY, _NOBODY)
        except OSError as err:
            if err.errno != errno.EINVAL:
                raise
            change(_ANYBODY, _ANYBODY, _ANYBODY)
    if libc.capset(header, kept) < 0:
        raise kernel_error("give up privileges", "capset", ctypes.get_errno())
    libc.prctl(_PR_SET_NAME, b"pycontain-names", 0, 0, 0)


class _Place:
    """The sockets in a network namespace of their own.

    Attributes:
        thread: the id of the thread that is in it.
        datagrams, streams: the sockets.
    """

    def __init__(self) -> None:
        self.thread = 0
        self.datagrams: socket.socket
        self.streams: socket.socket
        self._failure: BaseException | None = None
        made = threading.Event()
        threading.Thread(target=self._enter, args=(made,), daemon=True).start()
        made.wait()
        if self._failure is not None:
            raise self._failure

    def _enter(self, made: threading.Event) -> None:
        """Make the namespace, and stay: unshare(2) is for the calling thread alone."""
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNET) < 0:
                raise kernel_error("make network namespace", "resolver", ctypes.get_errno())
            self.thread = threading.get_native_id()
            _keep_apart()
            self.datagrams = _listen(socket.SOCK_DGRAM)
            self.streams = _listen(socket.SOCK_STREAM)
        except (PycontainError, OSError) as err:
            self._failure = err
            return
        finally:
            made.set()
        threading.Event().wait()


def _keep_apart() -> None:
    """Have the calling thread's network namespace be no way between its devices."""
    for name, value in _SETTINGS.items():
        path = f"/proc/sys/net/{name}"
        if not os.path.exists(path):  # a kernel without IPv6
            continue
        with open(path, "r+", encoding="ascii") as file:
            if file.read().strip() != value:
                file.seek(0)
                file.write(value)


def _listen(kind: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("", _PORT))
    if kind == socket.SOCK_STREAM:
        found.listen(64)
    return found


class _Pending:
    """A question on its way to the outside.

    Attributes:
        question: as the container sent it.
        peer: who asked.
        number: the id that our question has.
        servers: those still to be asked.
        asked, next: moments of time.monotonic(): when it came, when the next server is asked.
    """

    __slots__ = ("asked", "next", "number", "peer", "question", "servers")

    def __init__(self, question: bytes, peer: tuple[str, int], servers: list[str]) -> None:
        self.question = question
        self.peer = peer
        self.servers = servers
        # Another id from another port for each: else others could answer in a server's place.
        self.number = random.SystemRandom().randrange(1 << 16)
        self.asked = time.monotonic()
        self.next = self.asked

    def renumbered(self) -> bytes:
        return self.number.to_bytes(2, "big") + self.question[2:]


class _Resolver:
    def __init__(self, layout: Layout, place: _Place) -> None:
        import dnslib

        self._dns = dnslib
        self._place = place
        self._names = Names(layout)
        self._upstream = functools.partial(outside.upstream, layout.state)
        self._lock = threading.Lock()
        self._pending: dict[int, tuple[socket.socket, _Pending]] = {}
        self._streams: list[str] = []  # who has a connection
        self._poll = select.poll()
        self._ready = ready_path(layout)
        self._look = time.monotonic() + _LOOK

    def serve(self) -> None:
        datagrams, streams = self._place.datagrams, self._place.streams
        for listening in (datagrams, streams):
            self._poll.register(listening, select.POLLIN)
        while self._is_wanted():
            for fd, _ in self._poll.poll(self._next_moment()):
                if fd == datagrams.fileno():
                    self._take_question()
                elif fd == streams.fileno():
                    self._take_stream()
                elif fd in self._pending:
                    self._take_answer(fd)
            self._ask_again()

    def _is_wanted(self) -> bool:
        """Whether the store still names us; not, where it is gone, or another was started."""
        now = time.monotonic()
        if now < self._look:
            return True
        self._look = now + _LOOK
        try:
            return files.read_word(self._ready).split()[:1] == [str(os.getpid())]
        except (NotFound, StoreError):
            return False

    def _next_moment(self) -> float:
        """Milliseconds until a server has had its time, or we look whether we are wanted."""
        if not self._pending:
            return _LOOK * 1000
        first = min(pending.next for _, pending in self._pending.values())
        return max(0.0, first - time.monotonic()) * 1000 + 1

    # ---- what we know ----

    def answer(self, question: bytes, source: str) -> tuple[bytes | None, Client | None]:
        """Return the answer of a question, or None and who asked where the outside has it.

        Both are None where it is no question, or nobody of ours asks it.
        """
        try:
            record = self._parsed(question)
            if record is None or record.header.qr:
                return None, None
            with self._lock:
                client = self._names.client(source)
                if client is None:
                    return None, None
                reply = self._reply(record, client)
            return (None if reply is None else bytes(reply.pack())), client
        except (self._dns.DNSError, ValueError):
            return None, None

    def _parsed(self, question: bytes) -> DNSRecord | None:
        """Return header and question of a message, which may have more; None where it has not one.

        What else a message has may be made to keep its reader busy, with names that point to names
        that point to others; nobody here needs it.
        """
        end = question_end(question)
        if not end:
            return None
        buffer = self._dns.DNSBuffer(question[:end])
        header = self._dns.DNSHeader.parse(buffer)
        return self._dns.DNSRecord(header, [self._dns.DNSQuestion.parse(buffer)])

    def _reply(self, record: DNSRecord, client: Client) -> DNSRecord | None:
        dns = self._dns
        kind = dns.QTYPE.get(record.q.qtype)
        labels = [label.decode("ascii", "replace") for label in record.q.qname.label]
        name = ".".join(labels)
        if kind == "PTR":
            word = _reversed(labels)
            owner = self._names.name(client, word) if word else None
            if owner is None:
                return None if client.outside else self._refusal(record)
            reply = record.reply()
            reply.add_answer(dns.RR(record.q.qname, dns.QTYPE.PTR, rdata=dns.PTR(owner), ttl=0))
            return reply
        found = self._names.addresses(client, name)
        if found is None:
            return None if client.outside else self._refusal(record)
        reply = record.reply()
        random.shuffle(found := list(dict.fromkeys(found)))
        for word in found:
            # An address of the other kind than is asked for is no answer, and its lack no error.
            if ":" not in word and kind in ("A", "ANY"):
                reply.add_answer(dns.RR(record.q.qname, dns.QTYPE.A, rdata=dns.A(word), ttl=0))
            if ":" in word and kind in ("AAAA", "ANY"):
                reply.add_answer(
                    dns.RR(record.q.qname, dns.QTYPE.AAAA, rdata=dns.AAAA(word), ttl=0)
                )
        return reply

    def _refusal(self, record: DNSRecord) -> DNSRecord:
        reply = record.reply(aa=0)
        reply.header.rcode = self._dns.RCODE.REFUSED
        return reply

    # ---- datagrams ----

    def _take_question(self) -> None:
        try:
            question, peer = self._place.datagrams.recvfrom(4096)
        except OSError:
            return  # an ICMP error of an answer that nobody took
        reply, client = self.answer(question, peer[0])
        if reply is not None:
            self._send(self._shortened(reply), peer)
        elif client is not None and self._has_room(peer[0]):
            self._ask(_Pending(question, peer, _servers(client, self._upstream())))

    def _has_room(self, source: str) -> bool:
        """Whether one more question of somebody can be asked; others are to find room, too."""
        own = sum(pending.peer[0] == source for _, pending in self._pending.values())
        return len(self._pending) < _MOST_PENDING and own < _MOST_PENDING // _SHARE

    def _shortened(self, reply: bytes) -> bytes:
        if len(reply) <= _UDP_SIZE:
            return reply
        short: bytes = self._dns.DNSRecord.parse(reply).truncate().pack()
        return short

    def _send(self, reply: bytes, peer: tuple[str, int]) -> None:
        try:
            self._place.datagrams.sendto(reply, peer)
        except OSError:
            return  # its container is gone

    def _ask(self, pending: _Pending) -> None:
        """Ask the next server; answer that there is none where all have been asked."""
        while pending.servers:
            server = pending.servers.pop(0)
            try:
                asking = _connected(server)
            except (OSError, UnicodeError):  # it is not to be reached, or no address
                continue
            try:
                asking.send(pending.renumbered())
            except OSError:
                asking.close()
                continue
            pending.next = time.monotonic() + _NEXT_SERVER
            self._pending[asking.fileno()] = (asking, pending)
            self._poll.register(asking, select.POLLIN)
            return
        self._send(self._failure(pending.question), pending.peer)

    def _failure(self, question: bytes) -> bytes:
        record = self._parsed(question)
        assert record is not None  # else it would not have been asked
        reply = record.reply(aa=0)
        reply.header.rcode = self._dns.RCODE.SERVFAIL
        packed: bytes = reply.pack()
        return packed

    def _take_answer(self, fd: int) -> None:
        asking, pending = self._pending[fd]
        try:
            reply = asking.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            self._drop(fd)  # nobody listens there
            self._ask(pending)
            return
        if int.from_bytes(reply[:2], "big") != pending.number:
            return
        self._drop(fd)
        self._send(pending.question[:2] + reply[2:], pending.peer)

    def _drop(self, fd: int) -> None:
        asking, _ = self._pending.pop(fd)
        self._poll.unregister(fd)
        asking.close()

    def _ask_again(self) -> None:
        now = time.monotonic()
        for fd, (_, pending) in list(self._pending.items()):
            if now >= pending.next:
                self._drop(fd)
                if now - pending.asked < _PATIENCE:
                    self._ask(pending)
                else:
                    self._send(self._failure(pending.question), pending.peer)

    # ---- streams ----

    def _take_stream(self) -> None:
        try:
            connection, peer = self._place.streams.accept()
        except OSError:
            return
        with self._lock:
            there = len(self._streams) < _MOST_STREAMS
            if not there or self._streams.count(peer[0]) >= _MOST_STREAMS // _SHARE:
                connection.close()
                return
            self._streams.append(peer[0])
        threading.Thread(target=self._stream, args=(connection, peer[0]), daemon=True).start()

    def _stream(self, connection: socket.socket, source: str) -> None:
        try:
            with connection:
                connection.settimeout(_PATIENCE)
                while (question := _receive(connection)) is not None:
                    reply, client = self.answer(question, source)
                    if reply is None and client is not None:
                        reply = _ask_by_stream(question, _servers(client, self._upstream()))
                        reply = reply or self._failure(question)
                    if reply is None:
                        return
                    connection.sendall(len(reply).to_bytes(2, "big") + reply)
        except OSError:
            return
        finally:
            with self._lock:
                self._streams.remove(source)


def _connected(server: str) -> socket.socket:
    """A socket for one question; what comes back is of that server, or of who knows its port."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    asking = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        asking.connect((server, _PORT))
    except BaseException:
        asking.close()
        raise
    return asking


def question_end(message: bytes) -> int:
    """Return where the only question of a DNS message ends; 0 where it has not one.

    A name that is the first of its message is written out (RFC 1035, 4.1.4).
    """
    at = _HEADER
    if message[4:6] != b"\0\1":
        return 0
    while at < len(message) and message[at]:
        if message[at] > _LONGEST_LABEL:
            return 0
        at += 1 + message[at]
    end = at + 5  # the root's empty label, type, and class
    return end if at - _HEADER < _LONGEST_NAME and end <= len(message) else 0


def _ask_by_stream(question: bytes, servers: list[str]) -> bytes | None:
    for server in servers:
        try:
            with socket.create_connection((server, _PORT), _NEXT_SERVER) as asking:
                asking.sendall(len(question).to_bytes(2, "big") + question)
                reply = _receive(asking)
        except (OSError, UnicodeError):
            continue
        if reply is not None and reply[:2] == question[:2]:
            return reply
    return None


def _receive(connection: socket.socket) -> bytes | None:
    """One message of a stream, which has its length before it (RFC 1035, 4.2.2)."""
    size = _exactly(connection, 2)
    return None if size is None else _exactly(connection, int.from_bytes(size, "big"))


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            return None
        data += part
    return data


def _servers(client: Client, upstream: str) -> list[str]:
    """Whom to ask: the container's own servers, else the host's.

    Where this is not the host's own network namespace, `upstream` leads to those on its loopback.
    """
    servers = list(client.servers) or _listed("/etc/resolv.conf") or _listed(_RESOLVED)
    if not upstream:
        return servers
    near = (upstream if word.startswith("127.") or word == "::1" else word for word in servers)
    return list(dict.fromkeys(near))


def _listed(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return []
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"][:3]


def _reversed(labels: list[str]) -> str:
    """The address of a name below in-addr.arpa or ip6.arpa (RFC 1035, 3.5; RFC 3596, 2.5)."""
    lower = [label.lower() for label in labels]
    try:
        if lower[-2:] == ["in-addr", "arpa"] and len(lower) == 6:
            return socket.inet_ntop(socket.AF_INET, bytes(int(part) for part in lower[3::-1]))
        if lower[-2:] == ["ip6", "arpa"] and len(lower) == 34:
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex("".join(lower[31::-1])))
    except (ValueError, OSError):
        return ""
    return ""
