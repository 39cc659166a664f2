"""``create``, ``run`` and ``start``: from a bundle to a running process."""

from __future__ import annotations

import errno
import os
import select

from pycontain.errors import (
    InvalidInput,
    InvalidState,
    KernelError,
    NotSupported,
    PycontainError,
    kernel_error,
)
from pycontain.kernel import capability, devices, mount, process, userns
from pycontain.oci import document, foreground, log, sockets, state
from pycontain.oci.flags import NUMBER, SWITCH, VALUE, Flag
from pycontain.runtime import cgroups, check, plan, privileges, runner, seccomp
from pycontain.runtime.handover import open_native
from pycontain.runtime.resources import writes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.model import oci
    from pycontain.oci.main import Command
    from pycontain.oci.state import Container
    from pycontain.runtime.steps import Handle

_NO_CGROUP = (errno.EACCES, errno.EPERM, errno.EROFS)
FLAGS = (
    Flag("bundle b", VALUE, "folder with config.json; the current folder by default"),
    Flag("console-socket", VALUE, "unix socket that gets the other end of the terminal"),
    Flag("pidfd-socket", VALUE, "unix socket that gets a pidfd of the process"),
    Flag("pid-file", VALUE, "file for the process's pid"),
    Flag("no-pivot", SWITCH, "leave the old root by chroot, where it is an initramfs"),
    Flag("no-new-keyring", SWITCH, "keep the caller's session keyring"),
    Flag("preserve-fds", NUMBER, "pass this many descriptors on, from 3 upwards"),
)
RUN_FLAGS = (
    *FLAGS,
    Flag("detach d", SWITCH, "do not wait for the end"),
    Flag("keep", SWITCH, "do not delete the container when it has ended"),
    Flag("no-subreaper", SWITCH, "leave orphans of the container to somebody else"),
)


def create(command: Command) -> int:
    """``create``: everything but the program itself."""
    with _create(command, detached=True) as container:
        container.state.complete = True
        container.save()
    return 0


def run(command: Command) -> int:
    """``run``: create, start, and unless it is detached, wait and delete."""
    values = command.values
    detached = values.on("detach")
    if not detached:
        foreground.hold_signals()
        if not values.on("no-subreaper"):
            process.become_subreaper()
    terminal = foreground.Terminal()
    with _create(command, detached=detached, terminal=terminal) as container:
        container.state.complete = True
        container.save()
        pid = container.state.pid
        try:
            begin(container)
        except BaseException:
            destroy(container)
            raise
        if detached:
            return 0
        code = foreground.wait(pid, terminal)
        if not values.on("keep"):
            destroy(container)
    return code


def start(command: Command) -> int:
    """``start``: let the created process become its program."""
    with state.find(command.root, command.identity()) as container:
        container.lock()
        status = container.status()
        if status != "created":
            raise InvalidState(f"container {container.id} cannot be started: it is {status}")
        begin(container)
    return 0


def begin(container: Container) -> None:
    """Say start, and wait until the program runs.

    Raises:
        InvalidState: the process is gone.
        PycontainError: a startContainer hook failed, or the program cannot be executed.
    """
    spec = container.config()
    if "process" not in spec:
        raise InvalidInput("config.json: process: missing: there is nothing to start")
    try:
        fifo = os.open(state.FIFO, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC,
                       dir_fd=container.folder)  # fmt: skip
    except OSError as err:
        # ENXIO: nobody has it open for reading (fifo(7)).
        raise InvalidState(
            f"container {container.id} cannot be started: its process is gone"
        ) from err
    try:
        os.write(fifo, b"0")
        os.unlink(state.FIFO, dir_fd=container.folder)
        # The reader's end closes on exec, or when it dies.
        poller = select.poll()
        poller.register(fifo, 0)
        while not poller.poll():
            pass
    finally:
        os.close(fifo)
    _raise_late_failure(container)
    try:
        for hook in _hooks(spec, "poststart"):
            _run_hook(hook, container, "running")
    except PycontainError:
        # runtime.md, "Lifecycle", step 10: an error, and the container is stopped.
        end(container)
        raise


def _raise_late_failure(container: Container) -> None:
    file = os.open(state.FAILURE, os.O_RDONLY | os.O_CLOEXEC, dir_fd=container.folder)
    try:
        failure = runner.late_failure(container.state.late, file)
    finally:
        os.close(file)
    if failure:
        raise failure


def _create(
    command: Command, *, detached: bool, terminal: foreground.Terminal | None = None
) -> Container:
    values = command.values
    # First of all: whatever we open takes the lowest number that is free.
    inherit = inherit_count(values.number("preserve-fds"))
    identity = command.identity()
    bundle = os.path.abspath(values.text("bundle") or ".")
    spec = check.check(document.load(f"{bundle}/config.json"))
    check_terminal(spec.get("process", {}), values.text("console-socket"), detached=detached)
    _absolute_sources(spec, bundle)
    if command.rootless:
        _bind_cgroups(spec)
    if "process" in spec:
        grant(spec["process"], spec.get("linux", {}))
    entered = enter_user_namespace(spec) if os.geteuid() else False
    new = state.State(bundle, _rootfs(spec, bundle), log.now())
    new.annotations = spec.get("annotations", {})
    new.rootless = command.rootless
    new.cgroup = "" if entered else state.cgroup_path(spec, identity)
    container = state.claim(command.root, identity, new)
    creation = _Creation(command, container, spec, terminal, inherit, entered)
    try:
        creation.run()
    except BaseException:
        creation.undo()
        os.close(container.folder)
        raise
    return container


def check_terminal(process: oci.Process, socket: str, *, detached: bool) -> None:
    """Refuse a terminal that nobody would serve, and a socket that nothing would go to.

    Raises:
        InvalidInput: with the reason.
    """
    wanted = process.get("terminal", False)
    if wanted and detached and not socket:
        raise InvalidInput("a terminal needs --console-socket where nobody stays to serve it")
    if socket and not (wanted and detached):
        raise InvalidInput("--console-socket: the process has no terminal, or its caller serves it")


def console_size(process: oci.Process) -> tuple[int, int]:
    """Return rows and columns of the terminal, zeros where nothing is said."""
    size = process.get("consoleSize", {"height": 0, "width": 0})
    return size["height"], size["width"]


def hand_listener_over(container: Container, spec: oci.Spec, fd: int, pid: int) -> None:
    """Send a seccomp listener to its agent (config-linux.md, "The Container Process State").

    Raises:
        KernelError: the agent does not listen.
    """
    profile = spec["linux"]["seccomp"]
    report = {
        "ociVersion": state.SPEC_VERSION,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": profile.get("listenerMetadata", ""),
        "state": container.report_as(container.status(), container.state.pid),
    }
    sockets.send(profile["listenerPath"], document.dump(report).encode(), fd)


def _rootfs(spec: oci.Spec, bundle: str) -> str:
    if "root" not in spec:
        raise InvalidInput("config.json: root: missing")
    path = os.path.normpath(os.path.join(bundle, spec["root"]["path"]))
    if not os.path.isdir(path):
        raise InvalidInput(f"config.json: root.path: {path}: not a folder")
    return path


def _absolute_sources(spec: oci.Spec, bundle: str) -> None:
    """A bind's source may be relative to the bundle (config.md, "Mounts")."""
    for entry in spec.get("mounts", []):
        source = entry.get("source", "")
        options = entry.get("options", [])
        if entry.get("type") == "bind" or "bind" in options or "rbind" in options:
            if not source:
                raise InvalidInput(f"mount {entry['destination']}: a bind needs a source")
            entry["source"] = os.path.join(bundle, source)


def _bind_cgroups(spec: oci.Spec) -> None:
    """Show the host's cgroups where a user namespace may not mount them: without a cgroup namespace
    of its own (cgroup_namespaces(7)).
    """
    namespaces = spec.get("linux", {}).get("namespaces", [])
    if any(entry["type"] == "cgroup" and not entry.get("path") for entry in namespaces):
        return
    for entry in spec.get("mounts", []):
        if entry.get("type") in ("cgroup", "cgroup2"):
            entry["type"], entry["source"] = "bind", "/sys/fs/cgroup"
            entry["options"] = ["rbind", *entry.get("options", [])]


def grant(process: oci.Process, linux: oci.Linux) -> None:
    """Take out of the capabilities of `process` what cannot be granted, with a warning."""
    if "capabilities" not in process:
        return
    limit = None if has_user_namespace(linux) else capability.bounding_set()
    process["capabilities"], refused = privileges.grantable(process["capabilities"], limit)
    if refused:
        log.warn(f"capabilities that cannot be granted are left out: {', '.join(refused)}")


def _hooks(spec: oci.Spec, kind: str) -> Sequence[oci.Hook]:
    hooks: Sequence[oci.Hook] = spec.get("hooks", {}).get(kind, [])  # type: ignore[assignment]
    return hooks


def _run_hook(hook: oci.Hook, container: Container, status: str) -> None:
    path = hook["path"]
    report = document.dump(container.report_as(status, container.state.pid))
    runner.run_hook(
        path, hook.get("args") or [path], hook.get("env", []), hook.get("timeout", 0), report
    )


class _Creation:
    """One create: what it opens, makes, and takes back when it fails."""

    def __init__(
        self,
        command: Command,
        container: Container,
        spec: oci.Spec,
        terminal: foreground.Terminal | None,
        inherit: int,
        entered: bool,
    ) -> None:
        self.entered = entered
        self.command = command
        self.values = command.values
        self.container = container
        self.spec = spec
        self.terminal = terminal
        self.inherit = inherit
        self.own: list[int] = []
        self.cgroup_made = False

    def run(self) -> None:
        try:
            self._run()
        finally:
            for fd in self.own:
                os.close(fd)

    def _run(self) -> None:
        container, spec = self.container, self.spec
        given = self._streams()
        root = self._keep(mount.clone_tree(container.state.rootfs, recursive=True))
        given[plan.ROOT] = root
        if "process" in spec:
            complete_environment(spec["process"], root)
        container.keep_config(spec)
        given.update(self._wait_files())
        folder = self._cgroup()
        if folder >= 0:
            given[plan.CGROUP] = folder
        linux = spec.get("linux", {})
        steps = plan.container(self.spec, self._settings(linux, folder), self._detached())
        listener = runner.Listener(
            {plan.SYNC_CREATED: self._created, plan.SYNC_HOOKS: self._runtime_hooks},
            console=self._console,
            notify=self._notify,
        )  # fmt: skip
        pid, container.state.late = runner.start(steps, given, listener)
        if path := self.values.text("pidfd-socket"):
            sockets.send_pidfd(path, pid)
        if path := self.values.text("pid-file"):
            write_pid_file(path, pid)

    def _keep(self, fd: int) -> int:
        self.own.append(fd)
        return fd

    def _streams(self) -> dict[Handle, int]:
        given = streams(self.own)
        for number in range(3, 3 + self.inherit):
            given[plan.inherited(number)] = number
        return given

    def _wait_files(self) -> dict[Handle, int]:
        folder = self.container.folder
        os.mkfifo(state.FIFO, 0o600, dir_fd=folder)
        # For both directions: it never comes to its end, whoever opens and closes it.
        fifo = self._keep(os.open(state.FIFO, os.O_RDWR | os.O_CLOEXEC, dir_fd=folder))
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        return {
            plan.FIFO: fifo,
            plan.FAILURE: self._keep(os.open(state.FAILURE, flags, 0o600, dir_fd=folder)),
        }

    def _cgroup(self) -> int:
        path = self.container.state.cgroup
        resources = self.spec.get("linux", {}).get("resources", {})
        limits = sorted({line.file for line in writes(resources) if not line.moot})
        if not path:
            if limits:
                raise NotSupported(
                    "limit resources", ", ".join(limits), errno.EOPNOTSUPP,
                    "an ordinary user has no cgroup of one's own to set them in",
                )  # fmt: skip
            return -1
        try:
            folder = self._keep(cgroups.make(path, resources))
        except KernelError as err:
            # In a user namespace that somebody else made, nobody may have handed a cgroup down.
            if not self.command.rootless or err.errno not in _NO_CGROUP or limits:
                raise
            self.container.state.cgroup = ""
            self.container.save()
            return -1
        self.cgroup_made = True
        owner = _cgroup_owner(self.spec)
        if owner is not None:
            cgroups.give(folder, owner)
        return folder

    def _settings(self, linux: oci.Linux, folder: int) -> plan.Settings:
        return plan.Settings(
            rootless=self.command.rootless or has_user_namespace(linux),
            cgroup=folder >= 0,
            devices=device_program(linux) if folder >= 0 and not self.command.rootless else None,
            seccomp=seccomp_filter(linux, self.command.root),
            size=console_size(self.spec.get("process", {})),
        )

    def _detached(self) -> plan.Detached:
        return plan.Detached(
            keyring=not self.values.on("no-new-keyring"),
            pivot=not self.values.on("no-pivot"),
            rootfs=self.container.state.rootfs,
            entered=self.entered,
            inherit=self.inherit,
            state={
                "createContainer": around_pid(self.container, "creating"),
                "startContainer": around_pid(self.container, "created"),
            },
        )

    def _created(self, pid: int) -> None:
        container = self.container
        container.state.pid = pid
        container.state.start = process.start_time(pid) or 0
        container.save()

    def _runtime_hooks(self, _: int) -> None:
        for kind in ("prestart", "createRuntime"):
            for hook in _hooks(self.spec, kind):
                _run_hook(hook, self.container, "creating")

    def _console(self, fd: int) -> None:
        if path := self.values.text("console-socket"):
            sockets.send_console(path, fd)
        elif self.terminal is not None:
            self.terminal.take(fd)

    def _notify(self, fd: int, pid: int) -> None:
        hand_listener_over(self.container, self.spec, fd, pid)

    def undo(self) -> None:
        """Take back what a failed creation made; what cannot be taken back is logged."""
        container = self.container
        try:
            if self.cgroup_made:
                state.remove_cgroup(container.state.cgroup)
            if container.state.pid:
                run_poststop(container, self.spec)
            state.remove(container)
        except PycontainError as err:
            log.warn(f"create: undoing it: {err}")


def _cgroup_owner(spec: oci.Spec) -> int | None:
    """Who may make cgroups below the container's: its root, where it is shown them writable
    (config-linux.md, "Cgroup ownership"). The uid on the host; None for nobody else.
    """
    linux = spec.get("linux", {})
    new = {entry["type"] for entry in linux.get("namespaces", []) if not entry.get("path")}
    writable = any(
        entry.get("type") in ("cgroup", "cgroup2") and "ro" not in entry.get("options", [])
        for entry in spec.get("mounts", [])
    )
    if not writable or not {"user", "cgroup"} <= new:
        return None
    for entry in linux.get("uidMappings", []):
        if entry["containerID"] == 0:
            return entry["hostID"]
    return None


def run_poststop(container: Container, spec: oci.Spec) -> None:
    """Run the poststop hooks: a failure is logged (runtime.md, "Lifecycle", step 13)."""
    for hook in _hooks(spec, "poststop"):
        try:
            _run_hook(hook, container, "stopped")
        except PycontainError as err:
            log.warn(f"poststop: {err}")


def destroy(container: Container) -> None:
    """Kill what is left of a container and remove all that was made for it.

    Raises:
        KernelError, StoreError: something cannot be removed.
    """
    end(container)
    if container.state.cgroup:
        state.remove_cgroup(container.state.cgroup)
    spec: oci.Spec = container.config() if container.state.pid else {}
    state.remove(container)
    run_poststop(container, spec)


def end(container: Container) -> None:
    """Kill the container's first process, if it runs, and wait until it has ended."""
    if not container.alive():
        return
    pidfd = container.pidfd()
    try:
        process.send_signal(pidfd, 9)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(10_000):
            raise KernelError("kill", f"container {container.id}", 110)
    finally:
        os.close(pidfd)


def around_pid(container: Container, status: str) -> tuple[str, str]:
    """Return a state's text before and after a pid that is not known yet."""
    text = document.dump(container.report_as(status, 0))
    return '{"pid":', "," + text[1:]


def enter_user_namespace(spec: oci.Spec) -> bool:
    """Bring an ordinary user's command into the user namespace that the container is to have.

    Only there may it mount anything. True: done.

    Raises:
        InvalidInput: the configuration has none.
        NotPermitted, NotSupported: it cannot be made.
    """
    linux = spec.get("linux", {})
    if not any(e["type"] == "user" and not e.get("path") for e in linux.get("namespaces", [])):
        raise InvalidInput("linux.namespaces: an ordinary user's container needs a user namespace")
    uids, gids = (
        [(entry["containerID"], entry["hostID"], entry["size"]) for entry in entries]
        for entries in (linux.get("uidMappings", []), linux.get("gidMappings", []))
    )
    if not uids or not gids:
        raise InvalidInput("linux: a user namespace needs uidMappings and gidMappings")
    userns.enter_new(uids, gids, open_native)
    return True


def has_user_namespace(linux: oci.Linux) -> bool:
    """Whether the container lives in a user namespace that is not ours."""
    return any(entry["type"] == "user" for entry in linux.get("namespaces", []))


def device_program(linux: oci.Linux) -> bytes:
    """Return the device program: nothing but what the configuration and every container allow."""
    rules: list[oci.DeviceRule] = [*devices.DEFAULT_RULES[:1]]
    rules += linux.get("resources", {}).get("devices", [])
    rules += devices.DEFAULT_RULES[1:]
    return devices.program(rules)


def seccomp_filter(linux: oci.Linux, root: str) -> tuple[bytes, int] | None:
    """Return the compiled filter, from a cache beside the containers under a name that is no id."""
    profile = linux.get("seccomp")
    if profile is None:
        return None
    compiled = seccomp.compile_filter(profile, f"{root}/@seccomp")
    return compiled.program, compiled.flags


def streams(own: list[int]) -> dict[Handle, int]:
    """Return our standard streams as a plan's; /dev/null stands in for closed ones."""
    given = {}
    for number, handle in enumerate(runner.STREAMS):
        try:
            os.fstat(number)
            given[handle] = number
        except OSError:
            own.append(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
            given[handle] = own[-1]
    return given


def complete_environment(process: oci.Process, root: int) -> None:
    """Add what programs count on: HOME as the passwd of the root says, and LISTEN_PID.

    Raises:
        PycontainError: passwd cannot be read.
    """
    lines = process.setdefault("env", [])
    if not any(line.startswith("HOME=") for line in lines):
        from pycontain.runtime import accounts

        uid = process.get("user", {}).get("uid", 0)
        lines.append(f"HOME={accounts.home(root, uid)}")
    if _listen_fds():
        # sd_listen_fds(3): the program is the first process of its pid namespace.
        lines += [f"LISTEN_FDS={_listen_fds()}", "LISTEN_PID=1"]


def _listen_fds() -> int:
    count = os.environ.get("LISTEN_FDS", "")
    if not count.isdecimal() or os.environ.get("LISTEN_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    return int(count)


def inherit_count(asked: int) -> int:
    """Return how many descriptors from 3 on are passed on: those asked for, and LISTEN_FDS.

    Raises:
        InvalidInput: one of them is not open.
    """
    count = asked + _listen_fds()
    if count < 0:
        raise InvalidInput("--preserve-fds: negative")
    for number in range(3, 3 + count):
        try:
            os.fstat(number)
        except OSError:
            raise InvalidInput(f"--preserve-fds: descriptor {number} is not open") from None
    return count


def write_pid_file(path: str, pid: int) -> None:
    """Write a pid file, whole or not at all.

    Raises:
        KernelError: it cannot be written.
    """
    folder, _, name = os.path.abspath(path).rpartition("/")
    temporary = f"{folder}/.{name}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.write(fd, str(pid).encode())
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as err:
        raise kernel_error("write pid file", path, err.errno or 0) from err
