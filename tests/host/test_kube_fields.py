"""Fields of Kubernetes' manifests on a real kernel: what the containers have of them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from harness import wait_until

from pycontain.pod import manifest, plan
from pycontain.pod.play import Kube
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness import Store

    from pycontain.model.kube import Object

pytestmark = pytest.mark.host

WHOLE = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {key: value}}
- {apiVersion: v1, kind: Secret, metadata: {name: hidden}, stringData: {token: t}}
- apiVersion: v1
  kind: Pod
  metadata: {name: web, labels: {app: x}, annotations: {note: 'a "b"'}}
  spec:
    terminationGracePeriodSeconds: 0
    securityContext:
      fsGroup: 555
      supplementalGroups: [556]
      sysctls: [{name: kernel/shmmax, value: "123456"}, {name: net.core.somaxconn, value: "77"}]
    volumes:
    - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
    - name: told
      projected:
        defaultMode: 0440
        sources:
        - configMap: {name: conf}
        - secret: {name: hidden, items: [{key: token, path: a/token}]}
        - downwardAPI:
            items:
            - {path: labels, fieldRef: {fieldPath: metadata.labels}}
            - {path: notes, fieldRef: {fieldPath: metadata.annotations}}
            - {path: uid, fieldRef: {fieldPath: metadata.uid}}
            - {path: memory, resourceFieldRef: {containerName: up, resource: limits.memory}}
    initContainers:
    - name: first
      image: busybox
      command: [sh, -c, "echo first >/memory/left"]
      volumeMounts: [{name: memory, mountPath: /memory}]
    - {name: beside, image: busybox, restartPolicy: Always, command: [sleep, "1000"]}
    containers:
    - name: up
      image: busybox
      command: [sleep, "1000"]
      securityContext: {seccompProfile: {type: Unconfined}, procMount: Unmasked}
      env:
      - {name: WHICH, value: a}
      - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
      - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
      - {name: UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
      - {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
      volumeMounts:
      - {name: memory, mountPath: /memory}
      - {name: told, mountPath: /told}
      - {name: told, mountPath: /token, subPathExpr: $(WHICH)/token}
"""


@pytest.fixture
def play(store: Store) -> Iterator[Callable[[str], None]]:
    """Declares the objects of a text, waits until they are as declared, and takes them back."""
    kube = Kube(store.engine)
    declared: list[Object] = []

    def declare(text: str) -> None:
        objects = manifest.parse(text, strict=True).objects
        declared.extend(objects)
        kube.play(objects)
        names = [(one.kind, one.name) for one in objects if one.kind in ("Pod", "Deployment")]
        kube.await_ready(names, timeout=120)

    yield declare
    kube.down(declared, force=True)
    wait_until(lambda: not store.containers.list(all=True))


def lines(store: Store, ref: str, script: str) -> list[str]:
    """What a shell in a container that runs has to say."""
    found = store.exec(ref, "sh", "-c", script)
    assert found.code == 0, found
    return found.stdout.decode().splitlines()


def test_what_a_pod_says_is_so_in_its_containers(store: Store, play: Callable[[str], None]) -> None:
    play(WHOLE)
    uid = Kube(store.engine).get("Pod", "web").uid
    assert lines(store, "web-up", "cat /memory/left; df -k /memory | awk 'NR > 1 {print $2}'") == [
        "first", "1024",
    ]  # fmt: skip
    script = "for name in key a/token labels notes memory uid; do cat /told/$name; echo; done"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    *found, said, told = lines(store, "web-up", script)
    assert found == ["value", "t", 'app="x"', 'note="a \\"b\\""']
    assert 0 < int(said) <= memory
    assert told == uid
    assert lines(store, "web-up", "cat /token; stat -Lc '%a %g' /told/key") == ["t440 555"]
    assert {"555", "556"} <= set(lines(store, "web-up", "id -G")[0].split())
    parameters = "cat /proc/sys/kernel/shmmax /proc/sys/net/core/somaxconn"
    assert lines(store, "web-up", parameters) == ["123456", "77"]
    assert lines(store, "web-beside", parameters) == ["123456", "77"]
    assert lines(store, "web-up", "grep Seccomp: /proc/self/status") == ["Seccomp:\t0"]
    assert lines(store, "web-beside", "grep Seccomp: /proc/self/status") == ["Seccomp:\t2"]
    assert lines(store, "web-up", "grep -c ' /proc/sys ' /proc/mounts || :") == ["0"]
    assert lines(store, "web-beside", "grep -c ' /proc/sys ' /proc/mounts") == ["1"]
    own, node, us, cpus = lines(store, "web-up", "echo $IP; echo $NODE; echo $UID; echo $CPUS")
    addresses = lines(store, "web-up", "ip -4 -o addr show scope global")
    assert own in addresses[0] if addresses else own == ""
    assert (node, us) == (os.uname().nodename, uid)
    assert 1 <= int(cpus) <= (os.cpu_count() or 1)


def test_namespaces_of_the_machine(store: Store, play: Callable[[str], None]) -> None:
    play(
        """
apiVersion: v1
kind: Pod
metadata: {name: near}
spec:
  terminationGracePeriodSeconds: 0
  hostPID: true
  hostIPC: true
  hostNetwork: true
  containers:
  - name: up
    image: busybox
    command: [sleep, "1000"]
    env:
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
"""
    )
    kinds = ("pid", "ipc", "net")
    found = lines(store, "near-up", "".join(f"readlink /proc/self/ns/{one};" for one in kinds))
    assert found == [os.readlink(f"/proc/self/ns/{one}") for one in kinds]
    own, host = lines(store, "near-up", "echo $IP; echo $HOST")
    assert own == host


def test_a_profile_of_the_machine(
    store: Store,
    play: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "SECCOMP_FOLDER", str(tmp_path))
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "no-folders.json").write_text(json.dumps(profile))
    play(
        """
apiVersion: v1
kind: Pod
metadata: {name: strict}
spec:
  terminationGracePeriodSeconds: 0
  securityContext:
    seccompProfile: {type: Localhost, localhostProfile: a/no-folders.json}
  containers:
  - {name: up, image: busybox, command: [sleep, "1000"]}
"""
    )
    assert lines(store, "strict-up", "mkdir /tmp/x 2>&1 || :") == [
        "mkdir: can't create directory '/tmp/x': Operation not permitted"
    ]


def test_a_pod_that_starts_again_is_told_its_new_address(
    store: Store, play: Callable[[str], None]
) -> None:
    play(
        """
apiVersion: v1
kind: Pod
metadata: {name: told}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: plain, image: busybox, command: [sleep, "1000"]}
  - name: up
    image: busybox
    command: [sleep, "1000"]
    env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
"""
    )

    def addresses() -> list[str]:
        script = "echo $IP; ip -4 -o addr show eth0 | awk '{print $4}' | cut -d/ -f1"
        return lines(store, "told-up", script)

    def ids() -> list[str]:
        return [store.containers.get(f"told-{name}").container.id for name in ("plain", "up")]

    (told, there), (plain, up) = addresses(), ids()
    assert told == there
    pods = Pods(store.engine)
    pods.stop("told")
    pods.start("told")
    Kube(store.engine).await_ready([("Pod", "told")], timeout=120)
    (now, there), (same, other) = addresses(), ids()
    assert now == there
    assert same == plain
    assert (other == up) == (now == told)
