"""``inspect``: a container or an image as docker's document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontain.cli import inspect_network, output, streams
from pycontain.cli.flags import FORMAT, Flag, Verb
from pycontain.cli.ps import health_of, network_names, volume_names
from pycontain.cli.template import GoMap, GoStruct, to_json
from pycontain.engine import effective
from pycontain.errors import InvalidInput, NotFound, PycontainError
from pycontain.runtime.limits import swap
from pycontain.runtime.spec import all_mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine.containers import View
    from pycontain.image.store import Image
    from pycontain.model.container import (
        Container,
        DeviceRate,
        DeviceRule,
        ExitRecord,
        HealthCheck,
        ImageConfig,
        Mount,
        RunOptions,
    )
    from pycontain.model.status import Status

_PROPAGATIONS = frozenset(("private", "rprivate", "shared", "rshared", "slave", "rslave"))
_READ_ONLY = frozenset(("ro", "rro"))


def container_document(app: App, view: View) -> dict[str, Any]:
    """Return what docker's ``inspect`` says of a container, as far as pycontain has it."""
    container = view.container
    paths = view.paths
    path, *arguments = container.command or ("",)
    has_log = container.options.log_driver != "none"
    return {
        "Id": container.id,
        "Created": output.rfc3339(container.created),
        "Path": path,
        "Args": arguments,
        "State": GoStruct({**_state(view.status), **_health(view)}, "Health"),
        "Totals": None if view.status.record is None else _totals(view.status.record),
        "Image": container.image_id,
        "ResolvConfPath": paths.resolv_conf,
        "HostnamePath": paths.hostname,
        "HostsPath": paths.hosts,
        "LogPath": paths.log if has_log else "",
        "Name": f"/{container.name}",
        **({"Pod": container.options.pod} if container.options.pod else {}),
        "RestartCount": _restart_count(view),
        "Driver": "overlay",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": _apparmor(container.options),
        "HostConfig": _host_config(container),
        "GraphDriver": _driver(app, container.layers, UpperDir=paths.upper, WorkDir=paths.work),
        "Mounts": _mounts(app, view),
        "Config": _config(container),
        "NetworkSettings": inspect_network.settings(view, app.engine.containers.attachments(view)),
    }


def _driver(app: App, lower: Sequence[str], **more: str) -> dict[str, Any]:
    """Return where the layers of an object are; those below in overlayfs's order, top first."""
    folders = [app.engine.layout.layer(layer) for layer in reversed(lower)]
    data = {"LowerDir": ":".join(folders)} if folders else {}
    return {"Name": "overlay", "Data": GoMap({**data, **more})}


def _image_driver(app: App, image: Image) -> dict[str, Any]:
    more = {}
    if image.layers:
        more["UpperDir"] = app.engine.layout.layer(image.layers[-1])
    mounted = next((one.path for one in app.engine.images.mounts() if one.id == image.id), None)
    if mounted is not None:
        more["MergedDir"] = mounted
    return _driver(app, image.layers[:-1], **more)


def _apparmor(options: RunOptions) -> str:
    words = [word for word in options.security_opt if word.startswith(("apparmor=", "apparmor:"))]
    return words[-1][len("apparmor=") :] if words else ""


def _state(status: Status) -> dict[str, Any]:
    record = status.record
    ended = record is not None and status.state in ("exited", "restarting", "created")
    return {
        "Status": status.state,
        # docker's word for one that restarts is both
        "Running": status.state in ("running", "paused", "restarting"),
        "Paused": status.state == "paused",
        "Restarting": status.state == "restarting",
        # docker's field is a truth value; Totals has null where memory is not accounted for
        "OOMKilled": bool(record is not None and ended and record.oom_killed),
        "Dead": False,
        "Pid": status.pid or 0,
        "ExitCode": record.code if record is not None and ended else 0,
        "Error": status.error or (record.error if record and ended else None) or "",
        "StartedAt": output.rfc3339(status.started),
        "FinishedAt": output.rfc3339(record.finished if record is not None else None),
    }


def _health(view: View) -> dict[str, Any]:
    """Return of the state what probes found; docker has nothing there where none are made."""
    known = health_of(view)
    if known is None:
        return {}
    from pycontain.engine import health

    return {"Health": health.document(known, output.rfc3339)}


def _check(check: HealthCheck | None) -> dict[str, Any]:
    if check is None:
        return {}
    from pycontain.engine.health import check_document

    return {"Healthcheck": check_document(check)}


def _restart_count(view: View) -> int:
    if view.container.options.restart is None:
        return 0
    from pycontain.engine import supervision

    return supervision.load(view.paths).count


def _restart_policy(options: RunOptions) -> dict[str, Any]:
    policy = options.restart
    if policy is None:
        return {"Name": "no", "MaximumRetryCount": 0}
    return {"Name": policy.name, "MaximumRetryCount": policy.most}


def _totals(record: ExitRecord) -> dict[str, Any]:
    """Return what the last run used; null is unknown. docker has nothing of it after the end."""
    return {
        "CPUUsec": record.cpu_usec,
        "CPUUserUsec": record.cpu_user_usec,
        "CPUSystemUsec": record.cpu_system_usec,
        "MemoryPeak": record.memory_peak,
        "OOMKilled": record.oom_killed,
        "PidsPeak": record.pids_peak,
        "BlockRead": record.block_read,
        "BlockWritten": record.block_written,
        "BlockReads": record.block_reads,
        "BlockWrites": record.block_writes,
        "NetReceived": record.net_received,
        "NetSent": record.net_sent,
        "CPUStalledUsec": record.cpu_stalled_usec,
        "MemoryStalledUsec": record.memory_stalled_usec,
        "IOStalledUsec": record.io_stalled_usec,
    }


def _host_config(container: Container) -> dict[str, Any]:
    options = container.options
    return {
        "Binds": _binds(options) or None,
        "VolumesFrom": list(options.volumes_from) or None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": options.log_driver, "Config": _log_options(options)},
        "NetworkMode": network_names(container)[0],
        "PortBindings": inspect_network.port_bindings(options),
        "PublishAllPorts": options.publish_all,
        "RestartPolicy": _restart_policy(options),
        "AutoRemove": options.remove,
        "Annotations": GoMap(options.annotations),
        "CapAdd": _capabilities(options.cap_add) or None,
        "CapDrop": _capabilities(options.cap_drop) or None,
        "CgroupnsMode": options.cgroupns,
        "Dns": list(options.dns),
        "DnsOptions": list(options.dns_option),
        "DnsSearch": list(options.dns_search),
        "ExtraHosts": list(options.add_host) or None,
        "GroupAdd": list(options.group_add) or None,
        "IpcMode": options.ipc,
        "OomScoreAdj": options.oom_score_adj or 0,
        "PidMode": _mode(options.pid),
        "Privileged": options.privileged,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": list(options.security_opt) or None,
        "Tmpfs": GoMap(
            {
                m.target: ",".join(m.options)
                for m in options.mounts
                if m.type == "tmpfs" and not m.source
            }
        ),
        "UTSMode": _mode(options.uts),
        "UsernsMode": "",
        "ShmSize": options.shm_size,
        "Sysctls": GoMap(options.sysctls),
        "Runtime": "pycontain",
        "Devices": [
            {
                "PathOnHost": device.source,
                "PathInContainer": device.target,
                "CgroupPermissions": device.access,
            }
            for device in options.devices
        ],
        "DeviceCgroupRules": [_rule(rule) for rule in options.device_cgroup_rules] or None,
        "Ulimits": [
            {"Name": limit.name, "Hard": limit.hard, "Soft": limit.soft}
            for limit in options.ulimits
        ],
        "Init": options.init,
        "Umask": None if options.umask is None else f"{options.umask:04o}",
        "Timeout": options.timeout,
        "CgroupParent": options.cgroup_parent or "",
        "CgroupConf": GoMap(options.cgroup_conf),
        **_limits(options),
    }


def _limits(options: RunOptions) -> dict[str, Any]:
    """Return the limits in docker's fields, in which 0 is what is not limited."""
    return {
        "Memory": max(0, options.memory or 0),
        "MemoryReservation": options.memory_reservation or 0,
        "MemorySwap": swap(options),
        "MemorySwappiness": None,
        "OomKillDisable": None,
        "KernelMemory": 0,
        "NanoCpus": round((options.cpus or 0) * 1_000_000_000),
        "CpuShares": options.cpu_shares or 0,
        "CpuPeriod": options.cpu_period or 0,
        "CpuQuota": options.cpu_quota or 0,
        "CpusetCpus": options.cpuset_cpus or "",
        "CpusetMems": options.cpuset_mems or "",
        "PidsLimit": options.pids_limit or None,
        "BlkioWeight": options.blkio_weight or 0,
        "BlkioWeightDevice": [
            {"Path": entry.path, "Weight": entry.weight} for entry in options.blkio_weight_device
        ],
        "BlkioDeviceReadBps": _rates(options.device_read_bps),
        "BlkioDeviceWriteBps": _rates(options.device_write_bps),
        "BlkioDeviceReadIOps": _rates(options.device_read_iops),
        "BlkioDeviceWriteIOps": _rates(options.device_write_iops),
    }


def _rule(rule: DeviceRule) -> str:
    major, minor = ("*" if number == -1 else number for number in (rule.major, rule.minor))
    return f"{rule.type} {major}:{minor} {rule.access}"


def _rates(entries: Sequence[DeviceRate]) -> list[dict[str, Any]]:
    return [{"Path": entry.path, "Rate": entry.rate} for entry in entries]


def _mode(word: str) -> str:
    """Return docker's word for a mode: its own namespace is the empty one."""
    return "" if word == "private" else word


def _log_options(options: RunOptions) -> dict[str, Any]:
    if options.log_driver == "none":
        return GoMap()
    sizes = {"max-size": str(options.log_max_size), "max-file": str(options.log_max_files)}
    return GoMap(sizes)


def _capabilities(words: tuple[str, ...]) -> list[str]:
    """Return the kernel's names, sorted, for those that the user gave in any case."""
    bare = {word.upper().removeprefix("CAP_") for word in words}
    return sorted(name if name == "ALL" else f"CAP_{name}" for name in bare)


def _binds(options: RunOptions) -> list[str]:
    return [
        _bind(mount)
        for mount in options.mounts
        if mount.type == "bind" or (mount.type == "volume" and mount.source)
    ]


def _bind(mount: Mount) -> str:
    words = _mode_words(mount)
    return f"{mount.source}:{mount.target}:{words}" if words else f"{mount.source}:{mount.target}"


def _mounts(app: App, view: View) -> list[dict[str, Any]]:
    mounts = all_mounts(view.container)
    # as docker, which lists them by kind
    ordered = sorted(mounts, key=lambda mount: mount.type == "volume")
    names = volume_names(view.container)
    folders = {target: _volume_folder(app, view, name) for target, name in names.items()}
    return [
        _volume(mount, names[mount.target], folders[mount.target])
        if mount.type == "volume"
        else _mount(mount)
        for mount in ordered
    ]


def _volume_folder(app: App, view: View, name: str) -> str:
    if view.container.mounts is None:
        return f"{view.paths.volumes}/{name.rpartition('-')[2]}"
    return app.engine.layout.volume(name).data


def _volume(mount: Mount, name: str, folder: str) -> dict[str, Any]:
    # a named one's mode is docker's word for "no other label than its own"
    mode = _mode_words(mount) or ("" if mount.anonymous or not mount.source else "z")
    return {
        "Type": "volume",
        "Name": name,
        "Source": folder,
        "Destination": mount.target,
        "Driver": "local",
        "Mode": mode,
        "RW": not _READ_ONLY & set(mount.options),
        "Propagation": "",
        **({"SubPath": mount.subpath} if mount.subpath else {}),
    }


def _mode_words(mount: Mount) -> str:
    """Return the options in docker's words, which know one kind of read-only."""
    return ",".join("ro" if word == "rro" else word for word in mount.options)


def _mount(mount: Mount) -> dict[str, Any]:
    propagation = [word for word in mount.options if word in _PROPAGATIONS]
    default = "rprivate" if mount.type == "bind" else ""
    return {
        "Type": mount.type,
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": _mode_words(mount),
        "RW": not _READ_ONLY & set(mount.options),
        "Propagation": propagation[-1] if propagation else default,
        **({"SubPath": mount.subpath} if mount.subpath else {}),
    }


def _config(container: Container) -> dict[str, Any]:
    options, image = container.options, container.config
    fields = {
        "Hostname": options.hostname or container.id[:12],
        "Domainname": options.domainname or "",
        "User": image.user if options.user is None else options.user,
        "AttachStdin": options.interactive,
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        "Env": effective.environment(options, image),
        "Cmd": effective.command(options, image),
        "Image": options.image,
        "Volumes": GoMap({target: {} for target in effective.volumes(container)}),
        "WorkingDir": options.workdir or image.working_dir,
        "Entrypoint": effective.entrypoint(options, image),
        "Labels": GoMap({**(image.labels or {}), **options.labels}),
        "StopSignal": options.stop_signal or image.stop_signal or "SIGTERM",
        "ExposedPorts": inspect_network.exposed(options, image),
        "StopTimeout": container.stop_timeout,
        **_check(effective.health_check(options, image)),
        "Timezone": options.tz or "",
    }
    return GoStruct(fields, "Healthcheck")


def image_document(app: App, image: Image) -> dict[str, Any]:
    """Return what docker's ``inspect`` says of an image, as far as pycontain has it."""
    config = image.config
    whole = _whole(app, image)
    return {
        "Id": image.id,
        "RepoTags": list(image.names),
        "RepoDigests": list(image.digests),
        "Digest": image.digest,
        "Index": image.index,
        "Parent": "",
        "Comment": whole["comment"],
        "Created": None if image.created is None else output.rfc3339(image.created),
        "DockerVersion": whole["docker_version"],
        "Author": whole["author"],
        "Config": _image_config(config, whole["healthcheck"]),
        "Architecture": image.architecture,
        "Variant": image.variant,
        "Os": image.os,
        "OsVersion": whole["os.version"],
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": _image_driver(app, image),
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
    }


def _image_config(config: ImageConfig, check: dict[str, Any] | None) -> dict[str, Any]:
    fields = {
        "User": config.user,
        "Env": config.env or [],
        "Cmd": config.cmd,
        "Entrypoint": config.entrypoint,
        "WorkingDir": config.working_dir,
        "Volumes": GoMap(config.volumes or {}),
        "ExposedPorts": GoMap(config.exposed_ports or {}),
        "Labels": GoMap(config.labels or {}),
        "StopSignal": config.stop_signal,
        "OnBuild": config.on_build,
        "Shell": config.shell,
        **({"Healthcheck": check} if check else {}),
    }
    return GoStruct(fields, "Healthcheck")


def _whole(app: App, image: Image) -> dict[str, Any]:
    """Return of an image's configuration what only ``inspect`` tells of."""
    import json

    found = json.loads(app.engine.images.configuration(image.id))
    texts = ("comment", "author", "docker_version", "os.version")
    told = {name: text if isinstance(text := found.get(name), str) else "" for name in texts}
    history = found.get("history") or []
    if not told["comment"] and history:  # as docker: what was said of the last step
        told["comment"] = history[-1].get("comment") or ""
    return {**told, "healthcheck": (found.get("config") or {}).get("Healthcheck")}


def _container(app: App, name: str) -> dict[str, Any]:
    return container_document(app, app.engine.containers.get(name))


def _volume_of(app: App, name: str) -> dict[str, Any]:
    from pycontain.cli.volume import document as volume_document

    return volume_document(app, name)


def _network_of(app: App, name: str) -> dict[str, Any]:
    from pycontain.cli.network import document as network_document

    return network_document(app.engine.networks.view(name))


def _image(app: App, name: str) -> dict[str, Any]:
    try:
        return image_document(app, app.engine.images.get(name))
    except NotFound as err:
        raise NotFound(f"no such image: {name}", err.hint) from err


_KINDS = {"container": _container, "image": _image, "network": _network_of, "volume": _volume_of}


def document(app: App, name: str, kind: str | None = None) -> dict[str, Any]:
    """Return the document of the container or, if there is none, the image called `name`.

    Args:
        app: with the engine.
        name: of the object.
        kind: look for one of these alone.

    Raises:
        NotFound: there is none.
    """
    if kind is not None:
        return _KINDS[kind](app, name)
    for find in _KINDS.values():
        try:
            return find(app, name)
        except NotFound:
            continue
    raise NotFound(f"no such object: {name}")


def _renderer(form: str | None) -> Callable[[dict[str, Any]], str] | None:
    if not form:
        return None
    if form == "json":
        return to_json
    return output.document_template(form).render


def _inspect(app: App, values: Values, arguments: list[str]) -> int:
    kind: str | None = values["type"] or None
    if kind is not None and kind not in _KINDS:
        known = ", ".join(f'"{name}"' for name in _KINDS)
        raise InvalidInput(f'unknown type: "{kind}": must be one of {known}')
    return _show(app, values, arguments, kind)


def _inspect_container(app: App, values: Values, arguments: list[str]) -> int:
    return _show(app, values, arguments, "container")


def _inspect_image(app: App, values: Values, arguments: list[str]) -> int:
    return _show(app, values, arguments, "image")


def _show(app: App, values: Values, arguments: list[str], kind: str | None) -> int:
    return show(app, values, arguments, lambda app, name: document(app, name, kind))


def show(
    app: App,
    values: Values,
    arguments: list[str],
    make: Callable[[App, str], dict[str, Any]],
) -> int:
    """Write the documents of the objects called so, as ``--format`` says.

    Args:
        app: with the engine.
        values: of the verb's flags.
        arguments: names.
        make: returns an object's document.
    """
    render = _renderer(values["format"])
    found: list[dict[str, Any]] = []

    def act(name: str) -> None:
        made = make(app, name)
        if render is None:
            found.append(made)
        else:
            streams.write(f"{render(made)}\n")

    if render is not None:
        return app.each(arguments, act)
    problems: list[PycontainError] = []
    for name in arguments:
        try:
            act(name)
        except PycontainError as err:
            problems.append(err)
    # the document comes first and is whole: a script reads it whatever was missing
    streams.write(output.pretty_json(found))
    return app.report(problems)


INSPECT = Verb(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on containers and images",
    _inspect,
    flags=(FORMAT, Flag("type", "look for a container or an image alone", metavar="type")),
    least=1,
    examples=(
        ("pycontain inspect web", "all that is known, as JSON"),
        ("pycontain inspect -f '{{.State.Pid}} {{json .Mounts}}' web", "some of it"),
        ("pycontain inspect --type image busybox", "the image, whatever container is called so"),
    ),
)

CONTAINER_INSPECT = Verb(
    "inspect",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Return low-level information on containers",
    _inspect_container,
    flags=(FORMAT,),
    least=1,
    examples=(("pycontain inspect -f '{{.State.Pid}}' web", "its first process"),),
)

IMAGE_INSPECT = Verb(
    "inspect",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Return low-level information on images",
    _inspect_image,
    flags=(FORMAT,),
    least=1,
    examples=(("pycontain inspect -f '{{json .Config.Env}}' busybox", "its environment"),),
)
