"""Starting a plan without a monitor, for the OCI runtime face (native/runner.c).

The runner carries the plan out and ends. Its clone is the caller's child, and when the caller has
ended, the nearest subreaper's. Where the plan has sync points, and for descriptors that the clone
hands out, the caller's functions are called while the runner waits.
"""

from __future__ import annotations

import errno
import os
import struct

from pycontain import trace
from pycontain._native._kernel import ffi, lib
from pycontain.errors import PycontainError, kernel_error
from pycontain.runtime import handover
from pycontain.runtime.handover import OWNER, TRACE, StartFailure
from pycontain.runtime.steps import Handle, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

STREAMS = tuple(Handle("given", f"stream {number}") for number in range(3))

# struct message (native/message.h): kind, pid, and of struct failure: step, errno, subject.
_MESSAGE = struct.Struct("=IiIi248s")
_FAILURE = struct.Struct("=Ii248s")
_TURN, _CONSOLE, _NOTIFY, _FAILED, _DONE = 1, 3, 4, 7, 8
_NO_STEP = 0xFFFF_FFFF
_SIGKILL = 9
_BAD_PLAN = 2  # the runner's exit code


class Listener:
    """What the caller does while a plan is carried out.

    Attributes:
        sync: sync point → what to do there, given the clone's pid.
        done: called when all is done but what follows a ``wait``: number, name and text of the
            steps that do, for ``late_failure``. The process goes on only when it returns.
        console: takes the terminal's other end, which is closed afterwards.
        notify: takes the seccomp listener and the clone's pid; closed afterwards.
    """

    __slots__ = ("console", "done", "notify", "sync")

    def __init__(
        self,
        sync: Mapping[str, Callable[[int], None]],
        console: Callable[[int], None] | None = None,
        notify: Callable[[int, int], None] | None = None,
        done: Callable[[list[tuple[int, str, str]]], None] | None = None,
    ) -> None:
        self.sync = sync
        self.console = console
        self.notify = notify
        self.done = done


def start(plan: Sequence[Step], given: Mapping[Handle, int], listener: Listener) -> int:
    """Carry `plan` out.

    Args:
        plan: the steps, without settings.
        given: descriptors of the ``given`` handles, ``STREAMS`` among them.
        listener: the caller's part.

    Returns:
        The pid of the process, which is the caller's child.

    Raises:
        CommandNotFound, NotExecutable: the program.
        KernelError: another step.
        PycontainError: whatever the listener's functions raise; the process is gone then.
    """
    pair = ffi.new("int[2]")
    if lib.channel(pair) < 0:
        raise kernel_error("start", "runner", ffi.errno)
    ours, theirs = pair[0], pair[1]
    durations = handover.Durations() if trace.enabled() else None
    plan = [Step("owner", OWNER, 0, 0), Step("streams", *STREAMS), *plan]
    given = {**given, OWNER: theirs}
    if durations:
        plan = [Step("trace", TRACE), *plan]
        given = {**given, TRACE: durations.writer}
    try:
        try:
            runner, pidfd = handover.spawn("runner", plan, given, "pycontain-runner", child=True)
        finally:
            os.close(theirs)
        status = 0
        try:
            return _follow(ours, plan, listener)
        finally:
            # Without us it can do nothing more: whatever it has made, it kills.
            os.close(ours)
            ours = -1
            os.close(pidfd)
            _, status = os.waitpid(runner, 0)
    except StartFailure as failure:
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _BAD_PLAN:
            raise PycontainError(
                "start: the runner cannot read its plan", "were all parts installed together?"
            ) from None
        raise handover.explain(handover.failed_step(plan, failure), failure) from None
    finally:
        if ours >= 0:
            os.close(ours)
        if durations:
            durations.report(plan)


def _follow(channel: int, plan: Sequence[Step], listener: Listener) -> int:
    data = ffi.new("char[]", _MESSAGE.size)
    fd = ffi.new("int *")
    pid = 0
    try:
        while True:
            got = lib.receive(channel, data, fd)
            if got != _MESSAGE.size:
                raise StartFailure(None, ffi.errno if got < 0 else errno.ECHILD, "")
            kind, pid, step, number, subject = _MESSAGE.unpack(ffi.buffer(data, got))
            if kind == _DONE and listener.done:
                listener.done(_late(plan))
            if kind == _FAILED:
                words = subject.partition(b"\0")[0].decode(errors="replace")
                raise StartFailure(None if step == _NO_STEP else step, number, words)
            if kind != _DONE:
                _take(kind, plan, step, pid, fd[0], listener)
            if lib.send_go(channel) < 0:
                raise StartFailure(None, ffi.errno, "")
            if kind == _DONE:
                return int(pid)
    except BaseException:
        if pid > 0:
            lib.send_stop(channel)
            # A runner that was killed itself kills nobody; our child's pid is nobody else's.
            os.kill(pid, _SIGKILL)
            os.waitpid(pid, 0)
        raise


def _take(
    kind: int, plan: Sequence[Step], step: int, pid: int, fd: int, listener: Listener
) -> None:
    try:
        if kind == _TURN:
            name = plan[step].args[0]
            assert isinstance(name, str)
            listener.sync[name](pid)
        elif kind == _CONSOLE and listener.console:
            listener.console(fd)
        elif kind == _NOTIFY and listener.notify:
            listener.notify(fd, pid)
        else:
            raise PycontainError(f"start: the runner said {kind}, which nobody expects")
    finally:
        if fd >= 0:
            os.close(fd)


def _late(plan: Sequence[Step]) -> list[tuple[int, str, str]]:
    names = [step.name for step in plan]
    first = names.index("wait") if "wait" in names else len(plan)
    return [(number, plan[number].name, plan[number].text) for number in range(first, len(plan))]


def late_failure(steps: Sequence[tuple[int, str, str]], file: int) -> PycontainError | None:
    """Return why the program did not start after its wait, None where it did.

    Args:
        steps: as ``Listener.done`` got them.
        file: the failure file; native/steps.c, ``fail``, writes it.
    """
    data = os.pread(file, _FAILURE.size, 0)
    if len(data) < _FAILURE.size:
        return None
    number, reason, subject = _FAILURE.unpack(data)
    words = subject.partition(b"\0")[0].decode(errors="replace")
    for index, name, text in steps:
        if index == number:
            return handover.explain(Step(name, text=text), StartFailure(number, reason, words))
    return handover.explain(None, StartFailure(None, reason, words))


def run_hook(path: str, args: Sequence[str], env: Sequence[str], timeout: int, state: str) -> None:
    """Run one hook in the runtime's namespaces (config.md, "POSIX-platform Hooks").

    Args:
        path: of the program.
        args: its argv.
        env: its environment, and nothing of ours.
        timeout: seconds, 0 for none.
        state: what it reads.

    Raises:
        PycontainError: it failed, or was killed for being late.
    """
    words = [[ffi.new("char[]", os.fsencode(word)) for word in part] for part in (args, env)]
    vectors = [ffi.new("char *[]", [*part, ffi.NULL]) for part in words]
    said = ffi.new("char[]", 248)
    result = lib.hook_run_words(
        os.fsencode(path), *vectors, timeout * 1000, state.encode(), said, 248
    )
    if result == 0:
        return
    number = ffi.errno
    text = ffi.string(said).decode(errors="replace")
    if number == errno.ECANCELED:
        raise PycontainError(f"hook {path}: {text}")
    raise kernel_error("hook", path, number)
