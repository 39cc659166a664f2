"""Networks on a real kernel: bridges, addresses, rules, what is beside them, and what is left."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import isolated
import leaks
import pytest
from harness import FOREVER, free_port, python_env, wait_until

from pycontain.engine import networks, records, resolving
from pycontain.errors import Conflict, InvalidInput, NotFound
from pycontain.kernel import firewall, netlink
from pycontain.model.container import NetworkChoice, Publish
from pycontain.network import rules
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness import CommandLine, Store

    from pycontain.model.network import Attachment, Network

pytestmark = pytest.mark.host

SERVER = """\
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=family) as server:
    print("ready", flush=True)
    while True:
        connection, peer = server.accept()
        with connection:
            connection.sendall(peer[0].encode())
"""


def run(*argv: str, **how: Any) -> str:
    """Standard output of a host's program, which must succeed."""
    return str(subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, **how).stdout)


def chosen(*names: str, **first: Any) -> dict[str, Any]:
    """Options of a container in these networks."""
    choices = [NetworkChoice(name=name) for name in names]
    if first:
        choices[0] = NetworkChoice(name=names[0], **first)
    return {"network": "bridge", "networks": tuple(choices)}


def make(store: Store, name: str, **asked: Any) -> Network:
    return store.engine.networks.create(name, **asked)


def place(store: Store, ref: str, at: int = 0) -> Attachment:
    return networks.attachments(store.layout, store.containers.find(ref))[at]


def address(store: Store, ref: str, at: int = 0, *, six: bool = False) -> str:
    words = [word for word in place(store, ref, at).addresses if (":" in word) == six]
    return words[0].partition("/")[0]


def reaches(store: Store, ref: str, target: str, port: int = 80) -> bool:
    done = store.exec(ref, "nc", "-w", "2", target, str(port), input=b"")
    return done.code == 0


def serve(store: Store, network: str, **options: Any) -> str:
    """A container that answers on port 80 with its own name."""
    asked = {**chosen(network), **options}
    name = asked.get("name", "server")
    return store.detach(
        "sh", "-c", f"while :; do echo {name} | nc -l -p 80; done", **{"init": True, **asked}
    )


def tables() -> list[str]:
    return [line.split()[-1] for line in firewall.listing(["list", "tables"]).splitlines()]


class Outside:
    """A machine behind a device of this host: a network namespace with an address."""

    def __init__(self) -> None:
        self.device = f"pyct{os.getpid()}"
        self.here, self.address = "198.51.100.1", "198.51.100.2"
        self.process = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo ready; exec sleep 1000"], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.servers: list[subprocess.Popen[bytes]] = []
        pid = str(self.process.pid)
        run("ip", "link", "add", self.device, "type", "veth", "peer", "name", "eth0", "netns", pid)
        run("ip", "addr", "add", f"{self.here}/24", "dev", self.device)
        run("ip", "link", "set", self.device, "up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def run(self, *argv: str) -> str:
        return run("nsenter", "-t", str(self.process.pid), "-n", *argv)

    def serve(self, port: int) -> None:
        """Tell whoever connects its address."""
        self.start(SERVER, self.address, str(port))

    def start(self, script: str, *words: str) -> None:
        """Run a server that says when it is ready."""
        argv = ["nsenter", "-t", str(self.process.pid), "-n", sys.executable, "-c", script]
        server = subprocess.Popen([*argv, *words], stdout=subprocess.PIPE)
        assert server.stdout is not None
        server.stdout.readline()
        self.servers.append(server)

    def reaches(self, target: str, port: int) -> bool:
        argv = ["nsenter", "-t", str(self.process.pid), "-n", sys.executable, "-c"]
        script = f"import socket; socket.create_connection(({target!r}, {port}), 2)"
        return subprocess.run([*argv, script], stderr=subprocess.DEVNULL).returncode == 0

    def close(self) -> None:
        subprocess.run(["ip", "link", "del", self.device], check=False)
        for process in (*self.servers, self.process):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def outside() -> Iterator[Outside]:
    made = Outside()
    yield made
    made.close()


def test_containers_of_a_network_reach_each_other_and_the_host(store: Store) -> None:
    network = make(store, "web")
    serve(store, "web", name="one")
    client = store.detach(*FOREVER, **chosen("web"), name="two")
    wait_until(lambda: reaches(store, client, address(store, "one")))
    gateway = network.subnets[0].gateway
    assert store.exec(client, "ping", "-c", "1", "-W", "30", gateway).code == 0
    assert (place(store, "two").device, place(store, "two").gateways) == (
        network.interface,
        (gateway,),
    )
    assert f"default via {gateway} dev eth0" in store.exec(client, "ip", "route").stdout.decode()


@pytest.mark.in_vm
def test_the_outside_is_reached_with_the_hosts_address(store: Store, outside: Outside) -> None:
    make(store, "web")
    outside.serve(8080)
    said = store.sh(f"nc -w 30 {outside.address} 8080 </dev/null", **chosen("web"))
    assert said == outside.here


def test_nothing_enters_unasked(store: Store, outside: Outside) -> None:
    network = make(store, "web")
    serve(store, "web", name="one")
    target = address(store, "one")
    client = store.detach(*FOREVER, **chosen("web"))
    wait_until(lambda: reaches(store, client, target))
    outside.run("ip", "route", "add", network.subnets[0].subnet, "via", outside.here)
    assert not outside.reaches(target, 80)


def test_networks_do_not_reach_each_other(store: Store) -> None:
    make(store, "web")
    make(store, "other")
    serve(store, "web", name="one")
    both = store.detach(*FOREVER, **chosen("other", "web"))
    alone = store.detach(*FOREVER, **chosen("other"))
    target = address(store, "one")
    wait_until(lambda: reaches(store, both, target))
    assert not reaches(store, alone, target)
    # one default route, by the first of the networks
    routes = store.exec(both, "ip", "route").stdout.decode()
    assert routes.count("default") == 1
    assert f"default via {place(store, both).gateways[0]} dev eth0" in routes


def test_an_internal_network_has_no_way_out(store: Store, outside: Outside) -> None:
    make(store, "inside", internal=True)
    outside.serve(8080)
    serve(store, "inside", name="one")
    client = store.detach(*FOREVER, **chosen("inside"))
    wait_until(lambda: reaches(store, client, address(store, "one")))
    assert "default" not in store.exec(client, "ip", "route").stdout.decode()
    gateway = store.engine.networks.get("inside").subnets[0].gateway
    # a route of its own making leads no further
    boss = store.detach(*FOREVER, **chosen("inside"), cap_add=("NET_ADMIN",))
    assert store.exec(boss, "ip", "route", "add", "default", "via", gateway).code == 0
    assert not reaches(store, boss, outside.address, 8080)


def test_ipv6(store: Store) -> None:
    network = make(store, "six", ipv6=True)
    assert len(network.subnets) == 2
    one = store.detach(*FOREVER, **chosen("six"), name="one")
    target = address(store, "one", six=True)
    assert store.exec(one, "ping", "-c", "1", "-W", "30", network.subnets[1].gateway).code == 0
    store.sh(f"ping -c 1 -W 30 {target}", **chosen("six"))
    settings = "/proc/sys/net/ipv6/conf/eth0"
    assert store.sh(f"cat {settings}/accept_ra", **chosen("six")) == "0\n"
    make(store, "four")
    assert store.sh(f"cat {settings}/disable_ipv6", **chosen("four")) == "1\n"


@pytest.mark.skipif(not isolated.HAS_IPV6, reason="this kernel has no IPv6")
def test_a_neighbour_comes_to_a_published_port_by_ipv6(store: Store, outside: Outside) -> None:
    here, there = "2001:db8:72::1", "2001:db8:72::2"
    run("ip", "addr", "add", f"{here}/64", "dev", outside.device, "nodad")
    outside.run("ip", "addr", "add", f"{there}/64", "dev", "eth0", "nodad")
    make(store, "six", ipv6=True)
    ref = store.detach(*FOREVER, publish=(Publish(target=80),), **chosen("six"))
    port = store.containers.ports(ref)[0].port
    enter = ["nsenter", "-t", str(store.run_record(ref).pid), "-n", sys.executable, "-c", SERVER]
    with subprocess.Popen([*enter, "::", "80"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        script = f"import socket; print(socket.create_connection(({here!r}, {port}), 20).recv(99))"
        try:
            said = outside.run(sys.executable, "-c", script)
        finally:
            server.kill()
    # By the kernel: a forwarder would be the one who comes, from the gateway, and by IPv4.
    assert said == f"b'{there}'\n"


_TAGGED = """\
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 53))
print("ready", flush=True)
while True:
    _, peer = server.recvfrom(100)
    server.sendto(f"{sys.argv[1]} {peer[0]}".encode(), peer)
"""
# From one port, and without a pause in which the kernel could forget it.
_SENDER = """\
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect((sys.argv[1], int(sys.argv[2])))
client.settimeout(0.1)
print("ready", flush=True)
while True:
    try:
        client.send(b"?")
        found = client.recv(100).decode()
    except OSError:
        continue
    with open(sys.argv[3], "w") as file:
        file.write(found)
"""


def test_who_goes_on_sending_reaches_a_port_that_leads_elsewhere_by_now(
    store: Store, outside: Outside, tmp_path: Path
) -> None:
    make(store, "web")
    port = free_port(socket.SOCK_DGRAM)
    published = Publish(protocol="udp", first=port, last=port, target=53)
    ref = store.detach(*FOREVER, publish=(published,), **chosen("web"))
    heard = tmp_path / "heard"
    outside.start(_SENDER, outside.here, str(port), str(heard))
    found = set()
    for tag in ("one", "two"):
        enter = ["nsenter", "-t", str(store.run_record(ref).pid), "-n", sys.executable, "-c"]
        with subprocess.Popen([*enter, _TAGGED, tag], stdout=subprocess.PIPE) as server:
            # By the kernel all the time: it sees who it is.
            expected = f"{tag} {outside.address}"
            try:
                wait_until(lambda: heard.exists() and heard.read_text() == expected)  # noqa: B023
            finally:
                server.kill()
        found.add(address(store, ref))
        store.containers.stop(ref, timeout=0)
        store.containers.start(ref)
    assert len(found) == 2


def test_macvlan_is_on_the_network_of_its_parent(store: Store, outside: Outside) -> None:
    make(
        store, "lan", driver="macvlan", subnets=["198.51.100.0/24"], gateways=[outside.here],
        ranges=["198.51.100.128/25"], options={"parent": outside.device},
    )  # fmt: skip
    outside.serve(8080)
    said = store.sh(f"nc -w 30 {outside.address} 8080 </dev/null", **chosen("lan"))
    assert said == "198.51.100.128"


def test_nobody_gets_the_hosts_own_address_beside_it(store: Store, outside: Outside) -> None:
    make(
        store, "lan", driver="macvlan", subnets=["198.51.100.0/24"],
        gateways=["198.51.100.254"], ranges=["198.51.100.0/30"],
        options={"parent": outside.device},
    )  # fmt: skip
    ref = store.detach(*FOREVER, **chosen("lan"))
    assert address(store, ref) == "198.51.100.2"  # the first that the host has not
    with pytest.raises(Conflict, match=f"address {outside.here}: it is one of the host's own"):
        store.sh("true", **chosen("lan", ip=outside.here))


# ---- addresses ----


def test_many_at_once_get_an_address_each(store: Store) -> None:
    network = make(store, "web")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.detach(*FOREVER, **chosen("web")), range(12)))
    members = store.engine.networks.view("web").members
    found = {member.attachment.addresses[0] for member in members}
    assert len(members) == len(found) == 12
    assert len({member.attachment.mac for member in members}) == 12
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: store.containers.remove(one.id, force=True), members))
    assert store.engine.networks.view("web").members == ()
    wait_until(lambda: netlink.get_link(network.interface) is None)
    wait_until(lambda: networks.table(store.layout) not in tables())


@pytest.mark.slow
def test_two_hundred_come_and_go(store: Store) -> None:
    """Most with their owner, some with nobody there when they end."""
    network = make(store, "web")
    script = "ip -4 -o addr show eth0 | awk '{ print $4 }'"

    def come(number: int) -> str:
        if number % 5 == 0:
            store.detach("true", remove=True, **chosen("web"))
            return ""
        return store.sh(script, **chosen("web"))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(come, range(200)))
    assert all(word.endswith("/24\n") for word in found if word)
    wait_until(lambda: netlink.get_link(network.interface) is None)
    # A clean-up gives back what a container had in networks, and then removes the container.
    wait_until(lambda: records.ids(store.layout) == [])
    assert store.engine.networks.view("web").members == ()
    wait_until(lambda: networks.table(store.layout) not in tables())


def test_an_address_that_is_wanted(store: Store) -> None:
    make(store, "web", subnets=["10.213.7.0/24"])
    one = store.detach(*FOREVER, **chosen("web", ip="10.213.7.77", mac="02:00:00:00:07:07"))
    assert address(store, one) == "10.213.7.77"
    assert "02:00:00:00:07:07" in store.exec(one, "ip", "link").stdout.decode()
    with pytest.raises(Conflict, match=r"network web: address 10\.213\.7\.77: already in use"):
        store.sh("true", **chosen("web", ip="10.213.7.77"))
    with pytest.raises(Conflict, match="gateway"):
        store.sh("true", **chosen("web", ip="10.213.7.1"))
    with pytest.raises(InvalidInput, match="in none of its subnets"):
        store.sh("true", **chosen("web", ip="10.9.9.9"))
    store.containers.remove(one, force=True)
    store.sh("true", **chosen("web", ip="10.213.7.77"))


def test_no_address_is_left(store: Store) -> None:
    make(store, "tiny", subnets=["10.213.8.0/30"])
    one = store.detach(*FOREVER, **chosen("tiny"))
    with pytest.raises(Conflict, match="no address"):
        store.sh("true", **chosen("tiny"))
    store.containers.kill(one, 9)
    store.sh("true", **chosen("tiny"))


def test_what_a_killed_monitor_had_is_free_again(store: Store) -> None:
    network = make(store, "tiny", subnets=["10.213.9.0/30"])
    one = store.detach(*FOREVER, **chosen("tiny"))
    os.kill(store.run_record(one).monitor, 9)
    wait_until(lambda: store.engine.networks.view("tiny").members == ())
    store.sh("true", **chosen("tiny"))
    assert store.state_of(one) == "exited"
    store.engine.networks.sweep()
    assert netlink.get_link(network.interface) is None


def test_what_ends_by_itself_leaves_nothing(store: Store) -> None:
    network = make(store, "web")
    store.detach("true", **chosen("web"), remove=True)
    store.detach("true", **chosen("web"))
    wait_until(lambda: netlink.get_link(network.interface) is None)
    wait_until(lambda: networks.table(store.layout) not in tables())
    folder = f"{store.layout.state_networks}/{network.id}"
    assert not [name for name in os.listdir(folder) if "." in name]


# ---- names ----


def looked_up(store: Store, ref: str, name: str) -> list[str]:
    """The addresses that a container's nslookup says; none where it does not know the name."""
    said = store.exec(ref, "nslookup", name).stdout.decode()
    lines = said.partition("Name:")[2].splitlines()
    return [line.split()[-1] for line in lines if line.startswith("Address")]


def resolver(store: Store) -> int:
    """The pid of the store's resolver, 0 where there is none."""
    path = f"{store.layout.state_networks}/resolver"
    return int(files.read_word(path).split()[0]) if os.path.lexists(path) else 0


@pytest.mark.in_vm
def test_names_come_and_go(store: Store) -> None:
    make(store, "web", ipv6=True)
    client = store.detach(*FOREVER, **chosen("web"), name="client")
    assert looked_up(store, client, "one") == []
    one = store.detach(*FOREVER, **chosen("web", aliases=("uno", "db")), name="one")
    both = {address(store, "one"), address(store, "one", six=True)}
    for name in ("one", "ONE", "uno", one[:12], "one.web"):
        assert set(looked_up(store, client, name)) == both, name
    # as programs ask: musl's or glibc's getaddrinfo
    assert store.exec(client, "ping", "-c", "1", "-W", "30", "uno").code == 0
    other = store.detach(*FOREVER, **chosen("web", aliases=("db",)), name="other")
    assert len(looked_up(store, client, "db")) == 4
    store.containers.kill(other, 9)
    wait_until(lambda: set(looked_up(store, client, "db")) == both)
    backwards = store.exec(client, "nslookup", address(store, "one")).stdout
    assert b"name = one.web" in backwards


def test_names_are_of_networks(store: Store) -> None:
    make(store, "web")
    make(store, "other")
    store.detach(*FOREVER, **chosen("web"), name="one")
    stranger = store.detach(*FOREVER, **chosen("other"), name="stranger")
    both = store.detach(*FOREVER, **chosen("other", "web"), name="both")
    assert looked_up(store, stranger, "one") == []
    assert looked_up(store, both, "one") == [address(store, "one")]
    assert looked_up(store, both, "stranger") == [address(store, "stranger")]


def test_the_resolver_is_no_way_between_networks(store: Store) -> None:
    made = {name: make(store, name, internal=name == "inside") for name in ("web", "inside")}
    for name, other in (("web", "inside"), ("inside", "web")):
        serve(store, name, name=name, cap_add=("NET_ADMIN",))
        through = place(store, name).dns[0]
        target = made[other].subnets[0].subnet
        assert store.exec(name, "ip", "route", "add", target, "via", through).code == 0
    there = store.detach(*FOREVER, **chosen("inside"))
    wait_until(lambda: reaches(store, there, address(store, "inside")))
    assert not reaches(store, "web", address(store, "inside"))
    # a question that says to be of another network's container is not answered there
    thread = files.read_word(f"{store.layout.state_networks}/resolver").split()[2]
    said = run("nsenter", "-t", thread, "-n", "cat", "/proc/sys/net/ipv4/conf/all/rp_filter")
    assert said.strip() == "1"


# Is the resolver of a store, and cannot give up its privileges.
POWERFUL = """
import sys
from pycontain.errors import kernel_error
from pycontain.network import resolver

def refuse():
    raise kernel_error("give up privileges", "capset", 1)

resolver._give_up_privileges = refuse
resolver.main(*sys.argv[1:])
"""


def test_nobody_asks_a_resolver_that_has_privileges_yet(store: Store) -> None:
    files.make_folder(store.layout.state_networks)
    argv = [sys.executable, "-c", POWERFUL, store.root, store.state]
    assert subprocess.run(argv, env=python_env(), check=False).returncode == 1
    assert resolving.recorded(store.layout) is None
    said = files.read_word(resolving.ready_path(store.layout))
    assert said == "give up privileges: capset: operation not permitted"
    # and what one has left is in the way of no other
    make(store, "web")
    store.detach(*FOREVER, **chosen("web"))
    with open(f"/proc/{resolver(store)}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    assert "0" not in fields["Uid"].split()
    assert int(fields["CapEff"], 16) == 1 << 2


def test_what_a_container_asks_ends_no_resolver(store: Store) -> None:
    make(store, "web")
    make(store, "inside", internal=True)
    store.detach(*FOREVER, **chosen("inside"), name="one")
    asking = store.detach(*FOREVER, **chosen("inside"))
    running = resolver(store)
    server = place(store, "one").dns[0]
    long = (bytes([63]) + b"a" * 63) * 4 + b"\0\0\1\0\1"
    question = bytes.fromhex("0007 0100 0001 0000 0000 0000") + long
    script = f"import socket; s = socket.socket(2, 2); s.sendto({question!r}, ({server!r}, 53))"
    inside = ["nsenter", "-t", str(store.run_record(asking).pid), "-n"]
    run(*inside, sys.executable, "-c", script)
    assert looked_up(store, asking, "one") == [address(store, "one")]
    assert resolver(store) == running


def test_a_resolver_that_was_killed_is_started_again(store: Store) -> None:
    make(store, "web")
    make(store, "other")
    store.detach(*FOREVER, **chosen("web"), name="one")
    client = store.detach(*FOREVER, **chosen("web"))
    killed = resolver(store)
    os.kill(killed, 9)
    wait_until(lambda: not os.path.exists(f"/proc/{killed}/ns/net"))
    store.detach("true", **chosen("other"))
    assert resolver(store) != killed
    wait_until(lambda: looked_up(store, client, "one") == [address(store, "one")])
    status = leaks.text(f"/proc/{resolver(store)}/status")
    assert "CapEff:\t0000000000000004" in status
    assert "Uid:\t65534\t65534\t65534\t65534" in status
    last = resolver(store)
    store.clear()
    assert resolver(store) == 0
    wait_until(lambda: not os.path.exists(f"/proc/{last}/ns/net"))


ANSWERS = """\
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("198.51.100.2", 53))
    print("ready", flush=True)
    while True:
        question, peer = server.recvfrom(512)
        record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4\\x06\\x07\\x08\\x09"
        name = question[12:question.index(b"\\0", 12) + 5]
        server.sendto(question[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + name + record, peer)
"""


def test_other_names_are_asked_of_the_containers_servers(store: Store, outside: Outside) -> None:
    make(store, "web")
    make(store, "inside", internal=True)
    outside.start(ANSWERS)
    client = store.detach(*FOREVER, **chosen("web"), dns=(outside.address,))
    assert looked_up(store, client, "www.example.com")[0] == "6.7.8.9"
    # of an internal network nothing reaches the outside, questions neither
    alone = store.detach(*FOREVER, **chosen("inside"), dns=(outside.address,))
    assert looked_up(store, alone, "www.example.com") == []


def test_the_host_has_names_in_a_container(store: Store) -> None:
    network = make(store, "web")
    gateway = network.subnets[0].gateway
    hosts = store.sh("cat /etc/hosts", **chosen("web"), add_host=("me:host-gateway",))
    assert f"{gateway}\thost.containers.internal host.docker.internal\n" in hosts
    assert f"{gateway}\tme\n" in hosts
    with pytest.raises(InvalidInput, match="no gateway"):
        store.sh("true", add_host=("me:host-gateway",))


# ---- connect and disconnect ----


def test_a_running_container_is_connected(store: Store) -> None:
    make(store, "web")
    six = make(store, "six", ipv6=True)
    serve(store, "six", name="one")
    client = store.detach(*FOREVER, **chosen("web"), name="client")
    store.engine.networks.connect("six", client, NetworkChoice(name="", aliases=("second",)))
    attachment = place(store, client, 1)
    assert (attachment.interface, attachment.gateways) == ("eth1", (six.subnets[1].gateway,))
    wait_until(lambda: reaches(store, client, address(store, "one")))
    # Between two who ask, nobody listens: each has a server of its own.
    wait_until(lambda: reaches(store, client, address(store, "one", six=True)))
    assert looked_up(store, "one", "second")
    settings = "/proc/sys/net/ipv6/conf"
    assert store.exec(client, "cat", f"{settings}/eth1/accept_ra").stdout == b"0\n"
    assert store.exec(client, "cat", f"{settings}/eth0/disable_ipv6").stdout == b"1\n"
    hosts = store.exec(client, "cat", "/etc/hosts").stdout.decode()
    assert address(store, client, 1) in hosts
    with pytest.raises(Conflict, match="endpoint with name client already exists in network six"):
        store.engine.networks.connect("six", client)
    # and again when it is started again
    store.containers.stop(client, timeout=0)
    store.containers.start(client)
    assert place(store, client, 1).name == "six"


def test_a_running_container_is_disconnected(store: Store) -> None:
    web = make(store, "web")
    other = make(store, "other")
    wanted = {**chosen("web", "other"), "add_host": ("me:host-gateway",)}
    client = store.detach(*FOREVER, **wanted, name="client")
    gone = address(store, client)
    store.engine.networks.disconnect("web", client)
    links = store.exec(client, "ip", "link").stdout.decode()
    assert "eth0" not in links
    assert "eth1" in links
    routes = store.exec(client, "ip", "route").stdout.decode()
    assert f"default via {other.subnets[0].gateway} dev eth1" in routes
    hosts = store.exec(client, "cat", "/etc/hosts").stdout.decode()
    assert gone not in hosts
    assert web.subnets[0].gateway not in hosts
    gateway = other.subnets[0].gateway
    assert f"{gateway}\tme\n{gateway}\thost.containers.internal host.docker.internal\n" in hosts
    wait_until(lambda: netlink.get_link(web.interface) is None)
    with pytest.raises(InvalidInput, match="client is not connected to network web"):
        store.engine.networks.disconnect("web", client)
    store.engine.networks.disconnect("other", client)
    assert "eth" not in store.exec(client, "ip", "link").stdout.decode()
    store.engine.networks.connect("other", client)
    assert store.exec(client, "ip", "-4", "addr", "show", "eth0").code == 0


def test_one_that_does_not_run_is_connected(store: Store) -> None:
    make(store, "web")
    make(store, "other")
    made = store.create("ip", "addr", **chosen("web"), name="made")
    store.engine.networks.connect("other", made.id)
    store.engine.networks.disconnect("web", made.id)
    networks_of = store.view("made").container.options.networks
    assert [choice.name for choice in networks_of] == ["other"]
    with pytest.raises(InvalidInput, match="private"):
        store.engine.networks.connect("web", store.create("true").id)
    with pytest.raises(InvalidInput, match="mode of containers"):
        store.engine.networks.connect("host", made.id)


# ---- made again ----


def test_a_bridge_removed_by_hand_is_made_again(store: Store) -> None:
    network = make(store, "web")
    serve(store, "web", name="one")
    run("ip", "link", "del", network.interface)
    client = store.detach(*FOREVER, **chosen("web"))
    wait_until(lambda: reaches(store, client, address(store, "one")))


def hairpin(store: Store, ref: str, at: int = 0) -> str:
    return leaks.text(f"/sys/class/net/{place(store, ref, at).host_interface}/brport/hairpin_mode")


def test_who_publishes_reaches_itself_after_its_bridge_was_made_again(store: Store) -> None:
    network = make(store, "web")
    make(store, "other")
    one = serve(store, "web", name="one", publish=(Publish(target=80),))
    plain = store.detach(*FOREVER, **chosen("web"))
    port = store.containers.ports("one")[0].port
    gateway = network.subnets[0].gateway
    wait_until(lambda: reaches(store, "one", gateway, port))
    assert (hairpin(store, "one"), hairpin(store, plain)) == ("1\n", "0\n")
    run("ip", "link", "del", network.interface)
    store.sh("true", **chosen("web"))
    assert (hairpin(store, "one"), hairpin(store, plain)) == ("1\n", "0\n")
    wait_until(lambda: reaches(store, "one", gateway, port))
    store.engine.networks.connect("other", one)
    assert hairpin(store, "one", 1) == "1\n"


def elements(table: str) -> list[str]:
    """The words of a table; some sets list their elements as they came."""
    return sorted(firewall.listing(["list", "table", "inet", table]).replace(",", " ").split())


@pytest.mark.parametrize(
    "how",
    [
        "flush set inet {} within",
        "flush set inet {} masked4",
        "delete element inet {} ports4 {{ {} }}",
    ],
)
def test_elements_removed_by_hand_are_put_back(store: Store, how: str) -> None:
    make(store, "web", ipv6=True)
    make(store, "other")
    one = store.detach(*FOREVER, publish=(Publish(target=80),), **chosen("web"))
    store.detach(*FOREVER, **chosen("other"))
    table = networks.table(store.layout)
    before = elements(table)
    firewall.apply(how.format(table, f"tcp . {store.containers.ports(one)[0].port}"))
    assert elements(table) != before
    # Whoever comes, into whichever network.
    store.sh("true", **chosen("other"))
    assert elements(table) == before


@pytest.mark.parametrize("how", ["flush", "delete"])
def test_rules_removed_by_hand_are_made_again(store: Store, how: str) -> None:
    make(store, "web")
    make(store, "other")
    store.detach(*FOREVER, **chosen("other"))
    store.detach(*FOREVER, **chosen("web"))
    table = networks.table(store.layout)
    assert firewall.chains(table) == rules.uses()
    before = firewall.listing(["list", "table", "inet", table])
    firewall.apply(f"{how} table inet {table}")
    assert firewall.chains(table) != rules.uses()
    store.sh("true", **chosen("web"))
    assert firewall.listing(["list", "table", "inet", table]) == before


def test_a_subnet_that_the_host_uses_is_told(store: Store, outside: Outside) -> None:
    make(store, "web", subnets=["10.213.10.0/24"])
    run("ip", "addr", "add", "10.213.10.9/28", "dev", outside.device)
    with pytest.raises(Conflict, match=f"in use on this host by device {outside.device}"):
        store.sh("true", **chosen("web"))
    run("ip", "addr", "del", "10.213.10.9/28", "dev", outside.device)
    store.sh("true", **chosen("web"))


def test_a_bridge_of_somebody_else_is_left_alone(store: Store, outside: Outside) -> None:
    name = f"{outside.device[:12]}br"
    make(store, "web", options={"com.docker.network.bridge.name": name})
    run("ip", "link", "add", name, "type", "bridge")
    try:
        with pytest.raises(Conflict, match=f"the device {name} is there and is not of it"):
            store.sh("true", **chosen("web"))
        store.engine.networks.remove("web")
        assert netlink.get_link(name) is not None
    finally:
        run("ip", "link", "del", name)


def test_a_firewall_that_lets_nothing_through_is_told(store: Store, pycontain: CommandLine) -> None:
    script = (
        'nft add table inet other; nft add chain inet other through "{ type filter hook forward'
        ' priority 5; policy drop; }"; exec "$@"'
    )
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script, "sh", *pycontain.argv, "network", "create", "web"],
        env=python_env(), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"warning: inet other through drops what containers send" in done.stderr
    assert b"nft insert rule inet other through iifname 'pyc*' accept" in done.stderr
    assert pycontain("network", "create", "--internal", "inside").stderr == b""


_STRICT = """
    nft add table inet other
    nft add chain inet other mine '{ type filter hook input priority 0; policy drop; }'
    nft add rule inet other mine iif lo accept
    nft add rule inet other mine ct state established,related accept
    nft add chain inet other through '{ type filter hook forward priority 0; policy drop; }'
    nft add rule inet other through ct state established,related accept
"""
_BRIDGED = "/proc/sys/net/bridge/bridge-nf-call-iptables"


def test_names_work_under_a_firewall_that_drops_by_default(
    store: Store, pycontain: CommandLine, tmp_path: Path
) -> None:
    """What comes in and what is forwarded: names are in the network, and need neither."""
    with isolated.machine(tmp_path) as machine:

        def do(*words: str) -> tuple[str, str]:
            argv = [*machine.words, *pycontain.argv, *words]
            done = subprocess.run(argv, env=python_env(), capture_output=True, check=False)
            assert done.returncode == 0, done
            return done.stdout.decode(), done.stderr.decode()

        machine.do("sh", "-ec", _STRICT)
        if os.path.exists(_BRIDGED):  # as docker has it: then frames in a bridge are forwarded, too
            machine.do("sh", "-c", f"echo 1 > {_BRIDGED}")
        _, told = do("network", "create", "web")
        # The remedy that is told for what goes out is all that is needed.
        machine.do("sh", "-ec", told.partition("hint: ")[2])
        try:
            do("run", "-d", "--name", "one", "--network", "web", "busybox", *FOREVER)
            script = "nslookup one && ping -qc1 -W 30 one && nslookup any.example"
            said, _ = do("run", "--rm", "--network", "web", "busybox", "sh", "-c", script)
            assert " 0% packet loss" in said
            assert isolated.ANSWER in said
        finally:
            do("rm", "-f", "one")
            wait_until(lambda: "pycontain" not in machine.do("nft", "list", "tables"))


# ---- verbs ----


def test_a_network_in_use_is_not_removed(store: Store) -> None:
    network = make(store, "web")
    one = store.detach(*FOREVER, **chosen("web"), name="one")
    with pytest.raises(Conflict, match="has active endpoints"):
        store.engine.networks.remove("web")
    (member,) = store.engine.networks.view("web").members
    assert (member.id, member.name) == (one, "one")
    assert store.engine.networks.prune() == []
    store.containers.kill(one, 9)
    assert store.engine.networks.prune() == []  # the container still asks for it
    store.engine.networks.remove("web")
    assert not os.path.exists(f"{store.layout.state_networks}/{network.id}")
    with pytest.raises(NotFound, match="network web not found"):
        store.containers.start(one)
    with pytest.raises(Conflict, match="pre-defined"):
        store.engine.networks.remove("bridge")


def test_prune_takes_what_nobody_asks_for(store: Store) -> None:
    make(store, "web", labels={"team": "a"})
    make(store, "other")
    store.create("true", **chosen("other"))
    assert store.engine.networks.prune(lambda network: not network.labels) == []
    assert store.engine.networks.prune() == ["web"]
    assert [network.name for network in store.engine.networks.list()] == [
        "bridge", "host", "none", "other",
    ]  # fmt: skip


def test_what_happens_is_told(store: Store) -> None:
    network = make(store, "web")
    one = store.detach(*FOREVER, **chosen("web"))
    store.containers.remove(one, force=True)
    store.engine.networks.remove("web")
    with store.engine.events.read(follow=False, filters={"network": ["web"]}) as stream:
        told = [(event.action, event.id, event.attributes.get("container")) for event in stream]
    assert told == [
        ("create", network.id, None),
        ("connect", network.id, one),
        ("disconnect", network.id, one),
        ("destroy", network.id, None),
    ]


def test_inspect_says_who_is_in_it(store: Store, pycontain: CommandLine) -> None:
    made = pycontain("network", "create", "--subnet", "10.213.11.0/24", "-o", "mtu=1400", "web")
    identity = made.stdout.decode().strip()
    one = store.detach("sh", "-c", "ip link; sleep 1000", **chosen("web"), name="one")
    (document,) = json.loads(pycontain("network", "inspect", identity[:6]).stdout)
    assert document["Id"] == identity
    assert document["IPAM"]["Config"] == [{"Subnet": "10.213.11.0/24", "Gateway": "10.213.11.1"}]
    assert document["Options"] == {"mtu": "1400"}
    assert document["Containers"][one]["Name"] == "one"
    assert document["Containers"][one]["IPv4Address"] == "10.213.11.2/24"
    assert document["Containers"][one]["MacAddress"] == "02:42:0a:d5:0b:02"
    wait_until(lambda: b"mtu 1400" in store.log(one))
    assert pycontain("network", "exists", "web").returncode == 0
    assert pycontain("network", "exists", "nosuch").returncode == 1
    # what is asked for and is not there does not hide what is
    both = pycontain("network", "inspect", "nosuch", "web")
    assert both.returncode == 1
    assert json.loads(both.stdout)[0]["Name"] == "web"
