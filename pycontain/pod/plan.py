"""What a Pod of a Kubernetes manifest comes to on this machine, by value.

:func:`plan` says it; :mod:`pycontain.pod.play` does it. The pod has what belongs to it in its own
folder: the files of its ConfigMaps and Secrets, and its empty folders.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from msgspec.structs import replace

from pycontain.errors import (
    InvalidInput,
)
from pycontain.model.container import Limits, Mount, Publish, RestartPolicy, RunOptions
from pycontain.model.parse.hosts import (
    parse_add_host,
    parse_dns,
    parse_dns_option,
    parse_dns_search,
)
from pycontain.model.parse.mounts import merge_mounts
from pycontain.model.parse.names import validate_name
from pycontain.model.pod import SHARED, Memory, Pod
from pycontain.pod import actions, configs, podspec, quantities, resources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from pycontain.model import kube
    from pycontain.model.container import NetworkChoice

    Pull = Literal["Always", "IfNotPresent", "Never", ""]

POD_LABEL = "io.kubernetes.pod.name"
"""Label of a pod that was played, and of its containers: as kubelet names them."""
NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
CONTAINER_LABEL = "io.kubernetes.container.name"
SECCOMP_FOLDER = "/var/lib/kubelet/seccomp"
"""Where a ``localhostProfile`` is: kubelet's folder, and podman's for what it plays."""
_HOSTNAME_MAX = 63
_NAME_MIN = 2  # as of containers
_MEMORY = "Memory"
_READ_ONLY = "rro"
_LEAST_CPUS = 0.01  # 1 ms in each 100 ms (cgroup-v2.rst, cpu.max; MIN_CFS_QUOTA_PERIOD)


class Folder(NamedTuple):
    """A folder of a pod's own: an ``emptyDir``, or the files of a ConfigMap or Secret.

    Attributes:
        name: of the volume.
        mode: permission bits.
        files: of a ConfigMap or Secret, all that is in it; None: it is the containers' to fill.
        limit: bytes that containers may write into it; None: as many as there are.
    """

    name: str
    mode: int
    files: tuple[configs.File, ...] | None = None
    limit: int | None = None


class HostPath(NamedTuple):
    """A path of the host that has to be there, or is to be made.

    Attributes:
        type: as ``hostPath.type``.
    """

    volume: str
    path: str
    type: kube.HostPathType


class Requests(NamedTuple):
    """What a pod asks for to be admitted, all its containers together.

    Attributes:
        cpu: processors.
        memory: bytes.
    """

    cpu: Decimal
    memory: int


class Facts(NamedTuple):
    """What is known of a pod once its sandbox runs.

    Attributes:
        uid: of the declared object.
        pod_ips: its addresses, the first one first; none without a network.
        host_ip: an address of the machine; empty where it has none.
        node_name: the machine's host name.
        cpus: processors of the machine.
        memory: bytes of the machine.
    """

    uid: str
    pod_ips: tuple[str, ...]
    host_ip: str
    node_name: str
    cpus: int
    memory: int


Kind = Literal["init", "sidecar", "main"]


class Member(NamedTuple):
    """A container of a pod that is to be made.

    Attributes:
        name: in the manifest.
        kind: ``init`` runs to its end before the next one; ``sidecar`` is started in its place
            among those and runs on; ``main`` is one of the others.
        options: without the pod. The source of a ``bind`` that is not absolute lies in the pod's
            own folders; that of an anonymous volume is the name in the manifest.
        pull: the policy; empty is Kubernetes' default one.
        non_root: its user must not be root.
    """

    name: str
    kind: Kind
    options: RunOptions
    pull: Pull
    non_root: bool


class Planned(NamedTuple):
    """What a Pod comes to here.

    Attributes:
        pod: what ``Pods.create`` is given; without id.
        init: containers that are started before the others, one after the other.
        members: the others.
        fs_group: the group that its folders are given; None: none.
        requests: what it asks for.
    """

    pod: Pod
    folders: tuple[Folder, ...]
    host_paths: tuple[HostPath, ...]
    init: tuple[Member, ...]
    members: tuple[Member, ...]
    fs_group: int | None
    requests: Requests


class Around(NamedTuple):
    """What a pod gets of the machine where its manifest says nothing.

    Attributes:
        network: ``bridge`` or ``none``.
        networks: that it is in.
        publish_address: address of the host for ports without ``hostIP``; empty is every one.
        shm_size: bytes of the shared /dev/shm.
        defaults: further fields of the containers' ``RunOptions``.
    """

    network: str = "none"
    networks: tuple[NetworkChoice, ...] = ()
    publish_address: str = ""
    shm_size: int = 64 << 20
    defaults: Mapping[str, Any] = {}


UNKNOWN = Facts("", (), "", "", 1, 1 << 30)
"""What stands for the facts of a pod that does not run yet."""

# ---- by value ----


def plan(
    pod: kube.Pod,
    objects: Sequence[kube.Object],
    around: Around | None = None,
    facts: Facts | None = None,
) -> Planned:
    """Return what a Pod comes to.

    Args:
        pod: as ``manifest.parse`` returns it.
        objects: among which its ConfigMaps and Secrets are.
        around: what the machine gives it; None: no network.
        facts: what is known once it runs; None: before, where placeholders stand for them.

    Raises:
        InvalidInput: it contradicts itself, or what it names is not among the objects.
    """
    return _Plan(pod, objects, around or Around(), facts or UNKNOWN).whole()


def folders(
    pod: kube.Pod, objects: Sequence[kube.Object], facts: Facts | None = None
) -> tuple[Folder, ...]:
    """Return the folders of a Pod alone; arguments and errors are those of ``plan``."""
    return tuple(_Plan(pod, objects, Around(), facts or UNKNOWN).folders.values())


class _Plan:
    """One pod on its way."""

    def __init__(
        self, pod: kube.Pod, objects: Sequence[kube.Object], around: Around, facts: Facts
    ) -> None:
        self.pod = pod
        if pod.spec.host_network and facts.host_ip and not facts.pod_ips:
            facts = facts._replace(pod_ips=(facts.host_ip,))
        self.facts = facts
        self.spec = pod.spec
        self.around = around
        self.configs = configs.collect(objects)
        self.folders = {
            folder.name: folder for volume in self.spec.volumes for folder in self._folder(volume)
        }
        self.volumes = {volume.name: volume for volume in self.spec.volumes}

    def whole(self) -> Planned:
        return Planned(
            pod=self._pod(),
            folders=tuple(self.folders.values()),
            host_paths=tuple(
                HostPath(volume.name, volume.host_path.path, volume.host_path.type)
                for volume in self.spec.volumes
                if volume.host_path is not None
            ),
            init=tuple(
                self._member(one, "sidecar" if _is_sidecar(one) else "init")
                for one in self.spec.init_containers
            ),
            members=tuple(self._member(one, "main") for one in self.spec.containers),
            fs_group=self.spec.security_context.fs_group,
            requests=requests(self.spec),
        )

    def _refusal(self, container: kube.Container, reason: str) -> InvalidInput:
        return InvalidInput(f"Pod/{self.pod.name}: container {container.name}: {reason}")

    # -- the pod --

    def _pod(self) -> Pod:
        spec = self.spec
        if len(self.pod.name) < _NAME_MIN:
            raise InvalidInput(f"Pod/{self.pod.name}: metadata.name: is one character only")
        dns = spec.dns_config
        on_host = spec.host_network
        return Pod(
            id="", name=self.pod.name, created=0,
            labels={**self.pod.metadata.labels, **self._labels()},
            share=self._share(),
            hostname=self._hostname(),
            network="host" if on_host else self.around.network,
            networks=() if on_host else self.around.networks,
            # on the host's network a container has its ports by itself
            publish=() if on_host else tuple(dict.fromkeys(self._publish())),
            add_host=tuple(
                parse_add_host(f"{name}:{alias.ip}")
                for alias in spec.host_aliases
                for name in alias.hostnames
            ),
            dns=tuple(map(parse_dns, dns.nameservers)) if dns else (),
            dns_search=tuple(map(parse_dns_search, self._searches())),
            dns_option=tuple(map(_dns_option, dns.options)) if dns else (),
            shm_size=self.around.shm_size, memory=tuple(self._memory()),
            limits=Limits(**_limits(spec.resources)),
        )  # fmt: skip

    def _hostname(self) -> str:
        """On the machine's network a pod has the machine's name too, as kubelet has it."""
        machine = self.facts.node_name if self.spec.host_network else ""
        return self.spec.hostname or machine or self.pod.name[:_HOSTNAME_MAX].rstrip("-.")

    def _searches(self) -> tuple[str, ...]:
        """Domains of resolv.conf(5); ``.``, which is none, where nothing is the machine's."""
        said = self.spec.dns_config.searches if self.spec.dns_config else ()
        return said or ((".",) if self.spec.dns_policy == "None" else ())

    def _share(self) -> tuple[str, ...]:
        shared = set(SHARED) - ({"ipc"} if self.spec.host_ipc else set())
        return tuple(sorted(shared | ({"pid"} if self.spec.share_process_namespace else set())))

    def _labels(self) -> dict[str, str]:
        namespace = self.pod.metadata.namespace or "default"
        return {POD_LABEL: self.pod.name, NAMESPACE_LABEL: namespace}

    def _publish(self) -> Iterator[Publish]:
        sidecars = (one for one in self.spec.init_containers if _is_sidecar(one))
        for container in (*sidecars, *self.spec.containers):
            for port in container.ports:
                if not port.host_port:
                    continue
                if port.protocol == "SCTP":
                    raise self._refusal(container, "hostPort: SCTP is not supported")
                yield Publish(
                    protocol="udp" if port.protocol == "UDP" else "tcp",
                    address=port.host_ip or self.around.publish_address,
                    first=port.host_port, last=port.host_port, target=port.container_port,
                )  # fmt: skip

    # -- its volumes --

    def _folder(self, volume: kube.Volume) -> Iterator[Folder]:
        if volume.empty_dir is not None:
            yield from _empty_folder(volume)
        elif _has_files(volume):
            found = configs.files(self.pod, volume, self.configs, self.facts)
            yield Folder(volume.name, 0o755, found)

    def _memory(self) -> Iterator[Memory]:
        group = self.spec.security_context.fs_group
        for volume in self.spec.volumes:
            if volume.empty_dir is not None and volume.empty_dir.medium == _MEMORY:
                size = _size(volume.empty_dir)
                yield Memory(name=volume.name, size=size or 0, group=group)

    def _mounts(self, container: kube.Container, environment: Mapping[str, str]) -> Iterator[Mount]:
        for entry in container.volume_mounts:
            volume = self.volumes[entry.name]
            part = entry.sub_path or self._expanded(container, entry, environment)
            mount = self._source(container, volume, replace(entry, sub_path=part or None))
            target = posixpath.normpath(entry.mount_path)
            if entry.read_only and _READ_ONLY not in mount.options:
                mount = replace(mount, options=(*mount.options, _READ_ONLY))
            yield replace(mount, target=target)

    def _expanded(
        self, container: kube.Container, entry: kube.VolumeMount, environment: Mapping[str, str]
    ) -> str:
        """``subPathExpr`` with its variables, of which none may be missing, and which may lead
        nowhere else.
        """
        text = configs.expand(entry.sub_path_expr or "", environment)
        step = f"volumeMounts {entry.name}: subPathExpr {entry.sub_path_expr}"
        if configs.has_reference(entry.sub_path_expr or "", environment):
            raise self._refusal(container, f"{step}: names what is no variable of it")
        parts = text.split("/")
        if text and (not parts[0] or ".." in parts or "\0" in text):
            raise self._refusal(container, f"{step}: {text!r} is not relative, or has ..")
        return text

    def _source(
        self, container: kube.Container, volume: kube.Volume, entry: kube.VolumeMount
    ) -> Mount:
        part = entry.sub_path or ""
        claim = volume.persistent_volume_claim
        if claim is not None:
            return Mount(
                type="volume", source=claim.claim_name, target="", subpath=part, no_copy=True,
                make_source=bool(part),
                options=(_READ_ONLY,) if claim.read_only else (),
            )  # fmt: skip
        if _has_files(volume):
            source = self._part(container, entry)
            return Mount(
                type="bind", source=source, target="", options=("nosuid", "nodev", _READ_ONLY)
            )
        if volume.host_path is not None:
            mount = Mount(type="bind", source=volume.host_path.path, target="")
        elif volume.empty_dir is not None and volume.empty_dir.medium == _MEMORY:
            mount = Mount(type="tmpfs", source=volume.name, target="")
        else:
            mount = Mount(type="bind", source=volume.name, target="", options=("nosuid", "nodev"))
        # A folder that is missing is made; a link in there, a container's, leads nowhere else.
        return replace(mount, subpath=part, make_source=bool(part))

    def _part(self, container: kube.Container, entry: kube.VolumeMount) -> str:
        """The folder of a volume of files, or what of it ``subPath`` names."""
        if not entry.sub_path:
            return entry.name
        part = posixpath.normpath(entry.sub_path)
        known = [file.path for file in self.folders[entry.name].files or ()]
        if not any(path == part or path.startswith(f"{part}/") for path in known):
            raise self._refusal(
                container, f"volumeMounts {entry.name}: subPath {entry.sub_path}: no such file"
            )
        return f"{entry.name}/{part}"

    # -- its containers --

    def _member(self, container: kube.Container, kind: Kind) -> Member:
        environment = configs.environment(self.pod, container, self.configs, self.facts)
        lifecycle = container.lifecycle
        options = RunOptions(
            **{
                **self.around.defaults,
                "image": container.image,
                "name": self._name(container),
                **_command(container, environment),
                "env": tuple(f"{name}={value}" for name, value in environment.items()),
                "workdir": container.working_dir or None,
                "labels": {**self._labels(), CONTAINER_LABEL: container.name},
                "annotations": dict(self.pod.metadata.annotations),
                "interactive": container.stdin,
                "tty": container.tty,
                "mounts": merge_mounts(self._mounts(container, environment)),
                "restart": self._restart(kind),
                "stop_signal": lifecycle.stop_signal if lifecycle else None,
                "stop_timeout": self.spec.termination_grace_period_seconds,
                "probes": actions.probes(container),
                "hooks": actions.hooks(container),
                **self._namespaces(),
                **self._security(container),
                **_limits(container.resources),
            }
        )
        context = container.security_context
        asked = context.run_as_non_root
        non_root = self.spec.security_context.run_as_non_root if asked is None else asked
        pull = container.image_pull_policy or ""
        return Member(container.name, kind, options, pull, bool(non_root))

    def _name(self, container: kube.Container) -> str:
        name = f"{self.pod.name}-{container.name}"
        try:
            return validate_name(name)
        except InvalidInput as err:
            raise self._refusal(container, err.message) from err

    def _restart(self, kind: Kind) -> RestartPolicy | None:
        """A sidecar runs on whatever the pod says; an init container ends."""
        policy = "Always" if kind == "sidecar" else self.spec.restart_policy
        if policy == "Never":
            return None
        ends = kind == "init" or policy == "OnFailure"
        return RestartPolicy(name="on-failure" if ends else "always", crash_loop=True)

    def _namespaces(self) -> dict[str, Any]:
        spec = self.spec
        theirs = {"pid": spec.host_pid, "ipc": spec.host_ipc}
        sysctls = spec.security_context.sysctls
        return {
            **{kind: "host" for kind, wanted in theirs.items() if wanted},
            "sysctls": {podspec.sysctl_name(one.name): one.value for one in sysctls},
        }

    def _security(self, container: kube.Container) -> dict[str, Any]:
        own, shared = container.security_context, self.spec.security_context
        capabilities = own.capabilities
        groups = dict.fromkeys((*shared.supplemental_groups, shared.fs_group))
        return {
            "user": self._user(container),
            "group_add": tuple(str(group) for group in groups if group is not None),
            "privileged": bool(own.privileged),
            "read_only": bool(own.read_only_root_filesystem),
            "cap_add": capabilities.add if capabilities else (),
            "cap_drop": capabilities.drop if capabilities else (),
            "security_opt": tuple(_security_words(own, shared)),
        }

    def _user(self, container: kube.Container) -> str | None:
        """``USER``, ``USER:GROUP``, or ``:GROUP`` of the image's user; None is the image's."""
        own, shared = container.security_context, self.spec.security_context
        user = shared.run_as_user if own.run_as_user is None else own.run_as_user
        group = shared.run_as_group if own.run_as_group is None else own.run_as_group
        if group is None:
            return None if user is None else str(user)
        return f":{group}" if user is None else f"{user}:{group}"


def _dns_option(option: kube.PodDNSConfigOption) -> str:
    words = option.name if option.value is None else f"{option.name}:{option.value}"
    return parse_dns_option(words)


def _is_sidecar(container: kube.Container) -> bool:
    return container.restart_policy == "Always"


def _has_files(volume: kube.Volume) -> bool:
    sources = (volume.config_map, volume.secret, volume.projected, volume.downward_api)
    return any(source is not None for source in sources)


def _size(folder: kube.EmptyDir) -> int | None:
    """``sizeLimit`` in bytes; 0 is none, as in Kubernetes."""
    return int(quantities.quantity(folder.size_limit or 0)) or None


def _security_words(own: kube.SecurityContext, shared: kube.PodSecurityContext) -> Iterator[str]:
    """What ``--security-opt`` says: nothing of profiles that every container has."""
    if own.allow_privilege_escalation is False:
        yield "no-new-privileges"
    if own.proc_mount == "Unmasked":
        yield "systempaths=unconfined"
    seccomp = own.seccomp_profile or shared.seccomp_profile
    if seccomp is not None and seccomp.type == "Unconfined":
        yield "seccomp=unconfined"
    elif seccomp is not None and seccomp.type == "Localhost":
        yield f"seccomp={SECCOMP_FOLDER}/{seccomp.localhost_profile}"
    armor = own.app_armor_profile or shared.app_armor_profile
    if armor is not None:
        yield f"apparmor={armor.localhost_profile or 'unconfined'}"


def empty_folders(spec: kube.PodSpec) -> tuple[Folder, ...]:
    """Return the folders of a pod that are its containers' to fill, whatever else is missing."""
    return tuple(folder for volume in spec.volumes for folder in _empty_folder(volume))


def _empty_folder(volume: kube.Volume) -> Iterator[Folder]:
    if volume.empty_dir is not None and volume.empty_dir.medium != _MEMORY:
        yield Folder(volume.name, 0o777, limit=_size(volume.empty_dir))


def requests(spec: kube.PodSpec) -> Requests:
    """Return what a pod asks for to be admitted."""
    cpu, memory = (resources.of_pod(spec, name) for name in ("cpu", "memory"))
    return Requests(cpu, int(memory))


def _command(container: kube.Container, environment: Mapping[str, str]) -> dict[str, Any]:
    """``command`` and ``args``: the first takes the image's CMD away too, as an entrypoint does."""

    def expanded(words: Iterable[str]) -> tuple[str, ...]:
        return tuple(configs.expand(word, environment) for word in words)

    entry = expanded(container.command) if container.command else None
    return {"entrypoint": entry, "command": expanded(container.args or ())}


def _limits(resources: kube.ResourceRequirements) -> dict[str, Any]:
    found: dict[str, Any] = {}
    limits = resources.limits
    if "cpu" in limits:
        cpus = float(quantities.quantity(limits["cpu"]))
        # less is no quota to the kernel; kubelet rounds up too
        found["cpus"] = max(cpus, _LEAST_CPUS) if cpus else 0.0
    if "memory" in limits:
        found["memory"] = int(quantities.quantity(limits["memory"]))
    return found
