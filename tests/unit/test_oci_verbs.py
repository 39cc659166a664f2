"""The verbs list, ps, events, update, features and spec: what can be told without a kernel's help.

What ``features`` says is held against what the checks and the compilers take.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from pycontain.errors import InvalidInput, NotSupported
from pycontain.kernel import capability
from pycontain.oci import events, features, flags, listing, log, specfile, state, update
from pycontain.oci import main as face
from pycontain.oci.flags import LIST, SWITCH, VALUE, Flag, UsageError
from pycontain.runtime import cgroup_stats, check, mounts, plan, seccomp
from pycontain.runtime.resources import writes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pycontain.model import oci

    Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def no_log() -> None:
    log.set_up("", "text", debug=False)


@pytest.fixture
def call(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a verb; its exit code, output, and what it says on standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        code = face.main(["--root", f"{tmp_path}/root", *words])
        return code, *capfd.readouterr()

    return run


def make(root: str, identity: str = "one", **values: Any) -> state.Container:
    """A container of which there is nothing but the folder; its process is gone."""
    new = state.State("/bundle", "/bundle/rootfs", "2026-01-02T03:04:05.000000006Z")
    new.complete = True
    new.pid, new.start = 2, 1  # pid 2 never started then
    for name, value in values.items():
        setattr(new, name, value)
    return state.claim(root, identity, new)


def running(root: str, **values: Any) -> None:
    """A container whose process is this one."""
    from pycontain.kernel import process

    start = process.start_time(os.getpid())
    with make(root, pid=os.getpid(), start=start, **values) as container:
        container.keep_config({"ociVersion": "1.3.0", "linux": {}})


# ------------------------------------------------------------------------------- flags after words


TABLE = (Flag("all a", SWITCH, ""), Flag("bundle b", VALUE, ""), Flag("env e", LIST, ""))


@pytest.mark.parametrize(
    ("words", "rest", "given"),
    [
        (["ID", "-a"], ["ID"], {"all"}),
        (["ID", "--bundle", "/b", "KILL"], ["ID", "KILL"], {"bundle"}),
        (["ID", "-e", "-a", "-e=x"], ["ID"], {"env"}),
        (["-a", "ID", "--", "-a"], ["ID", "-a"], {"all"}),
        (["ID", "-", "", "-a"], ["ID", "-", ""], {"all"}),
        ([], [], set()),
    ],
)
def test_flags_behind_words(words: list[str], rest: list[str], given: set[str]) -> None:
    found = flags.read(TABLE, words, interspersed=True)
    assert (found.words, found.given) == (rest, given)


@pytest.mark.parametrize("words", [["ID", "--nonsense"], ["ID", "-b"], ["ID", "-9"]])
def test_wrong_flags_behind_words(words: list[str]) -> None:
    with pytest.raises(UsageError):
        flags.read(TABLE, words, interspersed=True)


def test_a_command_of_somebody_elses_keeps_its_flags() -> None:
    for verb in face.VERBS:
        words = flags.read((), ["ID", "--"], interspersed=verb not in face.COMMAND_FOLLOWS).words
        assert words == (["ID", "--"] if verb in ("exec", "ps") else ["ID"])


# -------------------------------------------------------------------------------------------- verbs


def test_every_verb_is_there() -> None:
    for module, function, table, _, line in face.VERBS.values():
        found = __import__(f"pycontain.oci.{module}", fromlist=[function])
        assert callable(getattr(found, function))
        assert not table or all(isinstance(flag, Flag) for flag in getattr(found, table))
        assert line


@pytest.mark.parametrize("verb", face.VERBS)
def test_help_of_each_verb(call: Call, verb: str) -> None:
    code, out, err = call(verb, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: pycontain-runtime {verb} [FLAGS]")
    assert not [line for line in out.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize(
    "words",
    [
        ["list", "x"],
        ["features", "x"],
        ["spec", "x"],
        ["ps"],
        ["events"],
        ["update"],
        ["checkpoint"],
        ["restore", "a", "b"],
    ],
)
def test_words_that_are_too_many_or_missing(call: Call, words: list[str]) -> None:
    code, out, err = call(*words)
    assert (code, out) == (1, "")
    assert f"usage: pycontain-runtime {words[0]}" in err


@pytest.mark.parametrize("verb", ["ps", "events", "update"])
def test_a_container_that_is_not_there(call: Call, verb: str) -> None:
    code, out, err = call(verb, "one")
    assert (code, out, err) == (1, "", "pycontain-runtime: container one does not exist\n")


MODULES = ("listing", "events", "update", "features", "specfile")
DEAR = {
    "click", "collections", "enum", "json", "msgspec", "re", "signal", "socket", "subprocess",
    "typing",
}  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_an_import_brings_nothing_dear(module: str) -> None:
    script = f"import sys; sys.path[:] += {[*filter(None, sys.path)]!r}; "
    script += f"import pycontain.oci.{module}; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert f"pycontain.oci.{module}" in found
    assert not DEAR.intersection(found)


# --------------------------------------------------------------------------------------------- list


def test_a_list(call: Call, tmp_path: Path) -> None:
    root = f"{tmp_path}/root"
    make(root, "two", annotations={"a": "b"}, owner=4_000_000_000).__exit__()
    running(root)
    entries = json.loads(call("list", "--format", "json")[1])
    assert entries == [
        {
            "ociVersion": "1.3.0", "id": "one", "pid": os.getpid(), "status": "running",
            "bundle": "/bundle", "rootfs": "/bundle/rootfs",
            "created": "2026-01-02T03:04:05.000000006Z", "owner": "root",
        },
        {
            "ociVersion": "1.3.0", "id": "two", "pid": 0, "status": "stopped",
            "bundle": "/bundle", "rootfs": "/bundle/rootfs", "annotations": {"a": "b"},
            "created": "2026-01-02T03:04:05.000000006Z", "owner": "",
        },
    ]  # fmt: skip
    assert call("list", "-q") == (0, "one\ntwo\n", "")
    lines = [line.split() for line in call("list")[1].splitlines()]
    assert lines[0] == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    created = "2026-01-02T03:04:05.000000006Z"
    assert lines[1:] == [
        ["one", str(os.getpid()), "running", "/bundle", created, "root"],
        ["two", "0", "stopped", "/bundle", created],
    ]


def test_columns_are_aligned(call: Call, tmp_path: Path) -> None:
    for name in ("a", "a-longer-name"):
        make(f"{tmp_path}/root", name).__exit__()
    lines = call("list")[1].splitlines()
    assert {line.index(word) for line, word in zip(lines, ("PID", "0 ", "0 "), strict=True)} == {16}
    assert {line.index(word) for line, word in zip(lines, ("OWN", "root", "root"), strict=True)}


def test_no_containers(call: Call) -> None:
    assert call("list") == (0, "ID   PID   STATUS   BUNDLE   CREATED   OWNER\n", "")
    assert call("list", "-f", "json") == (0, "[]\n", "")
    assert call("list", "-q") == (0, "", "")


def test_one_that_cannot_be_read_does_not_hide_the_others(call: Call, tmp_path: Path) -> None:
    root = f"{tmp_path}/root"
    make(root, "a-damaged").__exit__()
    (tmp_path / "root/a-damaged/state.json").write_text("{")
    os.mkdir(f"{root}/b-nothing")
    os.mkdir(f"{root}/@seccomp")
    with open(f"{root}/file", "w"):
        pass
    make(root, "one").__exit__()
    code, out, err = call("list", "-q")
    assert (code, out) == (0, "one\n")
    told = err.splitlines()
    assert [line.partition("left out: ")[2].partition(":")[0] for line in told] == [
        f"{root}/a-damaged/state.json", f"{root}/b-nothing",
    ]  # fmt: skip


def test_one_that_is_being_claimed_is_no_news(call: Call, tmp_path: Path) -> None:
    with make(f"{tmp_path}/root", "one") as container:
        os.unlink("state.json", dir_fd=container.folder)
        assert call("list", "-q") == (0, "", "")


@pytest.mark.parametrize("words", [["list"], ["ps", "one"]])
def test_a_format_that_is_none(call: Call, words: list[str]) -> None:
    code, out, err = call(words[0], "-f", "yaml", *words[1:])
    assert (code, out, err) == (1, "", "pycontain-runtime: --format 'yaml': table or json\n")


# ----------------------------------------------------------------------------------------------- ps


def test_rows_of_some_processes() -> None:
    lines = [
        "UID   PID  PPID CMD",
        "root   12     1 sleep 13",
        "root   13     1 sleep 12",
        "root  120     1 12",
    ]
    assert listing.rows_of(lines, [12, 120, 9]) == [lines[0], lines[1], lines[3]]
    assert listing.rows_of(lines, []) == lines[:1]


def test_rows_of_threads_go_with_their_process() -> None:
    lines = ["  PID   LWP", "   12     -", "    -    12", "   13     -", "    -    13", ""]
    assert listing.rows_of(lines, [12]) == lines[:3]
    assert listing.rows_of(lines, [13]) == [lines[0], *lines[3:5]]


@pytest.mark.parametrize("lines", [[], [""], ["PPID CMD", "1 x"]])
def test_rows_without_pids(lines: list[str]) -> None:
    with pytest.raises(InvalidInput, match="no column PID"):
        listing.rows_of(lines, [1])


def test_ps_of_what_has_ended_and_lost_its_cgroup(call: Call, tmp_path: Path) -> None:
    make(f"{tmp_path}/root").__exit__()
    assert call("ps", "--format", "json", "one") == (0, "[]\n", "")


def test_ps_of_what_has_no_cgroup(call: Call, tmp_path: Path) -> None:
    running(f"{tmp_path}/root")
    code, out, err = call("ps", "--format", "json", "one")
    assert (code, out) == (1, "")
    assert "has no cgroup" in err


def test_ps_where_there_is_none(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(f"{tmp_path}/root").__exit__()
    monkeypatch.setenv("PATH", f"{tmp_path}")
    code, out, err = call("ps", "one")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "pycontain-runtime: list processes: ps: no such file or directory",
        "hint: install ps (of procps), or use --format json",
    ]
    assert call("ps", "-f", "json", "one")[0] == 0


def test_ps_gets_its_options_and_tells_why_it_fails(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(f"{tmp_path}/root").__exit__()
    program = tmp_path / "ps"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program.write_text('#!/bin/sh\necho "PID $*"\n')
    program.chmod(0o755)
    assert call("ps", "one") == (0, "PID -ef\n", "")
    assert call("ps", "one", "-o", "x", "--format") == (0, "PID -o x --format\n", "")
    program.write_text("#!/bin/sh\necho why >&2\necho more >&2\nexit 3\n")
    assert call("ps", "one", "-x") == (1, "", "pycontain-runtime: ps -x: exit code 3: why\n")


# ------------------------------------------------------------------------------------------- events


@pytest.mark.parametrize("word", ["5", "", "x", "1 s", "5x", "0s", "0", "-1s"])
def test_an_interval_that_is_none(call: Call, word: str) -> None:
    code, out, err = call("events", "--interval", word, "one")
    assert (code, out) == (1, "")
    assert err.startswith(f"pycontain-runtime: --interval {word!r}: ")


@pytest.mark.parametrize(
    ("word", "seconds"), [("500ms", 0.5), ("1m30s", 90.0), ("1.5s", 1.5), (None, 5.0)]
)
def test_an_interval(word: str | None, seconds: float) -> None:
    words = [] if word is None else ["--interval", word]
    command = face.Command("events", flags.read(events.FLAGS, words), "/nowhere", False)
    assert events._interval(command) == seconds


def test_events_of_what_has_ended_or_has_no_cgroup(call: Call, tmp_path: Path) -> None:
    make(f"{tmp_path}/root", "two").__exit__()
    assert "two is not running" in call("events", "--stats", "two")[2]
    running(f"{tmp_path}/root")
    code, out, err = call("events", "--stats", "one")
    assert (code, out) == (1, "")
    assert "has no cgroup" in err


def told(waits: list[int | None], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What events prints while a container's end and its kills come as in `waits`."""
    printed: list[dict[str, Any]] = []
    clock = [0.0]

    class Printer(face.Command):
        __slots__ = ()

        def print(self, text: str) -> None:
            printed.append(json.loads(text))

    def wait(seconds: float) -> int | None:
        answer = waits.pop(0)
        if answer == 0:
            clock[0] += max(seconds, 0)
        return answer

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(cgroup_stats, "stats", lambda folder: {"pids": {"current": folder}})
    command = Printer("events", flags.Values(()), "/nowhere", False)
    events._report(command, "one", 7, 5.0, wait)
    assert not waits
    return printed


STATS = {
    "type": "stats", "id": "one",
    "data": {"cpu": {}, "memory": {}, "pids": {"current": 7}, "blkio": {}, "hugetlb": {}},
}  # fmt: skip
OOM = {"type": "oom", "id": "one"}


def test_events_are_told_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told([0, 2, 0, None], monkeypatch) == [STATS, OOM, OOM, STATS]
    assert told([1, None], monkeypatch) == [OOM]
    assert told([None], monkeypatch) == []


# ------------------------------------------------------------------------------------------- update


def asked(*words: str) -> oci.Resources:
    return update.asked(flags.read(update.FLAGS, words))


def test_flags_become_resources() -> None:
    words = (
        "--memory 64m --memory-reservation 1048576 --memory-swap -1 --cpu-period 100000"
        " --cpu-quota -1 --cpu-burst 0 --cpu-share 512 --cpu-idle 0 --cpuset-cpus 0-1"
        " --cpuset-mems 0 --pids-limit 20 --blkio-weight 100"
    ).split()
    assert asked(*words) == {
        "memory": {"limit": 64 << 20, "reservation": 1 << 20, "swap": -1},
        "cpu": {
            "period": 100000, "quota": -1, "burst": 0, "shares": 512, "idle": 0, "cpus": "0-1",
            "mems": "0",
        },
        "pids": {"limit": 20},
        "blockIO": {"weight": 100},
    }  # fmt: skip
    assert asked() == {}


def test_every_flag_of_a_limit_is_one_of_the_specifications() -> None:
    for flag, section, key, _, _ in update._FIELDS:
        value = asked(f"--{flag}", "1")[section]  # type: ignore[literal-required]
        assert list(value) == [key]


@pytest.mark.parametrize("flag", ["memory", "memory-swap", "kernel-memory"])
@pytest.mark.parametrize("word", ["many", "", "-2", "5x", "1e3"])
def test_a_size_that_is_none(flag: str, word: str) -> None:
    with pytest.raises(InvalidInput, match=f"--{flag}"):
        asked(f"--{flag}", word)


@pytest.mark.parametrize(
    "words",
    [
        ["--pids-limit", "x"], ["--cpu-quota", "1.5"], ["--cpu-share", "-1"], ["--cpu-share", ""],
        ["--blkio-weight", "70000"],
    ],
)  # fmt: skip
def test_a_number_that_cannot_be(words: list[str]) -> None:
    with pytest.raises(InvalidInput):
        asked(*words)


@pytest.mark.parametrize("flag", ["kernel-memory", "cpu-rt-period", "cpu-rt-runtime"])
def test_what_cgroup_v2_has_not_is_refused(flag: str) -> None:
    with pytest.raises(InvalidInput, match="cgroup v2"):
        writes(asked(f"--{flag}", "5000"))
    assert writes(asked(f"--{flag}", "0")) == []


@pytest.mark.parametrize("flag", ["l3-cache-schema", "mem-bw-schema"])
def test_resctrl_is_refused(flag: str) -> None:
    with pytest.raises(InvalidInput, match=f"--{flag}: resctrl is not supported"):
        asked(f"--{flag}", "L3:0=f")


def test_a_file_of_resources(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"pids": {"limit": 5}, "memory": null}')
    assert asked("-r", str(path)) == {"pids": {"limit": 5}}
    with pytest.raises(UsageError, match="--resources"):
        asked("-r", str(path), "--pids-limit", "7")
    path.write_text('{"pids": {"limit": "x"}}')
    with pytest.raises(InvalidInput, match=r"r\.json: pids\.limit"):
        asked("-r", str(path))
    with pytest.raises(InvalidInput, match="no such file"):
        asked("-r", f"{tmp_path}/none")


def test_resources_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.write(writer, b'{"cpu": {"shares": 5}}')
    os.close(writer)
    before = os.dup(0)
    try:
        os.dup2(reader, 0)
        assert asked("--resources", "-") == {"cpu": {"shares": 5}}
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(reader)


# What docker sends where nothing is asked for, as for `docker update --restart no`.
NOTHING_SAID = {
    "memory": {"limit": 0, "reservation": 0, "kernel": 0, "swap": 0},
    "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
    "blockIO": {"weight": 0},
    "pids": {"limit": 0},
    "devices": [],
}


def test_what_is_not_said_changes_nothing(call: Call, tmp_path: Path) -> None:
    running(f"{tmp_path}/root")
    path = tmp_path / "r.json"
    path.write_text(json.dumps(NOTHING_SAID))
    assert call("update", "-r", str(path), "one") == (0, "", "")
    with state.find(f"{tmp_path}/root", "one") as container:
        kept = container.config()["linux"]["resources"]
    assert not any(kept.values())


def test_a_limit_for_what_has_no_cgroup(call: Call, tmp_path: Path) -> None:
    running(f"{tmp_path}/root")
    code, _, err = call("update", "one", "--pids-limit", "5")
    assert code == 1
    assert "has no cgroup" in err


def test_an_update_of_what_has_ended(call: Call, tmp_path: Path) -> None:
    make(f"{tmp_path}/root").__exit__()
    code, _, err = call("update", "one")
    assert code == 1
    assert "container one cannot be updated: it is stopped" in err


def test_device_rules_may_be_said_again_and_not_changed() -> None:
    rules: list[oci.DeviceRule] = [{"allow": True, "access": "r"}]
    linux: oci.Linux = {"resources": {"devices": [*rules]}}
    changes: oci.Resources = {"devices": [*rules], "pids": {"limit": 5}}
    update._check_devices(changes, linux)
    assert changes == {"pids": {"limit": 5}}
    others: list[oci.Linux] = [{"resources": {"devices": []}}, {"resources": {}}, {}]
    for other in others:
        with pytest.raises(InvalidInput, match="devices"):
            update._check_devices({"devices": [*rules]}, other)


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        ({}, {"cpu": {"shares": 5}}, {"cpu": {"shares": 5}}),
        (
            {"cpu": {"shares": 5, "quota": 9, "idle": 1}, "pids": {"limit": 3}},
            {"cpu": {"shares": 0, "quota": -1, "idle": 0}},
            {"cpu": {"shares": 5, "quota": -1, "idle": 0}, "pids": {"limit": 3}},
        ),
        (
            {"unified": {"memory.high": "1", "io.max": "x"}}, {"unified": {"io.max": "y"}},
            {"unified": {"memory.high": "1", "io.max": "y"}},
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 1}]},
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]},
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}, {"pageSize": "1GB", "limit": 1}]},
        ),
    ],
)  # fmt: skip
def test_what_is_kept_after_an_update(old: Any, new: Any, result: Any) -> None:
    before = json.dumps(old)
    assert update.merged(old, new) == result
    assert json.dumps(old) == before


# ----------------------------------------------------------------------------------------- features


def config(**more: Any) -> dict[str, Any]:
    """A configuration that is accepted as it is."""
    base = specfile.configuration()
    return {**json.loads(json.dumps(base)), **more}


def linux(**more: Any) -> dict[str, Any]:
    """The same with another Linux part."""
    kinds = ("mount", "uts", "network")
    return config(linux={"namespaces": [{"type": kind} for kind in kinds], **more})


FEATURES: dict[str, Any] = json.loads(json.dumps(features.features()))
LINUX: dict[str, Any] = FEATURES["linux"]


def test_features_are_told(call: Call) -> None:
    code, out, err = call("features")
    assert (code, err) == (0, "")
    assert json.loads(out) == FEATURES


@pytest.mark.parametrize("key", ["ociVersionMin", "ociVersionMax"])
def test_the_versions_are_accepted(key: str) -> None:
    check.check(config(ociVersion=FEATURES[key]))
    assert FEATURES["ociVersionMax"] == state.SPEC_VERSION


def test_the_hooks_are_accepted_and_are_all() -> None:
    hooks = {kind: [{"path": "/hook"}] for kind in FEATURES["hooks"]}
    assert set(check.check(config(hooks=hooks))["hooks"]) == set(FEATURES["hooks"])
    from pycontain.model.oci import Hooks

    assert set(FEATURES["hooks"]) == set(Hooks.__annotations__)


def planned(*options: str, kind: str = "") -> bool:
    """Whether a mount with these options becomes a plan: of a folder, or of another type."""
    maps = [{"containerID": 0, "hostID": 0, "size": 1}]
    source: dict[str, Any] = {"destination": "/m", "source": "/m"}
    if set(options) & set(mounts.IDMAP):
        source |= {"uidMappings": maps, "gidMappings": maps}
    mount = source | ({"type": kind} if kind else {})
    words = [*options] if kind else ["rbind", *options]
    try:
        spec = check.check(config(mounts=[{**mount, "options": words}]))
        plan.container(spec, plan.Settings())
    except InvalidInput:
        return False
    return True


@pytest.mark.parametrize("word", FEATURES["mountOptions"])
def test_a_mount_option_is_taken(word: str) -> None:
    assert planned(word) == (word != "tmpcopyup")
    assert planned(word, kind="tmpfs") == (word not in mounts.IDMAP)


def test_a_mount_option_that_is_not_told() -> None:
    assert not planned("nonsense")
    assert "nonsense" not in FEATURES["mountOptions"]


def test_every_table_of_mount_options_is_told() -> None:
    """But what not every file system takes: acl, noacl."""
    told = {"bind", "rbind", "remount", "tmpcopyup", *mounts._SILENT, *mounts._SUPERBLOCK}
    for table in (mounts.ATTRIBUTES, mounts.RECURSIVE, mounts.PROPAGATION, mounts.IDMAP):
        told.update(table)
    assert FEATURES["mountOptions"] == sorted(told - {"acl", "noacl"})


def test_the_namespaces_are_accepted_and_are_all() -> None:
    entries = [{"type": kind} for kind in LINUX["namespaces"]]
    maps = [{"containerID": 0, "hostID": 0, "size": 1}]
    given = config(linux={"namespaces": entries, "uidMappings": maps, "gidMappings": maps})
    assert plan.container(check.check(given), plan.Settings())
    with pytest.raises(InvalidInput):
        check.check(config(linux={"namespaces": [{"type": "nonsense"}]}))
    assert len(LINUX["namespaces"]) == 8  # namespaces(7)


def test_the_capabilities_are_accepted() -> None:
    spec = config()
    spec["process"]["capabilities"] = {"bounding": LINUX["capabilities"]}
    assert check.unknown_capabilities(check.check(spec)) == []
    assert LINUX["capabilities"] == list(capability.NAMES)
    assert len(LINUX["capabilities"]) > capability.last_cap()


@pytest.fixture
def libseccomp() -> None:
    try:
        seccomp.library_version()
    except NotSupported:
        pytest.skip("libseccomp is missing")


@pytest.mark.usefixtures("libseccomp")
def test_seccomp_is_accepted_and_compiled() -> None:
    said = LINUX["seccomp"]
    assert said["enabled"] is True
    assert set(said["supportedFlags"]) <= set(said["knownFlags"])
    base = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent"}
    for action in said["actions"]:
        compiled({**base, "syscalls": [{"names": ["mount"], "action": action}]})
    for operator in said["operators"]:
        compare = {"index": 0, "value": 1, "valueTwo": 1, "op": operator}
        rule = {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "args": [compare]}
        compiled({**base, "syscalls": [rule]})
    for flag in said["knownFlags"]:
        check.check(linux(seccomp={**base, "flags": [flag]}))
    for architecture in said["archs"]:
        check.check(linux(seccomp={**base, "architectures": [architecture]}))


def compiled(profile: dict[str, Any]) -> None:
    spec = check.check(linux(seccomp=profile))
    assert seccomp.compile_filter(spec["linux"]["seccomp"], None).program


def test_without_libseccomp_there_is_no_seccomp(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> list[str]:
        raise NotSupported("load", "libseccomp", 95)

    monkeypatch.setattr(seccomp, "known_actions", missing)
    monkeypatch.setattr(seccomp, "library_version", missing)
    found = json.loads(json.dumps(features.features()))
    assert found["linux"]["seccomp"] == {"enabled": False}
    assert not [key for key in found["annotations"] if "seccomp" in key]


def accepted(spec: dict[str, Any]) -> bool:
    try:
        check.check(spec)
    except InvalidInput:
        return False
    return True


def test_what_is_enabled_is_what_is_accepted() -> None:
    assert accepted(config())
    assert accepted(linux())
    label = config()
    label["process"]["selinuxLabel"] = "system_u:system_r:container_t:s0"
    assert LINUX["selinux"]["enabled"] == accepted(label)
    profile = config()
    profile["process"]["apparmorProfile"] = "profile"
    assert LINUX["apparmor"]["enabled"] == accepted(profile)
    rdt = LINUX["intelRdt"]
    assert rdt["enabled"] == accepted(linux(intelRdt={"closID": "x"}))
    assert rdt["schemata"] == accepted(linux(intelRdt={"schemata": ["MB:0=1"]}))
    assert LINUX["netDevices"]["enabled"] == accepted(linux(netDevices={"eth0": {}}))
    policy = accepted(linux(memoryPolicy={"mode": "MPOL_BIND", "nodes": "0"}))
    assert bool(LINUX["memoryPolicy"]["modes"]) == policy
    maps = [{"containerID": 0, "hostID": 1, "size": 1}]
    bind = {"destination": "/m", "source": "/m", "options": ["bind"]}
    mapped = check.check(config(mounts=[{**bind, "uidMappings": maps, "gidMappings": maps}]))
    arguments = [str(step.args) for step in plan.container(mapped, plan.Settings())]
    is_mapped = any("0 1 1\\n" in text for text in arguments)
    assert LINUX["mountExtensions"]["idmap"]["enabled"] == is_mapped


def test_cgroups_are_told_as_they_are(call: Call, tmp_path: Path) -> None:
    said = LINUX["cgroup"]
    assert (said["v1"], said["v2"]) == (False, True)
    rdma: oci.Resources = {"rdma": {"mlx5_1": {"hcaHandles": 3}}}
    assert said["rdma"] == bool(writes(rdma))
    # Managers give the flag with every verb; it is about those that make a cgroup.
    assert call("--systemd-cgroup", "list")[0] == 0
    call("spec", "--bundle", str(tmp_path))
    flags = ["--systemd-cgroup", "--rootless", "true"]
    code, _, err = call(*flags, "create", "--bundle", str(tmp_path), "one")
    assert (said["systemd"], said["systemdUser"]) == (True, code == 0)
    assert "systemd" in err


def test_annotations_are_texts() -> None:
    said = FEATURES["annotations"]
    assert all(isinstance(text, str) and "." in key for key, text in said.items())
    key = "org.pycontain.runtime.checkpoint.enabled"
    assert said[key] == ("true" if "checkpoint" in face.VERBS else "false")


# --------------------------------------------------------------------------------------------- spec


@pytest.mark.parametrize("owner", [None, (0, 0), (1000, 100)])
def test_the_specification_that_is_written_is_accepted_as_it_is(
    owner: tuple[int, int] | None,
) -> None:
    made = specfile.configuration(owner)
    assert check.check(json.loads(json.dumps(made))) == made
    assert plan.container(made, plan.Settings())


def test_the_shell_of_the_specification_is_shut_in() -> None:
    made = specfile.configuration()
    process = made["process"]
    assert process["args"] == ["sh"]
    assert not {"ambient", "inheritable"} & set(process["capabilities"])
    assert process["noNewPrivileges"]
    assert made["root"]["readonly"]
    kinds = [entry["type"] for entry in made["linux"]["namespaces"]]
    assert sorted(kinds) == ["cgroup", "ipc", "mount", "network", "pid", "uts"]
    assert "/proc/kcore" in made["linux"]["maskedPaths"]
    assert "/proc/sys" in made["linux"]["readonlyPaths"]


def test_the_specification_of_an_ordinary_user() -> None:
    made = specfile.configuration((1000, 100))
    assert "user" in [entry["type"] for entry in made["linux"]["namespaces"]]
    assert made["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert made["linux"]["gidMappings"] == [{"containerID": 0, "hostID": 100, "size": 1}]
    assert "resources" not in made["linux"]
    assert not [mount for mount in made["mounts"] if "gid=5" in mount.get("options", [])]


def test_spec_writes_where_there_is_none(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.json"
    assert call("spec", "--bundle", str(tmp_path)) == (0, "", "")
    assert json.loads(path.read_text()) == specfile.configuration()
    path.write_text("mine")
    code, _, err = call("spec", "-b", str(tmp_path))
    assert code == 1
    assert f"{path}: there is one already" in err
    assert path.read_text() == "mine"
    path.unlink()
    monkeypatch.chdir(tmp_path)
    assert call("spec", "--rootless") == (0, "", "")
    owner = (os.geteuid(), os.getegid())
    assert json.loads(path.read_text()) == specfile.configuration(owner)
    assert "no such file" in call("spec", "-b", f"{tmp_path}/none")[2]
