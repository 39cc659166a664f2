"""Starting a plan under a monitor: hands it over, hears what came of it.

Knows processes, cgroups and descriptors; no image, no container's document.
"""

from __future__ import annotations

import os
import socket

from pycontain import trace
from pycontain.runtime import handover
from pycontain.runtime.attachment import Attachment
from pycontain.runtime.handover import OWNER, TRACE, Durations, StartFailure
from pycontain.runtime.steps import Handle, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Monitor:
    """A monitor that was started.

    Attributes:
        pid: the container's process, as the host sees it.
        attachment: the connection to the monitor.
    """

    def __init__(self, pidfd: int, connection: socket.socket) -> None:
        self.pidfd = pidfd
        self.pid = 0
        self.attachment = Attachment(connection, owner=True)

    def close(self) -> None:
        """Let go of the monitor; it goes on."""
        os.close(self.pidfd)


def start(
    plan: Sequence[Step],
    given: Mapping[Handle, int],
    *,
    title: str,
    cgroup: int = -1,
    opened: Callable[[], None] | None = None,
    network: int = -1,
) -> Monitor:
    """Start a monitor that carries `plan` out, and wait until its process runs.

    Args:
        plan: settings and steps; it may name ``OWNER``, the monitor's end of the connection.
        given: descriptors of the ``given`` handles; they stay the caller's.
        title: the monitor's argv[0], seen in ps(1).
        cgroup: folder that the monitor starts in.
        opened: called when everything is open, right before the monitor starts.
        network: namespace that the monitor starts in, -1 for the caller's.

    Raises:
        CommandNotFound, NotExecutable: the program.
        KernelError: another step.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    durations = Durations() if trace.enabled() else None
    if durations:
        plan = [Step("trace", TRACE), *plan]
        given = {**given, TRACE: durations.writer}
    try:
        with trace.Span("start the monitor"):
            _, pidfd = handover.spawn(
                "monitor", plan, {**given, OWNER: theirs.fileno()}, title, cgroup=cgroup,
                opened=opened, network=network,
            )  # fmt: skip
        theirs.close()
        monitor = Monitor(pidfd, ours)
        try:
            with trace.Span("carry the plan out"):
                monitor.pid = monitor.attachment.wait_ready()
        except BaseException:
            monitor.close()
            raise
    except StartFailure as failure:
        ours.close()
        raise handover.explain(handover.failed_step(plan, failure), failure) from None
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if durations:
            durations.report(plan)
    return monitor
