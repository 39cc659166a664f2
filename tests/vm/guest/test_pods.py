"""Limits of pods: they hold for all containers of one together."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from harness import wait_until

from pycontain.engine import records
from pycontain.model.container import Limits, RunOptions
from pycontain.model.pod import cgroup_path
from pycontain.pod import manifest
from pycontain.pod.play import Kube
from pycontain.pod.pods import Pods

from .control_files import Group
from .test_engine_limits import group_of, image_cache, store

if TYPE_CHECKING:
    from harness import Store

__all__ = ["image_cache", "store"]
pytestmark = pytest.mark.vm

LIMITED = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  resources: {limits: {cpu: 500m, memory: 128Mi}}
  containers:
  - name: up
    image: busybox
    command: [sleep, "1000"]
    resources: {limits: {cpu: 250m, memory: 64Mi}}
"""


def test_a_pods_memory_is_all_its_containers_together(store: Store) -> None:
    pods = Pods(store.engine)
    pods.create("small", network="none", limits=Limits(memory=64 << 20, memory_swap=64 << 20))
    try:
        # Each could have it alone.
        hog = "head -c 40m /dev/zero >/dev/shm/$1 && sleep 1000"
        first = RunOptions(image="busybox", command=("sh", "-c", hog, "sh", "one"))
        second = RunOptions(image="busybox", command=("sh", "-c", hog, "sh", "two"))
        kept, _ = store.containers.run(pods.member("small", first), attach=False)
        other, _ = store.containers.run(pods.member("small", second), attach=False)
        ended = {store.containers.await_end(one.id, timeout=60) for one in (kept, other)}
        assert any(record is not None and record.code != 0 for record in ended)
        assert pods.get("small").sandbox == "running"
    finally:
        pods.remove("small", force=True)


def test_a_limit_of_tasks_is_the_pods(store: Store) -> None:
    pods = Pods(store.engine)
    pods.create("few", network="none", limits=Limits(pids_limit=6))
    try:
        script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait"
        asked = RunOptions(image="busybox", command=("sh", "-c", script))
        container, _ = store.containers.run(pods.member("few", asked), attach=False)
        record = store.containers.await_end(container.id, timeout=60)
        assert record is not None
        assert record.code == 2
        log = store.log(container.id)
        assert b"can't fork" in log, log
    finally:
        pods.remove("few", force=True)


def test_a_killed_holder_is_replaced(store: Store) -> None:
    pods = Pods(store.engine)
    pod = pods.create("web", network="none")
    try:
        write = ("sh", "-c", "echo kept >/dev/shm/file; exec sleep 1000")
        asked = RunOptions(image="busybox", command=write)
        container, _ = store.containers.run(pods.member("web", asked), attach=False)
        held = records.load_run(store.layout.pod(pod.id))
        assert held is not None
        os.kill(held.monitor, signal.SIGKILL)
        wait_until(lambda: pods.get("web").sandbox == "lost")
        assert pods.start("web") == []
        assert pods.get("web").state == "Running"
        read = RunOptions(image="busybox", command=("cat", "/dev/shm/file"))
        reader, _ = store.containers.run(pods.member("web", read), attach=False)
        store.containers.await_end(reader.id, timeout=60)
        assert store.log(reader.id) == b"kept\n"
        assert store.state_of(container.id) == "running"
    finally:
        pods.remove("web", force=True)


def test_limits_of_a_manifest(store: Store) -> None:
    declared = Kube(store.engine)
    objects = manifest.parse(LIMITED, strict=True).objects
    declared.play(objects)
    try:
        declared.await_ready([("Pod", "web")], timeout=120)
        own = group_of(store, "web-up")
        assert own.text("memory.max") == str(64 << 20)
        assert own.text("cpu.max") == "25000 100000"
        shared = Group(cgroup_path(Pods(store.engine).get("web").pod.id))
        assert shared.text("memory.max") == str(128 << 20)
        assert shared.text("cpu.max") == "50000 100000"
    finally:
        declared.down(objects)
