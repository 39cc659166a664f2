"""Containers of declared pods that their restart policies start again: whose turn it is when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pycontain.engine import records, sandbox, supervision
from pycontain.engine.containers import View
from pycontain.model.container import (
    Container,
    ExitRecord,
    ImageConfig,
    RestartPolicy,
    RestartRecord,
    RunOptions,
)
from pycontain.model.status import Status
from pycontain.pod import controllers, observed, status
from pycontain.store import files
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from pycontain.pod.observed import ContainerSeen

IDENTITY, POD = "a" * 64, "b" * 64
FIRST, SECOND = "1" * 16, "2" * 16
OF_POD = "3" * 16
DUE = 99
CONTAINER = Container(
    id=IDENTITY, name="web-one", created=1, image_id="sha256:" + "0" * 64, layers=(),
    config=ImageConfig(), command=(), stop_signal=15, stop_timeout=10,
    options=RunOptions(
        image="busybox", pod=POD, restart=RestartPolicy(name="always", crash_loop=True)
    ),
)  # fmt: skip


class Place:
    """A container whose last run is `run`, and what is known of that."""

    def __init__(self, folder: Path, run: str, record: RestartRecord) -> None:
        layout = Layout(f"{folder}/root", f"{folder}/state")
        layout.prepare()
        self.paths = layout.container(IDENTITY)
        files.make_folder(self.paths.folder)
        files.make_folder(self.paths.state_folder)
        files.write_atomic(self.paths.document, files.dump(CONTAINER))
        files.make_folders(layout.pod(POD).folder)
        records.write_marker(layout.pod(POD), OF_POD)
        records.write_marker(self.paths, run)
        sandbox.note_member(layout, CONTAINER, self.paths, run)
        supervision.save(self.paths, record)

    def seen(self, state: Status) -> ContainerSeen:
        view = View(CONTAINER, state, self.paths)
        return observed._seen(view, "one", observed._Since(5, OF_POD))


def test_what_its_policy_is_starting_is_not_the_pods_to_start(tmp_path: Path) -> None:
    """A start of the pod's would wait for that one, and begin the count of restarts anew."""
    place = Place(tmp_path, SECOND, RestartRecord(count=2, series=2, run=FIRST, due=DUE))
    seen = place.seen(records.status(place.paths))
    assert (seen.state, seen.due) == ("restarting", DUE)
    assert not controllers._is_to_begin(seen)
    assert status._restarts(seen) == 1


def test_nor_what_it_has_started_and_ended_since_somebody_looked(tmp_path: Path) -> None:
    place = Place(tmp_path, SECOND, RestartRecord(count=3, series=3, run=SECOND, due=DUE))
    before = records.status(place.paths)
    records.write_exit(place.paths, ExitRecord(run=SECOND, code=3, started=6, finished=7))
    seen = place.seen(before)
    assert (seen.state, seen.due) == ("restarting", DUE)
    assert not controllers._is_to_begin(seen)


@pytest.mark.parametrize(
    "record",
    [
        RestartRecord(),
        RestartRecord(count=3, run=SECOND, due=DUE),
        RestartRecord(count=1, run=FIRST, due=DUE, held=True),
    ],
)
def test_a_start_of_the_pods_own_that_was_lost_is_made_again(
    tmp_path: Path, record: RestartRecord
) -> None:
    place = Place(tmp_path, SECOND, record)
    seen = place.seen(records.status(place.paths))
    assert (seen.state, seen.due) == ("created", 0)
    assert controllers._is_to_begin(seen)


@pytest.mark.parametrize(("run", "due", "restarts"), [(FIRST, 0, 2), (SECOND, DUE, 1)])
def test_a_restart_is_counted_once(tmp_path: Path, run: str, due: int, restarts: int) -> None:
    """Nothing has been decided yet of a run that has just ended; what is due was the one before."""
    place = Place(tmp_path, SECOND, RestartRecord(count=2, series=2, run=run, due=DUE))
    ended = ExitRecord(run=SECOND, code=3, started=6, finished=7)
    seen = place.seen(Status(state="restarting", record=ended))
    assert (seen.due, status._restarts(seen)) == (due, restarts)
    assert not controllers._is_to_begin(seen)
