"""The walk from a container's document to its running process, and the same for ``exec``.

Joins what the subsystems know: the root file system, the account, the OCI configuration, the plan,
the cgroup, the monitor.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pycontain import trace
from pycontain.engine import connections, events, hostdevices, hostfiles, records, zone
from pycontain.errors import InvalidInput, InvalidState, KernelError, PycontainError, StoreError
from pycontain.kernel import cgroup, devices, mount, process
from pycontain.model.container import Limits, cgroup_path
from pycontain.runtime import accounts, handover, lifecycle, plan, privileges, seccomp
from pycontain.runtime import spec as specs
from pycontain.runtime.mounts import keep_cgroup_options
from pycontain.runtime.steps import Handle, Step, handles
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pycontain.engine.containers import View
    from pycontain.engine.volume_mounts import Opened
    from pycontain.model import oci
    from pycontain.model.container import Container, ExecOptions, Mount, RunOptions, RunRecord
    from pycontain.runtime.attachment import Attachment
    from pycontain.store.layout import ContainerPaths, Layout

INIT = "/dev/init"
FOLDER = Handle("given", "container folder")
STATE = Handle("given", "state folder")
LOCK = Handle("given", "lock")
PROCESS = Handle("given", "container process")
LEASH = Handle("given", "calling process")
EVENTS = Handle("given", "events folder")
_LIMITS = Limits.__struct_fields__
_EXEC_NAMESPACES = ("mount", "uts", "ipc", "network", "pid", "cgroup")
_CLEANUP = """\
import sys
sys.path.extend(sys.argv[4:])
from pycontain.engine import Engine
Engine(sys.argv[1], sys.argv[2]).containers.cleanup(sys.argv[3])
"""
_LEAVE = """\
import sys
sys.path.extend(sys.argv[5:])
from pycontain.engine.connections import clean_up
clean_up(*sys.argv[1:5])
"""
_WAKE = """\
import sys
sys.path.extend(sys.argv[5:])
from pycontain.engine.supervision import wake_after_end
wake_after_end(*sys.argv[1:3])
"""


class Joined(NamedTuple):
    """Another container's process, some of whose namespaces are joined."""

    pid: int
    start: int


class Order(NamedTuple):
    """What is to be started.

    Attributes:
        run: id of this run.
        joined: OCI namespace type → the process whose namespace it is.
        attach, stdin: what of the caller stays connected.
        leash: it ends when the calling process does.
        size: rows and columns.
        lock: descriptor of the container's lock, which the monitor holds till the run is recorded.
        caller: pidfd of the calling process, None for this one.
        descriptors: what the program finds open from 3 on.
    """

    layout: Layout
    paths: ContainerPaths
    container: Container
    run: str
    rootless: bool
    joined: dict[str, Joined]
    attach: bool
    stdin: bool
    leash: bool
    size: tuple[int, int] | None
    lock: int
    caller: int | None = None
    descriptors: tuple[int, ...] = ()


class Cgroup(NamedTuple):
    """Descriptors of the two cgroups of a container."""

    container: int
    monitor: int


def joined_namespaces(
    options: RunOptions, find: Callable[[str, str], tuple[int, int]]
) -> dict[str, Joined]:
    """Return which namespaces of other containers `options` joins.

    Args:
        options: the modes.
        find: returns pid and start time of a container's process, given the OCI namespace type
            and what the user calls the container.

    Raises:
        PycontainError: what `find` raises.
    """
    modes = {"network": options.network, "pid": options.pid, "ipc": options.ipc,
             "uts": options.uts, "cgroup": options.cgroupns}  # fmt: skip
    found = {}
    for kind, mode in modes.items():
        if mode.startswith("container:"):
            found[kind] = Joined(*find(kind, mode.partition(":")[2]))
    return found


def launch(order: Order, on_finish: Callable[[], None]) -> Attachment:
    """Start a container; undo what was made for it when that fails.

    Raises:
        PycontainError: the step that failed.
    """
    container, paths = order.container, order.paths
    own: list[int] = []
    opened: Opened | None = None
    files.make_folder(paths.state_folder)
    events.write_about(paths, container)
    with trace.Span("connect to networks"):
        connection = connections.connect(order)
    try:
        with trace.Span("make the cgroup"):
            limited = _limits(order)
            groups = None if order.rootless else _make_cgroup(container, limited)
        own += groups or ()
        with trace.Span("mount the root file system"):
            root = _root(order, nodev=groups is None)
        own.append(root)
        opened = _open_volumes(order, root)
        with trace.Span("build configuration and plan"):
            steps = _settings(order) + connection.settings()
            locks = opened.locks() if opened else {}
            steps += [Step("hold", handle) for handle in locks]
            steps += prepare(order, root, limited, groups is not None, opened, connection)
        given = {plan.ROOT: root, LOCK: order.lock, **connection.held.given()}
        if opened:
            given |= locks
            given |= {plan.handed(target): fd for target, fd in opened.given.items()}
        given |= {plan.inherited(3 + at): fd for at, fd in enumerate(order.descriptors)}
        shm = plan.handed(specs.SHM)
        if shm in handles(steps):
            given[shm] = handover.copy_mount(order.joined["ipc"].pid, specs.SHM)
            own.append(given[shm])
        folders = {FOLDER: paths.folder, STATE: paths.state_folder, EVENTS: order.layout.events}
        for handle, folder in folders.items():
            given[handle] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            own.append(given[handle])
        if groups:
            given[plan.CGROUP] = groups.container
        if order.leash:
            given[LEASH] = _open_caller(order.caller)
            own.append(given[LEASH])
        home = connection.home()
        own += [home] if home >= 0 else []
        monitor = lifecycle.start(
            steps, given, title=f"pycontain-monitor {container.name}",
            cgroup=groups.monitor if groups else -1,
            opened=lambda: _check_joined(order.joined), network=home,
        )  # fmt: skip
    except (PycontainError, OSError):
        connection.undo()
        raise
    finally:
        connection.held.close()
        for fd in own:
            os.close(fd)
        if opened:
            opened.close()
    monitor.close()
    monitor.attachment.on_finish = on_finish if is_cleaned(container.options) else None
    monitor.attachment.run = order.run
    return monitor.attachment


def is_cleaned(options: RunOptions) -> bool:
    """Whether something is due when such a container ends: its removal, giving back what it has in
    networks, or seeing that there is somebody to start it again.
    """
    return options.remove or bool(options.networks) or _is_cared_for(options)


def _is_cared_for(options: RunOptions) -> bool:
    """Whether the supervisor has to hear of the end of such a container."""
    return options.restart is not None or options.is_kept


def _open_caller(caller: int | None) -> int:
    return os.pidfd_open(os.getpid()) if caller is None else os.dup(caller)


def _check_joined(joined: Mapping[str, Joined]) -> None:
    """The namespaces are open by path: were they still those of the processes that we meant?"""
    for kind, other in joined.items():
        if process.start_time(other.pid) != other.start:
            raise InvalidState(f"join {kind} namespace: the other container has ended")


def _limits(order: Order) -> oci.Resources:
    """The limits as ``linux.resources``; refused where they cannot be kept."""
    options = order.container.options
    if not any(getattr(options, name) for name in _LIMITS):
        return {}
    from pycontain.engine import limits

    return limits.resources(options, rootless=order.rootless)


def _make_cgroup(container: Container, limited: oci.Resources) -> Cgroup | None:
    """Make the container's cgroup with its limits, and the monitor's, which has none of them."""
    try:
        root = cgroup.open_root()
    except KernelError:
        if limited or container.options.cgroup_parent:
            raise
        return None  # without one: no device rules, so no CAP_MKNOD and nodev (see prepare)
    path = cgroup_path(container.id, container.options.cgroup_parent)
    try:
        # One without controllers needs no more than folders.
        if limited or (cgroup.read(root, "cgroup.controllers") or "").strip():
            from pycontain.runtime import cgroups

            inner = cgroups.make(path, limited)
        else:
            inner = cgroup.make(root, path.removeprefix("/"))
        try:
            return Cgroup(inner, cgroup.make(root, f"pycontain/{container.id}/monitor"))
        except KernelError:
            os.close(inner)
            raise
    finally:
        os.close(root)


def _root(order: Order, *, nodev: bool) -> int:
    layers = [order.layout.layer(layer) for layer in order.container.layers]
    return mount.overlay(
        layers, order.paths.upper, order.paths.work,
        attributes=mount.ATTR_NODEV if nodev else 0, user_xattr=order.rootless,
    )  # fmt: skip


def _open_volumes(order: Order, root: int) -> Opened | None:
    """The volumes and images of the container, None where it has none."""
    mounts = specs.all_mounts(order.container)
    kinds = {entry.type for entry in mounts if _is_opened(entry)}
    if not kinds:
        return None
    from pycontain.engine import volume_mounts

    with trace.Span("open the volumes"):
        opened = volume_mounts.open_all(
            order.layout, order.container, root,
            rootless=order.rootless, durable=not records.is_volatile(order.paths),
        )  # fmt: skip
    if "tmpfs" in kinds:
        from pycontain.engine import memory

        try:
            memory.open_all(order.layout, order.container, opened)
        except BaseException:
            opened.close()
            raise
    return opened


def _is_opened(entry: Mount) -> bool:
    """Whether a mount is more than a path of the host or a new tmpfs."""
    if entry.type == "bind":
        return bool(entry.subpath)
    return entry.type != "tmpfs" or bool(entry.source)


def prepare(
    order: Order,
    root: int,
    limited: oci.Resources,
    cgroup_made: bool,
    opened: Opened | None,
    connection: connections.Connection,
) -> list[Step]:
    """Return the kernel steps of a container, and keep its OCI configuration.

    Raises:
        PycontainError: an option that cannot be carried out here.
    """
    # Made anew for each start: servers change, and after a power cut these files may be empty.
    attachments = connection.attachments
    hostfiles.write(
        order.paths, order.container.options, _hostname(order), attachments, connection.host()
    )
    if order.container.options.tz:
        zone.write(root, order.container.options.tz)
    account = _account(order, root)
    spec = _spec(order, account, limited, opened, device_rules=cgroup_made)
    if not order.rootless:
        keep_cgroup_options(spec)
    files.write_atomic(order.paths.spec, msgspec.json.encode(spec), durable=False)
    mounts = specs.all_mounts(order.container)
    for entry in mounts:
        if entry.type != "bind" or os.path.exists(entry.source):
            continue
        if not entry.make_source or entry.subpath:
            raise InvalidInput(
                'invalid mount config for type "bind": bind source path does not exist:'
                f" {entry.source}"
            )
        try:
            os.makedirs(entry.source)
        except OSError as err:
            raise StoreError(
                f"bind {entry.source}: cannot be made: {os.strerror(err.errno or 0).lower()}"
            ) from err
    if any(entry.chown for entry in mounts):
        from pycontain.engine import volume_mounts

        volume_mounts.give_files(order.container, opened, account.uid, account.gid)
    settings = _plan_settings(order, spec, cgroup_made, opened)
    settings.links = connection.links()
    return plan.container(spec, settings)


def _account(order: Order, root: int) -> accounts.Account:
    options = order.container.options
    user = options.user if options.user is not None else order.container.config.user
    return accounts.lookup(root, user, options.group_add)


def _plan_settings(
    order: Order, spec: oci.Spec, cgroup_made: bool, opened: Opened | None = None
) -> plan.Settings:
    linux = spec.get("linux", {})
    rules = linux.get("resources", {}).get("devices")
    shares = specs.foreign_shm(spec, _shm_source(order))
    return plan.Settings(
        rootless=order.rootless,
        cgroup=cgroup_made,
        devices=devices.program(rules) if rules and cgroup_made else None,
        seccomp=_filter(order.layout, linux),
        size=order.size or (0, 0),
        inherit=len(order.descriptors),
        handed=(*((specs.SHM,) if shares else ()), *(opened.given if opened else ())),
    )


def _shm_source(order: Order) -> str:
    """Return what the OCI configuration names as another container's /dev/shm, empty for none."""
    other = order.joined.get("ipc")
    return f"/proc/{other.pid}/root{specs.SHM}" if other else ""


def _filter(layout: Layout, linux: oci.Linux) -> tuple[bytes, int] | None:
    profile = linux.get("seccomp")
    if profile is None:
        return None
    compiled = seccomp.compile_filter(profile, layout.cache)
    return compiled.program, compiled.flags


def _spec(
    order: Order,
    account: accounts.Account,
    limited: oci.Resources,
    opened: Opened | None,
    *,
    device_rules: bool,
) -> oci.Spec:
    container, options = order.container, order.container.options
    mounts = specs.all_mounts(container)
    folders = (
        opened.folders
        if opened
        else {entry.target: entry.source or order.paths.volumes for entry in mounts}
    )
    host_devices = {device.source: hostdevices.nodes(device.source) for device in options.devices}
    if options.privileged:
        host_devices["/dev"] = hostdevices.every()
    joined = {kind: f"/proc/{other.pid}/ns/{_file(kind)}" for kind, other in order.joined.items()}
    init = f"{handover.NATIVE}/init" if options.init else ""
    bound = specs.BoundFiles(*_etc(order), init)
    return specs.build(
        options, container.config, account,
        container_id=container.id,
        hostname=_hostname(order),
        files=bound,
        namespaces=specs.namespaces(options, joined),
        rootless=order.rootless,
        init_path=INIT if options.init else "",
        volume_folders=folders,
        mounts=mounts,
        shm_source=_shm_source(order),
        host_devices=host_devices,
        device_rules=device_rules,
        console_size=order.size,
        resources=limited,
    )  # fmt: skip


def _etc(order: Order) -> tuple[str, str, str]:
    """Hosts, hostname and resolv.conf of the container."""
    paths = order.paths
    if not order.container.options.pod:
        return paths.hosts, paths.hostname, paths.resolv_conf
    from pycontain.engine import sandbox

    return sandbox.files_of(order.layout, order.container.options, paths)


def _hostname(order: Order) -> str:
    options = order.container.options
    if options.pod and options.uts == f"container:{options.pod}":
        from pycontain.engine import sandbox

        return sandbox.hostname(order.layout, options.pod)
    from pycontain.engine.containers import hostname

    return hostname(order.container)


def _file(kind: str) -> str:
    return {"network": "net", "mount": "mnt"}.get(kind, kind)


def _settings(order: Order) -> list[Step]:
    options = order.container.options
    steps = [
        Step("run", order.run, process.boot_id()),
        Step("records", FOLDER, STATE, int(not records.is_volatile(order.paths))),
        Step("owner", handover.OWNER, int(order.attach), int(order.attach and is_cleaned(options))),
        Step("stdio", int(options.tty), int(options.interactive), int(order.stdin)),
        Step("log", options.log_driver, options.log_max_size, options.log_max_files),
        Step("hold", LOCK),
        Step("events", EVENTS, STATE, "start", "die", ""),
    ]
    if options.timeout:
        steps.append(Step("timeout", options.timeout * 1000))
    if order.leash:
        steps.append(Step("leash", LEASH))
    if is_cleaned(options):
        steps.append(Step("cleanup", _cleanup_argv(order), (f"PATH={privileges.DEFAULT_PATH}",)))
    return steps


def _cleanup_argv(order: Order) -> tuple[str, ...]:
    words = (order.layout.root, order.layout.state, order.container.id)
    options = order.container.options
    if options.remove:
        return interpreter(_CLEANUP, *words)
    program = (_WAKE if _is_cared_for(options) else "") + (_LEAVE if options.networks else "")
    return interpreter(program, *words, order.run)


def interpreter(program: str, *words: str) -> tuple[str, ...]:
    """Return the argument vector of an interpreter that finds what this one found, wherever it was
    started from: `program` gets `words`, and behind them the folders to look for modules in.
    """
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    places = dict.fromkeys((here, *(os.path.abspath(path) for path in sys.path if path)))
    return (sys.executable, "-IS", "-c", program, *words, *places)


def explain(order: Order) -> list[str]:
    """Return the steps in words, with nothing made."""
    layers = [order.layout.layer(layer) for layer in order.container.layers]
    limited = _limits(order)
    root = mount.stack(layers, user_xattr=order.rootless)
    try:
        account = _account(order, root)
        spec = _spec(order, account, limited, None, device_rules=not order.rootless)
    finally:
        os.close(root)
    steps = plan.container(spec, _plan_settings(order, spec, not order.rootless))
    place = "" if order.rootless else _planned_cgroup(order.container, limited)
    words = [
        f"take image {order.container.options.image} ({order.container.image_id[:19]})",
        f"stack {len(layers)} layer(s) and an upper layer of its own into an overlay",
        f"copy time zone {order.container.options.tz} to /etc/localtime"
        if order.container.options.tz
        else "",
        place,
        *connections.explain(order.container),
        "start a monitor",
        *(step.text for step in steps),
    ]
    return [line.replace(order.container.id, "<id>") for line in words if line]


def _planned_cgroup(container: Container, limited: oci.Resources) -> str:
    path = cgroup_path(container.id, container.options.cgroup_parent).removeprefix("/")
    if not limited:
        return f"make cgroup {path}"
    from pycontain.runtime.resources import writes

    lines = ", ".join(f"{line.file}={line.text}" for line in writes(limited))
    return f"make cgroup {path} with {lines}"


def execute(
    view: View,
    record: RunRecord,
    options: ExecOptions,
    *,
    layout: Layout,
    rootless: bool,
    leash: bool,
    size: tuple[int, int] | None,
    exec_id: str,
    caller: int | None = None,
) -> Attachment | None:
    """Start a command in a running container; `exec_id` names it in its events.

    `caller` is a pidfd of the process with which a leashed one ends, None for this one.

    Raises:
        InvalidState: the container ended meanwhile.
        PycontainError: the step that failed.
    """
    own: list[int] = []
    name = view.container.name
    try:
        pidfd = process.open_process(record.pid, record.pid_start)
        if pidfd is None:
            raise InvalidState(f"container {name} is not running")
        own.append(pidfd)
        spec: oci.Spec = files.load(view.paths.spec, dict)  # type: ignore[assignment]
        target = _exec_process(view, record, spec, options)
        groups = None if rootless else _open_cgroup(view.container, record.pid)
        own += groups or ()
        flags = sum(plan.CLONE_FLAGS[kind] for kind in _EXEC_NAMESPACES)
        settings = plan.Settings(
            rootless=rootless, cgroup=groups is not None,
            seccomp=_filter(layout, spec.get("linux", {})), size=size or (0, 0),
        )  # fmt: skip
        steps = [
            Step("owner", handover.OWNER, int(not options.detach), 0),
            Step("stdio", int(options.tty), int(options.interactive), int(not options.detach)),
        ]
        if options.timeout:
            steps.append(Step("timeout", int(options.timeout * 1000)))
        given = {PROCESS: pidfd}
        for handle, folder in ((STATE, view.paths.state_folder), (EVENTS, layout.events)):
            given[handle] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            own.append(given[handle])
        start = events.quoted(f"exec_start: {events.command_words(options.command)}")
        steps.append(Step("events", EVENTS, STATE, start, "exec_die", f',"execID":"{exec_id}"'))
        if leash:
            steps.append(Step("leash", LEASH))
            given[LEASH] = _open_caller(caller)
            own.append(given[LEASH])
        steps += plan.execution(target, Step("join", PROCESS, flags), settings)
        if groups:
            given[plan.CGROUP] = groups.container
        monitor = lifecycle.start(
            steps, given, title=f"pycontain-exec {name}", cgroup=groups.monitor if groups else -1
        )
    except KernelError as err:
        # Whatever step it was: the container has ended under it.
        if process.start_time(record.pid) != record.pid_start:
            raise InvalidState(f"container {name} is not running") from err
        raise
    finally:
        for fd in own:
            os.close(fd)
    monitor.close()
    if not options.detach:
        return monitor.attachment
    monitor.attachment.close()
    return None


def _open_cgroup(container: Container, init: int) -> Cgroup | None:
    """The cgroups for a command in a container, None on a host where it could get none.

    They are not made here: one made while the container is being removed would stay for ever.
    """
    try:
        root = cgroup.open_root()
    except KernelError:
        return None
    own: list[int] = []
    path = cgroup_path(container.id, container.options.cgroup_parent)
    try:
        own.append(cgroup.open_beside(root, path, init))
        own.append(cgroup.open_folder(root, f"pycontain/{container.id}/monitor"))
    except FileNotFoundError as err:
        for fd in own:
            os.close(fd)
        raise InvalidState(f"container {container.name} is not running") from err
    finally:
        os.close(root)
    return Cgroup(*own)


def _exec_process(
    view: View, record: RunRecord, spec: oci.Spec, options: ExecOptions
) -> oci.Process:
    """The container's process with another command, and what else was asked for."""
    target = spec["process"].copy()
    target["args"] = list(options.command)
    target["terminal"] = options.tty
    lines = {line.partition("=")[0]: line for line in target.get("env", [])}
    if options.tty and "TERM" not in lines:
        lines["TERM"] = "TERM=xterm"
    if options.user is not None:
        account = _live_account(view, record, options.user)
        target["user"] = {
            "uid": account.uid,
            "gid": account.gid,
            "additionalGids": list(account.additional_gids),
            "umask": target.get("user", {}).get("umask", 0o022),
        }
        granted = target.get("capabilities", {}).get("bounding", [])
        target["capabilities"] = specs.capability_sets(granted, account.uid)
        lines["HOME"] = f"HOME={account.home}"
    lines.update((line.partition("=")[0], line) for line in options.env)
    target["env"] = list(lines.values())
    if options.workdir is not None:
        if not options.workdir.startswith("/"):
            raise InvalidInput(f"working directory {options.workdir!r}: not an absolute path")
        target["cwd"] = options.workdir
    return target


def _live_account(view: View, record: RunRecord, user: str) -> accounts.Account:
    """Look a user up in the running container's own files, through its live root."""
    root = os.open(f"/proc/{record.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Checked after the open: the pid still was the container's.
        if process.start_time(record.pid) != record.pid_start:
            raise InvalidState(f"container {view.container.name} is not running")
        return accounts.lookup(root, user, view.container.options.group_add)
    finally:
        os.close(root)
