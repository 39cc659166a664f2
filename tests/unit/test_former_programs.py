"""A process that lives on seems to be at what it was at, which it may have given up.

The supervisor executes itself anew where the machine is short of something: pid and start time
stay. So do those of a program that uses the library and is interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pycontain.engine import ending, hooks, probes, records
from pycontain.engine.containers import Containers
from pycontain.errors import KernelError, NotFound, kernel_error
from pycontain.model.container import Container, ImageConfig, RunOptions
from pycontain.model.health import Probe
from pycontain.model.probe import Hooks, ProbeCheck, Probes, SleepAction, Streak, TcpAction
from pycontain.store import files
from pycontain.store.layout import Layout
from pycontain.supervisor.hooks import Hooks as Part
from pycontain.supervisor.probes import _Run as Run

if TYPE_CHECKING:
    from pathlib import Path

    from pycontain.store.layout import ContainerPaths

IDENTITY = "a" * 64
RUN = "1" * 16
CONTAINER = Container(
    id=IDENTITY, name="box", created=1, image_id="sha256:" + "0" * 64, layers=(),
    config=ImageConfig(), command=(), stop_signal=15, stop_timeout=10,
    options=RunOptions(
        image="busybox",
        hooks=Hooks(post_start=SleepAction(seconds=1)),
        probes=Probes(liveness=ProbeCheck(action=TcpAction(port=80))),
    ),
)  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path) -> ContainerPaths:
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    layout.prepare()
    found = layout.container(IDENTITY)
    files.make_folder(found.folder)
    files.make_folder(found.state_folder)
    files.write_atomic(found.document, files.dump(CONTAINER))
    records.write_marker(found, RUN)
    return found


def test_a_hook_that_the_program_before_was_at_is_nobody_s(
    paths: ContainerPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks.begin(paths, RUN, claim=True)
    assert hooks.progress(paths, RUN) == "under way"
    monkeypatch.setattr(records, "_PROGRAM", "another")
    assert hooks.progress(paths, RUN) == "none"
    assert hooks.claimer(paths, RUN) is None


def test_the_next_program_takes_it_over(
    paths: ContainerPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    loop = SimpleNamespace(submit=lambda job, done: begun.append(job))
    part = Part(*cast("Any", (loop, None, None, None, None)))
    view: Any = SimpleNamespace(
        container=CONTAINER, paths=paths, status=SimpleNamespace(state="running")
    )
    hooks.begin(paths, RUN, claim=True)
    assert part.consider(view)
    assert not begun, "this program is at it"
    monkeypatch.setattr(records, "_PROGRAM", "another")
    assert part.consider(view)
    assert len(begun) == 1


def test_who_stopped_a_container_as_another_program_stops_it_no_more(
    paths: ContainerPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes.note_ending(CONTAINER, paths, RUN)
    assert probes.is_ending(paths, RUN)
    monkeypatch.setattr(records, "_PROGRAM", "another")
    assert not probes.is_ending(paths, RUN)


def test_who_gives_a_hook_up_needs_no_word_for_it(
    paths: ContainerPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks.begin(paths, RUN, claim=True)
    assert hooks.claimer(paths, RUN) is not None

    def short(*_: object) -> None:
        raise kernel_error("open", "lock", errno.EMFILE)

    monkeypatch.setattr(hooks, "_carried_out", short)
    monkeypatch.setattr(records, "of_run", short)
    view: Any = SimpleNamespace(container=CONTAINER, paths=paths)
    with pytest.raises(KernelError):
        hooks.after_start(*cast("Any", (None, None, None, view, RUN)))
    assert hooks.claimer(paths, RUN) is None
    assert hooks.progress(paths, RUN) == "none"


@pytest.mark.parametrize("err", [NotFound("gone"), kernel_error("open", "", errno.EMFILE)])
def test_a_start_that_cannot_look_at_its_container_gives_the_hook_up(
    paths: ContainerPaths, err: Exception
) -> None:
    hooks.begin(paths, RUN, claim=True)
    containers: Any = SimpleNamespace(get=lambda _: throw(err))
    with contextlib.suppress(KernelError):
        Containers._after_start(containers, IDENTITY, RUN)
    assert hooks.claimer(paths, RUN) is None


def test_who_is_interrupted_while_it_stops_a_container_stops_it_no_more(
    paths: ContainerPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a liveness probe finds would be no reason to end it for as long as that program runs."""
    view: Any = SimpleNamespace(
        container=CONTAINER, paths=paths, status=SimpleNamespace(state="running")
    )
    noted: list[bool] = []

    def before_stop(*_: object) -> float:
        noted.append(probes.is_ending(paths, RUN))
        raise KeyboardInterrupt

    monkeypatch.setattr(ending, "open_init", lambda *_: os.open("/dev/null", os.O_RDONLY))
    nobody: Any = None
    with pytest.raises(KeyboardInterrupt):
        ending.gracefully(view, nobody, before_stop, rootless=False)
    assert noted == [True]
    assert not probes.is_ending(paths, RUN)


def test_while_one_stops_a_container_its_probes_are_made_in_their_time(
    paths: ContainerPaths,
) -> None:
    """What they find is noted, but for what would end it: else the next was due at once."""
    view: Any = SimpleNamespace(
        container=CONTAINER, paths=paths, status=SimpleNamespace(state="running", started=1)
    )
    run = Run(*cast("Any", (None, None, None, view, RUN)))
    failed = [Probe(start=number * 10, end=number * 10 + 5, code=1) for number in range(1, 6)]
    probes.note_ending(CONTAINER, paths, RUN)
    for probe in failed[:4]:
        assert run.take("liveness", probe)
    assert (run.record.failed, run.record.ready) == ("", True)
    assert run.record.liveness == Streak(count=-4, last=40)
    assert probes.load(paths, RUN) == run.record
    probes.note_not_ending(paths)
    assert run.take("liveness", failed[4])
    assert (run.record.failed, run.record.ready) == ("liveness", False)


def throw(err: Exception) -> Any:
    raise err


def test_words_of_other_processes_have_no_program() -> None:
    pid, start, _ = records.own_word().split()
    assert records.living(f"{pid} {start}") == (int(pid), int(start))
    assert records.living(f"{pid} 1 {records._PROGRAM}") is None
    assert records.living("") is None
