"""Verbs over a recording engine: what they ask of it, what they print, how they exit."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import pycontain
from pycontain.cli.main import VERBS, load_verb, main
from pycontain.engine.containers import View
from pycontain.engine.logs import LogEntry
from pycontain.engine.sizes import Sizes
from pycontain.errors import (
    CommandNotFound,
    Conflict,
    InvalidState,
    KernelError,
    NotExecutable,
    NotFound,
    PycontainError,
    StoreError,
)
from pycontain.image.store import Image
from pycontain.model.container import (
    Container,
    ExecOptions,
    ExitRecord,
    ImageConfig,
    Mount,
    PortBinding,
    RunOptions,
)
from pycontain.model.status import Status
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECOND = 1_000_000_000
NOW = time.time_ns()
RUNNING = Status(state="running", pid=7, started=NOW - 120 * SECOND)
EXITED = Status(
    state="exited",
    started=NOW - 20 * SECOND,
    record=ExitRecord(run="r", code=3, finished=NOW - 10 * SECOND),
)


def view(name: str, digit: str, status: Status = RUNNING, age: int = 180, **fields: Any) -> View:
    options = RunOptions(image=fields.pop("image", "busybox"), name=name, **fields)
    container = Container(
        id=digit * 64,
        name=name,
        created=NOW - age * SECOND,
        options=options,
        image_id="sha256:" + "f" * 64,
        layers=("sha256:" + "e" * 64,),
        config=ImageConfig(cmd=["sh"], env=["PATH=/bin"], labels={"from": "image"}),
        command=("sleep", "1000"),
        stop_signal=15,
        stop_timeout=10,
    )
    return View(container, status, Layout("/r", "/s").container(container.id))


IMAGE = Image(
    id="sha256:" + "f" * 64,
    names=("busybox:latest", "busybox:1"),
    digests=("busybox@sha256:" + "d" * 64,),
    digest="sha256:" + "a" * 64,
    config=ImageConfig(cmd=["sh"], labels={"a": "b"}),
    diff_ids=("sha256:" + "e" * 64,),
    layers=("sha256:" + "e" * 64,),
    created=NOW - 3600 * SECOND,
    size=1_982_256,
    architecture="amd64",
    os="linux",
)

PORTS = tuple(
    PortBinding(protocol="tcp", address=address, port=8080, target=80)
    for address in ("0.0.0.0", "::")
)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONTAIN_NETWORK", "none")


class Engine:
    """Keeps the calls; answers from `views`; raises what `failures` has for a verb."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.views = [view("web", "a"), view("job", "b", EXITED, age=60)]
        self.failures: dict[str, PycontainError] = {}
        self.problems: list[PycontainError] = []
        self.entries: list[LogEntry] = []
        self.code = 0
        self.containers = self
        self.images = SimpleNamespace(
            list=lambda: [IMAGE],
            get=self._image,
            mounts=lambda: (),
            means=lambda name, identity: name != "gone",
            configuration=lambda name: b'{"comment": "words", "history": null}',
        )
        self.manifests = SimpleNamespace(list=lambda: ())
        self.volumes = SimpleNamespace(get=self._volume)
        self.networks = SimpleNamespace(view=self._network)
        self.layout = Layout("/r", "/s")
        self.rootless = False

    def _network(self, ref: str) -> Any:
        raise NotFound(f"network {ref} not found")

    def _volume(self, name: str) -> Any:
        raise NotFound(f"no such volume: {name}")

    def attachments(self, view: View) -> tuple[Any, ...]:
        return ()

    def ports(self, ref: str) -> tuple[PortBinding, ...]:
        self.get(ref)
        return PORTS

    def _image(self, name: str) -> Image:
        if name not in IMAGE.names and name != "busybox":
            raise NotFound(f"no such image: {name}")
        return IMAGE

    def _called(self, verb: str, *arguments: Any) -> None:
        self.calls.append((verb, *arguments))
        if verb in self.failures:
            raise self.failures[verb]

    def get(self, ref: str) -> View:
        for found in self.views:
            if found.container.name == ref or found.container.id.startswith(ref):
                return found
        raise NotFound(f"No such container: {ref}", "pycontain ps -a lists all containers")

    def list(self, all: bool = False, problems: Any = None) -> Any:
        problems.extend(self.problems)
        return [found for found in self.views if all or found.status.state == "running"]

    def create(
        self, options: RunOptions, *, progress: Any = None, replace: bool = False
    ) -> Container:
        self._called("create", options, *(["replace"] if replace else []))
        return self.views[0].container

    def run(
        self,
        options: RunOptions,
        *,
        attach: bool = True,
        size: Any = None,
        progress: Any = None,
        replace: bool = False,
        descriptors: Any = (),
    ) -> tuple[Container, None]:
        self._called("run", options, attach, *(["replace"] if replace else []), *descriptors)
        return self.views[0].container, None

    def sizes(self, ref: str) -> Sizes:
        self._called("sizes", ref)
        return Sizes(1000, 2_000_000)

    def explain(self, options: RunOptions) -> Any:
        self._called("explain", options)
        return ["first step", "second step"]

    def start(
        self, ref: str, *, attach: bool = False, stdin: bool = False, size: Any = None
    ) -> None:
        self.get(ref)
        self._called("start", ref, attach, stdin)

    def stop(self, ref: str, *, timeout: int | None = None, signal: int | None = None) -> None:
        self.get(ref)
        self._called("stop", ref, timeout, signal)

    def restart(self, ref: str, *, timeout: int | None = None, signal: int | None = None) -> None:
        self.get(ref)
        self._called("restart", ref, timeout, signal)

    def kill(self, ref: str, number: int) -> None:
        self.get(ref)
        self._called("kill", ref, number)

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        self.get(ref)
        self._called("remove", ref, force, volumes)

    def wait(self, ref: str) -> int:
        self.get(ref)
        self._called("wait", ref)
        return self.code

    def logs(self, ref: str, **settings: Any) -> Iterator[LogEntry]:
        self.get(ref)
        self._called("logs", ref, settings)
        return iter(self.entries)

    def exec(self, ref: str, options: ExecOptions, *, size: Any = None) -> None:
        self.get(ref)
        self._called("exec", ref, options)


Answer = tuple[int, str, str]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr("time.time_ns", lambda: NOW)
    return Engine()


@pytest.fixture
def play(engine: Engine, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Answer]:
    """Carry out one command line; return code, standard output and standard error."""

    def carry_out(*words: str) -> Answer:
        code = main(words, lambda root, state: engine)  # type: ignore[arg-type,return-value]
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return carry_out


# --- the program ---------------------------------------------------------------------------------


def test_nothing_to_do_is_help(play: Callable[..., Answer]) -> None:
    code, out, _ = play()
    assert code == 0
    assert out.startswith("Usage: pycontain [OPTIONS] COMMAND")
    assert play("--help") == (0, out, "")


def test_version_flag(play: Callable[..., Answer]) -> None:
    assert play("-v") == (0, f"pycontain version {pycontain.__version__}\n", "")


def test_an_unknown_verb_is_suggested(play: Callable[..., Answer]) -> None:
    code, out, err = play("sttart")
    assert (code, out) == (1, "")
    assert err.startswith("pycontain: unknown command: pycontain sttart\n")
    assert "hint: did you mean pycontain start?\n" in err


def test_words_that_are_no_utf8_are_refused(play: Callable[..., Answer]) -> None:
    code, _, err = play("run", "busybox", "\udcff")
    assert code == 125
    assert "argument '\\udcff' is not valid utf-8" in err


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_has_help_with_all_flags_and_an_example(
    name: str, play: Callable[..., Answer]
) -> None:
    verb = load_verb(name)
    code, out, err = play(name, "--help")
    assert (code, err) == (0, "")
    assert verb.name == name
    assert out.startswith(f"Usage: pycontain {name} ")
    assert f"{verb.summary}." in " ".join(out.split())
    assert "Examples:" in out
    for flag in verb.flags:
        assert flag.help, flag.name
        assert f"--{flag.name}" in out
    assert verb.examples
    for command, _ in verb.examples:
        assert command in out


@pytest.mark.parametrize("name", sorted(VERBS))
def test_names_and_letters_of_flags_are_unique(name: str) -> None:
    flags = load_verb(name).flags
    names = [word for flag in flags for word in (flag.name, *flag.aliases)]
    letters = [flag.short for flag in flags if flag.short]
    assert len(set(names)) == len(names)
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("name", sorted(VERBS))
def test_a_bad_flag_is_125_for_every_verb(name: str, play: Callable[..., Answer]) -> None:
    code, out, err = play(name, "--nope")
    assert (code, out) == (125, "")
    assert err.startswith("pycontain: unknown flag: --nope\n")
    assert f"Usage:  pycontain {name} " in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "'pycontain run' requires at least 1 argument"),
        (["exec", "web"], "'pycontain exec' requires at least 2 arguments"),
        (["logs"], "'pycontain logs' requires 1 argument"),
        (["logs", "a", "b"], "'pycontain logs' requires 1 argument"),
        (["ps", "a"], "'pycontain ps' accepts no arguments"),
        (["images", "a", "b"], "'pycontain images' requires at most 1 argument"),
        (["stop"], "'pycontain stop' requires at least 1 argument"),
    ],
)
def test_a_wrong_number_of_arguments_is_1(
    words: list[str], message: str, play: Callable[..., Answer]
) -> None:
    code, out, err = play(*words)
    assert (code, out) == (1, "")
    assert err.startswith(f"pycontain: {message}\n")


@pytest.mark.parametrize(
    ("verb", "error", "code"),
    [
        ("run", StoreError("x"), 125),
        ("run", Conflict("x"), 125),
        ("run", KernelError("mount", "/x", 1), 125),
        ("run", CommandNotFound("x"), 127),
        ("run", NotExecutable("x"), 126),
        ("create", StoreError("x"), 1),
        ("restart", CommandNotFound("x"), 1),
        ("exec", InvalidState("x"), 1),
        ("exec", CommandNotFound("x"), 127),
        ("exec", NotExecutable("x"), 126),
        ("stop", StoreError("x"), 1),
    ],
)
def test_exit_codes_of_errors(
    verb: str, error: PycontainError, code: int, engine: Engine, play: Callable[..., Answer]
) -> None:
    engine.failures[verb] = error
    words = {"run": ["busybox"], "create": ["busybox"], "exec": ["web", "ls"]}
    answer = play(verb, *words.get(verb, ["web"]))
    assert answer == (code, "", f"pycontain: {error}\n")


def test_a_hint_is_a_line_of_its_own(engine: Engine, play: Callable[..., Answer]) -> None:
    engine.failures["run"] = StoreError("disk full", "make room")
    assert play("run", "busybox")[2] == "pycontain: disk full\nhint: make room\n"


def test_dockers_words_are_kept_where_scripts_look_for_them(
    engine: Engine, play: Callable[..., Answer]
) -> None:
    engine.failures["run"] = Conflict('the container name "/web" is already in use')
    assert "Conflict. The container name" in play("run", "busybox")[2]
    engine.failures["run"] = NotFound("no such image: x")
    assert "No such image: x" in play("run", "busybox")[2]


def test_a_bug_is_told_as_one_and_debug_shows_where(
    engine: Engine, play: Callable[..., Answer]
) -> None:
    engine.views = None  # type: ignore[assignment]
    code, _, err = play("ps")
    assert code == 70
    assert "pycontain: internal error: TypeError" in err
    assert "Traceback" not in err
    assert "Traceback" in play("--debug", "ps")[2]


def test_an_error_of_the_system_names_its_file(engine: Engine, play: Callable[..., Answer]) -> None:
    engine.failures["stop"] = OSError(24, "Too many open files", "/x")  # type: ignore[assignment]
    assert play("stop", "web") == (1, "", "pycontain: /x: too many open files\n")


def test_several_are_stopped_at_once_and_told_in_order(
    engine: Engine, play: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(3)

    def stop(ref: str, **_: Any) -> None:
        together.wait(timeout=60)
        if ref == "two":
            raise NotFound("No such container: two")

    monkeypatch.setattr(engine, "stop", stop)
    answer = play("stop", "one", "two", "three")
    assert answer == (1, "one\nthree\n", "pycontain: No such container: two\n")


def test_ctrl_c_is_130(engine: Engine, play: Callable[..., Answer]) -> None:
    engine.failures["wait"] = KeyboardInterrupt()  # type: ignore[assignment]
    assert play("wait", "web")[0] == 130


def test_root_and_state_reach_the_engine() -> None:
    seen: list[tuple[str | None, str | None]] = []

    def make(root: str | None, state: str | None) -> Any:
        seen.append((root, state))
        return Engine()

    main(["--root", "/r", "--state=/s", "stop", "web"], make)
    assert seen == [("/r", "/s")]


# --- run, create ---------------------------------------------------------------------------------


def test_run_detached_prints_the_id(engine: Engine, play: Callable[..., Answer]) -> None:
    assert play("run", "-d", "busybox", "true") == (0, "a" * 64 + "\n", "")
    assert engine.calls == [("run", RunOptions(image="busybox", command=("true",)), False)]


def test_explain_prints_and_runs_nothing(engine: Engine, play: Callable[..., Answer]) -> None:
    assert play("run", "--explain", "busybox") == (0, "first step\nsecond step\n", "")
    assert [call[0] for call in engine.calls] == ["explain"]


def test_create_prints_the_id_and_writes_it(
    tmp_path: Path, engine: Engine, play: Callable[..., Answer]
) -> None:
    path = tmp_path / "id"
    assert play("create", "--cidfile", str(path), "busybox") == (0, "a" * 64 + "\n", "")
    assert path.read_text() == "a" * 64


def test_an_id_file_that_is_there_stops_the_run(
    tmp_path: Path, engine: Engine, play: Callable[..., Answer]
) -> None:
    path = tmp_path / "id"
    path.write_text("other")
    code, _, err = play("run", "-d", "--cidfile", str(path), "busybox")
    assert code == 125
    assert "container ID file found" in err
    assert path.read_text() == "other"
    assert engine.calls == []


def test_a_failed_run_leaves_no_id_file(
    tmp_path: Path, engine: Engine, play: Callable[..., Answer]
) -> None:
    engine.failures["run"] = StoreError("x")
    path = tmp_path / "id"
    assert play("run", "-d", "--cidfile", str(path), "busybox")[0] == 125
    assert not path.exists()


@pytest.mark.parametrize("words", [["run", "-it", "busybox"], ["exec", "-it", "web", "sh"]])
def test_a_terminal_is_needed_for_one(
    words: list[str],
    engine: Engine,
    play: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.isatty", lambda fd: False)
    code, _, err = play(*words)
    assert code == 1
    assert err.startswith("pycontain: the input device is not a TTY\n")
    assert engine.calls == []


# --- several at once -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (["stop"], ("stop", "web", None, None)),
        (["stop", "-t", "3", "-s", "INT"], ("stop", "web", 3, 2)),
        (["stop", "--timeout=0"], ("stop", "web", 0, None)),
        (["stop", "--time", "-1"], ("stop", "web", -1, None)),
        (["restart", "-t0", "-s", "9"], ("restart", "web", 0, 9)),
        (["kill"], ("kill", "web", 9)),
        (["kill", "--signal", "sigusr1"], ("kill", "web", 10)),
        (["rm"], ("remove", "web", False, False)),
        (["rm", "-fv"], ("remove", "web", True, True)),
    ],
)
def test_each_name_is_acted_on_and_printed_as_given(
    words: list[str], call: tuple[Any, ...], engine: Engine, play: Callable[..., Answer]
) -> None:
    code, out, err = play(*words, "web", "nope", "bbb")
    verb, _, *rest = call
    assert engine.calls == [call, (verb, "bbb", *rest)]
    assert out == "web\nbbb\n"
    assert err == (
        "pycontain: No such container: nope\nhint: pycontain ps -a lists all containers\n"
    )
    # docker: what rm -f wanted gone is gone
    assert code == (0 if "-fv" in words else 1)


def test_start_leaves_alone_what_runs(engine: Engine, play: Callable[..., Answer]) -> None:
    code, out, _ = play("start", "web", "nope", "job")
    assert (code, out) == (1, "web\njob\n")
    assert engine.calls == [("start", "job", False, False)]


def test_flags_may_follow_names(engine: Engine, play: Callable[..., Answer]) -> None:
    assert play("rm", "web", "-f")[0] == 0
    assert engine.calls == [("remove", "web", True, False)]


@pytest.mark.parametrize("verb", ["stop", "restart", "kill"])
def test_a_bad_signal_touches_nothing(
    verb: str, engine: Engine, play: Callable[..., Answer]
) -> None:
    code, _, err = play(verb, "-s", "FOO", "web")
    assert code == 1
    assert "FOO" in err
    assert engine.calls == []


def test_wait_prints_codes(engine: Engine, play: Callable[..., Answer]) -> None:
    engine.code = 137
    assert play("wait", "web", "job") == (0, "137\n137\n", "")


def test_only_one_can_be_attached_at_once(engine: Engine, play: Callable[..., Answer]) -> None:
    code, _, err = play("start", "-a", "web", "job")
    assert (code, err) == (
        1,
        "pycontain: you cannot start and attach multiple containers at once\n",
    )
    assert engine.calls == []


# --- exec, logs ----------------------------------------------------------------------------------


def test_exec_hands_on_what_is_asked(engine: Engine, play: Callable[..., Answer]) -> None:
    words = ["-d", "-e", "A=1", "-u", "nobody", "-w", "/srv", "--timeout", "1.5"]
    assert play("exec", *words, "web", "ls", "-d") == (0, "", "")
    assert engine.calls == [
        (
            "exec",
            "web",
            ExecOptions(
                command=("ls", "-d"),
                detach=True,
                env=("A=1",),
                user="nobody",
                workdir="/srv",
                timeout=1.5,
            ),
        )
    ]


@pytest.mark.parametrize("text", ["x", "-1", "nan", "inf", ""])
def test_exec_refuses_odd_times(text: str, play: Callable[..., Answer]) -> None:
    code, _, err = play("exec", f"--timeout={text}", "web", "ls")
    assert code == 125
    assert "--timeout" in err


def test_logs_go_to_their_streams(engine: Engine, play: Callable[..., Answer]) -> None:
    engine.entries = [
        LogEntry(0, "stdout", b"out\n"),
        LogEntry(1, "stderr", b"err\xff\n"),
    ]
    code = main(["logs", "web"], lambda root, state: engine)  # type: ignore[arg-type,return-value]
    assert code == 0
    assert engine.calls == [
        ("logs", "web", {"follow": False, "tail": None, "since": None, "until": None})
    ]


def test_logs_write_the_bytes_of_the_container(
    engine: Engine, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    engine.entries = [LogEntry(0, "stdout", b"\xff\x00"), LogEntry(1, "stderr", b"e\n")]
    main(["logs", "web"], lambda root, state: engine)  # type: ignore[arg-type,return-value]
    assert capfdbinary.readouterr() == (b"\xff\x00", b"e\n")


def test_logs_stamp_the_beginning_of_lines_only(
    engine: Engine, play: Callable[..., Answer]
) -> None:
    engine.entries = [
        LogEntry(0, "stdout", b"a "),
        LogEntry(5, "stderr", b"x\n"),
        LogEntry(1, "stdout", b"line\n"),
        LogEntry(SECOND, "stdout", b"next\n"),
    ]
    assert play("logs", "-t", "web") == (
        0,
        "1970-01-01T00:00:00.000000000Z a line\n1970-01-01T00:00:01.000000000Z next\n",
        "1970-01-01T00:00:00.000000005Z x\n",
    )


def test_logs_settings(engine: Engine, play: Callable[..., Answer]) -> None:
    play("logs", "-f", "-n", "5", "--since", "100", "--until", "2001-01-01T00:00:00Z", "web")
    assert engine.calls[0][2] == {
        "follow": True,
        "tail": 5,
        "since": 100 * SECOND,
        "until": 978307200 * SECOND,
    }
    assert play("logs", "--since", "nonsense", "web")[0] == 1


# --- listings ------------------------------------------------------------------------------------


def names(play: Callable[..., Answer], *words: str) -> list[str]:
    code, out, err = play("ps", "--format", "{{.Names}}", *words)
    assert (code, err) == (0, "")
    return out.split()


def test_ps_is_a_table(play: Callable[..., Answer]) -> None:
    code, out, _ = play("ps", "-a")
    assert code == 0
    exited = "Exited (3) 10 seconds ago"
    table = [
        ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"],
        ["a" * 12, "busybox", '"sleep 1000"', "3 minutes ago", "Up 2 minutes", "", "web"],
        ["b" * 12, "busybox", '"sleep 1000"', "About a minute ago", exited, "", "job"],
    ]
    widths = [15, 10, 15, 21, 28, 10, 0]
    assert out.splitlines() == [
        "".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)) for row in table
    ]


def test_ps_shows_what_runs(play: Callable[..., Answer]) -> None:
    assert names(play) == ["web"]
    assert names(play, "-a") == ["web", "job"]
    assert play("ps", "-aq") == (0, "a" * 12 + "\n" + "b" * 12 + "\n", "")
    assert play("ps", "-q", "--no-trunc") == (0, "a" * 64 + "\n", "")
    assert names(play, "-n", "1") == names(play, "-l") == ["web"]
    assert names(play, "-n", "5") == ["web", "job"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["name=we"], ["web"]),
        (["name=^/web$"], ["web"]),
        (["id=bbb"], ["job"]),
        (["status=exited"], ["job"]),
        (["status=exited", "status=running"], ["web", "job"]),
        (["exited=3"], ["job"]),
        (["exited=0"], []),
        (["label=from"], ["web", "job"]),
        (["label=from=image"], ["web", "job"]),
        (["label=from=x"], []),
        (["label=from", "label=other"], []),
        (["ancestor=busybox"], ["web", "job"]),
        (["ancestor=busybox:latest"], ["web", "job"]),
        (["ancestor=sha256:" + "f" * 64], ["web", "job"]),
        (["ancestor=debian"], []),
        (["before=job"], ["web"]),
        (["since=web"], ["job"]),
        (["network=none"], ["web", "job"]),
        (["network=host"], []),
        (["volume=/data"], []),
        (["name=web", "status=exited"], []),
    ],
)
def test_filters(filters: list[str], found: list[str], play: Callable[..., Answer]) -> None:
    words = [word for text in filters for word in ("-f", text)]
    assert names(play, "-a", *words) == found


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("health=x", "one of starting, healthy, unhealthy, none"),
        ("publish=x", "Invalid filter 'publish=x'"),
        ("expose=80/sctp", "Invalid filter 'expose=80/sctp'"),
        ("is-task=true", "no services"),
        ("status=x", "one of created"),
        ("exited=x", "not a number"),
        ("before=nope", "nope"),
        ("name=(", "bad regular expression"),
        ("foo=bar", "there are ancestor"),
    ],
)
def test_bad_filters_are_refused(text: str, part: str, play: Callable[..., Answer]) -> None:
    code, out, err = play("ps", "-f", text)
    assert (code, out) == (1, "")
    assert err.startswith("pycontain: ")
    assert part in err


def test_ps_with_sizes(engine: Engine, play: Callable[..., Answer]) -> None:
    assert names(play) == ["web"]
    assert not [call for call in engine.calls if call[0] == "sizes"]
    lines = play("ps", "-s")[1].splitlines()
    assert lines[0].split()[-2:] == ["NAMES", "SIZE"]
    assert lines[1].endswith("web       1kB (virtual 2MB)")
    assert play("ps", "--format", "{{.Size}}")[1] == "1kB (virtual 2MB)\n"
    assert json.loads(play("ps", "--size", "--format", "json")[1])["Size"] == "1kB (virtual 2MB)"
    assert json.loads(play("ps", "--format", "json")[1])["Size"] == ""
    assert play("ps", "-qs")[1] == "a" * 12 + "\n"
    engine.failures["sizes"] = StoreError("measure: no")
    code, out, err = play("ps", "-s")
    assert (code, len(out.splitlines()), err) == (1, 2, "pycontain: measure: no\n")
    engine.failures["sizes"] = NotFound("gone")
    assert play("ps", "-s", "--format", "{{.ID}}") == (0, "", "")


def test_streams_and_descriptors_of_run(engine: Engine, play: Callable[..., Answer]) -> None:
    for words, part in (
        (["-d", "-a", "stdout"], "cannot specify both --attach and --detach"),
        (["-a", "stdin"], "-i keeps it open"),
        (["--preserve-fds", "900"], "--preserve-fds: descriptor"),
        (["--replace"], "it takes the --name"),
        (["--pull", "never"], "o such image"),
    ):
        image = "debian" if "never" in words else "busybox"
        code, out, err = play("run", *words, image)
        assert (code, out) == (1 if "-d" in words else 125, "")
        assert part in err
    assert engine.calls == []
    assert play("run", "-d", "--replace", "--name", "web", "--pull=never", "busybox")[0] == 0
    assert play("create", "--replace", "--name", "web", "busybox")[0] == 0
    assert [call[-1] for call in engine.calls] == ["replace", "replace"]


def test_a_damaged_container_hides_no_other(engine: Engine, play: Callable[..., Answer]) -> None:
    engine.problems = [StoreError("container c: damaged")]
    code, out, err = play("ps", "-q")
    assert (code, out, err) == (1, "a" * 12 + "\n", "pycontain: container c: damaged\n")


def test_ps_fields(engine: Engine, play: Callable[..., Answer]) -> None:
    engine.views = [
        view(
            "vol",
            "c",
            labels={"a.b": "7"},
            mounts=(
                Mount(type="bind", source="/a/very/long/path", target="/x"),
                Mount(type="volume", target="/v"),
            ),
        )
    ]
    form = '{{.Labels}}|{{.Label "a.b"}}|{{.Mounts}}|{{.LocalVolumes}}|{{.State}}|{{.Networks}}'
    assert play("ps", "--format", form)[1] == (
        "a.b=7,from=image|7|cccccccccccccc…,/a/very/long/p…|1|running|none\n"
    )


def test_an_unknown_field_is_dockers_error(play: Callable[..., Answer]) -> None:
    code, _, err = play("ps", "--format", "{{.Names}}{{.Nope}}")
    assert code == 1
    assert "can't evaluate field" in err
    assert "in type *formatter.ContainerContext" in err


def test_images(play: Callable[..., Answer]) -> None:
    lines = play("images")[1].splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["busybox", "latest", "f" * 12],
        ["busybox", "1", "f" * 12],
    ]
    assert lines[1].endswith("About an hour ago   1.98MB")
    assert play("images", "-q")[1] == "f" * 12 + "\n"
    assert len(play("images", "busybox:1")[1].splitlines()) == 2
    assert len(play("images", "nope")[1].splitlines()) == 1
    assert "sha256:" + "d" * 64 in play("images", "--digests")[1]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("reference=busybox", 2),
        ("reference=busy*:1", 1),
        ("label=a=b", 2),
        ("label=a=c", 0),
        ("dangling=true", 0),
        ("dangling=false", 2),
        ("before=busybox", 0),
    ],
)
def test_filters_of_images(text: str, count: int, play: Callable[..., Answer]) -> None:
    code, out, _ = play("images", "--format", "{{.Tag}}", "-f", text)
    assert (code, len(out.split())) == (0, count)


@pytest.mark.parametrize("text", ["foo=bar", "dangling=x", "before=nope"])
def test_bad_filters_of_images(text: str, play: Callable[..., Answer]) -> None:
    assert play("images", "-f", text)[0] == 1


# --- inspect, system -----------------------------------------------------------------------------


def test_inspect_is_dockers_document(play: Callable[..., Answer]) -> None:
    code, out, _ = play("inspect", "web", "busybox")
    container, image = json.loads(out)
    assert code == 0
    assert out.startswith('[\n    {\n        "Id": ')
    assert (container["Name"], container["Path"], container["Args"]) == ("/web", "sleep", ["1000"])
    assert container["State"]["Running"] is True
    assert container["State"]["Pid"] == 7
    assert container["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert container["HostConfig"]["NetworkMode"] == "none"
    assert container["Config"]["Labels"] == {"from": "image"}
    assert container["Config"]["Cmd"] == ["sh"]
    assert list(container["NetworkSettings"]["Networks"]) == ["none"]
    assert image["RepoTags"] == ["busybox:latest", "busybox:1"]


def test_inspect_prints_what_it_finds_and_names_what_it_does_not(
    play: Callable[..., Answer],
) -> None:
    code, out, err = play("inspect", "nope", "job")
    assert code == 1
    assert [each["State"]["ExitCode"] for each in json.loads(out)] == [3]
    assert err == "pycontain: No such object: nope\n"
    assert play("inspect", "nope")[1] == "[]\n"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("{{.State.Status}}", "running"),
        ("{{.Config.Labels.nope}}", "<no value>"),
        ("{{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}", "none"),
        ("{{json .Config.Cmd}}", '["sh"]'),
        ("{{.HostConfig.Binds}}", "<no value>"),
    ],
)
def test_inspect_format(form: str, text: str, play: Callable[..., Answer]) -> None:
    assert play("inspect", "-f", form, "web") == (0, f"{text}\n", "")


def test_a_field_that_the_document_lacks_is_an_error(play: Callable[..., Answer]) -> None:
    code, _, err = play("inspect", "-f", "{{.State.Nope}}", "web")
    assert code == 1
    assert 'at <.State.Nope>: map has no entry for key "Nope"' in err


def test_version_and_info(play: Callable[..., Answer]) -> None:
    assert play("version", "-f", "{{.Server.Version}}") == (0, f"{pycontain.__version__}\n", "")
    assert "Kernel version:" in play("version")[1]
    assert play("info", "-f", "{{.Containers}} {{.ContainersRunning}} {{.DockerRootDir}}") == (
        0,
        "2 1 /r\n",
        "",
    )
    assert "Root folder: /r\n" in play("info")[1]


def test_port(play: Callable[..., Answer]) -> None:
    both = "0.0.0.0:8080\n[::]:8080\n"
    assert play("port", "web") == (0, "".join(f"80/tcp -> {w}\n" for w in both.split()), "")
    assert play("port", "web", "80") == play("port", "web", "80/TCP") == (0, both, "")
    for word, part in (("81", "No public port '81' published for web"), ("x", "invalid port (x)"),
                       ("80/udp", "No public port '80/udp'")):  # fmt: skip
        code, out, err = play("port", "web", word)
        assert (code, out) == (1, "")
        assert part in err
