"""How declared pods are, by value, and the words for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.client import ApiClient, Configuration
from msgspec.structs import replace

from pycontain.cli import kube_rows
from pycontain.errors import InvalidInput, InvalidState
from pycontain.model import kube
from pycontain.model.container import ExitRecord
from pycontain.model.declared import Failure, Owner, Problem
from pycontain.pod import controllers, manifest, readiness, selectors, status
from pycontain.pod.declared import Declared
from pycontain.pod.observed import ContainerSeen, PodSeen

if TYPE_CHECKING:
    from pycontain.model.kube_status import PodStatus

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND  # 2023-11-14T22:13:20Z
INIT = "initContainers: [{name: i, image: b}]"
SIDECAR = "initContainers: [{name: s, image: b, restartPolicy: Always}]"


def declared(spec: str = "", *, two: bool = False, **fields: Any) -> Declared:
    second = "- {name: d, image: b}" if two else ""
    text = f"""
apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  {spec}
  containers:
  - {{name: c, image: busybox}}
  {second}
"""
    (one,) = manifest.parse(text).objects
    known: dict[str, Any] = {
        "uid": "u", "created": START, "generation": 1, "deleted": 0, "owner": None, "failure": None,
    }  # fmt: skip
    return Declared(**{**known, **fields, "object": one})


def ended(code: int = 0, **more: Any) -> ExitRecord:
    return ExitRecord(
        run="r", code=code, started=START + SECOND, finished=START + 5 * SECOND, **more
    )


def absent(name: str = "c") -> ContainerSeen:
    return ContainerSeen(name)


def running(name: str = "c", *, ready: bool = True, restarts: int = 0) -> ContainerSeen:
    return ContainerSeen(
        name, id=f"{name}id", state="running", started=START + SECOND, is_of_this_run=True,
        is_started=True, ready=ready, ready_since=START + 2 * SECOND, image_id="sha256:1",
        restarts=restarts,
    )  # fmt: skip


def exited(code: int = 0, name: str = "c", **more: Any) -> ContainerSeen:
    return ContainerSeen(
        name, id=f"{name}id", state="exited", ended=ended(code, **more), is_of_this_run=True
    )


def back_off(name: str = "c") -> ContainerSeen:
    return ContainerSeen(
        name, id=f"{name}id", state="restarting", ended=ended(3), is_of_this_run=True, restarts=4,
        due=START + 60 * SECOND,
    )  # fmt: skip


def seen(*several: ContainerSeen, **fields: Any) -> PodSeen:
    known: dict[str, Any] = {"id": "p", "uid": "u", "sandbox": "running", "started": START}
    containers = {one.name: one for one in several}
    return PodSeen(**{**known, **fields, "containers": containers})


def blocked(message: str) -> Problem:
    return Problem(message=message, tries=1, since=START)


def told(pod: Declared, look: PodSeen) -> tuple[PodStatus, str, str]:
    """The status, and READY and STATUS of the table."""
    found = status.status(pod, look)
    said = kube_rows.pod_word(pod.pod, found, deleted=bool(pod.deleted))
    return found, said.ready, said.word


# ---- phases and words ----

NEVER = "restartPolicy: Never"
ON_FAILURE = "restartPolicy: OnFailure"


@pytest.mark.parametrize(
    ("spec", "several", "phase", "ready", "word"),
    [
        ("", [absent()], "Pending", "0/1", "ContainerCreating"),
        ("", [running()], "Running", "1/1", "Running"),
        ("", [running(ready=False)], "Running", "0/1", "Running"),
        ("", [back_off()], "Running", "0/1", "CrashLoopBackOff"),
        ("", [exited(0)], "Running", "0/1", "Completed"),
        (NEVER, [exited(0)], "Succeeded", "0/1", "Completed"),
        (NEVER, [exited(1)], "Failed", "0/1", "Error"),
        (NEVER, [exited(137, oom_killed=True)], "Failed", "0/1", "OOMKilled"),
        (ON_FAILURE, [exited(0)], "Succeeded", "0/1", "Completed"),
        (ON_FAILURE, [exited(1)], "Running", "0/1", "Error"),
        (INIT, [absent("i"), absent()], "Pending", "0/1", "Init:0/1"),
        (INIT, [running("i"), absent()], "Pending", "0/1", "Init:0/1"),
        (INIT, [back_off("i"), absent()], "Pending", "0/1", "Init:CrashLoopBackOff"),
        (INIT, [exited(1, "i"), absent()], "Pending", "0/1", "Init:Error"),
        (f"{INIT}\n  {NEVER}", [exited(1, "i"), absent()], "Failed", "0/1", "Init:Error"),
        (INIT, [exited(0, "i"), absent()], "Pending", "0/1", "PodInitializing"),
        (INIT, [exited(0, "i"), running()], "Running", "1/1", "Running"),
        (INIT, [absent("i"), running()], "Running", "1/1", "Running"),
        (SIDECAR, [running("s"), absent()], "Pending", "1/2", "PodInitializing"),
        (SIDECAR, [running("s"), running()], "Running", "2/2", "Running"),
    ],
)
def test_phases(spec: str, several: list[ContainerSeen], phase: str, ready: str, word: str) -> None:
    found = told(declared(spec), seen(*several))
    assert (found[0].phase, *found[1:]) == (phase, ready, word)
    assert status.phase(declared(spec), seen(*several)) == phase


def test_one_of_two_has_ended() -> None:
    look = seen(exited(0), running("d"))
    assert told(declared(ON_FAILURE, two=True), look)[1:] == ("1/2", "NotReady")


def test_a_pod_that_had_finished_before_a_reboot() -> None:
    before = [one._replace(is_of_this_run=False) for one in (exited(0, "i"), exited(0))]
    look = seen(*before, sandbox="exited", started=0)
    found, _, word = told(declared(f"{INIT}\n  {NEVER}"), look)
    assert (found.phase, word) == ("Succeeded", "Completed")


def test_a_pod_that_is_going() -> None:
    pod = declared(deleted=START)
    found, _, word = told(pod, seen(running()))
    assert word == "Terminating"
    assert found.phase == "Running"
    assert told(declared(NEVER, deleted=START), seen(exited(0)))[2] == "Completed"


def test_a_pod_that_has_failed_as_a_whole() -> None:
    pod = declared(failure=Failure(reason="DeadlineExceeded", message="too long"))
    found, _, word = told(pod, seen(exited(137)))
    assert (found.phase, found.reason, found.message) == ("Failed", "DeadlineExceeded", "too long")
    assert word == "DeadlineExceeded"


def test_what_is_there_of_the_pod_before_is_not_this_one() -> None:
    look = seen(running(), uid="another", problem=blocked("the old one does not end"))
    found, ready, word = told(declared(), look)
    assert (found.phase, ready, word) == ("Pending", "0/1", "CreateContainerError")
    assert found.message == "the old one does not end"
    assert found.container_statuses[0].container_id == ""


def test_why_it_is_not_further() -> None:
    look = seen(absent(), absent("d"), problem=blocked("image b: not found"))
    found = status.status(declared(two=True), look)
    first, second = (one.state.waiting for one in found.container_statuses)
    assert first is not None
    assert (first.reason, first.message) == ("CreateContainerError", "image b: not found")
    assert second is not None
    assert second.reason == "ContainerCreating"
    assert found.message == "image b: not found"


def test_a_container_that_cannot_be_started() -> None:
    broken = ContainerSeen(
        "c", id="x", state="created", ended=ended(127, reason="not started", error="no such file"),
        is_of_this_run=True,
    )  # fmt: skip
    (one,) = status.status(declared(), seen(broken)).container_statuses
    assert one.state.waiting is not None
    assert (one.state.waiting.reason, one.state.waiting.message) == (
        "RunContainerError", "no such file",
    )  # fmt: skip


def looks(name: str) -> st.SearchStrategy[ContainerSeen]:
    """Everything that a container can be."""
    shapes = [absent(name), running(name), running(name, ready=False), back_off(name)]
    shapes += [exited(code, name) for code in (0, 1)]
    shapes += [one._replace(is_of_this_run=False) for one in shapes[4:]]
    shapes.append(
        ContainerSeen(name, id="x", state="created", ended=ended(127, reason="not started"))
    )
    return st.sampled_from(shapes)


@given(
    policy=st.sampled_from(["Always", "OnFailure", "Never"]),
    several=st.tuples(looks("i"), looks("s"), looks("c"), looks("d")),
    sandbox=st.sampled_from(["running", "exited", "lost"]),
    deleted=st.sampled_from([0, START]),
)
@settings(deadline=None)
def test_a_status_agrees_with_the_controllers(
    policy: str, several: tuple[ContainerSeen, ...], sandbox: Any, deleted: int
) -> None:
    spec = f"""restartPolicy: {policy}
  initContainers:
  - {{name: i, image: b}}
  - {{name: s, image: b, restartPolicy: Always}}"""
    pod = declared(spec, two=True, deleted=deleted)
    look = seen(*several, sandbox=sandbox)
    found, _, word = told(pod, look)
    assert (found.phase in ("Succeeded", "Failed")) is controllers.is_finished(pod, look)
    ready = {one.type: one.status for one in found.conditions}["Ready"]
    assert (ready == "True") is controllers.is_ready(pod, look)
    assert word
    for one in (*found.init_container_statuses, *found.container_statuses):
        states = (one.state.waiting, one.state.running, one.state.terminated)
        assert sum(state is not None for state in states) == 1


# ---- documents ----


def test_a_status_is_as_the_api_has_it() -> None:
    look = seen(running(restarts=2), ips=("10.0.0.2", "fd00::2"))
    found = json.loads(msgspec.json.encode(status.status(declared(), look, "192.0.2.7")))
    assert found == {
        "phase": "Running",
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": f"2023-11-14T22:13:{second}Z"}
            for kind, second in (
                ("PodScheduled", 20), ("Initialized", 20), ("ContainersReady", 22), ("Ready", 22),
            )
        ],
        "hostIP": "192.0.2.7",
        "hostIPs": [{"ip": "192.0.2.7"}],
        "podIP": "10.0.0.2",
        "podIPs": [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}],
        "startTime": "2023-11-14T22:13:20Z",
        "containerStatuses": [
            {
                "name": "c",
                "state": {"running": {"startedAt": "2023-11-14T22:13:21Z"}},
                "lastState": {},
                "ready": True,
                "restartCount": 2,
                "image": "busybox",
                "imageID": "sha256:1",
                "containerID": "pycontain://cid",
                "started": True,
            }
        ],
        "qosClass": "BestEffort",
    }  # fmt: skip


def test_the_end_of_a_container() -> None:
    (one,) = status.status(declared(), seen(exited(143, signal=15))).container_statuses
    end = one.state.terminated
    assert end is not None
    assert (end.exit_code, end.signal, end.reason) == (143, 15, "Error")
    assert (end.started_at, end.finished_at) == ("2023-11-14T22:13:21Z", "2023-11-14T22:13:25Z")
    assert end.container_id == "pycontain://cid"


def test_a_container_that_waits_for_its_restart_knows_its_last_end() -> None:
    (one,) = status.status(declared(), seen(back_off())).container_statuses
    assert one.state.waiting is not None
    assert "22:14:20" in one.state.waiting.message
    assert one.last_state.terminated is not None
    assert one.last_state.terminated.exit_code == 3
    assert one.restart_count == 3  # that which is due has not been


def test_a_container_that_runs_knows_how_the_run_before_ended() -> None:
    again = running(restarts=1)._replace(before=back_off().ended)
    (one,) = status.status(declared(), seen(again)).container_statuses
    assert one.state.running is not None
    assert one.last_state.terminated is not None
    assert one.last_state.terminated.exit_code == 3


def conditions(pod: Declared, look: PodSeen) -> dict[str, tuple[str, str]]:
    found = status.status(pod, look).conditions
    return {one.type: (one.status, one.reason) for one in found}


def test_conditions() -> None:
    found = conditions(declared(INIT), seen(running("i"), absent()))
    assert found == {
        "PodScheduled": ("True", ""),
        "Initialized": ("False", "ContainersNotInitialized"),
        "ContainersReady": ("False", "ContainersNotReady"),
        "Ready": ("False", "ContainersNotReady"),
    }
    assert conditions(declared(NEVER), seen(exited(0)))["Ready"] == ("False", "PodCompleted")
    assert conditions(declared(NEVER), seen(exited(1)))["Ready"] == ("False", "PodFailed")
    going = conditions(declared(deleted=START), seen(running()))
    assert going["ContainersReady"][0] == "True"
    assert going["Ready"][0] == "False"


@pytest.mark.parametrize(
    ("resources", "word"),
    [
        ("{}", "BestEffort"),
        ("{limits: {ephemeral-storage: 1Gi}}", "BestEffort"),
        ("{limits: {cpu: 1}}", "Burstable"),
        ("{requests: {memory: 1Mi}}", "Burstable"),
        ("{limits: {cpu: 1, memory: 1Mi}}", "Guaranteed"),
        ("{limits: {cpu: 1, memory: 1Mi}, requests: {cpu: 1000m, memory: 1024Ki}}", "Guaranteed"),
        ("{limits: {cpu: 1, memory: 1Mi}, requests: {cpu: 500m}}", "Burstable"),
    ],
)
def test_quality_of_service(resources: str, word: str) -> None:
    pod = declared(f"initContainers: [{{name: i, image: b, resources: {resources}}}]").pod
    one = pod.spec.init_containers[0]
    spec = kube.PodSpec(containers=(one,))
    assert status.qos_class(spec) == word
    mixed = kube.PodSpec(containers=(one, *pod.spec.containers))
    assert status.qos_class(mixed) == ("BestEffort" if word == "BestEffort" else "Burstable")


def test_quality_of_service_of_a_pod_as_a_whole() -> None:
    whole = declared("resources: {limits: {cpu: 1, memory: 1Mi}}").pod.spec
    assert status.qos_class(whole) == "Guaranteed"
    assert status.qos_class(declared("resources: {requests: {cpu: 1}}").pod.spec) == "Burstable"


def test_what_the_server_adds_to_an_object() -> None:
    found = status.metadata(declared(owner=Owner(kind="Deployment", name="many", uid="o")))
    assert found["creationTimestamp"] == "2023-11-14T22:13:20Z"
    assert found["ownerReferences"] == [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "many", "uid": "o",
         "controller": True},
    ]  # fmt: skip
    assert "deletionTimestamp" not in found
    assert status.metadata(declared(deleted=START))["deletionTimestamp"]


def read(found: msgspec.Struct, kind: str) -> Any:
    """A status as the client of Kubernetes understands it; it checks what has to be there."""
    client = ApiClient(Configuration())
    document = msgspec.json.encode(found).decode()
    known = client.deserialize(document, kind, "application/json")
    return client.sanitize_for_serialization(known)


@pytest.mark.parametrize(
    "look",
    [
        seen(absent("i"), absent()),
        seen(exited(0, "i"), running(restarts=1), ips=("10.0.0.2",)),
        seen(exited(0, "i"), back_off()),
        seen(exited(137, "i", oom_killed=True, signal=9), absent()),
    ],
)
def test_kubernetes_client_reads_the_status_of_a_pod(look: PodSeen) -> None:
    found = status.status(declared(INIT), look, "192.0.2.7")
    ours = json.loads(msgspec.json.encode(found))
    theirs = read(found, "V1PodStatus")
    assert _times(theirs) == _times(ours)


def _times(value: Any) -> Any:
    """A document in which all times of whole seconds look alike."""
    return json.loads(json.dumps(value).replace("+00:00", "Z"))


# ---- deployments ----


def deployment(replicas: int, least: int = 0) -> Declared:
    text = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: many}}
spec:
  replicas: {replicas}
  minReadySeconds: {least}
  selector: {{matchLabels: {{app: many}}}}
  template:
    metadata: {{labels: {{app: many}}}}
    spec: {{containers: [{{name: c, image: busybox}}]}}
"""
    (one,) = manifest.parse(text).objects
    return Declared("o", START, 2, 0, None, None, one)


def pod_of(owner: Declared, number: int, look: PodSeen, **fields: Any) -> controllers.PodOf:
    one = controllers.pod_of(owner.deployment, f"many-{number}")
    known = Declared("u", START, 1, 0, None, None, one)
    return controllers.PodOf(known._replace(**fields), look)


def test_a_deployment_counts_its_pods() -> None:
    owner = deployment(4, least=10)
    pods = [
        pod_of(owner, 1, seen(running())),
        pod_of(owner, 2, seen(running(ready=False))),
        pod_of(deployment(1), 3, seen(running())),
        pod_of(owner, 4, seen(running()), deleted=START),
    ]
    other = kube.ObjectMeta(name="old", labels={controllers.HASH_LABEL: "old"})
    old = kube.Pod(api_version="v1", kind="Pod", metadata=other, spec=pods[0].declared.pod.spec)
    pods.append(pod_of(owner, 5, seen(running()), object=old))
    at_once = status.deployment_status(owner, pods, START + 2 * SECOND)
    counts = (
        at_once.replicas, at_once.updated_replicas, at_once.ready_replicas,
        at_once.available_replicas, at_once.unavailable_replicas, at_once.observed_generation,
    )  # fmt: skip
    assert counts == (4, 3, 3, 0, 4, 2)
    later = status.deployment_status(owner, pods, START + 12 * SECOND)
    assert (later.available_replicas, later.unavailable_replicas) == (3, 1)
    assert [(one.type, one.status) for one in later.conditions] == [
        ("Available", "False"), ("Progressing", "True"),
    ]  # fmt: skip


def test_a_deployment_that_is_whole() -> None:
    owner = deployment(1)
    found = status.deployment_status(owner, [pod_of(owner, 1, seen(running()))], START)
    assert found.conditions[0].status == "False"  # it became ready after this moment
    found = status.deployment_status(owner, [pod_of(owner, 1, seen(running()))], START + 9 * SECOND)
    assert [one.reason for one in found.conditions] == [
        "MinimumReplicasAvailable", "NewReplicaSetAvailable",
    ]  # fmt: skip


def test_kubernetes_client_reads_the_status_of_a_deployment() -> None:
    owner = deployment(3)
    pods = [pod_of(owner, 1, seen(running())), pod_of(owner, 2, seen(absent()))]
    found = status.deployment_status(owner, pods, START + 9 * SECOND, "no space")
    assert read(found, "V1DeploymentStatus") == json.loads(msgspec.json.encode(found))


def test_why_a_deployment_is_not_further() -> None:
    found = status.deployment_status(deployment(1), [], START, "no space left on device")
    assert (found.replicas, found.unavailable_replicas) == (0, 1)
    last = found.conditions[-1]
    assert (last.type, last.status) == ("ReplicaFailure", "True")
    assert last.message == "no space left on device"


# ---- tables ----


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (-5, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (599, "9m59s"),
        (600, "10m"), (3 * 3600 - 1, "179m"), (3 * 3600, "3h"), (3 * 3600 + 60, "3h1m"),
        (8 * 3600 + 60, "8h"), (48 * 3600 - 1, "47h"), (48 * 3600, "2d"), (49 * 3600, "2d1h"),
        (8 * 86400, "8d"), (2 * 31536000 - 1, "729d"), (2 * 31536000, "2y"),
        (2 * 31536000 + 86400, "2y1d"), (9 * 31536000, "9y"),
    ],
)  # fmt: skip
def test_ages(seconds: int, text: str) -> None:
    assert kube_rows.age(seconds * SECOND) == text


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("app=web", True), ("app==web", True), ("app!=web", False), ("app = web , tier!=db", True),
        ("app in (x, web)", True), ("app notin (x,web)", False), ("app", True), ("!app", False),
        ("!tier", True), ("tier", False), ("tier!=db", True), ("tier notin (db)", True), ("", True),
        ("example.org/a=b,app", False),
    ],
)  # fmt: skip
def test_selectors(text: str, meant: bool) -> None:
    assert selectors.selects(kube_rows.selector(text), {"app": "web"}) is meant


@pytest.mark.parametrize(
    "text", ["=", "app=web,", ",app", "app in x", "app in (x", "a b", "app=we b", "app=(a)"]
)
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no selector"):
        kube_rows.selector(text)


def test_a_selector_is_written_as_it_is_read() -> None:
    text = "a in (x,y),b notin (z),c,!d"
    assert kube_rows.selector_text(kube_rows.selector(text)) == text
    assert kube_rows.selector_text(kube.LabelSelector(match_labels={"a": "b"})) == "a=b"


# ---- what is waited for ----


@pytest.mark.parametrize(
    ("spec", "several", "said"),
    [
        ("", [running()], ""),
        ("", [absent()], "pod web: container c is not ready"),
        ("", [running(ready=False)._replace(message="a")], "pod web: container c is not ready: a"),
        (INIT, [running("i"), absent()], "pod web: init container i has not ended"),
        (INIT, [exited(0, "i"), absent()], "pod web: container c is not ready"),
        (INIT, [absent("i"), running(ready=False)], "pod web: container c is not ready"),
        (SIDECAR, [running("s", ready=False), absent()], "pod web: container s is not ready"),
        (SIDECAR, [running("s"), absent()], "pod web: container c is not ready"),
    ],
)  # fmt: skip
def test_what_a_pod_lacks(spec: str, several: list[ContainerSeen], said: str) -> None:
    none: Any = None
    assert readiness.missing(none, declared(spec), seen(*several), None) == said


def test_a_pod_that_does_not_run_lacks_that() -> None:
    none: Any = None
    look = seen(running(), sandbox="lost")
    assert readiness.missing(none, declared(), look, None) == "pod web is not running"


@pytest.mark.parametrize("message", ["no image", "pod web: no image"])
def test_a_pod_is_named_once(message: str) -> None:
    none: Any = None
    problem = blocked(message)
    assert readiness.missing(none, declared(), seen(absent()), problem) == "pod web: no image"
    with pytest.raises(InvalidState, match=r"\Apod web: no image\Z"):
        readiness.missing(none, declared(), seen(absent()), replace(problem, tries=3))
