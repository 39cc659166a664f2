"""Regressions that a review of what is declared found, by value."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from pycontain.cli.exit_codes import message_of
from pycontain.cli.streams import harmless
from pycontain.engine import Engine
from pycontain.errors import InvalidInput, NotFound, PycontainError
from pycontain.kernel.inotify import FolderWatch
from pycontain.model import kube
from pycontain.model.event import Event
from pycontain.model.pod import POD_LABEL
from pycontain.pod import documents, generate, manifest, plan, writing
from pycontain.pod.declared import Declarations
from pycontain.store.layout import Layout
from pycontain.supervisor.controllers import Controllers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: NUMBER
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec: {containers: [{name: one, image: busybox}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  volumes: [{name: v, configMap: {name: settings}}]
  containers:
  - name: one
    image: busybox
    env: [{name: MODE, valueFrom: {configMapKeyRef: {name: settings, key: mode}}}]
"""
SETTINGS = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {page: new}}"


def one(text: str) -> kube.Object:
    (found,) = manifest.parse(text).objects
    return found


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    found.prepare()
    return found


# ---- names that a user types ----


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "../configmap/settings", "a/b", "a\0b"])
def test_a_name_leads_nowhere_else(layout: Layout, name: str) -> None:
    declarations = Declarations(layout)
    declarations.apply(one(SETTINGS))
    for verb in (declarations.get, declarations.delete, declarations.lock):
        with pytest.raises(NotFound):
            verb("ConfigMap", name)
    assert declarations.find("ConfigMap", name) is None
    assert declarations.names("ConfigMap") == ["settings"]


def test_a_slip_of_the_hand_does_not_fill_the_disk() -> None:
    one(DEPLOYMENT.replace("NUMBER", "1000"))
    with pytest.raises(InvalidInput, match=r"spec\.replicas: is more than 1000"):
        one(DEPLOYMENT.replace("NUMBER", "1000000000"))


# ---- what containers say, on a terminal ----


def test_what_a_container_says_does_nothing_to_a_terminal() -> None:
    said = "a\x1b[31mb\x07\x9b\x7f\rc\td\n"
    assert harmless(said) == "a\\x1b[31mb\\x07\\x9b\\x7f\\x0dc\td\n"
    error = PycontainError("probe failed: \x1b]0;t\x07", "it said: \x1b[2J")
    assert message_of(error) == (
        "pycontain: probe failed: \\x1b]0;t\\x07\nhint: it said: \\x1b[2J\n"
    )
    assert harmless("äöü … €") == "äöü … €"


# ---- files of a pod ----


def test_files_are_planned_without_what_is_not_theirs() -> None:
    pod, settings = one(POD), one(SETTINGS)
    assert isinstance(pod, kube.Pod)
    with pytest.raises(PycontainError, match="no key 'mode'"):
        plan.plan(pod, [settings])
    (folder,) = plan.folders(pod, [settings])
    assert [(file.path, file.content) for file in folder.files or ()] == [("page", b"new")]


# ---- the supervisor's controllers ----


class Held:
    """A loop whose jobs are ended by the test."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], object], Callable[[object], None]]] = []

    def submit(self, job: Callable[[], object], done: Callable[[object], None]) -> None:
        """Keep a job."""
        self.jobs.append((job, done))


def controllers_of(layout: Layout) -> tuple[Controllers, Held]:
    loop = Held()
    engine = Engine(layout.root, layout.state)
    watch = FolderWatch(layout.state)
    return Controllers(loop, engine, watch, lambda: None), loop  # type: ignore[arg-type]


def test_a_step_that_fails_after_all_was_let_go_ends_no_supervisor(layout: Layout) -> None:
    declarations = Declarations(layout)
    declarations.apply(one(POD))
    controllers, loop = controllers_of(layout)
    controllers.look_at_all()
    ((_, done),) = loop.jobs
    declarations.rest()  # system shutdown
    controllers.look_at_all()
    done(NotFound("its image is gone"))
    assert not controllers.is_busy


def test_an_exec_of_a_probe_is_no_reason_to_look(layout: Layout) -> None:
    Declarations(layout).apply(one(POD))
    controllers, loop = controllers_of(layout)
    controllers.look_at_all()
    loop.jobs.clear()
    controllers._looking.clear()
    said = {POD_LABEL: "web"}
    for action, looks in (("exec_create: true", 0), ("exec_die", 0), ("die", 1)):
        event = Event(time=1, type="container", action=action, id="a" * 64, attributes=said)
        controllers.hear(event)
        assert len(loop.jobs) == looks, action


# ---- JSON ----


def data_of(text: str) -> list[dict[str, str]]:
    found = [one for one in manifest.parse(text).objects if isinstance(one, kube.ConfigMap)]
    return [one.data for one in found]


def test_characters_that_json_writes_as_pairs() -> None:
    wanted = {"a": "\U0001f600 \\ud83d", "b": "é\n"}
    text = json.dumps(a_map("web", wanted))
    assert "\\ud83d\\ude00" in text
    assert data_of(text) == [wanted]
    assert data_of(f"\ufeff\n {text}\n") == [wanted]


def test_json_objects_may_follow_one_another() -> None:
    texts = [json.dumps(a_map(name, {"a": name})) for name in ("one", "two")]
    wanted = [{"a": "one"}, {"a": "two"}]
    for between in ("\n", "", "\n---\n", " --- "):
        assert data_of(between.join(texts)) == wanted
    assert data_of(f"---\n{texts[0]}\n---\n---\n{texts[1]}\n---\n") == wanted
    odd = texts[0] + "\n\n" + json.dumps({**a_map("two", {}), "odd": 1})
    with pytest.raises(InvalidInput, match=r"document 2 \(line 3\): ConfigMap/two: odd: unknown"):
        manifest.parse(odd)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('{"a": "b", "a": "c"}', "column 91: key 'a' is there twice"),
        ('{"a": "\\ud83d"}', "invalid Unicode character escape code"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", "more than 64 levels"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "more than 64 levels"),
        ('{"a": "b"', "line 2, column 1: did not find expected"),
    ],
)
def test_what_is_wrong_in_json_is_named_by_its_place(data: str, said: str) -> None:
    head = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": '
    text = f"{head}{data}}}"
    with pytest.raises(InvalidInput, match=re.escape(said)):
        manifest.parse(text)


def test_yaml_may_begin_as_json() -> None:
    text = "{apiVersion: v1, kind: ConfigMap, metadata: {name: web}, data: {a: '\\ud83d\\ude00'}}"
    assert data_of(text) == [{"a": "\\ud83d\\ude00"}]
    assert data_of('{"apiVersion": v1, "kind": ConfigMap, "metadata": {"name": a}}') == [{}]
    assert data_of(f"{text}\n---\n{text.replace('web', 'two')}") == [{"a": "\\ud83d\\ude00"}] * 2


def test_numbers_of_json_are_those_of_yaml() -> None:
    numbers = ["1", "-1", "1.5", "1e3", "0", "9" * 500, "1E-2"]
    read = [documents.read(f'{{"a": {one}}}') for one in numbers]
    asked = [documents.read(f"a: {one}") for one in numbers]
    assert [[one.value for one in each] for each in read] == [
        [one.value for one in each] for each in asked
    ]


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("data: {a: {b: c}}", "data.a: expected `str`, got `object`", None),
        ("data: {a: [b]}", "data.a: expected `str`, got `array`", None),
        ("data: {a: 1}", "data.a: expected `str`, got `int`", "quote it: '…'"),
        ("data: {a: yes}", "data.a: expected `str`, got `bool`", "quote it: '…'"),
    ],
)
def test_a_hint_helps(text: str, said: str, hint: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        manifest.parse(f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: web}}, {text}}}")
    assert caught.value.message.endswith(said)
    assert caught.value.hint == hint


def test_modes_are_octal() -> None:
    pod = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {volumes: [VOLUME]}}"
    with pytest.raises(InvalidInput) as caught:
        manifest.parse(pod.replace("VOLUME", "{name: a, configMap: {name: a, defaultMode: 644}}"))
    assert caught.value.message.endswith("configMap.defaultMode: expected `int` <= 511")
    assert caught.value.hint == "modes are octal: 0644"


def test_a_deployment_that_is_generated_of_a_job_can_be_played() -> None:
    text = POD.replace("spec:", "spec:\n  restartPolicy: Never\n  activeDeadlineSeconds: 9", 1)
    (job,) = manifest.parse(text).objects
    assert isinstance(job, kube.Pod)
    made, left_out = generate.deployment(job)
    assert left_out == (
        "pod web: restartPolicy Never: a Deployment's is Always",
        "pod web: activeDeadlineSeconds: a Deployment's pods run on",
    )
    assert manifest.parse(writing.text([writing.document(made)])).objects == (made,)


def test_a_claim_of_one_character_is_named() -> None:
    spec = "{volumes: [{name: v, persistentVolumeClaim: {claimName: d}}], containers: [ONE]}"
    pod = f"{{apiVersion: v1, kind: Pod, metadata: {{name: web}}, spec: {spec}}}"
    claim = (
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: d}, spec:"
        " {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}"
    )
    with pytest.raises(InvalidInput, match=r"Pod/web: .*claimName: 'd': is one character only"):
        manifest.parse(pod.replace("ONE", "{name: one, image: busybox}"))
    with pytest.raises(InvalidInput, match=r"metadata\.name: 'd': is one character only"):
        manifest.parse(claim)


def a_map(name: str, data: dict[str, str]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
