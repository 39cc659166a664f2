"""``events``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pycontain.cli import output, streams
from pycontain.cli.flags import Flag, Refused, Verb, listing_filter
from pycontain.cli.template import GoMap, Template, to_json
from pycontain.errors import InvalidInput
from pycontain.model.parse.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.model.event import Event

_KIND = "*events.Message"


def _moment(values: Values, name: str, now: int) -> int | None:
    word: str | None = values[name] or None
    return None if word is None else parse_time(word, now, f"--{name}")


def _filters(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _local(moment: int) -> str:
    """Return nanoseconds since the epoch in the caller's zone, RFC 3339 with all nine digits."""
    seconds, rest = divmod(moment, output.SECOND)
    then = time.localtime(seconds)
    offset = then.tm_gmtoff // 60
    sign = "-" if offset < 0 else "+"
    zone = f"{sign}{abs(offset) // 60:02}:{abs(offset) % 60:02}" if offset else "Z"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', then)}.{rest:09d}{zone}"


def line(event: Event) -> str:
    """Return an event as docker prints it, without a newline."""
    head = f"{_local(event.time)} {event.type} {event.action} {event.id}"
    said = event.attributes
    pairs = ", ".join(f"{name}={said[name]}" for name in sorted(said))
    return f"{head} ({pairs})" if pairs else head


def document(event: Event) -> dict[str, Any]:
    """Return an event as docker's API has it."""
    source = event.attributes.get("image", "") if event.type == "container" else ""
    return {
        "status": event.action,
        "id": event.id,
        **({"from": source} if source else {}),
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": GoMap(event.attributes)},
        "scope": "local",
        "time": event.time // output.SECOND,
        "timeNano": event.time,
    }


class _Message(dict[str, Any]):
    """An event in a template: fields by Go's names; ``json`` shows those of the API.

    docker's type has other names in JSON than in templates: ``status`` is ``.Status``.
    """

    def __init__(self, event: Event) -> None:
        found = document(event)
        super().__init__(found)
        self.fields = {
            "Status": event.action,
            "ID": event.id,
            "From": found.get("from", ""),
            "Scope": "local",
            "Time": found["time"],
            "TimeNano": event.time,
            **{name: found[name] for name in ("Type", "Action", "Actor")},
        }

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def __getitem__(self, name: str) -> Any:
        return self.fields[name] if name in self.fields else super().__getitem__(name)


def _renderer(form: str | None) -> Callable[[Event], str]:
    if not form:
        return lambda event: streams.harmless(line(event))
    if form == "json":
        return lambda event: to_json(document(event))
    try:
        template = Template(form, _KIND)
    except InvalidInput as err:
        raise _bad_format(err) from err

    def render(event: Event) -> str:
        try:
            return template.render(_Message(event))
        except InvalidInput as err:
            raise _bad_format(err) from err

    return render


def _bad_format(err: InvalidInput) -> Refused:
    return Refused(err.message, err.hint, 64)


def _check_fields(render: Callable[[Event], str]) -> None:
    """A field that no event has is refused before the first one comes, as docker does."""
    from pycontain.model.event import Event

    render(Event(time=0, type="container", action="", id=""))


def _events(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    now = time.time_ns()
    render = _renderer(values["format"])
    _check_fields(render)
    since, until = _moment(values, "since", now), _moment(values, "until", now)
    filters = _filters(values["filter"])
    with app.engine.events.read(since=since, until=until, filters=filters) as stream:
        for event in stream:
            streams.write(f"{render(event)}\n")
            # whoever reads a pipe sees each when it happens
            streams.flush()
    return 0


EVENTS = Verb(
    "events",
    "[OPTIONS]",
    "Get events of containers and images as they happen",
    _events,
    flags=(
        listing_filter("container=web or event=die"),
        Flag("format", "format the output: 'json' or a Go template", metavar="format"),
        Flag("since", "begin with this time, as 42m or a date", metavar="time"),
        Flag("until", "end at this time, as 42m or a date", metavar="time"),
    ),
    most=0,
    examples=(
        ("pycontain events", "what happens from now on, until Ctrl-C"),
        ("pycontain events --since 1h --until 0s -f event=die", "who died in the last hour"),
        ("pycontain events -f label=app=web --format json", "one JSON object a line"),
    ),
)
