"""What a user asked for, and what came of it: the documents of one container."""

from typing import Literal

import msgspec

from pycontain.model.probe import Hooks, Probes

UID_LABEL = "io.kubernetes.pod.uid"
"""Label of a pod that is kept, and of its containers: which declared object it was made for."""


class Mount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One mount that the user asked for (``-v``, ``--mount``, ``--tmpfs``, an image's VOLUME).

    Attributes:
        type: ``bind`` shows a host path, ``tmpfs`` a new file system in memory, ``volume`` a folder
            that pycontain keeps, ``image`` the files of an image, read-only.
        source: the absolute host path of a bind, a volume's name (an anonymous one gets its name
            when the container is made), an image; of a tmpfs empty, or in a pod the name of one of
            its ``memory``.
        target: the absolute, normalised path in the container.
        options: mount options in the words of mount(8), in order: ``ro``, ``nosuid``, ``nodev``,
            ``noexec``, ``rbind``, ``rprivate``, ``rslave``, ``rshared``, ``size=…``, ``mode=…`` …
        make_source: make a missing source folder, as ``-v`` does and ``--mount`` does not; with
            `subpath` that one instead.
        anonymous: of a made container, a volume that nobody named.
        no_copy: a volume is not filled with what the image has at its place.
        subpath: the folder in it that is shown. Links in there lead nowhere else.
        chown: its files are given to the container's user, at each start.
        uid_map, gid_map: the owners are shown mapped: id in the files, id that is seen, count.
        labels, driver_options: of a volume that is made for this.
        layers: of an image, what its unpacked layers are called, bottom first.
    """

    type: Literal["bind", "tmpfs", "volume", "image"]
    source: str = ""
    target: str
    options: tuple[str, ...] = ()
    make_source: bool = False
    anonymous: bool = False
    no_copy: bool = False
    subpath: str = ""
    chown: bool = False
    uid_map: tuple[tuple[int, int, int], ...] = ()
    gid_map: tuple[tuple[int, int, int], ...] = ()
    labels: dict[str, str] = {}
    driver_options: dict[str, str] = {}
    layers: tuple[str, ...] = ()


class Device(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A host device for the container: ``--device SOURCE[:TARGET[:rwm]]``."""

    source: str
    target: str
    access: str = "rwm"


class DeviceRule(msgspec.Struct, frozen=True, kw_only=True):
    """Devices that may be used: ``--device-cgroup-rule 'TYPE MAJOR:MINOR ACCESS'``.

    Attributes:
        type: ``c`` (characters), ``b`` (blocks), or ``a`` for both.
        major, minor: numbers; -1 stands for all.
        access: of ``r``, ``w`` and ``m`` (mknod).
    """

    type: Literal["a", "b", "c"]
    major: int = -1
    minor: int = -1
    access: str = "rwm"


class Ulimit(msgspec.Struct, frozen=True, kw_only=True):
    """A resource limit, name as in ``--ulimit`` (``nofile``); -1 is unlimited."""

    name: str
    soft: int
    hard: int


class DeviceWeight(msgspec.Struct, frozen=True, kw_only=True):
    """The weight of one block device, 10 to 1000: ``--blkio-weight-device PATH:WEIGHT``."""

    path: str
    weight: int


class DeviceRate(msgspec.Struct, frozen=True, kw_only=True):
    """The rate of one block device, bytes or operations a second; 0 is no limit."""

    path: str
    rate: int


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a container may use (cgroup v2): of ``run``, ``create`` and ``update``. None: not said.

    Attributes:
        memory: bytes; 0 or -1 is no limit.
        memory_reservation: bytes that are protected while others want memory too; 0 is none.
        memory_swap: bytes of memory and swap together; -1 is no limit of swap. Not said, it is
            twice `memory`.
        cpus: how many processors' time, as 1.5; 0 is no limit. In place of period and quota.
        cpu_shares: weight beside other containers, 2 to 262144, as cgroup v1 had it; 1024 is the
            default.
        cpu_period, cpu_quota: microseconds; a quota of 0 or -1 is no limit.
        cpuset_cpus, cpuset_mems: lists like ``0-2,4``.
        pids_limit: tasks; 0 or -1 is no limit.
        blkio_weight: weight at block devices, 10 to 1000.
        device_read_bps, device_write_bps: bytes a second.
        device_read_iops, device_write_iops: operations a second.
        cgroup_conf: control file → text, written as it is (``memory.high`` → ``64M``).
    """

    memory: int | None = None
    memory_reservation: int | None = None
    memory_swap: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids_limit: int | None = None
    blkio_weight: int | None = None
    blkio_weight_device: tuple[DeviceWeight, ...] = ()
    device_read_bps: tuple[DeviceRate, ...] = ()
    device_write_bps: tuple[DeviceRate, ...] = ()
    device_read_iops: tuple[DeviceRate, ...] = ()
    device_write_iops: tuple[DeviceRate, ...] = ()
    cgroup_conf: dict[str, str] = {}


class NetworkChoice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A network that a container is to be in: ``--network NAME[:ip=…,ip6=…,mac=…,alias=…]``.

    Attributes:
        name: of the network, or the beginning of its id.
        ip, ip6: the addresses that it wants there; empty for any.
        mac: the hardware address that it wants there; empty for any.
        aliases: further names that the others of this network know it by.
    """

    name: str
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()


class Publish(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A port of a container that the host is to have too: ``-p [ADDRESS:][HOST:]CONTAINER``.

    Attributes:
        protocol: ``tcp`` or ``udp``.
        address: of the host; empty for all of them, IPv4 and IPv6.
        first, last: the host's ports, of which a free one is taken; 0 for any.
        target: the container's port.
    """

    protocol: Literal["tcp", "udp"] = "tcp"
    address: str = ""
    first: int = 0
    last: int = 0
    target: int


class PortBinding(msgspec.Struct, frozen=True, kw_only=True):
    """A port of the host that leads to one of a running container.

    Attributes:
        protocol: ``tcp`` or ``udp``.
        address: of the host: ``0.0.0.0`` (every IPv4 address), ``::`` (every IPv6 one), or one.
        port: of the host.
        target: the container's port.
    """

    protocol: Literal["tcp", "udp"]
    address: str
    port: int
    target: int


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """How to find out whether a container's program does its work: docker's ``Healthcheck``.

    0, empty and None are what the image says, or where it says nothing the default. Durations are
    nanoseconds. The wire names are PascalCase (``Test``, ``StartPeriod`` …).

    Attributes:
        test: ``CMD`` and an argument vector, ``CMD-SHELL`` and a text for the image's shell, or
            ``NONE``: the image's check is not made.
        interval: from the end of a probe to the next one; default 30 s.
        timeout: how long a probe may take; default 30 s.
        start_period: from the start of the container; probes that fail in it do not count while
            none has succeeded; default none.
        start_interval: in place of `interval` in that period; default 5 s.
        retries: after how many failures in a row it is unhealthy; default 3.
    """

    test: tuple[str, ...] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether a container is started again when it ends: ``--restart NAME[:MOST]``.

    None in its place is ``no``.

    Attributes:
        name: ``on-failure`` is for an end with another exit code than 0; the others for every end
            that no user asked for. After a reboot ``unless-stopped`` is not for one that a user
            had stopped, ``always`` is for that too.
        most: of ``on-failure``: how many times in a row; 0 is any number.
        crash_loop: waits are Kubernetes' (CrashLoopBackOff: 10 s, doubled each time, 5 minutes at
            most, anew after a run of 10 minutes), not docker's.
    """

    name: Literal["on-failure", "always", "unless-stopped"]
    most: int = 0
    crash_loop: bool = False


class RestartRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a container's restart policy since a user last started it.

    Attributes:
        count: how many times it was started again, one that is due included.
        stopped: a user stopped it.
        held: it was ended with all others, ``system shutdown``: nothing follows until
            ``system boot``, which starts it whatever its policy.
        series: the same count since it last ran for long; says how long the next one has to wait.
        run: the run about whose end it was decided.
        due: when it is started again after that run, nanoseconds since the epoch; 0: not at all.
    """

    count: int = 0
    stopped: bool = False
    held: bool = False
    series: int = 0
    run: str = ""
    due: int = 0


class RunOptions(Limits, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that ``run`` and ``create`` can be asked for. None: not said by the user.

    Attributes:
        image: the image as the user named it.
        command: replaces the image's CMD when not empty.
        entrypoint: None keeps the image's; empty clears it (and its CMD).
        env: ``NAME=value`` lines, later ones win (names without a value are already resolved).
        network: ``none``, ``host``, ``container:ID``, or ``bridge``: a namespace of its own, in the
            networks that `networks` names.
        networks: what it is in; empty unless `network` is ``bridge``.
        publish: ports of the host that lead to it.
        publish_all: a free port of the host leads to each that it exposes.
        expose: ports that it says it uses, ``80/tcp``, beside its image's.
        pid, ipc, uts, cgroupns: ``private``, ``host`` or ``container:ID`` (ipc also ``none``, and
            ``shareable``: its own, which other containers may join).
        domainname: NIS domain name of its UTS namespace (uname(2)).
        annotations: of the OCI configuration; kept and shown, nothing here acts on them.
        device_cgroup_rules: devices that may be used beside the default ones.
        tz: a zone of the host's zoneinfo (``Europe/Berlin``), or ``local`` for the host's own.
        stop_timeout: seconds between the stop signal and SIGKILL.
        timeout: seconds after which the container is killed; 0 is never.
        shm_size: bytes.
        umask: the process's umask.
        log_driver: ``k8s-file``, ``json-file`` or ``none``; log_max_size in bytes.
        oom_score_adj: -1000 to 1000, how soon the kernel kills it when memory runs short
            (proc_pid_oom_score_adj(5)).
        cgroup_parent: the cgroup in which the container's is made, absolute from the root of
            cgroup v2.
        volumes_from: containers whose binds and volumes it has too: ``NAME[:ro|rw]``.
        health: in place of parts of the image's check, or of all of it.
        restart: whether it is started again when it ends; None is no.
        probes: what it is asked while it runs.
        hooks: what is done at its start and before its end.
        pod: id of the pod that it is in; it joins that one's namespaces by modes that name it,
            ``container:ID``.
    """

    image: str
    command: tuple[str, ...] = ()
    name: str | None = None
    entrypoint: tuple[str, ...] | None = None
    workdir: str | None = None
    user: str | None = None
    group_add: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    hostname: str | None = None
    domainname: str | None = None
    add_host: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_option: tuple[str, ...] = ()
    interactive: bool = False
    tty: bool = False
    remove: bool = False
    init: bool = False
    network: str = "none"
    networks: tuple[NetworkChoice, ...] = ()
    publish: tuple[Publish, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    cgroupns: str = "private"
    mounts: tuple[Mount, ...] = ()
    volumes_from: tuple[str, ...] = ()
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    privileged: bool = False
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[DeviceRule, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: dict[str, str] = {}
    shm_size: int = 64 << 20
    stop_signal: str | None = None
    stop_timeout: int | None = None
    umask: int | None = None
    tz: str | None = None
    timeout: int = 0
    log_driver: str = "k8s-file"
    log_max_size: int = 16 << 20
    log_max_files: int = 3
    oom_score_adj: int | None = None
    cgroup_parent: str | None = None
    health: HealthCheck | None = None
    restart: RestartPolicy | None = None
    probes: Probes | None = None
    hooks: Hooks | None = None
    pod: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether it belongs to a pod that is declared, whose controller starts it."""
        return bool(self.pod) and UID_LABEL in self.labels


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The ``config`` object of an OCI image configuration (image-spec, config.md).

    The wire names are PascalCase (``Entrypoint``, ``WorkingDir``, ``StopSignal`` …).
    """

    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    volumes: dict[str, dict[str, str]] | None = None
    exposed_ports: dict[str, dict[str, str]] | None = None
    labels: dict[str, str] | None = None
    on_build: list[str] | None = None
    shell: list[str] | None = None
    healthcheck: HealthCheck | None = None


class Container(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``container.json``: what was asked for; after create only ``update`` changes its limits.

    Attributes:
        version: of this document's form.
        id: 64 hexadecimal digits.
        created: nanoseconds since the epoch.
        image_id: the image's configuration digest, ``sha256:…``.
        layers: what the image's unpacked layers are called, bottom first.
        config: the image's configuration as it was at create.
        command: the argument vector after entrypoint and command are joined.
        stop_signal: number.
        stop_timeout: seconds.
        mounts: all that is mounted beside the defaults, parents first, volumes by their names;
            None: of a container of an earlier version, whose anonymous volumes lie in its folder.
    """

    version: int = 1
    id: str
    name: str
    created: int
    options: RunOptions
    image_id: str
    layers: tuple[str, ...]
    config: ImageConfig
    command: tuple[str, ...]
    stop_signal: int
    stop_timeout: int
    mounts: tuple[Mount, ...] | None = None


def cgroup_path(container_id: str, parent: str | None = None) -> str:
    """Return a container's cgroup, absolute from the root of cgroup v2.

    Args:
        container_id: of the container.
        parent: what ``--cgroup-parent`` says.
    """
    return f"{parent}/{container_id}" if parent else f"/pycontain/{container_id}/container"


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``exit.json``: how one run of a container ended, written by its monitor (or its finder).

    Times are nanoseconds since the epoch, CPU time microseconds, memory bytes; None is unknown.
    The figures are totals of the whole run, of all the container's processes.

    Attributes:
        code: what a shell would report: the exit code, or 128 + signal.
        signal: the signal that ended it, 0 for none; None where unknown.
        reason: why it ended when that was not the process's own doing: ``timeout``,
            ``monitor lost``, ``reboot``, or ``not started`` (then error says what failed).
        log_lost: bytes of output that the disk had no room for.
        cpu_usec: user and system time together.
        pids_peak: the most tasks at one time (since Linux 6.1).
        block_read, block_written: bytes.
        block_reads, block_writes: operations.
        net_received, net_sent: bytes through all interfaces of its network namespace but the
            loopback; None where that is the host's.
        cpu_stalled_usec, memory_stalled_usec, io_stalled_usec: microseconds in which some task had
            to wait for it (accounting/psi.rst).
    """

    run: str
    code: int
    signal: int | None = None
    oom_killed: bool | None = None
    started: int | None = None
    finished: int | None = None
    cpu_usec: int | None = None
    cpu_user_usec: int | None = None
    cpu_system_usec: int | None = None
    memory_peak: int | None = None
    pids_peak: int | None = None
    block_read: int | None = None
    block_written: int | None = None
    block_reads: int | None = None
    block_writes: int | None = None
    net_received: int | None = None
    net_sent: int | None = None
    cpu_stalled_usec: int | None = None
    memory_stalled_usec: int | None = None
    io_stalled_usec: int | None = None
    log_lost: int = 0
    reason: str | None = None
    error: str | None = None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``run.json``: who runs now, written by the monitor before it lets the container go.

    A pid alone may be recycled; with the boot and its start time (clock ticks since boot, field 22
    of proc_pid_stat(5)) it names one process for ever.
    """

    run: str
    boot: str
    monitor: int
    monitor_start: int
    pid: int
    pid_start: int
    started: int


class ExecOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``exec`` can be asked for.

    Attributes:
        command: the argument vector.
        interactive: keep the standard input open.
        tty: with a terminal.
        detach: do not wait for it.
        env: ``NAME=value`` lines, after the container's own.
        user: as ``--user``; None is the container's.
        workdir: None is the container's.
        timeout: seconds after which it is killed; 0 is never.
    """

    command: tuple[str, ...]
    interactive: bool = False
    tty: bool = False
    detach: bool = False
    env: tuple[str, ...] = ()
    user: str | None = None
    workdir: str | None = None
    timeout: float = 0
