"""Containers and pods to Kubernetes' documents, by value: :mod:`pycontain.pod.plan`, backwards.

A pod that was declared is what was declared. Of others the Pod says what the manifest has a field
for; what it has none for is named, and where the pod would be another one without it, an error.

Source: the Kubernetes API reference, core/v1 and apps/v1; podman-kube-generate(1) for names.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from msgspec.structs import replace

from pycontain.engine import health
from pycontain.errors import InvalidInput
from pycontain.model import kube, probe
from pycontain.model.container import Container, Limits, NetworkChoice, Publish, RunOptions
from pycontain.model.parse.numbers import parse_boolean, parse_size
from pycontain.model.parse.signals import parse_signal
from pycontain.model.pod import SHARED
from pycontain.network import choice
from pycontain.pod import checks, claims, podspec
from pycontain.pod.controllers import HASH_LABEL
from pycontain.pod.plan import CONTAINER_LABEL, SECCOMP_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pycontain.model.container import Mount, PortBinding
    from pycontain.model.pod import Pod
    from pycontain.pod.plan import Around

OWN_LABELS = "io.kubernetes."
"""Before the names of labels that say where pods come from."""
STORAGE = "1Gi"
"""What a claim asks for whose volume says no size: a claim has to say one; podman's figure."""
_GRACE = 30
_NAME_MAX = 63
_PERIOD = 100_000  # µs, the kernel's default (cgroup-v2.rst, cpu.max)
_NANO = 9
_PROFILES = f"{SECCOMP_FOLDER}/"


class Source(NamedTuple):
    """What a Pod is to be made of.

    Attributes:
        pod: whose containers they are; None: they are in none.
        ports: id of the pod or a container → the host's ports that lead to it while it runs, those
            that nobody chose, too.
        labels: name of a volume → its labels.
    """

    pod: Pod | None
    containers: Sequence[Container]
    ports: Mapping[str, Sequence[PortBinding]] = {}
    labels: Mapping[str, Mapping[str, str]] = {}


class Generated(NamedTuple):
    """Documents, and what they do not say.

    Attributes:
        objects: what is named by others comes first.
        left_out: ``container web: --ulimit``.
    """

    objects: tuple[kube.Object, ...]
    left_out: tuple[str, ...]


def generate(source: Source, around: Around) -> Generated:
    """Return a Pod, and the claims of the volumes that have names.

    Args:
        source: at least one container.
        around: what each pod here gets where its manifest says nothing.

    Raises:
        InvalidInput: a pod of these containers would be another one: the first reason.
    """
    if not source.containers:
        name = f"pod {source.pod.name}: " if source.pod else ""
        raise InvalidInput(f"generate: {name}there is no container")
    return _Maker(source, around).whole()


def deployment(pod: kube.Pod, replicas: int = 1) -> tuple[kube.Deployment, tuple[str, ...]]:
    """Return a Deployment of a Pod, and what it does not say.

    Args:
        pod: its template.
        replicas: how many of it there are to be.

    Raises:
        InvalidInput: ports of the host can be had by one pod only.
    """
    ports = [port.host_port for one in pod.spec.containers for port in one.ports if port.host_port]
    if ports and replicas > 1:
        raise InvalidInput(
            f"generate: pod {pod.name}: {replicas} replicas cannot all have port {ports[0]} of the"
            " host"
        )
    own = {key: pod.metadata.labels[key] for key in pod.metadata.labels if key != HASH_LABEL}
    labels = {"app": pod.name, **own}
    left_out: list[str] = []
    policy = pod.spec.restart_policy
    if policy != "Always":
        left_out.append(f"pod {pod.name}: restartPolicy {policy}: a Deployment's is Always")
    if pod.spec.active_deadline_seconds is not None:
        left_out.append(f"pod {pod.name}: activeDeadlineSeconds: a Deployment's pods run on")
    return (
        kube.Deployment(
            api_version="apps/v1", kind="Deployment",
            metadata=kube.ObjectMeta(name=f"{pod.name}-deployment", labels=labels),
            spec=kube.DeploymentSpec(
                replicas=replicas, selector=kube.LabelSelector(match_labels=labels),
                template=kube.PodTemplateSpec(
                    metadata=kube.ObjectMeta(labels=labels, annotations=pod.metadata.annotations),
                    spec=replace(
                        pod.spec, restart_policy="Always", active_deadline_seconds=None
                    ),
                ),
            ),
        ),
        tuple(left_out),
    )  # fmt: skip


def claim(name: str, labels: Mapping[str, str] | None = None) -> kube.PersistentVolumeClaim:
    """Return a claim for a volume of this machine.

    Args:
        name: of both.
        labels: the volume's, which say what was claimed when it was made for a claim.
    """
    said = labels or {}
    modes: Any = tuple(filter(None, said.get(claims.MODES_LABEL, "").split(",")))
    storage = said.get(claims.STORAGE_LABEL)
    size = _bytes(int(storage)) if storage else STORAGE
    return kube.PersistentVolumeClaim(
        api_version="v1", kind="PersistentVolumeClaim", metadata=kube.ObjectMeta(name=name),
        spec=kube.PersistentVolumeClaimSpec(
            access_modes=modes or ("ReadWriteOnce",),
            resources=kube.VolumeResourceRequirements(requests={"storage": size}),
        ),
    )  # fmt: skip


def named(pod: kube.Pod) -> tuple[tuple[str, str], ...]:
    """Return the objects that a Pod names: kind and name, each once."""
    return tuple(dict.fromkeys(_named(pod.spec)))


def _named(spec: kube.PodSpec) -> Iterator[tuple[str, str]]:
    for _, container in podspec.containers(spec):
        for variables in container.env_from:
            yield from _both(variables.config_map_ref, variables.secret_ref)
        for variable in container.env:
            source = variable.value_from or kube.EnvVarSource()
            yield from _both(source.config_map_key_ref, source.secret_key_ref)
    for volume in spec.volumes:
        if volume.persistent_volume_claim is not None:
            yield "PersistentVolumeClaim", volume.persistent_volume_claim.claim_name
        if volume.secret is not None:
            yield "Secret", volume.secret.secret_name
        yield from _both(volume.config_map, None)
        for part in volume.projected.sources if volume.projected else ():
            yield from _both(part.config_map, part.secret)


class _HasName(Protocol):
    @property
    def name(self) -> str: ...


def _both(config_map: _HasName | None, secret: _HasName | None) -> Iterator[tuple[str, str]]:
    if config_map is not None:
        yield "ConfigMap", config_map.name
    if secret is not None:
        yield "Secret", secret.name


# ---- names ----


def _label(name: str) -> str:
    """Return a DNS-1123 label that is like `name`."""
    found = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return found[:_NAME_MAX].rstrip("-") or "x"


class _Names:
    """Labels that are each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def give(self, wanted: str) -> str:
        name, number = _label(wanted), 1
        while name in self._given:
            number += 1
            end = f"-{number}"
            name = _label(wanted)[: _NAME_MAX - len(end)].rstrip("-") + end
        self._given.add(name)
        return name


# ---- a pod ----


class _Maker:
    """A Pod on its way."""

    def __init__(self, source: Source, around: Around) -> None:
        self.pod = source.pod
        self.containers = source.containers
        self.ports = source.ports
        self.labels = source.labels
        self.around = around
        self.left_out: list[str] = []
        self.ids = {container.id for container in source.containers}
        self.name = self._name()
        self.volumes = _Volumes(self)

    def _name(self) -> str:
        if self.pod is not None:
            return _label(self.pod.name)
        # as podman has it: no name of a container
        return f"{_label(self.containers[0].name)[: _NAME_MAX - 4].rstrip('-')}-pod"

    def leave_out(self, what: str, one: Container | None = None) -> None:
        """Note what the manifest has no field for."""
        pod = self.pod.name if self.pod else self.name
        self.left_out.append(f"container {one.name}: {what}" if one else f"pod {pod}: {what}")

    def refusal(self, one: Container, reason: str, hint: str | None = None) -> InvalidInput:
        return InvalidInput(f"generate: container {one.name}: {reason}", hint)

    def whole(self) -> Generated:
        names = _Names()
        made = [
            _Member(self, one, names.give(self._in_pod(one))).whole() for one in self.containers
        ]
        made[0] = self._published(made[0])
        spec = kube.PodSpec(
            containers=tuple(made),
            volumes=tuple(self.volumes.found),
            restart_policy=self._restart_policy(),
            termination_grace_period_seconds=self._grace(),
            **self._security(),
            **self._resources(),
            **self._namespaces(),
            **self._hosts(),
        )
        pod = kube.Pod(api_version="v1", kind="Pod", metadata=self._metadata(), spec=spec)
        several = tuple(claim(name, self.labels.get(name)) for name in self.volumes.claims)
        return Generated((*several, pod), tuple(self.left_out))

    def _in_pod(self, one: Container) -> str:
        known = one.options.labels.get(CONTAINER_LABEL)
        start = f"{self.pod.name}-" if self.pod else ""
        return known or (one.name.removeprefix(start) or one.name)

    # -- what is the pod's --

    def _metadata(self) -> kube.ObjectMeta:
        labels: dict[str, str] = {}
        annotations: dict[str, str] = {}
        if self.pod is not None:
            self._merge(labels, self.pod.labels, "label", None)
        for one in self.containers:
            if self.pod is None:
                self._merge(labels, one.options.labels, "label", one)
            else:
                for key in one.options.labels:
                    if not key.startswith(OWN_LABELS):
                        self.leave_out(f"--label {key}", one)
            self._merge(annotations, one.options.annotations, "annotation", one)
        return kube.ObjectMeta(name=self.name, labels=labels, annotations=annotations)

    def _merge(
        self, into: dict[str, str], more: Mapping[str, str], word: str, one: Container | None
    ) -> None:
        for key, value in more.items():
            if key.startswith(OWN_LABELS):
                continue
            good = _is_good(word, key, value)
            if not good or into.setdefault(key, value) != value:
                self.leave_out(f"--{word} {key}", one)

    def _restart_policy(self) -> kube.RestartPolicy:
        words: list[kube.RestartPolicy] = []
        for one in self.containers:
            policy = one.options.restart
            if policy is None:
                words.append("Never")
                continue
            words.append("OnFailure" if policy.name == "on-failure" else "Always")
            if policy.most:
                self.leave_out(f"--restart on-failure:{policy.most}: the number", one)
        chosen: kube.RestartPolicy = (
            "Always" if "Always" in words else "OnFailure" if "OnFailure" in words else "Never"
        )
        for one, word in zip(self.containers, words, strict=True):
            if word != chosen:
                name = one.options.restart.name if one.options.restart else "no"
                self.leave_out(f"--restart {name}: its pod has {chosen}", one)
        return chosen

    def _grace(self) -> int:
        longest = max(one.stop_timeout for one in self.containers)
        for one in self.containers:
            if one.stop_timeout != longest:
                self.leave_out(f"--stop-timeout {one.stop_timeout}: its pod has {longest}", one)
        return max(0, longest) if longest >= 0 else (1 << 31) - 1

    def _security(self) -> dict[str, Any]:
        groups = {one.options.group_add for one in self.containers}
        if len(groups) > 1:
            raise InvalidInput(
                "generate: containers with different --group-add: a Pod has the same for all"
            )
        words = groups.pop()
        for word in words:
            if not word.isdecimal():
                raise self.refusal(
                    self.containers[0], f"--group-add {word}: a manifest has numbers only"
                )
        if not words:
            return {}
        groups_of_all = tuple(map(int, words))
        return {"security_context": kube.PodSecurityContext(supplemental_groups=groups_of_all)}

    def _resources(self) -> dict[str, Any]:
        if self.pod is None:
            return {}
        for field in Limits.__struct_fields__:
            if field not in _SAID and getattr(self.pod.limits, field) != getattr(Limits(), field):
                self.leave_out(f"--{_flag(field)}")
        if self.pod.shm_size != self.around.shm_size:
            self.leave_out("--shm-size")
        return _resources(self.pod.limits, self.leave_out)

    # -- namespaces --

    def _namespaces(self) -> dict[str, Any]:
        if self.pod is not None:
            missing = [kind for kind in SHARED if kind not in self.pod.share]
            for kind in missing:
                self.leave_out(f"--share without {kind}: a Pod's containers share it")
            self._note_network(self.pod.network, self.pod.networks, None)
            return {
                "host_network": self.pod.network == "host",
                "share_process_namespace": "pid" in self.pod.share,
            }
        kinds = {
            kind: {self._mode(one, kind) for one in self.containers}
            for kind in ("network", "pid", "ipc")
        }
        first = self.containers[0].options
        found = {
            "host_network": self._all("network", kinds["network"], "host"),
            "host_pid": self._all("pid", kinds["pid"], "host"),
            "host_ipc": self._all("ipc", kinds["ipc"], "host"),
            "share_process_namespace": "joined" in kinds["pid"],
        }
        if "joined" in kinds["pid"] and not self._share_one_pid():
            raise InvalidInput("generate: containers of a Pod share their processes all, or none")
        for one in self.containers:
            if self._mode(one, "network") != "joined":
                self._note_network(one.options.network, one.options.networks, one)
            if one.options.ipc == "none":
                self.leave_out("--ipc none", one)
            if one.options.uts == "host" and first.network != "host":
                self.leave_out("--uts host", one)
        return found

    def _mode(self, one: Container, kind: str) -> str:
        """``host``, ``private`` (whatever else is its own), or ``joined``: another one's here."""
        mode: str = getattr(one.options, kind)
        if not mode.startswith("container:"):
            return "host" if mode == "host" else "private"
        if mode.partition(":")[2] not in self.ids:
            raise self.refusal(
                one, f"--{kind} {mode[:22]}: it shares with a container that is not named",
                "name that one too",
            )  # fmt: skip
        return "joined"

    def _all(self, kind: str, modes: set[str], wanted: str) -> bool:
        if wanted in modes and "private" in modes:
            raise InvalidInput(
                f"generate: containers with --{kind} {wanted} and without: a Pod has the same for"
                " all"
            )
        return wanted in modes

    def _share_one_pid(self) -> bool:
        owners = [one for one in self.containers if self._mode(one, "pid") == "private"]
        joined = {one.options.pid for one in self.containers if self._mode(one, "pid") == "joined"}
        return len(owners) == 1 and joined == {f"container:{owners[0].id}"}

    def _note_network(
        self, mode: str, networks: Sequence[NetworkChoice], one: Container | None
    ) -> None:
        usual = (self.around.networks, (NetworkChoice(name=choice.OF_PODS),))
        if mode != "host" and (mode != self.around.network or tuple(networks) not in usual):
            names = ",".join(one.name for one in networks) or mode
            self.leave_out(f"--network {names}", one)

    # -- names of hosts, ports --

    def _hosts(self) -> dict[str, Any]:
        sources: list[tuple[Pod | RunOptions, Container | None]] = (
            [(self.pod, None)] if self.pod else [(one.options, one) for one in self.containers]
        )
        dns = {
            field: tuple(dict.fromkeys(word for one, _ in sources for word in getattr(one, field)))
            for field in ("add_host", "dns", "dns_search", "dns_option")
        }
        return {
            "hostname": self._hostname(sources),
            "host_aliases": tuple(_aliases(dns["add_host"])),
            "dns_config": _dns_config(dns),
        }

    def _hostname(self, sources: Sequence[tuple[Any, Container | None]]) -> str | None:
        chosen: str | None = None
        for one, container in sources:
            name = one.hostname
            if not name or name in (chosen, self.name) or name == one.name:
                continue
            if chosen is not None or not checks.is_label(name):
                self.leave_out(f"--hostname {name}", container)
            else:
                chosen = name
        return chosen

    def _published(self, first: kube.Container) -> kube.Container:
        """A pod's ports lead to no container of it: they are said of the first."""
        if self.pod is None:
            return first
        ports = _ports(self.pod.publish, self.ports.get(self.pod.id, ()), self.leave_out)
        return replace(first, ports=(*first.ports, *ports))


def _is_good(word: str, key: str, value: str) -> bool:
    if word == "label":
        return checks.is_metadata(kube.ObjectMeta(labels={key: value}))
    return checks.is_metadata(kube.ObjectMeta(annotations={key: value}))


def _aliases(words: Iterable[str]) -> Iterator[kube.HostAlias]:
    names: dict[str, list[str]] = {}
    for word in words:
        name, _, address = word.partition(":")
        names.setdefault(address, []).append(name)
    return (kube.HostAlias(ip=ip, hostnames=tuple(found)) for ip, found in names.items())


def _dns_config(words: Mapping[str, tuple[str, ...]]) -> kube.PodDNSConfig | None:
    options = []
    for word in words["dns_option"]:
        name, colon, value = word.partition(":")
        options.append(kube.PodDNSConfigOption(name=name, value=value if colon else None))
    config = kube.PodDNSConfig(
        nameservers=words["dns"], searches=words["dns_search"], options=tuple(options)
    )
    return config if config != kube.PodDNSConfig() else None


def _ports(
    asked: Iterable[Publish], bound: Iterable[PortBinding], leave_out: Callable[[str], None]
) -> Iterator[kube.ContainerPort]:
    found = {(one.target, one.protocol): one.port for one in bound}
    for one in asked:
        chosen = one.first if one.first == one.last else 0
        port = chosen or found.get((one.target, one.protocol))
        protocol: Any = one.protocol.upper()
        if not port:
            leave_out(f"--publish {one.target}/{one.protocol}: a free port of the host")
            yield kube.ContainerPort(container_port=one.target, protocol=protocol)
            continue
        yield kube.ContainerPort(
            container_port=one.target, host_port=port, host_ip=one.address or None,
            protocol=protocol,
        )  # fmt: skip


# ---- volumes ----


class _Volumes:
    """The volumes of a pod: each source once."""

    def __init__(self, maker: _Maker) -> None:
        self._maker = maker
        self._names = _Names()
        self._known: dict[tuple[str, str], str] = {}
        self.found: list[kube.Volume] = []
        self.claims: list[str] = []

    def mount(self, one: Container, mount: Mount) -> kube.VolumeMount:
        """Return what a container has of a volume, which is noted."""
        read_only = any(word in ("ro", "rro") for word in mount.options)
        kept = {"ro", "rro", *(_TMPFS_SAID if mount.type == "tmpfs" else _BIND_SAID)}
        for word in mount.options:
            if word not in kept and not (mount.type == "tmpfs" and word.startswith("size=")):
                self._maker.leave_out(f"{mount.target}: mount option {word}", one)
        for field in ("chown", "uid_map", "gid_map"):
            if getattr(mount, field):
                self._maker.leave_out(f"{mount.target}: {field} of its mount", one)
        return kube.VolumeMount(
            name=self._volume(one, mount), mount_path=mount.target, read_only=read_only,
            sub_path=mount.subpath or None,
        )  # fmt: skip

    def _volume(self, one: Container, mount: Mount) -> str:
        if mount.type == "image":
            raise self._maker.refusal(one, f"{mount.target}: a manifest mounts no images")
        if mount.type == "bind":
            source = kube.HostPath(path=mount.source)
            wanted = f"{_label(mount.source)[: _NAME_MAX - 5]}-host"
            return self._give("bind", mount.source, wanted, host_path=source)
        if mount.type == "tmpfs":
            key = mount.source or f"{one.id}:{mount.target}"
            folder = kube.EmptyDir(medium="Memory", size_limit=self._size(one, mount))
            return self._give("tmpfs", key, f"tmp-{mount.target}", empty_dir=folder)
        if mount.anonymous or not mount.source:
            key = mount.source or f"{one.id}:{mount.target}"
            return self._give("empty", key, f"data-{mount.target}", empty_dir=kube.EmptyDir())
        return self._claimed(one, mount)

    def _claimed(self, one: Container, mount: Mount) -> str:
        name = mount.source
        if not checks.is_subdomain(name):
            raise self._maker.refusal(
                one, f"volume {name}: no claim can have this name",
                "lower case letters, digits, - and . are possible",
            )  # fmt: skip
        if mount.labels or mount.driver_options:
            self._maker.leave_out(f"{mount.target}: labels and options of volume {name}", one)
        if name not in self.claims:
            self.claims.append(name)
        wanted = f"{_label(name)[: _NAME_MAX - 4]}-pvc"
        return self._give(
            "volume", name, wanted, persistent_volume_claim=kube.Claim(claim_name=name)
        )

    def _give(self, kind: str, key: str, wanted: str, **source: Any) -> str:
        known = self._known.get((kind, key))
        if known is None:
            known = self._known[kind, key] = self._names.give(wanted)
            self.found.append(kube.Volume(name=known, **source))
        return known

    def _size(self, one: Container, mount: Mount) -> str | None:
        words = [word[5:] for word in mount.options if word.startswith("size=")]
        if not words:
            return None
        try:
            return _bytes(parse_size(words[-1]))
        except InvalidInput:  # a part of the memory, in percent
            self._maker.leave_out(f"{mount.target}: size={words[-1]}", one)
            return None


_BIND_SAID = ("rw", "rbind", "rprivate", "private")
"""Options of a bind that say what is so anyway."""
_TMPFS_SAID = ("rw", "mode=0777", "mode=777", "nosuid", "nodev")


def _bytes(count: int) -> str:
    for unit, shift in (("Gi", 30), ("Mi", 20), ("Ki", 10)):
        if count and not count & ((1 << shift) - 1):
            return f"{count >> shift}{unit}"
    return str(count)


# ---- a container ----

_SAID = frozenset(
    "add_host annotations cap_add cap_drop cgroup_parent command cpu_period cpu_quota cpus dns"
    " dns_option dns_search entrypoint env expose group_add health hooks hostname image interactive"
    " ipc labels memory mounts name network networks pid pod privileged probes publish read_only"
    " restart security_opt stop_signal stop_timeout tty user uts volumes_from workdir".split()
)
"""Options of which each has a place of its own here."""
_FLAGS = {
    "devices": "device",
    "device_cgroup_rules": "device-cgroup-rule",
    "log_max_size": "log-opt max-size",
    "log_max_files": "log-opt max-file",
    "remove": "rm",
    "sysctls": "sysctl",
    "ulimits": "ulimit",
}


def _flag(field: str) -> str:
    return _FLAGS.get(field, field.replace("_", "-"))


class _Member:
    """One container of a Pod."""

    def __init__(self, maker: _Maker, one: Container, name: str) -> None:
        self.maker = maker
        self.one = one
        self.name = name
        self.options = one.options

    def _leave_out(self, what: str) -> None:
        self.maker.leave_out(what, self.one)

    def whole(self) -> kube.Container:
        options = self.options
        self._note_others()
        return kube.Container(
            name=self.name,
            image=options.image,
            **self._command(),
            working_dir=options.workdir,
            env=tuple(self._env()),
            ports=tuple(self._ports()),
            **self._limits(),
            **self._security(),
            volume_mounts=tuple(self.maker.volumes.mount(self.one, one) for one in self._mounts()),
            stdin=options.interactive,
            tty=options.tty,
            **self._probes(),
            lifecycle=self._lifecycle(),
        )

    def _note_others(self) -> None:
        defaults = RunOptions(image="")
        for field in RunOptions.__struct_fields__:
            value, usual = getattr(self.options, field), getattr(defaults, field)
            usual = self.maker.around.defaults.get(field, usual)
            if field == "shm_size":
                usual = self.maker.around.shm_size
            if field not in _SAID and value != usual:
                self._leave_out(f"--{_flag(field)}")
        if self.options.cgroup_parent is not None and self.maker.pod is None:
            self._leave_out("--cgroup-parent")

    def _command(self) -> dict[str, Any]:
        entry = self.options.entrypoint
        command = tuple(map(_literal, self.options.command)) or None
        if entry is None:
            return {"command": None, "args": command}
        if not entry:  # neither the image's entrypoint nor its command
            return {"command": command, "args": None}
        return {"command": tuple(map(_literal, entry)), "args": command}

    def _env(self) -> Iterator[kube.EnvVar]:
        variables = dict(line.partition("=")[::2] for line in self.options.env if "=" in line)
        for name, value in variables.items():
            if checks.is_variable(name):
                yield kube.EnvVar(name=name, value=_literal(value))
            else:
                self._leave_out(f"--env {name}")
        for line in self.options.env:
            if "=" not in line:
                self._leave_out(f"--env {line}: a variable of the image is not taken away")

    def _ports(self) -> Iterator[kube.ContainerPort]:
        bound = self.maker.ports.get(self.one.id, ())
        yield from _ports(self.options.publish, bound, self._leave_out)
        said = {(one.target, one.protocol) for one in self.options.publish}
        for word in self.options.expose:
            port, _, kind = word.partition("/")
            if (int(port), kind) not in said:
                protocol: Any = kind.upper()
                yield kube.ContainerPort(container_port=int(port), protocol=protocol)

    # -- limits --

    def _limits(self) -> dict[str, Any]:
        return _resources(self.options, self._leave_out)

    # -- rights --

    def _security(self) -> dict[str, Any]:
        options = self.options
        found: dict[str, Any] = {}
        if options.cap_add or options.cap_drop:
            found["capabilities"] = kube.Capabilities(add=options.cap_add, drop=options.cap_drop)
        if options.privileged:
            found["privileged"] = True
        if options.read_only:
            found["read_only_root_filesystem"] = True
        found |= {**self._user(), **self._guards()}
        return {"security_context": kube.SecurityContext(**found)} if found else {}

    def _user(self) -> dict[str, Any]:
        user = self.options.user
        if user is None or user == self.one.config.user:
            return {}
        uid, colon, gid = user.partition(":")
        if not uid.isdecimal() or (colon and not gid.isdecimal()):
            raise self.maker.refusal(
                self.one, f"--user {user}: a manifest has numbers only", "run it with --user UID"
            )
        return {"run_as_user": int(uid), **({"run_as_group": int(gid)} if colon else {})}

    def _guards(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for word in self.options.security_opt:
            key, _, value = word.replace(":", "=", 0 if "=" in word else 1).partition("=")
            if key == "no-new-privileges":
                if parse_boolean(value or "true"):
                    found["allow_privilege_escalation"] = False
            elif key == "seccomp" and value == "unconfined":
                found["seccomp_profile"] = kube.SeccompProfile(type="Unconfined")
            elif key == "seccomp" and value.startswith(_PROFILES):
                found["seccomp_profile"] = kube.SeccompProfile(
                    type="Localhost", localhost_profile=value.removeprefix(_PROFILES)
                )
            elif key == "apparmor" and value != "unconfined":
                found["app_armor_profile"] = kube.AppArmorProfile(
                    type="Localhost", localhost_profile=value
                )
            elif word in ("unmask=ALL", "systempaths=unconfined"):
                found["proc_mount"] = "Unmasked"
            elif word not in ("label=disable", "seccomp=builtin", "apparmor=unconfined"):
                self._leave_out(f"--security-opt {word}")
        return found

    # -- mounts --

    def _mounts(self) -> Iterator[Mount]:
        """What was asked for, and what it has of others; volumes of the image come with that."""
        of_image = self.one.config.volumes or {}
        mounts = self.options.mounts if self.one.mounts is None else self.one.mounts
        return (one for one in mounts if not (one.anonymous and one.target in of_image))

    # -- probes and hooks --

    def _probes(self) -> dict[str, Any]:
        probes = self.options.probes
        found = {
            f"{kind}_probe": _probe(check)
            for kind in ("startup", "liveness", "readiness")
            if probes is not None and (check := getattr(probes, kind)) is not None
        }
        asked = self.options.health
        if asked is None:
            return found
        check = health.check_of(self.one)
        if check is None:
            if self.one.config.healthcheck is not None:
                self._leave_out("--no-healthcheck")
            return found
        if "liveness_probe" in found:
            self._leave_out("--health-cmd: it has a liveness probe")
            return found
        self._leave_out("--health-cmd is its livenessProbe: one that fails ends the container")
        if asked.start_interval:
            self._leave_out("--health-start-interval")
        action = kube.ExecAction(command=health.command(self.one, check))
        found["liveness_probe"] = kube.Probe(
            exec_=action,
            initial_delay_seconds=_seconds(check.start_period),
            period_seconds=max(1, _seconds(check.interval)),
            timeout_seconds=max(1, _seconds(check.timeout)),
            failure_threshold=check.retries,
        )
        return found

    def _lifecycle(self) -> kube.Lifecycle | None:
        hooks = self.options.hooks or probe.Hooks()
        found = kube.Lifecycle(
            post_start=_handler(hooks.post_start),
            pre_stop=_handler(hooks.pre_stop),
            stop_signal=_signal(self.options.stop_signal),
        )
        return found if found != kube.Lifecycle() else None


def _literal(text: str) -> str:
    """Return `text` so that it stands for itself: ``$(NAME)`` is a variable in a manifest."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def _cpus(limits: Limits) -> Decimal:
    if limits.cpus:
        return round(Decimal(str(limits.cpus)), _NANO)
    if (limits.cpu_quota or 0) > 0:
        quota = Decimal(limits.cpu_quota or 0)
        return round(quota / (limits.cpu_period or _PERIOD), _NANO)
    return Decimal(0)


def _cpu_text(cpus: Decimal) -> str:
    for digits, unit in ((0, ""), (3, "m"), (6, "u")):
        scaled = cpus.scaleb(digits)
        if scaled == int(scaled):
            return f"{int(scaled)}{unit}"
    return f"{int(cpus.scaleb(_NANO))}n"


def _resources(limits: Limits, leave_out: Callable[[str], None]) -> dict[str, Any]:
    """The field ``resources``, where there are limits that it has."""
    found: dict[str, kube.Quantity] = {}
    cpus = _cpus(limits)
    if cpus:
        found["cpu"] = _cpu_text(cpus)
    if (limits.cpu_period or _PERIOD) != _PERIOD:
        leave_out(f"--cpu-period {limits.cpu_period}")
    if (limits.memory or 0) > 0:
        found["memory"] = _bytes(limits.memory or 0)
    return {"resources": kube.ResourceRequirements(limits=found)} if found else {}


def _seconds(nanoseconds: int) -> int:
    return -(-nanoseconds // health.SECOND)


def _signal(word: str | None) -> str | None:
    if word is None:
        return None
    import signal

    return signal.Signals(parse_signal(word, "--stop-signal")).name


def _probe(check: probe.ProbeCheck) -> kube.Probe:
    return kube.Probe(
        **_action(check.action),
        initial_delay_seconds=check.initial_delay,
        period_seconds=check.period,
        timeout_seconds=check.timeout,
        success_threshold=check.successes,
        failure_threshold=check.failures,
        termination_grace_period_seconds=check.grace,
    )


def _handler(
    action: probe.ExecAction | probe.HttpAction | probe.TcpAction | probe.SleepAction | None,
) -> kube.LifecycleHandler | None:
    if action is None:
        return None
    if isinstance(action, probe.SleepAction):
        return kube.LifecycleHandler(sleep=kube.SleepAction(seconds=action.seconds))
    return kube.LifecycleHandler(**_action(action))


def _action(action: probe.ExecAction | probe.HttpAction | probe.TcpAction) -> dict[str, Any]:
    if isinstance(action, probe.ExecAction):
        return {"exec_": kube.ExecAction(command=action.command)}
    if isinstance(action, probe.TcpAction):
        return {"tcp_socket": kube.TCPSocketAction(port=action.port, host=action.host or None)}
    scheme: Any = action.scheme.upper()
    headers = tuple(kube.HTTPHeader(name=name, value=value) for name, value in action.headers)
    path = action.path if action.path != "/" else None
    return {
        "http_get": kube.HTTPGetAction(
            port=action.port, path=path, host=action.host or None, scheme=scheme,
            http_headers=headers,
        )
    }  # fmt: skip
