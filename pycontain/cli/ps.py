"""``ps``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pycontain.cli import output, streams
from pycontain.cli.flags import LISTING_FORMAT, Flag, Verb, integer, listing_filter, switch
from pycontain.cli.template import quoted
from pycontain.errors import InvalidInput, NotFound, PycontainError
from pycontain.runtime import spec as specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine.containers import View
    from pycontain.engine.sizes import Sizes
    from pycontain.model.container import Container, PortBinding
    from pycontain.model.health import Health
    from pycontain.model.status import Status

SHORT_ID = 12
_COMMAND_WIDTH = 20
_MOUNT_WIDTH = 15
_VERDICTS = ("starting", "healthy", "unhealthy", "none")
_STATES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
_SHOWN = ("running", "paused", "restarting")  # without --all

LISTING = output.Listing(
    kind="*formatter.ContainerContext",
    headings={
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "CreatedAt": "CREATED AT",
        "RunningFor": "CREATED",
        "Ports": "PORTS",
        "Size": "SIZE",
        "State": "STATE",
        "Status": "STATUS",
        "Names": "NAMES",
        "Labels": "LABELS",
        "Label": output.label_heading,
        "Mounts": "MOUNTS",
        "Networks": "NETWORKS",
        "LocalVolumes": "LOCAL VOLUMES",
        "Pod": "POD ID",
        "PodName": "PODNAME",
    },
    table="{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet="{{.ID}}",
)


def status_words(status: Status, now: int, health: Health | None = None) -> str:
    """Return a container's state in docker's words, ``Up 2 seconds (healthy)``.

    Args:
        status: the state.
        now: nanoseconds since the epoch.
        health: what its probes found; None where none are made of it.
    """
    if status.state == "created":
        return "Created"
    if status.state == "exited":
        record = status.record
        code = "?" if record is None else str(record.code)
        if record is None or record.finished is None:
            return f"Exited ({code})"
        # why 137 is 137: docker says it in inspect only
        memory = " (OOM killed)" if record.oom_killed else ""
        return f"Exited ({code}) {output.ago(record.finished, now)}{memory}"
    if status.state == "restarting":
        return _restarting_words(status, now)
    since = "" if status.started is None else f" {_since(status.started, now)}"
    if status.state == "paused":
        return f"Up{since} (Paused)"
    return f"Up{since}" if health is None else f"Up{since} ({_health_words(health)})"


def _restarting_words(status: Status, now: int) -> str:
    record = status.record
    code = 0 if record is None else record.code
    ended = now if record is None or record.finished is None else record.finished
    return f"Restarting ({code}) {output.ago(ended, now)}"


def _health_words(health: Health) -> str:
    return "health: starting" if health.status == "starting" else health.status


def health_of(view: View) -> Health | None:
    """Return how a container is; None where no probes are made of it.

    Raises:
        StoreError: a document is damaged.
    """
    container = view.container
    if container.options.health is None and container.config.healthcheck is None:
        return None
    from pycontain.engine import health

    return health.of(view)


def _since(moment: int, now: int) -> str:
    return output.human_duration(max(0, now - moment) / output.SECOND)


def volume_names(container: Container) -> dict[str, str]:
    """Return what a container's volumes are called: where it is mounted → name.

    Those of a container of an earlier version have no names; they are called after it.
    """
    if container.mounts is not None:
        return {m.target: m.source for m in container.mounts if m.type == "volume"}
    targets = [m.target for m in specs.all_mounts(container) if m.type == "volume"]
    return {target: f"{container.id}-{at}" for at, target in enumerate(sorted(targets))}


def _mount_names(container: Container) -> list[str]:
    others = [mount.source for mount in specs.all_mounts(container) if mount.type == "bind"]
    return [*volume_names(container).values(), *others]


def network_names(container: Container) -> list[str]:
    """Return the networks that a container is in, or its mode where it is in none."""
    options = container.options
    return [choice.name for choice in options.networks] or [options.network]


def _shown_ports(
    view: View,
) -> tuple[tuple[PortBinding, ...], tuple[tuple[int, str], ...]]:
    if not view.container.options.networks:
        return (), ()
    from pycontain.engine import ports

    return ports.shown(view.container, view.paths, view.status.state)


def _ports(view: View) -> str:
    published, exposed = _shown_ports(view)
    if not (published or exposed):
        return ""
    from pycontain.network.ports import words

    return words(published, exposed)


def _labels(container: Container) -> dict[str, str]:
    return {**(container.config.labels or {}), **container.options.labels}


def _command(words: Sequence[str]) -> str:
    """Return the command as docker shows it: arguments with a blank in quotes."""
    program, *arguments = words
    return " ".join([program, *(f"'{word}'" if " " in word else word for word in arguments)])


def _size(sizes: Sizes) -> str:
    own = output.human_size(sizes.own)
    return own if sizes.virtual is None else f"{own} (virtual {output.human_size(sizes.virtual)})"


def row(view: View, now: int, full: bool, sizes: Sizes | None = None) -> dict[str, Any]:
    """Return the fields of a listing for a container."""
    container = view.container
    command = _command(container.command)
    mounts = _mount_names(container)
    if not full:
        command = output.ellipsis(command, _COMMAND_WIDTH)
        mounts = [output.ellipsis(name, _MOUNT_WIDTH) for name in mounts]
    labels = _labels(container)
    return {
        "ID": container.id if full else container.id[:SHORT_ID],
        "Image": container.options.image,
        "Command": quoted(command),
        "CreatedAt": output.local_time(container.created),
        "RunningFor": output.ago(container.created, now),
        "Ports": _ports(view),
        # nothing rather than docker's 0B where nobody asked: measuring walks through all files
        "Size": "" if sizes is None else _size(sizes),
        "State": view.status.state,
        "Status": status_words(view.status, now, health_of(view)),
        "Names": container.name,
        "Labels": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        "Label": lambda name: labels.get(name, ""),
        "Mounts": ",".join(mounts),
        "Networks": ",".join(network_names(container)),
        "LocalVolumes": str(len(volume_names(container))),
    }


# --- filters -------------------------------------------------------------------------------------


def _pattern(values: Iterable[str]) -> Callable[[str], bool]:
    import re

    try:
        patterns = [re.compile(value) for value in values]
    except re.error as err:
        raise InvalidInput(f"invalid filter: bad regular expression: {err}") from err
    return lambda text: any(pattern.search(text) for pattern in patterns)


def _by_id(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:  # noqa: ARG001 - one signature for a table
    match = _pattern(values)
    return lambda view: match(view.container.id)


def _by_name(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:  # noqa: ARG001 - one signature for a table
    match = _pattern(values)
    # scripts write ^/name$, from the time when names began with a slash
    return lambda view: match(view.container.name) or match(f"/{view.container.name}")


def _by_label(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:  # noqa: ARG001 - one signature for a table
    wanted = [value.partition("=") for value in values]

    def has_all(view: View) -> bool:
        labels = _labels(view.container)
        return all(
            name in labels and (not equals or labels[name] == value)
            for name, equals, value in wanted
        )

    return has_all


def _by_status(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:  # noqa: ARG001 - one signature for a table
    for value in values:
        if value not in _STATES:
            raise InvalidInput(f"Invalid filter 'status={value}'", f"one of {', '.join(_STATES)}")
    return lambda view: view.status.state in values


def _by_exited(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:  # noqa: ARG001 - one signature for a table
    try:
        codes = {integer(value) for value in values}
    except InvalidInput as err:
        raise InvalidInput(f"Invalid filter 'exited={values[-1]}': not a number") from err

    def matches(view: View) -> bool:
        record = view.status.record
        return view.status.state == "exited" and record is not None and record.code in codes

    return matches


def _by_ancestor(
    values: list[str],
    views: Sequence[View],  # noqa: ARG001 - one signature for a table
) -> Callable[[View], bool]:
    wanted = {_tagged(value) for value in values}

    def matches(view: View) -> bool:
        container = view.container
        if _tagged(container.options.image) in wanted:
            return True
        digest = container.image_id.partition(":")[2]
        return any(
            container.image_id == value or (len(value) >= 2 and digest.startswith(value))
            for value in values
        )

    return matches


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _created(values: list[str], views: Sequence[View]) -> int:
    name = values[-1]
    named = [view for view in views if view.container.name == name]
    found = named or [view for view in views if view.container.id.startswith(name)]
    if len(found) != 1:
        raise InvalidInput(f"no such container {name}")
    return found[0].container.created


def _by_before(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:
    moment = _created(values, views)
    return lambda view: view.container.created < moment


def _by_since(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:
    moment = _created(values, views)
    return lambda view: view.container.created > moment


def _by_network(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:  # noqa: ARG001 - one signature for a table
    return lambda view: not set(network_names(view.container)).isdisjoint(values)


def _port_numbers(name: str, value: str) -> set[tuple[int, str]]:
    """The ports of ``80``, ``80-90`` or ``80/udp``."""
    from pycontain.network.ports import parse_expose

    try:
        entries = parse_expose(value)
    except InvalidInput as err:
        raise InvalidInput(f"Invalid filter '{name}={value}': {err.message}") from err
    return {(int(number), protocol) for number, _, protocol in (e.partition("/") for e in entries)}


def _by_publish(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:  # noqa: ARG001 - one signature for a table
    wanted = set().union(*(_port_numbers("publish", value) for value in values))
    return lambda view: any(
        (entry.port, entry.protocol) in wanted for entry in _shown_ports(view)[0]
    )


def _by_expose(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:  # noqa: ARG001 - one signature for a table
    wanted = set().union(*(_port_numbers("expose", value) for value in values))
    return lambda view: not wanted.isdisjoint(_shown_ports(view)[1])


def _pod_names(app: App) -> dict[str, str]:
    """Return what pods are called: id → name."""
    from pycontain.pod.pods import Pods

    return Pods(app.engine).names()


def _with_ids(app: App, filters: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The filters, pods by their ids."""
    if all(name != "pod" for name, _ in filters):
        return list(filters)
    ids = {called: identity for identity, called in _pod_names(app).items()}
    return [(name, ids.get(value, value) if name == "pod" else value) for name, value in filters]


def _by_pod(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:  # noqa: ARG001 - one signature for a table
    starts = tuple(values)
    return lambda view: view.container.options.pod.startswith(starts)


def _by_volume(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:  # noqa: ARG001 - one signature for a table
    def matches(view: View) -> bool:
        container = view.container
        targets = [mount.target for mount in specs.all_mounts(container)]
        names = [*targets, *_mount_names(container)]
        return any(value in names for value in values)

    return matches


def _by_health(values: list[str], views: Sequence[View]) -> Callable[[View], bool]:  # noqa: ARG001 - one signature for a table
    for value in values:
        if value not in _VERDICTS:
            known = ", ".join(_VERDICTS)
            raise InvalidInput(f"Unrecognised filter value for health: {value}", f"one of {known}")

    def matches(view: View) -> bool:
        found = health_of(view)
        return ("none" if found is None else found.status) in values

    return matches


_REFUSED = {
    "is-task": "there are no services, so no tasks of them",
}
_FILTERS = {
    "ancestor": _by_ancestor,
    "before": _by_before,
    "exited": _by_exited,
    "expose": _by_expose,
    "health": _by_health,
    "id": _by_id,
    "label": _by_label,
    "name": _by_name,
    "network": _by_network,
    "pod": _by_pod,
    "publish": _by_publish,
    "since": _by_since,
    "status": _by_status,
    "volume": _by_volume,
}


def filtered(
    views: Sequence[View],
    filters: Sequence[tuple[str, str]],
    problems: list[PycontainError],
) -> list[View]:
    """Return the views that pass: one value of each named filter (of labels, all).

    Args:
        views: of which.
        filters: names and values.
        problems: gets an error for each of which a document that a filter asks is damaged.

    Raises:
        InvalidInput: an unknown filter or a bad value.
    """
    grouped: dict[str, list[str]] = {}
    for name, value in filters:
        if name in _REFUSED:
            raise InvalidInput(f"Invalid filter '{name}'", _REFUSED[name])
        if name not in _FILTERS:
            raise InvalidInput(f"Invalid filter '{name}'", f"there are {', '.join(_FILTERS)}")
        grouped.setdefault(name, []).append(value)
    tests = [_FILTERS[name](values, views) for name, values in grouped.items()]

    def passes(view: View) -> bool:
        try:
            return all(test(view) for test in tests)
        except PycontainError as err:
            problems.append(err)
            return False

    return [view for view in views if passes(view)]


def _selected(app: App, values: Values, problems: list[PycontainError]) -> list[View]:
    filters = _with_ids(app, values["filter"])
    last = 1 if values["latest"] else values["last"]
    every = values["all"] or last > 0 or any(name == "status" for name, _ in filters)
    # filters that name a container must find it though it does not run
    views = app.engine.containers.list(all=every or bool(filters), problems=problems)
    chosen = filtered(views, filters, problems)
    if not every:
        chosen = [view for view in chosen if view.status.state in _SHOWN]
    return chosen[:last] if last > 0 else chosen


def _image(app: App, view: View, known: dict[tuple[str, str], bool]) -> str:
    """Return what an image is called: where the name means another one by now, by its id."""
    words, identity = view.container.options.image, view.container.image_id
    key = (words, identity)
    if key not in known:
        known[key] = app.engine.images.means(words, identity)
    return words if known[key] else identity.removeprefix("sha256:")[:SHORT_ID]


def _ps(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    now = time.time_ns()
    problems: list[PycontainError] = []
    form = values["format"]
    if form and values["quiet"]:
        streams.complain("warning: --quiet is given, so --format is ignored\n")
        form = None
    # as docker: a template that names it asks for it
    sized = not values["quiet"] and (values["size"] or ".Size" in (form or ""))
    if values["size"] and not values["quiet"] and form in (None, "", "table"):
        form = f"table {LISTING.table}\t{{{{.Size}}}}"
    if values["pod"] and not values["quiet"] and form in (None, "", "table"):
        form = f"table {LISTING.table}\t{{{{.Pod}}}}\t{{{{.PodName}}}}"
    names = _pod_names(app) if ".Pod" in (form or "") else None
    rows = []
    known: dict[tuple[str, str], bool] = {}
    for view in _selected(app, values, problems):
        try:
            sizes = app.engine.containers.sizes(view.container.id) if sized else None
        except NotFound:
            continue  # removed since it was listed
        except PycontainError as err:
            problems.append(err)
            sizes = None
        try:
            fields = row(view, now, values["no-trunc"], sizes)
        except PycontainError as err:
            problems.append(err)
            continue
        if not values["quiet"]:
            fields["Image"] = _image(app, view, known)
        if names is not None:
            pod = view.container.options.pod
            fields["Pod"] = pod if values["no-trunc"] else pod[:SHORT_ID]
            fields["PodName"] = names.get(pod, "")
        rows.append(fields)
    streams.write(LISTING.render(rows, form, values["quiet"]))
    # a damaged container hides no other
    return app.report(problems)


PS = Verb(
    "ps",
    "[OPTIONS]",
    "List containers",
    _ps,
    flags=(
        switch("all", "show all containers, not just the running ones", short="a"),
        listing_filter("name=web or status=exited"),
        LISTING_FORMAT,
        Flag(
            "last",
            "show the n last created containers, in any state",
            short="n",
            metavar="n",
            convert=integer,
            default=-1,
        ),
        switch("latest", "show the latest created container, in any state", short="l"),
        switch("no-trunc", "do not truncate"),
        switch("pod", "show which pod each is in", short="p"),
        switch("quiet", "print only ids", short="q"),
        switch("size", "show what each wrote, and all that it sees", short="s"),
    ),
    most=0,
    examples=(
        ("pycontain ps -a", "all containers"),
        ("pycontain ps -aq -f status=exited", "ids of those that have ended"),
        ("pycontain ps -s", "with what each has written"),
        ("pycontain ps --format 'table {{.Names}}\\t{{.Status}}'", "two columns"),
    ),
)
