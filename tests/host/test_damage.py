"""A store that is damaged, full or read-only, and a process that may open few files.

Each time: a clear error that names what is wrong, and nobody else's container is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from conftest import fill
from harness import CommandLine, Store, collect, wait_until

from pycontain import Engine
from pycontain.engine import records
from pycontain.errors import NotFound, PycontainError, StoreError
from pycontain.image import documents
from pycontain.image.blobs import Blobs
from pycontain.image.index import REF_NAME
from pycontain.image.reach import MAX_DEPTH
from pycontain.model.container import HealthCheck
from pycontain.store.files import write_atomic
from tests.unit import imagefiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.host

DAMAGES: dict[str, bytes | None] = {
    "empty": b"",
    "cut off": b'{"version":1,"id":"00',
    "no document": b"\x00\xff garbage \n",
    "another type": b'["a"]',
    "wrong fields": b'{"id":5,"run":{},"version":"x"}',
    "a folder": None,
}


def damage(path: str, how: str) -> None:
    data = DAMAGES[how]
    if os.path.lexists(path):
        os.unlink(path)
    if data is None:
        os.mkdir(path)
    else:
        with open(path, "wb") as file:
            file.write(data)


@pytest.fixture
def other(store: Store) -> Iterator[str]:
    """A container that runs all the while and must not be touched."""
    identity = store.detach(name="other")
    pid = store.view(identity).status.pid
    yield identity
    status = store.view(identity).status
    assert (status.state, status.pid) == ("running", pid)
    assert store.exec(identity, "echo", "ok").stdout == b"ok\n"
    store.containers.remove(identity, force=True)


def test_a_damaged_health_hides_no_other(store: Store, pycontain: CommandLine, other: str) -> None:
    check = HealthCheck(test=("CMD", "true"), interval=3600 * 1_000_000_000)
    identity = store.detach(name="broken", health=check)
    path = store.view(identity).paths.health
    damage(path, "cut off")
    words = [word for name in ("starting", "none") for word in ("-f", f"health={name}")]
    listed = pycontain("ps", *words, "--format", "{{.Names}}")
    assert (listed.returncode, listed.stdout) == (1, b"other\n")
    assert path in listed.stderr.decode()


def test_what_stops_the_freeing_of_blobs_is_named(store: Store, pycontain: CommandLine) -> None:
    blobs = Blobs(store.layout)
    listed = imagefiles.index([])
    for _ in range(MAX_DEPTH):
        blobs.add(listed)
        listed = imagefiles.index([imagefiles.descriptor(documents.INDEX, listed)])
    blobs.add(listed)
    blobs.add(b"nobody's")
    entry = imagefiles.descriptor(documents.INDEX, listed, annotations={REF_NAME: "deep:1"})
    path = f"{store.layout.images}/index.json"
    with open(path) as file:
        known = json.load(file)
    document = json.dumps({**known, "manifests": [*known["manifests"], entry]})
    write_atomic(path, document.encode(), 0o644)  # not in its place: it is a link to the cache's
    for verb in (("image", "prune", "-f"), ("system", "prune", "-f")):
        done = pycontain(*verb)
        assert (done.returncode, b"image deep:1: more than 16" in done.stderr) == (1, True)
    assert (
        b"while it is there no blob is removed; remove it: pycontain rmi deep:1"
        in pycontain("system", "check").stdout
    )
    assert pycontain("rmi", "deep:1").returncode == 0
    assert imagefiles.digest(b"nobody's") not in blobs.digests()
    assert pycontain("image", "prune", "-f").returncode == 0


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("file", ["document", "exit_record", "run_record", "marker"])
def test_a_damaged_document(store: Store, other: str, file: str, how: str) -> None:
    identity = store.detach(*("true",) if file == "exit_record" else (), name="broken")
    if file == "exit_record":
        store.containers.wait(identity)
    view = store.view(identity)
    path = records.marker_path(view.paths) if file == "marker" else getattr(view.paths, file)
    monitor = None if file == "exit_record" else store.run_record(identity).monitor
    damage(path, how)
    with pytest.raises(StoreError) as caught:
        store.view("broken")
    assert path in str(caught.value)
    problems: list[PycontainError] = []
    listed = store.containers.list(all=True, problems=problems)
    assert [view.container.id for view in listed] == [other]
    assert len(problems) == 1
    assert path in str(problems[0])
    with pytest.raises(StoreError):
        store.containers.list(all=True)
    for verb in (store.containers.start, store.containers.stop, store.containers.remove):
        with pytest.raises(StoreError):
            verb("broken")
    store.containers.remove("broken", force=True)
    with pytest.raises(NotFound):
        store.view("broken")
    if monitor is not None:
        wait_until(lambda: not os.path.exists(f"/proc/{monitor}"))
    assert store.create("true", name="broken").name == "broken"


@pytest.mark.parametrize("how", ["empty", "cut off", "no document"])
def test_a_damaged_claim_of_a_name(store: Store, other: str, how: str) -> None:
    identity = store.create("true", name="claimed").id
    damage(store.layout.name("claimed"), how)
    assert store.containers.find(identity[:12]) == identity
    with pytest.raises(PycontainError, match="claimed"):
        store.containers.find("claimed")
    store.containers.remove(identity, force=True)
    assert store.containers.find("other") == other


@pytest.mark.parametrize("how", ["empty", "cut off", "no document", "a folder"])
def test_a_damaged_configuration_stops_exec_with_its_name(store: Store, how: str) -> None:
    identity = store.detach()
    damage(store.view(identity).paths.spec, how)
    with pytest.raises(StoreError, match=r"config\.json"):
        store.exec(identity, "true")
    assert store.state_of(identity) == "running"


def test_a_damaged_log_line_is_told(store: Store) -> None:
    identity = store.detach("echo", "x")
    store.containers.wait(identity)
    with open(store.view(identity).paths.log, "ab") as file:
        file.write(b"nonsense\n")
    with pytest.raises(StoreError, match="damaged line"):
        store.log(identity)


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
@pytest.mark.parametrize("tail", [b"2025-01-01T00:", b'{"log":"torn', bytes(5000)])
def test_a_log_that_a_power_cut_ended(store: Store, driver: str, tail: bytes) -> None:
    """What the next run writes is not taken for the rest of what was lost."""
    identity = store.detach("echo", "x", log_driver=driver)
    store.containers.wait(identity)
    path = store.view(identity).paths.log
    with open(path, "ab") as file:
        file.write(tail)
    assert store.log(identity) == b"x\n"
    store.containers.start(identity)
    store.containers.wait(identity)
    assert store.log(identity) == b"x\nx\n"
    with open(path, "rb") as file:
        assert tail not in file.read()


def test_a_log_with_a_hole(store: Store) -> None:
    """Written out of order: what came later was on the disk, what came before was not."""
    identity = store.detach("seq", "3")
    store.containers.wait(identity)
    path = store.view(identity).paths.log
    with open(path, "r+b") as file:
        first = len(file.readline())
        file.seek(first - 4)
        file.write(bytes(8))
    assert store.log(identity).splitlines()[-1] == b"3"


def test_unfinished_files_go_with_the_next_start(store: Store) -> None:
    identity = store.detach("true")
    store.containers.wait(identity)
    folder = store.view(identity).paths.folder
    for name in (".exit.json.next", ".tmp-1-ab", ".exit.json.17"):
        with open(f"{folder}/{name}", "wb") as file:
            file.write(bytes(1024))
    store.containers.start(identity)
    store.containers.wait(identity)
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_files_of_etc_are_made_for_each_start(store: Store) -> None:
    """They are not synced: after a power cut they may be empty."""
    identity = store.detach("cat", "/etc/hosts")
    store.containers.wait(identity)
    once = store.log(identity)
    with open(store.view(identity).paths.hosts, "w"):
        pass
    store.containers.start(identity)
    store.containers.wait(identity)
    assert b"localhost" in once
    assert store.log(identity) == once * 2


def test_foreign_files_among_the_containers(store: Store, other: str) -> None:
    for name in ("notes.txt", "x" * 64, "a" * 63):
        with open(f"{store.layout.containers}/{name}", "w") as file:
            file.write("not ours")
    try:
        assert [view.container.id for view in store.containers.list(all=True)] == [other]
        assert store.run("true").exit_code == 0
    finally:
        for name in ("notes.txt", "x" * 64, "a" * 63):
            os.unlink(f"{store.layout.containers}/{name}")


def test_a_layer_that_is_gone(store: Store) -> None:
    identity = store.create("true").id
    layers = os.listdir(store.layout.layers)
    for layer in layers:
        os.rename(f"{store.layout.layers}/{layer}", f"{store.root}/kept-{layer}")
    try:
        with pytest.raises(PycontainError) as caught:
            store.containers.start(identity)
        assert layers[0] in str(caught.value)
        assert store.state_of(identity) == "created"
    finally:
        for layer in layers:
            os.rename(f"{store.root}/kept-{layer}", f"{store.layout.layers}/{layer}")
    store.containers.start(identity)
    assert store.containers.wait(identity) == 0


def test_a_damaged_image_index(store: Store) -> None:
    identity = store.create("true").id
    path = f"{store.layout.images}/index.json"
    os.rename(path, f"{path}.kept")
    damage(path, "cut off")
    try:
        with pytest.raises(PycontainError, match=r"index\.json"):
            store.run("true")
        store.containers.start(identity)  # it needs no image
        assert store.containers.wait(identity) == 0
    finally:
        os.rename(f"{path}.kept", path)


# ------------------------------------------------------------------------------------ a small store


@pytest.fixture
def small(
    image_cache: str, tmp_path: Path, nothing_left_behind: None, request: pytest.FixtureRequest
) -> Iterator[Store]:
    """A store on a file system of its own."""
    options = getattr(request, "param", "size=16m")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        fill(image_cache, f"{folder}/root", link=False)
        made = Store(str(folder))
        yield made
        made.clear()
        assert made.leftovers() == []
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    """Unmount a store. The monitor of what has ended may be at its last, with a file of the store
    open: so long it is busy (umount(2), EBUSY).
    """
    wait_until(lambda: subprocess.run(["umount", folder], check=False).returncode == 0)


def eat(folder: str) -> str:
    """Take all the room there is."""
    path = f"{folder}/eaten"
    try:
        with open(path, "wb", buffering=0) as file:
            while file.write(bytes(1 << 16)):
                pass
    except OSError:
        with open(path, "ab", buffering=0) as file:
            try:
                while file.write(b"x"):
                    pass
            except OSError:
                return path
    return path


def test_a_full_disk(small: Store) -> None:
    running = small.detach("sh", "-c", "while :; do sleep 0.1; done", name="running")
    stopped = small.create("true", name="stopped").id
    eaten = eat(small.root)
    for verb in (lambda: small.create("true"), lambda: small.run("true")):
        with pytest.raises(PycontainError, match="no space left"):
            verb()
    assert len(small.containers.list(all=True)) == 2
    assert small.exec(running, "echo", "ok").stdout == b"ok\n"
    small.containers.remove(stopped)
    small.containers.remove("running", force=True)
    assert small.leftovers() == []
    os.unlink(eaten)
    assert small.run("true").exit_code == 0


def test_a_log_on_a_full_disk_does_not_stop_the_container(small: Store) -> None:
    identity = small.detach("sh", "-c", "read x; seq 1 20000; echo end; exit 3", interactive=True)
    eaten = eat(small.root)
    client = small.containers.attach(identity)
    client.wait_ready()
    client.write_stdin(b"\n")
    found = collect(client)
    client.close()
    assert found.code == 3
    status = small.view(identity).status
    os.unlink(eaten)
    assert status.state == "exited"
    assert status.record is not None
    assert status.record.code == 3
    assert status.record.reason is None
    assert status.record.log_lost > 0
    for entry in small.containers.logs(identity):
        assert entry.data.strip().isdigit() or entry.data == b"end\n"


@pytest.mark.parametrize("small", ["size=64m,nr_inodes=1200"], indirect=True)
def test_no_inodes(small: Store) -> None:
    running = small.detach(name="running")
    names = []
    try:
        for number in range(2000):
            names.append(f"{small.root}/{number}")
            os.mkdir(names[-1])
    except OSError:
        names.pop()
    with pytest.raises(PycontainError, match="no space left"):
        small.run("true")
    assert small.exec(running, "echo", "ok").stdout == b"ok\n"
    assert len(small.containers.list(all=True)) == 1
    small.containers.remove("running", force=True)
    for name in names:
        os.rmdir(name)
    assert small.run("true").exit_code == 0


@pytest.fixture
def read_only(small: Store, tmp_path: Path) -> Iterator[Store]:
    """The same store through a mount that nobody can write through."""
    view = tmp_path / "view"
    view.mkdir()
    subprocess.run(["mount", "--bind", os.path.dirname(small.root), view], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", view], check=True)
        yield Store(str(view))
    finally:
        unmount(view)


def test_a_read_only_store(small: Store, read_only: Store) -> None:
    running = small.detach(name="running")
    ended = small.detach("true", name="ended")
    small.containers.wait(ended)
    verbs: list[Callable[[], Any]] = [
        lambda: read_only.run("true"),
        lambda: read_only.containers.start("ended"),
        lambda: read_only.containers.remove("ended"),
    ]
    for verb in verbs:
        with pytest.raises(PycontainError, match="read-only file system"):
            verb()
    listed = read_only.containers.list(all=True)
    states = {view.container.name: view.status.state for view in listed}
    assert states == {"running": "running", "ended": "exited"}
    assert read_only.exec(running, "echo", "ok").stdout == b"ok\n"


def test_a_lost_container_in_a_read_only_store_is_told(small: Store, read_only: Store) -> None:
    identity = small.detach(name="lost")
    record = small.run_record(identity)
    os.kill(record.monitor, 9)
    wait_until(lambda: not os.path.exists(f"/proc/{record.pid}"))
    # As after a full disk or a remount: /var cannot be written, /run can.
    status = Engine(read_only.root, small.state).containers.get("lost").status
    assert status.state == "exited"
    assert status.record is not None
    assert status.record.reason == "monitor lost"


# ---------------------------------------------------------------------------------- few descriptors


@pytest.mark.slow
def test_few_descriptors(store: Store, pycontain: CommandLine) -> None:
    other = store.detach(name="other")
    told = 0
    for limit in (*range(5, 40), 50, 60):
        words = ["sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", *pycontain.argv]
        done = subprocess.run(
            [*words, "run", "--rm", "busybox", "echo", "hi"], capture_output=True, check=False
        )
        if done.returncode == 0:
            assert done.stdout == b"hi\n"
            continue
        shown = done.stderr.decode()
        if "pycontain: " not in shown:
            continue  # not even the interpreter could start
        told += 1
        assert done.returncode == 125, shown
        assert "too many open files" in shown.lower(), shown
        assert "internal error" not in shown
    assert told > 10
    for view in store.containers.list(all=True):
        if view.container.id != other:
            assert view.status.state == "created"
            store.containers.remove(view.container.id, force=True)
    assert store.state_of(other) == "running"


def test_a_child_limit_is_not_the_containers(store: Store) -> None:
    """The caller's soft limit may be low; the hard one is handed on."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        assert int(store.sh("ulimit -Hn")) == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_store_that_was_deleted_under_a_container(store: Store) -> None:
    identity = store.detach()
    record = store.run_record(identity)
    shutil.rmtree(store.view(identity).paths.folder)
    with pytest.raises((NotFound, StoreError)):
        store.view(identity)
    os.kill(record.pid, 9)
    wait_until(lambda: not os.path.exists(f"/proc/{record.monitor}"))
    time.sleep(0.05)
    store.containers.list(all=True)
    with pytest.raises(NotFound):
        store.containers.remove(identity, force=True)
