"""Documents of Kubernetes as its API has them: Pod, Deployment, ConfigMap, Secret and
PersistentVolumeClaim.

Every field of the API is declared, so that a slip of the pen is told from what this program does
not do: the latter is :data:`Unsupported`, kept as it came. The wire has camel case
(``hostAliases``), Python the words of it (``host_aliases``); None is a field that is not there.
What a type cannot say, :mod:`pycontain.pod.manifest` checks.

Source: the Kubernetes API reference, core/v1 and apps/v1 (API of release 1.37).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Unsupported = Annotated[Any, msgspec.Meta(extra={"supported": False})]
"""A field that Kubernetes knows and pycontain does nothing with."""

Quantity = str | int | float
"""``500m``, ``64Mi``, ``1e3``, 2: see :func:`pycontain.pod.quantities.quantity`."""
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Mode = Annotated[int, msgspec.Meta(ge=0, le=0o777)]
"""Permission bits of a file."""
Id = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
"""A user or a group."""
Seconds = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
Grace = Annotated[int, msgspec.Meta(ge=1, le=(1 << 31) - 1)]
"""Seconds, of which there is at least one."""
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
HostPort = Annotated[int, msgspec.Meta(ge=0, le=65535)]
"""0 is none."""
PortName = int | str
"""The number of a port, or the name of one of the container's ``ports``."""

PullPolicy = Literal["Always", "IfNotPresent", "Never"]
RestartPolicy = Literal["Always", "OnFailure", "Never"]
AccessMode = Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]
DNSPolicy = Literal["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]
HostPathType = Literal[
    "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice",
    "BlockDevice",
]  # fmt: skip


class _Part(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """A part of a document."""


class ObjectMeta(_Part, frozen=True, kw_only=True):
    """``metadata`` of each object.

    Attributes:
        name: a DNS-1123 subdomain.
        namespace: for the downward API only: one machine has no namespaces.
    """

    name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: Unsupported = None
    deletion_grace_period_seconds: Unsupported = None
    deletion_timestamp: Unsupported = None
    finalizers: Unsupported = None
    generate_name: Unsupported = None
    generation: Unsupported = None
    managed_fields: Unsupported = None
    owner_references: Unsupported = None
    resource_version: Unsupported = None
    self_link: Unsupported = None
    uid: Unsupported = None


# ---- environment ----


class KeySelector(_Part, frozen=True, kw_only=True):
    """A key of a ConfigMap or a Secret."""

    name: str
    key: str
    optional: bool = False


class ObjectFieldSelector(_Part, frozen=True, kw_only=True):
    """A field of the pod: ``metadata.name``, ``metadata.labels['app']``."""

    field_path: str
    api_version: Literal["v1"] = "v1"


class ResourceFieldSelector(_Part, frozen=True, kw_only=True):
    """A resource of a container: ``limits.cpu``, ``requests.memory``.

    Attributes:
        container_name: needed in volumes only.
        divisor: the unit of the number; None is 1.
    """

    resource: str
    container_name: str | None = None
    divisor: Quantity | None = None


class EnvVarSource(_Part, frozen=True, kw_only=True):
    """Where a variable's value comes from: exactly one of these."""

    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    file_key_ref: Unsupported = None


class EnvVar(_Part, frozen=True, kw_only=True):
    """A variable: `value`, in which ``$(NAME)`` stands for an earlier one, or `value_from`."""

    name: str
    value: str | None = None
    value_from: EnvVarSource | None = None


class EnvSource(_Part, frozen=True, kw_only=True):
    """A whole ConfigMap or Secret."""

    name: str
    optional: bool = False


class EnvFromSource(_Part, frozen=True, kw_only=True):
    """All keys of a ConfigMap or a Secret, as variables."""

    prefix: str = ""
    config_map_ref: EnvSource | None = None
    secret_ref: EnvSource | None = None


# ---- containers ----


class ContainerPort(_Part, frozen=True, kw_only=True):
    """A port; only one with `host_port` leads in from outside."""

    container_port: Port
    host_port: HostPort | None = None
    host_ip: str | None = msgspec.field(default=None, name="hostIP")
    name: str | None = None
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"


class VolumeMount(_Part, frozen=True, kw_only=True):
    """A volume in a container."""

    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str | None = None
    sub_path_expr: str | None = None
    mount_propagation: Unsupported = None
    recursive_read_only: Unsupported = None
    bind_mount_options: Unsupported = None


class ResourceRequirements(_Part, frozen=True, kw_only=True):
    """Resources by name, ``cpu`` and ``memory``."""

    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}
    claims: Unsupported = None


class Capabilities(_Part, frozen=True, kw_only=True):
    """Names without ``CAP_``, or ``ALL``."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SeccompProfile(_Part, frozen=True, kw_only=True):
    """Which system calls there are; `localhost_profile` is a path of the machine."""

    type: Literal["Localhost", "RuntimeDefault", "Unconfined"]
    localhost_profile: str | None = None


class AppArmorProfile(_Part, frozen=True, kw_only=True):
    """An AppArmor profile; `localhost_profile` is one that the kernel has, by its name."""

    type: Literal["Localhost", "RuntimeDefault", "Unconfined"]
    localhost_profile: str | None = None


class Sysctl(_Part, frozen=True, kw_only=True):
    """A parameter of the kernel: ``net.ipv4.ip_forward`` and ``1``."""

    name: str
    value: str


class SecurityContext(_Part, frozen=True, kw_only=True):
    """Rights of a container."""

    privileged: bool | None = None
    read_only_root_filesystem: bool | None = None
    run_as_user: Id | None = None
    run_as_group: Id | None = None
    run_as_non_root: bool | None = None
    allow_privilege_escalation: bool | None = None
    capabilities: Capabilities | None = None
    app_armor_profile: AppArmorProfile | None = None
    proc_mount: Literal["Default", "Unmasked"] | None = None
    seccomp_profile: SeccompProfile | None = None
    se_linux_options: Unsupported = None
    windows_options: Unsupported = None


class PodSecurityContext(_Part, frozen=True, kw_only=True):
    """Rights of all containers of a pod, unless they have their own."""

    run_as_user: Id | None = None
    run_as_group: Id | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: tuple[Id, ...] = ()
    fs_group: Id | None = None
    app_armor_profile: AppArmorProfile | None = None
    seccomp_profile: SeccompProfile | None = None
    sysctls: tuple[Sysctl, ...] = ()
    fs_group_change_policy: Unsupported = None
    se_linux_change_policy: Unsupported = None
    se_linux_options: Unsupported = None
    supplemental_groups_policy: Unsupported = None
    windows_options: Unsupported = None


# ---- probes and hooks ----


class ExecAction(_Part, frozen=True, kw_only=True):
    """A program in the container."""

    command: tuple[str, ...] = ()


class HTTPHeader(_Part, frozen=True, kw_only=True):
    """A header of a request."""

    name: str
    value: str


class HTTPGetAction(_Part, frozen=True, kw_only=True):
    """A GET.

    Attributes:
        host: None is the pod's own address.
    """

    port: PortName
    path: str | None = None
    host: str | None = None
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: tuple[HTTPHeader, ...] = ()
    protocol: Unsupported = None


class TCPSocketAction(_Part, frozen=True, kw_only=True):
    """A connection.

    Attributes:
        host: None is the pod's own address.
    """

    port: PortName
    host: str | None = None


class SleepAction(_Part, frozen=True, kw_only=True):
    """A pause."""

    seconds: Seconds


class Probe(_Part, frozen=True, kw_only=True):
    """How a container is asked: exactly one of the actions.

    Attributes:
        period_seconds, timeout_seconds, success_threshold, failure_threshold: 0 is the default.
    """

    exec_: ExecAction | None = msgspec.field(default=None, name="exec")
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: Unsupported = None
    initial_delay_seconds: Seconds = 0
    period_seconds: Seconds = 10
    timeout_seconds: Seconds = 1
    success_threshold: Count = 1
    failure_threshold: Count = 3
    termination_grace_period_seconds: Grace | None = None


class LifecycleHandler(_Part, frozen=True, kw_only=True):
    """What is done at a container's start or before its end: exactly one of these."""

    exec_: ExecAction | None = msgspec.field(default=None, name="exec")
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(_Part, frozen=True, kw_only=True):
    """Hooks of a container.

    Attributes:
        stop_signal: in the place of the image's: ``SIGUSR1``.
    """

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class Container(_Part, frozen=True, kw_only=True):
    """A container of a pod.

    Attributes:
        command: in the place of the image's entrypoint; None: not there.
        args: in the place of the image's command; None: not there.
        restart_policy: ``Always`` makes an init container a sidecar, which runs on beside the
            others.
    """

    name: str
    image: str
    image_pull_policy: PullPolicy | None = None
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    working_dir: str | None = None
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    security_context: SecurityContext = SecurityContext()
    volume_mounts: tuple[VolumeMount, ...] = ()
    stdin: bool = False
    tty: bool = False
    lifecycle: Lifecycle | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    restart_policy: RestartPolicy | None = None
    resize_policy: Unsupported = None
    restart_policy_rules: Unsupported = None
    stdin_once: Unsupported = None
    termination_message_path: Unsupported = None
    termination_message_policy: Unsupported = None
    volume_devices: Unsupported = None


# ---- volumes ----


class EmptyDir(_Part, frozen=True, kw_only=True):
    """A folder as old as the pod; `medium` ``Memory`` is a tmpfs."""

    medium: Literal["", "Memory"] = ""
    size_limit: Quantity | None = None
    mode: Unsupported = None


class HostPath(_Part, frozen=True, kw_only=True):
    """A path of the machine."""

    path: str
    type: HostPathType = ""


class KeyToPath(_Part, frozen=True, kw_only=True):
    """A key of a ConfigMap or Secret, and the file that it becomes."""

    key: str
    path: str
    mode: Mode | None = None
    user: Unsupported = None


class ConfigMapVolume(_Part, frozen=True, kw_only=True):
    """The keys of a ConfigMap as files."""

    name: str
    items: tuple[KeyToPath, ...] | None = None
    default_mode: Mode = 0o644
    optional: bool = False
    default_user: Unsupported = None


class SecretVolume(_Part, frozen=True, kw_only=True):
    """The keys of a Secret as files."""

    secret_name: str
    items: tuple[KeyToPath, ...] | None = None
    default_mode: Mode = 0o644
    optional: bool = False
    default_user: Unsupported = None


class DownwardAPIVolumeFile(_Part, frozen=True, kw_only=True):
    """A fact about the pod, as a file: exactly one of `field_ref` and `resource_field_ref`."""

    path: str
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: Mode | None = None
    user: Unsupported = None


class DownwardAPIVolume(_Part, frozen=True, kw_only=True):
    """Facts about the pod as files."""

    items: tuple[DownwardAPIVolumeFile, ...] = ()
    default_mode: Mode = 0o644
    default_user: Unsupported = None


class ConfigMapProjection(_Part, frozen=True, kw_only=True):
    """The keys of a ConfigMap as files, beside others."""

    name: str
    items: tuple[KeyToPath, ...] | None = None
    optional: bool = False


class SecretProjection(_Part, frozen=True, kw_only=True):
    """The keys of a Secret as files, beside others."""

    name: str
    items: tuple[KeyToPath, ...] | None = None
    optional: bool = False


class DownwardAPIProjection(_Part, frozen=True, kw_only=True):
    """Facts about the pod as files, beside others."""

    items: tuple[DownwardAPIVolumeFile, ...] = ()


class VolumeProjection(_Part, frozen=True, kw_only=True):
    """Part of a projected volume: exactly one of these."""

    config_map: ConfigMapProjection | None = None
    secret: SecretProjection | None = None
    downward_api: DownwardAPIProjection | None = msgspec.field(default=None, name="downwardAPI")
    cluster_trust_bundle: Unsupported = None
    pod_certificate: Unsupported = None
    service_account_token: Unsupported = None


class ProjectedVolume(_Part, frozen=True, kw_only=True):
    """Files of several sources in one folder."""

    sources: tuple[VolumeProjection, ...] = ()
    default_mode: Mode = 0o644
    default_user: Unsupported = None


class Claim(_Part, frozen=True, kw_only=True):
    """A PersistentVolumeClaim by its name, or a volume of this machine."""

    claim_name: str
    read_only: bool = False


class Volume(_Part, frozen=True, kw_only=True):
    """A volume of a pod: exactly one source."""

    name: str
    empty_dir: EmptyDir | None = None
    host_path: HostPath | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    persistent_volume_claim: Claim | None = None
    downward_api: DownwardAPIVolume | None = msgspec.field(default=None, name="downwardAPI")
    projected: ProjectedVolume | None = None
    aws_elastic_block_store: Unsupported = None
    azure_disk: Unsupported = None
    azure_file: Unsupported = None
    cephfs: Unsupported = None
    cinder: Unsupported = None
    csi: Unsupported = None
    ephemeral: Unsupported = None
    fc: Unsupported = None
    flex_volume: Unsupported = None
    flocker: Unsupported = None
    gce_persistent_disk: Unsupported = None
    git_repo: Unsupported = None
    glusterfs: Unsupported = None
    image: Unsupported = None
    iscsi: Unsupported = None
    nfs: Unsupported = None
    photon_persistent_disk: Unsupported = None
    portworx_volume: Unsupported = None
    quobyte: Unsupported = None
    rbd: Unsupported = None
    scale_io: Unsupported = msgspec.field(default=None, name="scaleIO")
    storageos: Unsupported = None
    vsphere_volume: Unsupported = None


# ---- pods ----


class HostAlias(_Part, frozen=True, kw_only=True):
    """A line of /etc/hosts."""

    ip: str
    hostnames: tuple[str, ...] = ()


class PodDNSConfigOption(_Part, frozen=True, kw_only=True):
    """An option of resolv.conf(5): ``ndots`` and ``2``."""

    name: str
    value: str | None = None


class PodDNSConfig(_Part, frozen=True, kw_only=True):
    """What resolv.conf(5) of the pod has."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[PodDNSConfigOption, ...] = ()


class PodSpec(_Part, frozen=True, kw_only=True):
    """What a pod is to be.

    Attributes:
        resources: of all its containers together.
    """

    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    restart_policy: RestartPolicy = "Always"
    termination_grace_period_seconds: Seconds = 30
    hostname: str | None = None
    host_network: bool = False
    host_ipc: bool = msgspec.field(default=False, name="hostIPC")
    host_pid: bool = msgspec.field(default=False, name="hostPID")
    host_aliases: tuple[HostAlias, ...] = ()
    dns_config: PodDNSConfig | None = None
    dns_policy: DNSPolicy = "ClusterFirst"
    share_process_namespace: bool = False
    security_context: PodSecurityContext = PodSecurityContext()
    active_deadline_seconds: Grace | None = None
    resources: ResourceRequirements = ResourceRequirements()
    affinity: Unsupported = None
    automount_service_account_token: Unsupported = None
    enable_service_links: Unsupported = None
    ephemeral_containers: Unsupported = None
    eviction_responders: Unsupported = None
    host_users: Unsupported = None
    hostname_override: Unsupported = None
    image_pull_secrets: Unsupported = None
    node_name: Unsupported = None
    node_selector: Unsupported = None
    os: Unsupported = None
    overhead: Unsupported = None
    preemption_policy: Unsupported = None
    priority: Unsupported = None
    priority_class_name: Unsupported = None
    readiness_gates: Unsupported = None
    resource_claims: Unsupported = None
    runtime_class_name: Unsupported = None
    scheduler_name: Unsupported = None
    scheduling_gates: Unsupported = None
    scheduling_group: Unsupported = None
    service_account: Unsupported = None
    service_account_name: Unsupported = None
    set_hostname_as_fqdn: Unsupported = msgspec.field(default=None, name="setHostnameAsFQDN")
    subdomain: Unsupported = None
    tolerations: Unsupported = None
    topology_spread_constraints: Unsupported = None


# ---- documents ----


class _Object(_Part, frozen=True, kw_only=True):
    """A document."""

    metadata: ObjectMeta

    @property
    def name(self) -> str:
        """``metadata.name``, which :mod:`pycontain.pod.manifest` has made sure of."""
        return self.metadata.name or ""


class Pod(_Object, frozen=True, kw_only=True):
    """Containers that share a network."""

    api_version: Literal["v1"]
    kind: Literal["Pod"]
    spec: PodSpec
    status: Unsupported = None


class ConfigMap(_Object, frozen=True, kw_only=True):
    """Texts and bytes (`binary_data`, in base64) by key."""

    api_version: Literal["v1"]
    kind: Literal["ConfigMap"]
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: bool = False


class Secret(_Object, frozen=True, kw_only=True):
    """Bytes by key: in base64 (`data`), or as text (`string_data`, which wins)."""

    api_version: Literal["v1"]
    kind: Literal["Secret"]
    data: dict[str, str] = {}
    string_data: dict[str, str] = {}
    type: str = "Opaque"
    immutable: bool = False


class LabelSelectorRequirement(_Part, frozen=True, kw_only=True):
    """A rule about one label; `values` are of ``In`` and ``NotIn`` only."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class LabelSelector(_Part, frozen=True, kw_only=True):
    """Which objects are meant: those of which all of this is true."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


class VolumeResourceRequirements(_Part, frozen=True, kw_only=True):
    """Resources by name, ``storage``."""

    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}


class PersistentVolumeClaimSpec(_Part, frozen=True, kw_only=True):
    """What a volume is to be.

    Attributes:
        storage_class_name: None is the default class, empty none.
    """

    access_modes: tuple[AccessMode, ...] = ()
    resources: VolumeResourceRequirements = VolumeResourceRequirements()
    storage_class_name: str | None = None
    volume_mode: Literal["Filesystem", "Block"] = "Filesystem"
    data_source: Unsupported = None
    data_source_ref: Unsupported = None
    selector: Unsupported = None
    volume_attributes_class_name: Unsupported = None
    volume_name: Unsupported = None


class PersistentVolumeClaim(_Object, frozen=True, kw_only=True):
    """A volume that outlives pods."""

    api_version: Literal["v1"]
    kind: Literal["PersistentVolumeClaim"]
    spec: PersistentVolumeClaimSpec
    status: Unsupported = None


class PodTemplateSpec(_Part, frozen=True, kw_only=True):
    """What the pods of a Deployment are made from."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec


class DeploymentStrategy(_Part, frozen=True, kw_only=True):
    """How pods are replaced when the template changes; None is Kubernetes' ``RollingUpdate``."""

    type: Literal["Recreate", "RollingUpdate"] | None = None
    rolling_update: Unsupported = None


class DeploymentSpec(_Part, frozen=True, kw_only=True):
    """Which pods there are to be.

    Attributes:
        min_ready_seconds: a pod is available when it has been ready for so long.
    """

    replicas: Count = 1
    selector: LabelSelector
    template: PodTemplateSpec
    strategy: DeploymentStrategy = DeploymentStrategy()
    min_ready_seconds: Seconds = 0
    paused: Unsupported = None
    progress_deadline_seconds: Unsupported = None
    revision_history_limit: Unsupported = None


class Deployment(_Object, frozen=True, kw_only=True):
    """So many pods of one template, kept."""

    api_version: Literal["apps/v1"]
    kind: Literal["Deployment"]
    spec: DeploymentSpec
    status: Unsupported = None


Object = Pod | ConfigMap | Secret | PersistentVolumeClaim | Deployment

KINDS: dict[str, type[Object]] = {
    "ConfigMap": ConfigMap,
    "Secret": Secret,
    "PersistentVolumeClaim": PersistentVolumeClaim,
    "Pod": Pod,
    "Deployment": Deployment,
}
"""Objects by their kinds, what is named by others first: the order in which they are declared."""
