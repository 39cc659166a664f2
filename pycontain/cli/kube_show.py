"""``kube get``, ``describe`` and ``logs``: what is declared, and how it is; in kubectl's words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pycontain.cli import kube_rows, streams
from pycontain.cli.flags import Flag, UsageError, Verb, switch, tail_lines
from pycontain.cli.kube import kind_of, named, title
from pycontain.cli.pod import FAILURE
from pycontain.errors import InvalidInput, InvalidState, NotFound, PycontainError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.kube_describe import Told
    from pycontain.cli.main import App
    from pycontain.model import kube
    from pycontain.model.event import Event
    from pycontain.model.kube_status import DeploymentStatus, PodStatus
    from pycontain.pod.controllers import PodOf
    from pycontain.pod.declared import Declared
    from pycontain.pod.observed import PodSeen

_ALL = ("Pod", "Deployment")
"""Kinds that ``all`` stands for, as far as there are they: no configuration."""
_OUTPUTS = ("wide", "json", "yaml", "name")
_LOOK = 1000.0
"""Milliseconds until what nobody told of is looked at."""
_MOST_EVENTS = 20
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
"""Annotation of a pod: which of its containers is meant where none is named."""


# ---- looking ----


class _Looker:
    """What is declared in a store, and how it is now."""

    def __init__(self, app: App) -> None:
        from pycontain.pod.declared import Declarations

        self.engine = app.engine
        self.declarations = Declarations(self.engine.layout)

    @property
    def node(self) -> str:
        import socket

        return socket.gethostname()

    def seen(self, declared: Declared) -> PodSeen:
        from pycontain.pod import controllers, observed

        problem = self.declarations.problem(declared)
        found = observed.look(self.engine, declared, problem)
        if not (found.stopped or controllers.is_finished(declared, found)):
            self.declarations.see_kept()
        return found

    def pod(self, declared: Declared) -> PodStatus:
        from pycontain.network import outside
        from pycontain.pod.status import status

        return status(declared, self.seen(declared), outside.host_address())

    def pods_of(self, declared: Declared) -> list[PodOf]:
        from pycontain.pod.controllers import PodOf

        several = self.declarations.list("Pod")
        return [PodOf(one, self.seen(one)) for one in several if declared.owns(one)]

    def deployment(self, declared: Declared, now: int) -> DeploymentStatus:
        from pycontain.pod.status import deployment_status

        self.declarations.see_kept()
        problem = self.declarations.problem(declared)
        said = problem.message if problem else ""
        return deployment_status(declared, self.pods_of(declared), now, said)

    def is_bound(self, declared: Declared) -> bool:
        return self.engine.volumes.exists(declared.name)

    def row(self, declared: Declared, now: int) -> tuple[str, ...]:
        """The cells of an object."""
        if declared.kind == "Pod":
            return kube_rows.pod_row(declared, self.pod(declared), self.node, now)
        if declared.kind == "Deployment":
            status = self.deployment(declared, now)
            return kube_rows.deployment_row(declared, declared.deployment, status, now)
        if declared.kind == "PersistentVolumeClaim":
            return kube_rows.claim_row(declared, bound=self.is_bound(declared), now=now)
        return kube_rows.data_row(declared, now)

    def document(self, declared: Declared) -> dict[str, Any]:
        """An object with what is known of it, as the API has it."""
        from pycontain.pod import status, writing

        found = _of_server(writing.document(declared.object), declared.object)
        found["metadata"] = {**found["metadata"], **status.metadata(declared)}
        said = self._status(declared)
        return {**found, "status": said} if said else found

    def _status(self, declared: Declared) -> dict[str, Any]:
        import msgspec

        if declared.kind == "Pod":
            found: dict[str, Any] = msgspec.to_builtins(self.pod(declared))
        elif declared.kind == "Deployment":
            found = msgspec.to_builtins(self.deployment(declared, time.time_ns()))
        elif declared.kind == "PersistentVolumeClaim":
            found = {"phase": "Bound" if self.is_bound(declared) else "Pending"}
        else:
            return {}
        return found


def _of_server(document: dict[str, Any], one: kube.Object) -> dict[str, Any]:
    """A Secret's texts are data like the others: ``stringData`` is for writing only."""
    from pycontain.model.kube import Secret

    if not isinstance(one, Secret) or "stringData" not in document:
        return document
    import base64

    from pycontain.pod import configs

    data = {key: base64.b64encode(text).decode() for key, text in configs.contents(one).items()}
    del document["stringData"]
    return {**document, "data": data}


# ---- get ----


class _Asked(NamedTuple):
    """What a command line of ``get`` asks for.

    Attributes:
        kinds: whole lists of these; empty where `names` are asked for.
        names: kinds and names.
        single: one object, which is no list.
    """

    kinds: tuple[str, ...]
    names: tuple[tuple[str, str], ...]
    single: bool


def _asked(arguments: Sequence[str]) -> _Asked:
    if not arguments or list(arguments) == ["all"]:
        return _Asked(_ALL, (), single=False)
    if any("/" in word for word in arguments) or len(arguments) > 1:
        names = tuple(dict.fromkeys(named(arguments)))
        return _Asked((), names, single=len(names) == 1)
    return _Asked(tuple(dict.fromkeys(map(kind_of, arguments[0].split(",")))), (), single=False)


class _Get:
    """One ``get``."""

    def __init__(self, app: App, values: Values, arguments: list[str]) -> None:
        self.looker = _Looker(app)
        self.asked = _asked(arguments)
        self.output: str = values["output"] or ""
        self.selector: kube.LabelSelector | None = values["selector"]
        if self.selector is not None and self.asked.names:
            raise UsageError("names and --selector: give one of them")
        self.problems: list[PycontainError] = []
        self._widest: dict[str, tuple[str, ...]] = {}

    def objects(self) -> Iterator[Declared]:
        for kind, name in self.asked.names:
            try:
                yield self.looker.declarations.get(kind, name)
            except PycontainError as err:
                self.problems.append(err)
        for kind in self.asked.kinds:
            found = self.looker.declarations.list(kind, self.problems)
            yield from (one for one in found if self._is_meant(one))

    def _is_meant(self, declared: Declared) -> bool:
        from pycontain.pod import selectors

        labels = declared.object.metadata.labels
        return self.selector is None or selectors.selects(self.selector, labels)

    def rows(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Cells by kind and name."""
        now = time.time_ns()
        found: dict[str, dict[str, tuple[str, ...]]] = {}
        for one in self.objects():
            try:
                found.setdefault(one.kind, {})[one.name] = self.looker.row(one, now)
            except NotFound:
                continue  # taken back meanwhile
            except PycontainError as err:
                self.problems.append(err)
        return found

    # -- writing --

    def write(self) -> None:
        if self.output == "name":
            lines = (f"{title(one.kind, one.name)}\n" for one in self.objects())
            streams.write("".join(lines))
        elif self.output in ("json", "yaml"):
            self._write_documents()
        else:
            self._write_tables(self.rows())

    def _write_documents(self) -> None:
        documents = [*self._documents()]
        if self.asked.single and not documents:
            return
        whole: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "items": documents}
        value = documents[0] if self.asked.single else whole
        if self.output == "json":
            from pycontain.cli.output import pretty_json

            streams.write(pretty_json(value))
        else:
            from pycontain.pod import writing

            streams.write(writing.text([value]))

    def _documents(self) -> Iterator[dict[str, Any]]:
        for one in self.objects():
            try:
                yield self.looker.document(one)
            except NotFound:
                continue  # taken back meanwhile
            except PycontainError as err:
                self.problems.append(err)

    def _write_tables(self, found: dict[str, dict[str, tuple[str, ...]]]) -> None:
        if not found and not self.problems:
            streams.complain("No resources found\n")
        texts = [self._table(kind, list(rows.values()), len(found)) for kind, rows in found.items()]
        streams.write("\n".join(texts))

    def _table(
        self, kind: str, rows: Sequence[tuple[str, ...]], kinds: int, *, heading: bool = True
    ) -> str:
        from pycontain.cli.output import align, width

        headings = kube_rows.TABLES[kind].headings
        if kinds > 1 or len(self.asked.kinds) > 1:
            rows = [(title(kind, row[0]), *row[1:]) for row in rows]
        lines = [line[: self._columns(kind)] for line in ([headings] if heading else []) + [*rows]]
        # What follows later is in the same columns.
        before = self._widest.get(kind, ("",) * len(lines[0]))
        widest = tuple(max(cells, key=width) for cells in zip(before, *lines, strict=True))
        self._widest[kind] = widest
        text = align(("\t".join(line) for line in (widest, *lines)), least=0)
        return text.partition("\n")[2]

    def _columns(self, kind: str) -> int:
        table = kube_rows.TABLES[kind]
        return len(table.headings) if self.output == "wide" else table.narrow

    # -- watching --

    def watch(self) -> None:
        """Write rows as they change, until the command is ended or cannot look any more."""
        from pycontain.engine.cancel import wait_readable
        from pycontain.kernel.inotify import FolderWatch
        from pycontain.store import files

        folder = self.looker.engine.layout.events
        files.make_folders(folder)
        watch = FolderWatch(folder)
        try:
            before = self.rows()
            self._write_tables(before)
            streams.flush()
            while not self.problems:
                wait_readable((watch.fileno(),), _LOOK)
                watch.clear()
                before = self._write_changes(before)
        finally:
            watch.close()

    def _write_changes(
        self, before: dict[str, dict[str, tuple[str, ...]]]
    ) -> dict[str, dict[str, tuple[str, ...]]]:
        found = self.rows()
        for kind, rows in found.items():
            known = before.get(kind, {})
            changed = [
                row for name, row in rows.items()
                if name not in known or self._shown(known[name], kind) != self._shown(row, kind)
            ]  # fmt: skip
            if changed:
                new = kind not in before
                streams.write(self._table(kind, changed, len(found), heading=new))
        streams.flush()
        return {**before, **found}

    def _shown(self, row: tuple[str, ...], kind: str) -> tuple[str, ...]:
        """What of a row is seen to change."""
        return kube_rows.lasting(row[: self._columns(kind)], kind)


def _get(app: App, values: Values, arguments: list[str]) -> int:
    get = _Get(app, values, arguments)
    if values["watch"]:
        if get.output not in ("", "wide"):
            raise UsageError("--watch is for tables")
        get.watch()
    else:
        get.write()
    return FAILURE if app.report(get.problems) else 0


def _output(text: str) -> str:
    if text not in _OUTPUTS:
        raise InvalidInput(f"there are {', '.join(_OUTPUTS)}")
    return text


# ---- describe ----


class _Describer:
    """Descriptions of objects."""

    def __init__(self, app: App) -> None:
        self.looker = _Looker(app)

    def text(self, declared: Declared) -> str:
        """The description of one object."""
        from pycontain.cli import kube_describe

        if declared.kind == "Pod":
            status, node = self.looker.pod(declared), self.looker.node
            return kube_describe.pod(declared, status, node, self._told_of_pod(declared))
        if declared.kind == "Deployment":
            return self._deployment(declared)
        if declared.kind == "PersistentVolumeClaim":
            bound = self.looker.is_bound(declared)
            return kube_describe.claim(declared, bound=bound, users=self._users(declared.name))
        return kube_describe.data(declared)

    def _deployment(self, declared: Declared) -> str:
        from pycontain.cli import kube_describe

        now = time.time_ns()
        status = self.looker.deployment(declared, now)
        lines = [self._line(pod.declared, now) for pod in self.looker.pods_of(declared)]
        told = self._told(lambda event: event.id == declared.uid)
        return kube_describe.deployment(declared, declared.deployment, status, lines, told)

    def _line(self, declared: Declared, now: int) -> str:
        name, ready, word, restarts, *_ = self.looker.row(declared, now)
        return f"{name}  {ready} {word}, {restarts.partition(' ')[0]} restarts"

    def _users(self, claim: str) -> list[str]:
        from pycontain.pod import claims

        return [
            one.name
            for one in self.looker.declarations.list("Pod")
            if claim in claims.names_of(one.pod)
        ]

    # -- events --

    def _told_of_pod(self, declared: Declared) -> list[Told]:
        seen = self.looker.seen(declared)
        ids = {declared.uid, seen.id, *(one.id for one in seen.containers.values())}
        return self._told(lambda event: event.id in ids)

    def _told(self, is_meant: Callable[[Event], bool]) -> list[Told]:
        """The newest events, oldest first; what a probe runs each time is none of them."""
        from collections import deque

        from pycontain.cli.kube_describe import Told, told_age

        with self.looker.engine.events.read(follow=False) as stream:
            meant = (one for one in stream if is_meant(one) and not one.verb.startswith("exec_"))
            newest = deque(meant, _MOST_EVENTS)
        now = time.time_ns()
        return [
            Told(told_age(one.time, now), _subject(one), one.action, _message(one))
            for one in newest
        ]


def _subject(event: Event) -> str:
    from pycontain.pod.plan import CONTAINER_LABEL

    said = event.attributes
    if event.type == "kube":
        return str(said.get("kind", ""))
    name = said.get(CONTAINER_LABEL, said.get("name", "")) if event.type == "container" else ""
    return f"{event.type} {name}".rstrip()


def _message(event: Event) -> str:
    said = event.attributes
    words = [said[key] for key in ("probe", "message") if said.get(key)]
    if "exitCode" in said:
        words.append(f"exit code {said['exitCode']}")
    if "signal" in said:
        words.append(f"signal {said['signal']}")
    return ": ".join(words)


def _describe(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    describer = _Describer(app)
    declarations = describer.looker.declarations
    if len(arguments) == 1 and "/" not in arguments[0]:
        wanted = [(one.kind, one.name) for one in declarations.list(kind_of(arguments[0]))]
    else:
        wanted = named(arguments)
    names = {title(*one): one for one in wanted}
    written = 0

    def act(shown: str) -> None:
        nonlocal written
        text = describer.text(declarations.get(*names[shown]))
        streams.write(f"\n\n{text}" if written else text)
        written += 1

    return FAILURE if app.each(list(names), act) else 0


# ---- logs ----


class _Chosen(NamedTuple):
    """A container whose log is wanted."""

    pod: str
    name: str
    id: str


def _logs(app: App, values: Values, arguments: list[str]) -> int:
    from pycontain.cli import log_streams
    from pycontain.model.parse.times import parse_time

    if values["container"] is not None and values["all-containers"]:
        raise UsageError("--container and --all-containers: give one of them")
    looker = _Looker(app)
    chosen = _chosen(looker, _pod_of(looker, arguments[0]), values)
    since = values["since"]
    how = {
        "follow": values["follow"],
        "tail": values["tail"],
        "since": parse_time(since, time.time_ns(), "--since") if since else None,
    }
    sources = [
        (
            f"[pod/{one.pod}/{one.name}] " if values["prefix"] else "",
            app.engine.containers.logs(one.id, **how),
        )
        for one in chosen
    ]
    log_streams.write(sources, follow=values["follow"], stamps=values["timestamps"])
    return 0


def _pod_of(looker: _Looker, word: str) -> Declared:
    """The pod that an argument names: ``web``, ``pod/web``, or one of ``deployment/web``."""
    kind, name = named([word])[0] if "/" in word else ("Pod", word)
    if kind not in _ALL:
        raise InvalidInput(f"{title(kind, name)} has no logs")
    declared = looker.declarations.get(kind, name)
    if kind == "Pod":
        return declared
    pods = looker.pods_of(declared)
    if not pods:
        raise InvalidState(f"{title(kind, name)} has no pod now")
    first = next((pod for pod in pods if not pod.declared.deleted), pods[0]).declared
    if len(pods) > 1:
        streams.complain(f"Found {len(pods)} pods, using pod/{first.name}\n")
    return first


def _chosen(looker: _Looker, declared: Declared, values: Values) -> list[_Chosen]:
    """The containers of a pod whose logs are wanted; of one that was named there must be one."""
    spec = declared.pod.spec
    names = [one.name for one in (*spec.init_containers, *spec.containers)]
    wanted = names
    if values["container"] is not None:
        wanted = [values["container"]]
    elif not values["all-containers"]:
        wanted = [_default_container(declared, names)]
    seen = looker.seen(declared).containers
    found = []
    for name in wanted:
        if name not in seen:
            raise NotFound(
                f"container {name} is not in pod {declared.name}", f"there are {', '.join(names)}"
            )
        one = seen[name]
        if one.id and (one.state != "created" or values["follow"] or values["all-containers"]):
            found.append(_Chosen(declared.name, name, one.id))
        elif not values["all-containers"]:
            what = "has not been started yet" if one.id else "is not there yet"
            raise InvalidState(
                f"container {name} of pod {declared.name} {what}",
                f"pycontain kube describe pod {declared.name} shows what it waits for",
            )
    return found


def _default_container(declared: Declared, names: Sequence[str]) -> str:
    """The container that a pod says is its main one, as kubectl has it, or its first one."""
    first, *others = (one.name for one in declared.pod.spec.containers)
    said = declared.object.metadata.annotations.get(_DEFAULT_CONTAINER)
    if said is not None:
        if said in names:
            return said
        streams.complain(f"Default container {said} is not in pod {declared.name}\n")
    if others:
        streams.complain(f"Defaulted container {first} out of: {', '.join((first, *others))}\n")
    return first


GET = Verb(
    "get",
    "[OPTIONS] [KIND [NAME...]|KIND/NAME...]",
    "List what is declared, and how it is",
    _get,
    flags=(
        Flag(
            "output",
            "more columns (wide), json, yaml, or name",
            short="o",
            metavar="|".join(_OUTPUTS),
            convert=_output,
        ),
        Flag(
            "selector",
            "only what has these labels, as app=web,tier!=db",
            short="l",
            metavar="selector",
            convert=kube_rows.selector,
        ),
        switch("watch", "go on, and write what changes", short="w"),
    ),
    failure=FAILURE,
    examples=(
        ("pycontain get", "pods and deployments"),
        ("pycontain get -o wide pods", "pods, with their addresses"),
        ("pycontain get -o yaml deploy/web", "one object, with its status"),
    ),
)

DESCRIBE = Verb(
    "describe",
    "KIND [NAME...]|KIND/NAME...",
    "Show what is declared, how it is, and what has happened to it",
    _describe,
    least=1,
    failure=FAILURE,
    examples=(("pycontain describe pod web", "conditions, containers, volumes, events"),),
)

LOGS = Verb(
    "logs",
    "[OPTIONS] POD|KIND/NAME",
    "Fetch the logs of a declared pod",
    _logs,
    flags=(
        switch("all-containers", "of all containers, those of init too"),
        Flag("container", "of this one", short="c", metavar="name"),
        switch("follow", "wait for more until the containers end", short="f"),
        switch("prefix", "begin each line with its pod and container"),
        Flag("since", "show what came after this time, as 42m or a date", metavar="time"),
        Flag(
            "tail",
            "number of lines from the end of each, -1 for all",
            metavar="n",
            convert=tail_lines,
        ),
        switch("timestamps", "show when each line came"),
    ),
    least=1,
    most=1,
    failure=FAILURE,
    examples=(
        ("pycontain logs -f web", "of its first container"),
        ("pycontain logs --all-containers --prefix deploy/web", "of a pod of a deployment"),
    ),
)
