"""The fixture that looks for leaks sees them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import leaks
import pytest
from harness import wait_until

from pycontain.kernel import mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness import Store

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes what it looks for"),
]


@pytest.fixture
def left(session: leaks.Session) -> Iterator[Callable[[], list[str]]]:
    before = leaks.before_test(session)
    yield lambda: leaks.settled(before, lambda: leaks.before_test(session), 0.1)
    assert leaks.settled(before, lambda: leaks.before_test(session)) == []


def test_a_cgroup(
    left: Callable[[], list[str]], session: leaks.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaks, "SHARED", False)
    folder = f"{session.cgroups}/{'f' * 64}"
    os.makedirs(folder)
    try:
        assert f"cgroup left behind: {'f' * 64}" in left()
    finally:
        os.rmdir(folder)


def test_a_descriptor(left: Callable[[], list[str]]) -> None:
    fds = os.pipe()
    try:
        assert left() == ["descriptor left behind: pipe (2 times)"]
    finally:
        for fd in fds:
            os.close(fd)


def test_a_mount(left: Callable[[], list[str]], tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        assert left() == [f"mount left behind: tmpfs on {tmp_path}"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def _add_link(kind: str) -> bool:
    if not shutil.which("ip"):
        return False
    argv = ["ip", "link", "add", "leaklink0", "type", kind]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def test_a_link(left: Callable[[], list[str]]) -> None:
    if not any(_add_link(kind) for kind in ("dummy", "bridge")):
        pytest.skip("links of no kind can be added here (or there is no ip(8))")
    try:
        assert left() == ["link left behind: leaklink0"]
    finally:
        subprocess.run(["ip", "link", "del", "leaklink0"], check=True)


def test_a_process_and_its_namespace(left: Callable[[], list[str]]) -> None:
    child = subprocess.Popen(["unshare", "--uts", "--", "sleep", "100"])
    try:
        own = leaks.target("/proc/self/ns/uts")
        wait_until(lambda: leaks.target(f"/proc/{child.pid}/ns/uts") not in ("", own))
        found = left()
        assert any(word.startswith("process left behind") for word in found), found
        assert any("uts:[" in word for word in found), found
    finally:
        child.kill()
        child.wait()


def test_a_container_that_runs(left: Callable[[], list[str]], store: Store) -> None:
    identity = store.detach()
    found = left()
    store.containers.remove(identity, force=True)
    assert f"cgroup left behind: {identity}/container" in found
    assert {word.split()[0] for word in found} >= {"cgroup", "namespace", "process"}
    names = [word.split()[-1] for word in found if word.startswith("process")]
    assert "sleep" in names, found
    assert len(names) == 2, found


def test_a_container_whose_monitor_was_killed(
    left: Callable[[], list[str]], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaks, "SHARED", False)
    identity = store.detach()
    os.kill(store.run_record(identity).monitor, 9)
    assert f"cgroup left behind: {identity}/container" in left()
    store.containers.remove(identity, force=True)


def test_a_folder_of_the_store(store: Store) -> None:
    folder = f"{store.layout.containers}/{'e' * 64}"
    os.mkdir(folder)
    assert store.leftovers() == [folder]
    os.rmdir(folder)


def test_a_detached_mount(left: Callable[[], list[str]], tmp_path: Path) -> None:
    fd = mount.new_mount("tmpfs", ())
    try:
        assert left() == ["descriptor left behind: /"]
    finally:
        os.close(fd)


def test_somebody_elses_process_is_not_ours(left: Callable[[], list[str]]) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={})
    try:
        assert not [word for word in left() if word.startswith("process")]
    finally:
        child.communicate()
