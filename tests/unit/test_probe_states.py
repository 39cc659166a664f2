"""What probes come to and when they are made, hooks that have ended, CrashLoopBackOff: by value."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.engine import actions, hooks, probes, records, supervision
from pycontain.engine.containers import View
from pycontain.errors import InvalidInput
from pycontain.kernel import process
from pycontain.model.container import (
    Container,
    ExitRecord,
    ImageConfig,
    RestartPolicy,
    RestartRecord,
    RunOptions,
)
from pycontain.model.health import Probe
from pycontain.model.probe import (
    ExecAction,
    Hooks,
    HttpAction,
    ProbeCheck,
    ProbeRecord,
    Probes,
    SleepAction,
    Streak,
    TcpAction,
)
from pycontain.model.status import Status
from pycontain.store.layout import Layout
from pycontain.supervisor.probes import KINDS, after, next_probe
from pycontain.supervisor.restarts import Leave, Restart, after_failure, delay, next_step

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 1_000_000_000
STARTED = 1000 * SECOND
RUN = "1" * 16
TRUE = ExecAction(command=("true",))
Kind = Literal["startup", "liveness", "readiness"]


def check(**more: Any) -> ProbeCheck:
    return ProbeCheck(**{"action": TRUE, **more})


def container(**options: Any) -> Container:
    return Container(
        id="c" * 64, name="c", created=0, options=RunOptions(image="busybox", **options),
        image_id="", layers=(), config=ImageConfig(), command=("true",), stop_signal=15,
        stop_timeout=10,
    )  # fmt: skip


def probe(good: bool, at: int = 0) -> Probe:
    """One that was made `at` seconds after the start, and took one."""
    start = STARTED + at * SECOND
    said = "" if good else f"no {at}"
    return Probe(start=start, end=start + SECOND, code=0 if good else 1, output=said)


def follow(asked: Probes, series: list[tuple[Kind, bool]]) -> ProbeRecord:
    """What is known after these probes, a second each."""
    record = probes.begin(container(probes=asked), RUN)
    for at, (kind, good) in enumerate(series):
        record = after(asked, kind, probe(good, at), record)
    return record


# ---- after a probe ----


@pytest.mark.parametrize(
    ("found", "ready"),
    [
        ("", False), ("s", False), ("ss", True), ("sfss", True), ("sfs", False), ("ssf", True),
        ("ssff", True), ("ssfff", False), ("ssffsff", True), ("ssfffs", False), ("ssfffss", True),
        ("fffff", False),
    ],
)  # fmt: skip
def test_readiness_comes_and_goes_with_its_thresholds(found: str, ready: bool) -> None:
    asked = Probes(readiness=check(successes=2, failures=3))
    record = follow(asked, [("readiness", letter == "s") for letter in found])
    assert (record.started, record.ready, record.failed) == (True, ready, "")


def test_since_is_the_moment_of_the_change() -> None:
    asked = Probes(readiness=check(failures=1))
    assert follow(asked, [("readiness", False)]).since == 0
    ready = follow(asked, [("readiness", False), ("readiness", True), ("readiness", True)])
    assert ready.since == STARTED + 2 * SECOND
    unready = follow(asked, [("readiness", True), ("readiness", False), ("readiness", False)])
    assert (unready.since, unready.message) == (
        STARTED + 2 * SECOND,
        "readiness probe failed: no 2",
    )


@pytest.mark.parametrize("kind", ["startup", "liveness"])
def test_so_many_failures_in_a_row_end_it(kind: Kind) -> None:
    asked = Probes(**{kind: check(failures=3)})
    assert follow(asked, [(kind, False)] * 2).failed == ""
    record = follow(asked, [(kind, False)] * 3)
    assert (record.failed, record.ready) == (kind, False)
    if kind == "liveness":
        found = [False, False, True, False, False]
        assert follow(asked, [(kind, good) for good in found]).failed == ""


def test_startup_comes_before_the_others() -> None:
    asked = Probes(startup=check(failures=30), liveness=check(), readiness=check())
    record = follow(asked, [])
    assert (record.started, record.ready) == (False, False)
    due = [next_probe(asked, kind, record, STARTED) for kind in KINDS]
    assert due == [(STARTED, 0), None, None]
    record = follow(asked, [("startup", False), ("startup", True)])
    assert (record.started, record.ready) == (True, False)
    due = [next_probe(asked, kind, record, STARTED) for kind in KINDS]
    assert due == [None, (STARTED, 0), (STARTED, 0)]
    assert follow(Probes(startup=check()), [("startup", True)]).ready


def test_when_probes_are_due() -> None:
    asked = Probes(liveness=check(initial_delay=7, period=4, failures=1))
    record = follow(asked, [])
    assert next_probe(asked, "liveness", record, STARTED) == (STARTED, 7 * SECOND)
    record = after(asked, "liveness", probe(True, 9), record)
    assert next_probe(asked, "liveness", record, STARTED) == (STARTED + 9 * SECOND, 4 * SECOND)
    record = after(asked, "liveness", probe(False, 13), record)
    assert next_probe(asked, "liveness", record, STARTED) is None


def test_a_message_is_that_of_the_newest_failure_until_its_kind_succeeds() -> None:
    asked = Probes(liveness=check(), readiness=check())
    record = follow(asked, [("liveness", False), ("readiness", True)])
    assert record.message == "liveness probe failed: no 0"
    assert follow(asked, [("liveness", False), ("liveness", True)]).message == ""


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_any_series_of_readiness(found: list[bool], successes: int, failures: int) -> None:
    asked = Probes(readiness=check(successes=successes, failures=failures))
    record = follow(asked, [("readiness", good) for good in found])
    expected = False
    for end in range(1, len(found) + 1):
        if end >= successes and all(found[end - successes : end]):
            expected = True
        if end >= failures and not any(found[end - failures : end]):
            expected = False
    assert record.ready == expected
    assert record.failed == ""


@given(st.lists(st.tuples(st.sampled_from(get_args(Kind)), st.booleans()), max_size=60))
def test_any_series_of_all_kinds(found: list[tuple[Kind, bool]]) -> None:
    asked = Probes(
        startup=check(failures=2), liveness=check(failures=3), readiness=check(failures=2)
    )
    record, made = probes.begin(container(probes=asked), RUN), 0
    for at, (kind, good) in enumerate(found):
        if next_probe(asked, kind, record, STARTED) is None:
            continue
        before = record
        record, made = after(asked, kind, probe(good, at), record), made + 1
        assert record.started or not record.ready
        assert not (record.failed and record.ready)
        assert before.started <= record.started, "what has started stays so"
        streak: Streak = getattr(record, kind)
        assert (streak.count > 0) == good
        if record.failed:
            assert -streak.count == getattr(asked, kind).failures
            assert all(next_probe(asked, kind, record, STARTED) is None for kind in KINDS)
            break
    if not made:
        assert record == probes.begin(container(probes=asked), RUN)


# ---- what is asked for ----


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"probes": Probes(liveness=check(period=0))}, "period cannot be less than 1"),
        ({"probes": Probes(liveness=check(initial_delay=-1))}, "initial_delay"),
        ({"probes": Probes(liveness=check(successes=2))}, "one success decides"),
        ({"probes": Probes(startup=check(successes=2))}, "one success decides"),
        ({"probes": Probes(readiness=check(grace=3))}, "grace"),
        ({"probes": Probes(startup=check(grace=0))}, "grace"),
        ({"probes": Probes(startup=check(action=TcpAction(port=0)))}, "port"),
        ({"probes": Probes(startup=check(action=ExecAction(command=())))}, "no command"),
        ({"hooks": Hooks(pre_stop=HttpAction(port=70000))}, "port"),
        ({"hooks": Hooks(post_start=SleepAction(seconds=-1))}, "negative"),
    ],
)
def test_what_nobody_can_carry_out_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        probes.validate(RunOptions(image="x", **options))


def test_what_can_be_is_taken() -> None:
    asked = Probes(startup=check(grace=1), readiness=check(successes=5), liveness=check())
    probes.validate(RunOptions(image="x", probes=asked, hooks=Hooks(pre_stop=TRUE)))


# ---- what is known ----


class Place:
    """A container's folders, for what is read there."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.paths = Layout(f"{folder}/root", f"{folder}/state").container("c" * 64)
        os.makedirs(self.paths.folder)
        os.makedirs(self.paths.state_folder)
        os.makedirs(os.path.dirname(self.paths.lock))
        self.container = container(**options)
        with open(self.paths.document, "wb") as file:
            file.write(msgspec.json.encode(self.container))
        records.write_marker(self.paths, RUN)

    def view(self, state: str = "running") -> View:
        status = msgspec.convert({"state": state, "started": STARTED}, Status)
        return View(self.container, status, self.paths)

    def state(self, state: str = "running") -> tuple[bool, bool, int, str]:
        found = probes.state(self.view(state))
        return found.started, found.ready, found.since, found.message


def test_without_probes_it_is_ready_from_its_start(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert place.state() == (True, True, STARTED, "")
    assert place.state("exited") == (False, False, 0, "")
    assert place.state("restarting") == (False, False, 0, "")


def test_what_is_known_is_a_runs(tmp_path: Path) -> None:
    asked = Probes(readiness=check(failures=1))
    place = Place(tmp_path, probes=asked)
    assert place.state() == (True, False, STARTED, "")
    known = follow(asked, [("readiness", True)])
    assert probes.save(place.paths, known)
    assert place.state() == (True, True, STARTED + SECOND, "")
    assert place.state("paused")[1]
    records.write_marker(place.paths, "2" * 16)
    assert place.state() == (True, False, STARTED, "")
    assert not probes.save(place.paths, known), "of a run that is over"


def test_a_container_has_not_started_before_its_hook_has_ended(tmp_path: Path) -> None:
    place = Place(tmp_path, hooks=Hooks(post_start=TRUE))
    assert not hooks.has_begun(place.view())
    hooks.begin(place.paths, RUN, claim=True)
    own = os.getpid(), process.start_time(os.getpid())
    assert hooks.claimer(place.paths, RUN) == own
    assert hooks.progress(place.paths, RUN) == "under way"
    assert place.state() == (False, False, STARTED, "its postStart hook has not ended")
    os.unlink(place.paths.post_start)
    os.symlink(f"{RUN} done", place.paths.post_start)
    assert place.state() == (True, True, STARTED, "")
    assert hooks.progress(place.paths, "2" * 16) == "none"


@pytest.mark.parametrize(
    ("word", "progress"),
    [("-", "none"), ("1 1", "none"), ("done", "done"), ("failed 1 1", "failed"), ("?", "none")],
)
def test_words_of_hooks(tmp_path: Path, word: str, progress: str) -> None:
    place = Place(tmp_path, hooks=Hooks(post_start=TRUE))
    os.symlink(f"{RUN} {word}", place.paths.post_start)
    assert hooks.progress(place.paths, RUN) == progress
    assert hooks.claimer(place.paths, RUN) is None


def test_who_needs_a_supervisor() -> None:
    assert supervision.needs(container(probes=Probes(liveness=check())))
    assert supervision.needs(container(hooks=Hooks(post_start=TRUE)))
    assert not supervision.needs(container(hooks=Hooks(pre_stop=TRUE)))


def test_what_was_ended_because_it_was_unwell_has_failed(tmp_path: Path) -> None:
    asked = Probes(liveness=check(failures=1))
    place = Place(tmp_path, probes=asked)
    ended = ExitRecord(run=RUN, code=0)
    judged = supervision.judged(place.container, place.paths, ended)
    assert judged == ended
    probes.save(place.paths, follow(asked, [("liveness", False)]))
    assert supervision.judged(place.container, place.paths, ended).code != 0
    other = ExitRecord(run="2" * 16, code=0)
    assert supervision.judged(place.container, place.paths, other) == other


def test_what_was_ended_because_of_its_hook_has_failed(tmp_path: Path) -> None:
    place = Place(tmp_path, hooks=Hooks(post_start=TRUE))
    ended = ExitRecord(run=RUN, code=0)
    assert supervision.judged(place.container, place.paths, ended) == ended
    os.symlink(f"{RUN} failed 1 1", place.paths.post_start)
    assert supervision.judged(place.container, place.paths, ended).code != 0


# ---- HTTP ----


class Server:
    """Answers one request over a pair of sockets."""

    def __init__(self, answer: bytes) -> None:
        self.client, self._server = socket.socketpair()
        self._answer = answer
        self.request = b""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._server:
            while not self.request.endswith(b"\r\n\r\n"):
                self.request += self._server.recv(4096)
            with contextlib.suppress(BrokenPipeError):
                self._server.sendall(self._answer)

    def ask(self, **asked: Any) -> tuple[int, str]:
        try:
            action = HttpAction(port=8080, **asked)
            return actions._get(self.client, "10.0.0.9", action).outcome()
        finally:
            self.client.close()
            self._thread.join()


@pytest.mark.parametrize(
    ("status", "good"),
    [(200, True), (204, True), (302, True), (399, True), (400, False), (404, False), (500, False)],
)
def test_statuses(status: int, good: bool) -> None:
    server = Server(
        b"HTTP/1.1 %d X\r\nLocation: http://other/\r\nContent-Length: 3\r\n\r\nabc" % status
    )
    code, said = server.ask()
    assert (code == 0) == good
    assert said.startswith(f"status {status}")
    assert said.endswith("abc") != good


def test_a_request_says_who_asks() -> None:
    server = Server(b"HTTP/1.0 200 OK\r\n\r\n")
    assert server.ask()[0] == 0
    lines = server.request.decode().split("\r\n")
    assert lines[0] == "GET / HTTP/1.1"
    assert sorted(lines[1:-2]) == [
        "Accept: */*", "Connection: close", "Host: 10.0.0.9:8080", "User-Agent: pycontain-probe",
    ]  # fmt: skip


def test_a_request_has_the_headers_that_were_asked_for() -> None:
    server = Server(b"HTTP/1.0 200 OK\r\n\r\n")
    headers = (("Host", "web"), ("X-A", "1"), ("X-A", "2"), ("accept", ""), ("User-Agent", "me"))
    assert server.ask(headers=headers, path="a b?c=%20d#e")[0] == 0
    lines = server.request.decode().split("\r\n")
    assert lines[0] == "GET /a%20b?c=%20d HTTP/1.1"
    assert sorted(lines[1:-2]) == [
        "Connection: close", "Host: web", "User-Agent: me", "X-A: 1", "X-A: 2",
    ]  # fmt: skip


def test_of_a_long_answer_the_beginning_is_read() -> None:
    server = Server(b"HTTP/1.0 500 No\r\n\r\n" + b"x" * 1_000_000)
    code, said = server.ask()
    assert code == 500
    assert len(said) < 20_000


# ---- CrashLoopBackOff ----

NOW = 1_800_000_000 * SECOND
LOOP = RestartPolicy(name="always", crash_loop=True)


def ended(run: str, ran: int = SECOND) -> ExitRecord:
    return ExitRecord(run=run, code=1, started=NOW - ran, finished=NOW)


def waits(count: int) -> tuple[list[int], RestartRecord]:
    """Seconds before so many restarts, and what is kept."""
    record, found = RestartRecord(), []
    for at in range(count):
        step = next_step(LOOP, record, ended(str(at)), NOW)
        assert isinstance(step, Restart)
        record = step.record
        found.append(step.after // SECOND)
        assert record.due == NOW + step.after
    return found, record


def test_waits_are_kubernetes() -> None:
    found, record = waits(9)
    assert found == [0, 10, 20, 40, 80, 160, 300, 300, 300]
    assert record.count == 9
    assert delay(3) < SECOND, "docker's stay"


@pytest.mark.parametrize(("ran", "wait"), [(600, 0), (599, 160), (11, 160)])
def test_ten_minutes_end_a_series(ran: int, wait: int) -> None:
    _, record = waits(5)
    step = next_step(LOOP, record, ended("later", ran * SECOND), NOW)
    assert isinstance(step, Restart)
    assert (step.after // SECOND, step.record.count) == (wait, 6)


@given(st.integers(0, 10_000))
def test_a_wait_that_is_under_way_is_gone_on_with(passed: int) -> None:
    _, record = waits(4)
    step = next_step(LOOP, record, ended("3"), NOW + passed * SECOND)
    assert isinstance(step, Restart)
    assert step.record == record
    assert step.after == max(0, 40 - passed) * SECOND


def test_a_start_that_fails_waits_as_well() -> None:
    _, record = waits(3)
    step = after_failure(LOOP, record, NOW)
    assert isinstance(step, Restart)
    assert step.after == 40 * SECOND
    failed = RestartPolicy(name="on-failure", most=3, crash_loop=True)
    assert isinstance(after_failure(failed, record, NOW), Leave)
