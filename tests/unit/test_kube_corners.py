"""Regressions that a review of what is declared found, by value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pycontain.cli.exit_codes import message_of
from pycontain.cli.streams import harmless
from pycontain.engine import Engine
from pycontain.errors import InvalidInput, NotFound, PycontainError
from pycontain.model import kube
from pycontain.model.event import Event
from pycontain.model.pod import POD_LABEL
from pycontain.pod import manifest, plan
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
    return Controllers(loop, engine, lambda: None), loop  # type: ignore[arg-type]


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
