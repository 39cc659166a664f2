"""The machine is what the other tests take it for."""

from __future__ import annotations

import os

import pytest

from pycontain.kernel import cgroup

pytestmark = pytest.mark.vm

CONTROLLERS = {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}


def test_every_controller_is_offered() -> None:
    root = cgroup.open_root()
    offered = cgroup.read(root, "cgroup.controllers") or ""
    os.close(root)
    assert not CONTROLLERS - set(offered.split())
