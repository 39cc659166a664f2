"""``pod``: create, exists, kill, pause, prune, restart, rm, start, stop, unpause, as podman's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontain.cli import streams
from pycontain.cli.flags import Flag, Verb, filter_, switch, wait_seconds
from pycontain.cli.limits import LIMIT_FLAGS, limit_fields
from pycontain.cli.run_options import CONTAINER_FLAGS, hostname_of, labels_of, network_fields
from pycontain.errors import InvalidInput, NotFound, PycontainError
from pycontain.model.parse.mounts import parse_volume
from pycontain.model.parse.signals import parse_signal
from pycontain.model.parse.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from pycontain.cli.flags import Values
    from pycontain.cli.id_file import IdFile
    from pycontain.cli.main import App
    from pycontain.model.container import RunOptions
    from pycontain.model.pod import Pod
    from pycontain.pod.pods import Failed, Pods

FAILURE = 125
"""podman's exit code of a verb on pods that failed."""
_NEW = "new:"
_ID_FILE = "pod-id-file"
_SEVERAL = "[OPTIONS] POD [POD...]"
_OF_CONTAINERS = (
    "add-host", "dns", "dns-option", "dns-search", "hostname", "ip", "ip6", "label", "label-file",
    "mac-address", "network", "network-alias", "publish", "shm-size", "volume",
)  # fmt: skip


def pods(app: App) -> Pods:
    """Return the pods of the command's store."""
    from pycontain.pod.pods import Pods

    return Pods(app.engine)


# ---- create ----


def _share(text: str) -> tuple[str, ...]:
    from pycontain.model.pod import KINDS, SHARED

    words = [word for word in text.split(",") if word]
    added = words and all(word.startswith("+") for word in words)
    names = [word.removeprefix("+") for word in words] if added else words
    if names == ["none"]:
        return ()
    for name in names:
        if name not in KINDS:
            raise InvalidInput(f"--share {text!r}: there are {', '.join(sorted(KINDS))} and none")
    return tuple(dict.fromkeys((*SHARED, *names) if added else names))


def _create(app: App, values: Values, arguments: list[str]) -> int:
    name = arguments[0] if arguments else values["name"]
    if arguments and values["name"] and values["name"] != name:
        raise InvalidInput("cannot specify --name and NAME at the same time")
    with _id_file(values[_ID_FILE]) as file:
        pod = pods(app).create(name or None, replace_old=values["replace"], **_asked(app, values))
        if file is not None:
            file.write(pod.id)
    streams.write(f"{pod.id}\n")
    return 0


def _id_file(path: str | None) -> AbstractContextManager[IdFile | None]:
    from pycontain.cli.id_file import claimed

    return claimed(path, "pod", _ID_FILE)


def _asked(app: App, values: Values) -> dict[str, Any]:
    """Return what ``Pods.create`` is to be given."""
    import os

    from pycontain.model.container import Limits
    from pycontain.model.pod import SHARED

    share = SHARED if values["share"] is None else values["share"]
    here = os.getcwd()
    network = network_fields(values, app.settings) if "net" in share else _no_network(values)
    return {
        "labels": labels_of(values),
        "share": share,
        "hostname": hostname_of(values) or "",
        "network": network["network"],
        "networks": network["networks"],
        "publish": network["publish"],
        "add_host": values["add-host"],
        "dns": values["dns"],
        "dns_search": values["dns-search"],
        "dns_option": values["dns-option"],
        "volumes": [parse_volume(word, here) for word in dict.fromkeys(values["volume"])],
        "shm_size": values["shm-size"] or app.settings.shm_size,
        "limits": Limits(**limit_fields(values)),
    }


def _no_network(values: Values) -> dict[str, Any]:
    for flag in ("network", "publish", "ip", "ip6", "mac-address", "network-alias"):
        if values[flag]:
            raise InvalidInput(f"conflicting options: {flag} and a pod that does not share net")
    return {"network": "none", "networks": (), "publish": ()}


def join(app: App, word: str, values: Values, options: RunOptions) -> RunOptions:
    """Return the options of a container that is to be in a pod.

    Args:
        app: the command's.
        word: what ``--pod`` says: a pod, or ``new:NAME`` for one that is made for it.
        values: of the command line.
        options: what it comes to.

    Raises:
        NotFound: there is no such pod.
        InvalidInput: something is asked for that is the pod's to have.
    """
    from msgspec.structs import replace

    if values["shm-size"]:
        raise InvalidInput("--shm-size must be set on the pod")
    found = pods(app)
    if not word.startswith(_NEW):
        return found.member(word, options)
    if options.network.startswith("container:"):
        raise InvalidInput("conflicting options: pod and the network mode")
    pod = found.create(
        word.removeprefix(_NEW) or None, hostname=options.hostname or "", network=options.network,
        networks=options.networks, publish=options.publish, add_host=options.add_host,
        dns=options.dns, dns_search=options.dns_search, dns_option=options.dns_option,
        shm_size=app.settings.shm_size,
    )  # fmt: skip
    own = replace(
        options, hostname=None, network="none", networks=(), publish=(), add_host=(), dns=(),
        dns_search=(), dns_option=(),
    )  # fmt: skip
    try:
        return found.member(pod.id, own)
    except PycontainError:
        found.remove(pod.id, force=True)
        raise


# ---- verbs on pods that are there ----


def each(app: App, names: Sequence[str], act: Callable[[str], object]) -> int:
    """Do `act` for each pod; an error is reported and the others are done all the same.

    Returns:
        The exit code, podman's.
    """
    return FAILURE if app.each(names, act) else 0


def _on_each(app: App, names: Sequence[str], act: Callable[[Pods, str], Sequence[Failed]]) -> int:
    """Do `act` for each pod, and write their ids; what failed of a pod's containers is told."""
    found = pods(app)
    problems = 0

    def one(name: str) -> None:
        nonlocal problems
        failed = act(found, name)
        problems += app.report([failure.error for failure in failed])
        if not failed:
            streams.write(f"{found.find(name)}\n")

    code = each(app, names, one)
    return FAILURE if problems else code


def _in_files(values: Values) -> list[str]:
    """The pods whose ids are in files."""
    if not values[_ID_FILE]:
        return []
    from pycontain.cli.id_file import read

    return [read(path, _ID_FILE) for path in values[_ID_FILE]]


def _names(app: App, values: Values, arguments: list[str]) -> list[str]:
    if not values["all"]:
        if not arguments:
            raise InvalidInput("you must provide at least one pod name or id")
        return arguments
    if arguments:
        raise InvalidInput("--all and pods: give one of them")
    return [view.pod.id for view in pods(app).list()]


def _start(app: App, values: Values, arguments: list[str]) -> int:
    names = _names(app, values, [*arguments, *_in_files(values)])
    return _on_each(app, names, lambda found, name: found.start(name))


def _stop(app: App, values: Values, arguments: list[str]) -> int:
    def act(found: Pods, name: str) -> Sequence[Failed]:
        return found.stop(name, timeout=values["time"])

    names = _names(app, values, [*arguments, *_in_files(values)])
    return _on_each(app, _present(app, values, names), act)


def _present(app: App, values: Values, names: list[str]) -> list[str]:
    if not values["ignore"]:
        return names
    found = pods(app)
    return [name for name in names if found.exists(name)]


def _restart(app: App, values: Values, arguments: list[str]) -> int:
    return _on_each(app, _names(app, values, arguments), lambda found, name: found.restart(name))


def _kill(app: App, values: Values, arguments: list[str]) -> int:
    number = parse_signal(values["signal"])
    return _on_each(
        app, _names(app, values, arguments), lambda found, name: found.kill(name, number)
    )


def _pause(app: App, values: Values, arguments: list[str]) -> int:
    return _on_each(app, _names(app, values, arguments), lambda found, name: found.pause(name))


def _unpause(app: App, values: Values, arguments: list[str]) -> int:
    return _on_each(app, _names(app, values, arguments), lambda found, name: found.unpause(name))


def _rm(app: App, values: Values, arguments: list[str]) -> int:
    found = pods(app)
    missing = failed = False

    def act(name: str) -> None:
        nonlocal missing, failed
        try:
            streams.write(f"{found.remove(name, force=values['force'])}\n")
        except NotFound:
            missing = not values["force"]
            if missing:
                raise
        except PycontainError:
            failed = True
            raise

    names = _names(app, values, [*arguments, *_in_files(values)])
    app.each(_present(app, values, names), act)
    if not (failed or missing):
        _remove_files(values[_ID_FILE])
    return FAILURE if failed else int(missing)


def _remove_files(paths: Sequence[str]) -> None:
    """Remove the files of ids with what had them."""
    import os

    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as err:
            reason = (err.strerror or str(err)).lower()
            raise InvalidInput(f"{_ID_FILE}: {path}: {reason}") from err


def _exists(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    return 0 if pods(app).exists(arguments[0]) else 1


def _prune(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    from pycontain.cli import prune

    warning = "WARNING! This will remove all stopped/exited pods.."
    if not values["force"] and not prune.is_sure(warning):
        return 0
    tests = [_test(name, value) for name, value in values["filter"]]
    for identity in pods(app).prune(lambda pod: all(test(pod) for test in tests)):
        streams.write(f"{identity}\n")
    return 0


def _test(name: str, value: str) -> Callable[[Pod], bool]:
    if name == "label":
        return lambda pod: has_label(pod, value)
    if name == "until":
        import time

        moment = parse_time(value, time.time_ns(), "--filter until")
        return lambda pod: pod.created < moment
    raise InvalidInput(f"invalid filter '{name}'", "there are label, until")


def has_label(pod: Pod, text: str) -> bool:
    """Whether a pod has a label, NAME or NAME=VALUE."""
    name, equals, value = text.partition("=")
    return name in pod.labels and (not equals or pod.labels[name] == value)


_ALL = switch("all", "all pods", short="a")
_FROM_FILE = Flag(_ID_FILE, "also the pod whose id is in this file", kind="list", metavar="file")
_IGNORE = switch("ignore", "one that is not there is no error", short="i")

CREATE = Verb(
    "create",
    "[OPTIONS] [NAME]",
    "Create a pod: what its containers will share",
    _create,
    flags=(
        *(flag for flag in CONTAINER_FLAGS if flag.name in _OF_CONTAINERS),
        *(flag for flag in LIMIT_FLAGS if flag.name != "kernel-memory"),
        Flag("name", "name of the pod", short="n", metavar="name"),
        Flag(_ID_FILE, "write the pod's id to this new file", metavar="file"),
        switch("replace", "remove a pod that has the same name, with its containers"),
        Flag(
            "share",
            "namespaces that its containers share: ipc, net, pid, uts (default ipc,net,uts); +pid"
            " adds one, none shares none",
            metavar="kind[,kind]",
            convert=_share,
        ),
    ),
    most=1,
    failure=FAILURE,
    examples=(
        ("pycontain create -p 8080:80 web", "a port of all its containers together"),
        ("pycontain create --share +pid -m 512m job", "they see each other's processes"),
    ),
)

START = Verb(
    "start",
    _SEVERAL,
    "Start pods, and their containers",
    _start,
    flags=(_ALL, _FROM_FILE),
    failure=FAILURE,
    examples=(("pycontain start web", "what it shares first, then its containers"),),
)

STOP = Verb(
    "stop",
    _SEVERAL,
    "Stop pods, and their containers",
    _stop,
    flags=(
        _ALL,
        _IGNORE,
        _FROM_FILE,
        Flag(
            "time timeout",
            "seconds to wait before SIGKILL, -1 for ever (default: each container's own)",
            short="t",
            metavar="seconds",
            convert=wait_seconds,
        ),
    ),
    failure=FAILURE,
    examples=(("pycontain stop -t 2 web", "all its containers at once"),),
)

RESTART = Verb(
    "restart",
    _SEVERAL,
    "Restart pods, and their containers",
    _restart,
    flags=(_ALL,),
    failure=FAILURE,
    examples=(("pycontain restart web", "with namespaces of its own made anew"),),
)

KILL = Verb(
    "kill",
    _SEVERAL,
    "Send a signal to the containers of pods",
    _kill,
    flags=(
        _ALL,
        Flag("signal", "signal to send (default KILL)", short="s", metavar="signal",
             default="KILL"),
    ),
    failure=FAILURE,
    examples=(("pycontain kill -s HUP web", "to the first process of each container"),),
)  # fmt: skip

PAUSE = Verb(
    "pause",
    _SEVERAL,
    "Pause the containers of pods",
    _pause,
    flags=(_ALL,),
    failure=FAILURE,
    examples=(("pycontain pause web", "nothing of it runs until it is unpaused"),),
)

UNPAUSE = Verb(
    "unpause",
    _SEVERAL,
    "Unpause the containers of pods",
    _unpause,
    flags=(_ALL,),
    failure=FAILURE,
    examples=(("pycontain unpause web", "they go on where they were"),),
)

RM = Verb(
    "rm",
    _SEVERAL,
    "Remove pods, and their containers",
    _rm,
    flags=(
        _ALL,
        switch("force", "kill containers that run", short="f"),
        _IGNORE,
        Flag(_ID_FILE, "also the pod whose id is in this file, which goes too", kind="list",
             metavar="file"),
    ),
    failure=FAILURE,
    examples=(
        ("pycontain rm web", "where none of its containers runs"),
        ("pycontain rm -fa", "all pods"),
    ),
)  # fmt: skip

EXISTS = Verb(
    "exists",
    "POD",
    "Tell by the exit code whether there is a pod",
    _exists,
    least=1,
    most=1,
    failure=FAILURE,
    examples=(("pycontain exists web || echo no", "0: there is; 1: there is not"),),
)

PRUNE = Verb(
    "prune",
    "[OPTIONS]",
    "Remove pods of which nothing runs any more",
    _prune,
    flags=(
        Flag(
            "filter",
            "only what matches, as until=24h or label=a",
            kind="list",
            metavar="name=value",
            convert=filter_,
        ),
        switch("force", "do not ask", short="f"),
    ),
    most=0,
    failure=FAILURE,
    examples=(("pycontain prune -f", "unasked"),),
)
