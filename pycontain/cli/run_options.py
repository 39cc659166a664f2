"""The flags that make a container, and what they mean: a command line to a ``RunOptions``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pycontain.cli import environment
from pycontain.cli.flags import Flag, Refused, integer, switch, wait_seconds
from pycontain.cli.health import HEALTH_FLAGS, health_check
from pycontain.cli.limits import CREATE_FLAGS, create_fields
from pycontain.config import BUILT_IN, LOG_DRIVERS
from pycontain.errors import InvalidInput
from pycontain.model.container import RunOptions
from pycontain.model.parse.environment import parse_annotation, parse_label, parse_label_file
from pycontain.model.parse.hosts import (
    parse_add_host,
    parse_dns,
    parse_dns_option,
    parse_dns_search,
    parse_domainname,
    parse_hostname,
)
from pycontain.model.parse.mounts import parse_mount, parse_tmpfs, parse_volume, parse_volumes_from
from pycontain.model.parse.names import parse_namespace, parse_sysctl
from pycontain.model.parse.numbers import parse_size, parse_umask
from pycontain.model.parse.resources import parse_device, parse_device_rule, parse_ulimit
from pycontain.model.parse.signals import parse_signal
from pycontain.network import choice

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.cli.flags import Values
    from pycontain.config import Config
    from pycontain.model.container import Mount, Publish, RestartPolicy


# Go's words for what uname(2) says, and the variants that every such processor is.
_MACHINES = {
    "x86_64": ("amd64", ("v1",)),
    "aarch64": ("arm64", ("v8",)),
}


def _seconds(text: str) -> int:
    number = integer(text)
    if number < 0:
        raise InvalidInput("must be a number of seconds, 0 for none")
    return number


def _platform(text: str) -> str:
    """Check that it is this machine's: `text` is nothing but a confirmation."""
    system, _, rest = text.lower().partition("/")
    processor, _, variant = rest.partition("/")
    ours, versions = _MACHINES.get(os.uname().machine, (os.uname().machine, ()))
    names = ("", ours, os.uname().machine)
    if system != "linux" or processor not in names or variant not in ("", *versions):
        raise InvalidInput(
            f"--platform {text!r}: this machine runs linux/{ours} alone",
            "other processors' programs are not emulated",
        )
    return text


def _pull(text: str) -> str:
    if text not in ("always", "missing", "never", "newer"):
        raise InvalidInput(f"--pull {text!r}: must be always, missing, never or newer")
    return text


def _publish(text: str) -> tuple[Publish, ...]:
    from pycontain.network.ports import parse_publish

    return parse_publish(text)


def _expose(text: str) -> tuple[str, ...]:
    from pycontain.network.ports import parse_expose

    return parse_expose(text)


def _restart(values: Values) -> RestartPolicy | None:
    word: str = values["restart"]
    if not word:
        return None
    from pycontain.model.restart import parse_restart, split_restart

    try:
        split_restart(word)
    except InvalidInput as err:
        raise Refused(err.message, err.hint, 125) from err  # of `create` too, as docker
    policy = parse_restart(word)
    if policy is not None and values["rm"]:
        raise Refused("conflicting options: cannot specify both --restart and --rm", None, 125)
    return policy


def _log_option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise InvalidInput("must be name=value")
    return name, value


CONTAINER_FLAGS = (
    Flag(
        "add-host",
        "add a line to /etc/hosts",
        kind="list",
        metavar="name:ip",
        convert=parse_add_host,
    ),
    Flag(
        "annotation",
        "set an annotation of the OCI configuration",
        kind="list",
        metavar="name[=value]",
        convert=parse_annotation,
    ),
    Flag("cap-add", "add a capability, or ALL", kind="list", metavar="capability"),
    Flag("cap-drop", "drop a capability, or ALL", kind="list", metavar="capability"),
    Flag("cgroupns", "cgroup namespace: private or host", metavar="mode"),
    Flag(
        "device",
        "give access to a device of the host",
        kind="list",
        metavar="path[:path[:rwm]]",
        convert=parse_device,
    ),
    Flag(
        "device-cgroup-rule",
        "allow devices by number, as 'c 1:* rwm'",
        kind="list",
        metavar="rule",
        convert=parse_device_rule,
    ),
    Flag("dns", "name server", kind="list", metavar="ip", convert=parse_dns),
    Flag(
        "dns-option",
        "resolver option",
        kind="list",
        metavar="option",
        convert=parse_dns_option,
    ),
    Flag("dns-search", "search domain", kind="list", metavar="domain", convert=parse_dns_search),
    Flag("domainname", "NIS domain name in the container", metavar="name"),
    Flag("entrypoint", "replace the image's ENTRYPOINT (and clear its CMD)", metavar="command"),
    environment.ENV,
    environment.ENV_FILE,
    Flag(
        "expose",
        "ports that the container uses, for -P and for those who look",
        kind="list",
        metavar="port[-port][/udp]",
        convert=_expose,
    ),
    Flag("group-add", "additional group, name or number", kind="list", metavar="group"),
    Flag("hostname", "host name in the container", short="h", metavar="name"),
    switch("init", "run an init that forwards signals and reaps processes"),
    switch("interactive", "keep standard input open", short="i"),
    Flag("ip", "IPv4 address in the first network", metavar="ip", convert=choice.parse_ip),
    Flag("ip6", "IPv6 address in the first network", metavar="ip", convert=choice.parse_ip6),
    Flag(
        "ipc",
        "IPC namespace: private, shareable, container:NAME, host or none",
        metavar="mode",
    ),
    Flag(
        "label",
        "set a label",
        short="l",
        kind="list",
        metavar="name[=value]",
        convert=parse_label,
    ),
    Flag("label-file", "read labels from a file, a line each", kind="list", metavar="file"),
    Flag("link", "of docker's old bridge: refused", metavar="container"),
    Flag(
        "log-driver",
        "log format: k8s-file, json-file or none (default: as configured)",
        metavar="driver",
    ),
    Flag(
        "log-opt",
        "max-size=BYTES or max-file=COUNT of the log",
        kind="list",
        metavar="name=value",
        convert=_log_option,
    ),
    Flag(
        "mac-address",
        "hardware address in the first network",
        metavar="mac",
        convert=choice.parse_mac,
    ),
    Flag(
        "mount",
        "mount: type=bind|tmpfs|volume|image,source=…,target=…[,readonly]",
        kind="list",
        metavar="mount",
        convert=lambda word: parse_mount(word, os.getcwd()),
    ),
    Flag("name", "name of the container", metavar="name"),
    Flag(
        "network net",
        "network: bridge (the default), one of your own, none, host or container:NAME",
        kind="list",
        metavar="name[:ip=…,mac=…,alias=…]",
        convert=choice.parse_network,
    ),
    Flag(
        "network-alias net-alias",
        "another name for the others of the first network",
        kind="list",
        metavar="name",
        convert=choice.parse_alias,
    ),
    Flag("pid", "PID namespace: host or container:NAME (default: its own)", metavar="mode"),
    Flag(
        "platform",
        "operating system and processor, as linux/amd64: this machine's, or refused",
        metavar="os[/arch[/variant]]",
        convert=_platform,
    ),
    Flag("pod", "put it into this pod, or into a new one", metavar="pod|new:name"),
    switch("privileged", "all capabilities, all devices, no masks, no filter"),
    Flag(
        "publish",
        "a port of the host that leads to one of the container",
        short="p",
        kind="list",
        metavar="[ip:][host:]port[/udp]",
        convert=_publish,
    ),
    switch("publish-all", "publish every exposed port on a free one of the host", short="P"),
    Flag(
        "pull",
        "ask the registry: missing (default; what has a recipe is built), never, always, or newer "
        "(use what is here when it cannot be asked)",
        metavar="policy",
        convert=_pull,
        default="missing",
    ),
    switch("read-only", "mount the root file system read-only"),
    switch("replace", "remove a container that has the same --name, killed if it runs"),
    Flag(
        "restart",
        "start it again when it ends: no (default), on-failure[:most], always or unless-stopped",
        metavar="policy",
        default="",
    ),
    switch("rm", "remove the container when it ends"),
    Flag(
        "security-opt",
        "no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE, mask=PATH, unmask=ALL …",
        kind="list",
        metavar="option",
    ),
    Flag("shm-size", "size of /dev/shm (default 64m)", metavar="bytes", convert=parse_size),
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
        convert=parse_sysctl,
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
        convert=parse_ulimit,
    ),
    Flag("tz", "time zone, as Europe/Berlin, or local for the host's", metavar="zone"),
    Flag("umask", "umask of the process", metavar="octal", convert=parse_umask),
    environment.USER,
    Flag("uts", "UTS namespace: host (default: its own)", metavar="mode"),
    Flag(
        "volume",
        "mount a host path or a volume; a target alone is an anonymous volume",
        short="v",
        kind="list",
        metavar="[source:]target[:options]",
    ),
    Flag(
        "volumes-from",
        "mount the binds and volumes of another container",
        kind="list",
        metavar="container[:ro|rw]",
        convert=parse_volumes_from,
    ),
    environment.WORKDIR,
    *CREATE_FLAGS,
    *HEALTH_FLAGS,
)
"""The flags that ``run`` and ``create`` share."""


def _namespace(values: Values, kind: str) -> str:
    return parse_namespace(kind, values[kind] or "")


def network_fields(values: Values, settings: Config) -> dict[str, Any]:
    """Return the fields of ``RunOptions`` that tell of networks and ports.

    Raises:
        NotSupported: ports are to be published, of an ordinary user whose networks lead nowhere.
    """
    default = "none" if _is_member(values) else choice.default_network(settings)
    if (values["publish"] or values.get("publish-all", False)) and not values["network"]:
        _check_way_out(values, settings, default)
    mode, networks = choice.resolve(
        values["network"], default, ip=values["ip"] or "", ip6=values["ip6"] or "",
        mac=values["mac-address"] or "", aliases=values["network-alias"],
    )  # fmt: skip
    asked: list[Publish] = [entry for entries in values["publish"] for entry in entries]
    if settings.publish_address:
        address = settings.publish_address
        asked = [entry if entry.address else replace(entry, address=address) for entry in asked]
    return {
        "network": mode,
        "networks": networks,
        "publish": tuple(dict.fromkeys(asked)),
        "publish_all": values.get("publish-all", False),
        "expose": tuple(
            dict.fromkeys(port for ports in values.get("expose", ()) for port in ports)
        ),
    }


def _is_member(values: Values) -> bool:
    """Whether the container is to be in a pod that is there: networks and ports are that one's."""
    pod: str = values.get("pod", None) or ""
    return bool(pod) and not pod.startswith("new:")


def _all_mounts(values: Values) -> tuple[Mount, ...]:
    here = os.getcwd()
    return (
        *values["mount"],
        # as docker: the same words twice are one mount
        *(parse_volume(word, here) for word in dict.fromkeys(values["volume"])),
        *(parse_tmpfs(word) for word in values["tmpfs"]),
    )


def _security_option(word: str) -> str:
    """Make a profile's path absolute: the container may be started from another folder."""
    key, equals, value = word.partition("=")
    if key == "seccomp" and equals and value not in ("", "unconfined", "builtin"):
        return f"seccomp={os.path.abspath(value)}"
    return word


class _Log:
    """``--log-driver`` and ``--log-opt``."""

    def __init__(self, values: Values, settings: Config) -> None:
        self.driver: str = values["log-driver"] or settings.log_driver
        if self.driver not in LOG_DRIVERS:
            names = ", ".join(LOG_DRIVERS)
            raise InvalidInput(f"log driver {self.driver} not found", f"there are {names}")
        self.max_size = settings.log_max_size
        self.max_files = settings.log_max_files
        for name, value in values["log-opt"]:
            self._take(name, value)

    def _take(self, name: str, value: str) -> None:
        if self.driver == "none" or name not in ("max-size", "max-file"):
            raise InvalidInput(f"unknown log opt '{name}' for {self.driver} log driver")
        if name == "max-size":
            self.max_size = parse_size(value, "--log-opt max-size")
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
    ("domainname", "domainname and the UTS mode", lambda o: o.uts == "host"),
    ("shm-size", "shm-size and the IPC mode", lambda o: o.ipc not in ("private", "shareable")),
    ("hostname", "hostname and the network mode", lambda o: o.network.startswith("container:")),
    ("dns", "dns and the network mode", lambda o: o.network.startswith("container:")),
    ("dns-search", "dns and the network mode", lambda o: o.network.startswith("container:")),
    ("dns-option", "dns and the network mode", lambda o: o.network.startswith("container:")),
    (
        "add-host",
        "custom host-to-IP mapping and the network mode",
        lambda o: o.network.startswith("container:"),
    ),
    (
        "expose",
        "port exposing and the container type network mode",
        lambda o: o.network.startswith("container:"),
    ),
    (
        "publish",
        "port publishing and the container type network mode",
        lambda o: o.network.startswith("container:"),
    ),
    (
        "publish-all",
        "port publishing and the container type network mode",
        lambda o: o.network.startswith("container:"),
    ),
    ("publish", "port publishing and the network mode", lambda o: not o.networks),
    ("publish-all", "port publishing and the network mode", lambda o: not o.networks),
)


def _check_way_out(values: Values, settings: Config, default: str) -> None:
    """See that there is a network by default: where there is none, why is what helps."""
    if not _is_member(values) and (default, settings.network) == ("none", "bridge"):
        from pycontain.network import outside

        outside.check()


def _check_conflicts(values: Values, options: RunOptions) -> None:
    for flag, words, bad in _CONFLICTS:
        if values[flag] and bad(options):
            raise InvalidInput(f"conflicting options: {words}")


def hostname_of(values: Values) -> str | None:
    """Return what ``--hostname`` says."""
    word: str | None = values["hostname"] or None
    return None if word is None else parse_hostname(word)


def _domainname(values: Values) -> str | None:
    word: str | None = values["domainname"] or None
    return None if word is None else parse_domainname(word)


def labels_of(values: Values) -> dict[str, str]:
    """Return the labels of the files and of the command line, which counts more."""
    try:
        files = [label for path in values["label-file"] for label in parse_label_file(path)]
    except InvalidInput as err:
        raise Refused(err.message, err.hint, 125) from err  # of `create` too, as docker
    return dict((*files, *values["label"]))


def _stop_signal(values: Values) -> str | None:
    word: str | None = values["stop-signal"] or None
    if word is not None:
        parse_signal(word, "--stop-signal")
    return word


def _stop_timeout(values: Values, settings: Config) -> int | None:
    said: int | None = values["stop-timeout"]
    # None is the built-in one, and is not written down
    return settings.for_containers().get("stop_timeout") if said is None else said


def _with_limits(fields: dict[str, Any], settings: Config) -> dict[str, Any]:
    """Return the limits that flags say, and those configured that they do not say."""
    if fields.get("pids_limit") is None:
        fields["pids_limit"] = settings.for_containers().get("pids_limit")
    return fields


def _entrypoint(values: Values) -> tuple[str, ...] | None:
    text: str | None = values["entrypoint"]
    if text is None:
        return None
    return (text,) if text else ()


def run_options(values: Values, arguments: list[str], settings: Config = BUILT_IN) -> RunOptions:
    """Return what the user asked for.

    Args:
        values: of CONTAINER_FLAGS.
        arguments: the image and the command.
        settings: what they have that no flag says.

    Raises:
        InvalidInput: a value that nobody can carry out.
    """
    image, *command = arguments
    if values["link"] is not None:
        raise InvalidInput(
            f"--link {values['link']!r}: links are not supported",
            "--network container:NAME joins another container's network",
        )
    log = _Log(values, settings)
    options = RunOptions(
        image=image,
        command=tuple(command),
        name=values["name"] or None,
        entrypoint=_entrypoint(values),
        workdir=environment.working_folder(values),
        user=values["user"],
        group_add=tuple(values["group-add"]),
        env=environment.environment(values),
        labels=labels_of(values),
        annotations=dict(values["annotation"]),
        hostname=hostname_of(values),
        domainname=_domainname(values),
        add_host=tuple(values["add-host"]),
        dns=tuple(values["dns"]),
        dns_search=tuple(values["dns-search"]),
        dns_option=tuple(values["dns-option"]),
        interactive=values["interactive"],
        tty=values["tty"],
        remove=values["rm"],
        init=values["init"],
        pid=_namespace(values, "pid"),
        ipc=_namespace(values, "ipc"),
        uts=_namespace(values, "uts"),
        cgroupns=_namespace(values, "cgroupns"),
        mounts=_all_mounts(values),
        volumes_from=tuple(values["volumes-from"]),
        read_only=values["read-only"],
        cap_add=tuple(values["cap-add"]),
        cap_drop=tuple(values["cap-drop"]),
        security_opt=tuple(map(_security_option, values["security-opt"])),
        privileged=values["privileged"],
        devices=tuple(values["device"]),
        device_cgroup_rules=tuple(values["device-cgroup-rule"]),
        ulimits=tuple(values["ulimit"]),
        sysctls=dict(values["sysctl"]),
        # docker: 0 too asks for the default
        shm_size=values["shm-size"] or settings.shm_size,
        stop_signal=_stop_signal(values),
        stop_timeout=_stop_timeout(values, settings),
        umask=values["umask"],
        tz=values["tz"] or None,
        timeout=values["timeout"],
        log_driver=log.driver,
        log_max_size=log.max_size,
        log_max_files=log.max_files,
        health=health_check(values),
        restart=_restart(values),
        **network_fields(values, settings),
        **_with_limits(create_fields(values), settings),
    )
    if not _is_member(values):  # of that the pod tells
        _check_conflicts(values, options)
    return options
