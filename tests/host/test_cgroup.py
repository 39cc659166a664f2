"""cgroup v2 itself: freezing and killing, as the kernel does them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from harness import wait_until

from pycontain.kernel import cgroup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Store

pytestmark = pytest.mark.host


@pytest.fixture
def counting(store: Store) -> Iterator[tuple[str, int]]:
    """A container that writes lines without end, and its cgroup."""
    script = "while echo line && echo >>/count; do sleep 0.01; done"
    identity = store.detach("sh", "-c", script)
    root = cgroup.open_root()
    folder = os.open(f"pycontain/{identity}/container", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
    os.close(root)
    yield identity, folder
    os.close(folder)


def test_a_frozen_cgroup_stands_still_and_goes_on(store: Store, counting: tuple[str, int]) -> None:
    identity, folder = counting
    # Not by its log: what it had written before may still be in the pipe.
    count = f"/proc/{store.run_record(identity).pid}/root/count"
    wait_until(lambda: os.path.exists(count) and store.log(identity))
    cgroup.freeze(folder)
    before = os.path.getsize(count)
    store.sh("sleep 0.2")
    assert os.path.getsize(count) == before
    cgroup.freeze(folder, frozen=False)
    wait_until(lambda: os.path.getsize(count) > before)


@pytest.mark.in_vm
def test_a_frozen_container_can_be_removed(store: Store, counting: tuple[str, int]) -> None:
    identity, folder = counting
    cgroup.freeze(folder)
    store.containers.remove(identity, force=True)
    assert not store.containers.list(all=True)


@pytest.mark.in_vm
def test_kill_ends_everything_in_it(store: Store, counting: tuple[str, int]) -> None:
    identity, folder = counting
    cgroup.kill(folder)
    assert store.containers.wait(identity) == 137
    assert "populated 0" in (cgroup.read(folder, "cgroup.events") or "")
