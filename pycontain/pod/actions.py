"""Probes and hooks of a Kubernetes container, as the engine and the supervisor take them.

Source: the Kubernetes API reference, core/v1, Probe and Lifecycle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from pycontain.errors import InvalidInput
from pycontain.model import kube
from pycontain.model.probe import (
    ExecAction,
    Hooks,
    HttpAction,
    ProbeCheck,
    Probes,
    SleepAction,
    TcpAction,
)
from pycontain.pod import configs

if TYPE_CHECKING:
    Action = ExecAction | HttpAction | TcpAction


def probes(container: kube.Container) -> Probes | None:
    """Return a container's probes, with the numbers of ports; None: it has none."""
    found = Probes(
        startup=_check(container, container.startup_probe),
        liveness=_check(container, container.liveness_probe),
        readiness=_check(container, container.readiness_probe),
    )
    return None if found == Probes() else found


def hooks(container: kube.Container) -> Hooks | None:
    """Return a container's hooks, with the numbers of ports; None: it has none."""
    lifecycle = container.lifecycle or kube.Lifecycle()
    found = Hooks(
        post_start=_hook(container, lifecycle.post_start),
        pre_stop=_hook(container, lifecycle.pre_stop),
    )
    return None if found == Hooks() else found


def port_number(container: kube.Container, port: kube.PortName) -> int:
    """Return the number of a port that is named by its number or by its name.

    Raises:
        InvalidInput: the container has no port of the name, or it cannot be a port.
    """
    if isinstance(port, str):
        known = {one.name: one.container_port for one in container.ports}
        if port not in known and not (port.isascii() and port.isdecimal() and len(port) <= 5):
            raise InvalidInput(f"the container has no port of the name {port!r}")
        port = known.get(port) or int(port)
    if not 1 <= port <= 65535:
        raise InvalidInput(f"{port} is no port")
    return port


def _check(container: kube.Container, probe: kube.Probe | None) -> ProbeCheck | None:
    if probe is None:
        return None
    default = ProbeCheck(action=ExecAction(command=()))
    action = _action(container, probe)
    if isinstance(action, ExecAction):
        # as kubelet: of the command of a probe, and of no hook's
        given = {one.name: one.value or "" for one in container.env if one.value_from is None}
        action = ExecAction(command=tuple(configs.expand(word, given) for word in action.command))
    return ProbeCheck(
        action=action,
        initial_delay=probe.initial_delay_seconds,
        period=probe.period_seconds or default.period,
        timeout=probe.timeout_seconds or default.timeout,
        successes=probe.success_threshold or default.successes,
        failures=probe.failure_threshold or default.failures,
        grace=probe.termination_grace_period_seconds,
    )


def _hook(
    container: kube.Container, handler: kube.LifecycleHandler | None
) -> Action | SleepAction | None:
    if handler is not None and handler.sleep is not None:
        return SleepAction(seconds=handler.sleep.seconds)
    return _action(container, handler)


@overload
def _action(container: kube.Container, handler: kube.Probe) -> Action: ...


@overload
def _action(container: kube.Container, handler: kube.LifecycleHandler | None) -> Action | None: ...


def _action(
    container: kube.Container, handler: kube.Probe | kube.LifecycleHandler | None
) -> Action | None:
    if handler is None:
        return None
    if handler.exec_ is not None:
        return ExecAction(command=handler.exec_.command)
    if handler.tcp_socket is not None:
        asked = handler.tcp_socket
        return TcpAction(port=port_number(container, asked.port), host=asked.host or "")
    assert handler.http_get is not None
    return _get(container, handler.http_get)


def _get(container: kube.Container, asked: kube.HTTPGetAction) -> HttpAction:
    path = asked.path or "/"
    return HttpAction(
        port=port_number(container, asked.port),
        path=path if path.startswith("/") else f"/{path}",
        host=asked.host or "",
        scheme="https" if asked.scheme == "HTTPS" else "http",
        headers=tuple((header.name, header.value) for header in asked.http_headers),
    )
