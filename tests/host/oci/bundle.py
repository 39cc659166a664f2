"""A bundle of a test's own, the runtime's command line over it, and ways to look at both.

Nothing here imports pycontain: the runtime is a program. ``PYCONTAIN_TEST_OCI_RUNTIME`` names
another one (its path, with leading arguments where it needs them) to be held against the same
tests; where that one is known to differ from the specification, a test says so with ``differs`` or
``older``.

The container's init has no parent but the nearest subreaper. That is the test process here
(``subreaper``), so a test can wait for it and sees how it ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import launcher
import probe
import pytest
from pace import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RUNTIME = shlex.split(os.environ.get("PYCONTAIN_TEST_OCI_RUNTIME", "")) or [launcher.path()]
KIND = next((name for name in ("runc", "crun") if name in os.path.basename(RUNTIME[0])), "ours")
PATIENCE = seconds(10)
FOREVER = ["sleep", "1000"]
TARGET = "1.3.0"
"""The version of the specification that the suite follows."""

CAPABILITIES = (
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP "
    "SETUID SYS_CHROOT"
).split()
APPLETS = (
    "sh cat echo ls id env pwd mount umount stat sleep true false mkdir rm touch ln mknod chmod "
    "chown head tail wc grep sed awk tr cut sort readlink hostname dd od kill ps printf test find "
    "tty stty ip setsid seq xargs tee mkfifo cmp uname nsenter unshare mountpoint sysctl nice "
    "taskset chrt ionice df date cp mv trap realpath"
).split()

spec = pytest.mark.spec
"""What of the specification a test holds: keys of musts.txt."""

_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


# ------------------------------------------------------------------------------ which tests are run


def differs(reason: str, *kinds: str) -> pytest.MarkDecorator:
    """Not run for those runtimes, which are known to go another way than the specification."""
    return pytest.mark.skipif(KIND in kinds, reason=f"{KIND}: {reason}")


def older(reason: str, **since: str) -> pytest.MarkDecorator:
    """Not run for a runtime before the version in which it learned this: ``runc="1.2"``."""
    wanted = since.get(KIND)
    lacks = wanted is not None and _version() < tuple(map(int, wanted.split(".")))
    return pytest.mark.skipif(lacks, reason=f"{KIND} before {wanted}: {reason}")


@functools.cache
def _version() -> tuple[int, ...]:
    said = subprocess.run([*RUNTIME, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d+(?:\.\d+)+)", said.stdout)
    assert found, said.stdout
    return tuple(map(int, found[1].split(".")))


# ---------------------------------------------------------------------------------------- processes


@contextlib.contextmanager
def subreaper() -> Iterator[None]:
    """Orphans below this process become its children, prctl(2)."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def children() -> set[int]:
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as file:
            found.update(map(int, file.read().split()))
    return found


def wait_until_gone(pid: int) -> None:
    """Wait until a process has ended; a zombie counts."""
    wait_until(lambda: not _live({pid}))


def wait_until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Poll until `condition` holds; fail when it does not."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def reap(pid: int, patience: float = PATIENCE) -> int:
    """Wait for a child that has become ours; its exit code, or -n for signal n."""
    ended = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        assert poller.poll(patience * 1000), f"process {pid} goes on"
    finally:
        os.close(ended)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def reap_inner() -> None:
    """Wait for those children that died in a pid namespace other than ours."""
    for pid in children():
        with contextlib.suppress(OSError):
            if field(pid, "State")[0] == "Z" and len(field(pid, "NSpid").split()) > 1:
                os.waitpid(pid, os.WNOHANG)


def command_line(pid: int) -> str:
    """The words of a process, with spaces between them; empty for a zombie."""
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read().replace("\0", " ")
    except OSError:
        return ""


def field(pid: int, name: str) -> str:
    """One field of /proc/PID/status."""
    with open(f"/proc/{pid}/status") as lines:
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:"))


def namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def cgroups(name: str) -> list[str]:
    """The cgroups of exactly that name in all hierarchies that are mounted."""
    return [
        f"{folder}/{name}"
        for folder, names, _ in os.walk("/sys/fs/cgroup", topdown=False)
        if name in names
    ]


# -------------------------------------------------------------------------------- the configuration


def default_config() -> dict[str, Any]:
    """What most containers have: five namespaces of their own, the usual mounts, little privilege.

    No cgroup is mounted and no resource limited, as not every host offers the controllers.
    """
    names = [f"CAP_{name}" for name in CAPABILITIES]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "hostname": "box",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {kind: list(names) for kind in ("bounding", "effective", "permitted")},
            "noNewPrivileges": True,
        },
        "mounts": [
            mount("proc", "/proc", "proc"),
            mount("tmpfs", "/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount(
                *("devpts", "/dev/pts", "devpts"),
                *("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            ),
            mount("tmpfs", "/dev/shm", "shm", "nosuid", "noexec", "nodev", "mode=1777"),
            mount("mqueue", "/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            mount("sysfs", "/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        },
    }


def mount(kind: str, destination: str, source: str, *options: str, **more: Any) -> dict[str, Any]:
    entry = {"destination": destination, "type": kind, "source": source, "options": list(options)}
    return entry | more


def bind(source: str, destination: str, *options: str, **more: Any) -> dict[str, Any]:
    """A bind mount; recursive where `options` say ``rbind``."""
    how = () if "rbind" in options else ("bind",)
    return mount("none", destination, source, *how, *options, **more)


def idmap(inside: int, outside: int, size: int) -> dict[str, int]:
    return {"containerID": inside, "hostID": outside, "size": size}


def make_source(folder: str) -> str:
    """The files of every rootfs, once: busybox and a program that makes one system call."""
    shutil.copy2(shutil.which("busybox") or "/bin/busybox", f"{folder}/busybox")
    probe.compile(f"{folder}/probe")
    return folder


def make_rootfs(source: str, folder: str) -> str:
    """A small root file system: busybox under its names, as hard links, and empty folders."""
    for name in ("", "bin", "dev", "proc", "sys", "tmp", "etc", "mnt"):
        os.mkdir(f"{folder}/{name}" if name else folder, 0o755)
    os.chmod(f"{folder}/tmp", 0o1777)
    for name in APPLETS:
        os.link(f"{source}/busybox", f"{folder}/bin/{name}")
    os.link(f"{source}/probe", f"{folder}/bin/probe")
    return folder


# -------------------------------------------------------------------------------------- the harness


Result = subprocess.CompletedProcess[str]


class Bundle:
    """One container to be: its bundle, its id, and the runtime over a state folder of the test's.

    Attributes:
        folder: the bundle.
        rootfs: its root file system.
        config: what ``config.json`` will say; change it before ``create``.
        root: the runtime's ``--root``.
        log: where the standard output and errors of a container that goes on are.
        problems: what ``close`` has found.
        parents: names of cgroups that the test has made or had made, to be removed at the end; each
            holds ``own``, so that no other can be meant.
        shield: words before the runtime's own; see ``private_mounts``.
    """

    def __init__(self, folder: str, source: str, root: str | None = None) -> None:
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.source = source
        self.root = root or f"{folder}/state"
        self.rootfs = make_rootfs(source, f"{folder}/rootfs")
        self.config = default_config()
        # Ours and nobody else's on the whole host: what is left under this name is removed.
        self.own = self.id = f"t{os.getpid()}-{next(_numbers)}-{time.time_ns():x}"
        self.log = f"{folder}/log"
        self.children = children()
        self.problems: list[str] = []
        self.shield: list[str] = []
        self.parents: list[str] = []
        self._short: str | None = None
        self._others: list[Bundle] = []

    @property
    def process(self) -> dict[str, Any]:
        process: dict[str, Any] = self.config["process"]
        return process

    @property
    def linux(self) -> dict[str, Any]:
        linux: dict[str, Any] = self.config["linux"]
        return linux

    @property
    def mounts(self) -> list[dict[str, Any]]:
        mounts: list[dict[str, Any]] = self.config["mounts"]
        return mounts

    @mounts.setter
    def mounts(self, mounts: list[dict[str, Any]]) -> None:
        self.config["mounts"] = mounts

    @property
    def short(self) -> str:
        """A folder with a short name, for sockets: their path has 108 bytes, unix(7)."""
        if self._short is None:
            self._short = tempfile.mkdtemp(prefix="oci-")
        return self._short

    def another(self) -> Bundle:
        """A second bundle over the same state folder, cleaned up with this one."""
        other = Bundle(f"{self.folder}-{len(self._others) + 2}", self.source, self.root)
        self._others.append(other)
        return other

    def namespaces(self, *kinds: str, **paths: str) -> None:
        """Have new namespaces of `kinds`, and join those of `paths`."""
        new = [{"type": kind} for kind in kinds]
        self.linux["namespaces"] = new + [
            {"type": kind, "path": path} for kind, path in paths.items()
        ]

    def add_namespace(self, kind: str, **more: str) -> None:
        self.linux["namespaces"].append({"type": kind, **more})

    def make(self, path: str, text: str | None = None) -> str:
        """Make a file (a folder without `text`) in the bundle and return its path."""
        path = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if text is None:
            os.makedirs(path, exist_ok=True)
        else:
            with open(path, "w") as file:
                file.write(text)
        return path

    def write(self) -> None:
        with open(f"{self.folder}/config.json", "w") as file:
            json.dump(self.config, file)

    # ------------------------------------------------------------------------------- the verbs

    def argv(self, verb: str, *args: str, before: Sequence[str] = ()) -> list[str]:
        return [*self.shield, *RUNTIME, "--root", self.root, *before, verb, *args]

    def private_mounts(self) -> None:
        """Have the runtime run in a mount namespace of its own.

        For configurations with which a runtime that is wrong would change the host's mounts.
        """
        self.shield = ["unshare", "--mount", "--propagation", "private"]

    def call(
        self,
        verb: str,
        *args: str,
        ok: bool = True,
        before: Sequence[str] = (),
        input: str | None = None,
        timeout: float = PATIENCE,
        **how: Any,
    ) -> Result:
        """Run a verb to its end, its output caught.

        Args:
            verb: of the runtime.
            args: what follows it.
            ok: whether it must succeed.
            before: flags in front of the verb.
            input: its standard input, by default empty.
            timeout: in seconds.
            how: for ``subprocess.run``.
        """
        stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        done = subprocess.run(
            self.argv(verb, *args, before=before),
            text=True, capture_output=True, check=False, timeout=timeout, env=environment(),
            **stdin, **how,
        )  # fmt: skip
        assert not ok or done.returncode == 0, done
        return done

    def leave(
        self, verb: str, *args: str, ok: bool = True, before: Sequence[str] = (), **how: Any
    ) -> Result:
        """Run a verb that leaves a process behind, which has this verb's output: it is a file."""
        place = how.pop("log", self.log)
        with open(place, "ab") as file:
            start = file.tell()
            streams: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), file)
            how = {"stdin": subprocess.DEVNULL} | streams | how
            done = subprocess.run(
                self.argv(verb, *args, before=before),
                check=False, timeout=PATIENCE, env=environment(), **how,
            )  # fmt: skip
        with open(place, errors="surrogateescape") as file:
            file.seek(start)
            said = file.read()
        assert not ok or done.returncode == 0, (done, said)
        return Result(done.args, done.returncode, said, said)

    def create(self, *flags: str, **how: Any) -> Result:
        """Write the configuration and ``create``."""
        self.write()
        place = () if "--pid-file" in flags else ("--pid-file", f"{self.folder}/pid")
        return self.leave("create", "--bundle", self.folder, *place, *flags, self.id, **how)

    def start(self, **how: Any) -> Result:
        return self.call("start", self.id, **how)

    def up(self, *args: str, **how: Any) -> int:
        """Create and start; the pid of init. Without `args` it goes on for ever."""
        self.process["args"] = list(args) or FOREVER
        self.create(**how)
        self.start()
        return self.pid

    def up_sh(self, script: str, **how: Any) -> int:
        return self.up("sh", "-c", script, **how)

    def run(self, *flags: str, **how: Any) -> Result:
        """Write the configuration and ``run`` it to its end."""
        self.write()
        how.setdefault("ok", False)
        return self.call("run", "--bundle", self.folder, *flags, self.id, **how)

    def out(self, *args: str) -> str:
        """Standard output of a program in a container of its own; it must succeed."""
        self.process["args"] = list(args)
        done = self.run()
        assert done.returncode == 0, done
        return done.stdout

    def sh(self, script: str) -> str:
        return self.out("sh", "-c", script)

    def code(self, script: str) -> int:
        self.process["args"] = ["sh", "-c", script]
        return self.run().returncode

    def exec(self, *args: str, **how: Any) -> Result:
        """``exec`` with flags and words as they are, the id between them.

        `args` are flags, then ``--`` (not handed over), then the command.
        """
        at = args.index("--") if "--" in args else 0
        words = args[at + 1 :] if "--" in args else args
        return self.call("exec", *args[:at], self.id, *words, **how)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.call("state", self.id).stdout)
        return state

    @property
    def status(self) -> str:
        status: str = self.state()["status"]
        return status

    @property
    def pid(self) -> int:
        """Init's pid, also after its end, when the state need not tell it any more."""
        with open(f"{self.folder}/pid") as file:
            return int(file.read())

    def kill(self, name: str = "KILL", *flags: str, **how: Any) -> Result:
        return self.call("kill", *flags, self.id, name, **how)

    def delete(self, *flags: str, ok: bool = True, name: str | None = None) -> Result:
        """``delete``, while we do our part: what dies in the container is ours to reap.

        The init of a pid namespace ends only when all others in it have been waited for
        (pid_namespaces(7)), and the parent of one that came by ``exec`` may be this process.
        """
        argv = self.argv("delete", *flags, name or self.id)
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment(),
        ) as running:  # fmt: skip
            end = time.monotonic() + PATIENCE
            while running.poll() is None:
                reap_inner()
                if time.monotonic() > end:
                    running.kill()
                time.sleep(0.001)
            out, err = running.communicate()
        assert not ok or running.returncode == 0, (argv, running.returncode, out, err)
        return Result(argv, running.returncode, out, err)

    def ended(self) -> int:
        """Wait for init; its exit code."""
        return reap(self.pid)

    # --------------------------------------------------------------------------------- looking

    def output(self) -> str:
        """What a container that goes on has written."""
        try:
            with open(self.log, errors="surrogateescape") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def until(self, text: str) -> str:
        """Wait until `text` is in the output."""
        wait_until(lambda: text in self.output())
        return self.output()

    def exists(self) -> bool:
        """Whether the runtime knows the container."""
        return self.call("state", self.id, ok=False).returncode == 0

    def refused(self, verb: str = "create", *flags: str, **how: Any) -> str:
        """``create`` (or ``run``) must fail, say why, and leave nothing; what it said."""
        before = children()
        how = {"ok": False} | how
        done = {"create": self.create, "run": self.run}[verb](*flags, **how)
        assert done.returncode != 0, "it was accepted"
        assert done.stderr.strip(), "it failed without a word"
        assert not self.exists(), done
        assert not self.kept(), "its state was kept"
        wait_until(lambda: not _live(children() - before), seconds(3))
        return done.stderr

    def kept(self) -> list[str]:
        """The containers of which there is a trace in the state folder."""
        try:
            # What no id can be called is the runtime's own: a cache.
            return [name for name in os.listdir(self.root) if not name.startswith("@")]
        except FileNotFoundError:
            return []

    # ------------------------------------------------------------------------------- the ending

    def close(self) -> list[str]:
        """Remove everything; what was there that should not have been."""
        for name in self.kept():
            done = self.delete("--force", name=name, ok=False)
            if done.returncode != 0:
                self.problems.append(f"delete --force {name}: {done.stderr}")
        self.problems += [f"state left: {name}" for name in self.kept()]
        self._reap_all()
        self._unmount()
        self._cgroups()
        for other in self._others:
            other._cgroups()
            self.problems += other.problems
            shutil.rmtree(other.folder)
            if other._short:
                shutil.rmtree(other._short)
        shutil.rmtree(self.folder)
        if self._short:
            shutil.rmtree(self._short)
        return self.problems

    def _reap_all(self) -> None:
        end = time.monotonic() + seconds(3)
        while left := children() - self.children:
            for pid in left:
                if time.monotonic() > end:
                    self.problems.append(f"process left: {pid} {command_line(pid)}")
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                else:
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.001)

    def _cgroups(self) -> None:
        """Never by any other name than our own: the host's cgroups are not ours to remove."""
        for folder in cgroups(self.own):
            self.problems.append(f"cgroup left: {folder}")
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        for name in self.parents:
            assert self.own in name
            for folder in cgroups(name):
                os.rmdir(folder)

    def _unmount(self) -> None:
        with open("/proc/self/mountinfo") as lines:
            points = [line.split()[4] for line in lines]
        for point in reversed(points):
            if point == self.folder or point.startswith(f"{self.folder}/"):
                self.problems.append(f"mount left: {point}")
                subprocess.run(["umount", "-l", point], check=True)


def _live(pids: set[int]) -> set[int]:
    """Those that have not exited: a zombie is waiting for us only."""
    return {pid for pid in pids if _state(pid) not in ("Z", "X", "")}


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][:1]
    except OSError:
        return ""


QUIET: dict[str, Any] = {
    "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL,
}  # fmt: skip


def environment() -> dict[str, str]:
    """An environment in which the runtime finds what this interpreter found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def through_three(argv: Sequence[str], before: str = ":") -> str:
    """Run a verb with a pipe as descriptor 3, to its end; what came through that pipe.

    Args:
        argv: the verb.
        before: shell commands that come first, in the same process.
    """
    reader, writer = os.pipe()
    with open(reader) as file:
        try:
            script = f'exec 3>&{writer}; {before}; exec "$@"'
            subprocess.run(
                ["bash", "-c", script, "sh", *argv],
                pass_fds=[writer], stdin=subprocess.DEVNULL, check=True, env=environment(),
                timeout=PATIENCE,
            )  # fmt: skip
        finally:
            os.close(writer)
        assert select.select([file], [], [], PATIENCE)[0]
        return file.read()


class Running:
    """A verb that goes on beside the test; every wait has an end, and it is killed at the last."""

    def __init__(self, argv: list[str], **how: Any) -> None:
        how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | how
        self.process = subprocess.Popen(argv, env=environment(), **how)
        self._seen = b""

    def line(self) -> str:
        """The next line of its output."""
        self._read(lambda: b"\n" in self._seen)
        line, _, self._seen = self._seen.partition(b"\n")
        return line.decode()

    def rest(self) -> str:
        """Its output to the end."""
        self._read(lambda: False)
        return self._seen.decode()

    def _read(self, enough: Callable[[], bool]) -> None:
        assert self.process.stdout is not None
        end = time.monotonic() + PATIENCE
        while not enough():
            assert time.monotonic() < end, f"no end of its output: {self._seen!r}"
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    break
                self._seen += data

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()


# ------------------------------------------------------------------------------- terminals, sockets


class Listener:
    """An AF_UNIX socket of ours, on which a runtime sends one message with descriptors."""

    def __init__(self, bundle: Bundle, name: str = "socket") -> None:
        self.path = f"{bundle.short}/{name}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(self.path)
        self.socket.listen(4)
        self.socket.settimeout(PATIENCE)

    def receive(self, count: int = 1) -> tuple[bytes, list[int]]:
        """The bytes of one connection to its end, and the descriptors that came with them."""
        connection, _ = self.socket.accept()
        with connection:
            connection.settimeout(PATIENCE)
            data, fds, _, _ = socket.recv_fds(connection, 65536, count)
            while more := connection.recv(65536):
                data += more
        return data, fds

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Terminal:
    """The master of a container's terminal, as it came over the console socket."""

    def __init__(self, bundle: Bundle) -> None:
        self._listener = Listener(bundle, f"console{next(_numbers)}")
        self.path = self._listener.path
        self.fd = -1
        self.seen = b""

    def accept(self) -> None:
        connection, _ = self._listener.socket.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        self.fd = fds[0]

    def write(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, text: str) -> str:
        """Read until `text` has come."""
        return self._read(lambda: text.encode() in self.seen)

    def rest(self) -> str:
        """Read until nobody has the other end any more (EIO, pty(7))."""
        return self._read(lambda: False)

    def _read(self, enough: Callable[[], bool]) -> str:
        end = time.monotonic() + PATIENCE
        while not enough():
            assert time.monotonic() < end, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    break
        return self.seen.decode().replace("\r\n", "\n")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.socket.close()
        if self.fd >= 0:
            os.close(self.fd)


def table(text: str) -> list[dict[str, str]]:
    """The mounts in a text of mountinfo: point, options, optional fields, type, super options."""
    found = []
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        words, end = head.split(), tail.split()
        found.append({
            "root": words[3], "point": words[4], "options": words[5], "peers": " ".join(words[6:]),
            "type": end[0], "source": end[1], "super": end[2],
        })  # fmt: skip
    return found
