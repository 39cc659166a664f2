"""Published ports on a real kernel: reachable from where they should be, and gone in time."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from harness import FOREVER, PATIENCE, free_port, proc_field, wait_until

from pycontain.engine import networks
from pycontain.errors import Conflict, InvalidInput, KernelError, PycontainError
from pycontain.kernel import firewall
from pycontain.model.container import NetworkChoice, Publish, RunOptions
from pycontain.runtime import attachment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import CommandLine, Store

pytestmark = pytest.mark.host

BRIDGE: dict[str, Any] = {"network": "bridge", "networks": (NetworkChoice(name="bridge"),)}
ECHO = ("nc", "-ll", "-p", "80", "-e", "cat")
LOOPBACK = "127.0.0.1"
# Protocol and what it does for each connection: echo, hash (tells what came, when all has come),
# gush (sends as much as it is told, then the hash), last (speaks and ends its process).
SERVER = """\
import hashlib, os, socket, sys, threading
kind, port = sys.argv[1], int(sys.argv[2])
def serve(connection):
    with connection:
        if kind == "last":
            connection.sendall(b"x" * 300000)
            os._exit(0)
        digest, count = hashlib.sha256(), 0
        if kind == "gush":
            count = int(connection.recv(100))
            data = os.urandom(1 << 16)
            for _ in range(count):
                connection.sendall(data)
                digest.update(data)
        else:
            while data := connection.recv(1 << 16):
                digest.update(data)
        connection.sendall(digest.digest())
if kind == "udp":
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", port))
    print("ready", flush=True)
    while True:
        data, peer = server.recvfrom(65536)
        server.sendto(data.upper(), peer)
server = socket.create_server(("", port), backlog=1000)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


def publish(target: int, host: int = 0, address: str = "", **more: Any) -> Publish:
    asked: dict[str, Any] = {"first": host, "last": host, "address": address, **more}
    return Publish(target=target, **asked)


def serve(store: Store, *wanted: Publish, command: tuple[str, ...] = ECHO, **options: Any) -> str:
    return store.detach(*command, **{**BRIDGE, "publish": wanted, "init": True, **options})


@contextmanager
def server_in(store: Store, ref: str, kind: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """A program of the host in the container's network."""
    argv = ["nsenter", "-t", str(store.run_record(ref).pid), "-n", sys.executable, "-c", SERVER]
    with subprocess.Popen([*argv, kind, str(port)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
        child.kill()


def connect(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port), timeout=PATIENCE)


def echo(address: str, port: int, text: bytes = b"hello") -> bytes:
    """What comes back of what is sent; empty where the connection is refused or reset."""
    try:
        with connect(address, port) as client:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            found = b""
            while data := client.recv(65536):
                found += data
            return found
    except OSError as err:
        # shutdown(2) says ENOTCONN of one that was reset
        if isinstance(err, ConnectionError) or err.errno == errno.ENOTCONN:
            return b""
        raise


def answers(address: str, port: int) -> bool:
    return echo(address, port) == b"hello"


def await_server(address: str, port: int) -> None:
    """The program in the container needs a moment until it listens."""
    wait_until(lambda: answers(address, port))


def gateway(store: Store, ref: str) -> str:
    return networks.attachments(store.layout, ref)[0].gateways[0]


def children(store: Store, ref: str) -> list[int]:
    """The monitor's, without the container's own: its forwarder."""
    record = store.run_record(ref)
    with open(f"/proc/{record.monitor}/task/{record.monitor}/children") as file:
        return [int(pid) for pid in file.read().split() if int(pid) != record.pid]


def is_bound(port: int, kind: int = socket.SOCK_STREAM) -> bool:
    with closing(socket.socket(socket.AF_INET, kind)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
        try:
            probe.bind(("", port))
        except OSError:
            return True
        return False


# ---- from where a port is reached ----


@pytest.mark.in_vm
def test_a_port_is_reached_by_every_address_of_the_host(store: Store) -> None:
    port = free_port()
    ref = serve(store, publish(80, port))
    await_server(LOOPBACK, port)
    assert answers("::1", port)
    assert answers("127.9.9.9", port)
    assert answers(gateway(store, ref), port)


def test_from_other_containers_and_from_itself(store: Store) -> None:
    port = free_port()
    ref = serve(store, publish(80, port))
    await_server(LOOPBACK, port)
    host = gateway(store, ref)
    script = f"echo over | nc {host} {port}"
    assert store.sh(script, **BRIDGE) == "over\n"
    done = store.exec(ref, "sh", "-c", script)
    assert (done.code, done.stdout) == (0, b"over\n")


def test_between_two_that_publish(store: Store) -> None:
    one, other = free_port(), free_port()
    first = serve(store, publish(80, one))
    second = serve(store, publish(80, other))
    host = gateway(store, first)
    await_server(host, one)
    await_server(host, other)
    for ref, port in ((first, other), (second, one)):
        done = store.exec(ref, "sh", "-c", f"echo hi | nc {host} {port}")
        assert (done.code, done.stdout) == (0, b"hi\n")


@pytest.mark.in_vm
def test_what_is_published_on_the_loopback_is_reached_there_alone(store: Store) -> None:
    port = free_port()
    ref = serve(store, publish(80, port, LOOPBACK))
    await_server(LOOPBACK, port)
    host = gateway(store, ref)
    assert not answers(host, port)
    assert not answers("::1", port)
    done = store.exec(ref, "sh", "-c", f"echo hi | nc -w 2 {host} {port}")
    assert done.code != 0
    rules = firewall.listing(["list", "table", "inet", networks.table(store.layout)])
    assert rules
    assert str(port) not in rules


def test_the_hosts_own_loopback_is_no_neighbours(store: Store) -> None:
    """No route_localnet: packets to 127.0.0.1 that come from a bridge are not taken."""
    ref = serve(store, publish(80, free_port()))
    device = networks.attachments(store.layout, ref)[0].device
    for name in (device, "all", "default"):
        with open(f"/proc/sys/net/ipv4/conf/{name}/route_localnet") as file:
            assert file.read() == "0\n"


def test_datagrams(store: Store) -> None:
    port = free_port(socket.SOCK_DGRAM)
    ref = serve(store, publish(53, port, protocol="udp"), command=("sleep", "1000"))
    with server_in(store, ref, "udp", 53):
        for address in (LOOPBACK, "127.9.9.9", "::1", gateway(store, ref)):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with closing(socket.socket(family, socket.SOCK_DGRAM)) as client:
                client.settimeout(PATIENCE)
                # Connected: an answer from another address would not arrive.
                client.connect((address, port))
                for text in (b"one", b"", b"x" * 9000):
                    client.send(text)
                    assert client.recv(65536) == text.upper()
    assert is_bound(port, socket.SOCK_DGRAM)


def test_many_clients_of_datagrams_are_kept_apart(store: Store) -> None:
    port = free_port(socket.SOCK_DGRAM)
    ref = serve(store, publish(53, port, LOOPBACK, protocol="udp"), command=("sleep", "1000"))
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(200)]
    with server_in(store, ref, "udp", 53):
        for number, client in enumerate(clients):
            client.settimeout(PATIENCE)
            client.connect((LOOPBACK, port))
            client.send(b"client %d" % number)
        for number, client in enumerate(clients):
            assert client.recv(100) == b"CLIENT %d" % number
            client.close()


def test_ports_follow_the_way_out_to_another_network(store: Store) -> None:
    """The forwarder and the kernel's rules, where the network that they led by is left."""
    first, second = (store.engine.networks.create(name) for name in ("one", "two"))
    port = free_port()
    both = tuple(NetworkChoice(name=name) for name in ("one", "two"))
    ref = serve(store, publish(80, port), networks=both)
    await_server(LOOPBACK, port)
    store.engine.networks.disconnect("one", ref)
    wait_until(lambda: children(store, ref) == [])
    # By the kernel: no forwarder is started for it.
    assert answers(second.subnets[0].gateway, port)
    assert children(store, ref) == []
    assert answers(LOOPBACK, port)
    store.engine.networks.disconnect("two", ref)
    wait_until(lambda: echo(LOOPBACK, port) == b"")
    assert store.containers.ports(ref) == ()
    store.engine.networks.connect("one", ref)
    assert answers(LOOPBACK, port)
    assert answers(first.subnets[0].gateway, port)
    assert store.state_of(ref) == "running"


@pytest.mark.parametrize("word", ["nonsense", "10.0.0.1" * 20])
def test_where_ports_lead_to_is_an_address(store: Store, word: str) -> None:
    port = free_port()
    ref = serve(store, publish(80, port))
    await_server(LOOPBACK, port)
    with pytest.raises(PycontainError, match="lead published ports: "):
        attachment.lead_ports(store.layout.container(ref).attach, word)
    assert answers(LOOPBACK, port)
    assert store.state_of(ref) == "running"


def test_a_network_more_changes_nothing_for_ports(store: Store) -> None:
    for name in ("one", "two"):
        store.engine.networks.create(name)
    port = free_port()
    ref = serve(store, publish(80, port), networks=(NetworkChoice(name="one"),))
    await_server(LOOPBACK, port)
    before = children(store, ref)
    with connect(LOOPBACK, port) as client:
        store.engine.networks.connect("two", ref)
        store.engine.networks.disconnect("two", ref)
        client.sendall(b"still")
        assert client.recv(5, socket.MSG_WAITALL) == b"still"
    assert children(store, ref) == before


# ---- the forwarder ----


def test_nothing_runs_before_the_first_connection(store: Store) -> None:
    port = free_port()
    ref = serve(store, publish(80, port))
    assert answers(gateway(store, ref), port) in (True, False)  # by the kernel's rules
    assert children(store, ref) == []
    await_server(LOOPBACK, port)
    (forwarder,) = children(store, ref)
    assert proc_field(forwarder, "Uid").split() == ["65534"] * 4
    assert proc_field(forwarder, "CapEff") == proc_field(forwarder, "CapPrm") == "0" * 16
    assert proc_field(forwarder, "NoNewPrivs") == "1"
    assert proc_field(forwarder, "Groups") == ""


def test_a_forwarder_that_dies_is_replaced(store: Store) -> None:
    port = free_port()
    ref = serve(store, publish(80, port))
    await_server(LOOPBACK, port)
    (forwarder,) = children(store, ref)
    os.kill(forwarder, signal.SIGKILL)
    wait_until(lambda: forwarder not in children(store, ref))
    await_server(LOOPBACK, port)
    assert store.state_of(ref) == "running"


def test_much_in_both_directions_at_once(store: Store) -> None:
    port, back = free_port(), free_port()
    ref = serve(
        store, publish(80, port, LOOPBACK), publish(81, back, LOOPBACK), command=("sleep", "1000")
    )
    data = os.urandom(1 << 20)

    def upload() -> bytes:
        with connect(LOOPBACK, port) as client:
            for _ in range(16):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return client.recv(32, socket.MSG_WAITALL)

    def download() -> bool:
        with connect(LOOPBACK, back) as client:
            client.sendall(b"256")
            client.shutdown(socket.SHUT_WR)
            found = bytearray()
            while more := client.recv(1 << 16):
                found += more
            digest = hashlib.sha256(found[:-32]).digest()
            return len(found) == (16 << 20) + 32 and found[-32:] == digest

    with (
        server_in(store, ref, "hash", 80),
        server_in(store, ref, "gush", 81),
        ThreadPoolExecutor(4) as pool,
    ):
        ups = [pool.submit(upload) for _ in range(2)]
        downs = [pool.submit(download) for _ in range(2)]
        assert {up.result() for up in ups} == {hashlib.sha256(data * 16).digest()}
        assert all(down.result() for down in downs)


def test_a_client_that_does_not_read_holds_nobody_up(store: Store) -> None:
    port = free_port()
    ref = serve(store, publish(81, port, LOOPBACK), command=("sleep", "1000"))
    with server_in(store, ref, "gush", 81), connect(LOOPBACK, port) as lazy:
        lazy.sendall(b"1024")  # 64 MiB, more than all buffers
        with connect(LOOPBACK, port) as eager:
            eager.sendall(b"64")
            eager.shutdown(socket.SHUT_WR)
            count = 0
            while more := eager.recv(1 << 16):
                count += len(more)
            assert count == (4 << 20) + 32


def test_two_hundred_at_once(store: Store) -> None:
    port = free_port()
    ref = serve(store, publish(80, port, LOOPBACK), command=("sleep", "1000"))
    start = threading.Barrier(50)

    def talk(number: int) -> bool:
        start.wait(PATIENCE)
        for turn in range(4):
            text = b"%d %d" % (number, turn)
            if echo(LOOPBACK, port, text) != hashlib.sha256(text).digest():
                return False
        return True

    with server_in(store, ref, "hash", 80), ThreadPoolExecutor(50) as pool:
        assert all(pool.map(talk, range(50)))
        (forwarder,) = children(store, ref)
        # All of them are over: what is left are the sockets, an epoll, and the standard ones.
        wait_until(lambda: len(os.listdir(f"/proc/{forwarder}/fd")) < 10)


def ticks(pid: int) -> int:
    """What a process has used of the processors (proc(5), utime and stime)."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def rests(pid: int) -> bool:
    """Whether a process waits: who asks again and again uses a processor, or its share of one."""
    before = ticks(pid)
    time.sleep(2)
    return ticks(pid) - before < 0.15 * os.sysconf("SC_CLK_TCK")


def limit_files(pid: int, most: int, *become: str) -> None:
    subprocess.run([*become, "prlimit", "--pid", str(pid), f"--nofile={most}:{most}"], check=True)


def talking(port: int) -> tuple[socket.socket, bytes]:
    """A connection that is kept, and what came back."""
    client = connect(LOOPBACK, port)
    client.sendall(b"x")
    return client, client.recv(1)


def test_with_few_files_neither_kind_takes_the_others_part(store: Store) -> None:
    port, other = free_port(), free_port(socket.SOCK_DGRAM)
    wanted = publish(80, port, LOOPBACK), publish(53, other, LOOPBACK, protocol="udp")
    ref = serve(store, *wanted)
    limit_files(store.run_record(ref).monitor, 160)
    await_server(LOOPBACK, port)
    (forwarder,) = children(store, ref)
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(200)]
    for client in clients:
        client.sendto(b"x", (LOOPBACK, other))
    kept = [talking(port)[0] for _ in range(8)]
    late = [connect(LOOPBACK, port) for _ in range(20)]  # to the kernel's queue
    assert rests(forwarder)
    assert len(os.listdir(f"/proc/{forwarder}/fd")) < 160
    for client in (*clients, *kept, *late):
        client.close()
    await_server(LOOPBACK, port)
    assert children(store, ref) == [forwarder]


def test_without_a_file_for_a_connection_it_waits(store: Store) -> None:
    port = free_port()
    ref = serve(store, publish(80, port, LOOPBACK))
    await_server(LOOPBACK, port)
    (forwarder,) = children(store, ref)
    # Its own files: what asked whether the server is there has gone.
    wait_until(lambda: len(os.listdir(f"/proc/{forwarder}/fd")) < 10)
    kept = [talking(port)[0] for _ in range(2)]
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    limit_files(forwarder, len(os.listdir(f"/proc/{forwarder}/fd")), *nobody)
    with connect(LOOPBACK, port) as late:
        assert rests(forwarder)
        for client in kept:
            client.close()
        late.settimeout(PATIENCE)
        late.sendall(b"late")
        assert late.recv(4) == b"late"
    assert children(store, ref) == [forwarder]


def test_nobody_listens_in_the_container(store: Store) -> None:
    port = free_port()
    ref = serve(store, publish(80, port), command=("sleep", "1000"))
    assert echo(LOOPBACK, port) == b""
    assert echo("::1", port) == b""
    assert store.state_of(ref) == "running"


def test_the_last_words_arrive(store: Store) -> None:
    """The server ends, and the container with it, right after it has spoken."""
    script = "head -c 300000 /dev/zero | nc -l -p 80 >/dev/null"
    for _ in range(10):  # the forwarder has half a second: not enough where it does not get to run
        port = free_port()
        serve(store, publish(80, port, LOOPBACK), command=("sh", "-c", script), init=False)
        if (count := received(port)) == 300000:
            break
    assert count == 300000


def received(port: int) -> int:
    """How many bytes a server sent until its end, 0 where it was never reached."""
    count = 0
    while not count:
        try:
            with connect(LOOPBACK, port) as client:
                while data := client.recv(65536):
                    count += len(data)
        except ConnectionRefusedError:
            break  # it has ended
        except ConnectionError:
            continue  # it does not listen yet
    return count


# ---- who has a port, and until when ----


def test_a_taken_port_is_refused_with_its_owners_name(store: Store) -> None:
    port = free_port()
    serve(store, publish(80, port), name="first", command=("sleep", "1000"))
    with pytest.raises(Conflict, match=f"0.0.0.0:{port} failed: .* by container first"):
        serve(store, publish(80, port), name="second")
    assert store.state_of("second") == "created"
    with socket.create_server(("", free_port())) as mine:
        number = mine.getsockname()[1]
        with pytest.raises(Conflict, match=rf"by process {os.getpid()} \("):
            serve(store, publish(81), publish(80, number), name="third")
    # Nothing that a failed start had got is kept.
    store.containers.start("third")
    assert is_bound(number)


def test_a_port_is_free_when_its_container_has_ended(store: Store) -> None:
    port, datagrams = free_port(), free_port(socket.SOCK_DGRAM)
    wanted = (publish(80, port), publish(53, datagrams, protocol="udp"))
    ref = serve(store, *wanted)
    await_server(LOOPBACK, port)
    assert is_bound(port)
    assert is_bound(datagrams, socket.SOCK_DGRAM)
    for _ in range(2):
        store.containers.stop(ref, timeout=0)
        assert not is_bound(port)
        assert not is_bound(datagrams, socket.SOCK_DGRAM)
        store.containers.start(ref)
        await_server(LOOPBACK, port)
    # Nobody is there when it ends by itself, and its rules go too.
    store.exec(ref, "kill", "1")
    wait_until(lambda: store.state_of(ref) == "exited")
    assert not is_bound(port)
    wait_until(lambda: not os.path.exists(store.layout.container(ref).endpoints))


def test_a_killed_monitor_leaves_no_port(store: Store) -> None:
    port = free_port()
    ref = serve(store, publish(80, port))
    await_server(LOOPBACK, port)
    (forwarder,) = children(store, ref)
    os.kill(store.run_record(ref).monitor, signal.SIGKILL)
    wait_until(lambda: not is_bound(port))
    wait_until(lambda: not os.path.exists(f"/proc/{forwarder}"))
    assert store.state_of(ref) == "exited"
    assert not os.path.exists(store.layout.container(ref).endpoints)
    store.containers.start(ref)
    await_server(LOOPBACK, port)
    assert answers(gateway(store, ref), port)


def test_free_ports_and_ranges(store: Store) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        first = taken.getsockname()[1]
        if first > 65000:
            pytest.skip("no room above it")
        ref = serve(
            store, publish(80), publish(81, first, LOOPBACK, last=first + 50),
            command=("sleep", "1000"),
        )  # fmt: skip
        found = store.containers.ports(ref)
    assert [(one.address, one.target) for one in found] == [
        ("0.0.0.0", 80), ("::", 80), (LOOPBACK, 81),
    ]  # fmt: skip
    assert found[0].port == found[1].port > 1023
    assert first < found[2].port <= first + 50
    with pytest.raises(Conflict, match=f"no free port from {found[2].port} to {found[2].port + 0}|"
                                       f"Bind for {LOOPBACK}:{found[2].port} failed"):  # fmt: skip
        serve(store, publish(81, found[2].port, LOOPBACK))


def test_all_exposed_ports(store: Store) -> None:
    ref = serve(
        store, publish(80, free_port()), publish_all=True, expose=("80/tcp", "53/udp", "90/tcp"),
        command=("sleep", "1000"),
    )  # fmt: skip
    found = {(one.target, one.protocol) for one in store.containers.ports(ref)}
    assert found == {(80, "tcp"), (53, "udp"), (90, "tcp")}


def test_an_image_that_says_no_ports_is_run_and_shown(store: Store, pycontain: CommandLine) -> None:
    change = ("EXPOSE 80/sctp", "EXPOSE 81/tcp")
    made = store.containers.commit(store.create("true").id, "odd", changes=change)
    asked = RunOptions(image=made.id, command=FOREVER, **BRIDGE)
    container, _ = store.containers.run(asked, attach=False)
    for words in (("port", container.id), ("inspect", container.id)):
        assert pycontain(*words).returncode == 0, words
    assert b"80/sctp, 81/tcp" in pycontain("ps").stdout
    with pytest.raises(InvalidInput, match="sctp ports cannot be published"):
        store.containers.run(RunOptions(image=made.id, publish_all=True, **BRIDGE))


def test_an_address_that_is_not_the_hosts(store: Store) -> None:
    with pytest.raises(KernelError, match=r"publish: 192\.0\.2\.77:.*/tcp: .*assign") as caught:
        serve(store, publish(80, free_port(), "192.0.2.77"))
    assert caught.value.hint == "no device of the host has that address"


def test_what_publishes_nothing(store: Store) -> None:
    for options in ({"network": "none"}, {"network": "host"}):
        with pytest.raises(InvalidInput, match="port publishing and the network mode"):
            store.create("true", publish=(publish(80),), **options)
    assert not store.containers.list(all=True)


def test_what_the_command_line_shows(store: Store, pycontain: CommandLine) -> None:
    port = free_port()
    words = ["-p", f"127.0.0.1:{port}:80", "-p", "81", "--expose", "90", "--network", "bridge"]
    assert pycontain("run", "-d", "--name", "web", *words, "busybox", *ECHO).returncode == 0
    (free,) = {one.port for one in store.containers.ports("web") if one.target == 81}
    listed = pycontain("ps", "--format", "{{.Ports}}|{{.Networks}}").stdout.decode()
    assert listed == (
        f"90/tcp, 127.0.0.1:{port}->80/tcp, 0.0.0.0:{free}->81/tcp, [::]:{free}->81/tcp|bridge\n"
    )
    ports = pycontain("port", "web").stdout.decode()
    assert ports == (
        f"80/tcp -> 127.0.0.1:{port}\n81/tcp -> 0.0.0.0:{free}\n81/tcp -> [::]:{free}\n"
    )
    assert pycontain("port", "web", "80/tcp").stdout.decode() == f"127.0.0.1:{port}\n"
    wrong = pycontain("port", "web", "90")
    assert (wrong.returncode, wrong.stdout) == (1, b"")
    assert b"No public port '90' published for web" in wrong.stderr
    for term, count in ((f"publish={port}", 1), ("publish=80", 0), ("expose=90", 1)):
        found = pycontain("ps", "-q", "--filter", term).stdout.split()
        assert len(found) == count, term
    form = "{{json .NetworkSettings.Ports}}"
    shown = pycontain("inspect", "-f", form, "web").stdout.decode()
    assert f'"80/tcp":[{{"HostIp":"127.0.0.1","HostPort":"{port}"}}]' in shown
    assert '"90/tcp":null' in shown
