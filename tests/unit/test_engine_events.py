"""Events: their forms, filters, and reading them from a journal."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pycontain.cli import events as cli
from pycontain.cli.template import Template, to_json
from pycontain.engine.cancel import Cancel
from pycontain.engine.events import (
    Events,
    attributes,
    command_words,
    decode,
    quoted,
    write_about,
)
from pycontain.errors import InvalidInput
from pycontain.model.container import Container, ImageConfig, RunOptions
from pycontain.model.event import Event
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

WEB = "a1" * 32
DB = "b2" * 32


def container(name: str = "web", identity: str = WEB, **options: Any) -> Container:
    return Container(
        id=identity, name=name, created=1, options=RunOptions(image="busybox", **options),
        image_id="sha256:00", layers=(), config=ImageConfig(), command=("true",), stop_signal=15,
        stop_timeout=10,
    )  # fmt: skip


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    made.prepare()
    return made


@pytest.fixture
def events(layout: Layout) -> Events:
    return Events(layout)


def actions(events: Events, **how: Any) -> list[str]:
    with events.read(follow=False, **how) as stream:
        return [event.action for event in stream]


def test_what_was_told_is_read(events: Events) -> None:
    before = time.time_ns()
    events.tell("kill", container(labels={"app": "x y"}), signal="9")
    with events.read(follow=False) as stream:
        (event,) = stream
    assert before <= event.time <= time.time_ns()
    assert (event.type, event.action, event.id) == ("container", "kill", WEB)
    said = {"app": "x y", "image": "busybox", "name": "web", "signal": "9"}
    assert event.attributes == said


@pytest.mark.parametrize("text", ['"', "\\", "\n", "\u2028", "ä", "\x00", '{"time":1,"type":"x"}'])
def test_any_text_stays_on_one_line(events: Events, text: str) -> None:
    events.tell(f"exec_create: {text}", container(labels={text: text}))
    events.tell("die", container())
    with events.read(follow=False) as stream:
        first, second = stream
    assert first.action == f"exec_create: {text}"
    assert first.attributes[text] == text
    assert second.action == "die"


def test_the_name_wins_over_a_label_of_that_name() -> None:
    found = attributes(container(labels={"name": "other", "image": "other"}))
    assert (found["name"], found["image"]) == ("web", "busybox")


def test_labels_of_any_size_make_no_endless_line(layout: Layout, events: Events) -> None:
    labels = {f"label-{number}": "x" * 1000 for number in range(100)}
    found = attributes(container(labels=labels))
    assert 20 < len(found) < 50
    assert found["name"] == "web"
    paths = layout.container(WEB)
    os.mkdir(paths.state_folder)
    write_about(paths, container(labels=labels))
    with open(paths.event, "rb") as file:
        assert len(file.read()) < 64 << 10


def test_a_command_is_text_and_bounded() -> None:
    assert command_words(("sh", "-c", "a b")) == "sh -c a b"
    assert len(command_words(("x" * 100_000,))) == 4096
    assert command_words(("\udcff",)) == "\ufffd"


def test_whom_a_monitor_tells_of_completes_to_a_line(layout: Layout) -> None:
    paths = layout.container(WEB)
    os.mkdir(paths.state_folder)
    write_about(paths, container(labels={"a": 'b"'}))
    with open(paths.event, encoding="utf-8") as file:
        about = file.read()
    action = quoted('exec_start: echo "x"')
    line = f'{{"time":5,"type":"container","action":"{action}",{about},"exitCode":"0"}}}}'
    assert decode(line.encode()) == Event(
        time=5, type="container", action='exec_start: echo "x"', id=WEB,
        attributes={"a": 'b"', "image": "busybox", "name": "web", "exitCode": "0"},
    )  # fmt: skip


def test_a_torn_line_hides_no_other(layout: Layout, events: Events) -> None:
    path = f"{layout.events}/journal"
    events.tell("one", container())
    whole = open(path, "rb").read()  # noqa: SIM115
    for cut in (1, 8, 40, len(whole) - 2):
        with open(path, "wb") as file:
            # Torn, and the next one behind it without a newline; torn, and the next mends it.
            file.write(whole[:cut] + whole + whole[:cut])
        events.tell("two", container())
        assert actions(events) == ["one", "two"], cut


@pytest.mark.parametrize(
    "line", [b"", b"x", b"{}", b"[]", b'{"time":1}', b'{"time":"x","type":1}', b"\xff"]
)
def test_a_line_that_is_none_is_no_event(line: bytes) -> None:
    assert decode(line) is None


# ---- filters ----


@pytest.fixture
def told(events: Events) -> Events:
    web = container(labels={"app": "web", "tier": ""})
    events.tell("create", web)
    events.tell("exec_create: echo x", web)
    events.tell("create", container("db", DB, labels={"app": "db"}))
    events.tell("die", web)
    events.tell_image("build", "sha256:cd", "busybox:latest")
    return events


ALL = ["create", "exec_create: echo x", "create", "die", "build"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ALL),
        ({"type": ["image"]}, ["build"]),
        ({"type": ["image", "container"]}, ALL),
        ({"type": ["nosuch"]}, []),
        ({"event": ["create"]}, ["create", "create"]),
        ({"event": ["create", "die"]}, ["create", "create", "die"]),
        ({"event": ["exec_create"]}, ["exec_create: echo x"]),
        ({"event": ["exec_create: echo x"]}, ["exec_create: echo x"]),
        ({"event": ["exec"]}, []),
        ({"container": ["db"]}, ["create"]),
        ({"container": ["/web"]}, ["create", "exec_create: echo x", "die"]),
        ({"container": [DB[:5]]}, ["create"]),
        ({"container": ["db"], "event": ["die"]}, []),
        ({"container": ["busybox"]}, []),
        ({"image": ["busybox"]}, ALL),
        ({"image": ["busybox:latest"]}, ["build"]),
        ({"image": ["sha256:cd"]}, ["build"]),
        ({"image": [WEB]}, []),
        ({"label": ["app"]}, ALL[:4]),
        ({"label": ["app=web"]}, ["create", "exec_create: echo x", "die"]),
        ({"label": ["app=web", "tier"]}, ["create", "exec_create: echo x", "die"]),
        ({"label": ["app=db", "tier"]}, []),
        ({"label": ["tier="]}, ["create", "exec_create: echo x", "die"]),
        ({"scope": ["local"]}, ALL),
        ({"scope": ["swarm"]}, []),
    ],
)
def test_filters(told: Events, filters: dict[str, list[str]], expected: list[str]) -> None:
    assert actions(told, filters=filters) == expected


def test_an_unknown_filter_is_refused(events: Events) -> None:
    with pytest.raises(InvalidInput, match="nosuch"):
        events.read(filters={"nosuch": ["x"]})


def test_times_bound_both_ends(told: Events) -> None:
    with told.read(follow=False) as stream:
        times = [event.time for event in stream]
    assert actions(told, since=times[3]) == ALL[3:]
    assert actions(told, until=times[1]) == ALL[:2]
    assert actions(told, since=times[1], until=times[2]) == ALL[1:3]
    assert actions(told, until=1) == []
    with pytest.raises(InvalidInput, match="cannot be after"):
        told.read(since=2, until=1)


def test_what_was_told_already(told: Events) -> None:
    assert told.was_told("die", WEB, 0)
    assert told.was_told("exec_create", WEB, 0)
    assert not told.was_told("die", DB, 0)
    assert not told.was_told("die", WEB, time.time_ns())


# ---- following ----


def test_a_follower_sees_what_comes_and_ends_at_its_time(told: Events) -> None:
    stream = told.read()
    told.tell("stop", container())
    assert next(stream).action == "stop"
    told.tell("start", container())
    assert next(stream).action == "start"
    stream.close()
    late = told.read(until=time.time_ns() + 200_000_000)
    assert [event.action for event in late] == [*ALL, "stop", "start"]


def test_a_follower_can_be_cancelled(told: Events) -> None:
    cancel = Cancel()
    stream = told.read(since=0, cancel=cancel)
    assert next(stream).action == "create"
    cancel.set()
    assert [event.action for event in stream] == ALL[1:]
    cancel.close()


# ---- on the command line ----

EVENT = Event(
    time=1_700_000_000_000_000_005, type="container", action="die", id=WEB,
    attributes={"name": "web", "image": "busybox", "exitCode": "0"},
)  # fmt: skip


def test_the_line_is_dockers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    said = "(exitCode=0, image=busybox, name=web)"
    assert cli.line(EVENT) == f"2023-11-14T22:13:20.000000005Z container die {WEB} {said}"
    monkeypatch.setenv("TZ", "XXX-05:30")
    time.tzset()
    assert cli.line(EVENT).startswith("2023-11-15T03:43:20.000000005+05:30 container")
    monkeypatch.undo()
    time.tzset()


def test_the_document_is_dockers() -> None:
    assert msgspec.json.decode(to_json(cli.document(EVENT))) == {
        "status": "die", "id": WEB, "from": "busybox", "Type": "container", "Action": "die",
        "Actor": {"ID": WEB, "Attributes": EVENT.attributes}, "scope": "local",
        "time": 1_700_000_000, "timeNano": EVENT.time,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("{{.Status}} {{.ID}} {{.From}}", f"die {WEB} busybox"),
        ("{{.Type}} {{.Action}} {{.Scope}}", "container die local"),
        ("{{.Actor.ID}} {{.Actor.Attributes.name}}", f"{WEB} web"),
        ("{{.Actor.Attributes.nosuch}}", "<no value>"),
        ("{{.Time}} {{.TimeNano}}", "1700000000 1700000000000000005"),
        ('{{index .Actor.Attributes "exitCode"}}', "0"),
        ("{{json .Actor.Attributes.image}}", '"busybox"'),
        ("{{json .}}", to_json(cli.document(EVENT))),
    ],
)
def test_templates(form: str, expected: str) -> None:
    assert Template(form).render(cli._Message(EVENT)) == expected
