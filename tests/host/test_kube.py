"""Pods from Kubernetes' manifests on a real kernel: what runs, what is undone, what is left."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from harness import CommandLine, proc_field, wait_until

from pycontain.errors import Conflict, InvalidInput, InvalidState, NotFound, RegistryError
from pycontain.model import kube
from pycontain.model.container import NetworkChoice, RunOptions
from pycontain.pod import manifest
from pycontain.pod.play import Around, Played, Player, plan
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness import Store

pytestmark = pytest.mark.host

BRIDGE = Around(network="bridge", networks=(NetworkChoice(name="bridge"),))
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


@pytest.fixture
def pods(store: Store) -> Iterator[Pods]:
    """The pods of the test's store, all removed at its end."""
    found = Pods(store.engine)
    yield found
    for identity in found.names():
        found.remove(identity, force=True)
    for folder in (store.layout.pods, store.layout.state_pods):
        assert not os.path.isdir(folder) or os.listdir(folder) == []


@pytest.fixture
def player(store: Store, pods: Pods) -> Player:
    return Player(store.engine, pods)


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


def play(player: Player, text: str, around: Around | None = None, **how: Any) -> Played:
    objects = manifest.parse(text, strict=True).objects
    (found,) = (item for item in objects if isinstance(item, kube.Pod))
    return player.play(plan(found, objects, around), **how)


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
    done = pycontain("kube", "play", str(path))
    assert (done.returncode, done.stderr) == (0, b"")
    said = re.fullmatch(rb"Pod:\n(\w{64})\nContainers:\n(\w{64})\n(\w{64})\n\n", done.stdout)
    assert said, done.stdout
    view = pods.get("web")
    assert (view.state, view.pod.id) == ("Running", said[1].decode())
    assert [one.container.name for one in view.members] == ["web-server", "web-cache"]
    expected = b"init\nfrom the map\nfast hidden\n"
    wait_until(lambda: store.log("web-server") == expected)
    looks = "cat /etc/page; stat -c %a /config/page /secret/token; hostname; ! touch /config/x"
    assert sh(store, "web-server", looks).split() == ["from", "the", "map", "644", "400", "web"]
    # Who is not root may write in what is empty, and the other sees it.
    assert sh(store, "web-cache", "id -u; echo other >/shared/c") == "1234\n"
    assert sh(store, "web-server", "cat /shared/c") == "other\n"

    again = pycontain("kube", "play", str(path))
    assert (again.returncode, again.stdout) == (125, b"")
    assert b"already exists" in again.stderr
    replaced = pycontain("kube", "play", "--replace", "-", input=WEB.encode())
    assert replaced.returncode == 0, replaced.stderr
    assert pods.get("web").pod.id != view.pod.id

    new = pods.get("web").pod.id
    down = pycontain("kube", "down", str(path))
    assert down.stdout.decode() == f"Pods stopped:\n{new}\nPods removed:\n{new}\n"
    assert not pods.exists("web")
    down = pycontain("kube", "down", str(path))
    assert (down.returncode, down.stdout) == (0, b"Pods stopped:\nPods removed:\n")
    assert volumes_of(store) == []


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


def test_an_init_container_that_fails_takes_the_pod_with_it(
    store: Store, pods: Pods, player: Player
) -> None:
    init = '{name: one, image: busybox, command: [sh, -c, "echo it is bad; exit 3"]}'
    with pytest.raises(InvalidState, match="web-one: exit code 3") as caught:
        play(player, pod("volumes: [{name: v, emptyDir: {}}]", init=init))
    assert caught.value.hint == "it said: it is bad"
    assert pods.names() == {}
    assert store.containers.list(all=True) == []


def test_a_container_that_cannot_start_takes_the_pod_with_it(
    store: Store, pods: Pods, player: Player
) -> None:
    with pytest.raises(NotFound, match="/nosuch"):
        play(player, pod("volumes: [{name: v, hostPath: {path: /nosuch, type: File}}]"))
    with pytest.raises(Exception, match="nosuch"):
        play(player, pod(container="command: [nosuch]"))
    assert pods.names() == {}
    assert store.containers.list(all=True) == []


def test_an_interrupted_command_leaves_no_pod(
    store: Store, pods: Pods, pycontain: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(pod(init=ENDLESS))
    with pycontain.start("kube", "play", str(path)) as child:
        wait_until(lambda: running(store) == ["web-one"])
        child.send_signal(signal.SIGINT)
        assert child.wait() == 130
    assert pods.names() == {}
    assert store.containers.list(all=True) == []


def test_what_a_killed_command_began_is_taken_down(
    store: Store, pods: Pods, player: Player, pycontain: CommandLine
) -> None:
    text = pod("volumes: [{name: v, emptyDir: {}}]", init=ENDLESS)
    with pycontain.start("kube", "play", "-", stdin=subprocess.PIPE) as child:
        assert child.stdin
        child.stdin.write(text.encode())
        child.stdin.close()
        wait_until(lambda: running(store) == ["web-one"])
        child.kill()
    assert list(pods.names().values()) == ["web"]
    assert player.down("web") is not None
    assert store.containers.list(all=True) == []


def test_a_pod_that_was_not_played_is_left_alone(pods: Pods, player: Player) -> None:
    mine = pods.create("web", network="none")
    for act in (lambda: player.down("web"), lambda: play(player, pod(), replace_old=True)):
        with pytest.raises(Conflict, match="was not made by kube play"):
            act()
    with pytest.raises(Conflict, match="already exists"):
        play(player, pod())
    assert pods.get("web").pod.id == mine.id
    assert player.down(mine.id[:12]) is None  # no name of a pod


# ---- what it is to its containers ----


def test_volumes(store: Store, pods: Pods, player: Player, tmp_path: Path) -> None:
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
    play(player, pod(spec, container))
    assert sh(store, "web-up", "echo a >/made/a; echo k >/kept/k; ! touch /file; ls /quick") == ""
    assert (tmp_path / "made" / "a").read_text() == "a\n"
    sh(store, "web-up", "echo m >/quick/m; ! dd if=/dev/zero of=/quick/z bs=2M count=1 2>/dev/null")
    assert sh(store, "web-other", "cat /quick/m; stat -f -c %T /quick") == "m\ntmpfs\n"
    player.down("web")
    assert volumes_of(store) == ["kept"]
    play(player, pod(spec, container))
    assert sh(store, "web-up", "cat /kept/k; ls /quick") == "k\n"
    assert player.down("web") is not None
    with pytest.raises(InvalidInput, match="it is no Socket"):
        play(player, pod(f"volumes: [{{name: v, hostPath: {{path: {tmp_path}, type: Socket}}}}]"))
    store.engine.volumes.remove("kept")


def test_rights(store: Store, player: Player) -> None:
    container = """securityContext:
      runAsUser: 12
      readOnlyRootFilesystem: true
      runAsNonRoot: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}"""
    play(player, pod("securityContext: {runAsGroup: 34, supplementalGroups: [56]}", container))
    assert sh(store, "web-up", "id -u; id -G; ! touch /x 2>/dev/null").split() == ["12", "34", "56"]
    pid = store.run_record("web-up").pid
    assert proc_field(pid, "CapBnd") == "0000000000000000"
    assert proc_field(pid, "NoNewPrivs") == "1"
    player.down("web")
    with pytest.raises(InvalidInput, match="runAsNonRoot: the image's user is root"):
        play(player, pod("securityContext: {runAsNonRoot: true}"))


def test_a_container_that_ends_is_started_again(store: Store, player: Player) -> None:
    script = "echo x >>/v/x; wc -l </v/x; test `wc -l </v/x` = 1 || exec sleep 1000"
    container = f"""command: [sh, -c, '{script}']
    volumeMounts: [{{name: v, mountPath: /v}}]"""
    play(player, pod("volumes: [{name: v, emptyDir: {}}]", container))
    wait_until(lambda: store.log("web-up") == b"1\n2\n")


def test_a_host_port_leads_in(player: Player) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    container = f"""ports: [{{containerPort: 80, hostPort: {port}, hostIP: 127.0.0.1}}]
    command: [sh, -c, "while :; do echo from $HOSTNAME | nc -l -p 80; done"]"""
    play(player, pod(container=container), BRIDGE)

    def answer() -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as asking:
                return asking.recv(100)
        except OSError:
            return b""

    wait_until(lambda: answer() == b"from web\n")


# ---- images ----


def test_pull_policies(store: Store, player: Player) -> None:
    never = "imagePullPolicy: Never"
    with pytest.raises(NotFound, match="nosuch"):
        play(player, pod(container=never, image="nosuch"))
    image = f"{NOBODY}/app"
    with pytest.raises(RegistryError):
        play(player, pod(image=image))
    store.engine.images.tag("busybox", image)
    with pytest.raises(RegistryError):
        play(player, pod(container="imagePullPolicy: Always", image=image))
    # What is there is good enough where no registry answers; that is said.
    said: list[str] = []
    play(Player(store.engine, Pods(store.engine), progress=said.append), pod(image=image))
    assert "using the image that is here" in said[0]
    player.down("web")
    play(player, pod(container=never, image=image))
    options: RunOptions = store.view("web-up").container.options
    assert options.image == image
