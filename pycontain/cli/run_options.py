"""The flags that make a container, and what they mean: a command line to a ``RunOptions``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.cli import environment, mounts, quantities
from pycontain.cli.flags import Flag, integer, switch, wait_seconds
from pycontain.errors import InvalidInput
from pycontain.model.container import Device, RunOptions, Ulimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.cli.flags import Values
    from pycontain.model.container import Mount

# setrlimit(2), in docker's names
_ULIMITS = frozenset(
    (
        "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
        "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
    )
)  # fmt: skip

# The settings that belong to a namespace of the container: namespaces(7).
_SYSCTLS = frozenset(
    (
        "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
        "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
    )
)  # fmt: skip
_SYSCTL_PREFIXES = ("net.", "fs.mqueue.")

_SECURITY_KEYS = frozenset(("apparmor", "label", "no-new-privileges", "seccomp", "systempaths"))
_LOG_DRIVERS = ("k8s-file", "json-file", "none")
_SHM_SIZE = 64 << 20  # docker: 0 too asks for the default
_HOST_NAME_MAX = 64  # gethostname(2)


def _label(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name:
        raise InvalidInput(f"invalid label '{text}': empty name")
    return name, value


def _ulimit(text: str) -> Ulimit:
    name, equals, limits = text.partition("=")
    if not equals or not limits:
        raise InvalidInput(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise InvalidInput(f"invalid ulimit type: {name}")
    soft_text, colon, hard_text = limits.partition(":")
    soft = _limit(soft_text, limits)
    hard = _limit(hard_text, limits) if colon else soft
    if hard != -1 and (soft == -1 or soft > hard):
        raise InvalidInput(
            f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )
    return Ulimit(name=name, soft=soft, hard=hard)


def _limit(text: str, limits: str) -> int:
    try:
        number = integer(text)
    except InvalidInput as err:
        raise InvalidInput(f"invalid ulimit value: {limits}") from err
    if number < -1:
        raise InvalidInput(f"invalid ulimit value: {limits}")
    return number


def _device(text: str) -> Device:
    parts = text.split(":")
    if len(parts) > 3 or "" in parts:
        raise InvalidInput(f"invalid device specification: {text}")
    source = target = parts[0]
    access = "rwm"
    if len(parts) == 3:
        target, access = parts[1:]
    elif len(parts) == 2 and _is_access(parts[1]):
        access = parts[1]
    elif len(parts) == 2:
        target = parts[1]
    if not _is_access(access):
        raise InvalidInput(f"bad mode specified: {access}", "letters of rwm")
    for path in (source, target):
        if not path.startswith("/"):
            raise InvalidInput(f"{path} is not an absolute path")
    return Device(source=os.path.normpath(source), target=mounts.target(target), access=access)


def _is_access(text: str) -> bool:
    return bool(text) and not text.strip("rwm") and len(set(text)) == len(text)


def _sysctl(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not (name in _SYSCTLS or name.startswith(_SYSCTL_PREFIXES)):
        raise InvalidInput(f"sysctl '{text}' is not allowed")
    return name, value


def _address(text: str) -> str:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return text
    raise InvalidInput(f"IP address is not correctly formatted: {text}")


def _extra_host(text: str) -> str:
    separator = "=" if "=" in text else ":"
    name, found, address = text.partition(separator)
    if not found or not name or any(char.isspace() or char == "#" for char in name):
        raise InvalidInput(f'bad format for add-host: "{text}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        return f"{name}:{_address(address)}"
    except InvalidInput as err:
        raise InvalidInput(f'invalid IP address in add-host: "{address}"') from err


def _search_domain(text: str) -> str:
    name = text.strip()
    labels = name.removesuffix(".").split(".")
    if name != "." and not all(_is_domain_label(label) for label in labels):
        raise InvalidInput(f"{text} is not a valid domain")
    return name


def _is_domain_label(label: str) -> bool:
    return label.isascii() and label.replace("-", "").replace("_", "").isalnum()


def _dns_option(text: str) -> str:
    if not text or any(char.isspace() for char in text):
        raise InvalidInput("must be one word of resolv.conf(5), such as ndots:2")
    return text


def _octal(text: str) -> int:
    if not text or text.strip("01234567") or int(text, 8) > 0o777:
        raise InvalidInput("must be an octal number up to 0777")
    return int(text, 8)


def _seconds(text: str) -> int:
    number = integer(text)
    if number < 0:
        raise InvalidInput("must be a number of seconds, 0 for none")
    return number


def _security_option(text: str) -> str:
    """Return one ``--security-opt`` in the form ``key=value``, docker's old colon replaced."""
    if text == "no-new-privileges":
        return text
    separator = "=" if "=" in text else ":"
    key, found, value = text.partition(separator)
    if not found or not value or key not in _SECURITY_KEYS:
        raise InvalidInput(f'Invalid --security-opt: "{text}"')
    if key == "no-new-privileges" and value not in ("true", "false"):
        raise InvalidInput(f'Invalid --security-opt: "{text}"')
    if key == "systempaths" and value != "unconfined":
        raise InvalidInput(f'Invalid --security-opt: "{text}"')
    if key == "seccomp" and value != "unconfined":
        # the engine runs in whatever folder: a relative path is meant from ours
        value = os.path.abspath(value)
    return f"{key}={value}"


def _log_option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise InvalidInput("must be name=value")
    return name, value


def _stop_signal(text: str) -> str:
    from pycontain.cli.lifecycle import signal_number

    signal_number(text)
    return text


CONTAINER_FLAGS = (
    Flag(
        "add-host", "add a line to /etc/hosts", kind="list", metavar="name:ip", convert=_extra_host
    ),
    Flag("cap-add", "add a capability, or ALL", kind="list", metavar="capability"),
    Flag("cap-drop", "drop a capability, or ALL", kind="list", metavar="capability"),
    Flag("cgroupns", "cgroup namespace: private or host", metavar="mode"),
    Flag(
        "device",
        "give access to a device of the host",
        kind="list",
        metavar="path[:path[:rwm]]",
        convert=_device,
    ),
    Flag("dns", "name server", kind="list", metavar="ip", convert=_address),
    Flag("dns-option", "resolver option", kind="list", metavar="option", convert=_dns_option),
    Flag("dns-search", "search domain", kind="list", metavar="domain", convert=_search_domain),
    Flag("entrypoint", "replace the image's ENTRYPOINT (and clear its CMD)", metavar="command"),
    environment.ENV,
    environment.ENV_FILE,
    Flag("group-add", "additional group, name or number", kind="list", metavar="group"),
    Flag("hostname", "host name in the container", short="h", metavar="name"),
    switch("init", "run an init that forwards signals and reaps processes"),
    switch("interactive", "keep standard input open", short="i"),
    Flag("ipc", "IPC namespace: private, host, none or container:NAME", metavar="mode"),
    Flag(
        "label",
        "set a label",
        short="l",
        kind="list",
        metavar="name[=value]",
        convert=_label,
    ),
    Flag("log-driver", "log format: k8s-file (default), json-file or none", metavar="driver"),
    Flag(
        "log-opt",
        "max-size=BYTES or max-file=COUNT of the log",
        kind="list",
        metavar="name=value",
        convert=_log_option,
    ),
    Flag(
        "mount",
        "mount: type=bind|tmpfs|volume,source=…,target=…[,readonly]",
        kind="list",
        metavar="mount",
        convert=mounts.mount,
    ),
    Flag("name", "name of the container", metavar="name"),
    Flag("network net", "network: none (default), host or container:NAME", metavar="network"),
    Flag("pid", "PID namespace: host or container:NAME (default: its own)", metavar="mode"),
    switch("privileged", "all capabilities, all devices, no masks, no filter"),
    switch("read-only", "mount the root file system read-only"),
    switch("rm", "remove the container when it ends"),
    Flag("security-opt", "security option, as no-new-privileges", kind="list", metavar="option"),
    Flag("shm-size", "size of /dev/shm (default 64m)", metavar="bytes", convert=quantities.size),
    Flag("stop-signal", "signal that stops the container", metavar="signal"),
    Flag(
        "stop-timeout",
        "seconds between the stop signal and SIGKILL, -1 for ever",
        metavar="seconds",
        convert=wait_seconds,
    ),
    Flag(
        "sysctl",
        "kernel setting of the container's namespaces",
        kind="list",
        metavar="name=value",
        convert=_sysctl,
    ),
    Flag(
        "timeout",
        "kill the container after so many seconds (default: never)",
        metavar="seconds",
        convert=_seconds,
        default=0,
    ),
    Flag("tmpfs", "mount a file system in memory", kind="list", metavar="path[:options]"),
    switch("tty", "allocate a terminal", short="t"),
    Flag(
        "ulimit",
        "resource limit, as nofile=1024:4096",
        kind="list",
        metavar="name=soft[:hard]",
        convert=_ulimit,
    ),
    Flag("umask", "umask of the process", metavar="octal", convert=_octal),
    environment.USER,
    Flag("uts", "UTS namespace: host (default: its own)", metavar="mode"),
    Flag(
        "volume",
        "mount a host path, or an anonymous volume",
        short="v",
        kind="list",
        metavar="[source:]target[:options]",
    ),
    environment.WORKDIR,
)
"""The flags that ``run`` and ``create`` share."""


def _mode(values: Values, name: str, title: str, words: tuple[str, ...], joins: bool = True) -> str:
    text: str = values[name] or ""
    if text in ("", *words):
        return text or "private"
    kind, _, other = text.partition(":")
    if joins and kind == "container" and other:
        return text
    raise InvalidInput(f"--{name}: invalid {title} mode: {text}")


def _network(values: Values) -> str:
    text: str | None = values["network"]
    if text == "":
        raise InvalidInput("no name set for network")
    if text is None or text in ("none", "host"):
        return text or "none"
    if text.startswith("container:"):
        if text == "container:":
            raise InvalidInput("Invalid network mode: invalid container format container:<name|id>")
        return text
    raise InvalidInput(f"network {text} not found", "there are none, host and container:NAME")


def _all_mounts(values: Values) -> tuple[Mount, ...]:
    made = [
        *values["mount"],
        *(mounts.volume(text) for text in values["volume"]),
        *(mounts.tmpfs(text) for text in values["tmpfs"]),
    ]
    seen: set[str] = set()
    for mount in made:
        if mount.target in seen:
            raise InvalidInput(f"Duplicate mount point: {mount.target}")
        seen.add(mount.target)
    return tuple(made)


class _Log:
    """``--log-driver`` and ``--log-opt``."""

    def __init__(self, values: Values) -> None:
        self.driver: str = values["log-driver"] or _LOG_DRIVERS[0]
        if self.driver not in _LOG_DRIVERS:
            names = ", ".join(_LOG_DRIVERS)
            raise InvalidInput(f"log driver {self.driver} not found", f"there are {names}")
        self.max_size = 16 << 20
        self.max_files = 3
        for name, value in values["log-opt"]:
            self._take(name, value)

    def _take(self, name: str, value: str) -> None:
        if self.driver == "none" or name not in ("max-size", "max-file"):
            raise InvalidInput(f"unknown log opt '{name}' for {self.driver} log driver")
        if name == "max-size":
            self.max_size = quantities.size(value)
            if not self.max_size:
                raise InvalidInput("log opt max-size: must be more than 0")
            return
        try:
            self.max_files = integer(value)
        except InvalidInput as err:
            raise InvalidInput(f"log opt max-file: {err.message}") from err
        if not 1 <= self.max_files <= 1000:
            raise InvalidInput("log opt max-file: must be from 1 to 1000")


# Flags whose files or names belong to another's namespace: docker's words for it.
_CONFLICTS: tuple[tuple[str, str, Callable[[RunOptions], bool]], ...] = (
    ("hostname", "hostname and the UTS mode", lambda o: o.uts == "host"),
    ("hostname", "hostname and the network mode", lambda o: o.network.startswith("container:")),
    ("dns", "dns and the network mode", lambda o: o.network.startswith("container:")),
    ("dns-search", "dns and the network mode", lambda o: o.network.startswith("container:")),
    ("dns-option", "dns and the network mode", lambda o: o.network.startswith("container:")),
    (
        "add-host",
        "custom host-to-IP mapping and the network mode",
        lambda o: o.network.startswith("container:"),
    ),
)


def _check_conflicts(values: Values, options: RunOptions) -> None:
    for flag, words, bad in _CONFLICTS:
        if values[flag] and bad(options):
            raise InvalidInput(f"conflicting options: {words}")


def _hostname(values: Values) -> str | None:
    name: str | None = values["hostname"] or None
    if name is not None and len(name.encode()) > _HOST_NAME_MAX:
        raise InvalidInput(f"hostname {name}: longer than {_HOST_NAME_MAX} bytes")
    return name


def _entrypoint(values: Values) -> tuple[str, ...] | None:
    text: str | None = values["entrypoint"]
    if text is None:
        return None
    return (text,) if text else ()


def run_options(values: Values, arguments: list[str]) -> RunOptions:
    """Return what the user asked for.

    Args:
        values: of CONTAINER_FLAGS.
        arguments: the image and the command.

    Raises:
        InvalidInput: a value that nobody can carry out.
    """
    image, *command = arguments
    log = _Log(values)
    stop_signal: str | None = values["stop-signal"] or None
    options = RunOptions(
        image=image,
        command=tuple(command),
        name=values["name"] or None,
        entrypoint=_entrypoint(values),
        workdir=environment.working_folder(values),
        user=values["user"],
        group_add=tuple(values["group-add"]),
        env=environment.environment(values),
        labels=dict(values["label"]),
        hostname=_hostname(values),
        add_host=tuple(values["add-host"]),
        dns=tuple(values["dns"]),
        dns_search=tuple(values["dns-search"]),
        dns_option=tuple(values["dns-option"]),
        interactive=values["interactive"],
        tty=values["tty"],
        remove=values["rm"],
        init=values["init"],
        network=_network(values),
        pid=_mode(values, "pid", "PID", ("host",)),
        ipc=_mode(values, "ipc", "IPC", ("private", "host", "none")),
        uts=_mode(values, "uts", "UTS", ("host",), joins=False),
        cgroupns=_mode(values, "cgroupns", "CGROUP", ("private", "host"), joins=False),
        mounts=_all_mounts(values),
        read_only=values["read-only"],
        cap_add=tuple(values["cap-add"]),
        cap_drop=tuple(values["cap-drop"]),
        security_opt=tuple(map(_security_option, values["security-opt"])),
        privileged=values["privileged"],
        devices=tuple(values["device"]),
        ulimits=tuple(values["ulimit"]),
        sysctls=dict(values["sysctl"]),
        shm_size=values["shm-size"] or _SHM_SIZE,
        stop_signal=None if stop_signal is None else _stop_signal(stop_signal),
        stop_timeout=values["stop-timeout"],
        umask=values["umask"],
        timeout=values["timeout"],
        log_driver=log.driver,
        log_max_size=log.max_size,
        log_max_files=log.max_files,
    )
    _check_conflicts(values, options)
    return options
