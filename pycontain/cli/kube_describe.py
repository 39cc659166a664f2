"""Text of ``kube describe``, by value: what a person asks first, in kubectl's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pycontain.cli import kube_rows
from pycontain.cli.kube_rows import age
from pycontain.cli.streams import harmless
from pycontain.model import kube
from pycontain.model.kube_status import ContainerState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pycontain.model.kube_status import (
        ContainerStatus,
        DeploymentCondition,
        DeploymentStatus,
        PodCondition,
        PodStatus,
    )
    from pycontain.pod.declared import Declared

    Pairs = Iterable[tuple[str, str]]

_NONE = "<none>"
_STEP = "  "


class Told(NamedTuple):
    """Something that happened.

    Attributes:
        age: since then, as ``5m10s``.
        subject: what it happened to, ``container server``.
    """

    age: str
    subject: str
    action: str
    message: str


def _block(pairs: Pairs, depth: int = 0) -> Iterator[str]:
    """Lines ``KEY:  VALUE``, the values below each other; further lines of a value go there too."""
    listed = list(pairs)
    width = max((len(key) for key, _ in listed), default=0) + 3
    for key, value in listed:
        first, *more = value.split("\n")
        yield f"{_STEP * depth}{f'{key}:':<{width}}{first}".rstrip()
        for line in more:
            yield f"{_STEP * depth}{' ' * width}{line}".rstrip()


def _map(values: Mapping[str, str], sign: str) -> str:
    return "\n".join(f"{key}{sign}{value}" for key, value in sorted(values.items())) or _NONE


def _head(declared: Declared) -> Iterator[tuple[str, str]]:
    from pycontain.pod.status import rfc3339

    metadata = declared.object.metadata
    yield "Name", declared.name
    yield "UID", declared.uid
    yield "Created", rfc3339(declared.created) or ""
    if declared.deleted:
        yield "Status", f"Terminating, since {rfc3339(declared.deleted)}"
    yield "Labels", _map(metadata.labels, "=")
    yield "Annotations", _map(metadata.annotations, ": ")
    if declared.owner is not None:
        yield "Controlled By", f"{declared.owner.kind}/{declared.owner.name}"


def _text(lines: Iterable[str]) -> str:
    return harmless("".join(f"{line}\n" for line in lines))


# ---- pods ----


def pod(declared: Declared, status: PodStatus, node: str, told: Sequence[Told]) -> str:
    """Return the description of a Pod."""
    return _text(_pod_lines(declared, status, node, told))


def _pod_lines(
    declared: Declared, status: PodStatus, node: str, told: Sequence[Told]
) -> Iterator[str]:
    spec = declared.pod.spec
    yield from _block([*_head(declared), *_pod_head(declared, status, node)])
    statuses = kube_rows.by_name((*status.init_container_statuses, *status.container_statuses))
    if spec.init_containers:
        yield "Init Containers:"
        yield from _containers(spec.init_containers, statuses)
    yield "Containers:"
    yield from _containers(spec.containers, statuses)
    yield from _conditions(status.conditions)
    yield from _volumes(spec.volumes)
    yield from _block([("QoS Class", status.qos_class)])
    yield from _events(told)


def _pod_head(declared: Declared, status: PodStatus, node: str) -> Iterator[tuple[str, str]]:
    spec = declared.pod.spec
    yield "Node", f"{node}/{status.host_ip}" if status.host_ip else node
    yield "Start Time", status.start_time or _NONE
    if not declared.deleted:
        yield "Status", status.phase
    if status.reason:
        yield "Reason", status.reason
    if status.message:
        yield "Message", status.message
    yield "IP", "\n".join(one.ip for one in status.pod_ips) or _NONE
    yield "Restart Policy", spec.restart_policy


def _containers(
    several: Iterable[kube.Container], statuses: Mapping[str, ContainerStatus]
) -> Iterator[str]:
    for one in several:
        yield f"{_STEP}{one.name}:"
        yield from _block(_container(one, statuses.get(one.name)), 2)


def _container(one: kube.Container, status: ContainerStatus | None) -> Iterator[tuple[str, str]]:
    if status is not None:
        yield "Container ID", status.container_id or _NONE
    yield "Image", one.image
    if status is not None:
        yield "Image ID", status.image_id or _NONE
    if one.ports:
        yield "Ports", ", ".join(map(_port, one.ports))
    if one.command:
        yield "Command", "\n".join(one.command)
    if one.args:
        yield "Args", "\n".join(one.args)
    if status is not None:
        yield from _state("State", status.state)
        if status.last_state != ContainerState():
            yield from _state("Last State", status.last_state)
        yield "Ready", str(status.ready)
        yield "Restart Count", str(status.restart_count)
    yield from _asked(one)


def _port(port: kube.ContainerPort) -> str:
    name = f" ({port.name})" if port.name else ""
    if not port.host_port:
        return f"{port.container_port}/{port.protocol}{name}"
    host = f"[{port.host_ip}]" if port.host_ip and ":" in port.host_ip else port.host_ip
    where = f"{host}:{port.host_port}" if host else str(port.host_port)
    return f"{where}->{port.container_port}/{port.protocol}{name}"


def _state(word: str, state: ContainerState) -> Iterator[tuple[str, str]]:
    first, *more = kube_rows.state_lines(state) or [("", "Unknown")]
    yield word, first[1]
    yield from ((f"{_STEP}{name}", text) for name, text in more if text)


def _asked(one: kube.Container) -> Iterator[tuple[str, str]]:
    """What a container was to have."""
    for word, values in (("Limits", one.resources.limits), ("Requests", one.resources.requests)):
        if values:
            yield word, _map({name: str(value) for name, value in values.items()}, ": ")
    probes = {
        "Liveness": one.liveness_probe,
        "Readiness": one.readiness_probe,
        "Startup": one.startup_probe,
    }
    for name, probe in probes.items():
        if probe is not None:
            yield name, _probe(probe)
    yield "Environment", "\n".join(_environment(one)) or _NONE
    yield "Mounts", "\n".join(map(_mount, one.volume_mounts)) or _NONE


def _probe(probe: kube.Probe) -> str:
    if probe.exec_ is not None:
        action = f"exec {list(probe.exec_.command)}"
    elif probe.tcp_socket is not None:
        action = f"tcp-socket {probe.tcp_socket.host or ''}:{probe.tcp_socket.port}"
    else:
        assert probe.http_get is not None
        get = probe.http_get
        action = f"http-get {get.scheme.lower()}://{get.host or ''}:{get.port}{get.path or '/'}"
    return (
        f"{action} delay={probe.initial_delay_seconds}s timeout={probe.timeout_seconds}s"
        f" period={probe.period_seconds}s #success={probe.success_threshold}"
        f" #failure={probe.failure_threshold}"
    )


def _environment(one: kube.Container) -> Iterator[str]:
    for source in one.env_from:
        if source.config_map_ref is not None:
            yield f"all of ConfigMap/{source.config_map_ref.name}"
        if source.secret_ref is not None:
            yield f"all of Secret/{source.secret_ref.name}"
    for variable in one.env:
        if variable.value_from is None:
            yield f"{variable.name}: {variable.value or ''}"
        else:
            yield f"{variable.name}: <{_origin(variable.value_from)}>"


def _origin(source: kube.EnvVarSource) -> str:
    """Where a value comes from, not what it is: it may be a secret."""
    if source.config_map_key_ref is not None:
        ref = source.config_map_key_ref
        return f"key {ref.key} of ConfigMap/{ref.name}"
    if source.secret_key_ref is not None:
        ref = source.secret_key_ref
        return f"key {ref.key} of Secret/{ref.name}"
    if source.field_ref is not None:
        return source.field_ref.field_path
    return source.resource_field_ref.resource if source.resource_field_ref else ""


def _mount(mount: kube.VolumeMount) -> str:
    part = mount.sub_path or mount.sub_path_expr
    words = ["ro" if mount.read_only else "rw", *([f"path={part}"] if part else ())]
    return f"{mount.mount_path} from {mount.name} ({','.join(words)})"


def _conditions(several: Sequence[PodCondition | DeploymentCondition]) -> Iterator[str]:
    yield "Conditions:"
    width = max((len(one.type) for one in several), default=0) + 3
    for one in several:
        said = " ".join(filter(None, (one.reason, one.message)))
        yield f"{_STEP}{one.type:<{width}}{one.status:<8}{said}".rstrip()


def _volumes(several: Sequence[kube.Volume]) -> Iterator[str]:
    if several:
        yield "Volumes:"
        yield from _block(((one.name, _volume(one)) for one in several), 1)


def _volume(one: kube.Volume) -> str:
    if one.config_map is not None:
        return f"ConfigMap/{one.config_map.name}"
    if one.secret is not None:
        return f"Secret/{one.secret.secret_name}"
    if one.persistent_volume_claim is not None:
        return f"PersistentVolumeClaim/{one.persistent_volume_claim.claim_name}"
    if one.host_path is not None:
        return " ".join(filter(None, ("hostPath", one.host_path.path, one.host_path.type)))
    if one.empty_dir is not None:
        limit = one.empty_dir.size_limit
        bound = "" if limit is None else f"sizeLimit={limit}"
        return " ".join(filter(None, ("emptyDir", one.empty_dir.medium, bound)))
    return "projected" if one.projected is not None else "downwardAPI"


def _events(told: Sequence[Told]) -> Iterator[str]:
    if not told:
        yield f"Events:  {_NONE}"
        return
    yield "Events:"
    widths = [max(len(one[column]) for one in told) for column in range(3)]
    for one in told:
        cells = (f"{cell:<{width}}" for cell, width in zip(one[:3], widths, strict=True))
        yield f"{_STEP}{'   '.join((*cells, one.message))}".rstrip()


# ---- other kinds ----


def deployment(
    declared: Declared,
    wanted: kube.Deployment,
    status: DeploymentStatus,
    pods: Sequence[str],
    told: Sequence[Told],
) -> str:
    """Return the description of a Deployment.

    Args:
        declared: it.
        wanted: its object.
        status: of it.
        pods: what is said of each of its pods.
        told: what happened to it.
    """
    template = wanted.spec.template
    counts = (
        f"{wanted.spec.replicas} desired | {status.updated_replicas} updated |"
        f" {status.replicas} total | {status.available_replicas} available |"
        f" {status.unavailable_replicas} unavailable"
    )
    lines = [
        *_block([
            *_head(declared),
            ("Selector", kube_rows.selector_text(wanted.spec.selector)),
            ("Replicas", counts),
            ("Strategy", "Recreate"),
            ("Min Ready Seconds", str(wanted.spec.min_ready_seconds)),
        ]),
        "Pod Template:",
        *_block([("Labels", _map(template.metadata.labels, "="))], 1),
        *(f"{_STEP}{line}" for line in _template(template.spec)),
        *_conditions(status.conditions),
        "Pods:" if pods else f"Pods:  {_NONE}",
        *(f"{_STEP}{line}" for line in pods),
        *_events(told),
    ]  # fmt: skip
    return _text(lines)


def _template(spec: kube.PodSpec) -> Iterator[str]:
    if spec.init_containers:
        yield "Init Containers:"
        yield from _containers(spec.init_containers, {})
    yield "Containers:"
    yield from _containers(spec.containers, {})
    yield from _volumes(spec.volumes)


def data(declared: Declared) -> str:
    """Return the description of a ConfigMap, or of a Secret: of that only how much there is."""
    from pycontain.pod import configs

    one = declared.object
    assert isinstance(one, kube.ConfigMap | kube.Secret)
    lines = [*_block(_head(declared))]
    if isinstance(one, kube.Secret):
        lines += _block([("Type", one.type)])
    lines.append("Data:")
    for key, content in sorted(configs.contents(one).items()):
        if isinstance(one, kube.Secret) or key in one.binary_data:
            lines.append(f"{_STEP}{key}:  {len(content)} bytes")
            continue
        lines.append(f"{_STEP}{key}:")
        lines += (f"{_STEP * 2}{line}" for line in content.decode().splitlines())
    return _text(lines)


def claim(declared: Declared, *, bound: bool, users: Sequence[str]) -> str:
    """Return the description of a PersistentVolumeClaim.

    Args:
        declared: it.
        bound: its volume is there.
        users: names of the declared pods that name it.
    """
    assert isinstance(declared.object, kube.PersistentVolumeClaim)
    spec = declared.object.spec
    return _text(
        _block([
            *_head(declared),
            ("Status", "Bound" if bound else "Pending"),
            ("Volume", declared.name if bound else _NONE),
            ("Requested", str(spec.resources.requests.get("storage", _NONE))),
            ("Access Modes", ",".join(spec.access_modes)),
            ("Storage Class", spec.storage_class_name or _NONE),
            ("Volume Mode", spec.volume_mode),
            ("Used By", "\n".join(users) or _NONE),
        ])
    )  # fmt: skip


def told_age(moment: int, now: int) -> str:
    """Return how long ago something happened, nanoseconds since the epoch."""
    return age(now - moment)
