"""Pods as Kubernetes declares them, made into pods of this machine.

:func:`plan` says what one comes to, by value; :class:`Player` does it. The pod has what belongs to
it in its own folder: the files of its ConfigMaps and Secrets, and its empty folders.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from msgspec.structs import replace

from pycontain.engine.failure import told
from pycontain.errors import (
    Conflict,
    InvalidInput,
    InvalidState,
    NotFound,
    PycontainError,
    RegistryError,
)
from pycontain.model import parse
from pycontain.model.container import Mount, Publish, RestartPolicy, RunOptions
from pycontain.model.pod import SHARED, Pod
from pycontain.pod import configs, manifest
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pycontain.engine import Engine
    from pycontain.image.intake import Report
    from pycontain.model import kube
    from pycontain.model.container import NetworkChoice
    from pycontain.pod.pods import Pods

    Pull = Literal["Always", "IfNotPresent", "Never", ""]

POD_LABEL = "io.kubernetes.pod.name"
"""Label of a pod that was played, and of its containers: as kubelet names them."""
NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
CONTAINER_LABEL = "io.kubernetes.container.name"
_HOSTNAME_MAX = 63
_MEMORY = "Memory"
_READ_ONLY = "rro"
_LEAST_CPUS = 0.01  # 1 ms in each 100 ms (cgroup-v2.rst, cpu.max; MIN_CFS_QUOTA_PERIOD)


class Folder(NamedTuple):
    """A folder of a pod's own: an ``emptyDir``, or the files of a ConfigMap or Secret.

    Attributes:
        name: of the volume.
        mode: permission bits.
    """

    name: str
    mode: int
    files: tuple[configs.File, ...] = ()


class HostPath(NamedTuple):
    """A path of the host that has to be there, or is to be made.

    Attributes:
        type: as ``hostPath.type``.
    """

    volume: str
    path: str
    type: kube.HostPathType


class Member(NamedTuple):
    """A container of a pod that is to be made.

    Attributes:
        options: without the pod. The source of a ``bind`` that is not absolute lies in the pod's
            own folders; that of an anonymous volume is the name in the manifest.
        pull: the policy; empty is Kubernetes' default one.
        non_root: its user must not be root.
    """

    options: RunOptions
    pull: Pull
    non_root: bool


class Planned(NamedTuple):
    """What a Pod comes to here.

    Attributes:
        pod: what ``Pods.create`` is given; without id.
        init: containers that run before the others, one after the other.
        members: the others.
    """

    pod: Pod
    folders: tuple[Folder, ...]
    host_paths: tuple[HostPath, ...]
    init: tuple[Member, ...]
    members: tuple[Member, ...]


class Played(NamedTuple):
    """Ids of a pod that runs, and of its containers."""

    pod: str
    containers: tuple[str, ...]


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


# ---- by value ----


def plan(pod: kube.Pod, objects: Sequence[kube.Object], around: Around | None = None) -> Planned:
    """Return what a Pod comes to.

    Args:
        pod: as ``manifest.parse`` returns it.
        objects: among which its ConfigMaps and Secrets are.
        around: what the machine gives it; None: no network.

    Raises:
        InvalidInput: it contradicts itself, or what it names is not among the objects.
    """
    return _Plan(pod, objects, around or Around()).whole()


class _Plan:
    """One pod on its way."""

    def __init__(self, pod: kube.Pod, objects: Sequence[kube.Object], around: Around) -> None:
        self.pod = pod
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
            init=tuple(map(self._init, self.spec.init_containers)),
            members=tuple(map(self._member, self.spec.containers)),
        )

    def _refusal(self, container: kube.Container, reason: str) -> InvalidInput:
        return InvalidInput(f"Pod/{self.pod.name}: container {container.name}: {reason}")

    # -- the pod --

    def _pod(self) -> Pod:
        spec = self.spec
        dns = spec.dns_config
        on_host = spec.host_network
        return Pod(
            id="", name=self.pod.name, created=0,
            labels={**self.pod.metadata.labels, **self._labels()},
            share=(*SHARED, "pid") if spec.share_process_namespace else SHARED,
            hostname=spec.hostname or self.pod.name[:_HOSTNAME_MAX].rstrip("-."),
            network="host" if on_host else self.around.network,
            networks=() if on_host else self.around.networks,
            # on the host's network a container has its ports by itself
            publish=() if on_host else tuple(dict.fromkeys(self._publish())),
            add_host=tuple(
                parse.parse_add_host(f"{name}:{alias.ip}")
                for alias in spec.host_aliases
                for name in alias.hostnames
            ),
            dns=tuple(map(parse.parse_dns, dns.nameservers)) if dns else (),
            dns_search=tuple(map(parse.parse_dns_search, dns.searches)) if dns else (),
            dns_option=tuple(map(_dns_option, dns.options)) if dns else (),
            shm_size=self.around.shm_size,
        )  # fmt: skip

    def _labels(self) -> dict[str, str]:
        namespace = self.pod.metadata.namespace or "default"
        return {POD_LABEL: self.pod.name, NAMESPACE_LABEL: namespace}

    def _publish(self) -> Iterator[Publish]:
        for container in self.spec.containers:
            for port in container.ports:
                if port.host_port is None:
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
        if volume.empty_dir is not None and volume.empty_dir.medium != _MEMORY:
            yield Folder(volume.name, 0o777)
        elif volume.config_map is not None or volume.secret is not None:
            yield Folder(volume.name, 0o755, configs.files(self.pod, volume, self.configs))

    def _mounts(self, container: kube.Container) -> Iterator[Mount]:
        for entry in container.volume_mounts:
            volume = self.volumes[entry.name]
            mount = self._source(container, volume, entry)
            target = posixpath.normpath(entry.mount_path)
            if entry.read_only and _READ_ONLY not in mount.options:
                mount = replace(mount, options=(*mount.options, _READ_ONLY))
            yield replace(mount, target=target)

    def _source(
        self, container: kube.Container, volume: kube.Volume, entry: kube.VolumeMount
    ) -> Mount:
        part = entry.sub_path or ""
        claim = volume.persistent_volume_claim
        if claim is not None:
            return Mount(
                type="volume", source=claim.claim_name, target="", subpath=part, no_copy=True,
                options=(_READ_ONLY,) if claim.read_only else (),
            )  # fmt: skip
        if volume.config_map is not None or volume.secret is not None:
            source = self._part(container, entry)
            return Mount(
                type="bind", source=source, target="", options=("nosuid", "nodev", _READ_ONLY)
            )
        if part:
            # A link in it, made by a container, would lead anywhere on the host.
            raise self._refusal(container, f"volumeMounts {entry.name}: subPath is not supported")
        if volume.host_path is not None:
            return Mount(type="bind", source=volume.host_path.path, target="")
        if volume.empty_dir is not None and volume.empty_dir.medium == _MEMORY:
            return _in_memory(volume.name, volume.empty_dir)
        return Mount(type="bind", source=volume.name, target="", options=("nosuid", "nodev"))

    def _part(self, container: kube.Container, entry: kube.VolumeMount) -> str:
        """The folder of a ConfigMap or Secret, or what of it ``subPath`` names."""
        if not entry.sub_path:
            return entry.name
        part = posixpath.normpath(entry.sub_path)
        known = [file.path for file in self.folders[entry.name].files]
        if not any(path == part or path.startswith(f"{part}/") for path in known):
            raise self._refusal(
                container, f"volumeMounts {entry.name}: subPath {entry.sub_path}: no such file"
            )
        return f"{entry.name}/{part}"

    # -- its containers --

    def _init(self, container: kube.Container) -> Member:
        for entry in container.volume_mounts:
            folder = self.volumes[entry.name].empty_dir
            if folder is not None and folder.medium == _MEMORY:
                raise self._refusal(
                    container,
                    f"volumeMounts {entry.name}: an emptyDir of medium Memory lasts as long as a"
                    " container runs, so what an initContainer leaves there is lost",
                )
        found = self._member(container)
        return found._replace(options=replace(found.options, restart=None))

    def _member(self, container: kube.Container) -> Member:
        policies: Mapping[str, RestartPolicy | None] = {
            "Always": RestartPolicy(name="always"),
            "OnFailure": RestartPolicy(name="on-failure"),
            "Never": None,
        }
        environment = configs.environment(self.pod, container, self.configs)
        options = RunOptions(
            **{
                **self.around.defaults,
                "image": container.image,
                "name": f"{self.pod.name}-{container.name}",
                **_command(container, environment),
                "env": tuple(f"{name}={value}" for name, value in environment.items()),
                "workdir": container.working_dir or None,
                "labels": {**self._labels(), CONTAINER_LABEL: container.name},
                "annotations": dict(self.pod.metadata.annotations),
                "interactive": container.stdin,
                "tty": container.tty,
                "mounts": parse.merge_mounts(self._mounts(container)),
                "restart": policies[self.spec.restart_policy],
                "stop_timeout": self.spec.termination_grace_period_seconds,
                **self._security(container),
                **_limits(container),
            }
        )
        context = container.security_context
        asked = context.run_as_non_root
        non_root = self.spec.security_context.run_as_non_root if asked is None else asked
        return Member(options, container.image_pull_policy or "", bool(non_root))

    def _security(self, container: kube.Container) -> dict[str, Any]:
        own, shared = container.security_context, self.spec.security_context
        capabilities = own.capabilities
        guarded = own.allow_privilege_escalation is False
        return {
            "user": self._user(container),
            "group_add": tuple(map(str, shared.supplemental_groups)),
            "privileged": bool(own.privileged),
            "read_only": bool(own.read_only_root_filesystem),
            "cap_add": capabilities.add if capabilities else (),
            "cap_drop": capabilities.drop if capabilities else (),
            "security_opt": ("no-new-privileges",) if guarded else (),
        }

    def _user(self, container: kube.Container) -> str | None:
        own, shared = container.security_context, self.spec.security_context
        user = shared.run_as_user if own.run_as_user is None else own.run_as_user
        group = shared.run_as_group if own.run_as_group is None else own.run_as_group
        if user is None:
            if group is not None:
                raise self._refusal(container, "runAsGroup without runAsUser")
            return None
        return str(user) if group is None else f"{user}:{group}"


def _dns_option(option: kube.PodDNSConfigOption) -> str:
    words = option.name if option.value is None else f"{option.name}:{option.value}"
    return parse.parse_dns_option(words)


def _in_memory(name: str, folder: kube.EmptyDir) -> Mount:
    words = ["mode=0777", "nosuid", "nodev"]
    if folder.size_limit is not None:
        words.append(f"size={int(manifest.quantity(folder.size_limit))}")
    options = {"type": "tmpfs", "device": "tmpfs", "o": ",".join(words)}
    return Mount(
        type="volume", source=name, target="", anonymous=True, no_copy=True, driver_options=options
    )


def _command(container: kube.Container, environment: Mapping[str, str]) -> dict[str, Any]:
    """``command`` and ``args``: the first takes the image's CMD away too, as an entrypoint does."""

    def expanded(words: Iterable[str]) -> tuple[str, ...]:
        return tuple(configs.expand(word, environment) for word in words)

    entry = expanded(container.command) if container.command else None
    return {"entrypoint": entry, "command": expanded(container.args or ())}


def _limits(container: kube.Container) -> dict[str, Any]:
    found: dict[str, Any] = {}
    limits = container.resources.limits
    if "cpu" in limits:
        cpus = float(manifest.quantity(limits["cpu"]))
        # less is no quota to the kernel; kubelet rounds up too
        found["cpus"] = max(cpus, _LEAST_CPUS) if cpus else 0.0
    if "memory" in limits:
        found["memory"] = int(manifest.quantity(limits["memory"]))
    return found


# ---- doing it ----


class Player:
    """Plays pods in one store.

    Args:
        engine: over the store.
        pods: of the same store.
        progress: is given lines of text while an image is built or pulled.
        report: is told how far each layer is, from several threads.
    """

    def __init__(
        self,
        engine: Engine,
        pods: Pods,
        *,
        progress: Callable[[str], None] | None = None,
        report: Report | None = None,
    ) -> None:
        self._engine = engine
        self._pods = pods
        self._progress = progress
        self._report = report

    @told("play pod")
    def play(self, planned: Planned, *, replace_old: bool = False) -> Played:
        """Make a pod and start it; init containers run to their ends before, and are removed.

        Args:
            planned: what it comes to.
            replace_old: a pod that was played and has its name is stopped and removed.

        Returns:
            The ids; containers as in the manifest, without those of init.

        Raises:
            Conflict: a pod or container has a name of it, or another holds a port.
            InvalidState: an init container failed.
            PycontainError: whatever else is in the way; what was begun is undone.
        """
        for path in planned.host_paths:
            _check_host_path(planned.pod, path)
        every = (*planned.init, *planned.members)
        for name, policy in dict.fromkeys((one.options.image, one.pull) for one in every):
            self._prepare_image(name, policy)
        for member in every:
            if member.non_root:
                self._check_user(planned.pod, member)
        if replace_old:
            self.down(planned.pod.name)
        pod = self._create(planned.pod)
        try:
            return self._fill(pod, planned)
        except BaseException:
            self._pods.remove(pod.id, force=True)
            raise

    @told("take pod down")
    def down(self, name: str) -> str | None:
        """Stop and remove a pod that was played, with its containers.

        Args:
            name: of the pod.

        Returns:
            Its id; None: there is none.

        Raises:
            Conflict: a pod has the name that was not played.
        """
        try:
            view = self._pods.get(name)
        except NotFound:
            return None
        if view.pod.name != name:
            return None  # the start of an id
        if view.pod.labels.get(POD_LABEL) != name:
            raise Conflict(
                f"pod {name} was not made by kube play", f"pycontain pod rm -f {name} removes it"
            )
        for failed in self._pods.stop(view.pod.id):
            if not isinstance(failed.error, NotFound):
                raise failed.error
        return self._pods.remove(view.pod.id, force=True)

    # -- images --

    def _prepare_image(self, name: str, policy: Pull) -> None:
        images = self._engine.images
        if policy == "Never":
            images.get(name)
        elif policy == "Always":
            images.pull(name, report=self._report)
        elif policy == "IfNotPresent" or not _is_latest(name):
            images.ensure(name, self._progress)
        else:
            self._renew(name)

    def _renew(self, name: str) -> None:
        """Bring the newest image of a name that says no version; what is there is good enough where
        no registry answers.
        """
        try:
            self._engine.images.pull(name, report=self._report)
        except (RegistryError, InvalidInput) as err:
            if not self._engine.images.exists(name):
                raise
            if self._progress is not None:
                self._progress(f"{err.message}; using the image that is here")

    def _check_user(self, pod: Pod, member: Member) -> None:
        user = member.options.user
        if user is None:
            user = self._engine.images.get(member.options.image).config.user
        uid = user.partition(":")[0]
        if not uid.isdecimal() or int(uid) == 0:
            reason = f"the user is {uid!r}, no number but 0" if uid else "the image's user is root"
            raise InvalidInput(
                f"pod {pod.name}: container {member.options.name}: runAsNonRoot: {reason}",
                "set runAsUser",
            )

    # -- the pod --

    def _create(self, pod: Pod) -> Pod:
        return self._pods.create(
            pod.name, labels=pod.labels, share=pod.share, hostname=pod.hostname,
            network=pod.network, networks=pod.networks, publish=pod.publish,
            add_host=pod.add_host, dns=pod.dns, dns_search=pod.dns_search,
            dns_option=pod.dns_option, shm_size=pod.shm_size,
        )  # fmt: skip

    def _fill(self, pod: Pod, planned: Planned) -> Played:
        folder = self._engine.layout.pod(pod.id).volumes
        _write(folder, planned.folders)
        in_memory: dict[str, str] = {}
        init, members = (
            [self._make(pod, member, folder, in_memory) for member in several]
            for several in (planned.init, planned.members)
        )
        for identity, member in zip(init, planned.init, strict=True):
            self._run_init(pod, identity, member)
        for failed in self._pods.start(pod.id):
            raise failed.error
        return Played(pod.id, tuple(members))

    def _make(self, pod: Pod, member: Member, folder: str, in_memory: dict[str, str]) -> str:
        mounts = tuple(_placed(mount, folder, in_memory) for mount in member.options.mounts)
        options = self._pods.member(pod.id, replace(member.options, mounts=mounts))
        return self._engine.containers.create(options, progress=self._progress).id

    def _run_init(self, pod: Pod, identity: str, member: Member) -> None:
        containers = self._engine.containers
        containers.start(identity)
        code = containers.wait(identity)
        if code:
            raise InvalidState(
                f"pod {pod.name}: init container {member.options.name}: exit code {code}",
                self._last_words(identity),
            )
        containers.remove(identity, volumes=True)

    def _last_words(self, identity: str) -> str | None:
        """The end of what a container wrote, which goes with it; a log driver may keep none."""
        try:
            entries = [*self._engine.containers.logs(identity, tail=1)]
        except PycontainError:
            return None
        text = b"".join(entry.data for entry in entries).decode(errors="replace").strip()
        return f"it said: {text}" if text else None


def _is_latest(name: str) -> bool:
    """Whether a name is of an image of which there may be a newer one: Kubernetes' rule.

    What a recipe makes is of no registry.
    """
    from pycontain.image import recipes, reference

    ref = reference.parse(name)
    return not ref.digest and ref.tag in (None, "", "latest") and recipes.find(ref) is None


def _placed(mount: Mount, folder: str, in_memory: dict[str, str]) -> Mount:
    """A mount whose source is where the pod has it."""
    if mount.type == "bind" and not mount.source.startswith("/"):
        return replace(mount, source=f"{folder}/{mount.source}")
    if mount.anonymous:
        return replace(mount, source=in_memory.setdefault(mount.source, os.urandom(32).hex()))
    return mount


def _write(top: str, folders: Iterable[Folder]) -> None:
    """Write a pod's folders; they are on disk when this returns."""
    files.make_folder(top)
    for folder in folders:
        place = f"{top}/{folder.name}"
        files.make_folder(place, folder.mode)
        for file in folder.files:
            path = f"{place}/{file.path}"
            files.make_folders(os.path.dirname(path), 0o755)
            files.write_atomic(path, file.content, file.mode, durable=False)
    files.sync_tree(top)


_KINDS: Mapping[str, Callable[[int], bool]] = {
    "Directory": stat.S_ISDIR,
    "DirectoryOrCreate": stat.S_ISDIR,
    "File": stat.S_ISREG,
    "FileOrCreate": stat.S_ISREG,
    "Socket": stat.S_ISSOCK,
    "CharDevice": stat.S_ISCHR,
    "BlockDevice": stat.S_ISBLK,
}


def _check_host_path(pod: Pod, wanted: HostPath) -> None:
    """Make what is missing where the type says so; refuse what is of another kind."""
    step = f"pod {pod.name}: volume {wanted.volume}: hostPath {wanted.path}"
    if not wanted.type:
        return
    try:
        mode = os.stat(wanted.path).st_mode
    except FileNotFoundError:
        if wanted.type == "DirectoryOrCreate":
            files.make_folders(wanted.path, 0o755)
        elif wanted.type == "FileOrCreate":
            files.write_new(wanted.path, b"", 0o644)
        else:
            raise NotFound(f"{step}: there is no such {wanted.type}") from None
        return
    if not _KINDS[wanted.type](mode):
        raise InvalidInput(f"{step}: it is no {wanted.type.removesuffix('OrCreate')}")
