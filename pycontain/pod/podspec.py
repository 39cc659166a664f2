"""What the spec of a Pod has to be: nothing in it may contradict the rest.

Source: the Kubernetes API reference, core/v1; "Sidecar Containers" of its documentation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pycontain.errors import InvalidInput
from pycontain.model import kube
from pycontain.model.parse.names import sysctl_namespace
from pycontain.model.parse.signals import parse_signal
from pycontain.pod import actions as handlers
from pycontain.pod import downward, resources
from pycontain.pod.checks import (
    check,
    check_address,
    check_label,
    check_path,
    check_relative,
    check_subdomain,
    check_text,
    check_unique,
    check_volume_name,
    is_variable,
    step_text,
    within,
)
from pycontain.pod.quantities import (
    RESOURCES,
    check_quantity,
    check_requests,
    quantity,
    whole_bytes,
)
from pycontain.pod.typed import fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SEARCH = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?\Z")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*\Z")
_HOST = re.compile(r"[0-9A-Za-z.:_-]+\Z")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
"""Of RFC 9110, section 5.6.2."""
_LINE = re.compile(r"[ -~\t]*\Z")
_URL_PATH = re.compile(r"[!-~]+\Z")


def checked(path: str, spec: kube.PodSpec) -> kube.PodSpec:
    """Return a spec that is in order, with Kubernetes' default for volumes without a source.

    Args:
        path: where it is: ``spec``, ``spec.template.spec``.
        spec: as it was declared.

    Raises:
        InvalidInput: something in it is none, or contradicts the rest.
    """
    every = (*spec.init_containers, *spec.containers)
    check(f"{path}.containers", spec.containers, "is empty")
    check_unique(f"{path}.containers", (one.name for one in every))
    check_unique(f"{path}.volumes", (one.name for one in spec.volumes))
    for number, volume in enumerate(spec.volumes):
        _check_volume(f"{path}.volumes[{number}]", volume, spec)
    for here, container in containers(spec, path):
        _check_container(here, container, spec)
    for number, container in enumerate(spec.init_containers):
        _check_init(f"{path}.initContainers[{number}]", container)
    for number, container in enumerate(spec.containers):
        here = f"{path}.containers[{number}].restartPolicy"
        check(here, container.restart_policy is None, "not supported")
    ports = (
        (port.host_ip or "0.0.0.0", port.host_port, port.protocol)  # noqa: S104 - a default
        for one in (*(one for one in spec.init_containers if one.restart_policy), *spec.containers)
        for port in one.ports
        if port.host_port
    )
    check_unique(f"{path}.containers: hostPort", ports)
    _check_hosts(path, spec)
    _check_shared(path, spec)
    _check_together(path, spec)
    volumes = tuple(_sourced(volume) for volume in spec.volumes)
    return replace(spec, volumes=volumes)


def containers(spec: kube.PodSpec, path: str = "spec") -> Iterator[tuple[str, kube.Container]]:
    """Yield path and container of each, those that initialise first.

    Args:
        spec: of a pod.
        path: where it is.
    """
    for number, one in enumerate(spec.init_containers):
        yield f"{path}.initContainers[{number}]", one
    for number, one in enumerate(spec.containers):
        yield f"{path}.containers[{number}]", one


def _check_init(path: str, container: kube.Container) -> None:
    """Probes and hooks are of what runs on: of init containers, of sidecars."""
    policy = container.restart_policy
    check(f"{path}.restartPolicy", policy in (None, "Always"), "not supported")
    asked = {
        "lifecycle": container.lifecycle, "livenessProbe": container.liveness_probe,
        "readinessProbe": container.readiness_probe, "startupProbe": container.startup_probe,
    }  # fmt: skip
    for name, value in asked.items():
        good = value is None or policy == "Always"
        check(f"{path}.{name}", good, "only with restartPolicy Always", "that makes it a sidecar")


def _check_shared(path: str, spec: kube.PodSpec) -> None:
    """See what the pod has of the machine's namespaces, and what it sets in its own."""
    both = spec.host_pid and spec.share_process_namespace
    check(f"{path}.shareProcessNamespace", not both, "hostPID shares the machine's")
    context, here = spec.security_context, f"{path}.securityContext"
    _check_profiles(here, context)
    names = [sysctl_name(one.name) for one in context.sysctls]
    check_unique(f"{here}.sysctls", names)
    for number, (name, one) in enumerate(zip(names, context.sysctls, strict=True)):
        at = f"{here}.sysctls[{number}]"
        kind = sysctl_namespace(name)
        hint = "kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.* and net.* are the pod's"
        check(f"{at}.name", kind, f"{one.name!r} is the machine's", hint)
        check_text(f"{at}.value", one.value)
        theirs = spec.host_network if kind == "network" else spec.host_ipc
        check(f"{at}.name", not theirs, f"{name} is the machine's, as its {kind} namespace is")


def sysctl_name(name: str) -> str:
    """Return a parameter's name with dots between its parts, which may be written with slashes.

    Source: sysctl.d(5): the first separator says which one it is.
    """
    slash, dot = name.find("/"), name.find(".")
    if slash >= 0 and (dot < 0 or slash < dot):
        return name.translate(str.maketrans("./", "/."))
    return name


def _sourced(volume: kube.Volume) -> kube.Volume:
    """Give a volume that says no source Kubernetes' default."""
    return volume if _sources(volume) else replace(volume, empty_dir=kube.EmptyDir())


def _sources(volume: kube.Volume) -> list[str]:
    return [
        one.encode_name
        for one in fields(kube.Volume)
        if one.name != "name" and getattr(volume, one.name) is not None
    ]


def _check_volume(path: str, volume: kube.Volume, spec: kube.PodSpec) -> None:
    check_label(f"{path}.name", volume.name)
    sources = _sources(volume)
    check(path, len(sources) <= 1, f"more than one source: {', '.join(sources)}")
    if volume.empty_dir and volume.empty_dir.size_limit is not None:
        check_quantity(f"{path}.emptyDir.sizeLimit", whole_bytes, volume.empty_dir.size_limit)
    if volume.host_path:
        place = volume.host_path.path
        good = place.startswith("/") and ".." not in place.split("/")
        check(f"{path}.hostPath.path", good, f"{place!r} is not absolute, or has ..")
        check_text(f"{path}.hostPath.path", place)
    if volume.persistent_volume_claim:
        claim = volume.persistent_volume_claim.claim_name
        check_subdomain(f"{path}.persistentVolumeClaim.claimName", claim)
        check_volume_name(f"{path}.persistentVolumeClaim.claimName", claim)
    for name, source in (("configMap", volume.config_map), ("secret", volume.secret)):
        if source is not None:
            named = source.name if isinstance(source, kube.ConfigMapVolume) else source.secret_name
            check_subdomain(f"{path}.{name}", named)
            _check_items(f"{path}.{name}.items", source.items or ())
    if volume.downward_api:
        _check_facts(f"{path}.downwardAPI.items", volume.downward_api.items, spec)
    if volume.projected:
        _check_projected(f"{path}.projected.sources", volume.projected.sources, spec)


def _check_projected(
    path: str, sources: tuple[kube.VolumeProjection, ...], spec: kube.PodSpec
) -> None:
    """Paths that are written down have to differ; of keys without ``items`` the last one counts."""
    for number, part in enumerate(sources):
        _check_projection(f"{path}[{number}]", part, spec)
    parts = (one for part in sources for one in (part.config_map, part.secret, part.downward_api))
    check_unique(path, (item.path for one in parts if one is not None for item in one.items or ()))


def _check_projection(path: str, part: kube.VolumeProjection, spec: kube.PodSpec) -> None:
    _check_one(path, part)
    for name, source in (("configMap", part.config_map), ("secret", part.secret)):
        if source is not None:
            check_subdomain(f"{path}.{name}.name", source.name)
            _check_items(f"{path}.{name}.items", source.items or ())
    if part.downward_api:
        _check_facts(f"{path}.downwardAPI.items", part.downward_api.items, spec)


def _check_facts(
    path: str, items: tuple[kube.DownwardAPIVolumeFile, ...], spec: kube.PodSpec
) -> None:
    for number, item in enumerate(items):
        here = f"{path}[{number}]"
        check_path(f"{here}.path", item.path)
        sources = [one for one in (item.field_ref, item.resource_field_ref) if one is not None]
        check(here, len(sources) == 1, "not one of fieldRef and resourceFieldRef")
        if item.field_ref is not None:
            with within(f"{here}.fieldRef.fieldPath"):
                downward.check_field(item.field_ref.field_path, in_volume=True)
        if item.resource_field_ref is not None:
            named = item.resource_field_ref.container_name
            check(f"{here}.resourceFieldRef.containerName", named, "is missing")
            _check_resource(f"{here}.resourceFieldRef", item.resource_field_ref, spec)
    check_unique(path, (item.path for item in items))


def _check_resource(path: str, ref: kube.ResourceFieldSelector, spec: kube.PodSpec) -> None:
    with within(f"{path}.resource"):
        downward.check_resource(ref.resource)
    if ref.divisor is not None:
        check_quantity(f"{path}.divisor", quantity, ref.divisor)
    names = {container.name for _, container in containers(spec)}
    good = ref.container_name is None or ref.container_name in names
    check(f"{path}.containerName", good, f"there is no container {ref.container_name!r}")


def _check_items(path: str, items: tuple[kube.KeyToPath, ...]) -> None:
    for number, item in enumerate(items):
        check_path(f"{path}[{number}].path", item.path)
    check_unique(path, (item.path for item in items))


def _check_container(path: str, container: kube.Container, spec: kube.PodSpec) -> None:
    check_label(f"{path}.name", container.name)
    check(f"{path}.image", container.image.strip(), "is empty")
    for name in ("command", "args"):
        for word in getattr(container, name) or ():
            check_text(f"{path}.{name}", word)
    if container.working_dir:
        check(f"{path}.workingDir", container.working_dir[0] == "/", "is not absolute")
    _check_resources(f"{path}.resources", container.resources)
    _check_env(path, container, spec)
    _check_ports(path, container.ports, host_network=spec.host_network)
    _check_mounts(path, container.volume_mounts, {volume.name for volume in spec.volumes})
    _check_rights(path, container.security_context, spec.security_context)
    _check_profiles(f"{path}.securityContext", container.security_context)
    _check_probes(path, container)
    if container.lifecycle is not None:
        _check_lifecycle(f"{path}.lifecycle", container.lifecycle, container, spec)


def _check_resources(path: str, asked: kube.ResourceRequirements) -> None:
    for name, amounts in (("limits", asked.limits), ("requests", asked.requests)):
        for key, value in amounts.items():
            check_quantity(f"{path}.{name}{step_text(key)}", RESOURCES.get(key, quantity), value)
    check_requests(path, asked)


def _check_together(path: str, spec: kube.PodSpec) -> None:
    """See that no container may have more than all of them, and that all ask for enough."""
    _check_resources(f"{path}.resources", spec.resources)
    for key, most in spec.resources.limits.items():
        there = quantity(most)
        for here, one in containers(spec, path):
            limit = one.resources.limits.get(key)
            if limit is not None and quantity(limit) > there:
                where = f"{here}.resources.limits{step_text(key)}"
                raise InvalidInput(f"{where}: {limit} is more than the pod's limit, {most}")
    for key, asked in spec.resources.requests.items():
        least = resources.of_containers(spec, key)
        what = f"{asked} is less than its containers ask for, {least}"
        check(f"{path}.resources.requests{step_text(key)}", quantity(asked) >= least, what)


def _check_probes(path: str, container: kube.Container) -> None:
    for name, probe in (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    ):
        if probe is None:
            continue
        here = f"{path}.{name}"
        _check_handler(here, (probe.exec_, probe.http_get, probe.tcp_socket), container)
        if name == "readinessProbe":
            grace = probe.termination_grace_period_seconds
            check(f"{here}.terminationGracePeriodSeconds", grace is None, "it ends no container")
        else:
            check(f"{here}.successThreshold", probe.success_threshold in (0, 1), "is not 1")


def _check_lifecycle(
    path: str, lifecycle: kube.Lifecycle, container: kube.Container, spec: kube.PodSpec
) -> None:
    for name, hook in (("postStart", lifecycle.post_start), ("preStop", lifecycle.pre_stop)):
        if hook is None:
            continue
        here = f"{path}.{name}"
        actions = (hook.exec_, hook.http_get, hook.tcp_socket, hook.sleep)
        _check_handler(here, actions, container)
        most = spec.termination_grace_period_seconds
        good = hook.sleep is None or hook.sleep.seconds <= most
        check(f"{here}.sleep.seconds", good, f"more than terminationGracePeriodSeconds, {most}")
    if lifecycle.stop_signal is not None:
        with within(f"{path}.stopSignal"):
            parse_signal(lifecycle.stop_signal, "signal")


def _check_handler(
    path: str,
    actions: Iterable[
        kube.ExecAction | kube.HTTPGetAction | kube.TCPSocketAction | kube.SleepAction | None
    ],
    container: kube.Container,
) -> None:
    there = [one for one in actions if one is not None]
    check(path, len(there) == 1, "not one action")
    (action,) = there
    if isinstance(action, kube.ExecAction):
        check(f"{path}.exec.command", action.command, "is empty")
        for word in action.command:
            check_text(f"{path}.exec.command", word)
    if isinstance(action, kube.HTTPGetAction | kube.TCPSocketAction):
        here = f"{path}.{'httpGet' if isinstance(action, kube.HTTPGetAction) else 'tcpSocket'}"
        with within(f"{here}.port"):
            handlers.port_number(container, action.port)
        good = not action.host or _HOST.match(action.host)
        check(f"{here}.host", good, f"{action.host!r} is no host")
    if isinstance(action, kube.HTTPGetAction):
        _check_request(f"{path}.httpGet", action)


def _check_request(path: str, action: kube.HTTPGetAction) -> None:
    good = not action.path or _URL_PATH.match(action.path)
    check(f"{path}.path", good, f"{action.path!r} is no path of a URL")
    for number, header in enumerate(action.http_headers):
        here = f"{path}.httpHeaders[{number}]"
        check(f"{here}.name", _TOKEN.match(header.name), f"{header.name!r} is no header's name")
        check(f"{here}.value", _LINE.match(header.value), "is no line of printable characters")


def _check_profiles(path: str, context: kube.SecurityContext | kube.PodSecurityContext) -> None:
    for name, profile in (
        ("seccompProfile", context.seccomp_profile),
        ("appArmorProfile", context.app_armor_profile),
    ):
        if profile is None:
            continue
        local, here = profile.localhost_profile, f"{path}.{name}.localhostProfile"
        check(here, bool(local) == (profile.type == "Localhost"), f"does not fit {profile.type}")
        if local and name == "seccompProfile":
            check_relative(here, local)
        elif local:
            check(here, _LINE.match(local) and local.strip(), f"{local!r} is no name of a profile")
    armor = context.app_armor_profile
    good = armor is None or armor.type != "RuntimeDefault"
    hint = "a profile that the kernel has is named with type Localhost"
    check(f"{path}.appArmorProfile.type", good, "RuntimeDefault: there is no such profile", hint)


def _check_env(path: str, container: kube.Container, spec: kube.PodSpec) -> None:
    for number, one in enumerate(container.env):
        here = f"{path}.env[{number}]"
        check(f"{here}.name", is_variable(one.name), f"{one.name!r} is no name of a variable")
        check_text(f"{here}.value", one.value or "")
        if one.value_from is not None:
            check(here, not one.value, "both value and valueFrom")
            _check_source(f"{here}.valueFrom", one.value_from, spec)
    for number, source in enumerate(container.env_from):
        here = f"{path}.envFrom[{number}]"
        good = not source.prefix or is_variable(source.prefix)
        check(f"{here}.prefix", good, f"{source.prefix!r} is no beginning of a variable's name")
        refs = [ref for ref in (source.config_map_ref, source.secret_ref) if ref is not None]
        check(here, len(refs) == 1, "not one source")
        check_subdomain(f"{here}: name", refs[0].name)


def _check_one(path: str, source: kube.EnvVarSource | kube.VolumeProjection) -> None:
    there = [
        one.encode_name for one in fields(type(source)) if getattr(source, one.name) is not None
    ]
    check(path, len(there) == 1, f"not one source: {', '.join(there) or 'none'}")


def _check_source(path: str, source: kube.EnvVarSource, spec: kube.PodSpec) -> None:
    _check_one(path, source)
    for key in (source.config_map_key_ref, source.secret_key_ref):
        if key is not None:
            check_subdomain(f"{path}: name", key.name)
    if source.field_ref is not None:
        with within(f"{path}.fieldRef.fieldPath"):
            downward.check_field(source.field_ref.field_path, in_volume=False)
    if source.resource_field_ref is not None:
        _check_resource(f"{path}.resourceFieldRef", source.resource_field_ref, spec)


def _check_ports(path: str, ports: tuple[kube.ContainerPort, ...], *, host_network: bool) -> None:
    for number, port in enumerate(ports):
        here = f"{path}.ports[{number}]"
        if port.name is not None:
            good = len(port.name) <= 15 and _PORT_NAME.match(port.name)
            check(f"{here}.name", good, f"{port.name!r} is no name of a service")
        if port.host_ip:
            check_address(f"{here}.hostIP", port.host_ip)
        same = not host_network or port.host_port in (None, 0, port.container_port)
        check(f"{here}.hostPort", same, "is not containerPort, in the host's network")
    check_unique(f"{path}.ports", (port.name for port in ports if port.name is not None))


def _check_mounts(path: str, mounts: tuple[kube.VolumeMount, ...], volumes: set[str]) -> None:
    for number, mount in enumerate(mounts):
        here = f"{path}.volumeMounts[{number}]"
        check(f"{here}.name", mount.name in volumes, f"there is no volume {mount.name!r}")
        place = mount.mount_path
        good = place.startswith("/") and ":" not in place and "\0" not in place
        check(f"{here}.mountPath", good, f"{place!r} is not absolute, or has a colon")
        if mount.sub_path:
            check_relative(f"{here}.subPath", mount.sub_path)
        if mount.sub_path_expr:
            check(here, not mount.sub_path, "both subPath and subPathExpr")
            check_relative(f"{here}.subPathExpr", mount.sub_path_expr)
    check_unique(f"{path}.volumeMounts", (mount.mount_path for mount in mounts))


def _check_rights(path: str, own: kube.SecurityContext, shared: kube.PodSecurityContext) -> None:
    strict = own.run_as_non_root if own.run_as_non_root is not None else shared.run_as_non_root
    user = own.run_as_user if own.run_as_user is not None else shared.run_as_user
    here = f"{path}.securityContext"
    check(here, not strict or user != 0, "runAsNonRoot, and runAsUser is 0")
    raised = own.privileged or "SYS_ADMIN" in (own.capabilities or kube.Capabilities()).add
    good = own.allow_privilege_escalation is not False or not raised
    check(here, good, "allowPrivilegeEscalation is false, and privileged or SYS_ADMIN asked for")


def _check_hosts(path: str, spec: kube.PodSpec) -> None:
    if spec.hostname is not None:
        check_label(f"{path}.hostname", spec.hostname)
    for number, alias in enumerate(spec.host_aliases):
        check_address(f"{path}.hostAliases[{number}].ip", alias.ip)
        for name in alias.hostnames:
            check_subdomain(f"{path}.hostAliases[{number}].hostnames", name)
    dns = spec.dns_config or kube.PodDNSConfig()
    for address in dns.nameservers:
        check_address(f"{path}.dnsConfig.nameservers", address)
    for name in dns.searches:
        is_domain = name == "." or (len(name) <= 254 and _SEARCH.match(name))
        check(f"{path}.dnsConfig.searches", is_domain, f"{name!r} is no domain")
    good = spec.dns_policy != "None" or dns.nameservers
    check(f"{path}.dnsConfig.nameservers", good, "is empty, with dnsPolicy None")
