"""What ``create`` and ``exec`` share: what a process gets from its caller, and is known by."""

from __future__ import annotations

import os

from pycontain.errors import InvalidInput, kernel_error
from pycontain.kernel import capability
from pycontain.oci import document, log, state
from pycontain.oci.flags import NUMBER, VALUE, Flag
from pycontain.runtime import privileges, runner, seccomp

FLAGS = (
    Flag("console-socket", VALUE, "unix socket that gets the other end of the terminal"),
    Flag("pidfd-socket", VALUE, "unix socket that gets a pidfd of the process"),
    Flag("pid-file", VALUE, "file for the process's pid"),
    Flag("preserve-fds", NUMBER, "pass this many descriptors on, from 3 upwards"),
)
"""Flags of everything that starts a process."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.model import oci
    from pycontain.oci.flags import Values
    from pycontain.oci.state import Container
    from pycontain.runtime.steps import Handle


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
    from pycontain.oci import sockets

    sockets.send(profile["listenerPath"], document.dump(report).encode(), fd)


def grant(process: oci.Process, linux: oci.Linux) -> None:
    """Take out of the capabilities of `process` what cannot be granted, with a warning."""
    if "capabilities" not in process:
        return
    limit = None if has_user_namespace(linux) else capability.bounding_set()
    process["capabilities"], refused = privileges.grantable(process["capabilities"], limit)
    if refused:
        log.warn(f"capabilities that cannot be granted are left out: {', '.join(refused)}")


def has_user_namespace(linux: oci.Linux) -> bool:
    """Whether the container lives in a user namespace that is not ours."""
    return any(entry["type"] == "user" for entry in linux.get("namespaces", []))


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


def make_known(values: Values, pid: int) -> None:
    """Tell those who asked for it of the new process: ``--pidfd-socket`` and ``--pid-file``.

    Raises:
        KernelError: they cannot be told.
    """
    if path := values.text("pidfd-socket"):
        from pycontain.oci import sockets

        sockets.send_pidfd(path, pid)
    if path := values.text("pid-file"):
        write_pid_file(path, pid)
