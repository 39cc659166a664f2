"""``create`` and ``run``: from a bundle to a process that waits for ``start``."""

from __future__ import annotations

import errno
import os

from pycontain.errors import (
    InvalidInput,
    KernelError,
    NotFound,
    NotSupported,
)
from pycontain.kernel import devices, mount, process
from pycontain.oci import caller, document, ending, foreground, log, start, state
from pycontain.oci.flags import SWITCH, VALUE, Flag
from pycontain.runtime import cgroups, check, plan, runner
from pycontain.runtime.handover import open_native
from pycontain.runtime.mounts import MountWords, keep_cgroup_options
from pycontain.runtime.resources import writes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.kernel import netdevice
    from pycontain.model import oci
    from pycontain.oci import scopes
    from pycontain.oci.main import Command
    from pycontain.oci.state import Container
    from pycontain.runtime.steps import Handle

_NO_CGROUP = (errno.EACCES, errno.EPERM, errno.EROFS)
FLAGS = (
    Flag("bundle b", VALUE, "folder with config.json; the current folder by default"),
    *caller.FLAGS,
    Flag("no-pivot", SWITCH, "leave the old root by chroot, where it is an initramfs"),
    Flag("no-new-keyring", SWITCH, "keep the caller's session keyring"),
)
RUN_FLAGS = (
    *FLAGS,
    Flag("detach d", SWITCH, "do not wait for the end"),
    Flag("keep", SWITCH, "do not delete the container when it has ended"),
    Flag("no-subreaper", SWITCH, "leave orphans of the container to somebody else"),
)


def create(command: Command) -> int:
    """``create``: everything but the program itself."""
    with _create(command, detached=True):
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
        pid = container.state.pid
        try:
            start.begin(container)
        except BaseException:
            ending.destroy(container)
            raise
        if detached:
            return 0
        # Others may pause it, or delete it with force, as long as it runs.
        container.unlock()
        code = foreground.wait(pid, terminal)
        if not values.on("keep"):
            delete(container)
    return code


def delete(container: Container) -> None:
    """Delete a container that has ended, unless somebody else has."""
    try:
        container.lock()
    except NotFound:
        return  # somebody else did
    ending.destroy(container)


def _create(
    command: Command, *, detached: bool, terminal: foreground.Terminal | None = None
) -> Container:
    values = command.values
    # First of all: whatever we open takes the lowest number that is free.
    inherit = caller.inherit_count(values.number("preserve-fds"))
    identity = command.identity()
    bundle = os.path.abspath(values.text("bundle") or ".")
    spec = check.check(document.load(f"{bundle}/config.json"))
    scope = scope_of(command, spec, identity) if command.systemd else None
    caller.check_terminal(spec.get("process", {}), values.text("console-socket"), detached=detached)
    absolute_sources(spec, bundle)
    if command.rootless or caller.has_user_namespace(spec.get("linux", {})):
        _bind_cgroups(spec)
        _check_shown(spec.get("linux", {}))
    else:
        keep_cgroup_options(spec)
    if "process" in spec:
        caller.grant(spec["process"], spec.get("linux", {}))
    owner = os.geteuid()  # inside the namespace it reads as root's
    entered = enter_user_namespace(spec) if owner else False
    new = state.State(bundle, rootfs(spec, bundle), log.now())
    new.annotations = spec.get("annotations", {})
    new.owner = owner
    new.rootless = command.rootless
    # The unit's cgroup is known when systemd has made it.
    new.cgroup = "" if entered or scope else state.cgroup_path(spec, identity)
    container = state.claim(command.root, identity, new)
    creation = _Creation(command, container, spec, terminal, inherit, entered, scope)
    try:
        creation.run()
    except BaseException:
        creation.undo()
        os.close(container.folder)
        raise
    return container


def scope_of(command: Command, spec: oci.Spec, identity: str) -> scopes.Scope:
    """Return the scope that systemd is to make for a container.

    Raises:
        NotSupported: an ordinary user has none, or systemd does not run this machine.
        InvalidInput: the names or values are none that systemd has.
    """
    if command.rootless or os.geteuid():
        raise NotSupported(
            "use --systemd-cgroup", "an ordinary user has no cgroup of one's own", errno.EOPNOTSUPP
        )
    from pycontain.oci import scopes

    return scopes.Scope(spec, identity)


def rootfs(spec: oci.Spec, bundle: str) -> str:
    """Return the path of the root file system.

    Raises:
        InvalidInput: it is not given, or no folder.
    """
    if "root" not in spec:
        raise InvalidInput("config.json: root: missing")
    path = os.path.normpath(os.path.join(bundle, spec["root"]["path"]))
    if not os.path.isdir(path):
        raise InvalidInput(f"config.json: root.path: {path}: not a folder")
    return path


def absolute_sources(spec: oci.Spec, bundle: str) -> None:
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
        scope: scopes.Scope | None,
    ) -> None:
        self.entered = entered
        self.scope = scope
        self.command = command
        self.values = command.values
        self.container = container
        self.spec = spec
        self.terminal = terminal
        self.inherit = inherit
        self.own: list[int] = []
        self.cgroup_made = False
        self.moves: netdevice.Moves | None = None

    def run(self) -> None:
        try:
            self._run()
        finally:
            for fd in self.own:
                os.close(fd)
            if self.scope:
                self.scope.release()
        if self.moves:
            self.moves.close()

    def _run(self) -> None:
        container, spec = self.container, self.spec
        given = self._streams()
        root = self._keep(mount.clone_tree(container.state.rootfs, recursive=True))
        given[plan.ROOT] = root
        if "process" in spec:
            caller.complete_environment(spec["process"], root)
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
            done=self._complete,
        )  # fmt: skip
        pid = runner.start(steps, given, listener)
        caller.make_known(self.values, pid)

    def _keep(self, fd: int) -> int:
        self.own.append(fd)
        return fd

    def _streams(self) -> dict[Handle, int]:
        given = caller.streams(self.own)
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
        if self.scope:
            return self._in_scope(self.scope)
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
        self._give(folder)
        return folder

    def _in_scope(self, scope: scopes.Scope) -> int:
        folder = self._keep(scope.make(self.container))
        self.cgroup_made = True
        scope.limit(folder)
        self._give(folder)
        return folder

    def _give(self, folder: int) -> None:
        owner = _cgroup_owner(self.spec)
        if owner is not None:
            cgroups.give(folder, owner)

    def _settings(self, linux: oci.Linux, folder: int) -> plan.Settings:
        return plan.Settings(
            rootless=self._confined() or caller.has_user_namespace(linux),
            cgroup=folder >= 0,
            devices=device_program(linux) if folder >= 0 and not self._confined() else None,
            seccomp=caller.seccomp_filter(linux, self.command.root),
            size=caller.console_size(self.spec.get("process", {})),
        )

    def _confined(self) -> bool:
        """Whether we are in a user namespace: no device is made there, and no program attached."""
        if not self.command.rootless:
            return False
        from pycontain.kernel import userns

        return userns.inside()

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
        if self.scope:
            self.scope.settle(container)
        if wanted := self.spec.get("linux", {}).get("netDevices"):
            self._move_devices(pid, wanted)

    def _move_devices(self, pid: int, wanted: dict[str, oci.NetDevice]) -> None:
        from pycontain.kernel import netdevice

        self.moves = netdevice.Moves(pid)
        self.moves.move({name: device.get("name") or name for name, device in wanted.items()})

    def _complete(self, late: list[tuple[int, str, str]]) -> None:
        self.container.state.late = late
        self.container.state.complete = True
        self.container.save()

    def _runtime_hooks(self, _: int) -> None:
        for kind in ("prestart", "createRuntime"):
            for hook in ending.hooks(self.spec, kind):
                ending.run_hook(hook, self.container, "creating")

    def _console(self, fd: int) -> None:
        if path := self.values.text("console-socket"):
            from pycontain.oci import sockets

            sockets.send_console(path, fd)
        elif self.terminal is not None:
            self.terminal.take(fd)

    def _notify(self, fd: int, pid: int) -> None:
        caller.hand_listener_over(self.container, self.spec, fd, pid)

    def undo(self) -> None:
        """Take back what a failed creation made; what cannot be taken back is logged."""
        if self.moves:
            for failure in self.moves.undo():
                log.warn(f"create: undoing it: {failure}")
            self.moves.close()
        ending.take_back(self.container, self.spec, "create", cgroup_made=self.cgroup_made)


def _cgroup_owner(spec: oci.Spec) -> int | None:
    """Who may make cgroups below the container's: its user, where it is shown them writable
    (config-linux.md, "Cgroup ownership"). The uid on the host; None for nobody else.
    """
    linux = spec.get("linux", {})
    new = {entry["type"] for entry in linux.get("namespaces", []) if not entry.get("path")}
    writable = any(
        entry.get("type") in ("cgroup", "cgroup2")
        and os.path.normpath(entry["destination"]) == "/sys/fs/cgroup"
        and not MountWords(entry.get("options", [])).whole()[0] & mount.ATTR_RDONLY
        for entry in spec.get("mounts", [])
    )
    if not writable or not {"user", "cgroup"} <= new:
        return None
    uid = spec.get("process", {}).get("user", {}).get("uid", 0)
    for entry in linux.get("uidMappings", []):
        if 0 <= uid - entry["containerID"] < entry["size"]:
            return entry["hostID"] + uid - entry["containerID"]
    return None


def around_pid(container: Container, status: str) -> tuple[str, str]:
    """Return a state's text before and after a pid that is not known yet."""
    text = document.dump(container.report_as(status, 0))
    return '{"pid":', "," + text[1:]


def _check_shown(linux: oci.Linux) -> None:
    """Nobody can make device nodes in there: the host's are shown, so they must be the same."""
    for entry in linux.get("devices", []):
        if entry["type"] == "p":
            continue
        name = f"linux.devices: {entry['path']}"
        try:
            found = os.stat(entry["path"]).st_rdev
        except OSError as err:
            reason = os.strerror(err.errno or 0).lower()
            raise InvalidInput(
                f"{name}: in a user namespace the host's is shown: {reason}"
            ) from None
        if found != os.makedev(entry.get("major", 0), entry.get("minor", 0)):
            raise InvalidInput(f"{name}: in a user namespace the host's is shown: it is another")


def enter_user_namespace(spec: oci.Spec) -> bool:
    """Bring an ordinary user's command into the user namespace that the container is to have.

    Only there may it mount anything. True: done.

    Raises:
        InvalidInput: the configuration has none.
        NotPermitted, NotSupported: it cannot be made.
    """
    from pycontain.kernel import userns

    linux = spec.get("linux", {})
    if not any(e["type"] == "user" and not e.get("path") for e in linux.get("namespaces", [])):
        raise InvalidInput("linux.namespaces: an ordinary user's container needs a user namespace")
    uids, gids = (
        [(entry["containerID"], entry["hostID"], entry["size"]) for entry in entries]
        for entries in (linux.get("uidMappings", []), linux.get("gidMappings", []))
    )
    if not uids or not gids:
        raise InvalidInput("linux: a user namespace needs uidMappings and gidMappings")
    if not all(any(entry[0] == 0 for entry in entries) for entries in (uids, gids)):
        # Who is not root in there loses its capabilities at the first exec (capabilities(7)).
        raise InvalidInput("linux: uidMappings and gidMappings of an ordinary user need an id 0")
    if linux.get("cgroupsPath"):
        raise InvalidInput("linux.cgroupsPath: an ordinary user's container has no cgroup")
    groups = spec.get("process", {}).get("user", {}).get("additionalGids")
    if groups and userns.maps_oneself(uids, gids):
        # user_namespaces(7): one's own gid may be mapped by oneself if groups are given up.
        raise InvalidInput(
            "process.user.additionalGids: groups cannot be set where one's own id alone is mapped"
        )
    userns.enter_new(uids, gids, open_native)
    return True


def device_program(linux: oci.Linux) -> bytes:
    """Return the device program: nothing but what the configuration and every container allow."""
    rules: list[oci.DeviceRule] = [*devices.DEFAULT_RULES[:1]]
    rules += linux.get("resources", {}).get("devices", [])
    rules += devices.DEFAULT_RULES[1:]
    return devices.program(rules)
