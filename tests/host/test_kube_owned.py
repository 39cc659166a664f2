"""What belongs to declared pods is theirs: others leave it alone, and it comes back with them."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from harness import PATIENCE, wait_until

from pycontain import Kube, Pods
from pycontain.engine import disk, records, supervision
from pycontain.errors import Conflict, InvalidState, PycontainError
from pycontain.model import kube as objects
from pycontain.model.container import RestartPolicy, RunOptions
from pycontain.model.kube_status import DeploymentStatus, PodStatus
from pycontain.pod.shutdown import end_all

if TYPE_CHECKING:
    from harness import Store

    from pycontain import Engine

pytestmark = pytest.mark.host


def spec(*command: str, policy: str = "Always", **more: Any) -> dict[str, Any]:
    main = {"name": "main", "image": "busybox", "command": command}
    return {
        "containers": [main], "restartPolicy": policy, "terminationGracePeriodSeconds": 0, **more
    }  # fmt: skip


def pod(name: str, *command: str, policy: str = "Always", **more: Any) -> objects.Pod:
    document = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": spec(*command, policy=policy, **more),
    }  # fmt: skip
    return msgspec.convert(document, objects.Pod)


def phase(kube: Kube, name: str) -> str:
    status = kube.status("Pod", name)
    assert isinstance(status, PodStatus)
    return status.phase


def test_a_prune_leaves_what_a_declared_pod_would_make_again(engine: Engine, kube: Kube) -> None:
    """A job would run a second time."""
    (job,) = kube.play([pod("job", "echo", "ran", policy="Never")])
    wait_until(lambda: phase(kube, "job") == "Succeeded")
    other = engine.containers.create(RunOptions(image="busybox"))
    problems: list[PycontainError] = []
    assert disk.prune_containers(engine, lambda *_: True, problems)[0] == [other.id]
    assert not problems
    assert [view.container.id for view in engine.containers.list(all=True)] == [*job.containers]
    used = disk.usage(engine, problems)
    assert used.container_part.reclaimable == 0


def test_a_name_that_a_pod_gave_stays(engine: Engine, kube: Kube) -> None:
    kube.play([pod("web", "sleep", "1000")])
    with pytest.raises(InvalidState, match="container web-main has its name of the pod"):
        engine.containers.rename("web-main", "mine")
    with pytest.raises(Conflict, match='name "/web" is already in use by pod'):
        engine.start("busybox", ["true"], name="web")
    assert [view.container.name for view in engine.containers.list()] == ["web-main"]


def test_of_replicas_with_a_claim_for_one_pod_one_runs(kube: Kube) -> None:
    claim = msgspec.convert(
        {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOncePod"], "resources": {"requests": {"storage": "1Mi"}}
            },
        },
        objects.PersistentVolumeClaim,
    )  # fmt: skip
    labels = {"app": "db"}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    many = msgspec.convert(
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "db"},
            "spec": {
                "replicas": 2, "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": spec("sleep", "1000", volumes=[volume]),
                },
            },
        },
        objects.Deployment,
    )  # fmt: skip
    kube.apply([claim, many])

    def ready() -> int:
        status = kube.status("Deployment", "db")
        assert isinstance(status, DeploymentStatus)
        return status.ready_replicas

    def refused() -> list[str]:
        found = [kube.status("Pod", one.name) for one in kube.objects("Pod")]
        return [one.message for one in found if isinstance(one, PodStatus) and one.message]

    wait_until(lambda: ready() == 1 and len(refused()) == 1)
    assert "claim data is ReadWriteOncePod" in refused()[0]
    (first,) = (one.name for one in kube.objects("Pod") if phase(kube, one.name) == "Running")
    kube.delete("Pod", first)
    # The other one, whose turn it is; and another takes its place in the row.
    wait_until(lambda: ready() == 1 and len(kube.objects("Pod")) == 2)


def test_a_supervisor_that_was_there_first_keeps_what_is_declared(store: Store, kube: Kube) -> None:
    """After a reboot one is started for containers, before anybody keeps what is kube."""
    kube.play([pod("web", "sleep", "1000")])
    policy = RestartPolicy(name="always")
    store.detach("sleep", "1000", name="box", init=True, restart=policy)
    end_all(store.engine)
    assert [one.name for one in store.containers.boot()] == ["box"]
    first = store.run_record("box")
    os.kill(first.pid, signal.SIGKILL)
    wait_until(  # it is at work
        lambda: store.state_of("box") == "running" and store.run_record("box").run != first.run
    )
    before = supervision.recorded(store.layout)
    assert [one.name for one in kube.boot()] == ["web"]
    kube.await_ready([("Pod", "web")], timeout=PATIENCE)
    run = records.load_run(Pods(store.engine).get("web").paths)
    assert run is not None
    # Of what holds the namespaces only who keeps the pod takes notice.
    os.kill(run.monitor, signal.SIGKILL)

    def is_held_again() -> bool:
        found = records.load_run(Pods(store.engine).get("web").paths)
        return found is not None and found.monitor != run.monitor

    wait_until(is_held_again)
    assert supervision.recorded(store.layout) == before
    store.containers.remove("box", force=True)


def test_the_network_of_pods_comes_back_with_them(store: Store, kube: Kube) -> None:
    """Nobody made it, so nobody knows that it has to be there."""
    kube.play([pod("web", "sleep", "1000")])
    pods = Pods(store.engine)
    pods.stop("web")
    store.engine.networks.remove("kube")
    assert pods.start("web") == []
    kube.await_ready([("Pod", "web")], timeout=PATIENCE)
    pods.stop("web")
    store.engine.networks.remove("kube")
    store.containers.start("web-main")
    kube.await_ready([("Pod", "web")], timeout=PATIENCE)
    pods.stop("web")
    end_all(store.engine)
    store.engine.networks.remove("kube")
    assert [one.name for one in kube.boot()] == ["web"]


def test_a_wait_says_for_which_probe_a_container_ends(kube: Kube) -> None:
    wanted = pod("ill", "sleep", "1000")
    (main,) = wanted.spec.containers
    asked = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    ill = msgspec.structs.replace(main, startup_probe=msgspec.convert(asked, objects.Probe))
    changed = msgspec.structs.replace(wanted.spec, containers=(ill,))
    kube.apply([msgspec.structs.replace(wanted, spec=changed)])
    said = "container main has ended with exit code 137, again and again: its startup probe failed"
    with pytest.raises(InvalidState, match=said):
        kube.await_ready([("Pod", "ill")], timeout=PATIENCE)
