"""What is declared: its documents, and who may read what is left of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pycontain.errors import NotFound, PycontainError, StoreError
from pycontain.model import kube
from pycontain.model.declared import Failure, Owner
from pycontain.pod import manifest
from pycontain.pod.declared import Declarations
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: there
  containers:
  - {name: one, image: busybox, livenessProbe: {tcpSocket: {port: 80}}}
"""
MAP = "{apiVersion: v1, kind: ConfigMap, metadata: {name: web}, data: {a: b}}"


def one(text: str) -> kube.Object:
    (found,) = manifest.parse(text).objects
    return found


@pytest.fixture
def declarations(tmp_path: Path) -> Declarations:
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    layout.prepare()
    return Declarations(layout)


def test_what_is_declared_is_read_as_it_was(declarations: Declarations) -> None:
    for text in (POD, MAP):
        declared, change = declarations.apply(one(text))
        assert change == "created"
        found = declarations.get(declared.kind, "web")
        assert found == declared
        assert found.object == one(text)
    assert [each.kind for each in declarations.list()] == ["ConfigMap", "Pod"]
    assert [each.kind for each in declarations.list("Pod")] == ["Pod"]


def test_every_kind_of_a_manifest_can_be_declared() -> None:
    assert set(kube.KINDS.values()) == set(kube.Object.__args__)


def test_the_same_again_changes_nothing(declarations: Declarations) -> None:
    before, _ = declarations.apply(one(POD))
    assert declarations.apply(one(POD)) == (before, "unchanged")


def test_a_changed_pod_is_another_one_and_a_changed_map_the_same(
    declarations: Declarations,
) -> None:
    pod, _ = declarations.apply(one(POD))
    changed, change = declarations.apply(one(POD.replace("busybox", "nginx")))
    assert change == "configured"
    assert changed.uid != pod.uid
    settings, _ = declarations.apply(one(MAP))
    changed, change = declarations.apply(one(MAP.replace("a: b", "a: c")))
    assert (changed.uid, changed.generation, change) == (settings.uid, 2, "configured")


def test_what_is_taken_back_is_there_until_it_is_forgotten(declarations: Declarations) -> None:
    declarations.apply(one(POD))
    assert declarations.delete("Pod", "web").deleted == 0
    (found,) = declarations.list()
    assert found.deleted
    assert declarations.delete("Pod", "web").deleted == found.deleted, "the first time counts"
    declarations.forget(found)
    assert declarations.list() == []
    with pytest.raises(NotFound, match='Pod "web" not found'):
        declarations.delete("Pod", "web")


def test_what_is_declared_anew_while_it_goes_stays(declarations: Declarations) -> None:
    declarations.apply(one(POD))
    declarations.delete("Pod", "web")
    (going,) = declarations.list()
    again, change = declarations.apply(one(POD))
    assert change == "configured"
    assert again.uid != going.uid
    declarations.forget(going)
    assert declarations.get("Pod", "web") == again


def test_owners_and_failures_are_kept(declarations: Declarations) -> None:
    owner = Owner(kind="Deployment", name="many", uid="u")
    declared, _ = declarations.apply(one(POD), owner)
    failure = Failure(reason="Evicted", message="too much")
    assert declarations.fail(declared, failure) == declarations.get("Pod", "web")
    assert declarations.get("Pod", "web").failure == failure
    assert declarations.get("Pod", "web").owner == owner


def test_problems_are_counted_and_settled(declarations: Declarations) -> None:
    declared, _ = declarations.apply(one(POD))
    assert declarations.problem(declared) is None
    declarations.note_problem(declared, "one")
    second = declarations.note_problem(declared, "two")
    assert (second.message, second.tries) == ("two", 2)
    assert declarations.problem(declared) == second
    declarations.apply(one(POD.replace("busybox", "nginx")))
    assert declarations.problem(declared) is None, "of an object that is another one now"


def test_nothing_is_kept_before_something_is_declared(declarations: Declarations) -> None:
    assert not declarations.are_kept
    declarations.apply(one(MAP))
    assert declarations.are_kept
    declarations.rest()
    assert not declarations.are_kept
    declarations.resume()
    assert declarations.are_kept


def test_what_is_declared_again_after_a_reboot_is_kept(declarations: Declarations) -> None:
    declarations.apply(one(MAP))
    declarations.rest()  # as a reboot
    assert declarations.apply(one(MAP))[1] == "unchanged"
    assert declarations.are_kept


@pytest.mark.parametrize("damage", [b"", b"{", b'{"uid": 1}', b"\xff"])
def test_a_damaged_document_is_named_and_hides_no_other(
    declarations: Declarations, tmp_path: Path, damage: bytes
) -> None:
    declarations.apply(one(POD))
    declarations.apply(one(MAP))
    path = tmp_path / "root" / "kube" / "pod" / "web"
    path.write_bytes(damage)
    with pytest.raises(StoreError, match=f"{path}: damaged"):
        declarations.get("Pod", "web")
    problems: list[PycontainError] = []
    assert [each.kind for each in declarations.list(problems=problems)] == ["ConfigMap"]
    assert len(problems) == 1


def test_a_document_within_is_damaged(declarations: Declarations, tmp_path: Path) -> None:
    declarations.apply(one(POD))
    path = tmp_path / "root" / "kube" / "pod" / "web"
    path.write_bytes(path.read_bytes().replace(b'"kind":"Pod"', b'"kind":"Pot"'))
    with pytest.raises(StoreError, match="damaged"):
        declarations.get("Pod", "web")


def test_what_a_killed_command_left_half_written_is_no_object(
    declarations: Declarations, tmp_path: Path
) -> None:
    declarations.apply(one(POD))
    folder = tmp_path / "root" / "kube" / "pod"
    (folder / f".tmp-{1 << 30}-x").write_text("{")
    assert declarations.names("Pod") == ["web"]
    declarations.apply(one(POD.replace("busybox", "nginx")))
    assert os.listdir(folder) == ["web"]


def test_locks_of_what_is_not_there_go(declarations: Declarations) -> None:
    declarations.apply(one(POD))
    locks = os.path.dirname(declarations.lock("Pod", "web").path)
    with pytest.raises(NotFound):
        declarations.delete("Pod", "other")
    assert os.listdir(locks) == ["kube-pod-web"]
    for name in ("kube-pod-killed", "kube-admission", "pod-web"):
        with open(f"{locks}/{name}", "w"):
            pass
    with declarations.lock("ConfigMap", "in-use"):
        declarations.sweep()
        left = {"kube-pod-web", "kube-configmap-in-use", "kube-admission", "pod-web"}
        assert set(os.listdir(locks)) == left


def test_a_document_that_is_none_yet_goes(declarations: Declarations, tmp_path: Path) -> None:
    declarations.apply(one(POD))
    folder = tmp_path / "root" / "kube" / "pod"
    nobody = 1 << 23  # more than pid_max can be
    for writer in (nobody, os.getpid()):
        (folder / f".tmp-{writer}-0").write_bytes(b"{")
    declarations.sweep()
    assert sorted(os.listdir(folder)) == [f".tmp-{os.getpid()}-0", "web"]
