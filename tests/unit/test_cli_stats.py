"""``stats`` and ``update`` over a recording engine; totals in ``inspect`` and ``ps``."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pycontain.cli.inspect import container_document
from pycontain.cli.main import main
from pycontain.cli.ps import status_words
from pycontain.cli.stats import binary_size, row
from pycontain.engine.containers import View
from pycontain.errors import Conflict, NotFound, PycontainError
from pycontain.model.container import (
    Container,
    DeviceRule,
    ExitRecord,
    ImageConfig,
    Limits,
    RunOptions,
)
from pycontain.model.stats import Pressure, Stats
from pycontain.model.status import Status
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
TOTAL = 1024 * MIB
ID = "a" * 64
Answer = tuple[int, str, str]


def sample(**fields: Any) -> Stats:
    return Stats(**{"id": ID, "name": "web", "time": 0, "clock": 0, **fields})


FULL = {
    "memory": 16 * MIB,
    "memory_limit": 64 * MIB,
    "pids": 3,
    "net_received": 1500,
    "net_sent": 0,
    "block_read": 2_000_000,
    "block_written": 5,
    "cpu_pressure": Pressure(some=1.5, some_usec=9),
    "memory_pressure": Pressure(some=0.0, some_usec=0),
}


def test_a_row() -> None:
    before = sample(cpu_usec=0)
    after = sample(clock=1_000_000_000, cpu_usec=123_456, **FULL)
    found = row(after, before, TOTAL, "web", full=False)
    assert found == {
        "Container": "web",
        "ID": "a" * 12,
        "Name": "web",
        "CPUPerc": "12.35%",
        "MemUsage": "16MiB / 64MiB",
        "MemPerc": "25.00%",
        "NetIO": "1.5kB / 0B",
        "BlockIO": "2MB / 5B",
        "PIDs": "3",
        "Pressure": "1.50% / 0.00% / --",
        "CPUPressure": "1.50%",
        "MemPressure": "0.00%",
        "IOPressure": "--",
    }


def test_what_is_unknown_is_no_nought() -> None:
    found = row(sample(), None, TOTAL, "web", full=True)
    assert found["ID"] == ID
    figures = {name: found[name] for name in found if name not in ("Container", "ID", "Name")}
    assert set("".join(figures.values())) == set("-/ ")


@pytest.mark.parametrize("limit", [None, 4 * TOTAL])
def test_without_a_limit_the_machine_is_it(limit: int | None) -> None:
    found = row(sample(memory=TOTAL // 4, memory_limit=limit), None, TOTAL, "web", full=False)
    assert (found["MemUsage"], found["MemPerc"]) == ("256MiB / 1GiB", "25.00%")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1_990_000, "1.898MiB"), (5 << 40, "5TiB")],
)
def test_binary_size(count: int, text: str) -> None:
    assert binary_size(count) == text


def view(status: Status, **options: Any) -> View:
    container = Container(
        id=ID, name="web", created=0, options=RunOptions(image="busybox", **options),
        image_id="sha256:" + "f" * 64, layers=(), config=ImageConfig(), command=("sh",),
        stop_signal=15, stop_timeout=10,
    )  # fmt: skip
    return View(container, status, Layout("/r", "/s").container(ID))


class Engine:
    """Gives samples that grow; keeps what update is called with."""

    def __init__(self) -> None:
        self.containers = self
        self.names = ["web"]
        self.rounds = 0
        self.calls: list[tuple[str, Limits]] = []
        self.policies: list[str | None] = []
        self.failure: PycontainError | None = None
        self.left = 10**6

    def get(self, ref: str) -> View:
        if ref not in (*self.names, ID):
            raise NotFound(f"No such container: {ref}")
        return view(Status(state="running"))

    def list(self, all: bool = False, problems: Any = None) -> list[View]:
        return [view(Status(state="running"))] if all or self.names else []

    def stats(self, ref: str) -> Stats:
        self.get(ref)
        self.rounds += 1
        if self.rounds > self.left:
            raise NotFound(f"No such container: {ref}")
        usec = self.rounds * 100_000
        return sample(clock=self.rounds * 1_000_000_000, cpu_usec=usec, **FULL)

    def update(self, ref: str, changes: Limits, *, restart: str | None = None) -> None:
        self.calls.append((ref, changes))
        self.policies.append(restart)
        if self.failure:
            raise self.failure


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return Engine()


@pytest.fixture
def play(engine: Engine, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Answer]:
    def carry_out(*words: str) -> Answer:
        code = main(words, lambda root, state: engine)  # type: ignore[arg-type,return-value]
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return carry_out


def test_one_look(play: Callable[..., Answer]) -> None:
    code, out, err = play("stats", "--no-stream")
    assert (code, err) == (0, "")
    head, line = out.splitlines()
    assert head.split("   ")[0] == "CONTAINER ID"
    assert head.endswith("PIDS      PRESSURE CPU / MEM / IO")
    assert line.startswith("a" * 12 + "   web       10.00%    16MiB / 64MiB")
    assert play("stats", "--no-stream", "--format", "{{.Container}} {{.CPUPerc}}", "web") == (
        0, "web 10.00%\n", "",
    )  # fmt: skip
    code, out, _ = play("stats", "--no-stream", "--no-trunc", "--format", "json")
    assert json.loads(out)["ID"] == ID


def test_nobody_runs(engine: Engine, play: Callable[..., Answer]) -> None:
    engine.names = []
    code, out, _ = play("stats", "--no-stream")
    assert (code, len(out.splitlines())) == (0, 1)
    engine.left = 0
    code, out, _ = play("stats", "--no-stream", "-a", "--format", "{{.Name}}")
    assert (code, out) == (0, ""), "it has been removed meanwhile"


def test_one_that_is_not_there(play: Callable[..., Answer]) -> None:
    code, out, err = play("stats", "web", "none")
    assert (code, out) == (1, "")
    assert "No such container: none" in err


def test_the_stream_ends_with_those_that_were_named(
    engine: Engine, play: Callable[..., Answer]
) -> None:
    engine.left = 3
    assert play("stats", "--format", "{{.CPUPerc}}", "web") == (0, "--\n10.00%\n10.00%\n", "")


def test_a_terminal_is_drawn_over(
    engine: Engine, play: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.left = 2
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    _, out, _ = play("stats", "web")
    assert out.count("\x1b[H") == out.count("\x1b[J") == 2
    assert out.count("\x1b[K\n") == 4
    engine.rounds = 0
    _, out, _ = play("stats", "--format", "json", "web")
    assert "\x1b" not in out


def test_update(engine: Engine, play: Callable[..., Answer]) -> None:
    assert play("update", "-m", "64m", "--cpus", "0.5", "web", "db") == (0, "web\ndb\n", "")
    limits = Limits(memory=64 * MIB, cpus=0.5)
    assert engine.calls == [("web", limits), ("db", limits)]


def test_update_of_the_policy(engine: Engine, play: Callable[..., Answer]) -> None:
    assert play("update", "--restart", "on-failure:2", "web") == (0, "web\n", "")
    assert engine.calls == [("web", Limits())]
    assert engine.policies == ["on-failure:2"]


def test_update_without_a_limit(engine: Engine, play: Callable[..., Answer]) -> None:
    code, out, err = play("update", "--cpu-shares", "0", "web")
    assert (code, out, engine.calls) == (1, "", [])
    assert "at least one flag" in err


def test_update_goes_on_after_an_error(engine: Engine, play: Callable[..., Answer]) -> None:
    engine.failure = Conflict("cgroup x: memory limit", "stop it")
    code, out, err = play("update", "-m", "64m", "web", "db")
    assert (code, out) == (1, "")
    assert err.count("memory limit") == 2
    assert len(engine.calls) == 2


RECORD = ExitRecord(run="r", code=137, finished=10**9, oom_killed=True, cpu_usec=7, net_sent=0)


def test_ps_says_why_it_was_killed() -> None:
    told = status_words(Status(state="exited", record=RECORD), 3 * 10**9)
    assert told == "Exited (137) 2 seconds ago (OOM killed)"


def document(shown: View) -> dict[str, Any]:
    """What ``inspect`` says."""
    containers = SimpleNamespace(attachments=lambda view: ())
    engine = SimpleNamespace(layout=Layout("/r", "/s"), containers=containers)
    app: Any = SimpleNamespace(engine=engine)
    return container_document(app, shown)


def test_inspect_after_the_end() -> None:
    found = document(view(Status(state="exited", record=RECORD)))
    assert found["State"]["OOMKilled"] is True
    totals = found["Totals"]
    assert (totals["CPUUsec"], totals["NetSent"], totals["MemoryPeak"]) == (7, 0, None)
    assert document(view(Status(state="created")))["Totals"] is None


@pytest.mark.parametrize(("known", "shown"), [(True, True), (False, False), (None, False)])
def test_oom_killed_is_a_truth_value_and_unknown_in_the_totals(
    known: bool | None, shown: bool
) -> None:
    record = ExitRecord(run="r", code=137, finished=10**9, oom_killed=known)
    found = document(view(Status(state="exited", record=record)))
    assert found["State"]["OOMKilled"] is shown
    assert found["Totals"]["OOMKilled"] is known


def test_inspect_shows_what_was_asked_for() -> None:
    rules = (DeviceRule(type="c", major=1, access="rw"), DeviceRule(type="a"))
    found = document(
        view(
            Status(state="created"), domainname="x.org", tz="local", annotations={"a": "1"},
            device_cgroup_rules=rules,
            security_opt=("apparmor=a", "no-new-privileges", "apparmor:b"),
        )
    )  # fmt: skip
    assert (found["Config"]["Domainname"], found["Config"]["Timezone"]) == ("x.org", "local")
    assert found["HostConfig"]["Annotations"] == {"a": "1"}
    assert found["HostConfig"]["DeviceCgroupRules"] == ["c 1:* rw", "a *:* rwm"]
    assert found["AppArmorProfile"] == "b"
    plain = document(view(Status(state="created")))
    assert (plain["HostConfig"]["DeviceCgroupRules"], plain["AppArmorProfile"]) == (None, "")


def test_inspect_shows_limits_in_dockers_fields() -> None:
    found = document(
        view(
            Status(state="created"), memory=64 * MIB, cpus=1.5, pids_limit=-1, oom_score_adj=-5,
            cgroup_parent="/team", cgroup_conf={"memory.high": "1"},
        )
    )["HostConfig"]  # fmt: skip
    shown = SimpleNamespace(**found)
    assert (shown.Memory, shown.MemorySwap, shown.NanoCpus) == (64 * MIB, 128 * MIB, 1_500_000_000)
    assert (shown.PidsLimit, shown.OomScoreAdj, shown.CgroupParent) == (-1, -5, "/team")
    assert shown.CgroupConf == {"memory.high": "1"}
