"""The end of a container, and the hooks of the runtime's namespaces."""

from __future__ import annotations

import os
import select

from pycontain.errors import InvalidState, KernelError, NotFound, PycontainError
from pycontain.kernel import cgroup, process
from pycontain.oci import document, log, state
from pycontain.runtime import runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.model import oci
    from pycontain.oci.state import Container


_SOON = 100  # milliseconds for a process to end, where it gets the processor
_PATIENCE = 60_000  # where it does not: a host may be busy


def hooks(spec: oci.Spec, kind: str) -> Sequence[oci.Hook]:
    """Return the hooks of one kind, in their order."""
    found: Sequence[oci.Hook] = spec.get("hooks", {}).get(kind, [])  # type: ignore[assignment]
    return found


def run_hook(hook: oci.Hook, container: Container, status: str) -> None:
    """Run one hook in our own namespaces.

    Raises:
        PycontainError: it failed, or was too late.
    """
    path = hook["path"]
    report = document.dump(container.report_as(status, container.state.pid))
    runner.run_hook(
        path, hook.get("args") or [path], hook.get("env", []), hook.get("timeout", 0), report
    )


def run_poststop(container: Container, spec: oci.Spec) -> None:
    """Run the poststop hooks: a failure is logged (runtime.md, "Lifecycle", step 13)."""
    for hook in hooks(spec, "poststop"):
        try:
            run_hook(hook, container, "stopped")
        except PycontainError as err:
            log.warn(f"poststop: {err}")


def destroy(container: Container) -> None:
    """Kill what is left of a container and remove all that was made for it.

    Raises:
        KernelError, StoreError: something cannot be removed.
        PycontainError: systemd refuses to.
    """
    end(container)
    remove_cgroup(container)
    spec = _config(container)
    state.remove(container)
    run_poststop(container, spec)


def take_back(container: Container, spec: oci.Spec, verb: str, *, cgroup_made: bool) -> None:
    """Undo a creation or a restore that failed; what cannot be undone is logged.

    Args:
        container: locked, as far as it was made.
        spec: its configuration.
        verb: what failed, for the log.
        cgroup_made: its cgroup is ours to remove.
    """
    try:
        end(container)
        if cgroup_made:
            remove_cgroup(container)
        if container.state.pid:
            run_poststop(container, spec)
        state.remove(container)
    except PycontainError as err:
        log.warn(f"{verb}: undoing it: {err}")


def remove_cgroup(container: Container) -> None:
    """Remove the container's cgroup with whoever is in it, and the unit that it belongs to.

    Raises:
        KernelError: processes do not leave, or the caller may not.
        PycontainError: systemd refuses.
    """
    if container.state.unit:
        _stop_unit(container)
    if container.state.cgroup:
        state.remove_cgroup(container.state.cgroup)


def _stop_unit(container: Container) -> None:
    from pycontain.runtime import systemd

    with systemd.Manager() as manager:
        path = manager.control_group(container.state.unit)
        if path:
            # Otherwise systemd would ask those in it to end, and give them a minute and a half.
            _kill(path)
        manager.stop(container.state.unit)


def _kill(path: str) -> None:
    try:
        folder = state.open_cgroup(path)
    except NotFound:
        return  # nobody is in it any more
    try:
        cgroup.kill(folder)
    finally:
        os.close(folder)


def _config(container: Container) -> oci.Spec:
    # A removal that was killed may have taken it away already: its hooks are not run any more.
    if not container.state.pid or not os.path.lexists(f"{container.path}/config.json"):
        return {}
    return container.config()


def end(container: Container) -> None:
    """Kill the container's first process, if it runs, and wait until it has ended."""
    _see_ended(container, kill=True)


def await_end(container: Container) -> None:
    """Wait until the container's first process, which is about to end, has ended.

    Raises:
        KernelError: it does not end.
    """
    _see_ended(container, kill=False)


def _see_ended(container: Container, *, kill: bool) -> None:
    try:
        # No look at it before: one that fails to execute its program is ending just then.
        pidfd = container.pidfd()
    except InvalidState:
        return
    try:
        if kill:
            process.send_signal(pidfd, 9)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if poller.poll(_SOON):
            return
        _hasten(container)
        if not poller.poll(_PATIENCE):
            raise KernelError("kill" if kill else "wait", f"container {container.id}", 110)
    finally:
        os.close(pidfd)


def _hasten(container: Container) -> None:
    folder = container.open_cgroup()
    if folder is not None:
        try:
            cgroup.hasten(folder)
        finally:
            os.close(folder)
