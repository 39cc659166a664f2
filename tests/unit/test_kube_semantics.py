"""What users of Kubernetes expect of a manifest, by value."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from pycontain.cli import kube_describe, kube_rows
from pycontain.engine import hooks
from pycontain.errors import Conflict, InvalidInput, NotFound
from pycontain.model import kube
from pycontain.model.container import ExitRecord
from pycontain.model.declared import Problem
from pycontain.model.kube_status import PodStatus
from pycontain.pod import controllers, images, immutable, manifest, normal, podspec
from pycontain.pod import plan as planning
from pycontain.pod import status as statuses
from pycontain.pod.declared import Declared
from pycontain.pod.observed import ContainerSeen, PodSeen
from pycontain.pod.plan import Facts, Planned

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: up
    image: busybox
"""
MAPS = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data: {a: one, b: one}
binaryData: {raw: /w==}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: two}
data: {b: two, c: two}
"""
SECOND = 1_000_000_000
FACTS = Facts("uid", (), "192.0.2.1", "machine", 2, 1 << 30)


def planned(text: str) -> Planned:
    objects = manifest.parse(text).objects
    (pod,) = (one for one in objects if isinstance(one, kube.Pod))
    return planning.plan(pod, objects, facts=FACTS)


def env(container: str) -> tuple[str, ...]:
    return planned(f"{POD}    {container}\n{MAPS}").members[0].options.env


def files(volume: str) -> dict[str, bytes]:
    (folder,) = planned(f"{POD}  volumes: [{{name: v, {volume}}}]\n{MAPS}").folders
    return {one.path: one.content for one in folder.files or ()}


def refused(text: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        manifest.parse(text)
    return caught.value.message


# ---- ConfigMaps ----


def test_binary_data_is_of_files_alone() -> None:
    assert env("envFrom: [{configMapRef: {name: one}}]") == ("a=one", "b=one")
    with pytest.raises(NotFound, match="there is no key 'raw' in ConfigMap/one"):
        env("env: [{name: A, valueFrom: {configMapKeyRef: {name: one, key: raw}}}]")
    assert files("configMap: {name: one}") == {"a": b"one", "b": b"one", "raw": b"\xff"}


def test_what_is_no_text_is_no_variable() -> None:
    secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\ndata: {raw: /w==}\n"
    with pytest.raises(InvalidInput, match=r"envFrom\[0\]: key raw: no UTF-8"):
        planned(f"{POD}    envFrom: [{{secretRef: {{name: keys}}}}]\n{secret}")


def test_an_empty_list_of_items_is_all_of_them() -> None:
    assert files("configMap: {name: two, items: []}") == {"b": b"two", "c": b"two"}


def test_of_keys_in_several_sources_the_last_one_counts() -> None:
    one, two = "{configMap: {name: one}}", "{configMap: {name: two}}"
    assert files(f"projected: {{sources: [{one}, {two}]}}")["b"] == b"two"
    assert files(f"projected: {{sources: [{two}, {one}]}}")["b"] == b"one"


def test_paths_that_are_written_down_have_to_differ() -> None:
    one = "{configMap: {name: one, items: [{key: a, path: x}]}}"
    two = "{secret: {name: two, items: [{key: a, path: x}]}}"
    three = "{downwardAPI: {items: [{path: x, fieldRef: {fieldPath: metadata.name}}]}}"
    for pair in (f"{one}, {two}", f"{one}, {three}"):
        volumes = f"volumes: [{{name: v, projected: {{sources: [{pair}]}}}}]"
        assert "spec.volumes[0].projected.sources: x is there twice" in refused(
            f"{POD}  {volumes}\n"
        )


# ---- quantities ----


@pytest.mark.parametrize(
    ("text", "most"), [("0.1Gi", 107374182), ("1.5", 1), ("1.5Ki", 1536), ("1e3", 1000)]
)
def test_a_fraction_of_a_byte_is_no_slip(text: str, most: int) -> None:
    found = planned(f"{POD}    resources: {{limits: {{memory: {text}}}}}\n")
    assert found.members[0].options.memory == most


@pytest.mark.parametrize("text", ["128m", "1500m", "0.5", "1e-3"])
def test_thousandths_of_a_byte_are(text: str) -> None:
    said = refused(f"{POD}    resources: {{limits: {{memory: {text}}}}}\n")
    assert "is no whole number of bytes" in said


# ---- what is got is what was declared ----


def test_what_a_server_says_of_an_object_changes_nothing() -> None:
    (pod,) = manifest.parse(POD).objects
    document = msgspec.to_builtins(pod)
    document["metadata"] |= {
        "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3,
        "deletionTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "5",
    }  # fmt: skip
    document["status"] = {"phase": "Running"}
    found = manifest.parse(msgspec.json.encode(document).decode(), strict=True)
    assert found.objects == (pod,)
    document["metadata"]["ownerReferences"] = [{"kind": "Deployment"}]
    found = manifest.parse(msgspec.json.encode(document).decode())
    assert (found.objects, found.ignored) == ((pod,), ("Pod/web: metadata.ownerReferences",))


def deployment(
    container: str = "tty: false", *, image: str = "busybox:1", labels: str = "app: web"
) -> kube.Deployment:
    text = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{{labels}}}}}
    spec:
      containers:
      - name: up
        image: {image}
        {container}
"""
    (found,) = manifest.parse(text).objects
    assert isinstance(found, kube.Deployment)
    return found


def test_the_order_of_labels_makes_no_other_template() -> None:
    one, two = (deployment(labels=text) for text in ("app: web, tier: a", "tier: a, app: web"))
    assert one == two
    assert controllers.template_hash(one) == controllers.template_hash(two)


# ---- names and users ----


def test_on_the_machines_network_a_pod_has_its_name() -> None:
    assert planned(POD).pod.hostname == "web"
    assert planned(f"{POD}  hostNetwork: true\n").pod.hostname == "machine"
    assert planned(f"{POD}  hostNetwork: true\n  hostname: own\n").pod.hostname == "own"


def test_a_group_alone_is_of_the_images_user() -> None:
    found = planned(f"{POD}    securityContext: {{runAsGroup: 7}}\n").members[0].options
    assert found.user == ":7"


@pytest.mark.parametrize(
    ("config", "search"),
    [
        ("dnsPolicy: None\n  dnsConfig: {nameservers: [192.0.2.3]}", (".",)),
        ("dnsPolicy: None\n  dnsConfig: {nameservers: [192.0.2.3], searches: [a.b]}", ("a.b",)),
        ("dnsConfig: {nameservers: [192.0.2.3]}", ()),
        ("dnsConfig: {searches: [_tcp.example., .]}", ("_tcp.example.", ".")),
    ],
)
def test_domains_are_the_machines_only_where_they_may(config: str, search: Any) -> None:
    assert planned(f"{POD}  {config}\n").pod.dns_search == search


@pytest.mark.parametrize("name", ["A.b", "-a", "a..b", "a b", "''"])
def test_what_is_no_domain(name: str) -> None:
    assert "is no domain" in refused(f"{POD}  dnsConfig: {{searches: [{name}]}}\n")


# ---- times ----


def test_two_seconds_are_always_left() -> None:
    now = time.monotonic()
    assert 2 < hooks.left(1000, now - 10) <= 990
    assert [hooks.left(limit, now - 100) for limit in (30, 2, 1, 0, -1)] == [2, 2, 1, 0, -1]


# ---- Secrets ----

TYPES = [
    ("tls", "tls.key: a, tls.crt: b", "tls.key: a"),
    ("ssh-auth", "ssh-privatekey: a", "key: a"),
    ("basic-auth", "password: a", "user: a"),
    ("dockerconfigjson", ".dockerconfigjson: '{}'", "{}"),
]


@pytest.mark.parametrize(("kind", "good", "bad"), TYPES)
def test_secrets_of_a_type_have_its_keys(kind: str, good: str, bad: str) -> None:
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ntype: kubernetes.io/{kind}\n"
    (one,) = manifest.parse(f"{text}stringData: {{{good}}}\n").objects
    assert isinstance(one, kube.Secret) and one.type == f"kubernetes.io/{kind}"
    assert f"of type kubernetes.io/{kind}" in refused(f"{text}stringData: {{{bad.strip('{}')}}}\n")


# ---- rows ----


def row(now: int, *, restarts: int) -> tuple[str, ...]:
    (pod,) = manifest.parse(POD).objects
    container = {
        "name": "up", "state": {"running": {}}, "ready": True, "restartCount": restarts,
        "image": "busybox", "imageID": "sha256:1", "started": True,
        "lastState": {"terminated": {
            "exitCode": 1, "reason": "Error", "finishedAt": "2023-11-14T22:13:20Z",
        }},
    }  # fmt: skip
    status = msgspec.convert(
        {
            "phase": "Running", "qosClass": "BestEffort", "containerStatuses": [container],
            "conditions": [{"type": "Initialized", "status": "True"}],
        },
        PodStatus,
    )  # fmt: skip
    declared = Declared("u", 1_700_000_000 * SECOND, 1, 0, None, None, pod)
    return kube_rows.pod_row(declared, status, "machine", now * SECOND)


def test_restarts_say_how_long_ago_the_last_run_ended() -> None:
    first, second = row(1_700_000_005, restarts=3), row(1_700_000_065, restarts=3)
    assert (first[3], second[3]) == ("3 (5s ago)", "3 (65s ago)")
    assert kube_rows.lasting(first, "Pod") == kube_rows.lasting(second, "Pod")
    assert row(1_700_000_005, restarts=0)[3] == "0"
    other = row(1_700_000_005, restarts=4)
    assert kube_rows.lasting(first, "Pod") != kube_rows.lasting(other, "Pod")


def test_texts_of_a_secret_are_data_like_the_others() -> None:
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"
    said = "data: {b: Yg==, c: Yw==}\nstringData: {a: a, b: x}"
    got = "data: {a: YQ==, b: eA==, c: Yw==}"
    assert manifest.parse(f"{text}{said}\n").objects == manifest.parse(f"{text}{got}\n").objects


# ---- reasons ----

TWO = f"{POD}  - {{name: by, image: busybox}}\n"
INIT = f"{POD}  initContainers: [{{name: first, image: busybox}}]\n"


def look(pod: Declared, problem: Problem | None = None, **container: Any) -> PodSeen:
    """What there is of a pod, whose first container may be."""
    names = [one.name for _, one in podspec.containers(pod.pod.spec)]
    containers = {name: ContainerSeen(name) for name in names}
    containers[names[0]] = ContainerSeen(names[0], **container)
    return PodSeen(
        id="p", uid="u", sandbox="running", started=SECOND, containers=containers, problem=problem
    )


def declared(text: str) -> Declared:
    (pod,) = manifest.parse(text).objects
    return Declared("u", SECOND, 1, 0, None, None, pod)


def blocked(reason: str, container: str = "", tries: int = 1) -> Problem:
    return Problem(message="why", tries=tries, since=SECOND, reason=reason, container=container)


def words(pod: Declared, seen: PodSeen) -> tuple[str, str, dict[str, str]]:
    """READY and STATUS of the table, and why containers wait."""
    found = statuses.status(pod, seen)
    said = kube_rows.pod_word(pod.pod, found, deleted=False)
    every = (*found.init_container_statuses, *found.container_statuses)
    waiting = {one.name: one.state.waiting.reason for one in every if one.state.waiting}
    return said.ready, said.word, waiting


@pytest.mark.parametrize(
    ("reason", "tries", "word"),
    [
        ("ErrImagePull", 1, "ErrImagePull"),
        ("ErrImagePull", 2, "ImagePullBackOff"),
        ("ErrImageNeverPull", 2, "ErrImageNeverPull"),
        ("InvalidImageName", 2, "InvalidImageName"),
        ("CreateContainerConfigError", 2, "CreateContainerConfigError"),
        ("", 2, "CreateContainerError"),
    ],
)
def test_why_a_container_waits(reason: str, tries: int, word: str) -> None:
    pod = declared(TWO)
    found = words(pod, look(pod, blocked(reason, "by", tries)))
    assert found == ("0/2", word, {"up": "ContainerCreating", "by": word})
    text = kube_describe.pod(
        pod, statuses.status(pod, look(pod, blocked(reason, "by", tries))), "machine", ()
    )
    assert f"{word}\n" in text and "why" in text


def test_who_is_in_the_way_of_containers_of_init_is_named() -> None:
    pod = declared(INIT)
    assert words(pod, look(pod))[1] == "Init:0/1"
    assert words(pod, look(pod, blocked("ErrImagePull", "first")))[1] == "Init:ErrImagePull"
    _, word, waiting = words(pod, look(pod, blocked("ErrImagePull", "up")))
    assert (word, waiting) == ("ErrImagePull", {"first": "PodInitializing", "up": "ErrImagePull"})


def test_a_pod_that_does_not_fit_is_pending() -> None:
    pod = declared(TWO)
    seen = look(pod, blocked("Unschedulable"))
    assert words(pod, seen) == ("0/2", "Pending", {})
    found = statuses.status(pod, seen)
    (condition,) = found.conditions
    assert (condition.type, condition.status) == ("PodScheduled", "False")
    assert (condition.reason, condition.message) == ("Unschedulable", "why")
    assert (found.phase, found.container_statuses) == ("Pending", ())
    text = kube_describe.pod(pod, found, "machine", ())
    assert "Unschedulable why" in text and "up:" in text


def test_one_that_does_not_fit_any_more_is_not_unscheduled() -> None:
    pod = declared(TWO)
    seen = look(pod, blocked("Unschedulable"), id="x", state="running", ready=True)
    assert words(pod, seen) == ("1/2", "CreateContainerError", {"by": "CreateContainerError"})


@pytest.mark.parametrize(("text", "reason"), [(POD, "ContainerCreating"), (INIT, "")])
def test_while_its_hook_runs_a_container_waits(text: str, reason: str) -> None:
    pod = declared(text)
    seen = look(pod, id="x", state="running", starting=True, is_of_this_run=True, started=SECOND)
    assert statuses.phase(pod, seen) == "Pending"
    assert words(pod, seen)[1] == (reason or "Init:0/1")
    begun = look(pod, id="x", state="running", is_started=True, is_of_this_run=True)
    assert statuses.phase(pod, begun) == ("Running" if reason else "Pending")


def test_a_hook_of_a_later_run() -> None:
    pod, before = declared(POD), ExitRecord(run="r", code=3, started=SECOND, finished=2 * SECOND)
    seen = look(pod, id="x", state="running", starting=True, before=before, restarts=1)
    (one,) = statuses.status(pod, seen).container_statuses
    assert one.state.waiting and one.last_state.terminated
    assert one.last_state.terminated.exit_code == 3
    assert statuses.phase(pod, seen) == "Running"


@pytest.mark.parametrize(
    ("image", "pull", "reason"),
    [
        ("A:B:C", "Never", "InvalidImageName"),
        ("busybox", "Never", "ErrImageNeverPull"),
        ("busybox", "IfNotPresent", "ErrImagePull"),
    ],
)
def test_why_there_is_no_image(image: str, pull: str, reason: str) -> None:
    (member,) = planned(f"{POD}    imagePullPolicy: {pull}\n".replace("busybox", image)).members
    assert images.reason(member, NotFound("no such image")) == reason


# ---- spellings ----

SAME = [
    ("resources: {limits: {cpu: 0.5, memory: 1Gi}}",
     "resources: {limits: {cpu: 500m, memory: 1024Mi}}"),
    ("resources: {limits: {cpu: 1}}", "resources: {limits: {cpu: '1'}, requests: {cpu: 1000m}}"),
    ("ports: [{containerPort: 80}]", "ports: [{containerPort: 80, protocol: TCP, hostPort: 0}]"),
    ("livenessProbe: {httpGet: {port: 80}}",
     "livenessProbe: {httpGet: {port: 80, path: /, scheme: HTTP}, periodSeconds: 0}"),
    ("env: [{name: A}]", "env: [{name: A, value: ''}]"),
    ("args: []", "terminationMessagePath: /dev/termination-log"),
    ("tty: false", "securityContext: {procMount: Default}"),
]  # fmt: skip
OTHER = [
    ("resources: {limits: {cpu: 1}}", "resources: {limits: {cpu: 1.5}}"),
    ("resources: {limits: {cpu: 1}}", "resources: {limits: {cpu: 1}, requests: {cpu: 500m}}"),
    ("tty: false", "imagePullPolicy: Always"),
    ("tty: false", "securityContext: {runAsNonRoot: false}"),
    ("livenessProbe: {tcpSocket: {port: 80}}", "livenessProbe: {tcpSocket: {port: 81}}"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_in_other_words(one: str, other: str) -> None:
    first, second = deployment(one), deployment(other)
    assert normal.same(first, second)
    assert normal.normal(normal.normal(second)) == normal.normal(second)
    assert controllers.template_hash(first) == controllers.template_hash(second)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_what_is_not_the_same(one: str, other: str) -> None:
    first, second = deployment(one), deployment(other)
    assert not normal.same(first, second)
    assert controllers.template_hash(first) != controllers.template_hash(second)


@pytest.mark.parametrize(("image", "same"), [("a:1", True), ("a", False), ("a:latest", False)])
def test_the_default_of_a_pull_policy_is_its_images(image: str, same: bool) -> None:
    said = deployment("imagePullPolicy: IfNotPresent", image=image)
    assert normal.same(deployment("tty: false", image=image), said) == same


def test_defaults_of_a_pod() -> None:
    (one,) = manifest.parse(POD).objects
    (two,) = manifest.parse(
        f"{POD}  restartPolicy: Always\n  terminationGracePeriodSeconds: 30\n"
        "  dnsPolicy: ClusterFirst\n  schedulerName: default-scheduler\n  securityContext: {}\n"
    ).objects
    assert one != two and normal.same(one, two)


def test_an_empty_storage_class_is_not_the_default_one() -> None:
    text = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""
    (one,) = manifest.parse(text).objects
    (two,) = manifest.parse(text.replace("1Gi", "1024Mi")).objects
    (three,) = manifest.parse(
        text.replace("accessModes", "storageClassName: '', accessModes")
    ).objects
    assert normal.same(one, two) and not normal.same(one, three)


# ---- what is immutable ----

DATA = "apiVersion: v1\nkind: {kind}\nmetadata: {{name: d}}\n{rest}\n"
FIXED = "immutable: true\ndata: {a: YQ==}"


@pytest.mark.parametrize(
    ("kind", "rest", "other", "path"),
    [
        ("ConfigMap", FIXED, "immutable: true\ndata: {a: Yg==}", "data"),
        ("ConfigMap", FIXED, "data: {a: YQ==}", "immutable"),
        ("ConfigMap", "data: {a: YQ==}", "immutable: true\ndata: {b: YQ==}", ""),
        ("ConfigMap", FIXED, FIXED, ""),
        ("Secret", FIXED, "immutable: true\ndata: {a: Yg==}", "data"),
        ("Secret", FIXED, "immutable: true\nstringData: {a: a}", ""),
        ("Secret", "data: {}", "type: example.org/own", "type"),
    ],
)
def test_what_cannot_be_changed(kind: str, rest: str, other: str, path: str) -> None:
    (before,) = manifest.parse(DATA.format(kind=kind, rest=rest), strict=True).objects
    (wanted,) = manifest.parse(DATA.format(kind=kind, rest=other), strict=True).objects
    if not path:
        immutable.check(before, wanted)
        return
    with pytest.raises(Conflict, match=f"{kind}/d: {path}: field is immutable") as caught:
        immutable.check(before, wanted)
    assert f"kube delete {kind.lower()} d" in (caught.value.hint or "")


def test_a_selector_cannot_be_changed() -> None:
    one = deployment(labels="app: web, tier: a")
    selector = kube.LabelSelector(match_labels={"tier": "a"})
    with pytest.raises(Conflict, match=r"Deployment/web: spec\.selector: field is immutable"):
        immutable.check(one, replace(one, spec=replace(one.spec, selector=selector)))
    immutable.check(one, replace(one, spec=replace(one.spec, replicas=7)))
