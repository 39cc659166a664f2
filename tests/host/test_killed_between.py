"""Who is killed between two steps, as between a change and telling of it: the next to look sees it.

A supervisor hears of changes by events, and now and then looks at everything; here twice a second.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from harness import CommandLine, free_port, wait_until
from killed import is_killed, killed

from pycontain.engine import networks, records, sandbox, supervision
from pycontain.errors import InvalidState, PycontainError
from pycontain.kernel import firewall, process
from pycontain.model.container import HealthCheck, Mount, NetworkChoice, RunOptions
from pycontain.model.restart import parse_restart
from pycontain.pod import manifest
from pycontain.pod.declared import Declarations
from pycontain.pod.play import Kube
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness import Store

    from pycontain.store.layout import Layout

pytestmark = pytest.mark.host

ALWAYS = parse_restart("always")
FOREVER = ("sleep", "1000")
QUICK = """\
import sys
sys.path[:0] = sys.argv[3].split(":")
from pycontain.supervisor import main
main._EACH = 0.5
real = main.Supervisor._end_if_idle
def looked(self):
    main.Supervisor._end_if_idle = real
    print("looked at all", flush=True)
    real(self)
main.Supervisor._end_if_idle = looked
main.main(sys.argv[1], sys.argv[2])
"""
TELL = "pycontain.engine.events:Events.tell"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  hostNetwork: true
  restartPolicy: POLICY
  containers: [{name: up, image: busybox, command: [sh, -c, "COMMAND"]}]
"""
HOOKED = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  hostNetwork: true
  initContainers: [{name: first, image: busybox, command: ["true"]}]
  containers:
  - name: up
    image: busybox
    command: [sleep, "1000"]
    env: [{name: SAID, value: WORD}]
    lifecycle:  # that of its first run has no end
      postStart:
        exec: {command: [sh, -c, "test -e /done || { touch /done; sleep 1000; }"]}
"""
SEVERAL = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: several}
spec:
  replicas: 1
  selector: {matchLabels: {app: several}}
  template:
    metadata: {labels: {app: several}}
    spec:
      terminationGracePeriodSeconds: 0
      hostNetwork: true
      containers: [{name: up, image: busybox, command: [sleep, "1000"]}]
"""


def pod(command: str = "sleep 1000", policy: str = "Always") -> str:
    return POD.replace("COMMAND", command).replace("POLICY", policy)


@pytest.fixture
def kube(store: Store) -> Iterator[Kube]:
    kube = Kube(store.engine)
    yield kube
    kube.down([*manifest.parse(pod()).objects, *manifest.parse(SEVERAL).objects])


@pytest.fixture
def pods(store: Store) -> Iterator[Pods]:
    pods = Pods(store.engine)
    yield pods
    for name in pods.names().values():
        pods.remove(name, force=True)


@pytest.fixture
def pycontain(store: Store) -> CommandLine:
    return CommandLine(store)


@pytest.fixture
def watched(store: Store) -> Iterator[Callable[[], None]]:
    """Puts a supervisor in the place of the one that lives which looks at everything more often."""
    children: list[subprocess.Popen[bytes]] = []

    def tried() -> bool:
        supervision.end(store.layout)
        argv = [sys.executable, "-ISB", "-c", QUICK, store.root, store.state]
        path = ":".join(filter(None, sys.path))
        child = subprocess.Popen([*argv, path], stdout=subprocess.PIPE)
        children.append(child)
        assert child.stdout
        return child.stdout.readline() != b""

    def begin() -> None:
        wait_until(tried)  # a monitor may wake another one first

    yield begin
    for child in children:
        child.kill()
        child.communicate()


def running(store: Store) -> list[str]:
    views = store.containers.list()
    return [view.container.name for view in views if view.status.state == "running"]


# ---- while a supervisor lives ----


def test_a_new_policy(store: Store, watched: Callable[[], None]) -> None:
    store.detach(*FOREVER, name="other", restart=ALWAYS)
    store.detach(*FOREVER, name="box")
    watched()
    killed(store, TELL, "update", "--restart", "always", "box", given="update")
    before = store.run_record("box").pid
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: "box" in running(store) and store.run_record("box").pid != before)


def test_a_start(store: Store, watched: Callable[[], None]) -> None:
    store.detach(*FOREVER, name="other", restart=ALWAYS)
    store.detach(*FOREVER, name="box", restart=ALWAYS)
    store.containers.stop("box", timeout=0)
    watched()
    killed(store, "pycontain.engine.containers:Containers._launch", "start", "box")
    wait_until(lambda: "box" in running(store))


def test_an_unpause(store: Store, watched: Callable[[], None]) -> None:
    check = HealthCheck(test=("CMD-SHELL", "test ! -e /bad"), interval=100_000_000, retries=1)
    store.detach(*FOREVER, name="box", health=check)
    watched()
    wait_until(lambda: health_of(store, "box") == "healthy")
    store.containers.pause("box")
    killed(store, TELL, "unpause", "box", given="unpause")
    store.exec("box", "touch", "/bad")
    wait_until(lambda: health_of(store, "box") == "unhealthy")


def health_of(store: Store, name: str) -> str:
    found = store.containers.health(name)
    return found.status if found else ""


def test_a_removed_container_of_a_declared_pod(
    store: Store, kube: Kube, watched: Callable[[], None]
) -> None:
    kube.apply(manifest.parse(pod("exit 3")).objects)
    watched()
    wait_until(lambda: supervision.load(store.view("web-up").paths).due > time.time_ns())
    before = store.view("web-up").container.id
    killed(store, TELL, "rm", "-f", "web-up", given="destroy")
    wait_until(lambda: before not in ids(store) and len(ids(store)) == 1)


def ids(store: Store) -> list[str]:
    return [view.container.id for view in store.containers.list(all=True)]


def test_the_first_declaration(
    store: Store, kube: Kube, watched: Callable[[], None], tmp_path: Path
) -> None:
    store.detach(*FOREVER, name="other", restart=ALWAYS)
    watched()
    path = tmp_path / "pod.yaml"
    path.write_text(pod())
    killed(store, "pycontain.pod.declared:Declarations._tell", "kube", "apply", str(path))
    wait_until(lambda: "web-up" in running(store))


def test_a_monitor_of_what_is_not_started_again(
    store: Store, kube: Kube, pods: Pods, watched: Callable[[], None]
) -> None:
    (applied,) = kube.apply(manifest.parse(pod(policy="Never")).objects)
    store.detach(*FOREVER, name="other", restart=ALWAYS)
    watched()
    os.kill(store.run_record("web-up").monitor, signal.SIGKILL)
    wait_until(lambda: sandbox.state(store.layout, applied.pod) == "exited")


def test_what_cannot_be_started_after_a_boot(
    store: Store, watched: Callable[[], None], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    mount = Mount(type="bind", source=str(source), target="/source")
    store.detach(*FOREVER, name="other", restart=ALWAYS)
    store.detach(*FOREVER, name="box", restart=ALWAYS, mounts=(mount,))
    watched()
    store.containers.hold("box", timeout=0)
    source.rmdir()
    time.sleep(1.0)  # what it has heard of until then it has looked at
    problems: list[PycontainError] = []
    assert store.containers.boot(problems) == []
    assert len(problems) == 1
    source.mkdir()
    wait_until(lambda: "box" in running(store))


@pytest.mark.parametrize(
    ("verb", "place"), [("apply", "Declarations.apply"), ("down", "Declarations.delete")]
)
def test_what_interrupts_a_hook(
    store: Store, kube: Kube, tmp_path: Path, verb: str, place: str
) -> None:
    for one in manifest.parse(HOOKED).objects:
        Declarations(store.layout).apply(one)
    supervision.wake(store.layout)  # who starts it waits for the hook
    # Else its second run has the hook without an end.
    wait_until(lambda: "web-up" in running(store) and has_file(store, "web-up", "/done"))
    path = tmp_path / "pod.yaml"
    path.write_text(HOOKED.replace("WORD", "other"))
    before = store.run_record("web-up").pid
    killed(store, f"pycontain.pod.declared:{place}", "kube", verb, str(path))
    assert process.start_time(before) is None
    kube.await_ready([("Pod", "web")], timeout=60)
    assert "web-up" in running(store)


def has_file(store: Store, name: str, path: str) -> bool:
    return store.exec(name, "test", "-e", path).code == 0


# ---- where there is none ----


def test_a_declaration_that_nobody_was_woken_for(
    store: Store, kube: Kube, pycontain: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "several.yaml"
    path.write_text(SEVERAL)
    killed(store, "pycontain.engine.supervision:wake", "kube", "apply", str(path))
    assert not supervision.lives(store.layout)
    assert pycontain("kube", "get", "deployments").returncode == 0
    wait_until(lambda: running(store))


def test_a_supervisor_that_is_killed_as_it_begins(store: Store, kube: Kube) -> None:
    objects = manifest.parse(SEVERAL).objects
    for one in objects:
        Declarations(store.layout).apply(one)
    kube.status("Deployment", "several")
    wait_until(lambda: running(store))


def test_an_object_of_which_nothing_is_left(
    store: Store, kube: Kube, pycontain: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(pod())
    (applied,) = kube.apply(manifest.parse(pod()).objects)
    supervision.end(store.layout)
    declarations = Declarations(store.layout)
    declarations.note_problem(applied.declared, "it cannot be stopped")
    killed(store, "pycontain.pod.declared:Declarations.settle", "kube", "down", str(path))
    assert pycontain("kube", "down", str(path)).returncode == 0
    wait_until(lambda: not supervision.lives(store.layout))
    assert store.left_of_declared() == []


# ---- networks ----


def test_a_start_that_has_joined_its_network(store: Store, pycontain: CommandLine) -> None:
    asked = ("-d", "--name", "box", "--network", "bridge", "-p", f"{free_port()}:80", "busybox")
    killed(store, "pycontain.engine.launch:_root", "run", *asked, *FOREVER)
    (identity,) = records.ids(store.layout)
    endpoints = store.layout.container(identity).endpoints
    assert os.path.exists(endpoints)
    assert pycontain("ps", "-a").returncode == 0
    assert not os.path.exists(endpoints)
    wait_until(lambda: not has_rules(store))


def ok(pycontain: CommandLine, *words: str) -> None:
    done = pycontain(*words)
    assert done.returncode == 0, done


def has_rules(store: Store) -> bool:
    return networks.table(store.layout) in firewall.listing(["list", "tables"])


def test_a_published_port_that_was_being_taken_back(store: Store, pycontain: CommandLine) -> None:
    port = str(free_port())
    asked = ("run", "-d", "--network", "bridge")
    ok(pycontain, *asked, "busybox", *FOREVER)

    def cut_off() -> bool:
        ok(pycontain, *asked, "--name", "box", "-p", f"{port}:80", "busybox", *FOREVER)
        assert port in rules_of(store)
        return is_killed(store, "pycontain.kernel.firewall:apply", "rm", "-f", "box")

    wait_until(cut_off)  # the clean-up of its monitor may be faster
    ok(pycontain, "rm", "-f", "box")
    ok(pycontain, "run", "--rm", "--network", "bridge", "busybox", "true")
    assert port not in rules_of(store)


def test_who_is_about_to_take_a_network_down(store: Store, pycontain: CommandLine) -> None:
    (network,) = (one.id for one in store.engine.networks.list() if one.name == "bridge")
    word = f"{store.layout.state_networks}/{network}/retiring"

    def left_up() -> bool:
        ok(pycontain, "run", "--rm", "--network", "bridge", "busybox", "true")
        if not os.path.lexists(word):
            return False
        pid, start = (int(part) for part in os.readlink(word).split())
        if process.start_time(pid) == start:
            end(pid, start)
        return has_rules(store)

    wait_until(left_up)  # it may be done with it already
    ok(pycontain, "network", "ls")
    wait_until(lambda: not has_rules(store))


def rules_of(store: Store) -> str:
    return firewall.listing(["list", "table", "inet", networks.table(store.layout)])


def test_a_stop_of_a_pod(store: Store, pods: Pods, pycontain: CommandLine) -> None:
    made = pods.create("web", networks=(NetworkChoice(name="bridge"),))
    pods.start("web")
    paths = store.layout.pod(made.id)
    killed(store, "pycontain.engine.sandbox:clear", "pod", "stop", "web")
    assert pycontain("pod", "ps").returncode == 0
    assert not os.path.exists(paths.endpoints)
    assert pods.get("web").state == "Exited"
    wait_until(lambda: not has_rules(store))


def test_the_last_container_ends_while_its_holder_is_replaced(
    store: Store, pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pods.create("web", network="none")
    member = pods.member("web", RunOptions(image="busybox", command=FOREVER, name="box"))
    store.containers.create(member)
    assert pods.start("web") == []
    holder = records.load_run(store.layout.pod(made.id))
    assert holder is not None
    end(holder.monitor, holder.monitor_start)
    is_inhabited = sandbox.is_inhabited

    def looked(layout: Layout, identity: str) -> bool:
        found = is_inhabited(layout, identity)
        record = store.run_record("box")
        end(record.pid, record.pid_start)
        return found

    monkeypatch.setattr(sandbox, "is_inhabited", looked)
    with pytest.raises(InvalidState, match="its last container has ended"):
        pods.start("web")
    monkeypatch.undo()
    assert pods.start("web") == []


def end(pid: int, start: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: process.start_time(pid) != start)


# ---- what stays behind ----


IDLE = """\
import os, sys
sys.path[:0] = sys.argv[1].split(":")
from pycontain._native._kernel import ffi, lib
print(lib.idle_in_user_namespace(ffi.new("int *")), flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_process_that_is_there_for_its_user_namespace() -> None:
    """It would hold the locks of the killed one for ever."""
    argv = [sys.executable, "-ISB", "-c", IDLE, ":".join(filter(None, sys.path))]
    done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    assert pid > 0
    wait_until(lambda: process.start_time(pid) is None)


@pytest.mark.parametrize("folder", ["state", "networks", "state_networks"])
def test_an_unfinished_file(store: Store, pycontain: CommandLine, folder: str) -> None:
    store.engine.networks.list()
    child = subprocess.Popen(["true"])
    child.wait()
    at = getattr(store.layout, folder)
    os.makedirs(at, exist_ok=True)
    left = f"{at}/.tmp-{child.pid}-1-0"
    with open(left, "wb"):
        pass
    assert pycontain("ps", "-a").returncode == 0
    assert not os.path.exists(left)
