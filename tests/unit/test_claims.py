"""What a PersistentVolumeClaim can be on one machine."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pycontain.errors import Conflict, InvalidInput
from pycontain.model import kube
from pycontain.pod import claims


def claim(name: str = "data", storage: str | None = "1Gi", **spec: Any) -> Any:
    resources = {"requests": {"storage": storage}} if storage else {}
    document = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": {"team": "a"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": resources, **spec},
    }  # fmt: skip
    return msgspec.convert(document, kube.PersistentVolumeClaim)


def pod(name: str, *names: str) -> kube.Pod:
    volumes = [
        {"name": f"v{number}", "persistentVolumeClaim": {"claimName": one}}
        for number, one in enumerate(names)
    ]
    document = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "a", "image": "busybox"}],
                 "volumes": [*volumes, {"name": "empty", "emptyDir": {}}]},
    }  # fmt: skip
    return msgspec.convert(document, kube.Pod)


@pytest.mark.parametrize("name", [None, "", "local", "local-path", "standard", "hostpath"])
def test_storage_classes_of_one_machine(name: str | None) -> None:
    claims.check(claim(storageClassName=name))


def test_another_storage_class_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        claims.check(claim(storageClassName="fast"))
    assert caught.value.message == (
        "PersistentVolumeClaim/data: spec.storageClassName: there is no storage class 'fast'"
    )
    assert "hostpath, local, local-path, standard" in (caught.value.hint or "")


def test_block_devices_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"data: spec\.volumeMode: Block"):
        claims.check(claim(volumeMode="Block"))


def test_a_mode_that_stands_alone() -> None:
    claims.check(claim(accessModes=["ReadWriteOncePod"]))
    with pytest.raises(InvalidInput, match="ReadWriteOncePod stands alone"):
        claims.check(claim(accessModes=["ReadWriteOncePod", "ReadWriteOnce"]))


def test_labels_say_what_was_claimed() -> None:
    modes = ["ReadWriteMany", "ReadOnlyMany", "ReadWriteMany"]
    assert claims.labels_of(claim(accessModes=modes, storage="1500M")) == {
        "team": "a",
        "io.kubernetes.pvc.name": "data",
        "io.kubernetes.pvc.access-modes": "ReadOnlyMany,ReadWriteMany",
        "io.kubernetes.pvc.storage": "1500000000",
    }


def test_a_size_is_only_noted() -> None:
    found = claims.unenforced([claim(), pod("web", "data"), claim("other", storage=None)])
    assert found == ("PersistentVolumeClaim/data: spec.resources.requests.storage",)


def test_a_claim_for_one_pod_is_had_by_one_pod() -> None:
    declared = {
        "one": claim("one", accessModes=["ReadWriteOncePod"]),
        "all": claim("all", accessModes=["ReadWriteMany"]),
    }
    web, db = pod("web", "one", "all"), pod("db", "all", "unknown")
    claims.check_users(web, declared, [db])
    claims.check_users(db, declared, [web])
    claims.check_users(web, declared, [web, db])  # itself
    with pytest.raises(Conflict) as caught:
        claims.check_users(pod("third", "one"), declared, [db, web])
    assert caught.value.message == ("pod third: claim one is ReadWriteOncePod: pod web has it")
    claims.check_users(pod("third", "one"), {}, [web])  # no claim, but a volume


def test_names() -> None:
    assert claims.names_of(pod("web", "b", "a", "b")) == ["a", "b"]
