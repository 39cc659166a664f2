"""Supervision on a machine that is short of something, with another clock, or damaged documents."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, python_env, wait_until

from pycontain.engine import hooks, records, supervision
from pycontain.model.container import RestartPolicy
from pycontain.pod import manifest, observed
from pycontain.pod.declared import Declarations
from pycontain.pod.play import Kube
from pycontain.pod.pods import Pods
from pycontain.store import files
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Store

    from pycontain.pod.play import Applied
    from pycontain.store.layout import ContainerPaths

pytestmark = pytest.mark.host

SECOND = 1_000_000_000
SUPERVISOR = """
import sys
from pycontain.supervisor import main
main._LATER = 0.05
main.main(*sys.argv[1:])
"""
SHORT = """
limit=/proc/sys/user/max_inotify_instances
echo 0 >$limit
"$@" &
until [ -e "$0/supervisor.failure" ]; do sleep 0.05; done
echo 100 >$limit
wait
"""
ALWAYS = RestartPolicy(name="always")
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  initContainers: [{name: first, image: busybox, command: ['true']}]
  containers: [{name: one, image: busybox, command: [sleep, '1000']}]
"""
HOOKED = """
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
    volumeMounts: [{name: v, mountPath: /config}]
    lifecycle: {postStart: {exec: {command: [sh, -c, 'while ! [ -e /go ]; do sleep 0.1; done']}}}
"""
SETTINGS = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {mode: MODE}}"


def apply(kube: Kube, text: str) -> list[Applied]:
    return kube.apply(manifest.parse(text, strict=True).objects)


def test_a_supervisor_that_the_machine_is_too_small_for_begins_anew(tmp_path: Path) -> None:
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    layout.prepare()
    # In a user namespace of its own: who has that may bound what there is in it (namespaces(7)).
    words = [sys.executable, "-c", SUPERVISOR, layout.root, layout.state]
    outcome = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", SHORT, layout.state, *words],
        env=python_env(), timeout=PATIENCE, check=True, capture_output=True,
    )  # fmt: skip
    assert b"max_user_instances" in Path(layout.state, "supervisor.failure").read_bytes(), outcome
    assert supervision.recorded(layout) is None  # it has ended in order, once it could begin


def test_a_restart_that_was_killed_before_it_ran_is_made_again(store: Store) -> None:
    ref = store.detach("sh", "-c", "exit 3", restart=ALWAYS)
    paths = store.view(ref).paths
    wait_until(lambda: supervision.load(paths).count >= 3)
    wait_until(lambda: lose_a_start(store, paths))
    before = supervision.load(paths).count
    wait_until(lambda: store.view(ref) and supervision.load(paths).count > before + 1)


def lose_a_start(store: Store, paths: ContainerPaths) -> bool:
    """Kill the supervisor, and leave what there is of a start before there is a monitor; False
    where the container runs just then.
    """
    supervision.end(store.layout)
    with records.hold(paths):
        state = records.status(paths).state
        if state == "exited":
            records.write_marker(paths, os.urandom(8).hex())
    return state in ("exited", "created")  # created: it was killed where it is to be


def test_a_clock_that_is_set_back_begins_nothing_again(store: Store, kube: Kube) -> None:
    apply(kube, POD)
    kube.await_ready([("Pod", "web")], timeout=PATIENCE)
    runs = last_runs(store)
    pod = Pods(store.engine).get("web")
    record = records.load_run(pod.paths)
    assert record is not None
    # As if the clock had been an hour ahead when the sandbox was started.
    changed = record.__class__(**{
        **{name: getattr(record, name) for name in record.__struct_fields__},
        "started": record.started + 3600 * SECOND,
    })  # fmt: skip
    files.write_atomic(pod.paths.run_record, files.dump(changed), durable=False)
    declared = kube.get("Pod", "web")
    seen = observed.look(store.engine, declared)
    assert all(one.is_of_this_run for one in seen.containers.values())
    Declarations(store.layout).apply(declared.object)
    Kube(store.engine).apply([declared.object])
    assert last_runs(store) == runs


def last_runs(store: Store) -> dict[str, str]:
    return {
        view.container.name: records.last_run(view.paths)
        for view in store.containers.list(all=True)
    }


@pytest.mark.parametrize("how", ["delete", "rm", "apply"])
def test_a_pod_whose_document_is_damaged_can_be_taken_back(
    store: Store, kube: Kube, how: str
) -> None:
    apply(kube, POD)
    kube.await_ready([("Pod", "web")], timeout=PATIENCE)
    files.write_atomic(f"{store.layout.kube}/pod/web", b"{", durable=False)
    before = Pods(store.engine).find("web")
    acts: dict[str, Callable[[], object]] = {
        "delete": lambda: kube.delete("Pod", "web"),
        "rm": lambda: Pods(store.engine).remove("web", force=True),
        "apply": lambda: apply(kube, POD),
    }
    acts[how]()
    if how == "apply":
        kube.await_ready([("Pod", "web")], timeout=PATIENCE)
        assert Pods(store.engine).find("web") != before
        return
    assert store.containers.list(all=True) == []
    wait_until(lambda: store.left_of_declared() == [])


def test_files_do_not_wait_for_a_hook_that_hangs(
    store: Store, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycontain.pod.keeper._PATIENCE", 0.2)
    apply(kube, SETTINGS.replace("MODE", "old"))
    thread = threading.Thread(target=lambda: apply(Kube(store.engine), HOOKED))
    thread.start()
    wait_until(lambda: [view for view in store.containers.list() if not hooks.has_begun(view)])
    apply(kube, SETTINGS.replace("MODE", "new"))  # and comes back
    assert store.exec("web-one", "cat", "/config/mode").stdout == b"old"
    assert store.exec("web-one", "touch", "/go").code == 0
    thread.join()
    wait_until(lambda: store.exec("web-one", "cat", "/config/mode").stdout == b"new")
