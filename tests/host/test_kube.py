"""What Kubernetes' manifests declare, on a real kernel: what runs, is kept, undone, and left."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from harness import CommandLine, free_port, proc_field, wait_until

from pycontain.engine import records, sandbox, supervision
from pycontain.errors import (
    Conflict,
    InvalidInput,
    InvalidState,
    NotFound,
    PycontainError,
    RegistryError,
)
from pycontain.kernel import process
from pycontain.pod import manifest
from pycontain.pod.declared import Declarations
from pycontain.pod.play import Applied, Kube
from pycontain.pod.pods import Pods
from pycontain.store import files

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Store

    from pycontain.model.container import RunOptions
    from pycontain.store.layout import PodPaths

pytestmark = pytest.mark.host

NOBODY = "127.0.0.1:1"  # a registry that does not answer
ENDLESS = "{name: one, image: busybox, command: [sleep, '1000']}"
WEB = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: fast, page: "from the map\\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: hidden}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: config, configMap: {name: settings}}
  - {name: secret, secret: {secretName: keys, defaultMode: 0400}}
  initContainers:
  - name: first
    image: busybox
    command: [sh, -c, "echo init >/shared/a"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: second
    image: busybox
    command: [sh, -c, "cat /shared/a >/shared/b"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: server
    image: busybox
    command: [sh, -c, "cat /shared/b /config/page; echo $(MODE) $TOKEN; exec sleep 1000"]
    env:
    - {name: MODE, valueFrom: {configMapKeyRef: {name: settings, key: mode}}}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: config, mountPath: /config}
    - {name: secret, mountPath: /secret}
    - {name: config, mountPath: /etc/page, subPath: page}
  - name: cache
    image: busybox
    command: [sleep, "1000"]
    securityContext: {runAsUser: 1234}
    volumeMounts: [{name: shared, mountPath: /shared}]
"""


CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: fast}
"""
CONFIGURED = "volumes: [{name: v, configMap: {name: settings}}]"
MOUNTED = """command: [sleep, '1000']
    volumeMounts: [{name: v, mountPath: /config}]"""


@pytest.fixture
def pods(store: Store) -> Pods:
    return Pods(store.engine)


def pod(spec: str = "", container: str = "", *, image: str = "busybox", init: str = "") -> str:
    """A Pod of one container, ``up``, that runs for ever unless it says otherwise."""
    command = "" if "command:" in container else "command: [sleep, '1000']"
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  terminationGracePeriodSeconds: 0
  {spec}
  {f"initContainers: [{init}]" if init else ""}
  containers:
  - name: up
    image: {image}
    {command}
    {container}
"""


def play(kube: Kube, text: str, **how: Any) -> list[Applied]:
    return kube.play(manifest.parse(text, strict=True).objects, **how)


def ready(kube: Kube, text: str) -> list[Applied]:
    """Play a manifest, and wait until all of it is ready."""
    applied = play(kube, text)
    kube.await_ready([(one.declared.kind, one.declared.name) for one in applied], timeout=60)
    return applied


def sh(store: Store, ref: str, script: str) -> str:
    """What a shell says in a container that runs."""
    found = store.exec(ref, "sh", "-c", script)
    assert found.code == 0, found
    return found.stdout.decode()


def running(store: Store) -> list[str]:
    return [view.container.name for view in store.containers.list()]


def volumes_of(store: Store) -> list[str]:
    folder = store.layout.volumes
    return os.listdir(folder) if os.path.isdir(folder) else []


# ---- the command line ----


def test_play_and_down(store: Store, pods: Pods, pycontain: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(WEB)
    done = pycontain("kube", "play", "--wait", "--timeout", "60", str(path))
    assert (done.returncode, done.stderr) == (0, b"")
    said = re.fullmatch(
        rb"configmap/settings created\nsecret/keys created\n"
        rb"Pod:\n(\w{64})\nContainers:\n(\w{64})\n(\w{64})\n\n",
        done.stdout,
    )
    assert said, done.stdout
    view = pods.get("web")
    assert (view.state, view.pod.id) == ("Running", said[1].decode())
    names = ["web-first", "web-second", "web-server", "web-cache"]
    assert [one.container.name for one in view.members] == names
    expected = b"init\nfrom the map\nfast hidden\n"
    wait_until(lambda: store.log("web-server") == expected)
    looks = "cat /etc/page; stat -Lc %a /config/page /secret/token; hostname; ! touch /config/x"
    assert sh(store, "web-server", looks).split() == ["from", "the", "map", "644", "400", "web"]
    # Who is not root may write in what is empty, and the other sees it.
    assert sh(store, "web-cache", "id -u; echo other >/shared/c") == "1234\n"
    assert sh(store, "web-server", "cat /shared/c") == "other\n"

    again = pycontain("kube", "play", str(path))
    assert (again.returncode, again.stdout) == (125, b"")
    assert b"Pod web is declared already" in again.stderr
    applied = pycontain("kube", "apply", str(path))
    assert applied.stdout == (
        b"configmap/settings unchanged\nsecret/keys unchanged\npod/web unchanged\n"
    )
    replaced = pycontain("kube", "play", "--replace", "-", input=WEB.encode())
    assert replaced.returncode == 0, replaced.stderr
    assert pods.get("web").pod.id != view.pod.id

    down = pycontain("kube", "down", str(path))
    assert (down.returncode, down.stderr) == (0, b"")
    assert down.stdout == b"pod/web deleted\nsecret/keys deleted\nconfigmap/settings deleted\n"
    assert not pods.exists("web")
    down = pycontain("kube", "down", str(path))
    assert (down.returncode, down.stdout) == (0, b"")
    assert volumes_of(store) == []
    assert Declarations(store.layout).list() == []


def test_fields_that_do_nothing_are_named(store: Store, pods: Pods, pycontain: CommandLine) -> None:
    text = pod("nodeName: there").encode()
    told = pycontain("kube", "play", "--dry-run", "-", input=text)
    assert (told.returncode, told.stdout) == (0, b"pod/web created (dry run)\n")
    assert b"nodeName" in told.stderr
    refused = pycontain("kube", "play", "--strict", "-", input=text)
    assert (refused.returncode, refused.stdout) == (125, b"")
    assert b"nodeName" in refused.stderr
    assert pods.names() == {}
    assert store.containers.list(all=True) == []


# ---- what fails is undone ----


def test_an_init_container_that_fails_is_told_by_who_waits(store: Store, kube: Kube) -> None:
    init = '{name: one, image: busybox, command: [sh, -c, "echo it is bad; exit 3"]}'
    text = pod("volumes: [{name: v, emptyDir: {}}]\n  restartPolicy: Never", init=init)
    play(kube, text)
    with pytest.raises(InvalidState, match="container one has ended with exit code 3") as caught:
        kube.await_ready([("Pod", "web")], timeout=60)
    assert caught.value.hint == "it said: it is bad"
    assert store.state_of("web-up") == "created"


def test_who_waits_is_told_of_what_fails_again_and_again(kube: Kube) -> None:
    container = """command: [sh, -c, "echo again; exit 4"]
    readinessProbe: {exec: {command: ["true"]}, initialDelaySeconds: 60}"""
    play(kube, pod(container=container))
    with pytest.raises(InvalidState, match="container up has ended with exit code 4, again and"):
        kube.await_ready([("Pod", "web")], timeout=60)


def test_a_wait_has_an_end(kube: Kube) -> None:
    container = """command: [sleep, '1000']
    readinessProbe: {exec: {command: [test, -e, /there]}}"""
    play(kube, pod(container=container))
    with pytest.raises(InvalidState, match="not ready in time: pod web: container up is not ready"):
        kube.await_ready([("Pod", "web")], timeout=0.3)


def test_a_container_that_cannot_start_takes_the_pod_with_it(
    store: Store, pods: Pods, kube: Kube
) -> None:
    with pytest.raises(NotFound, match="/nosuch"):
        play(kube, pod("volumes: [{name: v, hostPath: {path: /nosuch, type: File}}]"))
    with pytest.raises(PycontainError, match="nosuch"):
        play(kube, pod(container="command: [nosuch]"))
    assert pods.names() == {}
    assert store.containers.list(all=True) == []
    assert Declarations(store.layout).list() == []


def test_what_cannot_be_applied_leaves_what_was_declared_before(store: Store, kube: Kube) -> None:
    text = f"{CONFIG}---{pod(CONFIGURED, MOUNTED)}"
    ready(kube, text)
    changed = text.replace("mode: fast", "mode: slow").replace("[sleep, '1000']", "[nosuch]")
    with pytest.raises(PycontainError, match="nosuch"):
        kube.apply(manifest.parse(changed, strict=True).objects)
    kube.await_ready([("Pod", "web")], timeout=60)
    wait_until(lambda: sh(store, "web-up", "cat /config/mode") == "fast")


def test_an_interrupted_command_leaves_no_pod(
    store: Store, pods: Pods, kube: Kube, pycontain: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "web.yaml"
    hook = """command: [sleep, '1000']
    lifecycle: {postStart: {exec: {command: [sleep, '1000']}}}"""
    path.write_text(pod(container=hook))
    with pycontain.start("kube", "play", str(path)) as child:
        wait_until(lambda: running(store) == ["web-up"])
        child.send_signal(signal.SIGINT)
        assert child.wait() == 130
    assert pods.names() == {}
    assert store.containers.list(all=True) == []
    assert Declarations(store.layout).list() == []


def test_what_a_killed_command_began_is_kept_by_the_supervisor(
    store: Store, kube: Kube, pycontain: CommandLine
) -> None:
    text = pod("volumes: [{name: v, emptyDir: {}}]", init=ENDLESS)
    with pycontain.start("kube", "play", "-", stdin=subprocess.PIPE) as child:
        assert child.stdin
        child.stdin.write(text.encode())
        child.stdin.close()
        wait_until(lambda: running(store) == ["web-one"])
        child.kill()
    store.containers.kill("web-one", signal.SIGKILL)
    store.containers.start("web-one")
    assert [one.name for one in kube.down(manifest.parse(text).objects)] == ["web"]
    assert store.containers.list(all=True) == []


def test_a_pod_that_was_not_played_is_left_alone(pods: Pods, kube: Kube) -> None:
    mine = pods.create("web", network="none")
    objects = manifest.parse(pod()).objects
    assert kube.down(objects) == []
    for replace_old in (False, True):
        with pytest.raises(Conflict, match="already exists"):
            kube.play(objects, replace_old=replace_old)
    assert pods.get("web").pod.id == mine.id
    pods.remove("web")


# ---- what it is to its containers ----


def test_volumes(store: Store, pods: Pods, kube: Kube, tmp_path: Path) -> None:
    spec = f"""volumes:
  - {{name: made, hostPath: {{path: {tmp_path}/made, type: DirectoryOrCreate}}}}
  - {{name: file, hostPath: {{path: {tmp_path}/file, type: FileOrCreate}}}}
  - {{name: quick, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}
  - {{name: kept, persistentVolumeClaim: {{claimName: kept}}}}"""
    container = """command: [sleep, '1000']
    volumeMounts:
    - {name: made, mountPath: /made}
    - {name: file, mountPath: /file, readOnly: true}
    - {name: quick, mountPath: /quick}
    - {name: kept, mountPath: /kept}
  - name: other
    image: busybox
    command: [sleep, '1000']
    volumeMounts: [{name: quick, mountPath: /quick}]"""
    play(kube, pod(spec, container))
    assert sh(store, "web-up", "echo a >/made/a; echo k >/kept/k; ! touch /file; ls /quick") == ""
    assert (tmp_path / "made" / "a").read_text() == "a\n"
    sh(store, "web-up", "echo m >/quick/m; ! dd if=/dev/zero of=/quick/z bs=2M count=1 2>/dev/null")
    assert sh(store, "web-other", "cat /quick/m; stat -f -c %T /quick") == "m\ntmpfs\n"
    kube.delete("Pod", "web")
    assert volumes_of(store) == ["kept"]
    play(kube, pod(spec, container))
    assert sh(store, "web-up", "cat /kept/k; ls /quick") == "k\n"
    kube.delete("Pod", "web")
    with pytest.raises(InvalidInput, match="it is no Socket"):
        play(kube, pod(f"volumes: [{{name: v, hostPath: {{path: {tmp_path}, type: Socket}}}}]"))
    store.engine.volumes.remove("kept")


def test_rights(store: Store, kube: Kube) -> None:
    container = """securityContext:
      runAsUser: 12
      readOnlyRootFilesystem: true
      runAsNonRoot: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}"""
    play(kube, pod("securityContext: {runAsGroup: 34, supplementalGroups: [56]}", container))
    assert sh(store, "web-up", "id -u; id -G; ! touch /x 2>/dev/null").split() == ["12", "34", "56"]
    pid = store.run_record("web-up").pid
    assert proc_field(pid, "CapBnd") == "0000000000000000"
    assert proc_field(pid, "NoNewPrivs") == "1"
    kube.delete("Pod", "web")
    with pytest.raises(InvalidInput, match="runAsNonRoot: the image's user is root"):
        play(kube, pod("securityContext: {runAsNonRoot: true}"))


def test_a_container_that_ends_is_started_again(store: Store, kube: Kube) -> None:
    script = "echo x >>/v/x; wc -l </v/x; test `wc -l </v/x` = 1 || exec sleep 1000"
    container = f"""command: [sh, -c, '{script}']
    volumeMounts: [{{name: v, mountPath: /v}}]"""
    play(kube, pod("volumes: [{name: v, emptyDir: {}}]", container))
    wait_until(lambda: store.log("web-up") == b"1\n2\n")


def test_a_host_port_leads_in(kube: Kube) -> None:
    port = free_port()
    container = f"""ports: [{{containerPort: 80, hostPort: {port}, hostIP: 127.0.0.1}}]
    command: [sh, -c, "while :; do echo from $HOSTNAME | nc -l -p 80; done"]"""
    play(kube, pod(container=container))

    def answer() -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as asking:
                return asking.recv(100)
        except OSError:
            return b""

    wait_until(lambda: answer() == b"from web\n")


# ---- images ----


def test_pull_policies(store: Store, kube: Kube) -> None:
    never = "imagePullPolicy: Never"
    with pytest.raises(NotFound, match="nosuch"):
        play(kube, pod(container=never, image="nosuch"))
    image = f"{NOBODY}/app"
    with pytest.raises(RegistryError):
        play(kube, pod(image=image))
    store.engine.images.tag("busybox", image)
    with pytest.raises(RegistryError):
        play(kube, pod(container="imagePullPolicy: Always", image=image))
    # What is there is good enough where no registry answers; that is said.
    said: list[str] = []
    play(Kube(store.engine), pod(image=image), progress=said.append)
    assert "using the image that is here" in said[0]
    kube.delete("Pod", "web")
    play(kube, pod(container=never, image=image))
    options: RunOptions = store.view("web-up").container.options
    assert options.image == image


# ---- what is kept ----

MANY = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 3
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: up, image: busybox, command: [sleep, "1000"]}]
"""


def apply(kube: Kube, text: str) -> list[Applied]:
    applied = kube.apply(manifest.parse(text, strict=True).objects)
    kube.await_ready([(one.declared.kind, one.declared.name) for one in applied], timeout=60)
    return applied


def pids(store: Store) -> dict[str, int]:
    """First processes of the containers that run, by name."""
    found = {view.container.name: records.load_run(view.paths) for view in store.containers.list()}
    return {name: record.pid for name, record in found.items() if record is not None}


def test_what_is_killed_or_removed_comes_back(store: Store, pods: Pods, kube: Kube) -> None:
    ready(kube, WEB)
    before = pods.get("web")
    first = store.run_record("web-server").pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: pids(store).get("web-server", first) != first)
    assert sh(store, "web-server", "cat /shared/b") == "init\n"

    holder = supervision_of_sandbox(store, before.pod.id)
    os.kill(holder, signal.SIGKILL)
    wait_until(lambda: supervision_of_sandbox(store, before.pod.id) not in (0, holder))

    store.containers.remove("web-cache", force=True)
    wait_until(lambda: sorted(running(store)) == ["web-cache", "web-server"])
    kube.await_ready([("Pod", "web")], timeout=60)
    after = pods.get("web")
    assert after.pod.id == before.pod.id
    init = [one.status.record for one in after.members if "second" in one.container.name]
    assert [one.run for one in init if one] == [
        one.status.record.run for one in before.members if one.status.record
    ][1:], "those of init are not run again"


def supervision_of_sandbox(store: Store, identity: str) -> int:
    """Pid of what holds a pod's sandbox; 0 where nothing does."""
    record = records.load_run(store.layout.pod(identity))
    return record.monitor if record and sandbox.state(store.layout, identity) == "running" else 0


def test_a_supervisor_that_is_killed_is_followed_by_another(store: Store, kube: Kube) -> None:
    ready(kube, MANY)
    found = supervision.recorded(store.layout)
    assert found is not None
    os.kill(found[0], signal.SIGKILL)
    wait_until(lambda: process.start_time(found[0]) != found[1])
    victim = running(store)[0]
    before = store.run_record(victim).pid
    os.kill(before, signal.SIGKILL)  # its monitor wakes the next one
    wait_until(lambda: supervision.lives(store.layout))
    wait_until(lambda: pids(store).get(victim, before) != before)
    kube.await_ready([("Deployment", "many")], timeout=60)
    assert len(running(store)) == 3


def test_a_pod_that_was_half_made_goes_with_what_is_taken_back(store: Store, kube: Kube) -> None:
    (applied,) = ready(kube, pod())
    begin_a_pod(store)
    kube.down([applied.declared.object])
    wait_until(lambda: not supervision.lives(store.layout))
    assert store.left_of_declared() == []


def test_a_pod_that_was_half_made_is_cleared_by_the_next_supervisor(
    store: Store, kube: Kube
) -> None:
    ready(kube, pod())
    found = supervision.recorded(store.layout)
    assert found is not None
    os.kill(found[0], signal.SIGKILL)
    wait_until(lambda: process.start_time(found[0]) != found[1])
    paths = begin_a_pod(store)
    supervision.wake(store.layout)
    wait_until(lambda: not os.path.exists(paths.folder) and not os.path.exists(paths.lock))


def test_what_cannot_be_cleared_keeps_nothing_else_from_being_kept(
    store: Store, kube: Kube, pycontain: CommandLine
) -> None:
    paths = begin_a_pod(store)
    subprocess.run(["mount", "-t", "tmpfs", "none", paths.folder], check=True)
    try:
        (wanted,) = manifest.parse(pod()).objects
        Declarations(store.layout).apply(wanted)
        supervision.wake(store.layout)
        wait_until(lambda: "web-up" in running(store))
        assert not os.path.exists(f"{store.state}/supervisor.failure")
        # Where the supervisor has a look at the same moment, there is nothing to say.
        wait_until(lambda: paths.folder.encode() in pycontain("pod", "ps").stderr)
    finally:
        subprocess.run(["umount", paths.folder], check=True)
    kube.down([wanted])
    wait_until(lambda: not os.path.exists(paths.folder))


class Silent(Declarations):
    """Of who is killed before it can tell what it has done."""

    def _tell(self, *said: str) -> None:
        pass


def test_what_nobody_was_told_of_is_kept_all_the_same(store: Store, pods: Pods, kube: Kube) -> None:
    ready(kube, MANY)
    silent = Silent(store.layout)
    victim = silent.names("Pod")[0]
    silent.delete("Pod", victim)
    wait_until(lambda: not pods.exists(victim))
    kube.await_ready([("Deployment", "many")], timeout=60)

    (wanted,) = manifest.parse(pod()).objects
    silent.apply(wanted)
    wait_until(lambda: "web-up" in running(store))
    kube.down([wanted])
    kube.apply(manifest.parse(MANY.replace("replicas: 3", "replicas: 0")).objects)
    wait_until(lambda: silent.names("Pod") == [])
    assert supervision.lives(store.layout)
    silent.forget(silent.get("Deployment", "many"))
    wait_until(lambda: not supervision.lives(store.layout))


def begin_a_pod(store: Store) -> PodPaths:
    """What there is of a pod when who makes it is killed before its document is there."""
    paths = store.layout.pod(os.urandom(32).hex())
    files.make_folder(store.layout.pods)
    files.make_folder(paths.folder)
    with files.Lock(paths.lock):
        pass
    return paths


def test_a_deployment_keeps_its_replicas(store: Store, pods: Pods, kube: Kube) -> None:
    ready(kube, MANY)
    names = sorted(pods.names().values())
    assert len(names) == 3
    assert all(re.fullmatch("many-[0-9a-f]{10}-[a-z0-9]{5}", name) for name in names)
    pods.remove(names[0], force=True)
    wait_until(lambda: len(running(store)) == 3 and names[0] not in pods.names().values())
    assert set(names[1:]) < set(pods.names().values())

    apply(kube, MANY.replace("replicas: 3", "replicas: 1"))
    wait_until(lambda: len(pods.names()) == 1)
    (left,) = pods.names().values()
    apply(kube, MANY.replace("replicas: 3", "replicas: 2").replace("1000", "2000"))
    wait_until(lambda: len(pods.names()) == 2)
    assert left not in pods.names().values()
    assert {tuple(view.container.command) for view in store.containers.list()} == {
        ("sleep", "2000")
    }
    assert [one.name for one in kube.down(manifest.parse(MANY).objects)] == ["many"]
    assert pods.names() == {}


def test_a_change_of_a_config_map_is_seen_by_who_has_it_mounted(store: Store, kube: Kube) -> None:
    ready(kube, WEB)
    run = store.run_record("web-server").run
    apply(kube, WEB.replace("from the map", "from another"))
    assert sh(store, "web-server", "cat /config/page; cat /etc/page") == (
        "from another\nfrom the map\n"
    )
    assert store.run_record("web-server").run == run


def test_a_pod_that_was_changed_is_another_one(store: Store, pods: Pods, kube: Kube) -> None:
    ready(kube, pod())
    before = pods.get("web").pod.id
    (applied,) = apply(kube, pod(container="command: [sleep, '77']"))
    assert applied.change == "configured"
    assert pods.get("web").pod.id == applied.pod != before
    assert store.view("web-up").container.command == ("sleep", "77")


def test_what_a_user_stops_stays_so_and_begins_in_its_order(
    store: Store, pods: Pods, kube: Kube
) -> None:
    ready(kube, WEB)
    assert pods.stop("web") == []
    wait_until(lambda: not supervision.lives(store.layout))  # nothing is left for it to do
    assert running(store) == []
    assert pods.start("web") == []
    kube.await_ready([("Pod", "web")], timeout=60)
    wait_until(lambda: store.log("web-server").count(b"init") >= 2)
    assert store.log("web-server").count(b"init") == 2
    store.containers.stop("web-cache")
    wait_until(lambda: running(store) == ["web-server"])
    pods.start("web")
    wait_until(lambda: sorted(running(store)) == ["web-cache", "web-server"])


def test_a_pod_that_has_done_its_work_is_left_alone(store: Store, pods: Pods, kube: Kube) -> None:
    sidecar = ENDLESS.replace("}", ", restartPolicy: Always}")
    text = pod("restartPolicy: OnFailure", "command: [sh, -c, 'sleep 0.3']", init=sidecar)
    ready(kube, text)
    wait_until(lambda: running(store) == [])
    wait_until(lambda: pods.get("web").sandbox == "exited")
    wait_until(lambda: not supervision.lives(store.layout))
    assert store.state_of("web-one") == "exited"
    assert pods.remove("web") and Declarations(store.layout).list() == []


def test_a_sidecar_is_there_before_the_others_and_as_long_as_they(store: Store, kube: Kube) -> None:
    # However long it takes: one that has failed three times would be started again.
    probe = (
        "startupProbe: {exec: {command: [test, -e, /v/there]}, periodSeconds: 1,"
        " failureThreshold: 1000}"
    )
    mounts = "volumeMounts: [{name: v, mountPath: /v}]"
    init = ENDLESS.replace("}", f", restartPolicy: Always, {mounts}, {probe}}}")
    text = pod("volumes: [{name: v, emptyDir: {}}]", init=init)
    play(kube, text)
    wait_until(lambda: running(store) == ["web-one"])
    assert store.state_of("web-up") == "created"
    sh(store, "web-one", "touch /v/there")
    wait_until(lambda: sorted(running(store)) == ["web-one", "web-up"])
    os.kill(store.run_record("web-one").pid, signal.SIGKILL)
    kube.await_ready([("Pod", "web")], timeout=60)


def test_a_pod_that_runs_for_too_long_has_failed(store: Store, kube: Kube) -> None:
    play(kube, pod("activeDeadlineSeconds: 1"))
    declarations = Declarations(store.layout)
    wait_until(lambda: declarations.get("Pod", "web").failure is not None)
    with pytest.raises(InvalidState, match="DeadlineExceeded: it ran for longer than 1 seconds"):
        kube.await_ready([("Pod", "web")], timeout=10)
    wait_until(lambda: running(store) == [])


def test_a_reboot_waits_for_system_boot(store: Store, kube: Kube, pycontain: CommandLine) -> None:
    ready(kube, WEB)
    declarations = Declarations(store.layout)
    declarations.rest()
    assert not declarations.are_kept
    os.kill(store.run_record("web-cache").pid, signal.SIGKILL)
    store.containers.remove("web-server", force=True)
    booted = pycontain("system", "boot")
    assert (booted.returncode, booted.stdout) == (0, b"web\n")
    kube.await_ready([("Pod", "web")], timeout=60)


def test_a_step_that_fails_is_told_and_tried_again(
    store: Store, pods: Pods, kube: Kube, tmp_path: Path
) -> None:
    path = tmp_path / "late"
    path.mkdir()
    spec = f"volumes: [{{name: v, hostPath: {{path: {path}, type: Directory}}}}]"
    ready(kube, pod(spec))
    path.rmdir()
    pods.discard(pods.find("web"), force=True)
    declared = Declarations(store.layout).get("Pod", "web")

    def told() -> str:
        problem = Declarations(store.layout).problem(declared)
        return problem.message if problem else ""

    # The first one to be told may be of a round that was at it when the pod went.
    wait_until(lambda: "there is no such Directory" in told())
    path.mkdir()
    # Whoever waits is told of what has failed three times, until a round has gone well.
    wait_until(lambda: Declarations(store.layout).problem(declared) is None)
    kube.await_ready([("Pod", "web")], timeout=60)


def test_a_container_that_cannot_start_keeps_no_other_from_it(store: Store, kube: Kube) -> None:
    init = "{name: one, image: busybox, command: [sh, -c, 'sleep 0.3']}"
    wrong = "  containers:\n  - {name: wrong, image: busybox, command: [nosuch]}"
    play(kube, pod(init=init).replace("  containers:", wrong, 1))
    wait_until(lambda: running(store) == ["web-up"])
    with pytest.raises(InvalidState, match="nosuch"):
        kube.await_ready([("Pod", "web")], timeout=60)


def test_pod_rm_and_the_supervisor_may_both_remove_a_pod(
    store: Store, pods: Pods, kube: Kube
) -> None:
    for _ in range(12):
        play(kube, pod())
        wait_until(lambda: supervision.lives(store.layout))
        assert pods.remove("web", force=True)
        assert not pods.exists("web")
        assert Declarations(store.layout).list() == []
