"""``exec``: another process in a running container."""

from __future__ import annotations

import os

from pycontain.errors import InvalidInput, InvalidState
from pycontain.kernel import process as processes
from pycontain.oci import caller, document, foreground, state
from pycontain.oci.flags import LIST, SWITCH, VALUE, Flag, UsageError
from pycontain.runtime import plan, runner
from pycontain.runtime.steps import Handle, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.model import oci
    from pycontain.oci.flags import Values
    from pycontain.oci.main import Command
    from pycontain.oci.state import Container

FLAGS = (
    *caller.FLAGS,
    Flag("cwd", VALUE, "working directory"),
    Flag("env e", LIST, "NAME=VALUE for the environment"),
    Flag("tty t", SWITCH, "give it a terminal"),
    Flag("user u", VALUE, "UID[:GID]"),
    Flag("additional-gids g", LIST, "additional group id"),
    Flag("process p", VALUE, "file with the process as JSON"),
    Flag("detach d", SWITCH, "do not wait for the end"),
    Flag("process-label", VALUE, "SELinux label"),
    Flag("apparmor", VALUE, "AppArmor profile"),
    Flag("no-new-privs", SWITCH, "set no_new_privs"),
    Flag("cap c", LIST, "capability to add"),
    Flag("cgroup", LIST, "cgroup below the container's to run in"),
    Flag("ignore-paused", SWITCH, "start it in a paused container too"),
)
_OF_THE_CALLER = frozenset(
    ("process", "detach", "cgroup", "ignore-paused", *(flag.names[0] for flag in caller.FLAGS))
)
"""Flags that say nothing of the process itself."""
_PROCESS = Handle("given", "container process")


def execute(command: Command) -> int:
    """``exec``: start it, and unless it is detached, stay for its end."""
    values = command.values
    inherit = caller.inherit_count(values.number("preserve-fds"))
    words = command.words(1)
    with state.find(command.root, words[0]) as container:
        status = container.status()
        if status == "paused" and not values.on("ignore-paused"):
            raise InvalidState(
                f"container {container.id} is paused", "resume it first, or use --ignore-paused"
            )
        if status not in ("created", "running", "paused"):
            raise InvalidState(f"container {container.id} has no process to join: it is {status}")
        spec = container.config()
        process = _process(values, words[1:], spec)
        detached = values.on("detach")
        socket = values.text("console-socket")
        caller.check_terminal(process, socket, detached=detached)
        if not detached:
            foreground.hold_signals()
            processes.become_subreaper()
        terminal = foreground.Terminal()
        start = _Start(command, container, spec, process, inherit, terminal)
        pid = start.run()
    return 0 if detached else foreground.wait(pid, terminal)


def _process(values: Values, words: list[str], spec: oci.Spec) -> oci.Process:
    """The process that the flags describe: a document's, or the container's own with another
    command.
    """
    if path := values.text("process"):
        from pycontain.runtime import check

        process = check.check_process(document.load(path), spec=spec, name=path)
    elif words:
        base: oci.Process = spec.get("process") or {"cwd": "/"}
        process = {**base, "args": words}
        process["terminal"] = False
    else:
        raise UsageError("exec: a command, or --process, is needed")
    if values.given - _OF_THE_CALLER:
        # Flags are somebody's words: what they make is checked like any document.
        from pycontain.runtime import check

        _change(process, values)
        process = check.check_process(process, spec=spec, name="exec")
    caller.grant(process, spec.get("linux", {}))
    return process


def _change(process: oci.Process, values: Values) -> None:
    if values.on("tty"):
        process["terminal"] = True
    if cwd := values.text("cwd"):
        process["cwd"] = cwd
    if names := values.many("env"):
        process["env"] = [*process.get("env", []), *names]
    if user := values.text("user"):
        process["user"] = {**process.get("user", {}), **_user(user)}
    if groups := values.many("additional-gids"):
        process.setdefault("user", {})["additionalGids"] = [_id(group) for group in groups]
    if names := values.many("cap"):
        _add_capabilities(process, names)
    if values.on("no-new-privs"):
        process["noNewPrivileges"] = True
    if label := values.text("apparmor"):
        process["apparmorProfile"] = label
    if label := values.text("process-label"):
        process["selinuxLabel"] = label


def _user(text: str) -> oci.User:
    uid, sign, gid = text.partition(":")
    user: oci.User = {"uid": _id(uid)}
    if sign:
        user["gid"] = _id(gid)
    return user


def _id(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"exec: {text!r}: not a user or group id, which is a number here")
    return int(text)


def _add_capabilities(process: oci.Process, names: list[str]) -> None:
    sets = process.get("capabilities", {})
    for kind in ("bounding", "effective", "permitted"):
        old: list[str] = sets.get(kind, [])  # type: ignore[assignment]
        sets[kind] = [*old, *(name for name in names if name not in old)]
    process["capabilities"] = sets


class _Start:
    """One exec: what it opens."""

    def __init__(
        self,
        command: Command,
        container: Container,
        spec: oci.Spec,
        process: oci.Process,
        inherit: int,
        terminal: foreground.Terminal,
    ) -> None:
        self.values = command.values
        self.root = command.root
        self.container = container
        self.spec = spec
        self.process = process
        self.inherit = inherit
        self.terminal = terminal
        self.own: list[int] = []

    def run(self) -> int:
        """Start it; return its pid."""
        try:
            return self._run()
        finally:
            for fd in self.own:
                os.close(fd)

    def _run(self) -> int:
        given = caller.streams(self.own)
        for number in range(3, 3 + self.inherit):
            given[plan.inherited(number)] = number
        given[_PROCESS] = pidfd = self._keep(self.container.pidfd())
        root = self._keep(
            os.open(f"/proc/{self.container.state.pid}/root", os.O_PATH | os.O_CLOEXEC)
        )
        # Checked after the open: the pid still was the container's.
        if not self.container.alive():
            raise InvalidState(f"container {self.container.id} is not running")
        caller.complete_environment(self.process, root)
        folder = self._cgroup()
        if folder >= 0:
            given[plan.CGROUP] = folder
        linux = self.spec.get("linux", {})
        flags = sum(plan.CLONE_FLAGS[entry["type"]] for entry in linux.get("namespaces", []))
        # An ordinary user has rights over the other namespaces only in there.
        entered = bool(os.geteuid() and flags & plan.CLONE_FLAGS["user"])
        if entered:
            processes.enter(pidfd, plan.CLONE_FLAGS["user"])
            flags -= plan.CLONE_FLAGS["user"]
        settings = plan.Settings(
            rootless=caller.has_user_namespace(linux),
            cgroup=folder >= 0,
            seccomp=caller.seccomp_filter(linux, self.root),
            size=caller.console_size(self.process),
        )
        detached = plan.Detached(inherit=self.inherit, wait=False, entered=entered)
        steps = plan.execution(
            self.process, Step("join", _PROCESS, flags), settings, detached,
            linux.get("personality"), linux.get("memoryPolicy"),
        )  # fmt: skip
        listener = runner.Listener({}, console=self._console, notify=self._notify)
        pid = runner.start(steps, given, listener)
        caller.make_known(self.values, pid)
        return pid

    def _keep(self, fd: int) -> int:
        self.own.append(fd)
        return fd

    def _cgroup(self) -> int:
        path = self.container.state.cgroup
        below = [name.removeprefix(":") for name in self.values.many("cgroup")]
        if not path:
            if below:
                raise InvalidInput("--cgroup: the container has no cgroup of its own")
            return -1
        if len(below) > 1:
            raise InvalidInput("--cgroup: cgroup v2 has one hierarchy: give one")
        if below and ".." in below[0].split("/"):
            raise InvalidInput(f"--cgroup {below[0]}: must not lead out of the container's cgroup")
        if below:
            return self._keep(state.open_cgroup(f"{path}/{below[0].strip('/')}"))
        return self._keep(state.open_cgroup(path, beside=self.container.state.pid))

    def _console(self, fd: int) -> None:
        if path := self.values.text("console-socket"):
            from pycontain.oci import sockets

            sockets.send_console(path, fd)
        else:
            self.terminal.take(fd)

    def _notify(self, fd: int, pid: int) -> None:
        caller.hand_listener_over(self.container, self.spec, fd, pid)
