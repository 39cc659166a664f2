"""Pods, and what is declared, in a program: the verbs as they are called, and awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from harness import FOREVER, PATIENCE, wait_until

from pycontain import AsyncEngine, Kube
from pycontain.engine import supervision
from pycontain.errors import Conflict, InvalidInput, InvalidState, NotFound
from pycontain.model.container import RunOptions
from pycontain.model.kube_status import DeploymentStatus, PodStatus
from pycontain.pod import manifest

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from pycontain import Engine

pytestmark = pytest.mark.host

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: busybox, command: [sleep, "1000"]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 2
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: busybox, command: [sleep, "1000"]}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {key: value}
"""
OBJECTS = manifest.parse(MANIFEST).objects


@pytest.fixture
def declared(engine: Engine) -> Iterator[Kube]:
    """What is declared in the test's store; taken back at its end."""
    kube = Kube(engine)
    yield kube
    kube.down([one.object for one in kube.objects()])
    wait_until(lambda: not supervision.lives(engine.layout))


def play(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, PATIENCE * 3))


def asked() -> RunOptions:
    return RunOptions(image="busybox", command=FOREVER, init=True)


def test_pods_are_awaited(engine: Engine) -> None:
    async def main() -> None:
        pods = AsyncEngine(engine).pods
        made = await pods.create("work", network="none", labels={"a": "b"})
        options = await pods.member("work", asked())
        engine.containers.run(options, attach=False)
        view = await pods.get("work")
        assert (view.pod, view.state, len(view.members)) == (made, "Running", 1)
        assert [one.pod for one in await pods.list()] == [made]
        assert await pods.find(made.id[:12]) == made.id
        assert await pods.names() == {made.id: "work"}
        assert await pods.ports(view) == ()
        for verb in (pods.pause, pods.unpause, pods.restart):
            assert await verb("work") == []
        assert await pods.kill("work", 9) == []
        await pods.stop("work", timeout=0)
        assert await pods.start("work") == []
        with pytest.raises(InvalidState):
            await pods.remove("work")
        assert await pods.stop("work", timeout=0) == []
        assert await pods.prune(lambda pod: pod.name != "work") == []
        assert await pods.prune(lambda pod: pod.name == "work") == [made.id]
        assert not await pods.exists("work")
        with pytest.raises(NotFound):
            await pods.get("work")

    play(main())


def test_what_is_declared(engine: Engine, declared: Kube) -> None:
    lines: list[str] = []
    declared.check(OBJECTS)
    applied = declared.apply(OBJECTS, progress=lines.append)
    assert [(one.declared.kind, one.change) for one in applied] == [
        ("ConfigMap", "created"), ("Pod", "created"), ("Deployment", "created"),
    ]  # fmt: skip
    declared.await_ready([("Pod", "web"), ("Deployment", "many")], timeout=PATIENCE)
    pod, many = declared.status("Pod", "web"), declared.status("Deployment", "many")
    assert isinstance(pod, PodStatus)
    assert isinstance(many, DeploymentStatus)
    assert (pod.phase, many.ready_replicas) == ("Running", 2)
    assert declared.get("Pod", "web").object == OBJECTS[0]
    assert len(declared.objects("Pod")) == 3
    assert {one.kind for one in declared.objects()} == {"ConfigMap", "Deployment", "Pod"}
    assert [one.change for one in declared.apply(OBJECTS)] == ["unchanged"] * 3
    with pytest.raises(Conflict, match="is declared already"):
        declared.play(OBJECTS)
    with pytest.raises(InvalidInput, match="ConfigMap settings has no status"):
        declared.status("ConfigMap", "settings")
    for kind in ("Pod", "Deployment"):
        with pytest.raises(NotFound):
            declared.status(kind, "nobody")
    assert declared.delete("Pod", "web").name == "web"
    assert {one.name for one in declared.down(OBJECTS)} == {"many", "settings"}
    assert declared.objects() == []
    assert engine.containers.list(all=True) == []


def test_what_is_declared_is_awaited(engine: Engine, declared: Kube) -> None:
    async def main() -> None:
        kube = AsyncEngine(engine).kube
        await kube.check(OBJECTS[:1])
        [applied] = await kube.play(OBJECTS[:1])
        assert (applied.declared.name, applied.change) == ("web", "created")
        await kube.await_ready([("Pod", "web")])
        status = await kube.status("Pod", "web")
        assert isinstance(status, PodStatus)
        assert status.phase == "Running"
        assert (await kube.get("Pod", "web")).name == "web"
        assert [one.name for one in await kube.objects("Pod")] == ["web"]
        assert (await kube.delete("Pod", "web")).name == "web"
        assert await kube.down(OBJECTS[:1]) == []

    play(main())
    assert declared.objects() == []


def test_a_wait_that_is_cancelled(engine: Engine, declared: Kube) -> None:
    """It waits for a container that is never ready."""
    text = MANIFEST.partition("---")[0].replace(
        'command: [sleep, "1000"]',
        'command: [sleep, "1000"], readinessProbe: {exec: {command: ["false"]}}',
    )

    async def main() -> None:
        kube = AsyncEngine(engine).kube
        await kube.apply(manifest.parse(text).objects)
        waiting = asyncio.create_task(kube.await_ready([("Pod", "web")]))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    play(main())
    assert [one.name for one in declared.objects()] == ["web"]
