"""``system shutdown`` ends what runs, in order; ``system boot`` brings it back."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from harness import FOREVER, PATIENCE, wait_until

from pycontain.engine import records, supervision
from pycontain.errors import InvalidState, PycontainError
from pycontain.kernel import process
from pycontain.model.container import RestartPolicy, RunOptions
from pycontain.pod import manifest
from pycontain.pod.declared import Declarations
from pycontain.pod.play import Kube
from pycontain.pod.pods import Pods
from pycontain.pod.shutdown import end_all

if TYPE_CHECKING:
    from harness import CommandLine, Store

pytestmark = pytest.mark.host

ALWAYS = RestartPolicy(name="always")
UNLESS = RestartPolicy(name="unless-stopped")
ON_FAILURE = RestartPolicy(name="on-failure")
# Ends well when it is asked to.
WILLING = ("sh", "-c", "trap 'echo ended; exit 0' TERM; echo up; while :; do sleep 0.05; done")


def states(store: Store) -> dict[str, str]:
    found = store.containers.list(all=True)
    return {view.container.name: view.status.state for view in found}


def held(store: Store, ref: str) -> bool:
    return supervision.load(store.view(ref).paths).held


def logged(store: Store, ref: str, text: bytes) -> None:
    wait_until(lambda: text in store.log(ref))


def ready(store: Store, name: str, policy: RestartPolicy | None) -> str:
    """A container that has set its trap."""
    ref = store.detach(*WILLING, name=name, restart=policy)
    logged(store, ref, b"up\n")
    return ref


def test_all_ends_and_what_has_a_policy_comes_again(store: Store) -> None:
    policies = {"always": ALWAYS, "unless": UNLESS, "failing": ON_FAILURE, "plain": None}
    for name, policy in policies.items():
        ready(store, name, policy)
    stopped = ready(store, "stopped", UNLESS)
    store.containers.stop(stopped)
    assert sorted(end_all(store.engine)) == sorted(policies)
    assert set(states(store).values()) == {"exited"}
    # It was asked, not killed.
    for name in policies:
        assert store.log(name).endswith(b"ended\n")
        assert held(store, name) == (policies[name] is not None)
    # Nobody starts it again meanwhile: the supervisor has nothing to do, and goes.
    wait_until(lambda: not supervision.lives(store.layout))
    assert set(states(store).values()) == {"exited"}
    assert end_all(store.engine) == []
    started = [container.name for container in store.containers.boot()]
    assert started == ["always", "unless", "failing"]
    assert states(store) == {
        "always": "running", "unless": "running", "failing": "running", "plain": "exited",
        "stopped": "exited",
    }  # fmt: skip
    assert not held(store, "always")
    wait_until(lambda: supervision.lives(store.layout))
    assert store.containers.boot() == []


def test_one_that_waits_to_be_started_again_waits_no_more(store: Store) -> None:
    ref = store.detach("sh", "-c", "exit 3", name="box", restart=ALWAYS)
    wait_until(lambda: supervision.load(store.view(ref).paths).count >= 4)
    end_all(store.engine)
    assert states(store) == {"box": "exited"}
    wait_until(lambda: not supervision.lives(store.layout))
    run = records.last_run(store.view(ref).paths)
    assert states(store) == {"box": "exited"}
    assert [container.name for container in store.containers.boot()] == ["box"]
    wait_until(lambda: records.last_run(store.view(ref).paths) != run)


def test_they_end_at_once(store: Store) -> None:
    """Each takes as long as it may; it is killed then."""
    stubborn = ("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    for name in ("one", "two", "three", "four"):
        logged(store, store.detach(*stubborn, name=name), b"up\n")
    end_all(store.engine, timeout=4)
    ends = [view.status.record for view in store.containers.list(all=True)]
    assert [ended.code for ended in ends if ended] == [137] * 4
    with store.engine.events.read(since=0, follow=False) as stream:
        told = [(event.verb, event.attributes.get("signal")) for event in stream]
    # One after the other, the first would have ended before the second was asked to.
    before = told[: [verb for verb, _ in told].index("die")]
    assert before.count(("kill", "15")) > 1


def test_a_hold_that_was_killed_is_lifted_by_the_next_boot(store: Store) -> None:
    ref = store.detach(*FOREVER, restart=ALWAYS)
    paths = store.view(ref).paths
    with records.hold(paths):
        supervision.note_held(paths)  # and no signal was sent
    assert store.containers.boot() == []
    assert not held(store, ref)
    assert store.state_of(ref) == "running"


def test_what_a_user_starts_after_it_is_as_ever(store: Store) -> None:
    ref = store.detach("sleep", "1000", init=True, restart=ALWAYS)
    end_all(store.engine)
    store.containers.start(ref)
    assert not held(store, ref)
    record = store.run_record(ref)
    os.kill(record.pid, signal.SIGKILL)
    wait_until(lambda: store.state_of(ref) == "running" and store.run_record(ref).run != record.run)


def test_pods_end_with_what_they_share(store: Store) -> None:
    pods = Pods(store.engine)
    pod = pods.create("web", network="none")
    for name, policy in (("one", ALWAYS), ("two", None)):
        asked = RunOptions(image="busybox", command=FOREVER, init=True, name=name, restart=policy)
        store.containers.run(pods.member("web", asked), attach=False)
    idle = pods.create("idle", network="none")
    holder = records.load_run(store.layout.pod(pod.id))
    assert holder is not None
    assert sorted(end_all(store.engine)) == ["one", "two"]
    assert pods.get("web").state == "Exited"
    assert process.start_time(holder.monitor) != holder.monitor_start
    assert pods.get(idle.id).state == "Created"
    assert [container.name for container in store.containers.boot()] == ["one"]
    assert pods.get("web").sandbox == "running"


def test_what_cannot_be_ended_is_told_and_the_others_end(store: Store) -> None:
    good = store.detach(*FOREVER, init=True, name="good")
    bad = store.detach(*FOREVER, init=True, name="bad", restart=ALWAYS)
    path = f"{store.view(bad).paths.folder}/restart"
    os.symlink("damaged", path)
    problems: list[PycontainError] = []
    try:
        assert end_all(store.engine, problems) == ["good"]
        assert store.state_of(good) == "exited"
        assert len(problems) == 1
        assert "not a record of restarts" in problems[0].message
        with pytest.raises(PycontainError, match="not a record of restarts"):
            end_all(store.engine)
    finally:
        os.unlink(path)
    assert store.state_of(bad) == "running"


def test_the_command_line(store: Store, pycontain: CommandLine) -> None:
    store.detach("sleep", "1000", name="box", init=True, restart=ALWAYS)
    done = pycontain("system", "shutdown", "-t", "0")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"box\n", b"")
    done = pycontain("system", "shutdown")
    assert (done.returncode, done.stdout) == (0, b"")
    assert pycontain("system", "boot").stdout == b"box\n"
    assert store.state_of("box") == "running"


def test_hold_of_one(store: Store) -> None:
    ref = store.detach(*FOREVER, init=True, restart=UNLESS)
    store.containers.hold(ref, timeout=0)
    assert store.state_of(ref) == "exited"
    assert held(store, ref)
    with pytest.raises(InvalidState):
        store.containers.kill(ref, signal.SIGTERM)
    store.containers.stop(ref)  # does not run: nothing is noted
    assert held(store, ref)


# ---- what is declared ----

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 20
  restartPolicy: OnFailure
  volumes: [{name: notes, emptyDir: {}}]
  initContainers:
  - name: first
    image: busybox
    command: ["true"]
  - name: outer
    image: busybox
    restartPolicy: Always
    command: [sh, -c, NOTES]
    env: [{name: NAME, value: outer}]
    volumeMounts: [{name: notes, mountPath: /notes}]
  - name: inner
    image: busybox
    restartPolicy: Always
    command: [sh, -c, NOTES]
    env: [{name: NAME, value: inner}]
    volumeMounts: [{name: notes, mountPath: /notes}]
  containers:
  - name: main
    image: busybox
    command: [sh, -c, NOTES]
    env: [{name: NAME, value: main}]
    volumeMounts: [{name: notes, mountPath: /notes}]
""".replace(
    "NOTES",
    "\"trap 'echo $NAME >>/notes/ends; exit 0' TERM; echo up; while :; do sleep 0.05; done\"",
)


def test_a_declared_pod_ends_in_order_and_comes_again(store: Store, pycontain: CommandLine) -> None:
    objects = manifest.parse(MANIFEST).objects
    declared = Kube(store.engine)
    declared.apply(objects)
    declared.await_ready([("Pod", "web")], timeout=PATIENCE)
    for name in ("outer", "inner", "main"):
        logged(store, f"web-{name}", b"up\n")
    runs = {name: records.last_run(store.view(name).paths) for name in states(store)}
    assert sorted(end_all(store.engine)) == ["web-inner", "web-main", "web-outer"]
    notes = f"{Pods(store.engine).get('web').paths.volumes}/notes/ends"
    with open(notes, encoding="ascii") as file:
        assert file.read().split() == ["main", "inner", "outer"]
    wait_until(lambda: not supervision.lives(store.layout))
    assert Pods(store.engine).get("web").sandbox == "exited"
    assert end_all(store.engine) == []
    # Nobody keeps it now, whoever looks.
    assert pycontain("pod", "ps").returncode == 0
    assert runs == {name: records.last_run(store.view(name).paths) for name in states(store)}
    done = pycontain("system", "boot")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"web\n", b"")
    declared.await_ready([("Pod", "web")], timeout=PATIENCE)
    assert store.state_of("web-main") == "running"
    assert not held(store, "web-main")
    for one in declared.down(objects):
        assert one.name == "web"


def test_a_command_that_is_at_a_pod_for_ever_is_not_waited_for(store: Store) -> None:
    objects = manifest.parse(MANIFEST).objects
    declared = Kube(store.engine)
    declared.apply(objects)
    declared.await_ready([("Pod", "web")], timeout=PATIENCE)
    with Declarations(store.layout).lock("Pod", "web"):
        assert sorted(end_all(store.engine, timeout=0)) == ["web-inner", "web-main", "web-outer"]
    assert declared.boot() != []
    declared.await_ready([("Pod", "web")], timeout=PATIENCE)
    declared.down(objects)
