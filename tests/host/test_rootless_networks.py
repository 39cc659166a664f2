"""An ordinary user's networks: the same bridges, names and ports, in a namespace of the user's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import isolated
import leaks
import pytest
from harness import wait_until
from ordinary import User, ordinary_user, processes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isolated import Machine

pytestmark = pytest.mark.host

OUTSIDE = f"http://{isolated.OUTSIDE4}:7777/"
SERVE = "while :; do echo hello | nc -l -p 80; done"
ECHO_UDP = """\
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 53))
print("ready", flush=True)
while True:
    data, peer = server.recvfrom(100)
    server.sendto(data.upper(), peer)
"""
# Connected sockets: an answer from another address than was asked does not arrive.
ASK_UDP = """\
import socket, sys
for address in sys.argv[2:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(20)
        asking.connect((address, int(sys.argv[1])))
        asking.send(b"hello")
        print(asking.recv(100).decode())
"""
TOOLS = ("newuidmap", "newgidmap", "sh")
SCRIPT = """\
import sys
sys.path.insert(0, {place!r})
from pycontain import Engine
from pycontain.model.container import NetworkChoice, Publish
engine = Engine()
"""


class Networked(User):
    """A user on a machine of its own, whose commands have networks by default."""

    machine: Machine
    path = "/usr/bin:/bin:/usr/sbin"

    def environment(self, more: dict[str, str] | None = None) -> dict[str, str]:
        # An empty variable is as if it were not set.
        own = {"PYCONTAIN_NETWORK": "", "PATH": self.path}
        return super().environment({**own, **(more or {})})

    @property
    def state(self) -> Path:
        return Path(f"/tmp/pycontain-{self.entry.pw_uid}")

    def good(self, *words: str) -> str:
        done = self.run(*words)
        assert (done.returncode, done.stderr.decode()) == (0, ""), words
        return done.stdout.decode()

    def bad(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode != 0
        return done.stderr.decode()

    def process(self, name: str) -> int:
        """The pid in one of the records of the state folder."""
        return int(json.loads((self.state / f"{name}.json").read_text())["pid"])

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in self.alive())

    def alive(self) -> dict[int, str]:
        """Pid and name of the processes of the user that have not ended."""
        found = {}
        for pid in processes_of(self.entry.pw_uid):
            status = leaks.text(f"/proc/{pid}/status")
            if status and "\nState:\tZ" not in status:
                found[pid] = status.split()[1]
        return found

    def within(self, *words: str) -> str:
        """What a command says in the namespace of the networks."""
        enter = ["nsenter", "-t", str(self.process("userns")), "-n"]
        return subprocess.run([*enter, *words], check=True, capture_output=True, text=True).stdout

    def is_down(self) -> bool:
        """Whether nothing is left of networks but the namespace."""
        return (
            not (self.state / "outside.json").exists()
            and len(self.within("ip", "-o", "link").splitlines()) == 1
            and not self.within("nft", "list", "tables")
            and set(self.alive().values()) <= {"pycontain-usern"}
        )


@pytest.fixture(scope="module")
def user(whole_host: None) -> Iterator[Networked]:
    for program in ("nft", "ip", "ss", "nsenter"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    if not shutil.which("pasta"):
        pytest.skip("needs pasta, of the package passt")
    with ordinary_user() as plain:
        user = Networked(plain.home, Path(plain.command[0]).parent)
        with isolated.machine(user.home) as machine:
            user.elsewhere, user.machine = machine.words, machine
            # Makes the user's namespaces, whose holder stays: before the leak fixture looks.
            done = user.run("run", "--rm", "--network", "none", "busybox", "true")
            assert done.returncode == 0, done.stderr
            yield user
            wait_until(user.is_down)


@pytest.fixture(autouse=True)
def nothing_runs(user: Networked) -> Iterator[None]:
    yield
    store = user.home / ".local/share/pycontain"
    names = os.listdir(store / "containers")
    if names:
        user.good("rm", "-f", *names)
    if any(path.stem != "bridge" for path in store.glob("networks/*.json")):
        user.good("network", "prune", "-f")


@contextlib.contextmanager
def tools(user: Networked, *more: str) -> Iterator[None]:
    """Let the user find no more programs than these and what it cannot do without."""
    folder = user.home / "bin"
    folder.mkdir()
    for name in (*TOOLS, *more):
        (folder / name).symlink_to(str(shutil.which(name)))
    user.path = str(folder)
    try:
        yield
    finally:
        user.path = Networked.path
        shutil.rmtree(folder)


def test_a_container_has_a_way_out_by_default_and_the_host_stays_behind(user: Networked) -> None:
    script = f"""
        wget -qO- {OUTSIDE}
        nslookup any.example
        cat /etc/hosts /etc/resolv.conf
        for near in 127.0.0.1 169.254.71.2 169.254.71.3 host.docker.internal; do
            timeout 1 wget -qO- http://$near:7777/ 2>&1 && echo reached $near
        done
        true
    """
    out = user.good("run", "--rm", "busybox", "sh", "-c", script)
    assert f"outside {isolated.HERE4}\n" in out
    assert f"Address: {isolated.ANSWER}" in out
    assert f"{isolated.HERE4}\thost.containers.internal host.docker.internal\n" in out
    assert "nameserver 169.254.71.3\n" in out
    # What listens on the loopback alone is the host's own, and so is its resolver but for DNS.
    assert "reached" not in out


def test_published_ports_lead_to_a_container_from_everywhere(user: Networked) -> None:
    machine = user.machine
    user.good("run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "busybox",
              "sh", "-c", SERVE)  # fmt: skip
    near = ["127.0.0.1", isolated.HERE4, *(["::1"] if isolated.HAS_IPV6 else [])]
    for address in near:
        assert machine.ask(address, 8080) == "hello\n"
    assert machine.ask("127.0.0.1", 8081) == "hello\n"
    assert machine.ask(isolated.HERE4, 8080, machine.outside) == "hello\n"
    with pytest.raises(AssertionError, match="refused"):
        machine.ask(isolated.HERE4, 8081, machine.outside)
    ask = "nc host.containers.internal 8080 </dev/zero"
    assert user.good("exec", "web", "sh", "-c", ask) == "hello\n"
    assert "80/tcp -> 0.0.0.0:8080\n" in user.good("port", "web")
    assert "allocated by container web" in user.bad("run", "--rm", "-p", "8080:1", "busybox")
    refusal = user.bad("run", "--rm", "-p", "80:80", "busybox", "true")
    assert "0.0.0.0:80/tcp: permission denied" in refusal
    assert "net.ipv4.ip_unprivileged_port_start" in refusal
    # They follow the container from network to network.
    user.good("network", "create", "lan")
    user.good("network", "connect", "lan", "web")
    user.good("network", "disconnect", "bridge", "web")
    assert machine.ask("127.0.0.1", 8080) == "hello\n"
    user.good("rm", "-f", "web")
    with pytest.raises(AssertionError, match="refused"):
        machine.ask("127.0.0.1", 8080)
    user.good("network", "rm", "lan")
    wait_until(user.is_down)


def test_published_datagrams_come_in_too(user: Networked) -> None:
    assert_datagrams_come_in(user)


def assert_datagrams_come_in(user: Networked) -> None:
    machine = user.machine
    user.good("run", "-d", "--name", "dns", "-p", "5353:53/udp", "busybox", "sleep", "1000")
    pid = user.good("inspect", "-f", "{{.State.Pid}}", "dns").strip()
    enter = ["nsenter", "-t", pid, "-n", sys.executable, "-IS", "-c", ECHO_UDP]
    ask = [sys.executable, "-IS", "-c", ASK_UDP, "5353"]
    near = ["127.0.0.1", isolated.HERE4, *(["::1"] if isolated.HAS_IPV6 else [])]
    with subprocess.Popen(enter, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            assert machine.do(*ask, *near) == "HELLO\n" * len(near)
            far = subprocess.run(
                [*machine.outside, *ask, isolated.HERE4], capture_output=True, check=True
            )
            assert far.stdout == b"HELLO\n"
        finally:
            server.kill()
    assert "53/udp -> 0.0.0.0:5353\n" in user.good("port", "dns")


def test_containers_of_a_network_find_each_other_by_name(user: Networked) -> None:
    user.good("network", "create", "lan")
    user.good("run", "-d", "--name", "db", "--network", "lan", "busybox", "sleep", "1000")
    user.good("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    user.good("network", "connect", "--alias", "front", "lan", "web")
    script = (
        f"ping -qc1 -W 30 db && ping -qc1 -W 30 front && nslookup x.example && wget -qO- {OUTSIDE}"
    )
    out = user.good("run", "--rm", "--network", "lan", "busybox", "sh", "-c", script)
    assert out.count(" 0% packet loss") == 2
    assert isolated.ANSWER in out
    assert "outside" in out
    members = json.loads(user.good("network", "inspect", "lan"))[0]["Containers"].values()
    assert sorted(member["Name"] for member in members) == ["db", "web"]
    user.good("network", "disconnect", "lan", "web")
    assert user.good("exec", "web", "ls", "/sys/class/net").split() == ["eth0", "lo"]


@pytest.mark.skipif(not isolated.HAS_IPV6, reason="this kernel has no IPv6")
def test_ipv6_goes_out_too(user: Networked) -> None:
    wait_until(user.is_down)  # what leads out may be slirp4netns, of another test
    user.good("network", "create", "--ipv6", "six")
    out = user.good("run", "--rm", "--network", "six", "busybox", "wget", "-qO-",
                    f"http://[{isolated.OUTSIDE6}]:7777/")  # fmt: skip
    assert out == f"outside {isolated.HERE6}\n"


def test_whatever_is_killed_the_next_command_repairs(user: Networked) -> None:
    user.good("run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", SERVE)
    before = user.process("outside")
    user.kill(before)
    user.good("run", "--rm", "busybox", "wget", "-qO-", OUTSIDE)
    assert user.process("outside") != before
    assert "outside" in user.good("exec", "web", "wget", "-qO-", OUTSIDE)

    # The namespaces go on in the monitor; a new holder finds them.
    holder = user.process("userns")
    user.kill(holder)
    assert "outside" in user.good("run", "--rm", "busybox", "wget", "-qO-", OUTSIDE)
    assert user.process("userns") != holder
    assert user.good("exec", "web", "echo", "joined") == "joined\n"
    assert user.machine.ask("127.0.0.1", 8080) == "hello\n"
    assert user.good("ps", "-q") != ""

    # Its own: that of what has just ended, or of an exec, may be at its last.
    (record,) = user.state.glob("containers/*/run.json")
    user.kill(int(json.loads(record.read_text())["monitor"]))
    assert user.good("ps", "-q") == ""
    user.good("start", "web")
    assert user.machine.ask("127.0.0.1", 8080) == "hello\n"
    assert "outside" in user.good("exec", "web", "wget", "-qO-", OUTSIDE)


def test_when_all_is_killed_the_next_command_begins_anew(user: Networked) -> None:
    # The resolver goes on: to the host it is not the user's, but another of its ids.
    user.good("network", "create", "lan")
    user.good("run", "-d", "--name", "web", "--network", "lan", "-p", "8080:80", "busybox",
              "sleep", "1000")  # fmt: skip
    for pid in user.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not user.alive())
    user.good("start", "web")
    script = f"ping -qc1 -W 30 web >/dev/null && wget -qO- {OUTSIDE}"
    out = user.good("run", "--rm", "--network", "lan", "busybox", "sh", "-c", script)
    assert "outside" in out


def test_slirp4netns_does_the_same(user: Networked) -> None:
    if not shutil.which("slirp4netns"):
        pytest.skip("needs slirp4netns")
    near = "timeout 1 wget -qO- http://169.254.71.2:7777/ 2>&1 && echo reached"
    script = f"wget -qO- {OUTSIDE}; nslookup any.example; cat /etc/resolv.conf; {near}; true"
    with tools(user, "slirp4netns"):
        # What runs already would do: it ends with its last user.
        wait_until(user.is_down)
        out = user.good("run", "--rm", "busybox", "sh", "-c", script)
        assert "slirp4netns" in user.alive().values()
        assert_datagrams_come_in(user)
    assert "outside" in out
    assert isolated.ANSWER in out
    assert "nameserver 169.254.71.3" in out
    assert "reached" not in out


def test_without_either_program_there_is_no_network_unless_asked_for(user: Networked) -> None:
    with tools(user):
        assert user.good("run", "--rm", "busybox", "ls", "/sys/class/net").split() == ["lo"]
        refusal = user.bad("run", "--rm", "--network", "bridge", "busybox", "true")
        assert "install the package passt (pasta), or else slirp4netns" in refusal
        # Nor is what configuration asks for silently something else.
        done = user.run("run", "--rm", "busybox", "true", env={"PYCONTAIN_NETWORK": "bridge"})
        assert b"passt" in done.stderr
        assert user.good("info", "-f", "{{.RootlessNetwork}}").startswith("none: ")
        rows = user.run("system", "check").stdout.decode().splitlines()
    [row] = [row for row in rows if "way out of networks" in row]
    assert row.startswith("missing")
    assert "passt" in row


def test_a_host_that_is_not_connected_still_has_networks(user: Networked) -> None:
    user.machine.do("ip", "link", "set", "up0", "down")
    try:
        user.good("run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", SERVE)
        assert user.machine.ask("127.0.0.1", 8080) == "hello\n"
    finally:
        user.machine.do("sh", "-ec", isolated.CONNECT)
    # The next start finds that it is again.
    user.good("run", "--rm", "busybox", "true")
    assert "outside" in user.good("exec", "web", "wget", "-qO-", OUTSIDE)


def test_the_python_api_has_networks_too(user: Networked) -> None:
    place = Path(user.command[0])
    python = place.read_text().split()[0].removeprefix("#!")
    script = SCRIPT.format(place=str(place.parent)) + textwrap.dedent(
        f"""
        import os
        before = os.readlink("/proc/self/ns/net")
        made = engine.networks.create("lan")
        assert [one.name for one in engine.networks.list()] == ["bridge", "host", "lan", "none"]
        with engine.start(
            "busybox", ["sh", "-c", {SERVE!r}], name="web", network="bridge",
            networks=(NetworkChoice(name="lan"),),
            publish=(Publish(first=8080, last=8080, target=80),),
        ) as web:
            sys.stdout.write(web.exec(["wget", "-qO-", {OUTSIDE!r}]).stdout.decode())
            [member] = engine.networks.view("lan").members
            assert member.name == "web"
            import socket
            with socket.create_connection(("127.0.0.1", 8080), 10) as asking:
                print(asking.recv(100).decode(), end="")
        assert os.readlink("/proc/self/ns/net") == before
        assert engine.networks.prune(lambda network: network.id == made.id) == ["lan"]
        """
    )
    done = user.do([python, "-IS", "-c", script])
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert done.stdout.decode() == f"outside {isolated.HERE4}\nhello\n"


def test_a_pod_has_ports_and_its_holder_may_be_killed(user: Networked) -> None:
    machine = user.machine
    state = Path(f"/tmp/pycontain-{user.entry.pw_uid}/pods")
    identity = user.good("pod", "create", "-p", "8080:80", "mine").strip()
    user.good("run", "-d", "--init", "--name", "web", "--pod", "mine", "busybox", "sh", "-c", SERVE)
    assert machine.ask("127.0.0.1", 8080) == "hello\n"
    assert machine.ask(isolated.HERE4, 8080, machine.outside) == "hello\n"
    before = user.good("exec", "web", "readlink", "/proc/self/ns/net")
    held = json.loads((state / identity / "run.json").read_text())
    os.kill(held["monitor"], signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{held['monitor']}"))
    assert user.good("pod", "inspect", "-f", "{{.State}} {{.Sandbox}}", "mine") == "Degraded lost\n"
    user.good("pod", "start", "mine")
    assert machine.ask("127.0.0.1", 8080) == "hello\n"
    ask = ("run", "--rm", "--pod", "mine", "busybox", "readlink", "/proc/self/ns/net")
    assert user.good(*ask) == before
    user.good("pod", "rm", "-f", "mine")
    with pytest.raises(AssertionError, match="refused"):
        machine.ask("127.0.0.1", 8080)
