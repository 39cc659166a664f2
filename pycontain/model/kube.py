"""Documents of Kubernetes as its API has them: Pod, ConfigMap, Secret.

Every field of the API is declared, so that a slip of the pen is told from what this program does
not do: the latter is :data:`Unsupported`, kept as it came. The wire has camel case
(``hostAliases``), Python the words of it (``host_aliases``); None is a field that is not there.
What a type cannot say, :mod:`pycontain.pod.manifest` checks.

Source: the Kubernetes API reference, core/v1 (API of release 1.37).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Unsupported = Annotated[Any, msgspec.Meta(extra={"supported": False})]
"""A field that Kubernetes knows and pycontain does nothing with."""

Quantity = str | int | float
"""``500m``, ``64Mi``, ``1e3``, 2: see :func:`pycontain.pod.manifest.quantity`."""
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Mode = Annotated[int, msgspec.Meta(ge=0, le=0o777)]
"""Permission bits of a file."""
Id = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
"""A user or a group."""
Seconds = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]

PullPolicy = Literal["Always", "IfNotPresent", "Never"]
RestartPolicy = Literal["Always", "OnFailure", "Never"]
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


class EnvVarSource(_Part, frozen=True, kw_only=True):
    """Where a variable's value comes from: exactly one of these."""

    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    field_ref: ObjectFieldSelector | None = None
    file_key_ref: Unsupported = None
    resource_field_ref: Unsupported = None


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
    host_port: Port | None = None
    host_ip: str | None = msgspec.field(default=None, name="hostIP")
    name: str | None = None
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"


class VolumeMount(_Part, frozen=True, kw_only=True):
    """A volume in a container."""

    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str | None = None
    sub_path_expr: Unsupported = None
    mount_propagation: Unsupported = None
    recursive_read_only: Unsupported = None
    bind_mount_options: Unsupported = None


class ResourceRequirements(_Part, frozen=True, kw_only=True):
    """Resources by name, ``cpu`` and ``memory``."""

    limits: dict[str, Quantity] = {}
    requests: Unsupported = None
    claims: Unsupported = None


class Capabilities(_Part, frozen=True, kw_only=True):
    """Names without ``CAP_``, or ``ALL``."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SecurityContext(_Part, frozen=True, kw_only=True):
    """Rights of a container."""

    privileged: bool | None = None
    read_only_root_filesystem: bool | None = None
    run_as_user: Id | None = None
    run_as_group: Id | None = None
    run_as_non_root: bool | None = None
    allow_privilege_escalation: bool | None = None
    capabilities: Capabilities | None = None
    app_armor_profile: Unsupported = None
    proc_mount: Unsupported = None
    se_linux_options: Unsupported = None
    seccomp_profile: Unsupported = None
    windows_options: Unsupported = None


class PodSecurityContext(_Part, frozen=True, kw_only=True):
    """Rights of all containers of a pod, unless they have their own."""

    run_as_user: Id | None = None
    run_as_group: Id | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: tuple[Id, ...] = ()
    app_armor_profile: Unsupported = None
    fs_group: Unsupported = None
    fs_group_change_policy: Unsupported = None
    se_linux_change_policy: Unsupported = None
    se_linux_options: Unsupported = None
    seccomp_profile: Unsupported = None
    supplemental_groups_policy: Unsupported = None
    sysctls: Unsupported = None
    windows_options: Unsupported = None


class Container(_Part, frozen=True, kw_only=True):
    """A container of a pod.

    Attributes:
        command: in the place of the image's entrypoint; None: not there.
        args: in the place of the image's command; None: not there.
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
    lifecycle: Unsupported = None
    liveness_probe: Unsupported = None
    readiness_probe: Unsupported = None
    startup_probe: Unsupported = None
    resize_policy: Unsupported = None
    restart_policy: Unsupported = None
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


class Claim(_Part, frozen=True, kw_only=True):
    """A volume of this machine by its name."""

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
    aws_elastic_block_store: Unsupported = None
    azure_disk: Unsupported = None
    azure_file: Unsupported = None
    cephfs: Unsupported = None
    cinder: Unsupported = None
    csi: Unsupported = None
    downward_api: Unsupported = msgspec.field(default=None, name="downwardAPI")
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
    projected: Unsupported = None
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
    """What a pod is to be."""

    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    restart_policy: RestartPolicy = "Always"
    termination_grace_period_seconds: Seconds = 30
    hostname: str | None = None
    host_network: bool = False
    host_aliases: tuple[HostAlias, ...] = ()
    dns_config: PodDNSConfig | None = None
    dns_policy: DNSPolicy = "ClusterFirst"
    share_process_namespace: bool = False
    security_context: PodSecurityContext = PodSecurityContext()
    active_deadline_seconds: Unsupported = None
    affinity: Unsupported = None
    automount_service_account_token: Unsupported = None
    enable_service_links: Unsupported = None
    ephemeral_containers: Unsupported = None
    eviction_responders: Unsupported = None
    host_ipc: Unsupported = msgspec.field(default=None, name="hostIPC")
    host_pid: Unsupported = msgspec.field(default=None, name="hostPID")
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
    resources: Unsupported = None
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


class _Object(_Part, frozen=True, kw_only=True):
    """A document.

    Attributes:
        api_version: ``v1``.
    """

    api_version: Literal["v1"]
    metadata: ObjectMeta

    @property
    def name(self) -> str:
        """``metadata.name``, which :mod:`pycontain.pod.manifest` has made sure of."""
        return self.metadata.name or ""


class Pod(_Object, frozen=True, kw_only=True):
    """Containers that share a network."""

    kind: Literal["Pod"]
    spec: PodSpec
    status: Unsupported = None


class ConfigMap(_Object, frozen=True, kw_only=True):
    """Texts and bytes (`binary_data`, in base64) by key."""

    kind: Literal["ConfigMap"]
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: Unsupported = None


class Secret(_Object, frozen=True, kw_only=True):
    """Bytes by key: in base64 (`data`), or as text (`string_data`, which wins)."""

    kind: Literal["Secret"]
    data: dict[str, str] = {}
    string_data: dict[str, str] = {}
    type: str = "Opaque"
    immutable: Unsupported = None


Object = Pod | ConfigMap | Secret
