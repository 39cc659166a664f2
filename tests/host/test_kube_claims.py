"""PersistentVolumeClaims are met by volumes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from harness import wait_until

from pycontain import Kube
from pycontain.errors import Conflict
from pycontain.model import kube
from pycontain.pod import claims

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import CommandLine, Store

pytestmark = pytest.mark.host

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: {policy}
  volumes:
  - {{name: data, persistentVolumeClaim: {{claimName: data}}}}
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "echo {name} >>/data/names; {rest}"]
    volumeMounts: [{{name: data, mountPath: /data}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data, labels: {{team: a}}}}
spec:
  accessModes: [{mode}]
  resources: {{requests: {{storage: 1Gi}}}}
"""


def claim(storage: str = "1Gi", **spec: Any) -> kube.PersistentVolumeClaim:
    document = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], **spec,
                 "resources": {"requests": {"storage": storage}}},
    }  # fmt: skip
    return msgspec.convert(document, kube.PersistentVolumeClaim)


def read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:  # nobody has written it yet
        return ""


@pytest.fixture
def play(store: Store, pycontain: CommandLine) -> Iterator[Any]:
    """``kube VERB`` with the manifest of a pod; what was declared is taken back at the end."""
    played = {}

    def play(
        verb: str, name: str, *flags: str, mode: str = "ReadWriteOnce", policy: str = "Always",
        rest: str = "exec sleep 1000",
    ) -> Any:  # fmt: skip
        text = MANIFEST.format(name=name, mode=mode, policy=policy, rest=rest).encode()
        played[name] = text
        return pycontain("kube", verb, *flags, "-", input=text)

    yield play
    for text in played.values():
        pycontain("kube", "down", "-", input=text)
    store.engine.volumes.remove("data", force=True)


def test_a_claim_makes_its_volume_once(store: Store) -> None:
    made = claims.ensure(store.engine, claim())
    assert made.labels == {
        "io.kubernetes.pvc.name": "data", "io.kubernetes.pvc.access-modes": "ReadWriteOnce",
        "io.kubernetes.pvc.storage": "1073741824",
    }  # fmt: skip
    assert claims.ensure(store.engine, claim("1024Mi", storageClassName="standard")) == made
    with pytest.raises(Conflict) as caught:
        claims.ensure(store.engine, claim("2Gi", accessModes=["ReadWriteMany"]))
    assert caught.value.message == (
        "PersistentVolumeClaim/data: volume data is there, made for another claim:"
        " accessModes was ReadWriteOnce, is ReadWriteMany;"
        " resources.requests.storage was 1073741824, is 2147483648"
    )
    assert claims.release(store.engine, "data") is False
    assert store.engine.volumes.exists("data")
    assert claims.release(store.engine, "data", force=True) is True
    assert not store.engine.volumes.exists("data")
    assert claims.release(store.engine, "data", force=True) is False


def test_a_volume_of_a_user_meets_any_claim_and_stays(store: Store) -> None:
    made = store.engine.volumes.create("data", labels={"mine": "yes"})
    assert claims.ensure(store.engine, claim()) == made
    assert claims.release(store.engine, "data", force=True) is False
    assert store.engine.volumes.get("data") == made
    store.engine.volumes.remove("data")


def test_a_volume_in_use_is_not_removed(store: Store) -> None:
    claims.ensure(store.engine, claim())
    ref = store.engine.start("busybox", ["sleep", "1000"], mounts="data:/data", init=True)
    with ref, pytest.raises(Conflict, match="volume is in use"):
        claims.release(store.engine, "data", force=True)
    assert claims.release(store.engine, "data", force=True) is True


def test_pods_have_what_was_claimed(store: Store, play: Any) -> None:
    done = play("play", "one")
    assert done.returncode == 0, done
    assert b"PersistentVolumeClaim/data: spec.resources.requests.storage: noted" in done.stderr
    assert store.engine.volumes.get("data").labels["team"] == "a"
    names = f"{store.engine.volumes.paths('data').data}/names"
    wait_until(lambda: read(names) == "one\n")
    assert play("down", "one").returncode == 0
    assert os.path.exists(store.engine.volumes.paths("data").data)
    assert play("play", "two").returncode == 0
    wait_until(lambda: read(names) == "one\ntwo\n")
    assert play("down", "two", "--force").returncode == 0
    assert not store.engine.volumes.exists("data")


def test_a_claim_for_one_pod(store: Store, play: Any) -> None:
    mode = "ReadWriteOncePod"
    assert play("play", "one", mode=mode).returncode == 0
    done = play("play", "two", mode=mode)
    assert done.returncode == 125
    assert b"pod two: claim data is ReadWriteOncePod: pod one has it" in done.stderr
    assert play("down", "one", mode=mode).returncode == 0
    assert play("play", "two", mode=mode).returncode == 0
    assert play("down", "two", mode=mode).returncode == 0
    # One that has done its work has it no more.
    assert play("play", "job", mode=mode, policy="Never", rest="true").returncode == 0
    declared = Kube(store.engine)
    wait_until(lambda: getattr(declared.status("Pod", "job"), "phase", "") == "Succeeded")
    assert play("play", "two", mode=mode).returncode == 0
