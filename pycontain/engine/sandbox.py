"""What the containers of a pod share: namespaces with networks and published ports.

One process holds them (native/sandbox.c), whichever containers come and go; it is to a pod what a
monitor is to a container, and is recorded as one. Where it was killed, the namespaces live on in
the containers that run in them: the next start has another process hold them.

The pod's lock is taken before any container's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING

from pycontain import trace
from pycontain.engine import connections, hostfiles, records, rootless
from pycontain.engine.cancel import wait_readable
from pycontain.errors import (
    InvalidState,
    KernelError,
    NotFound,
    NotSupported,
    PycontainError,
    StoreError,
    is_shortage,
    kernel_error,
)
from pycontain.kernel import cgroup, mount, netlink, process, userns
from pycontain.model.container import (
    UID_LABEL,
    Container,
    ExitRecord,
    ImageConfig,
    RunOptions,
    RunRecord,
)
from pycontain.model.pod import KINDS, Pod, cgroup_path
from pycontain.runtime import handover, links
from pycontain.runtime import spec as specs
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Literal

    from pycontain.model import oci
    from pycontain.model.network import Attachment
    from pycontain.store.layout import ContainerPaths, Layout, PodPaths

    State = Literal["created", "running", "exited", "lost"]

_REPORT = struct.Struct("=ii32s")  # struct report of native/sandbox.c
_LETTERS = {"net": "n", "ipc": "i", "uts": "u", "pid": "p"}
_NAMESPACES = {"net": "net", "ipc": "ipc", "uts": "uts"}
_SHM_ATTRIBUTES = mount.ATTR_NOSUID | mount.ATTR_NODEV | mount.ATTR_NOEXEC
_PATIENCE = 5000.0  # milliseconds that a holder is given to end by itself
_KILLED = 137
_PF_EXITING = 4  # include/linux/sched.h


class Starting:
    """A sandbox that is about to start, as ``connections`` and ``ports`` see it.

    Attributes:
        container: the sandbox as a container: what it asks for of networks and ports.
        run: id of this run.
        lock: descriptor of the pod's lock. The holder has it until it is settled whether it stays:
            who gets the lock after a killed command finds no holder that is about to end.
    """

    __slots__ = ("container", "layout", "lock", "paths", "run")

    def __init__(self, layout: Layout, pod: Pod, run: str, lock: int) -> None:
        self.lock = lock
        self.layout = layout
        self.paths: ContainerPaths = layout.pod(pod.id)
        self.container = as_container(pod)
        self.run = run


def load(layout: Layout, identity: str) -> Pod:
    """Return the document of a pod.

    Raises:
        NotFound: there is none.
        StoreError: it is damaged.
    """
    try:
        return files.load(layout.pod(identity).pod, Pod)
    except NotFound:
        raise NotFound(f"no pod with id {identity}") from None


def every(layout: Layout) -> Iterator[Pod]:
    """Yield all pods.

    Raises:
        StoreError: a document is damaged.
    """
    try:
        found = os.listdir(layout.pods)
    except FileNotFoundError:
        return
    for identity in filter(records.is_id, found):
        try:
            yield load(layout, identity)
        except NotFound:
            continue  # half made, or removed meanwhile


def owner_of_port(layout: Layout, protocol: str, port: int, but: str) -> str:
    """Return the name of the pod that has a port of the host, of another one than `but`; empty for
    none.

    Raises:
        StoreError: a document is damaged.
    """
    from pycontain.engine import ports

    for pod in every(layout):
        bound = ports.bound(layout.pod(pod.id)) if pod.id != but else ()
        has = any(entry.port == port and entry.protocol == protocol for entry in bound)
        if has and state(layout, pod.id) == "running":
            return pod.name
    return ""


def has_name(layout: Layout, identity: str, name: str) -> bool:
    """Whether there is a pod that has an id and a name, or is being made; one that cannot be read
    may be called so.
    """
    if not layout.has_pod(identity):
        return False
    found = _is_called(layout, identity, name)
    if found is not None:
        return found
    if _is_locked(layout, identity):
        return True
    # It may have been made between the two.
    return _is_called(layout, identity, name) or False


def _is_called(layout: Layout, identity: str, name: str) -> bool | None:
    """Whether a pod has a name; None where it has no document."""
    try:
        return load(layout, identity).name == name
    except NotFound:
        return None
    except StoreError:
        return True


def _is_locked(layout: Layout, identity: str) -> bool:
    lock = files.Lock(layout.pod(identity).lock)
    if not lock.acquire(wait=False):
        return True
    if not layout.has_pod(identity):
        files.remove(lock.path)  # ours: it has been removed meanwhile
    lock.release()
    return False


def as_container(pod: Pod) -> Container:
    """Return the container that stands for a pod in its networks."""
    options = RunOptions(
        image="", name=pod.name, network=pod.network, networks=pod.networks, publish=pod.publish,
        add_host=pod.add_host, dns=pod.dns, dns_search=pod.dns_search, dns_option=pod.dns_option,
    )  # fmt: skip
    return Container(
        id=pod.id, name=pod.name, created=pod.created, options=options, image_id="", layers=(),
        config=ImageConfig(), command=(), stop_signal=15, stop_timeout=0,
    )  # fmt: skip


@contextlib.contextmanager
def locked(layout: Layout, identity: str) -> Iterator[tuple[Pod, int]]:
    """Hold the lock of a pod that is there; yields its document, and the lock's descriptor.

    Raises:
        NotFound: there is none.
    """
    with files.Lock(layout.pod(identity).lock) as lock:
        try:
            pod = load(layout, identity)
        except NotFound:
            files.remove(lock.path)
            raise
        yield pod, lock.fileno()


# ---- its state ----


def state(layout: Layout, identity: str) -> State:
    """Return whether a pod's sandbox never ran, runs, has ended, or its holder was killed."""
    try:
        found = records.status(layout.pod(identity)).state
    except records.Lost:
        return "lost"
    return found if found in ("created", "running") else "exited"


def members(layout: Layout, identity: str) -> Iterator[Container]:
    """Yield the containers of a pod; those whose documents are damaged are nobody's."""
    for container_id in records.ids(layout):
        try:
            container = records.load(layout.container(container_id))
        except PycontainError:
            continue
        if container.options.pod == identity:
            yield container


def _member(paths: ContainerPaths) -> str:
    return f"{paths.folder}/sandbox"


def note_member(layout: Layout, container: Container, paths: ContainerPaths, run: str) -> None:
    """Note in which run of its pod's sandbox a run of a container is begun; its lock is held.

    Raises:
        StoreError: it cannot be noted.
    """
    of_pod = records.last_run(layout.pod(container.options.pod))
    if of_pod:
        files.write_word(_member(paths), f"{run} {of_pod}")


def run_of_member(paths: ContainerPaths) -> str:
    """Return in which run of its pod's sandbox the last run of a container was begun; empty where
    nobody noted it.

    Times do not tell: the clock may have been set back in between.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        run, _, of_pod = files.read_word(_member(paths)).partition(" ")
    except NotFound:
        return ""
    return of_pod if run == records.last_run(paths) else ""


def _survivors(layout: Layout, identity: str) -> Iterator[tuple[int, int]]:
    """Pid and start time of containers that run in a pod's namespaces."""
    for container in members(layout, identity):
        try:
            record = records.load_run(layout.container(container.id))
        except StoreError:
            continue
        if record is None or record.boot != process.boot_id():
            continue
        if process.start_time(record.pid) == record.pid_start:
            yield record.pid, record.pid_start


def is_inhabited(layout: Layout, identity: str) -> bool:
    """Whether any container of a pod runs."""
    return next(_survivors(layout, identity), None) is not None


def target(layout: Layout, identity: str) -> tuple[int, int]:
    """Return pid and start time of a process in a pod's namespaces.

    Raises:
        InvalidState: the pod's sandbox does not run.
    """
    paths = layout.pod(identity)
    record = records.load_run(paths)
    if record is None or state(layout, identity) != "running":
        name = load(layout, identity).name
        raise InvalidState(f"pod {name} is not running", f"pycontain pod start {name}")
    return record.pid, record.pid_start


# ---- starting ----


def ensure_for(layout: Layout, container_id: str) -> None:
    """See that the sandbox runs which a container is in, if it is in any; the container's lock is
    not held.

    Raises:
        PycontainError: it cannot be started.
    """
    try:
        pod = records.load(layout.container(container_id)).options.pod
    except NotFound:
        return
    if pod:
        with locked(layout, pod) as (found, lock):
            start(layout, found, lock)


def start(layout: Layout, pod: Pod, lock: int) -> bool:
    """Start a sandbox, unless it runs.

    Args:
        layout: of the store.
        pod: whose it is.
        lock: descriptor of the pod's lock, which is held.

    Returns:
        Whether it was started.

    Raises:
        Conflict: a port or an address is taken.
        NotFound: there is no such network; that of what is declared is made.
        NotSupported: this machine cannot keep its limits.
        KernelError: a step failed; what was made is undone.
    """
    paths = layout.pod(pod.id)
    try:
        _await_ending(paths)
        if records.status(paths).state == "running":
            return False
    except records.Lost as lost:
        if lost.reason == "monitor lost" and is_inhabited(layout, pod.id):
            _take_over(layout, pod, lost, lock)
            return True
        _settle(layout, pod, lost)
    clear(layout, pod.id)
    run = os.urandom(8).hex()
    for folder in (layout.state_pods, paths.state_folder):
        files.make_folder(folder)
    records.sweep(paths)
    records.write_marker(paths, run)
    try:
        if UID_LABEL in pod.labels:
            from pycontain.engine import network_verbs

            network_verbs.ensure_of_pods(layout, pod.networks)
        with trace.Span("start the sandbox"):
            _start(Starting(layout, pod, run, lock), pod)
    except PycontainError as err:
        clear(layout, pod.id)
        failed = ExitRecord(run=run, code=128, reason=records.NOT_STARTED, error=err.message)
        records.write_exit(paths, failed)
        raise
    return True


def _await_ending(paths: ContainerPaths) -> None:
    """Wait for a holder that is ending, as one does whose command was killed before it was told to
    stay: it lets go of the lock before it counts as dead.
    """
    record = records.load_run(paths)
    if record is None or record.boot != process.boot_id() or not _is_exiting(record.monitor):
        return
    pidfd = process.open_process(record.monitor, record.monitor_start)
    if pidfd is not None:
        wait_readable((pidfd,), None)
        os.close(pidfd)


def _is_exiting(pid: int) -> bool:
    """Whether a process has begun to exit: the ninth field of proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return bool(int(file.read().rpartition(b") ")[2].split()[6]) & _PF_EXITING)
    except (FileNotFoundError, ProcessLookupError):
        return False


def _start(starting: Starting, pod: Pod) -> None:
    connection = connections.connect(starting)
    try:
        with contextlib.ExitStack() as stack:
            mounts = [_shared_memory(pod)] if "ipc" in pod.share else []
            stack.callback(_close, mounts)
            mounts += _memory(starting.layout, pod)
            with _Holder(starting, pod, connection, _new(pod), (), mounts) as holder:
                _make_devices(starting.layout, connection.attachments, pod, holder)
                _write_files(starting, connection)
                holder.stay(time.time_ns())
    except BaseException:
        connection.undo()
        raise
    finally:
        connection.held.close()


def _new(pod: Pod) -> str:
    kinds = [kind for kind in pod.share if kind != "net" or pod.network != "host"]
    return "".join(letter for kind, letter in _LETTERS.items() if kind in kinds)


def _shared_memory(pod: Pod) -> int:
    options = (("mode", "1777"), ("size", str(pod.shm_size)))
    return mount.new_mount("tmpfs", options, _SHM_ATTRIBUTES)


def _memory(layout: Layout, pod: Pod, survivors: Iterable[tuple[int, int]] = ()) -> list[int]:
    """Its volumes in memory, as detached mounts."""
    if not pod.memory:
        return []
    from pycontain.engine import memory

    return memory.make(layout, pod, tuple(survivors))


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _write_files(starting: Starting, connection: connections.Connection) -> None:
    container = starting.container
    hostfiles.write(
        starting.paths, container.options, hostname(starting.layout, container.id),
        connection.attachments, connection.host(),
    )  # fmt: skip


def hostname(layout: Layout, identity: str) -> str:
    """Return the host name of a pod's UTS namespace.

    Raises:
        NotFound: there is no such pod.
    """
    pod = load(layout, identity)
    return pod.hostname or pod.name


@rootless.there
def _make_devices(
    layout: Layout,  # noqa: ARG001 - says where networks are
    attachments: Sequence[Attachment],
    pod: Pod,
    holder: _Holder,
) -> None:
    """Give the sandbox its network devices; called where networks are."""
    if not attachments:
        return
    for attachment in attachments:
        batch, place = links.device(attachment, hairpin=bool(pod.publish))
        batch.fill(place, holder.pid)
        netlink.send(batch)
    holder.set_devices(attachments)
    namespace = handover.open_namespace(f"/proc/{holder.pid}/ns/net")
    try:
        for attachment in attachments:
            netlink.send_within(links.settings(attachment), namespace)
    finally:
        os.close(namespace)


# ---- its holder ----


class _Holder:
    """The process that holds a sandbox, while it is started; a context manager, at whose end it
    ends unless it was told to stay.

    Attributes:
        pid: of the process in the namespaces, which the containers join.
    """

    def __init__(
        self,
        starting: Starting,
        pod: Pod,
        connection: connections.Connection,
        kinds: str,
        namespaces: Sequence[int],
        mounts: Sequence[int],
    ) -> None:
        self._starting = starting
        self._name = pod.name
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own = [theirs.detach()]
        try:
            try:
                fds = [own[0], starting.lock, *namespaces, *mounts]
                sockets = list(connection.held.given().values())
                if sockets:
                    own.append(_home(connection))
                    fds += [own[-1], *sockets]
                ports = [str(word) for step in connection.settings() for word in step.args[1:]]
                words = [kinds + "m" * len(pod.memory), pod.hostname or pod.name, *ports]
                self._monitor = self._spawn(pod, words, fds)
            finally:
                # Nobody else has its end of the channel: else a killed one would not be heard.
                for fd in own:
                    os.close(fd)
            self.pid = self._report()
        except BaseException:
            self._channel.close()
            raise

    def _spawn(self, pod: Pod, words: Sequence[str], fds: Sequence[int]) -> int:
        program = handover.open_native("sandbox")
        group = -1
        try:
            group = _make_cgroups(pod, new=any(letter in "niup" for letter in words[0]))
            argv = [f"pycontain-sandbox {pod.name}", *words]
            pid, pidfd = process.spawn(program, argv, fds, group)
            os.close(pidfd)
        finally:
            os.close(program)
            if group >= 0:
                os.close(group)
        return pid

    def _report(self) -> int:
        data = self._channel.recv(_REPORT.size)
        if len(data) != _REPORT.size:
            raise KernelError("start the sandbox", f"pod {self._name}: its process died", 10)
        number, pid, step = _REPORT.unpack(data)
        if number:
            words = step.rstrip(b"\0").decode()
            raise kernel_error(words, f"pod {self._name}", number)
        return int(pid)

    def set_devices(self, attachments: Sequence[Attachment]) -> None:
        """Have IPv6 set up on devices that are down: nothing was sent or accepted on them."""
        lines = (f"{one.interface} {int(not one.ipv6)}\n" for one in attachments)
        self._channel.send("".join(lines).encode())
        self._report()

    def stay(self, started: int) -> None:
        """Record who it is, and tell it to stay."""
        starts = process.start_time(self._monitor), process.start_time(self.pid)
        if None in starts:
            raise KernelError("start the sandbox", f"pod {self._name}: its process died", 10)
        record = RunRecord(
            run=self._starting.run, boot=process.boot_id(), monitor=self._monitor,
            monitor_start=starts[0] or 0, pid=self.pid, pid_start=starts[1] or 0, started=started,
        )  # fmt: skip
        path = self._starting.paths.run_record
        files.write_atomic(path, files.dump(record), durable=False)
        self._channel.send(b"stay")
        self._report()

    def __enter__(self) -> _Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()


def _home(connection: connections.Connection) -> int:
    """The network namespace from which published ports are led to the pod."""
    home = connection.home()
    return home if home >= 0 else os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _make_cgroups(pod: Pod, *, new: bool) -> int:
    """Make the cgroup of the pod's containers with its limits, and the holder's; -1 for none.

    With containers in it (not `new`) only the holder's.
    """
    is_rootless = userns.inside()
    limited: oci.Resources = {}
    if pod.limits != type(pod.limits)():
        from pycontain.engine import limits

        limited = limits.resources(pod.limits, rootless=is_rootless)
    if is_rootless:
        return -1
    try:
        root = cgroup.open_root()
    except KernelError:
        if limited:
            raise
        return -1
    try:
        path = cgroup_path(pod.id)
        if not new:
            pass
        elif limited or (cgroup.read(root, "cgroup.controllers") or "").strip():
            from pycontain.runtime import cgroups

            os.close(cgroups.make(path, limited))
        else:
            os.close(cgroup.make(root, path.removeprefix("/")))
        return cgroup.make(root, f"{_cgroup(pod.id)}/sandbox")
    finally:
        os.close(root)


def _cgroup(identity: str) -> str:
    return os.path.dirname(cgroup_path(identity)).removeprefix("/")


# ---- when its holder was killed ----


def _take_over(layout: Layout, pod: Pod, lost: records.Lost, lock: int) -> None:
    """Have another process hold the namespaces that the containers of a pod go on in: the same run,
    which began when it did.
    """
    starting = Starting(layout, pod, lost.run, lock)
    found = next(_survivors(layout, pod.id), None)
    if found is None:
        raise _is_over(pod)
    pid, start = found
    if "pid" in pod.share:
        raise InvalidState(f"pod {pod.name}: containers outlived its pid namespace")
    connection = connections.rejoin(starting)
    own: list[int] = []
    try:
        letters = _new(pod)
        for kind, letter in _LETTERS.items():
            if letter in letters:
                own.append(handover.open_namespace(f"/proc/{pid}/ns/{_NAMESPACES[kind]}"))
        namespaces = [*own]
        if "ipc" in pod.share:
            own.append(handover.copy_mount(pid, specs.SHM))
        own += _memory(layout, pod, _survivors(layout, pod.id))
        if process.start_time(pid) != start:
            raise _is_over(pod)
        mounts = own[len(namespaces) :]
        with _Holder(starting, pod, connection, letters.upper(), namespaces, mounts) as holder:
            holder.stay(lost.started or time.time_ns())
    finally:
        connection.held.close()
        _close(own)


def _is_over(pod: Pod) -> InvalidState:
    return InvalidState(f"pod {pod.name}: its last container has ended", "try again")


# ---- ending ----


def stop(layout: Layout, pod: Pod) -> bool:
    """End a sandbox that no container runs in any more; the pod's lock is held.

    Returns:
        Whether it ended here.

    Raises:
        PycontainError: what it had cannot be given back.
    """
    paths = layout.pod(pod.id)
    try:
        status = records.status(paths)
    except records.Lost as lost:
        _settle(layout, pod, lost)
        return True
    record = records.load_run(paths)
    if status.state != "running" or record is None:
        return False
    _end(record)
    code = 128 + signal.SIGTERM
    ended = ExitRecord(
        run=record.run, code=code, signal=int(signal.SIGTERM), started=record.started,
        finished=time.time_ns(),
    )  # fmt: skip
    # First: of one that has ended nobody looks what it had. Killed in between, it counts as lost.
    clear(layout, pod.id)
    records.write_exit(paths, ended)
    return True


def end_for_good(layout: Layout, pod: Pod) -> None:
    """End a sandbox that is about to be removed, in which no container runs; the lock is held.

    Nothing is written down, which on a full disk could not be done.

    Raises:
        PycontainError: it cannot be ended.
    """
    paths = layout.pod(pod.id)
    try:
        record = records.load_run(paths)
        if records.status(paths).state == "running" and record is not None:
            _end(record)
    except records.Lost:
        return
    except StoreError as err:
        # Damaged: nobody knows who it is. What is in its cgroup is killed, ``clear``.
        if is_shortage(err):
            raise


def _end(record: RunRecord) -> None:
    pidfd = process.open_process(record.monitor, record.monitor_start)
    if pidfd is None:
        return
    try:
        process.send_signal(pidfd, signal.SIGTERM)
        if not wait_readable((pidfd,), _PATIENCE):
            process.send_signal(pidfd, signal.SIGKILL)
            wait_readable((pidfd,), None)
    finally:
        os.close(pidfd)


def _settle(layout: Layout, pod: Pod, lost: records.Lost) -> None:
    """Record the end of a run whose holder was killed, and in which no container runs."""
    clear(layout, pod.id)
    record = ExitRecord(
        run=lost.run, code=_KILLED if lost.reason == "monitor lost" else 255,
        started=lost.started, reason=lost.reason,
    )  # fmt: skip
    records.write_exit(layout.pod(pod.id), record)


def settle(layout: Layout, pod: Pod) -> None:
    """Give back what a killed holder left, once no container runs in its sandbox; the pod's lock is
    held.

    Raises:
        PycontainError: it cannot be given back.
    """
    try:
        records.status(layout.pod(pod.id))
    except records.Lost as lost:
        if lost.reason != "monitor lost" or not is_inhabited(layout, pod.id):
            _settle(layout, pod, lost)


def clear(layout: Layout, identity: str) -> None:
    """Give back what a sandbox that does not run had: places in networks, and its cgroups.

    Raises:
        PycontainError: it cannot be given back.
    """
    connections.leave(layout, identity)
    if userns.inside():
        return
    try:
        root = cgroup.open_root()
    except KernelError:
        return  # no cgroup2 here, so none was made
    try:
        cgroup.remove(root, _cgroup(identity))
    finally:
        os.close(root)


def files_of(layout: Layout, options: RunOptions, own: ContainerPaths) -> tuple[str, str, str]:
    """Return hosts, hostname and resolv.conf of a container: in a pod, what it shares is the pod's.

    Args:
        layout: of the store.
        options: of the container.
        own: its paths.

    Raises:
        NotFound: there is no such pod.
    """
    pod: PodPaths = layout.pod(options.pod)
    mode = f"container:{options.pod}"
    # One on the host's network joins nobody's.
    shares = options.network == "host" and "net" in load(layout, options.pod).share
    net = pod if shares or options.network == mode else own
    uts = pod if options.uts == mode else own
    return net.hosts, uts.hostname, net.resolv_conf


def check(layout: Layout, pod: Pod) -> None:
    """Refuse what this machine cannot keep of a new pod.

    Raises:
        InvalidInput: its options contradict each other.
        NotSupported: limits, or an ordinary user's networks.
    """
    connections.check(as_container(pod).options, layout)
    if pod.limits != type(pod.limits)():
        from pycontain.engine import limits

        limits.resources(pod.limits, rootless=userns.inside())


def modes(pod: Pod) -> dict[str, str]:
    """Return the fields of ``RunOptions`` by which a container joins a pod's namespaces."""
    shared = [KINDS[kind] for kind in pod.share if kind != "net" or pod.network != "host"]
    found = dict.fromkeys(shared, f"container:{pod.id}")
    if "net" in pod.share and pod.network == "host":
        found["network"] = "host"
    return found


def has_cgroups() -> bool:
    """Whether containers of pods have cgroups here."""
    if userns.inside():
        return False
    try:
        os.close(cgroup.open_root())
    except NotSupported:
        return False
    return True
