"""What users of Kubernetes expect of what is declared, on a real kernel."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from harness import PATIENCE, wait_until

from pycontain.engine.containers import Containers
from pycontain.errors import Conflict, PycontainError
from pycontain.model.kube_status import PodStatus
from pycontain.pod import manifest, observed
from pycontain.pod.declared import Declarations
from pycontain.pod.keeper import Keeper

if TYPE_CHECKING:
    from harness import CommandLine, Store

    from pycontain.pod.play import Kube

pytestmark = pytest.mark.host

GRACE = 1000
OBJECTS = f"""
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 0.1Gi}}}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: one}}
data: {{a: one}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: two}}
data: {{b: two}}
---
apiVersion: v1
kind: Pod
metadata:
  name: web
  annotations: {{kubectl.kubernetes.io/default-container: by}}
spec:
  hostNetwork: true
  hostAliases: [{{ip: 192.0.2.7, hostnames: [alias.example]}}]
  dnsConfig: {{nameservers: [192.0.2.53]}}
  terminationGracePeriodSeconds: {GRACE}
  volumes:
  - {{name: data, persistentVolumeClaim: {{claimName: data}}}}
  - {{name: loose, persistentVolumeClaim: {{claimName: loose}}}}
  - {{name: one, configMap: {{name: one}}}}
  - {{name: two, configMap: {{name: two}}}}
  initContainers:
  - {{name: aside, image: busybox, restartPolicy: Always, command: [sleep, "1000"]}}
  containers:
  - name: up
    image: busybox
    command: [sh, -c, "echo up; exec sleep 1000"]
    securityContext: {{runAsGroup: 7}}
    volumeMounts: [{{name: one, mountPath: /one}}, {{name: two, mountPath: /two}}]
  - name: by
    image: busybox
    command: [sh, -c, "echo by; exec sleep 1000"]
    securityContext: {{runAsUser: 1234}}
    volumeMounts: [{{name: data, mountPath: /data}}, {{name: loose, mountPath: /loose}}]
"""


SHORT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  replicas: 0
  selector: {matchLabels: {app: d}}
  template:
    metadata: {labels: {app: d}}
    spec: {containers: [{name: c, image: busybox}]}
"""


def sh(store: Store, ref: str, script: str) -> list[str]:
    found = store.exec(ref, "sh", "-c", script)
    assert found.code == 0, found
    return found.stdout.decode().split()


def test_what_is_expected(
    store: Store, kube: Kube, pycontain: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube.apply(manifest.parse(OBJECTS).objects)
    kube.check(manifest.parse(SHORT).objects)  # its pods have longer names
    kube.await_ready([("Pod", "web")], timeout=60)
    assert sh(store, "web-up", "id -u; id -g; hostname") == ["0", "7", socket.gethostname()]
    etc = " ".join(sh(store, "web-up", "cat /etc/hosts /etc/resolv.conf"))
    assert "192.0.2.7 alias.example" in etc and "nameserver 192.0.2.53" in etc
    assert sh(store, "web-by", "touch /data/x; stat -c %u /data/x") == ["1234"]
    # of a claim that nobody declared
    assert sh(store, "web-by", "touch /loose/x; stat -c %a /loose") == ["777"]
    wait_until(lambda: store.log("web-by") == b"by\n")
    logs = pycontain("kube", "logs", "web")
    assert (logs.stdout, logs.stderr) == (b"by\n", b"")
    _check_what_is_got_changes_nothing(pycontain)
    _check_other_words_change_nothing(kube)
    _check_one_map_without_another(store, kube)
    _check_what_is_immutable(kube)
    _check_the_time_of_sidecars(store, monkeypatch)
    kube.down(manifest.parse(OBJECTS).objects, force=True)
    assert not store.engine.volumes.exists("data")


def _check_what_is_got_changes_nothing(pycontain: CommandLine) -> None:
    got = pycontain("kube", "get", "-o", "yaml", "pod", "web")
    assert b"uid:" in got.stdout and b"phase: Running" in got.stdout
    applied = pycontain("kube", "apply", "--strict", "-", input=got.stdout)
    assert (applied.stdout, applied.stderr) == (b"pod/web unchanged\n", b"")


def _check_other_words_change_nothing(kube: Kube) -> None:
    said = OBJECTS.replace("storage: 0.1Gi", "storage: 107374182.4")
    said = said.replace("hostNetwork: true", "hostNetwork: true\n  restartPolicy: Always")
    wanted = manifest.parse(said).objects
    assert wanted != manifest.parse(OBJECTS).objects
    assert {one.change for one in kube.apply(wanted)} == {"unchanged"}


def _check_what_is_immutable(kube: Kube) -> None:
    two = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two}\nimmutable: true\ndata: {b: %s}\n"
    first, second = (manifest.parse(two % text, strict=True).objects for text in ("one", "two"))
    kube.apply(first)
    for refused in (kube.apply, kube.play, kube.check):
        with pytest.raises(Conflict, match="ConfigMap/two: data: field is immutable"):
            refused(second)
    kube.check(second, replace_old=True)
    (played,) = kube.play(second, replace_old=True)
    assert played.change == "configured"


def _check_one_map_without_another(store: Store, kube: Kube) -> None:
    kube.delete("ConfigMap", "one")
    two = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two}\ndata: {b: changed}\n"
    (applied,) = kube.apply(manifest.parse(two).objects)
    assert applied.change == "configured"
    assert sh(store, "web-up", "cat /one/a; echo; cat /two/b") == ["one", "changed"]


def _check_the_time_of_sidecars(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, int | None] = {}
    real = Containers.stop

    def stop(self: Containers, ref: str, *, timeout: int | None = None, **how: Any) -> None:
        said[self.get(ref).container.name] = timeout
        real(self, ref, timeout=0, **how)

    monkeypatch.setattr(Containers, "stop", stop)
    declarations = Declarations(store.layout)
    with declarations.lock("Pod", "web"):
        declared = declarations.get("Pod", "web")
        Keeper(store.engine).end(declared, observed.look(store.engine, declared))
    monkeypatch.undo()
    left = said.pop("web-aside")
    assert said == {"web-up": None, "web-by": None}
    assert left is not None and 2 <= left < GRACE


# ---- why a pod is not further ----

STUCK = """
apiVersion: v1
kind: Pod
metadata: {{name: stuck}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  volumes: [{volume}]
  containers:
  - {{name: up, image: busybox, command: [sleep, "1000"]}}
  - {{name: by, image: {image}, {field}}}
"""
PLACE = "{name: v, hostPath: {path: /nowhere/at/all, type: Directory}}"


@pytest.mark.parametrize(
    ("image", "field", "volume", "container", "words", "said"),
    [
        ("nothing.invalid/a:1", "imagePullPolicy: Never", "", "by", ("ErrImageNeverPull",) * 2, ""),
        ("'A:B:C'", "imagePullPolicy: Always", "", "by", ("InvalidImageName",) * 2, ""),
        ("127.0.0.1:1/a:1", "imagePullPolicy: IfNotPresent", "", "by",
         ("ErrImagePull", "ImagePullBackOff"), ""),
        ("busybox", "envFrom: [{configMapRef: {name: none}}]", "", "by",
         ("CreateContainerConfigError",) * 2, "envFrom[0]: there is no ConfigMap/none"),
        ("busybox", "securityContext: {runAsNonRoot: true}", "", "by",
         ("CreateContainerConfigError",) * 2, "runAsNonRoot"),
        ("busybox", "volumeMounts: [{name: v, mountPath: /v}]", PLACE, "by",
         ("CreateContainerError",) * 2, "pod stuck: container by: volume v: hostPath /nowhere/at"),
        ("busybox", "command: [/no/such/program]", "", "by",
         ("RunContainerError",) * 2, "pod stuck: container by: "),
    ],
)  # fmt: skip
def test_why_a_pod_is_not_further(
    store: Store, kube: Kube, image: str, field: str, volume: str, container: str,
    words: tuple[str, str], said: str,
) -> None:  # fmt: skip
    text = STUCK.format(image=image, field=field, volume=volume)
    declarations, keeper = Declarations(store.layout), Keeper(store.engine)
    declarations.apply(manifest.parse(text).objects[0])
    for word in words:
        with pytest.raises(PycontainError) as caught:
            keeper.keep("Pod", "stuck")
        assert said in caught.value.message
        status = kube.status("Pod", "stuck")
        assert isinstance(status, PodStatus)
        problem = declarations.problem(declarations.get("Pod", "stuck"))
        assert problem is not None and problem.container == container
        found = {one.name: one.state.waiting for one in status.container_statuses}[container]
        assert found is not None and found.reason == word
    kube.delete("Pod", "stuck")


def test_pods_that_never_ran_give_way_to_others(kube: Kube, pycontain: CommandLine) -> None:
    def deployment(command: str) -> str:
        fields = f"image: busybox, command: {command}"
        text = SHORT.replace("replicas: 0", "replicas: 1").replace("image: busybox", fields)
        return text.replace(
            "spec: {containers", "spec: {terminationGracePeriodSeconds: 0, containers"
        )

    kube.apply(manifest.parse(deployment("[/no/such/program]")).objects)
    wait_until(lambda: b" RunContainerError " in pycontain("kube", "get", "pods").stdout)
    kube.apply(manifest.parse(deployment("[sleep, '1000']")).objects)
    kube.await_ready([("Deployment", "d")], timeout=PATIENCE)
