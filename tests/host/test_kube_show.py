"""Looking at what is declared, and manifests of what is there, on a real kernel."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from harness import CommandLine, Store, proc_field, wait_until

from pycontain.engine import supervision
from pycontain.model.container import Mount, RestartPolicy
from pycontain.pod import manifest, observed, status
from pycontain.pod.declared import Declarations
from pycontain.pod.play import Kube
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.model import kube_status

pytestmark = pytest.mark.host

SECRET = "hush-hush"
OBJECTS = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings, labels: {{app: web}}}}
data: {{mode: fast, other: x}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
stringData: {{token: {SECRET}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web, tier: front}}}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{{name: d, persistentVolumeClaim: {{claimName: data}}}}]
  initContainers:
  - {{name: first, image: busybox, command: [echo, made]}}
  containers:
  - name: server
    image: busybox
    command: [sh, -c, "echo serving; exec sleep 1000"]
    env: [{{name: TOKEN, valueFrom: {{secretKeyRef: {{name: keys, key: token}}}}}}]
    volumeMounts: [{{name: d, mountPath: /data}}]
  - {{name: cache, image: busybox, command: [sh, -c, "echo caching; exec sleep 1000"]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: many}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: many}}}}
  template:
    metadata: {{labels: {{app: many}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: one, image: busybox, command: [sh, -c, "echo one; exec sleep 1000"]}}]
"""


@pytest.fixture
def kube(store: Store) -> Iterator[Kube]:
    """What is declared in the test's store; all of it is taken back at its end."""
    found = Kube(store.engine)
    yield found
    declarations = Declarations(store.layout)
    found.down([one.object for one in declarations.list()], force=True)
    assert declarations.list() == []
    pods = Pods(store.engine)
    for view in pods.list():
        pods.remove(view.pod.id, force=True)
    store.clear()
    wait_until(lambda: not supervision.lives(store.layout))


def ready(kube: Kube, text: str) -> None:
    applied = kube.play(manifest.parse(text).objects)
    kube.await_ready([(one.declared.kind, one.declared.name) for one in applied], timeout=120)


def said(done: subprocess.CompletedProcess[bytes], code: int = 0) -> str:
    assert done.returncode == code, done.stderr
    return done.stdout.decode()


def complaint(done: subprocess.CompletedProcess[bytes], code: int) -> bytes:
    assert (done.returncode, done.stdout) == (code, b""), done
    return done.stderr


def cells(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


# ---- files ----


def test_files_are_named_as_with_kubectl(
    kube: Kube, pycontain: CommandLine, tmp_path: Path
) -> None:
    path = str(tmp_path / "objects.yaml")

    def write(mode: str) -> None:
        text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {mode: %s}\n"
        Path(path).write_text(text % mode)

    def dry() -> str:
        return said(pycontain("kube", "apply", "--dry-run", "-f", path))

    write("slow")
    assert dry() == "configmap/c created (dry run)\n"
    assert said(pycontain("kube", "apply", "-f", path)) == "configmap/c created\n"
    assert dry() == "configmap/c unchanged (dry run)\n"
    write("fast")
    assert dry() == "configmap/c configured (dry run)\n"
    assert "slow" in said(pycontain("kube", "get", "-o", "yaml", "cm", "c"))
    assert said(pycontain("kube", "delete", "-f", path)) == "configmap/c deleted\n"
    assert said(pycontain("kube", "delete", "-f", path)) == ""
    for words in (
        ("apply",),
        ("apply", "-f", path, path),
        ("delete",),
        ("delete", "-f", path, "c"),
    ):
        assert b"requires" in complaint(pycontain("kube", *words), 1)


def test_what_is_no_file(pycontain: CommandLine, tmp_path: Path) -> None:
    words = complaint(pycontain("kube", "apply", str(tmp_path)), 125).decode()
    assert (
        words
        == f"pycontain: read {tmp_path}: is a directory\nhint: give the files in it one by one\n"
    )
    empty = complaint(pycontain("kube", "apply", "-", input=b"# nothing\n"), 125)
    assert empty == b"pycontain: standard input: there is no object in it\n"
    path = tmp_path / "wrong.yaml"
    path.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndatas: {}\n")
    wrong = complaint(pycontain("kube", "apply", str(path)), 125).decode()
    assert wrong == f"pycontain: {path}: document 1 (line 1): ConfigMap/c: datas: unknown field\n"
    words = complaint(pycontain("kube", "down", "https://name.invalid/a?b&c"), 125).decode()
    assert "| pycontain kube … -" in words and "'https://name.invalid/a?b&c'" in words


def test_lines_of_pods_are_counted_in_numbers(kube: Kube, pycontain: CommandLine) -> None:
    said(pycontain("pod", "create", "--name", "few"))
    assert said(pycontain("pod", "logs", "--tail", "-1", "few")) == ""
    assert b"not a number" in complaint(pycontain("pod", "logs", "--tail", "ten", "few"), 125)


# ---- looking ----


def test_looking(kube: Kube, pycontain: CommandLine) -> None:
    ready(kube, OBJECTS)
    _check_tables(pycontain)
    _check_documents(pycontain)
    _check_selections(pycontain)
    _check_descriptions(pycontain)
    _check_logs(pycontain)


def _check_tables(pycontain: CommandLine) -> None:
    table = cells(said(pycontain("kube", "get")))
    assert table[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    rows = {row[0]: row[1:4] for row in table if row}
    assert rows["pod/web"] == ["2/2", "Running", "0"]
    assert sum(name.startswith("pod/many-") for name in rows) == 2
    assert rows["deployment.apps/many"] == ["2/2", "2", "2"]
    wide = cells(said(pycontain("kube", "get", "-o", "wide", "pods")))
    assert wide[0][-2:] == ["IP", "NODE"]
    assert {len(row) for row in wide} == {7}
    configs = said(pycontain("kube", "get", "cm,secret,pvc"))
    assert SECRET not in configs
    rows = {row[0]: row[1:-1] for row in cells(configs) if row}
    assert rows["configmap/settings"] == ["2"]
    assert rows["secret/keys"] == ["Opaque", "1"]
    assert rows["persistentvolumeclaim/data"] == ["Bound", "data", "1Mi", "RWO"]


def _check_documents(pycontain: CommandLine) -> None:
    found = json.loads(said(pycontain("kube", "get", "-o", "json", "pod", "web")))
    assert found["metadata"]["uid"]
    assert found["spec"]["containers"][0]["name"] == "server"
    assert found["status"]["phase"] == "Running"
    assert {one["type"]: one["status"] for one in found["status"]["conditions"]} == {
        "PodScheduled": "True", "Initialized": "True", "ContainersReady": "True", "Ready": "True",
    }  # fmt: skip
    (first,) = found["status"]["initContainerStatuses"]
    assert first["state"]["terminated"]["exitCode"] == 0
    several = json.loads(said(pycontain("kube", "get", "-o", "json", "pods")))
    assert several["kind"] == "List"
    assert len(several["items"]) == 3
    owned = [one for one in several["items"] if one["metadata"]["name"] != "web"]
    assert {one["metadata"]["ownerReferences"][0]["name"] for one in owned} == {"many"}
    text = said(pycontain("kube", "get", "-o", "yaml", "secret", "keys"))
    (secret,) = manifest.parse(text).objects
    assert secret.name == "keys"
    assert "aHVzaC1odXNo" in text
    assert said(pycontain("kube", "get", "-o", "name", "deploy")) == "deployment.apps/many\n"


def _check_selections(pycontain: CommandLine) -> None:
    def names(*words: str) -> list[str]:
        return said(pycontain("kube", "get", "-o", "name", *words)).split()

    assert names("-l", "app=web", "pods,cm") == ["pod/web", "configmap/settings"]
    assert len(names("-l", "tier!=front", "po")) == 2
    assert names("-l", "app in (web, x),tier", "po") == ["pod/web"]
    nothing = pycontain("kube", "get", "-l", "app=nosuch", "pods")
    assert (nothing.returncode, nothing.stdout) == (0, b"")
    assert nothing.stderr == b"No resources found\n"
    partly = pycontain("kube", "get", "pod", "web", "nosuch")
    assert partly.returncode == 125
    assert b"web" in partly.stdout
    assert b'Pod "nosuch" not found' in partly.stderr


def _check_descriptions(pycontain: CommandLine) -> None:
    text = said(pycontain("kube", "describe", "pod", "web"))
    assert SECRET not in text
    for words in ("Init Containers:", "State:          Running", "Exit Code:    0", "tier=front",
                  "PersistentVolumeClaim/data", "<key token of Secret/keys>",
                  "container server   start"):  # fmt: skip
        assert words in text, words
    text = said(pycontain("kube", "describe", "deploy/many", "secret/keys", "cm/settings"))
    assert SECRET not in text
    for words in (
        "2 desired | 2 updated | 2 total | 2 available",
        "9 bytes",
        "fast",
        "1/1 Running",
    ):
        assert words in text, words
    assert "Used By:        web" in said(pycontain("kube", "describe", "pvc"))
    missing = pycontain("kube", "describe", "pod", "nosuch")
    assert (missing.returncode, missing.stdout) == (125, b"")


def _check_logs(pycontain: CommandLine) -> None:
    done = pycontain("kube", "logs", "web")
    assert (done.stdout, done.stderr) == (
        b"serving\n", b"Defaulted container server out of: server, cache\n",
    )  # fmt: skip
    assert said(pycontain("kube", "logs", "-c", "first", "pod/web")) == "made\n"
    assert said(pycontain("kube", "logs", "--tail", "0", "-c", "first", "web")) == ""
    several = said(pycontain("kube", "logs", "--all-containers", "--prefix", "web"))
    assert sorted(several.splitlines()) == [
        "[pod/web/cache] caching", "[pod/web/first] made", "[pod/web/server] serving",
    ]  # fmt: skip
    assert said(pycontain("kube", "logs", "deploy/many")) == "one\n"
    missing = pycontain("kube", "logs", "-c", "nosuch", "web")
    assert missing.returncode == 125
    assert b"there are first, server, cache" in missing.stderr


def test_logs_of_what_has_not_begun(kube: Kube, pycontain: CommandLine) -> None:
    waiting = """
apiVersion: v1
kind: Pod
metadata: {name: waits}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  initContainers: [{name: first, image: busybox, command: [sleep, "1000"]}]
  containers: [{name: one, image: busybox, command: [sleep, "1000"]}]
"""
    kube.play(manifest.parse(waiting).objects)
    assert said(pycontain("kube", "logs", "-c", "first", "waits")) == ""
    assert said(pycontain("kube", "logs", "--all-containers", "waits")) == ""
    words = complaint(pycontain("kube", "logs", "waits"), 125)
    assert b"container one of pod waits has not been started yet" in words


def test_watching(kube: Kube, pycontain: CommandLine) -> None:
    small = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: one, image: busybox, command: [sleep, "1000"]}]
"""
    ready(kube, small.replace("NAME", "one"))
    watch = pycontain.start("kube", "get", "-w", "pods", stdout=subprocess.PIPE)
    try:
        assert watch.stdout is not None
        heading = watch.stdout.readline()
        assert heading.split()[0] == b"NAME"
        assert watch.stdout.readline().split()[:3] == [b"one", b"1/1", b"Running"]
        kube.play(manifest.parse(small.replace("NAME", "two")).objects)
        first = watch.stdout.readline()
        line = first.split()
        assert first.index(line[1]) == heading.index(b"READY")
        line = first.split()
        assert line[0] == b"two"  # and no heading again
        while line[2] != b"Running":
            line = watch.stdout.readline().split()
        kube.delete("Pod", "one")
        while line[0] != b"one":
            line = watch.stdout.readline().split()
    finally:
        watch.send_signal(signal.SIGINT)
        assert watch.wait(60) == 130
        watch.stdout.close()  # type: ignore[union-attr]
    with pycontain.start("kube", "logs", "-f", "two", stdout=subprocess.PIPE) as follower:
        wait_until(lambda: proc_field(follower.pid, "State").startswith("S"))
        kube.delete("Pod", "two")
        assert follower.communicate(timeout=60)[0] == b""


def test_pods_that_fail(kube: Kube, store: Store, pycontain: CommandLine) -> None:
    text = """
apiVersion: v1
kind: Pod
metadata: {name: loops}
spec: {containers: [{name: c, image: busybox, command: [sh, -c, exit 3]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: fails}
spec:
  restartPolicy: Never
  initContainers: [{name: i, image: busybox, command: [sh, -c, exit 4]}]
  containers: [{name: c, image: busybox}]
---
apiVersion: v1
kind: Pod
metadata: {name: ends}
spec:
  restartPolicy: Never
  containers: [{name: c, image: busybox, command: ["true"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: recovers}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox
    command: [sh, -c, "[ -e /begun ] || { touch /begun; exit 5; }; exec sleep 1000"]
"""
    kube.play(manifest.parse(text).objects)
    declarations = Declarations(store.layout)

    def word(name: str) -> str:
        return cells(said(pycontain("kube", "get", "pod", name)))[1][2]

    def phase(name: str) -> str:
        one = declarations.get("Pod", name)
        return status.phase(one, observed.look(store.engine, one))

    wait_until(lambda: word("loops") == "CrashLoopBackOff")
    wait_until(lambda: word("fails") == "Init:Error")
    wait_until(lambda: word("ends") == "Completed")
    assert [phase(name) for name in ("loops", "fails", "ends")] == [
        "Running",
        "Failed",
        "Succeeded",
    ]
    # While it waits; it may just be running again.
    wait_until(
        lambda: "Last State:     Terminated" in said(pycontain("kube", "describe", "pod/loops"))
    )
    assert "Exit Code:    3" in said(pycontain("kube", "describe", "pod/loops"))

    def recovered() -> kube_status.ContainerStatus:
        one = declarations.get("Pod", "recovers")
        look = observed.look(store.engine, one)
        return status.status(one, look).container_statuses[0]

    wait_until(lambda: recovered().state.running is not None and recovered().restart_count == 1)
    before = recovered().last_state.terminated
    assert before is not None
    assert before.exit_code == 5


# ---- generating ----


def options_of(store: Store, name: str, *fields: str) -> dict[str, Any]:
    options = store.view(name).container.options
    return {field: getattr(options, field) for field in fields}


def test_containers_come_back_from_their_manifest(
    kube: Kube, store: Store, pycontain: CommandLine
) -> None:
    said(pycontain(
        "run", "-d", "--name", "solo", "-e", "A=x $(B) $$", "-v", "data:/data:ro",
        "-v", "/etc:/there", "--tmpfs", "/fast:size=1m,mode=0777", "-u", "5:6", "--read-only",
        "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "-w", "/tmp",
        "--restart", "always", "--stop-timeout", "0", "--ulimit", "nofile=64",
        "busybox", "sh", "-c", "echo $A >/fast/a; exec sleep 1000",
    ))  # fmt: skip
    fields = ("command", "env", "user", "workdir", "read_only", "cap_drop", "security_opt",
              "network", "stop_timeout")  # fmt: skip
    before = options_of(store, "solo", *fields)
    text = said(pycontain("kube", "generate", "solo"))
    assert text.startswith("# Not in this manifest:\n#   container solo: --ulimit\napiVersion:")
    store.engine.containers.remove("solo", force=True)
    played = pycontain("kube", "play", "--wait", "-", input=text.encode())
    assert played.returncode == 0, played.stderr
    after = options_of(store, "solo-pod-solo", *fields, "mounts", "restart")
    mounts = {mount.target: mount for mount in after.pop("mounts")}
    assert after.pop("restart") == RestartPolicy(name="always", crash_loop=True)
    before |= {"network": after["network"]}  # its pod's
    assert after == before
    assert (mounts["/data"].source, mounts["/data"].options) == ("data", ("rro",))
    assert mounts["/there"] == Mount(type="bind", source="/etc", target="/there")
    assert mounts["/fast"].type == "tmpfs"
    wait_until(lambda: store.exec("solo-pod-solo", "cat", "/fast/a").stdout == b"x $(B) $$\n")


def test_pods_come_back_from_their_manifest(
    kube: Kube, store: Store, pycontain: CommandLine
) -> None:
    create = ("pod", "create", "--name", "web", "--label", "a=b", "--add-host", "near:10.0.0.7")
    said(pycontain(*create))
    for name in ("server", "cache"):
        said(pycontain("create", "--pod", "web", "--name", f"web-{name}", "--stop-timeout", "0",
                       "--restart", "always", "busybox", "sleep", "1000"))  # fmt: skip
    text = said(pycontain("kube", "generate", "web"))
    before = Pods(store.engine).get("web").pod
    said(pycontain("pod", "rm", "web"))
    assert pycontain("kube", "play", "--wait", "-", input=text.encode()).returncode == 0
    after = Pods(store.engine).get("web")
    assert (after.pod.hostname or "web", after.pod.add_host) == ("web", before.add_host)
    assert after.pod.labels["a"] == "b"
    names = {one.container.name for one in after.members}
    assert names == {"web-server", "web-cache"}
    # of what was declared, what was declared
    assert said(pycontain("kube", "generate", "web")) == text


def test_what_cannot_be_generated(
    kube: Kube, store: Store, pycontain: CommandLine, tmp_path: Any
) -> None:
    said(pycontain("create", "--name", "solo", "busybox"))
    path = tmp_path / "solo.yaml"
    assert said(pycontain("kube", "generate", "-f", str(path), "solo")) == ""
    assert manifest.parse(path.read_text()).objects[0].name == "solo-pod"
    twice = pycontain("kube", "generate", "-f", str(path), "solo")
    assert twice.returncode == 125
    assert b"file exists" in twice.stderr
    text = said(pycontain("kube", "generate", "-t", "deployment", "-r", "3", "solo"))
    (found,) = manifest.parse(text).objects
    assert found.kind == "Deployment"
    for words, reason in {
        ("nosuch",): b"no container or pod",
        ("-r", "2", "solo"): b"--replicas is for",
        ("-t", "service", "solo"): b"pod and deployment",
    }.items():
        done = pycontain("kube", "generate", *words)
        assert done.returncode == 125
        assert reason in done.stderr
    said(pycontain("create", "--name", "named", "-u", "nobody", "busybox"))
    done = pycontain("kube", "generate", "named")
    assert b"numbers only" in done.stderr
    said(pycontain("pod", "create", "--name", "web"))
    said(pycontain("create", "--pod", "web", "--name", "member", "busybox"))
    assert b"name the pod" in pycontain("kube", "generate", "member").stderr
