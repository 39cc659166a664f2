"""From what a user asked for to an OCI runtime configuration (runtime-spec, config.md).

Owns docker's meaning of the options: how ENTRYPOINT and CMD join, which environment and mounts a
container starts with, what ``--privileged`` opens, what the default defences are. The result is
data; what carries it out knows nothing of options or images. Nothing is changed here. What is read
beside the arguments are a seccomp profile that the user names, and the lists of capabilities and of
processors of this machine, which the defaults depend on.

The caller brings everything that has to be found first: the account, the host's device numbers,
folders for volumes, namespaces to join.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple, cast

from pycontain.errors import InvalidInput, NotFound, NotSupported
from pycontain.kernel import capability
from pycontain.kernel.devices import ALLOW_ALL, DEFAULT_RULES
from pycontain.model.container import Mount, cgroup_path
from pycontain.model.parse.mounts import is_anonymous, merge_mounts, option_family
from pycontain.model.parse.names import sysctl_namespace
from pycontain.model.parse.numbers import parse_boolean
from pycontain.model.parse.words import normalise
from pycontain.runtime import masks, seccomp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pycontain.model import oci
    from pycontain.model.container import Container, DeviceRule, ImageConfig, RunOptions, Ulimit
    from pycontain.runtime.accounts import Account

OCI_VERSION = "1.2.0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM = "/dev/shm"  # noqa: S108 a mount point, no temporary file
_DEFAULT_SHM = 64 << 20
_DEFAULT_UMASK = 0o022
_RLIM_INFINITY = 2**64 - 1  # getrlimit(2) on 64-bit machines

# The order in which docker writes them; user first, because it owns the others.
_NAMESPACES = ("user", "mount", "network", "uts", "pid", "ipc", "cgroup")


class BoundFiles(NamedTuple):
    """Host paths of the files that are bound into a container.

    Attributes:
        hosts: becomes /etc/hosts.
        hostname: becomes /etc/hostname.
        resolv_conf: becomes /etc/resolv.conf.
        init: the program for ``--init``; empty where it is not asked for.
    """

    hosts: str
    hostname: str
    resolv_conf: str
    init: str = ""


class Security(NamedTuple):
    """What ``--security-opt`` comes to.

    Attributes:
        no_new_privileges: prctl(2), PR_SET_NO_NEW_PRIVS.
        seccomp: a profile's path, ``unconfined``, ``builtin`` (the default, also for
            ``--privileged``), or empty for the default.
        apparmor: a profile that the kernel has loaded, or empty for none.
        masked: paths that the container must not read.
        readonly: paths that it must not write.
    """

    no_new_privileges: bool
    seccomp: str
    apparmor: str
    masked: tuple[str, ...]
    readonly: tuple[str, ...]


# ---------------------------------------------------------------- what the engine asks one by one


def command(options: RunOptions, config: ImageConfig) -> tuple[str, ...]:
    """Join entrypoint and command as docker does.

    The user's command replaces the image's CMD. The user's entrypoint replaces the image's and
    takes its CMD away; an empty one (or a single empty word) clears both.

    Returns:
        The argument vector, not empty.

    Raises:
        InvalidInput: there is nothing to run.
    """
    words = options.command
    if options.entrypoint is None:
        entry = tuple(config.entrypoint or ())
        words = words or tuple(config.cmd or ())
    else:
        entry = options.entrypoint
    if entry == ("",):
        entry = ()
    if not entry and not words:
        raise InvalidInput("no command specified")
    return (*entry, *words)


def environment(
    options: RunOptions, config: ImageConfig, account: Account, hostname: str
) -> list[str]:
    """Return the environment as ``NAME=value`` lines, in docker's order.

    PATH, HOSTNAME and, with a terminal, TERM; the user's variables; the image's that the user did
    not name. A later line takes the place of an earlier one of its name. A bare name among the
    user's removes the variable. HOME comes from the account where it is not set or empty. The
    image's TZ would overrule a time zone that the user asked for, so it is left out then.

    Args:
        options: ``env``, ``tty`` and ``tz`` count.
        config: of the image.
        account: whose home it is.
        hostname: of the container.
    """
    lines = {"PATH": f"PATH={DEFAULT_PATH}", "HOSTNAME": f"HOSTNAME={hostname}"}
    if options.tty:
        lines["TERM"] = "TERM=xterm"
    named = {_name(line) for line in options.env}
    if options.tz:
        named.add("TZ")
    image = [line for line in config.env or () if _name(line) not in named]
    for line in (*options.env, *image):
        if "=" in line:
            lines[_name(line)] = line
        else:
            lines.pop(line, None)
    if lines.get("HOME", "HOME=") == "HOME=":
        lines.pop("HOME", None)
        lines["HOME"] = f"HOME={account.home}"
    return list(lines.values())


def _name(line: str) -> str:
    return line.partition("=")[0]


def user_mounts(
    options: RunOptions, config: ImageConfig, inherited: Iterable[Mount] = ()
) -> tuple[Mount, ...]:
    """Return what is mounted beside the defaults: the image's VOLUMEs and the user's mounts.

    Parents come before their children. The engine makes a folder for each that is of type
    ``volume`` and passes it to :func:`build`.

    Args:
        options: with the user's mounts.
        config: with the image's VOLUMEs.
        inherited: of other containers; they give way to what the user asks for by name.

    Raises:
        InvalidInput: two mounts want one target, or a target is not possible.
    """
    volumes = [
        Mount(type="volume", target=_absolute(path)) for path in sorted(config.volumes or ())
    ]
    asked = merge_mounts((*volumes, *options.mounts))
    merged = {mount.target: mount for mount in asked}
    named = {mount.target for mount in asked if not is_anonymous(mount)}
    merged.update((mount.target, mount) for mount in inherited if mount.target not in named)
    return tuple(sorted(merged.values(), key=lambda mount: mount.target.count("/")))


def all_mounts(container: Container) -> tuple[Mount, ...]:
    """Return all that is mounted in a container beside the defaults, parents first."""
    if container.mounts is not None:
        return container.mounts
    return user_mounts(container.options, container.config)


def _absolute(path: str) -> str:
    return normalise(path) if path.startswith("/") else path


def namespaces(options: RunOptions, joined: Mapping[str, str]) -> dict[str, str]:
    """Return the namespaces of a container: OCI type → path of one to join, empty for a new one.

    What is not in the result is the host's.

    Args:
        options: the modes.
        joined: OCI type → path, for every mode that is ``container:…``.

    Raises:
        NotFound: a namespace to join is not in `joined`.
    """
    modes = {
        "mount": "private",
        "network": options.network,
        "uts": options.uts,
        "pid": options.pid,
        "ipc": options.ipc,
        "cgroup": options.cgroupns,
    }
    result: dict[str, str] = {}
    for kind, mode in modes.items():
        if mode.startswith("container:"):
            if kind not in joined:
                raise NotFound(f"{kind} namespace of {mode}: not given")
            result[kind] = joined[kind]
        elif mode != "host":
            result[kind] = ""
    return result


def security(words: Iterable[str], privileged: bool = False) -> Security:
    """Read ``--security-opt``, in docker's and podman's words.

    - ``no-new-privileges[=BOOL]``
    - ``seccomp=unconfined``, ``seccomp=builtin`` or ``seccomp=FILE``
    - ``apparmor=PROFILE``, and ``apparmor=unconfined``, which is what holds without
    - ``systempaths=unconfined``: no path is masked or read-only
    - ``mask=PATH[:PATH…]`` masks more, ``unmask=ALL`` or ``unmask=PATH[:PATH…]`` takes back
    - ``label=disable`` holds without doing: no container has an SELinux label here. Every other one
      would promise a confinement that there is not.

    Args:
        words: the flag's values in order; ``:`` stands for the first ``=`` as docker still has it.
        privileged: starts with no path masked or read-only.

    Raises:
        InvalidInput: an unknown option or a bad value.
        NotSupported: an SELinux label.
    """
    paths = () if privileged else masks.masked_paths()
    state = Security(False, "", "", paths, () if privileged else masks.READONLY_PATHS)
    for word in words:
        state = _apply(state, word)
    return state


def _apply(state: Security, word: str) -> Security:
    key, value = _split(word)
    if key == "no-new-privileges":
        answer = parse_boolean(value)
        if answer is not None:
            return state._replace(no_new_privileges=answer)
    if key == "seccomp" and value:
        return state._replace(seccomp=value)
    if key == "systempaths" and value == "unconfined":
        return state._replace(masked=(), readonly=())
    if key == "mask":
        more = tuple(_system_path(word, path) for path in value.split(":"))
        return state._replace(masked=tuple(dict.fromkeys((*state.masked, *more))))
    if key == "unmask":
        return _unmask(state, word, value)
    if key == "apparmor" and value:
        _refuse_line(word, value)
        return state._replace(apparmor="" if value == "unconfined" else value)
    if key == "label" and value:
        if value == "disable":
            return state
        raise NotSupported("security option", word, errno.EOPNOTSUPP,
                           "containers are not confined by SELinux")  # fmt: skip
    raise InvalidInput(f"invalid --security-opt: {word!r}")


def _split(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        key, equals, value = word.partition(":")
    if not equals:
        return key, "true" if key == "no-new-privileges" else ""
    return key, value


def _refuse_line(word: str, value: str) -> None:
    if "\n" in value or "\0" in value:
        raise InvalidInput(f"invalid --security-opt: {word!r}: NUL or newline in a profile's name")


def _system_path(word: str, path: str) -> str:
    if not path.startswith("/") or normalise(path) == "/":
        raise InvalidInput(f"invalid --security-opt: {word!r}: {path!r} is not an absolute path")
    return normalise(path)


def _unmask(state: Security, word: str, value: str) -> Security:
    if value == "ALL":
        return state._replace(masked=(), readonly=())
    gone = {_system_path(word, path) for path in value.split(":")}
    unknown = gone - {*masks.MASKED_PATHS, *masks.READONLY_PATHS, *state.masked, *state.readonly}
    if unknown:
        raise InvalidInput(
            f"invalid --security-opt: {word!r}: {min(unknown)} is neither masked nor read-only"
        )
    return state._replace(
        masked=tuple(path for path in state.masked if path not in gone),
        readonly=tuple(path for path in state.readonly if path not in gone),
    )


# ------------------------------------------------------------------------------ the whole document


def build(
    options: RunOptions,
    config: ImageConfig,
    account: Account,
    *,
    container_id: str,
    hostname: str,
    files: BoundFiles,
    namespaces: Mapping[str, str],
    root: str = "rootfs",
    rootless: bool = False,
    init_path: str = "",
    volume_folders: Mapping[str, str] | None = None,
    mounts: Sequence[Mount] | None = None,
    shm_source: str = "",
    host_devices: Mapping[str, Sequence[oci.Device]] | None = None,
    device_rules: bool = True,
    console_size: tuple[int, int] | None = None,
    bounding: int | None = None,
    resources: oci.Resources | None = None,
) -> oci.Spec:
    """Return the OCI configuration of a container.

    Args:
        options: what the user asked for.
        config: the image's.
        account: who the process is, see :mod:`pycontain.runtime.accounts`.
        container_id: names the cgroup, see :func:`cgroup_path`.
        hostname: the container's, or that of the UTS namespace that it joins.
        files: host paths that are bound in.
        namespaces: see :func:`namespaces`.
        root: the root file system's path.
        rootless: the caller is in a user namespace of its own: what the kernel mounts there only
            with rights over a namespace (proc, sysfs, mqueue, cgroup2) is bound from the host where
            that namespace is the host's.
        init_path: path in the container of the program for ``--init``; empty for none.
        volume_folders: target → host folder, for each mount of type ``volume`` or ``image``, and of
            a ``tmpfs`` that is the pod's.
        mounts: the user's, the image's and others' together; None: those of `options`.
        shm_source: /dev/shm of the container whose ipc namespace is joined, a host path; see
            :func:`foreign_shm`.
        host_devices: for each ``--device``, its source → the nodes there (one, or all below a
            folder), with their paths on the host; ``/dev`` → all, for ``--privileged``.
        device_rules: whether a device program can be attached. Without one CAP_MKNOD would open
            every device of the host, so it is not granted.
        console_size: height and width in characters, for a terminal.
        bounding: the capabilities to stay within, a mask; None asks the kernel.
        resources: the limits, see :mod:`pycontain.runtime.limits`.

    Raises:
        InvalidInput: the options contradict each other, or there is no command.
        NotFound: a device or a volume's folder was not given.
        NotSupported, NotPermitted: a default cannot be kept or an option not carried out here.
    """
    _check_conflicts(options, namespaces)
    guard = security(options.security_opt, options.privileged)
    if options.device_cgroup_rules and not device_rules:
        raise NotSupported("attach", "device cgroup rules", errno.EOPNOTSUPP,
                           "they need a cgroup, which this container cannot have")  # fmt: skip
    granted = _capabilities(options, device_rules, bounding)
    process = _process(options, config, account, hostname, granted, guard)
    if init_path and process["args"] != [init_path]:
        process["args"] = [init_path, "--", *process["args"]]
    if console_size and options.tty:
        process["consoleSize"] = {"height": console_size[0], "width": console_size[1]}
    if options.oom_score_adj is not None:
        process["oomScoreAdj"] = options.oom_score_adj
    elif not rootless:  # the caller's own would be inherited, and only root may lower one
        process["oomScoreAdj"] = 0
    own = user_mounts(options, config) if mounts is None else mounts
    own_mounts = [_user_mount(mount, volume_folders or {}, account) for mount in own]
    bound = _bound_files(options, files, init_path)
    spec: oci.Spec = {
        "ociVersion": OCI_VERSION,
        "root": {"path": root, "readonly": options.read_only},
        "process": process,
        "mounts": _join(
            _system_mounts(options, namespaces, rootless, shm_source), own_mounts, bound
        ),
        "linux": {
            "namespaces": _namespace_list(namespaces),
            "cgroupsPath": cgroup_path(container_id, options.cgroup_parent),
            "sysctl": _sysctls(options, namespaces, rootless),
            "devices": _device_nodes(options, host_devices or {}),
            "maskedPaths": list(guard.masked),
            "readonlyPaths": list(guard.readonly),
        },
    }
    linux = spec["linux"]
    if namespaces.get("uts") == "":
        spec["hostname"] = hostname
        if options.domainname:
            spec["domainname"] = options.domainname
    if options.annotations:
        spec["annotations"] = dict(options.annotations)
    limited: oci.Resources = {**resources} if resources else {}
    if device_rules:
        limited["devices"] = _device_rules(options, linux["devices"])
    if limited:
        linux["resources"] = limited
    profile = _seccomp(guard.seccomp, granted, options.privileged)
    if profile is not None:
        linux["seccomp"] = profile
    propagation = _root_propagation(own_mounts)
    if propagation:
        linux["rootfsPropagation"] = propagation
    return spec


def cgroup_parent(word: str) -> str | None:
    """Read ``--cgroup-parent``: a cgroup's path, from the root of cgroup v2 in any case.

    Returns:
        The absolute path; None for those that say nothing: an empty one, the root, and ours.

    Raises:
        InvalidInput: it leads upwards, or cannot be a path.
    """
    parts = [part for part in word.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in word or "\n" in word:
        raise InvalidInput(f"--cgroup-parent {word!r}: may not have '..', NUL or newline")
    return "/" + "/".join(parts) if parts not in ([], ["pycontain"]) else None


def _check_conflicts(options: RunOptions, namespaces: Mapping[str, str]) -> None:
    """Refuse what would silently not be done."""
    for name in ("hostname", "domainname"):
        if getattr(options, name) and namespaces.get("uts") != "":
            raise InvalidInput(f"conflicting options: {name} and the UTS mode")
    if not options.network.startswith("container:"):
        return
    # these belong to whoever made the network namespace
    taken = {
        "hostname": options.hostname,
        "dns": options.dns or options.dns_search or options.dns_option,
        "custom host-to-IP mapping": options.add_host,
    }
    for what, value in taken.items():
        if value:
            raise InvalidInput(f"conflicting options: {what} and the network mode")


def _namespace_list(namespaces: Mapping[str, str]) -> list[oci.Namespace]:
    entries: list[oci.Namespace] = []
    for kind in _NAMESPACES:
        if kind in namespaces:
            entry: dict[str, str] = {"type": kind}
            if namespaces[kind]:
                entry["path"] = namespaces[kind]
            entries.append(cast("oci.Namespace", entry))
    return entries


# ------------------------------------------------------------------------------------- the process


def _process(
    options: RunOptions,
    config: ImageConfig,
    account: Account,
    hostname: str,
    granted: tuple[str, ...],
    guard: Security,
) -> oci.Process:
    process: oci.Process = {
        "terminal": options.tty,
        "user": _user(options, account),
        "args": list(command(options, config)),
        "env": environment(options, config, account, hostname),
        "cwd": _workdir(options, config),
        "capabilities": capability_sets(granted, account.uid),
        "noNewPrivileges": guard.no_new_privileges,
    }
    if guard.apparmor:
        process["apparmorProfile"] = guard.apparmor
    if options.ulimits:
        process["rlimits"] = _rlimits(options.ulimits)
    _refuse_nul(process)
    return process


def _user(options: RunOptions, account: Account) -> oci.User:
    return {
        "uid": account.uid,
        "gid": account.gid,
        "umask": _DEFAULT_UMASK if options.umask is None else options.umask,
        "additionalGids": list(account.additional_gids),
    }


def _workdir(options: RunOptions, config: ImageConfig) -> str:
    path = options.workdir or config.working_dir or "/"
    if not path.startswith("/"):
        raise InvalidInput(f"working directory {path!r}: it needs to be an absolute path")
    return normalise(path)


def _refuse_nul(process: oci.Process) -> None:
    """A string ends at its NUL byte for the kernel: what follows would be dropped unseen."""
    for what in (*process["args"], *process["env"], process["cwd"]):
        if "\0" in what:
            raise InvalidInput(f"{what!r}: a NUL byte in an argument, a variable or a path")


def _rlimits(limits: Iterable[Ulimit]) -> list[oci.Rlimit]:
    by_name = {limit.name: limit for limit in limits}
    return [
        {
            "type": f"RLIMIT_{limit.name.upper()}",
            "soft": _RLIM_INFINITY if limit.soft == -1 else limit.soft,
            "hard": _RLIM_INFINITY if limit.hard == -1 else limit.hard,
        }
        for limit in by_name.values()
    ]


def _capabilities(options: RunOptions, device_rules: bool, bounding: int | None) -> tuple[str, ...]:
    granted = capability.resolve(
        options.cap_add, options.cap_drop, options.privileged, bounding=bounding
    )
    if device_rules or options.privileged:
        return granted
    if "CAP_MKNOD" in {capability.parse(name) for name in options.cap_add if name.upper() != "ALL"}:
        raise NotSupported("add capability", "CAP_MKNOD", errno.EOPNOTSUPP,
                           "device rules cannot be attached here")  # fmt: skip
    return tuple(name for name in granted if name != "CAP_MKNOD")


def capability_sets(granted: Iterable[str], uid: int) -> oci.Capabilities:
    """Return the five sets of a process (capabilities(7)), as docker fills them.

    Another user than root starts without any, and reaches those of the bounding set only through a
    program with file capabilities or the set-user-ID bit. Nothing is inheritable or ambient.

    Args:
        granted: ``CAP_…`` names.
        uid: in the container.
    """
    names = list(granted)
    own = names if uid == 0 else []
    return {
        "bounding": names,
        "effective": list(own),
        "permitted": list(own),
        "inheritable": [],
        "ambient": [],
    }


def _seccomp(word: str, granted: tuple[str, ...], privileged: bool) -> oci.Seccomp | None:
    if word == "unconfined" or (privileged and not word):
        return None
    if word and word != "builtin":
        return seccomp.load_profile(word, granted)
    return seccomp.default_profile(granted)


# ---------------------------------------------------------------------------------------- mounts


def _mount(target: str, kind: str, source: str, *options: str) -> oci.Mount:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _system_mounts(
    options: RunOptions, namespaces: Mapping[str, str], rootless: bool, shm_source: str
) -> list[oci.Mount]:
    """Return what every container has, parents first."""
    safe = ("nosuid", "noexec", "nodev")
    # An instance of these shows one namespace, and only who owns that namespace may mount it.
    borrowed = {kind for kind in _NAMESPACES if rootless and kind not in namespaces}
    state = () if options.privileged else ("ro",)
    pts = ("newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    mounts = [
        _shown("/proc", "proc", "pid" in borrowed, *safe),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", *pts),
        _shown("/sys", "sysfs", "network" in borrowed, *safe, *state),
        _shown("/sys/fs/cgroup", "cgroup", "cgroup" in borrowed, *state, *safe),
        _shown("/dev/mqueue", "mqueue", "ipc" in borrowed, *safe),
    ]
    return mounts + _shm(options, namespaces, shm_source)


def _shown(target: str, kind: str, borrowed: bool, *options: str) -> oci.Mount:
    if borrowed:
        # what is mounted below comes along, and "ro" would not reach it (mount_setattr(2))
        deep = ("rro" if option == "ro" else option for option in options)
        return _mount(target, "bind", target, "rbind", "rprivate", *deep)
    return _mount(target, kind, kind, *options)


def _shm(options: RunOptions, namespaces: Mapping[str, str], shm_source: str) -> list[oci.Mount]:
    """POSIX shared memory goes with the ipc namespace although the kernel keeps them apart."""
    if options.ipc == "none":
        return []
    source = SHM if "ipc" not in namespaces else shm_source if namespaces["ipc"] else ""
    if source:
        return [_mount(SHM, "bind", source, "rbind", "rprivate")]
    size = options.shm_size or _DEFAULT_SHM
    flags = ("nosuid", "noexec", "nodev", "mode=1777", f"size={size}")
    return [_mount(SHM, "tmpfs", "shm", *flags)]


def foreign_shm(spec: oci.Spec, source: str) -> bool:
    """Whether a container is to see another's /dev/shm, `source` of :func:`build`.

    It does not where a mount of the user's is in that place.
    """
    return any(
        mount["destination"] == SHM and mount.get("source") == source for mount in spec["mounts"]
    )


def _user_mount(mount: Mount, folders: Mapping[str, str], account: Account) -> oci.Mount:
    if mount.type == "tmpfs" and not mount.source:
        owner = (f"uid={account.uid}", f"gid={account.gid}") if mount.chown else ()
        options = _merge(("noexec", "nosuid", "nodev", "rprivate", *owner), mount.options)
        return _mount(mount.target, "tmpfs", "tmpfs", *options)
    source = mount.source
    if mount.type != "bind":
        if mount.target not in folders:
            raise NotFound(f"{mount.type} for {mount.target}: no folder given")
        source = folders[mount.target]
    elif mount.subpath:
        source = f"{source}/{mount.subpath}"
    entry = _mount(mount.target, "bind", source, *_merge(("rbind", "rprivate"), mount.options))
    if mount.uid_map:
        entry["uidMappings"] = _id_mappings(mount.uid_map)
        entry["gidMappings"] = _id_mappings(mount.gid_map)
    return entry


def _id_mappings(ranges: Iterable[tuple[int, int, int]]) -> list[oci.IDMapping]:
    return [
        {"containerID": inner, "hostID": outer, "size": count} for inner, outer, count in ranges
    ]


def _merge(defaults: Iterable[str], options: Iterable[str]) -> list[str]:
    """Let each option replace an earlier one that decides the same."""
    merged: dict[str, str] = {}
    for option in (*defaults, *options):
        family = option_family(option)
        merged.pop(family, None)
        merged[family] = option
    return list(merged.values())


def _bound_files(options: RunOptions, files: BoundFiles, init_path: str) -> list[oci.Mount]:
    state = ("ro",) if options.read_only else ()
    mounts = [
        _mount("/etc/resolv.conf", "bind", files.resolv_conf, "bind", "rprivate", *state),
        _mount("/etc/hostname", "bind", files.hostname, "bind", "rprivate", *state),
        _mount("/etc/hosts", "bind", files.hosts, "bind", "rprivate", *state),
    ]
    if init_path:
        if not files.init:
            raise NotFound("init program: no file given")
        mounts.append(_mount(init_path, "bind", files.init, "bind", "rprivate", "ro"))
    return mounts


def _join(
    system: Iterable[oci.Mount], own: Sequence[oci.Mount], bound: Iterable[oci.Mount]
) -> list[oci.Mount]:
    """Return all mounts in the order in which they are made.

    A mount of the user's replaces ours at its target; who mounts /dev brings what is below it.
    """
    taken = {mount["destination"] for mount in own}
    kept = [mount for mount in system if not _replaced(mount["destination"], taken)]
    later = [*own, *(mount for mount in bound if mount["destination"] not in taken)]
    # sorted() is stable: at one depth the order of the command line stays
    return kept + sorted(later, key=lambda mount: mount["destination"].count("/"))


def _replaced(target: str, taken: set[str]) -> bool:
    return target in taken or (target.startswith("/dev/") and "/dev" in taken)


def _root_propagation(mounts: Iterable[oci.Mount]) -> str:
    """A mount can receive events only below a root that receives them (mount_namespaces(7))."""
    words = {word.removeprefix("r") for mount in mounts for word in mount["options"]}
    if "shared" in words:
        return "shared"
    return "slave" if "slave" in words else ""


# ------------------------------------------------------------------------------- devices, sysctls


def _device_nodes(
    options: RunOptions, host: Mapping[str, Sequence[oci.Device]]
) -> list[oci.Device]:
    nodes: dict[str, oci.Device] = {}
    if options.privileged:
        nodes.update((node["path"], node) for node in host.get("/dev", ()))
    for device in options.devices:
        if not host.get(device.source):
            raise NotFound(f"device {device.source}: no such device on the host")
        for node in host[device.source]:
            path = device.target + node["path"].removeprefix(device.source)
            moved = node.copy()
            moved["path"] = path
            nodes[path] = moved
    return list(nodes.values())


def _device_rules(options: RunOptions, nodes: Iterable[oci.Device]) -> list[oci.DeviceRule]:
    if options.privileged:
        return list(ALLOW_ALL)
    rules = list(DEFAULT_RULES)
    for device in options.devices:
        rules += [_allow(node, device.access) for node in nodes if _is_below(node, device.target)]
    return rules + [_rule(rule) for rule in options.device_cgroup_rules]


def _rule(asked: DeviceRule) -> oci.DeviceRule:
    rule: oci.DeviceRule = {"allow": True, "type": asked.type, "access": asked.access}
    if asked.major != -1:
        rule["major"] = asked.major
    if asked.minor != -1:
        rule["minor"] = asked.minor
    return rule


def _is_below(node: oci.Device, path: str) -> bool:
    return node["path"] == path or node["path"].startswith(path + "/")


def _allow(node: oci.Device, access: str) -> oci.DeviceRule:
    return {
        "allow": True,
        "type": "b" if node["type"] == "b" else "c",
        "major": node["major"],
        "minor": node["minor"],
        "access": access,
    }


def _sysctls(options: RunOptions, namespaces: Mapping[str, str], rootless: bool) -> dict[str, str]:
    """Return the user's sysctls and docker's defaults of a new network namespace."""
    result: dict[str, str] = {}
    if namespaces.get("network") == "":
        result["net.ipv4.ip_unprivileged_port_start"] = "0"
        if not rootless:  # every group of the range must have a mapping
            result["net.ipv4.ping_group_range"] = "0 2147483647"
    for key, value in options.sysctls.items():
        owner = sysctl_namespace(key)
        if owner is None:
            raise InvalidInput(f"sysctl {key}: not allowed, it belongs to no namespace")
        if owner not in namespaces:
            raise InvalidInput(f"sysctl {key}: not allowed in the host's {owner} namespace")
        result[key] = value
    return result
