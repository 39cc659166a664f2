"""Many at once, and many one after the other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import leaks
import pytest
from harness import python_env

from pycontain.engine import records

if TYPE_CHECKING:
    from harness import Store

pytestmark = pytest.mark.host

WORKER = """
import os, sys
from pycontain import Engine
from pycontain.errors import Conflict
from pycontain.model.container import RunOptions
containers = Engine(sys.argv[1], sys.argv[2]).containers
print("up", flush=True)
sys.stdin.readline()
made, lost = [], []
for number in range(int(sys.argv[3])):
    options = RunOptions(image="busybox", command=("sleep", "1000"))
    container, _ = containers.run(options, attach=False)
    made.append(f"{container.id} {container.name}")
    try:
        named = RunOptions(image="busybox", command=("true",), name=f"contested-{number}")
        lost.append(containers.create(named).id)
    except Conflict:
        pass
print("\\n".join(made + [f"won {id}" for id in lost]))
"""


def start_all(store: Store, processes: int, each: int) -> list[str]:
    """Start containers from many processes at the same moment; return what they say."""
    argv = [sys.executable, "-c", WORKER, store.root, store.state, str(each)]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=python_env())
        for _ in range(processes)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"up\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
    lines: list[str] = []
    for worker in workers:
        out, err = worker.communicate(timeout=300)
        assert worker.returncode == 0, err.decode()
        lines += out.decode().splitlines()
    return lines


def check_all(store: Store, lines: list[str], wanted: int, each: int) -> None:
    started = [line.split() for line in lines if not line.startswith("won")]
    won = [line for line in lines if line.startswith("won")]
    assert len({identity for identity, _ in started}) == wanted
    assert len({name for _, name in started}) == wanted
    assert len(won) == each  # each contested name was taken once
    listed = store.containers.list()
    assert {view.container.id for view in listed} == {identity for identity, _ in started}
    assert len({view.status.pid for view in listed}) == wanted
    roots = {os.stat(f"/proc/{view.status.pid}/root/").st_dev for view in listed}
    assert len(roots) == wanted  # each has an overlay of its own


def test_many_processes_at_once(store: Store) -> None:
    check_all(store, start_all(store, 8, 3), 24, 3)


@pytest.mark.slow
def test_two_hundred_from_many_processes(store: Store) -> None:
    check_all(store, start_all(store, 20, 10), 200, 10)
    for view in store.containers.list():
        store.containers.remove(view.container.id, force=True)


def test_many_verbs_on_one_container(store: Store) -> None:
    """Whoever comes second hears why; nothing is left half done."""
    script = """
import sys
from pycontain import Engine
from pycontain.errors import PycontainError
containers = Engine(sys.argv[1], sys.argv[2]).containers
for _ in range(15):
    for act in (
        lambda: containers.start("box"),
        lambda: containers.stop("box", timeout=0),
        lambda: containers.restart("box", timeout=0),
        lambda: containers.list(all=True),
        lambda: containers.kill("box", 9),
    ):
        try:
            act()
        except PycontainError as err:
            print(type(err).__name__)
"""
    store.create("sleep", "1000", name="box")
    argv = [sys.executable, "-c", script, store.root, store.state]
    workers = [
        subprocess.Popen(argv, env=python_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for worker in workers:
        out, err = worker.communicate(timeout=300)
        assert worker.returncode == 0, err.decode()
        assert set(out.decode().split()) <= {"InvalidState"}, out
    assert store.state_of("box") in ("running", "exited")
    store.containers.remove("box", force=True)


def test_a_container_removed_by_many_is_removed_once(store: Store) -> None:
    script = """
import sys
from pycontain import Engine
from pycontain.errors import NotFound
containers = Engine(sys.argv[1], sys.argv[2]).containers
print("up", flush=True)
sys.stdin.readline()
for name in sys.argv[3:]:
    try:
        containers.remove(name, force=True)
        print("removed")
    except NotFound:
        pass
"""
    names = [store.view(store.detach(name=f"box{n}")).container.name for n in range(4)]
    argv = [sys.executable, "-c", script, store.root, store.state, *names]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen(argv, env=python_env(), stdin=pipe, stdout=pipe, stderr=pipe)
        for _ in range(6)
    ]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    removed = 0
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"\n")
        worker.stdin.flush()
    for worker in workers:
        out, err = worker.communicate(timeout=100)
        assert worker.returncode == 0, err.decode()
        removed += out.count(b"removed")
    assert removed == 4
    assert store.leftovers() == []


def rounds(store: Store, count: int) -> list[float]:
    """Run so many; return what each cost this process, in seconds of a CPU.

    A clock would measure the machine's other work, too.
    """
    times = []
    for _ in range(count):
        begin = time.process_time()
        assert store.run("true").exit_code == 0
        times.append(time.process_time() - begin)
    return times


def test_a_hundred_rounds_leave_nothing(store: Store, session: leaks.Session) -> None:
    rounds(store, 3)
    before = leaks.before_test(session)
    objects = count_objects()
    rounds(store, 100)
    assert leaks.settled(before, lambda: leaks.before_test(session)) == []
    assert store.leftovers() == []
    assert records.ids(store.layout) == []
    assert count_objects() - objects < 2000


@pytest.mark.slow
def test_a_thousand_rounds_cost_the_same_at_the_end(store: Store, session: leaks.Session) -> None:
    rounds(store, 3)
    before = leaks.before_test(session)
    memory = resident()
    times = rounds(store, 1000)
    assert leaks.settled(before, lambda: leaks.before_test(session)) == []
    assert store.leftovers() == []
    # Who shares a core or its caches makes all that runs there dearer, for a while.
    first, last = min(times[:100]), min(times[-100:])
    assert last < first * 2
    assert resident() - memory < 8192


def count_objects() -> int:
    import gc

    gc.collect()
    return len(gc.get_objects())


def resident() -> int:
    """Kilobytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024
