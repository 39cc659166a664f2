"""Real servers of the built-in recipes: a web tier, a cache and a database.

Run one by one in a network; and declared in one manifest, with anything killed at any time. They
are in one file because their images take two minutes to build, once for each process of tests.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import CommandLine, python_env, wait_until
from leaks import names, target
from pace import seconds

from pycontain.engine import networks, records, supervision
from pycontain.errors import InvalidState, NotFound
from pycontain.kernel import firewall, process
from pycontain.pod import manifest
from pycontain.pod.declared import Declarations
from pycontain.pod.play import Kube
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Store

    from pycontain.model.container import RunRecord

pytestmark = [
    pytest.mark.host,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mmdebstrap as root"),
    pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="mmdebstrap is not installed"),
]

PASSWORD = "it's a secret"
SEED = "PYCONTAIN_TEST_SEED"
LENGTH = "PYCONTAIN_TEST_CHAOS_SECONDS"
SHOP = Path(__file__).with_name("kube_web.yaml")
# A container that is killed for the fourth time waits for 40 s.
MOST = 3
BEGIN = seconds(120)
END = seconds(180)


# ---- run one by one ----


def fetched(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        found: bytes = answer.read()
    return found


def serves(port: int) -> bool:
    """Whether the server behind a port has begun."""
    try:
        return bool(fetched(port))
    except OSError:
        return False


def test_a_web_tier_a_cache_and_a_database(servers: Store) -> None:
    pycontain = CommandLine(servers)

    def out(*args: str) -> str:
        done = pycontain(*args)
        assert done.returncode == 0, done
        return done.stdout.decode()

    def in_network(image: str, *words: str, **env: str) -> str:
        flags = [word for name, value in env.items() for word in ("-e", f"{name}={value}")]
        program, *arguments = words
        asked = ("run", "--rm", "--network", "app", *flags, "--entrypoint", program, image)
        return out(*asked, *arguments)

    def sql(text: str) -> str:
        words = ("psql", "-h", "db", "-U", "shop", "-Atc", text)
        return in_network("postgres:bookworm", *words, PGPASSWORD=PASSWORD)

    def has_database() -> bool:
        # Its first start makes the database, with a server that listens nowhere.
        ready = "/usr/lib/postgresql/*/bin/pg_isready -q -h 127.0.0.1"
        return pycontain("exec", "db", "sh", "-c", ready).returncode == 0

    database = (
        "run", "-d", "--name", "db", "--network", "app", "-v", "shop:/var/lib/postgresql/data",
        "-e", "POSTGRES_USER=shop", "-e", f"POSTGRES_PASSWORD={PASSWORD}", "postgres:bookworm",
    )  # fmt: skip
    out("network", "create", "app")
    out("run", "-d", "--name", "web", "--network", "app", "-P", "nginx:bookworm")
    out("run", "-d", "--name", "cache", "--network", "app", "redis:bookworm")
    out(*database)

    # From the host, from a neighbour, and from where another server runs.
    port = int(out("port", "web", "80/tcp").splitlines()[0].rpartition(":")[2])
    wait_until(lambda: serves(port))
    assert b"Welcome to nginx" in fetched(port)
    assert "Welcome to nginx" in in_network("busybox", "wget", "-qO-", "http://web/")
    wait_until(lambda: pycontain("exec", "cache", "redis-cli", "ping").stdout == b"PONG\n")
    assert in_network("redis:bookworm", "redis-cli", "-h", "cache", "incr", "visits") == "1\n"
    assert out("exec", "cache", "redis-cli", "-h", "cache", "incr", "visits") == "2\n"
    wait_until(has_database, seconds(60))
    assert sql("create table orders (id int); insert into orders values (7), (8)")
    assert sql("select sum(id) from orders") == "15\n"
    assert "GET / HTTP/1.1" in out("logs", "web")

    # What is in a volume outlives the container.
    out("rm", "-f", "db")
    out(*database)
    wait_until(has_database, seconds(60))
    assert sql("select count(*) from orders") == "2\n"

    # Each recipe names the signal that its server takes for a polite request.
    out("stop", "web", "cache", "db")
    codes = out("inspect", "-f", "{{.State.ExitCode}}", "web", "cache", "db")
    assert codes.split() == ["0", "0", "0"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=30)
    out("rm", "-v", "web", "cache", "db")
    out("network", "rm", "app")
    out("volume", "rm", "shop")


# ---- declared, and killed at random ----


class Shop:
    """What the manifest declares, in one store, and who kills it.

    Args:
        store: with the images.
        seed: of what is done.
    """

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.pods = Pods(store.engine)
        self.kube = Kube(store.engine)
        self.objects = manifest.parse(SHOP.read_text(), strict=True).objects
        self.names = [(one.kind, one.name) for one in self.objects]
        self.killed: Counter[str] = Counter()  # containers, by id
        self.done: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._command_line = CommandLine(store)

    def out(self, *args: str) -> str:
        """Output of a command, which must succeed."""
        env = python_env(PYCONTAIN_NETWORK="bridge")
        done = subprocess.run(
            [*self._command_line.argv, *args],
            capture_output=True, timeout=seconds(120), check=False, env=env,
        )  # fmt: skip
        assert done.returncode == 0, done
        return done.stdout.decode()

    # ---- what is true ----

    def lacks(self, *names: tuple[str, str]) -> str:
        """What is not as declared, of all or of some, in words; empty: nothing."""
        try:
            self.kube.await_ready(names or self.names, timeout=0)
        except (InvalidState, NotFound) as err:
            return str(err)
        return ""

    def become_ready(self, patience: float) -> None:
        end = time.monotonic() + patience
        while lacking := self.lacks():
            assert time.monotonic() < end, f"{lacking}; done until then: {dict(self.done)}"
            time.sleep(0.2)

    def replicas(self) -> list[str]:
        """Names of the web tier's pods."""
        names = Declarations(self.store.layout).names("Pod")
        return [name for name in names if name.startswith("web-")]

    def address(self, pod: str) -> str:
        found = networks.attachments(self.store.layout, self.pods.get(pod).pod.id)
        return found[0].addresses[0].partition("/")[0]

    def page(self, pod: str) -> str:
        with urllib.request.urlopen(f"http://{self.address(pod)}/", timeout=30) as answer:
            text: bytes = answer.read()
        return text.decode()

    def has_a_container(self, name: str) -> bool:
        """Whether a container of the web tier runs."""
        views = self.store.containers.list()
        return any(view.container.name.endswith(f"-{name}") for view in views)

    def sql(self, text: str) -> str:
        # One that runs: the other replica may be on its way.
        running = (view.container.name for view in self.store.containers.list())
        app = next(name for name in running if name.endswith("-app"))
        return self.out("exec", app, "psql", "-h", "database", "-Atc", text)

    # ---- who kills ----

    def go_on_for(self, duration: float) -> None:
        """Do one thing after the other, as the seed says."""
        acts: tuple[Callable[[], str], ...] = (
            self.kill_a_container, self.kill_a_container, self.kill_a_holder,
            self.kill_the_supervisor, self.remove_a_replica, self.remove_a_container,
        )  # fmt: skip
        end = time.monotonic() + duration
        while time.monotonic() < end:
            what = self._random.choice(acts)()
            print(f"{end - time.monotonic():6.1f} s: {what}")
            time.sleep(self._random.choice((0.0, 0.05, 0.5, 2.0)))

    def kill_a_container(self) -> str:
        """Its program or its monitor, either of which ends its run."""
        views = [
            view for view in self.store.containers.list() if self.killed[view.container.id] < MOST
        ]
        if not views:
            return "no container"
        view = self._random.choice(sorted(views, key=lambda view: view.container.name))
        record = records.load_run(view.paths)
        if record is None:
            return "no run"
        self.killed[view.container.id] += 1
        return f"{view.container.name}: {self._kill_one_of(record, 'container')}"

    def kill_a_holder(self) -> str:
        """One of what holds a pod's sandbox."""
        name = self._random.choice(sorted(self.pods.names().values()))
        try:
            record = records.load_run(self.pods.get(name).paths)
        except NotFound:
            record = None
        if record is None:
            return f"{name}: no sandbox"
        return f"{name}: {self._kill_one_of(record, 'sandbox')}"

    def _kill_one_of(self, record: RunRecord, kind: str) -> str:
        if self._random.choice((True, False)):
            kill(record.monitor, record.monitor_start)
            self.done[f"monitor of a {kind}"] += 1
            return "monitor"
        kill(record.pid, record.pid_start)
        self.done[kind] += 1
        return kind

    def kill_the_supervisor(self) -> str:
        found = supervision.recorded(self.store.layout)
        if found is not None:
            kill(*found)
            self.done["supervisor"] += 1
        return "supervisor"

    def remove_a_replica(self) -> str:
        name = self._random.choice(self.replicas() or [""])
        return self._remove(name, "pod", "rm", "-f", name)

    def remove_a_container(self) -> str:
        views = self.store.containers.list(all=True)
        names = sorted(view.container.name for view in views)
        name = self._random.choice(names or [""])
        return self._remove(name, "rm", "-f", "-v", name)

    def _remove(self, name: str, *words: str) -> str:
        if name:
            self.out(*words)
            self.done[" ".join(words[:-1])] += 1
        return f"{name}: {' '.join(words[:-1])}"


def kill(pid: int, start: int) -> None:
    """SIGKILL, where that process still runs."""
    pidfd = process.open_process(pid, start)
    if pidfd is not None:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


@pytest.fixture
def shop(servers: Store) -> Iterator[Shop]:
    seed = int(os.environ.get(SEED) or random.randrange(1 << 32))
    print(f"{SEED}={seed}")
    shop = Shop(servers, seed)
    yield shop
    shop.kube.down(shop.objects, force=True)


def test_what_is_declared_becomes_true_whatever_is_killed(shop: Shop) -> None:
    shop.out("kube", "apply", str(SHOP))
    wait_until(lambda: not shop.lacks(("Pod", "database")) and shop.has_a_container("app"), BEGIN)
    assert shop.sql("create table orders (id int); insert into orders values (7), (8)")
    shop.become_ready(BEGIN)

    shop.go_on_for(float(os.environ.get(LENGTH) or 45.0))

    shop.become_ready(END)
    assert len(shop.replicas()) == 2
    pages = {name: answer(shop, name) for name in shop.replicas()}
    assert all("2 orders, their sum is 15" in page for page in pages.values()), pages
    wait_until(lambda: holds_one_descriptor_each(shop), END)

    shop.out("kube", "down", "--force", str(SHOP))
    wait_until(lambda: not supervision.lives(shop.store.layout))
    # Not before: who takes a last look at what is gone makes its lock for a moment.
    assert shop.store.left_of_declared() == []
    wait_until(lambda: networks.table(shop.store.layout) not in tables())


def answer(shop: Shop, pod: str) -> str:
    """The page of a pod, where what is behind it may be just coming up."""
    end = time.monotonic() + END
    while True:
        try:
            return shop.page(pod)
        except (urllib.error.URLError, OSError) as err:
            assert time.monotonic() < end, err
        time.sleep(0.2)


def holds_one_descriptor_each(shop: Shop) -> bool:
    """Whether the supervisor has a pidfd for each monitor and each holder, and no other."""
    found = supervision.recorded(shop.store.layout)
    if found is None:
        return False
    folder = f"/proc/{found[0]}/fd"
    # It opens and closes files meanwhile.
    opened = list(filter(None, (target(f"{folder}/{fd}") for fd in names(folder))))
    kept = len(shop.store.containers.list()) + len(shop.pods.names())
    return sum("pidfd" in path for path in opened) == kept and len(opened) <= kept + 16


def tables() -> list[str]:
    return [line.split()[-1] for line in firewall.listing(["list", "tables"]).splitlines()]
