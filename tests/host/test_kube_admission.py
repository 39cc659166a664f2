"""Pods are admitted while the machine has what they request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from harness import PATIENCE, wait_until

from pycontain import Kube, Pods
from pycontain.engine import supervision
from pycontain.errors import Conflict, InvalidState
from pycontain.model import kube
from pycontain.model.kube_status import DeploymentStatus, PodStatus
from pycontain.pod import admission

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from pycontain import Engine

pytestmark = pytest.mark.host


@pytest.fixture
def declared(engine: Engine) -> Iterator[Kube]:
    found = Kube(engine)
    yield found
    found.down([one.object for one in found.objects()])
    wait_until(lambda: not supervision.lives(engine.layout))


def spec(cpu: Decimal, *command: str) -> dict[str, Any]:
    main = {
        "name": "main", "image": "busybox", "command": command or ("sleep", "1000"),
        "resources": {"requests": {"cpu": str(cpu)}},
    }  # fmt: skip
    return {"containers": [main], "terminationGracePeriodSeconds": 0}


def pod(name: str, cpu: Decimal, *command: str, policy: str = "Always") -> kube.Pod:
    document = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {**spec(cpu, *command), "restartPolicy": policy},
    }  # fmt: skip
    return msgspec.convert(document, kube.Pod)


def deployment(replicas: int, cpu: Decimal) -> kube.Deployment:
    labels = {"app": "many"}
    document = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec(cpu)},
        },
    }  # fmt: skip
    return msgspec.convert(document, kube.Deployment)


def test_what_does_not_fit_is_refused_and_nothing_of_it_stays(
    engine: Engine, declared: Kube
) -> None:
    whole = admission.capacity().cpu
    first, second = pod("first", whole - whole / 4), pod("second", whole / 2)
    declared.play([first])
    with pytest.raises(Conflict) as caught:
        declared.play([second])
    assert caught.value.message.startswith("pod second: requests ")
    assert caught.value.hint == "the rest is requested by pod first"
    with pytest.raises(InvalidState, match=r"pod third: requests .* are free"):
        declared.play([pod("third", whole + 1)])
    assert [one.name for one in declared.objects()] == ["first"]
    assert [view.pod.name for view in Pods(engine).list()] == ["first"]
    declared.down([first])
    declared.play([second])
    declared.await_ready([("Pod", "second")], timeout=PATIENCE)


def test_one_that_has_done_its_work_is_not_counted(declared: Kube) -> None:
    whole = admission.capacity().cpu
    declared.play([pod("job", whole, "true", policy="Never")])
    wait_until(lambda: getattr(declared.status("Pod", "job"), "phase", "") == "Succeeded")
    declared.play([pod("next", whole)])


def test_replicas_that_do_not_fit_wait_for_room(declared: Kube) -> None:
    whole = admission.capacity().cpu

    def ready() -> int:
        status = declared.status("Deployment", "many")
        assert isinstance(status, DeploymentStatus)
        return status.ready_replicas

    def pending() -> list[PodStatus]:
        found = [declared.status("Pod", one.name) for one in declared.objects("Pod")]
        return [one for one in found if isinstance(one, PodStatus) and one.phase == "Pending"]

    def waiting() -> list[str]:
        return [one.message for one in pending()]

    def refused() -> list[tuple[str, str, str]]:
        every = (one for status in pending() for one in status.conditions)
        return [(one.type, one.status, one.reason) for one in every]

    declared.apply([pod("big", whole - whole / 4)])
    declared.apply([deployment(2, whole / 8)])
    declared.await_ready([("Deployment", "many")], timeout=PATIENCE)
    declared.apply([deployment(3, whole / 8)])
    wait_until(lambda: len(declared.objects("Pod")) == 4 and any("cpu" in one for one in waiting()))
    assert ready() == 2
    assert refused() == [("PodScheduled", "False", "Unschedulable")]
    declared.delete("Pod", "big")
    # Whoever waits for it to be ready is told of what was refused three times until then.
    wait_until(lambda: ready() == 3)
    declared.await_ready([("Deployment", "many")], timeout=PATIENCE)
