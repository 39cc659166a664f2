"""``start``: a created container runs its program."""

from __future__ import annotations

import os
import select

from pycontain.errors import InvalidInput, InvalidState, PycontainError
from pycontain.oci import ending, log, state
from pycontain.runtime import runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.main import Command
    from pycontain.oci.state import Container


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
        for hook in ending.hooks(spec, "poststart"):
            ending.run_hook(hook, container, "running")
    except PycontainError:
        # runtime.md, "Lifecycle", step 10: an error, and the container is stopped.
        ending.end(container)
        raise


def _raise_late_failure(container: Container) -> None:
    file = os.open(state.FAILURE, os.O_RDONLY | os.O_CLOEXEC, dir_fd=container.folder)
    try:
        failure = runner.late_failure(container.state.late, file)
    finally:
        os.close(file)
    if failure:
        # Managers delete it at once, which is refused where they have not seen its end yet.
        try:
            ending.await_end(container)
        except PycontainError as err:
            log.warn(f"start: {err}")
        raise failure
