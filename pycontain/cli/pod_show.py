"""``pod``: inspect, logs, ps, stats, top."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from pycontain.cli import log_streams, output, stats, streams
from pycontain.cli.flags import (
    FORMAT,
    LISTING_FORMAT,
    Flag,
    Verb,
    listing_filter,
    switch,
    tail_lines,
)
from pycontain.cli.pod import FAILURE, each, has_label, pods
from pycontain.cli.template import GoMap
from pycontain.errors import InvalidInput, NotFound, PycontainError
from pycontain.model.parse.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine.containers import View
    from pycontain.model.stats import Stats
    from pycontain.pod.pods import PodView

_SHORT_ID = 12
_TABLE = "{{.Id}}\t{{.Name}}\t{{.Status}}\t{{.Created}}\t{{.InfraID}}\t{{.NumberOfContainers}}"

LISTING = output.Listing(
    kind="entities.ListPodsReport",
    headings={
        "Id": "POD ID",
        "ID": "POD ID",
        "Name": "NAME",
        "Status": "STATUS",
        "Created": "CREATED",
        "InfraID": "INFRA ID",
        "NumberOfContainers": "# OF CONTAINERS",
        "ContainerIds": "IDS",
        "ContainerNames": "NAMES",
        "ContainerStatuses": "STATUS",
        "Cgroup": "CGROUP",
        "Labels": "LABELS",
        "Label": output.label_heading,
        "Networks": "NETWORKS",
    },
    table=_TABLE,
    quiet="{{.Id}}",
)


# ---- ps ----


def _row(view: PodView, now: int, full: bool) -> dict[str, Any]:
    members = [member.container for member in view.members]
    labels = view.pod.labels
    identity = view.pod.id if full else view.pod.id[:_SHORT_ID]
    return {
        "Id": identity,
        "ID": identity,
        "Name": view.pod.name,
        "Status": view.state,
        "Created": output.ago(view.pod.created, now),
        "InfraID": "",
        "NumberOfContainers": str(len(members)),
        "ContainerIds": ",".join(one.id if full else one.id[:_SHORT_ID] for one in members),
        "ContainerNames": ",".join(one.name for one in members),
        "ContainerStatuses": ",".join(member.status.state for member in view.members),
        "Cgroup": _cgroup(view),
        "Labels": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        "Label": lambda name: labels.get(name, ""),
        "Networks": ",".join(choice.name for choice in view.pod.networks),
    }


def _cgroup(view: PodView) -> str:
    from pycontain.model.pod import cgroup_path

    return cgroup_path(view.pod.id)


def _document(view: PodView) -> dict[str, Any]:
    """Return what podman's ``pod ps --format json`` says of a pod."""
    return {
        "Cgroup": _cgroup(view),
        "Containers": [
            {"Id": one.container.id, "Names": one.container.name, "Status": one.status.state}
            for one in view.members
        ],
        "Created": output.rfc3339(view.pod.created),
        "Id": view.pod.id,
        "InfraId": "",
        "Name": view.pod.name,
        "Namespace": "",
        "Networks": [choice.name for choice in view.pod.networks],
        "Status": view.state,
        "Labels": GoMap(view.pod.labels),
    }


def _test(name: str, values: Sequence[str]) -> Callable[[PodView], bool]:
    """Return what says whether a pod passes one filter, of which there are `values`."""
    if name == "name":
        import re

        patterns = [re.compile(value) for value in values]
        return lambda view: any(pattern.search(view.pod.name) for pattern in patterns)
    if name == "until":
        moments = [parse_time(v, time.time_ns(), "--filter until") for v in values]
        return lambda view: all(view.pod.created < moment for moment in moments)
    if name in ("status", "ctr-status"):
        return _by_state(name, [value.lower() for value in values])
    simple: dict[str, Callable[[PodView], bool]] = {
        "id": lambda view: view.pod.id.startswith(tuple(values)),
        "label": lambda view: all(has_label(view.pod, value) for value in values),
        "network": lambda view: any(one.name in values for one in view.pod.networks),
        "ctr-ids": lambda view: any(
            one.container.id.startswith(tuple(values)) for one in view.members
        ),
        "ctr-names": lambda view: any(one.container.name in values for one in view.members),
        "ctr-number": lambda view: str(len(view.members)) in values,
    }
    if name not in simple:
        names = ", ".join(sorted([*simple, "ctr-status", "name", "status", "until"]))
        raise InvalidInput(f"invalid filter '{name}'", f"there are {names}")
    return simple[name]


_STATES = ("created", "running", "degraded", "paused", "stopped", "exited")
_OF_CONTAINERS = ("created", "running", "paused", "exited", "restarting")


def _by_state(name: str, values: Sequence[str]) -> Callable[[PodView], bool]:
    known = _STATES if name == "status" else _OF_CONTAINERS
    for value in values:
        if value not in known:
            raise InvalidInput(f"{value} is not a valid {name}", f"there are {', '.join(known)}")
    if name == "status":
        return lambda view: view.state.lower() in values
    return lambda view: any(one.status.state in values for one in view.members)


def _ps(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    filters: dict[str, list[str]] = {}
    for name, value in values["filter"]:
        filters.setdefault(name, []).append(value)
    tests = [_test(name, found) for name, found in filters.items()]
    problems: list[PycontainError] = []
    now = time.time_ns()
    views = [view for view in pods(app).list(problems) if all(test(view) for test in tests)]
    if values["format"] == "json":
        streams.write(output.pretty_json([_document(view) for view in views]))
        return app.report(problems)
    form = values["format"]
    if not form:
        form = "table " + _TABLE + "".join(
            f"\t{{{{.{field}}}}}" for flag, field in _COLUMNS.items() if values[flag]
        )  # fmt: skip
        form = None if values["quiet"] else form
    rows = [_row(view, now, values["no-trunc"]) for view in views]
    streams.write(LISTING.render(rows, form, values["quiet"]))
    return app.report(problems)


_COLUMNS = {
    "ctr-ids": "ContainerIds",
    "ctr-names": "ContainerNames",
    "ctr-status": "ContainerStatuses",
}


# ---- inspect ----


def _inspected(app: App, name: str) -> dict[str, Any]:
    """Return what podman's ``pod inspect`` says of a pod, as far as it is so here."""
    found = pods(app)
    view = found.get(name)
    pod = view.pod
    return {
        "Id": pod.id,
        "Name": pod.name,
        "Created": output.rfc3339(pod.created),
        "ExitPolicy": "continue",
        "State": view.state,
        "Hostname": pod.hostname,
        "Labels": GoMap(pod.labels),
        "CreateCgroup": not app.engine.rootless,
        "CgroupParent": "/pycontain",
        "CgroupPath": _cgroup(view),
        "CreateInfra": True,
        "InfraContainerID": "",
        "InfraConfig": {
            "PortBindings": _bindings(found.ports(view)),
            "HostNetwork": pod.network == "host",
            "StaticIP": next((one.ip for one in pod.networks), ""),
            "StaticMAC": next((one.mac for one in pod.networks), ""),
            "NoManageResolvConf": False,
            "DNSServer": list(pod.dns),
            "DNSSearch": list(pod.dns_search),
            "DNSOption": list(pod.dns_option),
            "NoManageHosts": False,
            "HostAdd": list(pod.add_host),
            "Networks": [choice.name for choice in pod.networks],
            "NetworkOptions": None,
        },
        "SharedNamespaces": list(pod.share),
        "NumContainers": len(view.members),
        "Containers": [
            {"Id": one.container.id, "Name": one.container.name, "State": one.status.state}
            for one in view.members
        ],
        "Addresses": _addresses(app, view),
        "Sandbox": view.sandbox,
        "Limits": _limits(view),
        "ShmSize": pod.shm_size,
        "Mounts": [f"{mount.source}:{mount.target}" for mount in pod.volumes],
    }


def _addresses(app: App, view: PodView) -> dict[str, list[str]]:
    if view.sandbox != "running" or not view.pod.networks:
        return GoMap({})
    from pycontain.engine import networks

    found = networks.attachments(app.engine.layout, view.pod.id)
    return GoMap({one.name: list(one.addresses) for one in found})


def _limits(view: PodView) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(view.pod.limits)
    return GoMap(found)


def _bindings(ports: Iterable[Any]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for one in ports:
        entry = {"HostIp": one.address, "HostPort": str(one.port)}
        found.setdefault(f"{one.target}/{one.protocol}", []).append(entry)
    return GoMap(found)


def _inspect(app: App, values: Values, arguments: list[str]) -> int:
    form = values["format"]
    if form and form != "json":
        template = output.document_template(form)
        return each(
            app,
            arguments,
            lambda name: streams.write(f"{template.render(_inspected(app, name))}\n"),
        )
    found: list[dict[str, Any]] = []
    code = each(app, arguments, lambda name: found.append(_inspected(app, name)))
    if len(arguments) == 1 and found:
        streams.write(output.pretty_json(found[0]))
    elif found or len(arguments) > 1:
        streams.write(output.pretty_json(found))
    return code


# ---- top ----


def _top(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    name, *options = arguments
    titles: Sequence[str] = ()
    rows: list[Sequence[str]] = []
    for member in pods(app).get(name).members:
        if member.status.state in ("running", "paused"):
            found = app.engine.containers.top(member.container.id, options)
            titles = titles or found.titles
            rows += found.rows
    if titles:
        streams.write(output.align(["\t".join(row) for row in (titles, *rows)], least=20))
    return 0


# ---- stats ----

STATS_LISTING = output.Listing(
    kind="entities.PodStatsReport",
    headings={
        "Pod": "POD",
        "CID": "CID",
        "Name": "NAME",
        "CPU": "CPU %",
        "MemUsage": "MEM USAGE/ LIMIT",
        "Mem": "MEM %",
        "NetIO": "NET IO",
        "BlockIO": "BLOCK IO",
        "PIDS": "PIDS",
    },
    table="{{.Pod}}\t{{.CID}}\t{{.Name}}\t{{.CPU}}\t{{.MemUsage}}\t{{.Mem}}\t{{.NetIO}}"
    "\t{{.BlockIO}}\t{{.PIDS}}",
    quiet="{{.CID}}",
)


class _Rounds:
    """Rounds of samples of the containers of pods."""

    def __init__(self, app: App, names: Sequence[str]) -> None:
        self._app = app
        self._pods = pods(app)
        self._names = names
        self._before: dict[str, Stats] = {}
        self._total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def round(self) -> list[dict[str, Any]]:
        """Take a sample of each container that runs; return a row for each."""
        now: dict[str, Stats] = {}
        rows = []
        for view in self._views():
            for member in view.members:
                if member.status.state not in ("running", "paused"):
                    continue
                try:
                    sample = self._app.engine.containers.stats(member.container.id)
                except NotFound:
                    continue  # removed meanwhile
                now[sample.id] = sample
                rows.append(self._row(view, sample))
        self._before = now
        return rows

    def _views(self) -> Sequence[PodView]:
        if self._names:
            return [self._pods.get(name) for name in self._names]
        return self._pods.list()

    def _row(self, view: PodView, sample: Stats) -> dict[str, Any]:
        row = stats.row(sample, self._before.get(sample.id), self._total, sample.id, False)
        return {
            "Pod": view.pod.id[:_SHORT_ID],
            "CID": row["ID"],
            "Name": row["Name"],
            "CPU": row["CPUPerc"],
            "MemUsage": row["MemUsage"],
            "Mem": row["MemPerc"],
            "NetIO": row["NetIO"],
            "BlockIO": row["BlockIO"],
            "PIDS": row["PIDs"],
        }


def _stats(app: App, values: Values, arguments: list[str]) -> int:
    if values["all"] and arguments:
        raise InvalidInput("--all and pods: give one of them")
    rounds = _Rounds(app, arguments)
    rounds.round()
    time.sleep(stats.GLANCE)
    while True:
        text = STATS_LISTING.render(rounds.round(), values["format"], False)
        streams.write(text)
        if values["no-stream"]:
            return 0
        streams.flush()
        time.sleep(stats.INTERVAL)


# ---- logs ----


def _logs(app: App, values: Values, arguments: list[str]) -> int:
    members = _chosen(pods(app).get(arguments[0]), values["container"])
    now = time.time_ns()
    how = {
        "follow": values["follow"],
        "tail": values["tail"],
        "since": _moment(values["since"], now, "--since"),
        "until": _moment(values["until"], now, "--until"),
    }
    sources = [
        (
            _prefix(member, values, len(members)),
            app.engine.containers.logs(member.container.id, **how),
        )
        for member in members
    ]
    log_streams.write(sources, follow=values["follow"], stamps=values["timestamps"])
    return 0


def _moment(word: str | None, now: int, flag: str) -> int | None:
    return parse_time(word, now, flag) if word else None


def _chosen(view: PodView, ref: str | None) -> Sequence[View]:
    if ref is None:
        return view.members
    found = [
        one for one in view.members if one.container.name == ref or one.container.id.startswith(ref)
    ]
    if not found:
        raise NotFound(f"container {ref} is not in pod {view.pod.name}")
    return found


def _prefix(member: View, values: Values, count: int) -> str:
    if values["names"]:
        return f"{member.container.name} "
    return f"{member.container.id[:_SHORT_ID]} " if count > 1 else ""


PS = Verb(
    "ps",
    "[OPTIONS]",
    "List pods",
    _ps,
    flags=(
        switch("ctr-ids", "show the ids of its containers"),
        switch("ctr-names", "show the names of its containers"),
        switch("ctr-status", "show the states of its containers"),
        listing_filter("status=running or label=team=a"),
        LISTING_FORMAT,
        switch("no-trunc", "do not truncate"),
        switch("quiet", "print only ids", short="q"),
    ),
    most=0,
    failure=FAILURE,
    examples=(
        ("pycontain ps", "all pods"),
        ("pycontain ps -q --filter status=exited", "ids of those that have ended"),
    ),
)

INSPECT = Verb(
    "inspect",
    "[OPTIONS] POD [POD...]",
    "Return low-level information on pods",
    _inspect,
    flags=(FORMAT,),
    least=1,
    failure=FAILURE,
    examples=(("pycontain inspect -f '{{.State}}' web", "one field"),),
)

TOP = Verb(
    "top",
    "POD [ps OPTIONS]",
    "Display the running processes of the containers of a pod",
    _top,
    least=1,
    mixed=False,
    failure=FAILURE,
    examples=(("pycontain top web", "those of all its containers"),),
)

STATS = Verb(
    "stats",
    "[OPTIONS] [POD...]",
    "Show what the containers of pods use",
    _stats,
    flags=(
        switch("all", "all pods, as without any", short="a"),
        LISTING_FORMAT,
        switch("no-stream", "show them once and end"),
    ),
    failure=FAILURE,
    examples=(("pycontain stats --no-stream web", "one look at one"),),
)

LOGS = Verb(
    "logs",
    "[OPTIONS] POD",
    "Fetch the logs of the containers of a pod",
    _logs,
    flags=(
        Flag("container", "of this one alone", short="c", metavar="container"),
        switch("follow", "wait for more until the containers end", short="f"),
        switch("names", "show names in place of ids", short="n"),
        Flag("since", "show what came after this time, as 42m or a date", metavar="time"),
        Flag(
            "tail",
            "number of lines from the end of each, -1 for all",
            metavar="n",
            convert=tail_lines,
        ),
        switch("timestamps", "show when each line came", short="t"),
        Flag("until", "show what came before this time, as 42m or a date", metavar="time"),
    ),
    least=1,
    most=1,
    failure=FAILURE,
    examples=(("pycontain logs -f -n web", "each line behind its container's name"),),
)
