"""Regressions that a review of what is declared found, on a real kernel."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest
from harness import wait_until

from pycontain.engine import hooks, records, supervision
from pycontain.errors import PycontainError
from pycontain.model.kube_status import PodStatus
from pycontain.pod import manifest, observed
from pycontain.pod.declared import Declarations
from pycontain.pod.play import Kube
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from harness import Store

    from pycontain.pod.play import Applied

pytestmark = pytest.mark.host

HANGING = 'lifecycle: {postStart: {exec: {command: [sleep, "1000"]}}}'
CONTAINER = "image: busybox, command: [sleep, '1000']"
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 1
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: one, CONTAINER}]
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: one, CONTAINER}, {name: two, CONTAINER}]
"""
SETTINGS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {DATA}
"""
TOLD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: v, configMap: {name: settings}}]
  containers:
  - name: one
    image: busybox
    command: [sleep, '1000']
    env: [{name: MODE, valueFrom: {configMapKeyRef: {name: settings, key: mode}}}]
    volumeMounts: [{name: v, mountPath: /config}]
"""


def apply(kube: Kube, text: str) -> list[Applied]:
    text = text.replace("CONTAINER", CONTAINER)
    return kube.apply(manifest.parse(text, strict=True).objects)


def hooked(store: Store) -> list[str]:
    """The containers whose postStart hook is under way."""
    views = store.containers.list()
    return [view.container.name for view in views if not hooks.has_begun(view)]


def pids(store: Store) -> dict[str, int]:
    """First processes of the containers that run, by name."""
    views = store.containers.list()
    found = {view.container.name: records.load_run(view.paths) for view in views}
    return {name: record.pid for name, record in found.items() if record is not None}


def holder_of(store: Store, kube: Kube) -> int:
    """Pid of what holds the sandbox of ``web``, 0 where nobody does."""
    return observed.look(store.engine, kube.get("Pod", "web")).holder[0]


def test_a_hook_that_hangs_keeps_no_deployment(store: Store, kube: Kube) -> None:
    apply(kube, DEPLOYMENT.replace("CONTAINER", f"{CONTAINER}, {HANGING}"))
    wait_until(lambda: len(hooked(store)) == 1)  # the supervisor's
    (pod,) = kube.objects("Pod")
    status = kube.status("Pod", pod.name)
    assert isinstance(status, PodStatus)
    (container,) = status.container_statuses
    assert status.phase == "Pending" and container.state.waiting is not None
    assert container.state.waiting.reason == "ContainerCreating"
    apply(kube, DEPLOYMENT)  # whose pods take the place of those
    kube.await_ready([("Deployment", "many")], timeout=60)
    assert hooked(store) == []
    apply(kube, DEPLOYMENT.replace("CONTAINER", f"{CONTAINER}, {HANGING}"))
    wait_until(lambda: len(hooked(store)) == 1)
    kube.delete("Deployment", "many")
    assert store.containers.list(all=True) == []


@pytest.mark.parametrize("how", ["delete", "rm", "apply"])
def test_a_hook_that_hangs_keeps_no_pod(store: Store, kube: Kube, how: str) -> None:
    text = POD.replace("CONTAINER", f"{CONTAINER}, {HANGING}")
    failures: list[PycontainError] = []

    def begin() -> None:
        try:
            apply(Kube(store.engine), text)
        except PycontainError as err:
            failures.append(err)  # what it made was removed under it

    thread = threading.Thread(target=begin)
    thread.start()
    wait_until(lambda: hooked(store) == ["web-one"])
    if how == "apply":
        apply(kube, POD)
        kube.await_ready([("Pod", "web")], timeout=60)
    elif how == "rm":
        Pods(store.engine).remove("web", force=True)
    else:
        kube.delete("Pod", "web")
    thread.join()
    assert hooked(store) == []
    left = ["web-one", "web-two"] if how == "apply" else []
    assert sorted(view.container.name for view in store.containers.list(all=True)) == left


def test_pods_of_a_deployment_that_was_taken_back_by_halves_go(store: Store, kube: Kube) -> None:
    apply(kube, DEPLOYMENT)
    kube.await_ready([("Deployment", "many")], timeout=60)
    (before,) = Pods(store.engine).names().values()
    supervision.end(store.layout)
    Declarations(store.layout).delete("Deployment", "many")  # and is killed
    apply(kube, DEPLOYMENT)
    kube.await_ready([("Deployment", "many")], timeout=60)
    wait_until(lambda: before not in Pods(store.engine).names().values())
    assert len(Pods(store.engine).names()) == 1
    assert len(kube.objects("Pod")) == 1


def test_a_key_that_only_a_variable_names_may_go(store: Store, kube: Kube) -> None:
    apply(kube, SETTINGS.replace("DATA", "mode: fast, page: old") + "---" + TOLD)
    (found,) = apply(kube, SETTINGS.replace("DATA", "page: new"))
    assert found.change == "configured"
    assert store.exec("web-one", "cat", "/config/page").stdout == b"new"
    assert store.exec("web-one", "sh", "-c", "echo $MODE").stdout == b"fast\n"


def test_a_container_that_was_stopped_stays_so_when_its_pod_begins_again(
    store: Store, kube: Kube
) -> None:
    apply(kube, POD)
    pods = Pods(store.engine)
    store.containers.stop("web-one")
    before = store.run_record("web-two").pid
    holder = holder_of(store, kube)
    assert holder
    supervision.end(store.layout)
    os.kill(holder, signal.SIGKILL)
    os.kill(before, signal.SIGKILL)
    supervision.wake(store.layout)
    wait_until(lambda: pids(store).get("web-two", before) != before)
    apply(kube, POD)  # as it is: looks at it once more
    assert list(pids(store)) == ["web-two"]
    pods.start("web")
    wait_until(lambda: sorted(pids(store)) == ["web-one", "web-two"])


def test_a_pod_whose_processes_are_all_killed_at_once_comes_back(store: Store, kube: Kube) -> None:
    apply(kube, POD)
    kube.await_ready([("Pod", "web")], timeout=60)
    for holder_first in (True, False):
        wait_until(lambda: holder_of(store, kube))
        before, holder = pids(store), holder_of(store, kube)
        assert holder
        victims = (holder, *before.values()) if holder_first else (*before.values(), holder)
        for pid in victims:
            # The supervisor may be faster with the others.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda before=before: (
                len(now := pids(store)) == 2  # type: ignore[misc]
                and set(before.values()).isdisjoint(now.values())
            )
        )


def test_what_a_user_stops_has_not_done_its_work(store: Store, kube: Kube) -> None:
    work = "trap 'exit 0' TERM; touch /up; while :; do sleep 0.1; done"
    one = f'{{name: one, image: busybox, command: [sh, -c, "{work}"]}}'
    spec = "restartPolicy: OnFailure\n  terminationGracePeriodSeconds: 20"
    text = POD.replace("terminationGracePeriodSeconds: 0", spec)
    apply(kube, text.replace("{name: one, CONTAINER}, {name: two, CONTAINER}", one))
    wait_until(lambda: store.exec("web-one", "test", "-f", "/up").code == 0)
    pods = Pods(store.engine)
    assert pods.stop("web") == []
    record = store.view("web-one").status.record
    assert record is not None
    assert record.code == 0
    assert pods.start("web") == []
    wait_until(lambda: list(pids(store)) == ["web-one"])
