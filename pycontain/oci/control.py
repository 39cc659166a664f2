"""What is done to a container that is there: state, kill, delete, pause and resume."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enums of the signal module
import os

from pycontain.errors import InvalidInput, InvalidState, KernelError, NotFound, StoreError
from pycontain.kernel import cgroup, process
from pycontain.oci import document, ending, state
from pycontain.oci.flags import SWITCH, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.main import Command
    from pycontain.oci.state import Container

KILL_FLAGS = (Flag("all a", SWITCH, "signal every process of the container"),)
DELETE_FLAGS = (Flag("force f", SWITCH, "kill it first, and do not mind when there is none"),)


def show_state(command: Command) -> int:
    """``state``: a JSON document of what the container is."""
    with state.find(command.root, command.identity()) as container:
        report = container.report()
        report.setdefault("pid", 0)
        report["rootfs"] = container.state.rootfs
        report["created"] = container.state.created
        report["owner"] = owner(container)
    command.print(document.dump(report, indent=True))
    return 0


def owner(container: Container) -> str:
    """Return the name of whoever created it; empty where the uid has none."""
    if container.state.owner == 0:
        return "root"
    import pwd

    try:
        return pwd.getpwuid(container.state.owner).pw_name
    except KeyError:
        return ""


def signal_number(text: str) -> int:
    """Return a signal from its number or its name, with or without SIG.

    Raises:
        InvalidInput: there is no such signal.
    """
    if text.isdecimal() and 0 < int(text) < _signal.NSIG:
        return int(text)
    name = text.upper().removeprefix("SIG")
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    number = getattr(_signal, f"SIG{base}", None)
    if isinstance(number, int) and base in ("RTMIN", "RTMAX") and offset.isdecimal():
        number += int(offset) if sign == "+" else -int(offset)
        if _signal.SIGRTMIN <= number <= _signal.SIGRTMAX:
            return number
    elif isinstance(number, int) and not sign and not name.startswith("_"):
        return number
    raise InvalidInput(f"unknown signal {text!r}")


def kill(command: Command) -> int:
    """``kill``: send a signal to the first process, or with ``--all`` to every one."""
    words = command.words(1, 2)
    number = signal_number(words[1] if len(words) > 1 else "TERM")
    with state.find(command.root, words[0]) as container:
        status = container.status()
        if command.values.on("all"):
            _kill_all(container, number)
        elif status in ("created", "running", "paused"):
            try:
                pidfd = container.pidfd()
            except InvalidState:  # it ended since
                raise _not_running(container) from None
            try:
                if not process.send_signal(pidfd, number):
                    raise _not_running(container)
            finally:
                os.close(pidfd)
        else:
            raise _not_running(container)
    return 0


def _not_running(container: Container) -> InvalidState:
    # Managers look for these words, and then take it for done.
    return InvalidState(f"kill {container.id}: container not running")


def _kill_all(container: Container, number: int) -> None:
    folder = container.open_cgroup()
    if folder is None:
        raise InvalidState(f"container {container.id} cannot be signalled whole: it has no cgroup")
    try:
        cgroup.signal_all(folder, number)
    finally:
        os.close(folder)


def delete(command: Command) -> int:
    """``delete``: remove what is left of a container that has ended."""
    force = command.values.on("force")
    try:
        container = state.find(command.root, command.identity())
    except NotFound:
        if force:
            return 0
        raise
    except StoreError:
        if not force:
            raise
        container = state.salvage(command.root, command.identity())
    with container:
        if not force:
            # Whoever creates it holds the lock: that is an error now, not a wait.
            _check_stopped(container)
        try:
            container.lock(keep=force)
        except NotFound:  # removed by somebody else while we waited
            if force:
                return 0
            raise
        if not force:
            _check_stopped(container)
        ending.destroy(container)
    return 0


def _check_stopped(container: Container) -> None:
    status = container.status()
    if status != "stopped":
        raise InvalidState(
            f"container {container.id} cannot be deleted: it is {status}",
            "kill it first, or use delete --force",
        )


def pause(command: Command) -> int:
    """``pause``: freeze every process of the container."""
    return _freeze(command, ("running", "created"), frozen=True)


def resume(command: Command) -> int:
    """``resume``: let them go on."""
    return _freeze(command, ("paused",), frozen=False)


def _freeze(command: Command, legal: tuple[str, ...], *, frozen: bool) -> int:
    with state.find(command.root, command.identity()) as container:
        container.lock()
        status = container.status()
        if status not in legal:
            verb = "paused" if frozen else "resumed"
            raise InvalidState(f"container {container.id} cannot be {verb}: it is {status}")
        folder = container.open_cgroup()
        if folder is None:
            raise InvalidState(f"container {container.id} cannot be frozen: it has no cgroup")
        try:
            cgroup.freeze(folder, frozen=frozen)
        except KernelError:
            if frozen:
                cgroup.write(folder, "cgroup.freeze", "0")  # not half of it
            raise
        finally:
            os.close(folder)
    return 0
