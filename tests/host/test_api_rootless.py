"""The Python API in a program of an ordinary user, which stays outside of the user's namespaces."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import isolated
import leaks
import pytest
from harness import wait_until
from ordinary import NAME, User, ordinary_user, processes_of, without_range
from pace import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.host

PAGE = Path(__file__).parents[2] / "docs" / "python.md"

# What the scripts begin with: the engine, and what they look at.
COMMON = """\
import gc, os, select, signal, sys, threading, time
sys.path.insert(0, {place!r})
from pycontain import Engine
from pycontain.engine.cancel import Cancel
from pycontain.errors import *

engine = Engine()

def ids():
    return [view.container.id for view in engine.containers.list(all=True)]

def alive(pid):
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:  # a first thread is a zombie while others are still ending
        return not select.select([fd], [], [], 0)[0]
    finally:
        os.close(fd)

seen = set()

def workers():
    # In /proc a process that ends is root's before its sockets close: those once seen are asked.
    found = set(seen)
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{{name}}/comm") as file:
                mine = os.stat(file.fileno()).st_uid == os.getuid()
                if mine and file.read() == "pycontain-work\\n":
                    found.add(int(name))
        except OSError:
            pass
    seen.clear()
    seen.update(pid for pid in found if alive(pid))
    return set(seen)

def until(condition):
    while not condition():  # whoever runs this has a time-out
        time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def user(whole_host: None) -> Iterator[User]:
    with ordinary_user() as user, isolated.machine(user.home) as machine:
        user.elsewhere = machine.words
        # Makes the user's namespace, whose holder stays: before the leak fixture looks.
        done = user.run("run", "--rm", "busybox", "true")
        assert done.returncode == 0, done.stderr
        yield user


def argv(user: User, script: str) -> list[str]:
    """The words that run a script as the user, which is still to be become."""
    command = Path(user.command[0])
    python = command.read_text().split()[0].removeprefix("#!")
    common = COMMON.format(place=str(command.parent))
    return [python, "-IS", "-c", common + textwrap.dedent(script)]


def play(user: User, script: str) -> str:
    """What a script of the user prints; it must succeed, and complain of nothing."""
    done = user.do(argv(user, script))
    assert done.stderr.decode() == ""
    assert done.returncode == 0
    assert containers(user) == []
    return done.stdout.decode()


def containers(user: User) -> list[str]:
    return user.run("ps", "-aq").stdout.decode().split()


@contextlib.contextmanager
def playing(user: User, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A script that goes on after its first line of output."""
    words = [*user.become(), *argv(user, script)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, cwd=user.home, env=user.environment(),
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()
            process.wait(seconds(20))


def running(user: User) -> set[str]:
    """The names of the user's processes, but for the holder of the namespaces."""
    found = set()
    for pid in processes_of(user.entry.pw_uid):
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            if stat.rpartition(") ")[2][0] not in "ZX":
                found.add(Path(f"/proc/{pid}/comm").read_text().strip())
    return found - {"pycontain-usern"}


# ---- the same as for root


def test_the_examples_of_the_page(user: User) -> None:
    if not shutil.which("pasta"):
        pytest.skip("needs pasta, of the package passt: its examples have networks")
    page = user.home / "python.md"
    page.write_text(PAGE.read_text())
    out = play(
        user,
        f"""
        import doctest
        import pycontain
        pycontain.Engine = lambda: engine
        failed, tried = doctest.testfile({str(page)!r}, module_relative=False)
        print(failed, tried > 20)
        """,
    )
    assert out == "0 True\n"


def test_values_are_what_they_are(user: User) -> None:
    play(
        user,
        """
        from pycontain.engine.containers import Containers, View
        from pycontain.engine.logs import LogEntry
        from pycontain.model.container import Container
        from pycontain.model.stats import Stats

        assert engine.rootless
        assert isinstance(engine.containers, Containers)
        assert [image.names for image in engine.images.list()] == [("busybox:latest",)]
        with engine.start("busybox", ["sh", "-c", "echo a; echo b >&2; sleep 1000"]) as box:
            assert type(box.document) is Container
            [view] = engine.containers.list()
            assert type(view) is View and view.container == box.document
            assert os.stat(f"/proc/{box.status.pid}").st_uid == os.getuid()
            entries = []
            for entry in box.logs(follow=True):
                entries.append((type(entry), entry.stream, entry.data))
                if len(entries) == 2:
                    break
            assert sorted(entries, key=repr) == [
                (LogEntry, "stderr", b"b\\n"), (LogEntry, "stdout", b"a\\n")
            ]
            assert type(box.sample()) is Stats
            assert box.wait(timeout=0.05) is None
        """,
    )


def test_errors_are_what_they_are(user: User) -> None:
    out = play(
        user,
        """
        def tell(act):
            try:
                act()
            except PycontainError as err:
                print(type(err).__name__, err, err.hint, getattr(err, "errno", None), sep=" | ")

        with engine.start("busybox", idle=True, name="box") as box:
            tell(lambda: engine.start("busybox", idle=True, name="box"))
            tell(box.start)
            tell(box.pause)
            tell(lambda: box.exec(["nothing"]))
            tell(lambda: box.get("/nothing"))
            tell(lambda: box.files().folder("/"))
        tell(box.start)
        """,
    ).splitlines()
    kinds = [line.split(" | ")[0] for line in out]
    assert kinds == ["Conflict", "InvalidState", "NotSupported", "CommandNotFound", "NotFound",
                     "InvalidState", "NotFound"]  # fmt: skip
    assert "already running" in out[1]
    assert "it has no cgroup" in out[2]
    assert out[2].split(" | ")[3] == "95"  # EOPNOTSUPP
    assert "pycontain ps -a" in out[6]


def test_pods_and_what_is_declared(user: User) -> None:
    """Values cross whole; what is the caller's to call, or to fill, stays there."""
    play(
        user,
        """
        from pycontain import Kube, Pods
        from pycontain.errors import InvalidState
        from pycontain.model.container import RunOptions
        from pycontain.model.pod import Pod
        from pycontain.pod import manifest
        from pycontain.pod.pods import PodView

        pods = Pods(engine)
        assert isinstance(pods, Pods)
        made = pods.create("work", network="none", share=("net", "uts", "ipc"))
        asked = RunOptions(image="busybox", command=("sleep", "1000"), init=True)
        for _ in range(2):
            engine.containers.run(pods.member("work", asked), attach=False)
        view = pods.get("work")
        assert type(view) is PodView and view.pod == made
        pids = [member.status.pid for member in view.members]
        assert len(pids) == 2
        assert os.stat(f"/proc/{pids[0]}").st_uid == os.getuid()
        [failed, other] = pods.pause("work")
        assert failed.container == view.members[0].container.id
        assert "it has no cgroup" in failed.error.message
        problems = []
        with open(view.paths.pod, "r+b") as file:
            document = file.read()
            file.truncate(7)
            assert pods.list(problems=problems) == []
            file.seek(0)
            file.write(document)
        assert [type(problem) for problem in problems] == [StoreError]
        try:
            pods.remove("work")
        except InvalidState as err:
            assert "is running" in err.message
        assert pods.stop("work", timeout=0) == []
        met = []
        assert pods.prune(lambda pod: met.append(pod)) == []
        assert [type(pod) for pod in met] == [Pod]
        assert pods.remove("work") == made.id

        kube = Kube(engine)
        objects = manifest.parse('''
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: many}
        spec:
          replicas: 2
          selector: {matchLabels: {app: many}}
          template:
            metadata: {labels: {app: many}}
            spec:
              terminationGracePeriodSeconds: 0
              containers: [{name: main, image: busybox, command: [sleep, "1000"]}]
        ''').objects
        told = []
        [applied] = kube.apply(objects, progress=told.append)
        assert (applied.declared.object, applied.change) == (objects[0], "created")
        kube.await_ready([("Deployment", "many")], timeout=300)
        assert kube.status("Deployment", "many").ready_replicas == 2
        # Who keeps it is the user's supervisor, not the worker.
        for pid in workers():
            os.kill(pid, 9)
        until(lambda: not workers())
        engine.containers.remove(engine.containers.list()[0].container.id, force=True)
        until(lambda: len(engine.containers.list()) == 2)
        assert [one.name for one in kube.down(objects)] == ["many"]
        assert engine.containers.list(all=True) == [] == pods.list()
        """,
    )


def test_files_and_streams_stay_with_the_caller(user: User) -> None:
    """Streams need no descriptor, and paths are read against the caller's own folder."""
    (user.home / "given").write_text("given\n")
    play(
        user,
        """
        import io
        with engine.start("busybox", idle=True) as box:
            box.put("/tmp/file", b"hello")
            with box.files() as files:
                files.copy_in("given", "/tmp/given")
                assert os.read(files.open("/tmp/given"), 100) == b"given\\n"
                archive = io.BytesIO()
                files.copy_out("/tmp", archive)
                archive.seek(0)
                files.copy_in(archive, "/var")
                assert files.read("/var/tmp/file") == b"hello"
                files.copy_out("/var/tmp/file", "taken")
            with open("taken", "rb") as file:
                assert file.read() == b"hello"
            os.unlink("taken")
            exported = io.BytesIO()
            assert engine.containers.export(box.id, exported) == len(exported.getvalue()) > 10000

            class Broken(io.RawIOBase):
                def write(self, data):
                    raise ZeroDivisionError

            try:
                engine.containers.export(box.id, Broken())
            except ZeroDivisionError:
                print("mine")
            lines = []
            engine.images.ensure("busybox", lines.append)
            assert lines == []
            problems = []
            with open(engine.layout.container(box.id).document, "r+b") as file:
                document = file.read()
                file.truncate(7)
                assert engine.containers.list(all=True, problems=problems) == []
                file.seek(0)
                file.write(document)
            assert [type(problem) for problem in problems] == [StoreError]
        """,
    )


def test_waits_end_when_they_are_cancelled(user: User) -> None:
    play(
        user,
        """
        def soon(act):
            cancel = Cancel()
            timer = threading.Timer(0.3, cancel.set)
            timer.start()
            try:
                act(cancel)
            except Cancelled:
                timer.join()
                cancel.close()
                return
            raise AssertionError("it was not cancelled")

        soon(lambda cancel: engine.run("busybox", ["sleep", "1000"], cancel=cancel))
        assert ids() == []
        with engine.start("busybox", ["sh", "-c", "echo a; sleep 1000"]) as box:
            soon(lambda cancel: box.wait(cancel=cancel))
            soon(lambda cancel: box.exec(["sleep", "1000"], cancel=cancel))
            soon(lambda cancel: list(box.logs(follow=True, cancel=cancel)))
            entries = box.logs(follow=True)
            assert next(entries).data == b"a\\n"
            entries.close()
            assert list(entries) == []
        """,
    )


def test_many_threads_at_once(user: User) -> None:
    play(
        user,
        """
        from concurrent.futures import ThreadPoolExecutor
        with engine.start("busybox", idle=True) as box, ThreadPoolExecutor(16) as threads:
            def work(number):
                return box.exec(["echo", str(number)]).stdout
            found = list(threads.map(work, range(48)))
            assert found == [f"{number}\\n".encode() for number in range(48)]
            assert len(workers()) == 1
        """,
    )


def test_a_user_without_a_range_is_told_what_to_do(user: User) -> None:
    with without_range():
        out = play(
            user,
            """
            engine = Engine("root", "state")
            for _ in range(2):
                try:
                    engine.containers.list()
                except NotPermitted as err:
                    print(err.step, err, err.hint, sep=" | ")
            until(lambda: workers() == set())
            """,
        )
    first, second = out.splitlines()
    assert first == second
    assert first.startswith(f"make user namespace | make user namespace: user {NAME} has no range")
    assert "usermod --add-subuids" in first


# ---- the worker


def test_it_changes_nothing_of_the_program(user: User) -> None:
    play(
        user,
        """
        def looks():
            mask = os.umask(0o22)
            os.umask(mask)
            return (
                os.listdir("/proc/self/fd"), os.getcwd(), mask, dict(os.environ),
                [os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")],
                [signal.getsignal(number) for number in (2, 13, 15, 17)], os.getuid(),
                threading.active_count(),
            )

        before = looks()
        assert workers() == set()  # before the first verb
        with engine.start("busybox", idle=True) as box:
            box.exec(["true"])
            assert len(workers()) == 1
        engine.run("busybox", ["true"])
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pass
        else:
            raise AssertionError("there is a child")
        engine.close()
        until(lambda: workers() == set())
        until(lambda: threading.active_count() == before[-1])
        assert looks() == before, (looks(), before)
        """,
    )


def test_it_lives_as_long_as_somebody_has_it(user: User) -> None:
    play(
        user,
        """
        gc.disable()
        box = engine.start("busybox", idle=True)
        kept = box.id
        del engine
        assert box.exec(["true"]).exit_code == 0
        assert len(workers()) == 1
        del box
        until(lambda: workers() == set())
        # It ends with this process, not with what has started it.
        engine = Engine()
        assert engine.container(kept).status.state == "running"
        engine.container(kept).close()
        """,
    )


def test_a_killed_worker_is_named_and_another_is_started(user: User) -> None:
    out = play(
        user,
        """
        with engine.start("busybox", idle=True) as box:
            [worker] = workers()
            # By then it waits; one that is killed before waits for ever, for another worker.
            kill = threading.Timer(4, os.kill, (worker, signal.SIGKILL))
            kill.start()
            try:
                box.wait()
            except PycontainError as err:
                print(str(err).replace(str(worker), "N"))
            assert box.status.state == "running"
            assert box.exec(["true"]).exit_code == 0
            [another] = workers()
            assert another != worker
            os.kill(another, signal.SIGKILL)
            until(lambda: another not in workers())
            assert box.exec(["true"]).exit_code == 0
        """,
    )
    assert out == "containers await_end: worker: process N was killed before it answered\n"


def test_a_forked_child_has_a_worker_of_its_own(user: User) -> None:
    play(
        user,
        """
        with engine.start("busybox", idle=True) as box:
            before = workers()
            entries = box.logs(follow=True)
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    assert len(ids()) == 1
                    [own] = workers() - before
                    os.write(writer, b"fine")
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            assert os.read(reader, 4) == b"fine"
            until(lambda: workers() == before)
            assert box.exec(["true"]).exit_code == 0
            # A child that does not end keeps no worker of its parent's.
            idle = os.fork()
            if idle == 0:
                signal.pause()
            entries.close()
            engine.close()
            until(lambda: workers() == set())
            os.kill(idle, signal.SIGKILL)
            os.waitpid(idle, 0)
        """,
    )


def test_an_interrupt_is_the_programs_own(user: User) -> None:
    """A terminal sends it to the whole process group; whatever the engine is doing just then."""
    out = play(
        user,
        """
        os.setpgid(0, 0)
        assert ids() == []
        [worker] = workers()
        for delay in (0.01, 0.03, 0.06, 0.1, 0.2, 0.4):
            timer = threading.Timer(delay, os.killpg, (0, signal.SIGINT))
            try:
                timer.start()
                engine.run("busybox", ["sleep", "1000"])
            except KeyboardInterrupt:
                print("interrupted")
            timer.join()
            assert ids() == [], delay
        made, run = type(engine.containers), type(engine.containers).run
        def interrupted(*args, **more):
            run(*args, **more)
            assert len(ids()) == 1
            raise KeyboardInterrupt
        made.run = interrupted
        for verb in (engine.run, engine.start):
            try:
                verb("busybox", ["sleep", "1000"])
            except KeyboardInterrupt:
                print("interrupted")
            assert ids() == []
        assert workers() == {worker}
        """,
    )
    assert out == "interrupted\n" * 8


def test_a_killed_program_leaves_nothing(user: User) -> None:
    script = """
        engine.start("busybox", idle=True, remove=True)
        stays = engine.start("busybox", idle=True, name="stays")
        pool = engine.pool("busybox", 1)
        taken = pool.take()
        threading.Thread(target=engine.run, args=("busybox", ["sleep", "1000"])).start()
        threading.Thread(target=taken.exec, args=(["sleep", "1001"],)).start()
        until(lambda: [view.status.state for view in engine.containers.list()] == ["running"] * 5)
        # Its socket goes on in a child.
        if os.fork() == 0:
            with open("/proc/self/comm", "w") as file:
                file.write("child")
            print("ready", flush=True)
            signal.pause()
        signal.pause()
    """
    with playing(user, script) as program:
        [child] = [
            pid for pid in processes_of(user.entry.pw_uid)
            if f"\nPPid:\t{program.pid}\n" in leaks.text(f"/proc/{pid}/status")
        ]  # fmt: skip
        program.kill()
        program.wait(seconds(20))
        wait_until(lambda: running(user) == {"child"})
        os.kill(child, signal.SIGKILL)
    names = user.run("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout.decode()
    user.run("rm", "-f", "stays")
    assert names == "stays exited\n"
    assert containers(user) == []


def test_a_program_killed_at_any_moment_leaves_nothing(user: User) -> None:
    script = """
        print("ready", flush=True)
        while True:
            engine.run("busybox", ["true"])
    """
    for delay in (0.3, 0.45, 0.6, 0.75):
        with playing(user, script) as program:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(delay)
            assert program.poll() is None
        wait_until(lambda: running(user) == set())
        assert containers(user) == []
