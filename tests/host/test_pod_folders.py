"""What a pod's containers have of its own files on a real kernel: volumes in memory, folders."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from harness import wait_until
from msgspec.structs import replace

from pycontain.engine import records
from pycontain.errors import InvalidInput, KernelError
from pycontain.kernel import process
from pycontain.model.container import Mount, RunOptions
from pycontain.model.kube_status import PodStatus
from pycontain.model.pod import Memory
from pycontain.pod import folders, manifest
from pycontain.pod.configs import File
from pycontain.pod.plan import Folder
from pycontain.pod.play import Kube
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness import Store

    from pycontain.model.pod import Pod

pytestmark = pytest.mark.host

SLEEP = ("sh", "-c", "trap exit TERM; sleep 1000 & wait")
SCRATCH = Mount(type="tmpfs", source="scratch", target="/scratch")


@pytest.fixture
def pods(store: Store) -> Iterator[Pods]:
    pods = Pods(store.engine)
    yield pods
    for view in pods.list():
        pods.remove(view.pod.id, force=True)


def make(pods: Pods, *memory: Memory, **options: Any) -> Pod:
    return pods.create("web", network="none", memory=memory or (Memory(name="scratch"),), **options)


def join(store: Store, pods: Pods, *command: str, **options: Any) -> str:
    """Id of a new container of the pod, which runs."""
    asked = RunOptions(image="busybox", command=command or SLEEP, **options)
    container, _ = store.containers.run(pods.member("web", asked), attach=False)
    return container.id


def sh(store: Store, pods: Pods, script: str, *mounts: Mount, **options: Any) -> str:
    """What a new container of the pod says, which has to end well."""
    identity = join(store, pods, "sh", "-c", script, mounts=mounts or (SCRATCH,), **options)
    assert store.containers.wait(identity) == 0, store.log(identity)
    said = store.log(identity).decode()
    store.containers.remove(identity)
    return said


def kill_holder(store: Store, pod: Pod) -> None:
    record = records.load_run(store.layout.pod(pod.id))
    assert record is not None
    pidfd = os.pidfd_open(record.monitor)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    # It leaves its namespaces first, and ends then.
    wait_until(lambda: process.start_time(record.monitor) != record.monitor_start)
    os.close(pidfd)


# ---- volumes in memory ----


@pytest.mark.in_vm
def test_a_volume_in_memory_is_there_as_long_as_the_pod_runs(store: Store, pods: Pods) -> None:
    small = Mount(type="tmpfs", source="small", target="/small")
    pod = make(pods, Memory(name="scratch"), Memory(name="small", size=1 << 20, group=77))
    assert sh(store, pods, "echo kept >/scratch/file; stat -f -c %T /scratch") == "tmpfs\n"
    # No container has it meanwhile.
    assert sh(store, pods, "cat /scratch/file", user="1234") == "kept\n"
    script = "stat -c %a:%g /small /scratch; >/small/new; stat -c %g /small/new; df -k /small"
    told = sh(store, pods, script, small, SCRATCH, user="5:6", group_add=("77",)).split()
    assert told[:3] == ["2777:77", "777:0", "77"]
    assert "1024" in told
    filled = sh(store, pods, "dd if=/dev/zero of=/small/big bs=1M count=2 2>&1 || true", small)
    assert "No space left on device" in filled
    assert pods.stop("web") == []
    assert pods.start("web") == []
    assert sh(store, pods, "ls /scratch") == ""
    assert pods.get("web").pod.memory == pod.memory


def test_each_container_has_it_as_it_asks(store: Store, pods: Pods) -> None:
    make(pods)
    read_only = Mount(type="tmpfs", source="scratch", target="/there", options=("rro",))
    # What comes by two pipes has no order: nothing is said to standard error.
    script = (
        "echo a >/scratch/a; cat /there/a; (>/there/b) 2>/dev/null || echo refused;"
        " mount | grep /there"
    )
    told = sh(store, pods, script + " | grep -c noexec || true", SCRATCH, read_only)
    assert told.split()[0] == "a"
    assert "refused" in told
    assert told.split()[-1] == "0"
    # Nothing of the container's has a say in what is mounted.
    script = "rm -rf /scratch/*; ln -s / /scratch/a; ls /scratch"
    assert sh(store, pods, script) == "a\n"
    assert "etc" not in sh(store, pods, "ls /scratch")


def test_what_no_pod_has_is_refused(store: Store, pods: Pods) -> None:
    make(pods)
    other = Mount(type="tmpfs", source="other", target="/other")
    with pytest.raises(InvalidInput, match="pod web has no volume in memory other"):
        pods.member("web", RunOptions(image="busybox", mounts=(other,)))
    with pytest.raises(InvalidInput, match="there is no pod"):
        store.detach(mounts=(other,))
    for wrong in ((Memory(name=""),), (Memory(name="a"),) * 2, (Memory(name="a", size=-1),)):
        with pytest.raises(InvalidInput, match="volume in memory"):
            pods.create("wrong", network="none", memory=wrong)
    assert not pods.exists("wrong")


@pytest.mark.in_vm
@pytest.mark.parametrize("share", [("ipc", "net", "uts"), ()])
def test_a_killed_holder_costs_its_volumes_nothing(
    store: Store, pods: Pods, share: tuple[str, ...]
) -> None:
    unused = Mount(type="tmpfs", source="unused", target="/unused")
    pod = make(pods, Memory(name="unused"), Memory(name="scratch"), share=share)
    sh(store, pods, "echo lost >/unused/file", unused)
    # The one that has it has something else over it in one place, and cannot write in the other.
    again = Mount(type="tmpfs", source="scratch", target="/again", options=("rro",))
    script = "mount -t tmpfs none /scratch && trap exit TERM && : >/ready; sleep 1000 & wait"
    keeper = join(store, pods, "sh", "-c", script, mounts=(SCRATCH, again), privileged=True)
    wait_until(lambda: store.exec(keeper, "ls", "/ready").code == 0)
    sh(store, pods, "echo kept >/scratch/file")
    for _ in range(2):
        kill_holder(store, pod)
        assert pods.get("web").sandbox == "lost"
        assert pods.start("web") == []
        assert pods.get("web").sandbox == "running"
        assert sh(store, pods, "cat /scratch/file; echo more >>/scratch/more") == "kept\n"
    assert store.exec(keeper, "cat", "/again/more").stdout == b"more\nmore\n"
    # Nobody had the other one.
    assert sh(store, pods, "ls /unused", unused) == ""


def test_files_are_copied_of_a_container_that_has_ended(
    store: Store, pods: Pods, tmp_path: Path
) -> None:
    make(pods)
    identity = join(store, pods, "sh", "-c", "echo kept >/scratch/file", mounts=(SCRATCH,))
    assert store.containers.wait(identity) == 0
    with store.containers.tree(identity) as tree:
        tree.copy_out("/scratch/file", f"{tmp_path}/copy")
    assert (tmp_path / "copy").read_text() == "kept\n"


# ---- folders ----


def config(content: str, *more: str) -> Folder:
    files = (File("key", 0o400, content.encode()), *(File(path, 0o444, b"") for path in more))
    return Folder("config", 0o755, files)


def at(folder: str, target: str) -> Mount:
    return Mount(type="bind", source=folder, target=target, options=("nosuid", "nodev", "rro"))


def test_a_container_sees_changes_at_once(store: Store, pods: Pods) -> None:
    top = store.layout.pod(make(pods).id).volumes
    folders.write(top, config("old\n", "deep/er/file"), 77)
    mounts = (
        at(f"{top}/config", "/config"),
        at(f"{top}/config/key", "/part"),
        at(f"{top}/config/deep/er", "/deep"),
    )
    script = "cat /config/key /part; ls /deep; echo ready; sleep 1000 & wait"
    reader = join(store, pods, "sh", "-c", script, mounts=mounts, user="5", group_add=("77",))
    wait_until(lambda: store.log(reader) == b"old\nold\nfile\nready\n")
    folders.write(top, config("new\n", "more"), 77)
    told = store.exec(reader, "sh", "-c", "cat /config/key /part; ls /config; >/config/x", user="5")
    assert told.stdout == b"new\nold\nkey\nmore\n"
    assert b"Read-only file system" in told.stderr
    # What was mounted as a part is as it was until the container is started again.
    store.containers.stop(reader, timeout=0)
    folders.write(top, config("new\n", "deep/er/again"), 77)
    store.containers.start(reader)
    wait_until(lambda: store.log(reader).endswith(b"new\nnew\nagain\nready\n"))


def test_how_much_is_in_an_empty_folder(store: Store, pods: Pods) -> None:
    top = store.layout.pod(make(pods).id).volumes
    empty = Folder("empty", 0o777, limit=4 << 20)
    folders.write(top, empty, 77)
    script = (
        "dd if=/dev/zero of=/empty/file bs=1M count=5 conv=fsync 2>/dev/null;"
        " stat -c %g /empty/file"
    )
    there = Mount(type="bind", source=f"{top}/empty", target="/empty")
    used = {"empty": folders.usage(f"{top}/empty", 1 << 40)}
    assert folders.exceeded((empty,), used) == ""
    assert sh(store, pods, script, there, user="5") == "77\n"
    used = {"empty": folders.usage(f"{top}/empty", 1 << 40)}
    assert "empty" in folders.exceeded((empty,), used)


def test_measuring_bears_what_a_container_does_meanwhile(store: Store, pods: Pods) -> None:
    top = store.layout.pod(make(pods).id).volumes
    folders.write(top, Folder("empty", 0o777))
    there = Mount(type="bind", source=f"{top}/empty", target="/empty")
    script = "cd /empty; while :; do mkdir -p a/b/c; >a/b/f; ln -s /etc a/l; mv a x; rm -rf x; done"
    busy = join(store, pods, "sh", "-c", script, mounts=(there,))
    for _ in range(300):
        assert folders.usage(f"{top}/empty", 1 << 40) < 1 << 20
    assert store.state_of(busy) == "running"


# ---- parts of volumes ----


@pytest.mark.in_vm
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_a_part_of_a_volume_is_made_and_shown(store: Store, pods: Pods, kind: Any) -> None:
    top = store.layout.pod(make(pods).id).volumes
    folders.write(top, Folder("scratch", 0o777), 77)
    source = "scratch" if kind == "tmpfs" else f"{top}/scratch"
    whole = Mount(type=kind, source=source, target="/whole")
    part = Mount(type=kind, source=source, target="/part", subpath="a/b", make_source=True)
    # Anybody may write there, as in the whole.
    script = "echo x >/part/file; cat /whole/a/b/file"
    assert sh(store, pods, script, whole, part, user="5") == "x\n"
    assert sh(store, pods, "cat /part/file", part) == "x\n"
    read_only = Mount(type=kind, source=source, target="/part", subpath="a", options=("rro",))
    assert sh(store, pods, "touch /part/b/x 2>/dev/null || cat /part/b/file", read_only) == "x\n"
    absent = Mount(type=kind, source=source, target="/part", subpath="absent")
    with pytest.raises(KernelError, match="open subpath: absent"):
        join(store, pods, mounts=(absent,))


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_links_in_a_volume_lead_nowhere_else(
    store: Store, pods: Pods, kind: Any, tmp_path: Path
) -> None:
    top = store.layout.pod(make(pods).id).volumes
    folders.write(top, Folder("scratch", 0o777))
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text("secret")
    source = "scratch" if kind == "tmpfs" else f"{top}/scratch"
    whole = Mount(type=kind, source=source, target="/whole")
    script = "cd /whole; ln -s $0 out; ln -s ../../../../../../.. up; mkdir b; ln -s /b in"
    join(store, pods, "sh", "-c", script, f"{tmp_path}/secret", mounts=(whole,))
    wait_until(lambda: sh(store, pods, "ls /whole", whole).split() == ["b", "in", "out", "up"])
    part = Mount(type=kind, source=source, target="/part", subpath="out")
    for asked in (part, replace(part, make_source=True)):
        with pytest.raises(KernelError, match="open subpath: out"):
            join(store, pods, mounts=(asked,))
    part = replace(part, subpath=f"up{tmp_path}/secret")
    with pytest.raises(KernelError, match="open subpath: up/"):
        join(store, pods, mounts=(part,))
    assert sh(store, pods, "ls -A /part", replace(part, make_source=True)) == ""
    assert os.listdir(tmp_path / "secret") == ["file"]
    # Within the volume they are followed.
    part = Mount(type=kind, source=source, target="/part", subpath="in/c", make_source=True)
    sh(store, pods, ">/part/file", part)
    assert sh(store, pods, "ls /whole/b/c", whole) == "file\n"


# ---- of a manifest ----

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: "one\\n"}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: Never
  hostNetwork: true
  securityContext: {fsGroup: 77, runAsUser: 5}
  volumes:
  - {name: fast, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: work, emptyDir: {sizeLimit: 2Mi}}
  - {name: config, configMap: {name: settings, defaultMode: 0400}}
  initContainers:
  - name: first
    image: busybox
    command: [sh, -c, "echo init >/fast/file"]
    volumeMounts: [{name: fast, mountPath: /fast}]
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "echo begun; exec sleep 1000"]
    volumeMounts:
    - {name: fast, mountPath: /fast}
    - {name: work, mountPath: /scratch, subPath: a/b}
    - {name: config, mountPath: /config}
"""


def test_a_manifests_volumes(store: Store, pods: Pods) -> None:
    kube = Kube(store.engine)
    objects = manifest.parse(MANIFEST).objects
    kube.play(objects)
    try:
        wait_until(lambda: pods.get("web").state == "Running" and has_begun(store))
        script = "cat /fast/file /config/mode; > /scratch/file; stat -c %g /scratch/file"
        told = store.exec("web-main", "sh", "-c", script)
        assert told.stdout == b"init\none\n77\n", told
        changed = manifest.parse(MANIFEST.replace("one", "two")).objects
        assert [one.change for one in kube.apply(changed)] == ["configured", "unchanged"]
        wait_until(lambda: store.exec("web-main", "cat", "/config/mode").stdout == b"two\n")
        # What the containers made lasts as long as the holder, or one of them.
        kill_holder(store, pods.get("web").pod)
        wait_until(lambda: pods.get("web").sandbox == "running")
        assert store.exec("web-main", "cat", "/fast/file").stdout == b"init\n"
        # More than sizeLimit: the pod fails.
        fill = ("dd", "if=/dev/zero", "of=/scratch/file", "bs=1M", "count=4", "conv=fsync")
        store.exec("web-main", *fill)
        wait_until(lambda: pods.get("web").state == "Exited")
        status = kube.status("Pod", "web")
        assert isinstance(status, PodStatus)
        assert status.reason == "Evicted"
        assert status.message == "emptyDir work takes more than its sizeLimit of 2097152 bytes"
    finally:
        kube.down(objects)
    assert pods.list() == []


@pytest.mark.parametrize("call", [1, 3, 5])
def test_a_killed_play_leaves_what_the_next_command_completes(
    store: Store, pods: Pods, call: int
) -> None:
    kube = Kube(store.engine)
    objects = manifest.parse(MANIFEST).objects
    left = [call]

    def hook(event: str, arguments: Any) -> None:
        if event in ("os.rename", "os.symlink", "os.mkdir") and "/volumes/" in str(arguments):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            sys.addaudithook(hook)
            kube.play(objects)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert pods.get("web").state == "Created"
    try:
        kube.apply(objects)
        wait_until(lambda: pods.get("web").state == "Running" and has_begun(store))
        told = store.exec("web-main", "sh", "-c", "cat /fast/file /config/mode; ls -A /scratch/..")
        assert told.stdout.startswith(b"init\none\n"), told
    finally:
        kube.down(objects)


def has_begun(store: Store) -> bool:
    return b"begun" in store.log("web-main")
