"""Limits of what is declared, as they are shown and generated: they need their controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from harness import CommandLine, wait_until
from pace import seconds

from pycontain.model.kube_status import PodStatus
from pycontain.pod import manifest
from pycontain.pod.play import Kube

from .test_engine_limits import image_cache, store

if TYPE_CHECKING:
    from harness import Store

    from pycontain.model.kube_status import Terminated

__all__ = ["image_cache", "store"]
pytestmark = pytest.mark.vm

HUNGRY = """
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  restartPolicy: Never
  containers:
  - name: up
    image: busybox
    command: [sh, -c, "exec tail -c 64m /dev/zero"]
    resources: {limits: {memory: 16Mi}}
"""


def status(kube: Kube) -> PodStatus:
    found = kube.status("Pod", "hungry")
    assert isinstance(found, PodStatus)
    return found


def end(kube: Kube) -> Terminated | None:
    return status(kube).container_statuses[0].state.terminated


def test_who_was_killed_for_memory_is_shown_so(store: Store) -> None:
    kube = Kube(store.engine)
    objects = manifest.parse(HUNGRY).objects
    kube.play(objects)
    try:
        wait_until(lambda: end(kube), seconds(120))
        found = end(kube)
        assert found is not None
        assert (found.reason, found.exit_code) == ("OOMKilled", 137)
        assert status(kube).phase == "Failed"
        shown = CommandLine(store)("kube", "get", "pods").stdout.decode()
        assert "OOMKilled" in shown
    finally:
        kube.down(objects)


def test_limits_come_back_from_their_manifest(store: Store) -> None:
    pycontain = CommandLine(store)
    made = pycontain(
        "create", "--name", "solo", "-m", "64m", "--cpus", "0.5", "--stop-timeout", "0",
        "busybox", "sleep", "1000",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    text = pycontain("kube", "generate", "solo").stdout.decode()
    objects = manifest.parse(text).objects
    kube = Kube(store.engine)
    kube.play(objects)
    try:
        options = store.view("solo-pod-solo").container.options
        assert (options.memory, options.cpus) == (64 << 20, 0.5)
        assert store.view("solo-pod-solo").status.state == "running"
    finally:
        kube.down(objects)
