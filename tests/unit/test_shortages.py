"""A machine that is short of something, damaged documents, containers that say too much."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pycontain.engine import cancel, disk, events, hooks, probe, records, supervision
from pycontain.engine.cancel import Deadline
from pycontain.errors import KernelError, PycontainError, StoreError, is_shortage, kernel_error
from pycontain.kernel import process
from pycontain.model import kube
from pycontain.model.container import Container, ImageConfig, RestartRecord, RunOptions
from pycontain.model.declared import Failure
from pycontain.model.pod import POD_LABEL
from pycontain.pod import manifest
from pycontain.pod.declared import Declarations
from pycontain.store import files
from pycontain.store.layout import Layout
from pycontain.supervisor import restarts
from pycontain.supervisor.loop import Loop
from pycontain.supervisor.restarts import Restarts

if TYPE_CHECKING:
    from pathlib import Path

    from pycontain.engine.containers import Containers
    from pycontain.store.layout import ContainerPaths

PATIENCE = 60.0
IDENTITY = "a" * 64
FIRST, SECOND = "1" * 16, "2" * 16
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {containers: [{name: one, image: busybox}]}
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    found.prepare()
    return found


# ---- shortages ----


def test_what_a_machine_may_be_short_of() -> None:
    assert is_shortage(MemoryError())
    assert is_shortage(kernel_error("watch", "events", errno.ENOSPC))
    assert not is_shortage(KeyError("no"))
    assert not is_shortage(None)


def test_what_cannot_be_read_for_now_is_not_taken_for_absent(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    declarations = Declarations(layout)
    (pod,) = manifest.parse(POD).objects
    declarations.apply(pod)

    def read(path: str) -> bytes:
        err = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        raise files.store_error("read", path, err) from err

    with monkeypatch.context() as changed, pytest.raises(StoreError) as caught:
        changed.setattr(files, "read", read)
        declarations.list("Pod", problems=[])
    assert is_shortage(caught.value)
    assert [one.name for one in declarations.list("Pod", problems=[])] == ["web"]


def test_a_restart_that_cannot_be_noted_is_not_tried_at_once(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "_AGAIN", 0.02)
    looked: list[str] = []

    def look(identity: str) -> None:
        looked.append(identity)
        loop.stop()

    with contextlib.closing(Loop()) as loop:
        part = Restarts(layout, cast("Containers", None), loop, look)
        part._ended(IDENTITY, StoreError("write: restart: no space left on device"))
        assert looked == []
        loop.run()
    assert looked == [IDENTITY]


def test_a_number_that_is_a_thread_s_by_now_is_no_process() -> None:
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        assert process.start_time(thread.native_id) is not None  # proc(5) has it
        assert process.open_process(thread.native_id, 1) is None
    finally:
        gate.set()
        thread.join()


# ---- starts that were lost ----


def lost(layout: Layout, record: RestartRecord) -> ContainerPaths:
    paths = layout.container(IDENTITY)
    for folder in (paths.folder, paths.state_folder):
        files.make_folders(folder)
    files.write_atomic(paths.document, b"{}", durable=False)
    records.write_marker(paths, SECOND)
    supervision.save(paths, record)
    return paths


def test_a_start_of_the_supervisor_that_was_lost_has_failed(layout: Layout) -> None:
    paths = lost(layout, RestartRecord(count=1, series=1, run=FIRST, due=1))
    assert supervision.is_begun_again(paths)
    supervision.settle_start(paths)
    found = records.status(paths).record
    assert found is not None
    assert (found.run, found.reason, found.code) == (SECOND, records.NOT_STARTED, 128)
    assert supervision.is_undecided(supervision.load(paths), found)


@pytest.mark.parametrize(
    "record",
    [
        RestartRecord(),
        RestartRecord(count=1, run=SECOND),
        RestartRecord(count=1, run=FIRST, stopped=True),
        RestartRecord(count=1, run=FIRST, held=True),
    ],
)
def test_other_starts_are_not_the_supervisor_s(layout: Layout, record: RestartRecord) -> None:
    assert not supervision.is_begun_again(lost(layout, record))


def test_a_hook_that_failed_and_whose_container_was_not_ended_is_nobody_s(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = lost(layout, RestartRecord())

    def end(*_: object) -> None:
        raise kernel_error("signal", "9", errno.ENOMEM)

    monkeypatch.setattr(hooks, "_carried_out", lambda *_: "exit code 1")
    container = SimpleNamespace(
        id=IDENTITY, name="web", options=SimpleNamespace(hooks=SimpleNamespace(post_start=1))
    )
    view = SimpleNamespace(paths=paths, container=container)
    told: Any = SimpleNamespace(tell=lambda *_, **__: None)
    with pytest.raises(KernelError):
        hooks.after_start(
            cast("Any", SimpleNamespace(end=end)), layout, told, cast("Any", view), SECOND
        )
    assert hooks.progress(paths, SECOND) == "failed"
    assert hooks.claimer(paths, SECOND) is None


# ---- probes ----


class Endless:
    """A connection to a probe that writes on and on; each read takes 10 ms of the clock."""

    def __init__(self, deadline: Deadline, clock: list[float]) -> None:
        self._deadline = deadline
        self._clock = clock
        self._read, self._write = os.pipe()
        os.write(self._write, b"y")
        self.late = 0

    def fileno(self) -> int:
        return self._read

    def read(self) -> SimpleNamespace:
        self._clock[0] += 0.01
        self.late += self._deadline.over
        assert self.late < 100, "it is heard after its time"
        return SimpleNamespace(kind="stdout", data=b"y" * 4096)

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


def test_a_probe_that_writes_on_and_on_is_over_in_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of the machine's clock nothing may be left once this process gets a processor to listen.
    clock = [1000.0]
    monkeypatch.setattr(cancel, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    deadline = Deadline(0.05)
    endless = Endless(deadline, clock)
    talk = probe._Talk(cast("Any", endless))
    talk.hear(deadline, None)
    endless.close()
    assert not talk.ended
    assert talk.text.endswith("y...")


# ---- what is declared ----


def damage(layout: Layout, kind: str = "Pod") -> None:
    folder = f"{layout.kube}/{kind.lower()}"
    files.make_folders(folder)
    files.write_atomic(f"{folder}/web", b"{not json", durable=False)


@pytest.mark.parametrize("kind", kube.KINDS)
def test_what_is_damaged_can_be_taken_back(layout: Layout, kind: str) -> None:
    declarations = Declarations(layout)
    damage(layout, kind)
    declarations.delete(kind, "web")
    found = declarations.get(kind, "web")
    assert found.deleted
    assert (found.kind, found.name) == (kind, "web")
    declarations.forget(found)
    assert declarations.list() == []


def test_what_is_damaged_can_be_declared_anew(layout: Layout) -> None:
    declarations = Declarations(layout)
    damage(layout)
    (pod,) = manifest.parse(POD).objects
    assert declarations.apply(pod)[1] == "created"
    assert declarations.get("Pod", "web").object == pod


def test_what_is_taken_back_needs_no_room_on_a_disk(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    declarations = Declarations(layout)
    (pod,) = manifest.parse(POD).objects
    declarations.apply(pod)

    def write(path: str, *_: object, **__: object) -> None:
        err = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise files.store_error("write", path, err) from err

    monkeypatch.setattr(files, "write_atomic", write)
    declarations.delete("Pod", "web")
    found = declarations.get("Pod", "web")
    assert found.deleted
    assert found.object == pod


def test_a_pod_is_evicted_though_the_disk_is_full(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what its folders have in them that fills the disk."""
    declarations = Declarations(layout)
    (pod,) = manifest.parse(POD).objects
    declared, _ = declarations.apply(pod)

    def write(path: str, *_: object, **__: object) -> None:
        err = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise files.store_error("write", path, err) from err

    monkeypatch.setattr(files, "write_atomic", write)
    failure = Failure(reason="Evicted", message="too much")
    assert declarations.fail(declared, failure).failure == failure
    assert declarations.get("Pod", "web").failure == failure


def test_a_copy_under_another_name_is_no_object(layout: Layout) -> None:
    declarations = Declarations(layout)
    (pod,) = manifest.parse(POD).objects
    declarations.apply(pod)
    folder = f"{layout.kube}/pod"
    files.write_atomic(f"{folder}/web.old", files.read(f"{folder}/web"))
    problems: list[PycontainError] = []
    assert [one.name for one in declarations.list(problems=problems)] == ["web"]
    assert "says that it is Pod web" in str(problems)
    assert declarations.is_damaged("Pod", "web.old")


def test_what_cannot_be_read_is_not_damaged(layout: Layout) -> None:
    os.makedirs(f"{layout.kube}/pod/web")
    declarations = Declarations(layout)
    (pod,) = manifest.parse(POD).objects
    for act in (lambda: declarations.apply(pod), lambda: declarations.delete("Pod", "web")):
        with pytest.raises(StoreError, match="is a directory"):
            act()


# ---- what containers and images say ----


def test_labels_of_an_image_crowd_out_none_of_the_container_s() -> None:
    image = ImageConfig(labels={f"l{number}": "x" * 1000 for number in range(64)})
    options = RunOptions(image="busybox", labels={POD_LABEL: "web"})
    container = Container(
        id=IDENTITY, name="web-one", created=0, options=options, image_id="", layers=(),
        config=image, command=(), stop_signal=15, stop_timeout=0,
    )  # fmt: skip
    assert events.attributes(container)[POD_LABEL] == "web"


def test_a_tree_takes_no_more_descriptors_than_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_DEEPEST", 10)
    here = os.open(tmp_path, os.O_RDONLY)
    name = "d" * 250
    for _ in range(120):
        os.mkdir("beside", dir_fd=here)
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    before = len(os.listdir("/proc/self/fd"))
    # Who hides something from being counted has too much.
    assert disk.folder_space(str(tmp_path), 1 << 40) > 1 << 40
    assert disk.folder_size(str(tmp_path)) == 0  # which has no limit to keep
    assert len(os.listdir("/proc/self/fd")) <= before  # one of another test may be closed meanwhile
    files.remove_tree(f"{tmp_path}/{name}")
