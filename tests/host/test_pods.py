"""Pods on a real kernel: what containers share, who holds it, and what is left."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from harness import FOREVER, Output, collect, free_port, proc_field, wait_until

from pycontain.engine import networks, records, sandbox
from pycontain.errors import Conflict, InvalidInput, InvalidState, NotFound, NotSupported
from pycontain.kernel import cgroup, process
from pycontain.model.container import Limits, Mount, NetworkChoice, Publish, RunOptions
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import CommandLine, Store

    from pycontain.model.container import RunRecord
    from pycontain.model.pod import Pod

pytestmark = pytest.mark.host

BRIDGE: dict[str, Any] = {"networks": (NetworkChoice(name="bridge"),)}
ALONE: dict[str, Any] = {"network": "none"}
SERVE = ("sh", "-c", "while :; do echo from $HOSTNAME | nc -l -p 80; done")
# nc ends with who asks and says nothing more, be it before it was given its own words.
ASK = "until nc -w 2 {} 80 | grep .; do :; done </dev/null"


@pytest.fixture
def pods(store: Store) -> Iterator[Pods]:
    """The pods of the test's store, all removed at its end."""
    found = Pods(store.engine)
    yield found
    for identity in found.names():
        found.remove(identity, force=True)
    for folder in (store.layout.pods, store.layout.state_pods):
        assert not os.path.isdir(folder) or os.listdir(folder) == []
    assert [name for name in os.listdir(store.layout.locks) if name.startswith("pod-")] == []


def join(store: Store, pods: Pods, pod: str, *command: str, **options: Any) -> str:
    """Id of a new running container in a pod."""
    asked = RunOptions(image="busybox", command=command or FOREVER, init=True, **options)
    container, _ = store.containers.run(pods.member(pod, asked), attach=False)
    return container.id


def sh(store: Store, pods: Pods, pod: str, script: str, **options: Any) -> str:
    """Standard output of a shell script in a new container of a pod; it must succeed."""
    asked = RunOptions(image="busybox", command=("sh", "-c", script), remove=True, **options)
    container, attachment = store.containers.run(pods.member(pod, asked))
    assert attachment is not None
    try:
        found: Output = collect(attachment)
        attachment.finish()
    finally:
        attachment.close()
    assert found.code == 0, (container.id, found)
    return found.stdout.decode()


def namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def record(store: Store, pod: Pod) -> RunRecord:
    """Who holds a pod's sandbox."""
    found = records.load_run(store.layout.pod(pod.id))
    assert found is not None
    return found


def kill_holder(store: Store, pod: Pod) -> None:
    held = record(store, pod)
    os.kill(held.monitor, signal.SIGKILL)
    wait_until(lambda: process.start_time(held.monitor) != held.monitor_start)


def said_at(port: int) -> str:
    """What is answered at a port of the host's loopback; empty where nobody does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as asking:
            return asking.recv(100).decode().strip()
    except OSError:
        return ""


# ---- what is shared ----


def test_containers_share_network_ipc_and_uts(store: Store, pods: Pods) -> None:
    pods.create("web", **ALONE)
    one, other = (store.run_record(join(store, pods, "web")).pid for _ in range(2))
    for kind in ("net", "ipc", "uts"):
        assert namespace(one, kind) == namespace(other, kind) != namespace(os.getpid(), kind)
    for kind in ("pid", "mnt", "cgroup"):
        assert namespace(one, kind) != namespace(other, kind)


def test_they_see_one_host_name_one_memory_and_each_others_ports(store: Store, pods: Pods) -> None:
    pods.create("web", **BRIDGE)
    join(store, pods, "web", "sh", "-c", f"echo shared >/dev/shm/file; {SERVE[-1]}")
    ask = ASK.format("127.0.0.1")
    assert sh(store, pods, "web", ask) == "from web\n"
    text = sh(store, pods, "web", "hostname; echo $HOSTNAME; cat /etc/hostname /dev/shm/file")
    assert text.splitlines() == ["web", "web", "web", "shared"]
    hosts = sh(store, pods, "web", "cat /etc/hosts; ip -4 -o addr show eth0")
    (place,) = networks.attachments(store.layout, pods.find("web"))
    address = place.addresses[0].partition("/")[0]
    assert f"{address}\tweb" in hosts
    assert f"inet {address}/" in hosts
    settings = "cd /proc/sys/net/ipv6/conf/eth0 2>/dev/null && cat accept_ra disable_ipv6 || echo"
    assert sh(store, pods, "web", settings).split() in (["0", "1"], [])


def test_what_is_not_shared_is_each_ones_own(store: Store, pods: Pods) -> None:
    pods.create("loose", share=("ipc",))
    one, other = (store.run_record(join(store, pods, "loose")).pid for _ in range(2))
    assert namespace(one, "ipc") == namespace(other, "ipc")
    for kind in ("net", "uts"):
        assert namespace(one, kind) != namespace(other, kind)


def test_a_shared_pid_namespace_has_an_init_without_rights(store: Store, pods: Pods) -> None:
    pod = pods.create("job", share=("ipc", "net", "pid", "uts"), **ALONE)
    join(store, pods, "job", "sleep", "1234")
    text = sh(
        store, pods, "job", "ps -o pid,args; ls /proc/1/root/ 2>&1; kill -9 1; kill 1; echo on"
    )
    assert "sleep 1234" in text
    assert "ermission denied" in text
    assert text.endswith("on\n")
    held = record(store, pod)
    assert held.pid != held.monitor
    assert proc_field(held.pid, "CapEff") == "0000000000000000"
    assert pods.get("job").state == "Running"
    # An orphan comes to that init, which reaps it: one that has ended and was not is still listed.
    orphan = sh(store, pods, "job", "(sleep 0.1 >/dev/null & echo $!)").strip()
    assert orphan.isdecimal()
    wait_until(lambda: orphan not in sh(store, pods, "job", "ps -o pid").split())


def test_volumes_of_the_pod_are_in_each_container(store: Store, pods: Pods, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("from the host\n")
    bind = Mount(type="bind", source=str(tmp_path), target="/data")
    named = Mount(type="volume", source="kept", target="/kept")
    pods.create("web", volumes=(bind, named), **ALONE)
    assert sh(store, pods, "web", "cat /data/file; echo here >/kept/x") == "from the host\n"
    assert sh(store, pods, "web", "cat /kept/x; touch /data/x") == "here\n"
    own = Mount(type="tmpfs", target="/data")
    assert sh(store, pods, "web", "ls /data", mounts=(own,)) == ""
    pods.remove("web", force=True)
    store.engine.volumes.remove("kept")


# ---- networks and ports ----


def test_a_port_leads_to_whichever_container_listens(store: Store, pods: Pods) -> None:
    port = free_port()
    pods.create("web", publish=(Publish(first=port, last=port, target=80),), **BRIDGE)
    first = join(store, pods, "web", *SERVE)
    wait_until(lambda: said_at(port) == "from web")
    store.containers.remove(first, force=True)
    assert pods.get("web").state == "Running"
    join(store, pods, "web", *SERVE)
    wait_until(lambda: said_at(port) == "from web")
    bound = pods.ports(pods.get("web"))
    assert {(one.port, one.target) for one in bound} == {(port, 80)}
    with pytest.raises(Conflict, match=f"{port} failed: port is already allocated"):
        store.run("true", network="bridge", **BRIDGE,
                  publish=(Publish(first=port, last=port, target=1),))  # fmt: skip


def test_others_of_its_network_know_it_by_its_name(store: Store, pods: Pods) -> None:
    store.engine.networks.create("team")
    choices = (NetworkChoice(name="team"),)
    pods.create("web", networks=choices)
    join(store, pods, "web", *SERVE)
    ask = ASK.format("web")
    assert store.sh(ask, network="bridge", networks=choices) == "from web\n"
    pods.remove("web", force=True)
    store.engine.networks.remove("team")


def test_a_pod_may_use_the_hosts_network(store: Store, pods: Pods) -> None:
    pods.create("near", network="host")
    pid = store.run_record(join(store, pods, "near")).pid
    assert namespace(pid, "net") == namespace(os.getpid(), "net")
    assert namespace(pid, "ipc") != namespace(os.getpid(), "ipc")


def test_a_start_that_fails_leaves_nothing(store: Store, pods: Pods) -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("0.0.0.0", port))
        taken.listen()
        pod = pods.create("web", publish=(Publish(first=port, last=port, target=80),), **BRIDGE)
        with pytest.raises(Conflict, match="already allocated"):
            pods.start("web")
        assert pods.get("web").state == "Created"
        assert networks.attachments(store.layout, pod.id) == ()
    assert pods.start("web") == []
    assert pods.get("web").state == "Running"


# ---- its life ----


def test_states_and_verbs(store: Store, pods: Pods) -> None:
    pods.create("web", **ALONE)
    for name in ("one", "two"):
        asked = RunOptions(image="busybox", command=FOREVER, name=name, init=True)
        store.containers.create(pods.member("web", asked))
    assert pods.get("web").state == "Created"
    assert pods.start("web") == []
    assert pods.get("web").state == "Running"
    assert pods.pause("web") == []
    assert pods.get("web").state == "Paused"
    assert pods.unpause("web") == []
    assert pods.kill("web", signal.SIGKILL) == []
    assert pods.get("web").state == "Degraded"
    assert pods.stop("web") == []
    view = pods.get("web")
    assert view.state == "Exited"
    assert [one.container.name for one in view.members] == ["one", "two"]
    assert pods.restart("web") == []
    assert pods.get("web").state == "Running"
    with pytest.raises(InvalidState, match="is running"):
        pods.remove("web")
    pods.stop("web", timeout=0)
    pods.remove("web")
    assert store.containers.list(all=True) == []


def test_the_start_of_a_container_starts_what_it_shares(store: Store, pods: Pods) -> None:
    pod = pods.create("web", **ALONE)
    identity = join(store, pods, "web")
    assert sandbox.state(store.layout, pod.id) == "running"
    pods.stop("web", timeout=0)
    assert sandbox.state(store.layout, pod.id) == "exited"
    store.containers.start(identity)
    assert pods.get("web").state == "Running"


def test_many_starts_at_once_start_one_holder(store: Store, pods: Pods) -> None:
    pods.create("web", **ALONE)
    ids = [
        store.containers.create(
            pods.member("web", RunOptions(image="busybox", command=FOREVER, init=True))
        ).id
        for _ in range(4)
    ]
    failures: list[BaseException] = []

    def start(identity: str) -> None:
        try:
            store.containers.start(identity)
        except BaseException as err:  # noqa: BLE001 - told by the assertion below
            failures.append(err)

    threads = [threading.Thread(target=start, args=(identity,)) for identity in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len({namespace(store.run_record(identity).pid, "net") for identity in ids}) == 1


def test_a_failed_container_does_not_keep_the_others(store: Store, pods: Pods) -> None:
    pods.create("web", **ALONE)
    for command in (("/nosuch",), FOREVER):
        asked = RunOptions(image="busybox", command=command, init=command == FOREVER)
        store.containers.create(pods.member("web", asked))
    (failed,) = pods.start("web")
    assert "nosuch" in failed.error.message
    assert [one.status.state for one in pods.get("web").members] == ["created", "running"]
    assert pods.get("web").state == "Degraded"


def test_names_are_those_of_containers(store: Store, pods: Pods) -> None:
    pods.create("web", **ALONE)
    with pytest.raises(Conflict):
        store.create("true", name="web")
    store.create("true", name="box")
    with pytest.raises(Conflict, match='name "box" is in use: container already exists'):
        pods.create("box", **ALONE)
    store.containers.list(all=True)  # it sweeps claims of names
    with pytest.raises(Conflict, match="pod already exists"):
        pods.create("web", **ALONE)
    assert pods.create("web", replace_old=True, **ALONE).name == "web"
    pods.remove("web")
    assert store.create("true", name="web").name == "web"


@pytest.mark.parametrize(
    ("asked", "flag"),
    [
        ({"network": "bridge", **BRIDGE}, "network"),
        ({"hostname": "x"}, "hostname"),
        ({"publish": (Publish(target=80),)}, "publish"),
        ({"dns": ("1.1.1.1",)}, "dns"),
        ({"ipc": "host"}, "ipc"),
        ({"uts": "host"}, "uts"),
        ({"add_host": ("a:1.1.1.1",)}, "add-host"),
    ],
)
def test_what_is_the_pods_is_refused(pods: Pods, asked: dict[str, Any], flag: str) -> None:
    pods.create("web", **ALONE)
    with pytest.raises(InvalidInput, match=f"^--{flag} must be set on the pod"):
        pods.member("web", RunOptions(image="busybox", **asked))


def test_a_container_of_a_pod_that_was_removed_is_refused(store: Store, pods: Pods) -> None:
    pods.create("web", **ALONE)
    asked = pods.member("web", RunOptions(image="busybox"))
    pods.remove("web")
    with pytest.raises(NotFound, match="no pod"):
        store.containers.create(asked)
    with pytest.raises(NotFound, match="no pod"):
        pods.member("web", RunOptions(image="busybox"))


def test_limits_are_the_pods_or_refused(store: Store, pods: Pods) -> None:
    root = cgroup.open_root()
    try:
        offered = (cgroup.read(root, "cgroup.controllers") or "").split()
    finally:
        os.close(root)
    limits = Limits(memory=64 << 20)
    if "memory" not in offered:
        with pytest.raises(NotSupported, match="memory"):
            pods.create("small", limits=limits, **ALONE)
        assert pods.list() == []
        return
    pods.create("small", limits=limits, **ALONE)
    join(store, pods, "small")


def test_the_holder_is_small(store: Store, pods: Pods) -> None:
    pod = pods.create("web", share=("ipc", "net", "pid", "uts"), **BRIDGE)
    pods.start("web")
    held = record(store, pod)
    size = sum(int(proc_field(pid, "Pss", "smaps_rollup")) for pid in {held.monitor, held.pid})
    assert size < 512
    assert not os.access(f"/proc/{held.monitor}/root/etc", os.F_OK)
    with open(f"/proc/{held.monitor}/cmdline") as file:
        assert file.read().rstrip("\0") == "pycontain-sandbox web"


def test_of_two_removals_one_finds_nothing(store: Store, pods: Pods) -> None:
    pods.create("web", **ALONE)
    join(store, pods, "web")
    outcomes: list[str] = []

    def remove() -> None:
        try:
            outcomes.append(pods.remove("web", force=True))
        except NotFound:
            outcomes.append("not found")

    threads = [threading.Thread(target=remove) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[1:] == ["not found"] * 2


# ---- kill -9 ----


def test_a_killed_holder_costs_its_containers_nothing(store: Store, pods: Pods) -> None:
    port = free_port()
    publish = (Publish(first=port, last=port, target=80),)
    pod = pods.create("web", publish=publish, **BRIDGE)
    server = join(store, pods, "web", *SERVE)
    before = store.run_record(server)
    (place,) = networks.attachments(store.layout, pod.id)
    kill_holder(store, pod)
    view = pods.get("web")
    assert (view.state, view.sandbox) == ("Degraded", "lost")
    assert store.state_of(server) == "running"
    # Its address stays its own, its rules too.
    store.engine.networks.sweep()
    assert networks.attachments(store.layout, pod.id) == (place,)
    other = store.detach(network="bridge", **BRIDGE)
    (elsewhere,) = networks.attachments(store.layout, other)
    assert elsewhere.addresses != place.addresses
    assert pods.start("web") == []
    assert pods.get("web").state == "Running"
    late = join(store, pods, "web", "sh", "-c", "echo late >/dev/shm/late; exec sleep 1000")
    for kind in ("net", "ipc", "uts"):
        assert namespace(store.run_record(late).pid, kind) == namespace(before.pid, kind)
        assert namespace(record(store, pod).pid, kind) == namespace(before.pid, kind)
    wait_until(lambda: store.exec(server, "cat", "/dev/shm/late").stdout == b"late\n")
    wait_until(lambda: said_at(port) == "from web")


def test_the_next_command_gives_back_what_a_killed_holder_had(store: Store, pods: Pods) -> None:
    pod = pods.create("web", **BRIDGE)
    pods.start("web")
    kill_holder(store, pod)
    assert pods.get("web").state == "Exited"
    assert networks.attachments(store.layout, pod.id) == ()
    assert pods.start("web") == []
    assert pods.get("web").state == "Running"


def test_a_killed_holder_of_a_pid_namespace_ends_it(store: Store, pods: Pods) -> None:
    pod = pods.create("job", share=("ipc", "net", "pid", "uts"), **ALONE)
    identity = join(store, pods, "job")
    kill_holder(store, pod)
    wait_until(lambda: store.state_of(identity) == "exited")
    assert pods.get("job").state == "Exited"
    assert pods.start("job") == []
    assert pods.get("job").state == "Running"


def test_commands_killed_at_random_leave_what_the_next_one_cleans(
    store: Store, pods: Pods, pycontain: CommandLine
) -> None:
    for number in range(6):
        name = f"pod{number}"
        script = (
            ("pod", "create", "--network", "none", "--name", name),
            ("run", "-d", "--pod", name, "--name", f"box{number}", "busybox", "sleep", "1000"),
            ("pod", "stop", "-t", "0", name),
            ("pod", "rm", "-f", name),
        )
        for words in script:
            child = pycontain.start(*words, stdout=-3, stderr=-3)
            time.sleep(random.random() * 0.4)
            child.kill()
            child.wait()
        for view in pods.list():
            assert view.state in ("Created", "Running", "Degraded", "Exited", "Stopped")
            for failed in pods.start(view.pod.id):
                raise failed.error
            assert pods.get(view.pod.id).state == "Running"
            pods.remove(view.pod.id, force=True)
        assert pods.list() == []
        store.containers.list(all=True)


# ---- the command line ----


def test_the_command_line(store: Store, pods: Pods, pycontain: CommandLine) -> None:
    made = pycontain("pod", "create", "--network", "none", "-l", "team=a", "web")
    identity = made.stdout.decode().strip()
    assert identity == pods.find("web"), made
    done = pycontain("run", "-d", "--pod", "web", "--name", "box", "busybox", "sh", "-c",
                     "echo one; exec sleep 1000")  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = pycontain("run", "--rm", "--pod", "new:job", "--network", "bridge", "-p", "80",
                     "busybox", "hostname")  # fmt: skip
    assert done.stdout == b"job\n", done
    assert len(pods.ports(pods.get("job"))) == 2
    listed = pycontain("pod", "ps", "--ctr-names", "-f", "name=^web$").stdout.decode().splitlines()
    assert listed[0].split() == [
        *"POD ID NAME STATUS CREATED INFRA ID # OF CONTAINERS NAMES".split()
    ]
    assert listed[1].split()[:3] == [identity[:12], "web", "Running"]
    assert listed[1].split()[-2:] == ["1", "box"]
    told = json.loads(pycontain("pod", "inspect", "web").stdout)
    assert (told["State"], told["NumContainers"]) == ("Running", 1)
    assert told["Containers"][0]["Name"] == "box"
    seen = pycontain("ps", "--pod", "--filter", "pod=web").stdout.decode().splitlines()
    assert seen[0].split()[-3:] == ["POD", "ID", "PODNAME"]
    assert seen[1].split()[-2:] == [identity[:12], "web"]
    wait_until(lambda: store.log("box") == b"one\n")
    assert pycontain("pod", "logs", "-n", "web").stdout == b"box one\n"
    assert b"sleep 1000" in pycontain("pod", "top", "web").stdout
    assert b"box" in pycontain("pod", "stats", "--no-stream", "web").stdout
    refused = pycontain("run", "--pod", "web", "-p", "80:80", "busybox")
    assert refused.returncode == 125
    assert b"--publish must be set on the pod" in refused.stderr
    assert pycontain("pod", "exists", "nosuch").returncode == 1
    assert pycontain("pod", "start", "nosuch").returncode == 125
    assert pycontain("pod", "rm", "-f", "web").stdout.decode().strip() == identity
    told = pycontain("events", "--since", "1h", "--until", "0s", "--filter", "pod=web",
                     "--format", "{{.Action}}").stdout.decode()  # fmt: skip
    assert told.split() == ["create", "remove"]


def test_whoever_looks_for_a_name_takes_it_from_no_pod_that_is_being_made(
    store: Store, pods: Pods
) -> None:
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            store.containers.holder("web")

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(50):
            made = pods.create("web", network="none")
            assert os.path.lexists(store.layout.name("web"))
            pods.remove(made.id)
    finally:
        ended.set()
        for looker in lookers:
            looker.join()
