"""Processes that the kernel kills for want of memory are told of, when that happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from harness import wait_until

from .control_files import MIB
from .test_engine_limits import eat, image_cache, store

if TYPE_CHECKING:
    from harness import Store

__all__ = ["image_cache", "store"]
pytestmark = pytest.mark.vm


def told(store: Store, identity: str) -> list[str]:
    filters = {"container": [identity]}
    with store.engine.events.read(follow=False, filters=filters) as stream:
        return [event.verb for event in stream]


def test_a_container_that_is_killed_for_memory(store: Store) -> None:
    identity = store.detach("sh", "-c", f"exec {eat(100)}", memory=16 * MIB, memory_swap=16 * MIB)
    assert store.containers.wait(identity) == 137
    assert told(store, identity) == ["create", "start", "oom", "die"]


def test_a_kill_that_the_container_survives_is_told_at_once(store: Store) -> None:
    script = f"while read line; do {eat(100)}; echo survived; done"
    identity = store.detach(
        "sh", "-c", script, interactive=True, memory=16 * MIB, memory_swap=16 * MIB
    )
    attachment = store.containers.attach(identity)
    for count in (1, 2):
        attachment.write_stdin(b"\n")
        wait_until(lambda count=count: told(store, identity).count("oom") == count)  # type: ignore[misc]
    attachment.close()
    assert store.state_of(identity) == "running"
    store.containers.stop(identity, timeout=0)
    assert told(store, identity)[-1:] == ["stop"]
    assert told(store, identity).count("oom") == 2
