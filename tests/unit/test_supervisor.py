"""What the supervisor makes of containers that it cannot look at."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pycontain.errors import NotFound, PycontainError, StoreError, is_shortage, kernel_error
from pycontain.pod import manifest
from pycontain.pod.declared import Declarations
from pycontain.store import files
from pycontain.store.layout import Layout
from pycontain.supervisor import main
from pycontain.supervisor.main import Supervisor

if TYPE_CHECKING:
    from pathlib import Path

    from pycontain.engine import Engine

IDENTITY = "a" * 64


class Containers:
    """Raises what it was given, one after the other; then there is no such container."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.looks = 0
        self.lists = 0
        self.problems: list[PycontainError] = []

    def get(self, ref: str) -> Any:
        self.looks += 1
        raise self.failures.pop(0) if self.failures else NotFound(f"no such container: {ref}")

    def list(self, *, all: bool, problems: list[PycontainError]) -> list[Any]:
        assert all
        self.lists += 1
        problems += self.problems
        self.problems = []
        return []


def damaged(number: int) -> StoreError:
    try:
        raise OSError(number, os.strerror(number))
    except OSError as err:
        found = files.store_error("read", "container.json", err)
        found.__cause__ = err
        return found


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setattr(main, "_LATER", 0.01)
    found = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    found.prepare()
    return found


def supervisor(layout: Layout, containers: Containers) -> Supervisor:
    engine = SimpleNamespace(
        layout=layout, containers=containers, events=None, images=None, elsewhere=lambda kind: None
    )
    return Supervisor(cast("Engine", engine))


def test_what_there_was_not_enough_for_is_tried_again(layout: Layout) -> None:
    containers = Containers(OSError(errno.EMFILE, "too many"), damaged(errno.ENFILE))
    made = supervisor(layout, containers)
    made._look(IDENTITY)
    made.run()
    assert containers.looks == 3


def test_what_is_damaged_is_let_be(layout: Layout) -> None:
    containers = Containers(damaged(errno.EIO), NotFound("not to be seen"))
    made = supervisor(layout, containers)
    made._look(IDENTITY)
    made.run()
    assert containers.looks == 1


def test_a_listing_is_made_again_too(layout: Layout) -> None:
    containers = Containers()
    containers.problems = [damaged(errno.EMFILE)]
    supervisor(layout, containers).run()
    # The one that failed, the one after it, and the one at the gate.
    assert containers.lists == 3


def test_what_is_a_shortage() -> None:
    assert is_shortage(OSError(errno.ENOMEM, ""))
    assert is_shortage(kernel_error("open process", "1", errno.EMFILE))
    assert not is_shortage(NotFound("gone"))
    assert not is_shortage(damaged(errno.EACCES))


def test_a_fault_that_one_job_meets_is_told_and_ends_nothing(layout: Layout) -> None:
    containers = Containers(KeyError("a fault"), NotFound("not to be seen"))
    made = supervisor(layout, containers)
    made._look(IDENTITY)
    made.run()
    assert containers.looks == 1
    with open(f"{layout.state}/supervisor.failure", encoding="utf-8") as file:
        assert "KeyError: 'a fault'" in file.read()


def test_what_was_declared_before_is_kept_too_once_anything_is(layout: Layout) -> None:
    """A supervisor may be there before: of a container that was started after the reboot."""
    text = "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {}}}}}"
    old, new = (manifest.parse(text.format(name)).objects[0] for name in ("old", "new"))
    declarations = Declarations(layout)
    declarations.apply(old)
    declarations.rest()
    made = supervisor(layout, Containers())
    declarations.apply(new)
    made._hear()
    assert made._kube is not None
    assert set(made._kube._objects) == {("ConfigMap", "old"), ("ConfigMap", "new")}
    made.run()
