"""``restore``: a container is made again of the files that ``checkpoint`` has written, by criu."""

from __future__ import annotations

import os

from pycontain.errors import InvalidInput, PycontainError
from pycontain.kernel import cgroup, mount, process
from pycontain.oci import caller, checkpoint, create, document, ending, foreground, log, state
from pycontain.oci.flags import SWITCH, VALUE, Flag
from pycontain.runtime import cgroups, check, criu
from pycontain.runtime import checkpoint as rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.model import oci
    from pycontain.oci import scopes
    from pycontain.oci.main import Command
    from pycontain.oci.state import Container
    from pycontain.runtime.criu import Fields, Notice

FLAGS = (
    *checkpoint.SHARED,
    Flag("bundle b", VALUE, "folder with config.json; the current folder by default"),
    Flag("detach d", SWITCH, "do not wait for the end"),
    Flag("pid-file", VALUE, "file for the process's pid"),
    Flag("console-socket", VALUE, "unix socket that gets the other end of the terminal"),
    Flag("no-subreaper", SWITCH, "leave orphans of the container to somebody else"),
    Flag("no-pivot", SWITCH, "refused"),
    Flag("lazy-pages", SWITCH, "refused"),
    Flag("lsm-profile", VALUE, "refused"),
    Flag("lsm-mount-context", VALUE, "refused"),
)
_LOG = "restore.log"


def restore(command: Command) -> int:
    """``restore``: make it, and unless it is detached, wait for its end and delete it."""
    checkpoint.refuse(command)
    values = command.values
    detached = values.on("detach")
    if not detached:
        foreground.hold_signals()
        if not values.on("no-subreaper"):
            process.become_subreaper()
    terminal = foreground.Terminal()
    with _restore(command, terminal, detached=detached) as container:
        pid = container.state.pid
        if detached:
            return 0
        # Others may pause it, or delete it with force, as long as it runs.
        container.unlock()
        code = foreground.wait(pid, terminal)
        create.delete(container)
    return code


def _restore(command: Command, terminal: foreground.Terminal, *, detached: bool) -> Container:
    values = command.values
    options = checkpoint.switches(values)
    images, work = checkpoint.folders(values)
    identity = command.identity()
    bundle = os.path.abspath(values.text("bundle") or ".")
    spec = check.check(document.load(f"{bundle}/config.json"))
    process_spec = spec.get("process", {})
    caller.check_terminal(process_spec, values.text("console-socket"), detached=detached)
    create.absolute_sources(spec, bundle)
    rules.check(spec)
    name = f"{images}/{rules.RECORD}"
    record = rules.Record.read(document.load(name), name)
    scope = create.scope_of(command, spec, identity) if command.systemd else None
    new = state.State(bundle, create.rootfs(spec, bundle), log.now())
    new.annotations = spec.get("annotations", {})
    new.cgroup = "" if scope else state.cgroup_path(spec, identity)
    container = state.claim(command.root, identity, new)
    restoration = _Restoration(command, container, spec, record, terminal, scope)
    try:
        restoration.run(images, work, options)
    except BaseException:
        restoration.undo()
        os.close(container.folder)
        raise
    return container


class _Restoration:
    """One restore: what it opens, makes, and takes back when it fails."""

    def __init__(
        self,
        command: Command,
        container: Container,
        spec: oci.Spec,
        record: rules.Record,
        terminal: foreground.Terminal,
        scope: scopes.Scope | None,
    ) -> None:
        self.values = command.values
        self.container = container
        self.spec = spec
        self.record = record
        self.terminal = terminal
        self.scope = scope
        self.own: list[int] = []
        self.extra: list[int] = []
        self.folder = -1
        self.cgroup_made = False

    def run(self, images: str, work: str, options: Fields) -> None:
        """Make it.

        Raises:
            PycontainError: something cannot be; nothing is left but the log.
        """
        made = checkpoint.make_folder(work)
        try:
            self._run(criu.Job(criu.RESTORE, images, work, _LOG), options)
        except PycontainError as err:
            if made and not os.listdir(work):
                os.rmdir(work)
            err.message = f"restore container {self.container.id}: {err.message}"
            raise
        finally:
            for fd in self.own:
                os.close(fd)
            if self.scope:
                self.scope.release()

    def _run(self, job: criu.Job, options: Fields) -> None:
        container = self.container
        root = self._keep(mount.clone_tree(container.state.rootfs, recursive=True))
        if "process" in self.spec:
            caller.complete_environment(self.spec["process"], root)
        container.keep_config(self.spec)
        linux = self.spec.get("linux", {})
        self.folder = self._cgroup(linux)
        wanted = [*options, *self._mounts(root), *self._streams(), *self._namespaces(linux)]
        if self.spec["root"].get("readonly"):
            # criu binds this mount, and keeps its attributes: not those that the old root had.
            mount.set_attributes(root, mount.ATTR_RDONLY)
        wanted += [
            (criu.ROOT_PATH, container.path), (criu.SIBLING, 1), (criu.ORPHAN_TERMINAL, 1),
            (criu.CGROUP_ROOT, [(2, container.state.cgroup)]),
        ]  # fmt: skip
        surroundings = criu.Surroundings(
            devices=(self.folder, create.device_program(linux)),
            # In criu's mount namespace; what is here below that path stays what it is.
            root=(root, container.path),
            extra=self.extra,
            no_new_privs=self.record.no_new_privs,
        )
        pid = job.run(wanted, surroundings, self._notified)
        self._know(pid)
        container.state.complete = True
        container.save()
        if path := self.values.text("pid-file"):
            caller.write_pid_file(path, pid)
        for hook in ending.hooks(self.spec, "poststart"):
            ending.run_hook(hook, container, "running")

    def _keep(self, fd: int) -> int:
        self.own.append(fd)
        return fd

    def _hand(self, fd: int) -> int:
        """Hand a descriptor to criu; return the number that it has there."""
        self.extra.append(fd)
        return criu.FIRST + len(self.extra) - 1

    def _cgroup(self, linux: oci.Linux) -> int:
        if self.scope:
            folder = self._keep(self.scope.make(self.container))
            self.cgroup_made = True
            self.scope.limit(folder)
            return folder
        folder = cgroups.make(self.container.state.cgroup, linux.get("resources", {}))
        self.cgroup_made = True
        return self._keep(folder)

    def _mounts(self, root: int) -> Fields:
        options: list[tuple[int, criu.Value]] = []
        for point, source in rules.sources(self.record, self.spec):
            if not self._is_covered(point):
                rules.make_point(root, point, source)
            options.append((criu.EXTERNAL_MOUNT, [(1, point), (2, source)]))
        return options

    def _is_covered(self, point: str) -> bool:
        """Whether a place is on another mount of the container's, which criu makes."""
        others = [entry["destination"] for entry in self.spec.get("mounts", [])]
        return any(point.startswith(f"{other.rstrip('/')}/") for other in others)

    def _streams(self) -> Fields:
        options: list[tuple[int, criu.Value]] = []
        given = caller.streams(self.own)
        for name, fd in zip(self.record.streams, given.values(), strict=True):
            if name:
                options.append((criu.INHERIT, [(1, name), (2, self._hand(fd))]))
        return options

    def _namespaces(self, linux: oci.Linux) -> Fields:
        given = rules.joined(linux)
        if sorted(given) != sorted(self.record.namespaces):
            raise InvalidInput(
                "config.json: linux.namespaces: the checkpoint was made with"
                f" {', '.join(self.record.namespaces) or 'none'} joined by path"
            )
        options: list[tuple[int, criu.Value]] = []
        for kind, path in given.items():
            try:
                fd = self._keep(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as err:
                reason = os.strerror(err.errno or 0).lower()
                raise InvalidInput(f"{kind} namespace {path}: {reason}") from None
            name = rules.namespace_name(kind)
            options.append((criu.INHERIT, [(1, name), (2, self._hand(fd))]))
        return options

    def _notified(self, notice: Notice) -> None:
        if notice.name == "setup-namespaces":
            self._know(notice.pid)
            # Before it has any memory, which would be counted where it was charged first.
            cgroup.write(self.folder, "cgroup.procs", str(notice.pid))
            if self.scope:
                self.scope.settle(self.container)
            for kind in ("prestart", "createRuntime"):
                for hook in ending.hooks(self.spec, kind):
                    ending.run_hook(hook, self.container, "creating")
        elif notice.fd >= 0:
            self._console(notice.fd)

    def _console(self, fd: int) -> None:
        try:
            if not self.spec.get("process", {}).get("terminal"):
                raise InvalidInput("config.json: process.terminal: the checkpoint has a terminal")
            if path := self.values.text("console-socket"):
                from pycontain.oci import sockets

                sockets.send_console(path, fd)
            else:
                self.terminal.take(fd)
        finally:
            os.close(fd)

    def _know(self, pid: int) -> None:
        state_ = self.container.state
        if pid == state_.pid:
            return
        state_.pid = pid
        state_.start = process.start_time(pid) or 0
        self.container.save()

    def undo(self) -> None:
        """Take back what a failed restore made; what cannot be taken back is logged."""
        ending.take_back(self.container, self.spec, "restore", cgroup_made=self.cgroup_made)
