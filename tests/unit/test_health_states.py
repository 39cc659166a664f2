"""What probes come to, and when they are made: by value."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.cli.flags import Refused, UsageError, parse
from pycontain.cli.health import HEALTH_FLAGS, health_check
from pycontain.config import BUILT_IN
from pycontain.engine import effective, health, waiting
from pycontain.engine.containers import View
from pycontain.engine.handle import run_options
from pycontain.errors import InvalidInput, InvalidState
from pycontain.kernel import process
from pycontain.model.container import Container, HealthCheck, ImageConfig, RunOptions
from pycontain.model.health import Health, Probe
from pycontain.model.status import Status
from pycontain.store.layout import Layout
from pycontain.supervisor.health import after, next_probe

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 1_000_000_000
CHECK = HealthCheck(
    test=("CMD", "true"), interval=30 * SECOND, timeout=SECOND, start_period=0,
    start_interval=5 * SECOND, retries=3,
)  # fmt: skip
NEW = Health(run="a")
STARTED = 1000 * SECOND


def probe(code: int, at: int = 0) -> Probe:
    """One that was made `at` nanoseconds after the start, and took a second."""
    return Probe(start=STARTED + at, end=STARTED + at + SECOND, code=code)


def probed(check: HealthCheck, *probes: Probe) -> Health:
    found = NEW
    for one in probes:
        found = after(one, found, check, STARTED)
    return found


# ---- after a probe ----


@pytest.mark.parametrize(
    ("codes", "status", "streak"),
    [
        ([], "starting", 0),
        ([1], "starting", 1),
        ([1, 1], "starting", 2),
        ([1, 1, 1], "unhealthy", 3),
        ([1, 1, -1, 127], "unhealthy", 4),
        ([0], "healthy", 0),
        ([1, 0], "healthy", 0),
        ([0, 1, 1], "healthy", 2),
        ([0, 1, 1, 0, 1], "healthy", 1),
        ([0, 1, 1, 1], "unhealthy", 3),
        ([1, 1, 1, 0], "healthy", 0),
        ([1, 1, 1, 0, 1, 1], "healthy", 2),
    ],
)
def test_so_many_failures_in_a_row_are_unhealthy(
    codes: list[int], status: str, streak: int
) -> None:
    found = probed(CHECK, *(probe(code) for code in codes))
    assert (found.status, found.streak) == (status, streak)
    assert [one.code for one in found.log] == codes[-5:]


def test_failures_in_the_start_period_do_not_count() -> None:
    check = msgspec.structs.replace(CHECK, start_period=10 * SECOND, retries=1)
    before_end, at_end = probe(1, 10 * SECOND - 1), probe(1, 10 * SECOND)
    assert probed(check, probe(1), before_end).status == "starting"
    assert probed(check, probe(1), before_end).streak == 0
    assert probed(check, probe(1), at_end).status == "unhealthy"
    # but once it was healthy they do
    assert probed(check, probe(0), before_end).status == "unhealthy"


@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 100 * SECOND))), st.integers(1, 6))
def test_any_probes(seen: list[tuple[int, int]], retries: int) -> None:
    check = msgspec.structs.replace(CHECK, start_period=20 * SECOND, retries=retries)
    found = NEW
    for code, at in seen:
        before, found = found, after(probe(code, at), found, check, STARTED)
        assert found.log[-1].code == code
        assert len(found.log) <= 5
        assert found.run == before.run
        assert (found.status == "unhealthy") is (
            code != 0 and (before.status == "unhealthy" or found.streak >= retries)
        )
        assert (
            found.streak == 0 if code == 0 else found.streak in (before.streak, before.streak + 1)
        )
        if code == 0:
            assert found.status == "healthy"
        if before.status != "starting":
            assert found.status != "starting"
            assert code == 0 or found.streak == before.streak + 1


# ---- when ----


def wait(check: HealthCheck, *probes: Probe) -> float:
    """Seconds from the end of the last probe, or from the start, to the next one."""
    since, left = next_probe(probed(check, *probes), check, STARTED)
    assert since == (probes[-1].end if probes else STARTED)
    return left / SECOND


def test_the_first_probe_comes_after_an_interval() -> None:
    assert wait(CHECK) == 30
    assert wait(CHECK, probe(0)) == 30
    assert wait(CHECK, probe(1)) == 30


def test_in_the_start_period_they_come_sooner_until_one_succeeds() -> None:
    check = msgspec.structs.replace(CHECK, start_period=12 * SECOND)
    assert wait(check) == 5
    assert wait(check, probe(1, 5 * SECOND)) == 5
    assert wait(check, probe(1, 8 * SECOND)) == 3  # its end
    assert wait(check, probe(1, 11 * SECOND)) == 30
    assert wait(check, probe(0, 5 * SECOND)) == 30


# ---- the check of a container ----


def container(image: HealthCheck | None = None, asked: HealthCheck | None = None) -> Container:
    return Container(
        id="c" * 64, name="web", created=0, options=RunOptions(image="busybox", health=asked),
        image_id="sha256:x", layers=(), config=ImageConfig(healthcheck=image, shell=["/bin/bash"]),
        command=("x",), stop_signal=15, stop_timeout=10,
    )  # fmt: skip


def test_defaults() -> None:
    found = health.check_of(container(HealthCheck(test=("CMD", "x"))))
    assert found == HealthCheck(
        test=("CMD", "x"), interval=30 * SECOND, timeout=30 * SECOND, start_interval=5 * SECOND,
        retries=3,
    )  # fmt: skip
    short = health.check_of(container(HealthCheck(test=("CMD", "x"), interval=SECOND)))
    assert short is not None
    assert short.start_interval == SECOND


@pytest.mark.parametrize(
    ("image", "asked"),
    [
        (None, None),
        (HealthCheck(test=("CMD", "x")), HealthCheck(test=("NONE",))),
        (HealthCheck(test=("NONE",)), HealthCheck(interval=SECOND)),
        (None, HealthCheck(interval=SECOND)),
        (HealthCheck(test=()), None),
        (HealthCheck(test=("CMD",)), None),
        (HealthCheck(test=("NOSUCH", "x")), None),
    ],
)
def test_where_no_probe_is_made(image: HealthCheck | None, asked: HealthCheck | None) -> None:
    assert health.check_of(container(image, asked)) is None


def test_what_is_not_said_is_the_images() -> None:
    image = HealthCheck(test=("CMD", "x"), interval=SECOND, retries=7, timeout=2 * SECOND)
    asked = HealthCheck(interval=3 * SECOND, start_period=SECOND)
    both = effective.health_check(container(image, asked).options, container(image, asked).config)
    assert both == HealthCheck(
        test=("CMD", "x"), interval=3 * SECOND, retries=7, timeout=2 * SECOND, start_period=SECOND
    )
    assert effective.configuration(container(image, asked)).healthcheck == both
    assert effective.configuration(container()).healthcheck is None


def test_a_text_is_for_the_images_shell() -> None:
    one = container(HealthCheck(test=("CMD-SHELL", "a  b")))
    assert health.command(one, HealthCheck(test=("CMD-SHELL", "a  b"))) == ("/bin/bash", "a  b")
    assert health.command(one, HealthCheck(test=("CMD", "a", "b"))) == ("a", "b")
    plain = msgspec.structs.replace(one, config=ImageConfig())
    found = health.command(plain, HealthCheck(test=("CMD-SHELL", "a")))
    assert found == ("/bin/sh", "-c", "a")


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (HealthCheck(test=("NOSUCH", "x")), "unknown type 'NOSUCH'"),
        (HealthCheck(test=("CMD",)), "no command"),
        (HealthCheck(interval=999_999), "interval in health check cannot be less than 1ms"),
        (HealthCheck(timeout=-1), "timeout in"),
        (HealthCheck(start_period=1), "start period in"),
        (HealthCheck(start_interval=1), "start interval in"),
        (HealthCheck(retries=-1), "retries in"),
    ],
)
def test_what_is_refused(check: HealthCheck, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        health.validate(check)


def test_documents_of_others() -> None:
    data = b'{"Healthcheck": {"Test": null, "Interval": 1000000000, "Unknown": 1}}'
    assert msgspec.json.decode(data, type=ImageConfig).healthcheck == HealthCheck(interval=SECOND)
    asked = RunOptions(image="x", health=HealthCheck(test=("CMD", "x"), start_period=5))
    assert b'"health":{"Test":["CMD","x"],"StartPeriod":5}' in msgspec.json.encode(asked)
    assert msgspec.json.decode(msgspec.json.encode(asked), type=RunOptions) == asked


# ---- flags ----


def flags(*words: str) -> HealthCheck | None:
    values, _ = parse(HEALTH_FLAGS, words, mixed=False)
    return health_check(values)


def test_flags() -> None:
    assert flags() is None
    assert flags("--health-cmd", "", "--health-retries=0", "--health-timeout=0") is None
    assert flags("--no-healthcheck") == HealthCheck(test=("NONE",))
    assert flags("--no-healthcheck", "--health-timeout=0s") == HealthCheck(test=("NONE",))
    assert flags("--health-cmd=x -y", "--health-interval", "1m30s", "--health-retries=2") == (
        HealthCheck(test=("CMD-SHELL", "x -y"), interval=90 * SECOND, retries=2)
    )
    assert flags(
        "--health-timeout=1.5s", "--health-start-period=1h", "--health-start-interval=1ms"
    ) == HealthCheck(timeout=1_500_000_000, start_period=3600 * SECOND, start_interval=1_000_000)


@pytest.mark.parametrize(
    ("words", "kind", "reason"),
    [
        (("--health-interval", "5"), UsageError, "--health-interval"),
        (("--health-interval=soon",), UsageError, 'invalid duration "soon"'),
        (("--health-retries=x",), UsageError, "--health-retries"),
        (("--health-interval=-1s",), Refused, "--health-interval cannot be negative"),
        (("--health-retries=-1",), Refused, "--health-retries cannot be negative"),
        (("--no-healthcheck", "--health-cmd=x"), Refused, "conflicts with --health-"),
        (("--no-healthcheck", "--health-retries=1"), Refused, "conflicts with --health-"),
    ],
)
def test_flags_that_are_refused(words: tuple[str, ...], kind: type[Refused], reason: str) -> None:
    with pytest.raises(kind, match=reason) as caught:
        flags(*words)
    assert caught.value.code == 125


# ---- a program's words ----


@pytest.mark.parametrize(
    ("given", "check"),
    [
        ("test -f /x", HealthCheck(test=("CMD-SHELL", "test -f /x"))),
        (["test", "-f"], HealthCheck(test=("CMD", "test", "-f"))),
        (False, HealthCheck(test=("NONE",))),
        (HealthCheck(interval=1), HealthCheck(interval=1)),
        (None, None),
    ],
)
def test_health_of_a_program(given: object, check: HealthCheck | None) -> None:
    assert run_options("busybox", (), {"health": given}, BUILT_IN).health == check


# ---- what is known ----


class Place:
    """A container's folders, for what is read there."""

    def __init__(self, folder: Path) -> None:
        self.paths = Layout(f"{folder}/root", f"{folder}/state").container("c" * 64)
        os.makedirs(self.paths.folder)
        os.makedirs(self.paths.state_folder)
        os.makedirs(os.path.dirname(self.paths.lock))
        self.container = container(HealthCheck(test=("CMD", "x")))
        self.begin("1" * 16)

    def begin(self, run: str) -> None:
        from pycontain.engine import records

        records.write_marker(self.paths, run)
        with open(self.paths.document, "wb") as file:
            file.write(msgspec.json.encode(self.container))

    def view(self, state: str) -> View:
        status = msgspec.convert({"state": state}, Status)
        return View(self.container, status, self.paths)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_nobody_probed_is_starting(place: Place) -> None:
    assert health.of(place.view("created")) is None
    assert health.of(place.view("running")) == Health(run="1" * 16)
    ended = health.of(place.view("exited"))
    assert ended is not None
    assert ended.status == "unhealthy"


def test_health_is_a_runs(place: Place) -> None:
    known = Health(run="1" * 16, status="healthy", log=(probe(0),))
    assert health.save(place.paths, known)
    assert health.of(place.view("running")) == known
    assert health.of(place.view("paused")) == known
    ended = health.of(place.view("exited"))
    assert ended == msgspec.structs.replace(known, status="unhealthy")
    place.begin("2" * 16)
    assert health.of(place.view("running")) == Health(run="2" * 16)
    assert not health.save(place.paths, known), "of a run that is over"
    assert health.of(place.view("running")) == Health(run="2" * 16)


def test_nothing_is_written_of_a_container_that_is_gone(place: Place) -> None:
    os.unlink(place.paths.document)
    assert not health.save(place.paths, Health(run="1" * 16))
    assert not os.path.exists(place.paths.health)
    assert not os.path.exists(place.paths.lock)


def test_dockers_document() -> None:
    known = Health(run="a", status="unhealthy", streak=3, log=(probe(1),))
    assert health.document(known, str) == {
        "Status": "unhealthy",
        "FailingStreak": 3,
        "Log": [
            {"Start": "1000000000000", "End": "1001000000000", "ExitCode": 1, "Output": ""},
        ],
    }


# ---- conditions ----


def test_conditions(place: Place) -> None:
    running = place.view("running")
    assert waiting.met(running, ["healthy", "running"]) == "running"
    assert waiting.met(running, ["healthy"]) is None
    health.save(place.paths, Health(run="1" * 16, status="healthy"))
    assert waiting.met(running, ["healthy", "running"]) == "healthy"
    assert waiting.met(running, ["unhealthy"]) is None
    assert waiting.met(place.view("paused"), ["healthy"]) is None
    assert waiting.met(place.view("exited"), ["unhealthy", "stopped"]) == "stopped"
    assert waiting.met(place.view("exited"), ["exited"]) == "exited"
    assert waiting.met(place.view("exited"), ["unhealthy"]) is None
    place.container = container()
    assert waiting.met(place.view("running"), ["healthy", "exited"]) is None
    with pytest.raises(InvalidState, match="has no health check"):
        waiting.met(place.view("running"), ["healthy"])


@pytest.mark.parametrize("words", [[], ["nosuch"], ["running", ""]])
def test_conditions_that_are_refused(words: list[str]) -> None:
    with pytest.raises(InvalidInput, match="condition"):
        waiting.check(words)


# ---- who belongs to a probe ----


def test_a_session_and_its_children_are_a_family() -> None:
    import subprocess

    script = "sleep 1000 & setsid sleep 1000 & echo; wait"
    with subprocess.Popen(
        ["setsid", "sh", "-c", script], stdout=subprocess.PIPE, start_new_session=False
    ) as leader:
        try:
            assert leader.stdout is not None
            leader.stdout.readline()
            start = process.start_time(leader.pid)
            assert start is not None
            found = process.family(leader.pid, start)
            while len(found) < 3:
                found = process.family(leader.pid, start)
            assert len(found) == 3
            assert process.family(leader.pid, start + 1) == {}
            assert os.getpid() not in found
        finally:
            for pid in process.family(leader.pid, start or 0):
                os.kill(pid, 9)
    assert process.family(leader.pid, start) == {}
