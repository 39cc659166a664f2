"""The OCI runtime face for ordinary users, and for root in somebody's user namespace."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from oci.bundle import (
    FOREVER,
    Bundle,
    Running,
    Terminal,
    bind,
    children,
    idmap,
    make_source,
    mount,
    namespace,
    subreaper,
    wait_until,
)
from ordinary import User, first_subuid, ordinary_user, processes_of
from pace import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [pytest.mark.host, pytest.mark.slow]

KINDS = ("one", "range")
BOTH = pytest.mark.parametrize("kind", KINDS)
SIZE = 65536
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
TRAP = "trap 'echo got; exit 7' TERM; echo up; while :; do sleep 0.02; done"
_numbers = itertools.count(1)


class Mine(Bundle):
    """A bundle below the user's home, and the runtime as the user calls it.

    Attributes:
        user: whose it is.
        environ: the environment of the runtime.
        place: flags that say where the runtime's state is.
        before: words before the runtime, which the user runs.
    """

    def __init__(self, user: User, source: str) -> None:
        super().__init__(f"{user.home}/b{next(_numbers)}", source)
        self.user = user
        self.environ = user.environment()
        self.place = ["--root", self.root]
        self.before: list[str] = []
        self.give(self.folder)

    def give(self, folder: str) -> None:
        """Make a folder, and all that is in it, the user's."""
        owner = f"{self.user.entry.pw_uid}:{self.user.entry.pw_gid}"
        subprocess.run(["chown", "-hR", owner, folder], check=True)

    def argv(self, verb: str, *args: str, before: Sequence[str] = ()) -> list[str]:
        words = [f"{name}={value}" for name, value in self.environ.items()]
        return [
            *self.shield, *self.user.become(), "env", "-i", "-C", str(self.user.home), *words,
            *self.before, self.user.runtime, *self.place, *before, verb, *args,
        ]  # fmt: skip

    def own_namespace(self, kind: str) -> None:
        """Have a user namespace: of the user's own id, or of that one and the subordinate ids."""
        self.linux["namespaces"].insert(0, {"type": "user"})
        ids = {"uid": self.user.entry.pw_uid, "gid": self.user.entry.pw_gid}
        for name, own in ids.items():
            more = [idmap(1, int(first_subuid()), SIZE)] if kind == "range" else []
            self.linux[f"{name}Mappings"] = [idmap(0, own, 1), *more]
        if kind == "one":
            self.without_tty_group()

    def without_tty_group(self) -> None:
        """There is no gid 5 to give terminals to."""
        for entry in self.mounts:
            entry["options"] = [option for option in entry["options"] if option != "gid=5"]

    def outside(self, inside: int) -> int:
        """The host's id of one of the container's."""
        return int(first_subuid()) + inside - 1 if inside else self.user.entry.pw_uid

    def map_file(self, own: int, kind: str) -> list[list[str]]:
        """The lines of an id map, in words."""
        more = [["1", first_subuid(), str(SIZE)]] if kind == "range" else []
        return [["0", str(own), "1"], *more]

    def in_namespace_of_mine(self) -> None:
        """Have the runtime run as root in a user namespace that the user has made before."""
        self.before = ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--"]


@pytest.fixture(scope="module")
def user(whole_host: None) -> Iterator[User]:
    with ordinary_user() as user:
        user.home.chmod(0o700)
        yield user


@pytest.fixture(scope="module")
def source(user: User) -> str:
    """The files of every rootfs, the user's own: they are linked, and links have one owner."""
    if not shutil.which("busybox"):
        pytest.skip("needs busybox")
    folder = user.home / "source"
    folder.mkdir()
    make_source(str(folder))
    for path in folder.iterdir():
        os.chown(path, user.entry.pw_uid, user.entry.pw_gid)
    return str(folder)


@pytest.fixture
def mine(user: User, source: str, nothing_left_behind: None) -> Iterator[Mine]:
    """A bundle without a user namespace; at the end nothing of the user's is there or runs."""
    with subreaper():
        bundle = Mine(user, source)
        try:
            yield bundle
        finally:
            problems = bundle.close()
        assert not problems, problems
        assert not processes_of(user.entry.pw_uid)
        assert os.listdir(user.home) == ["source"]


@pytest.fixture
def bundle(mine: Mine, kind: str) -> Mine:
    """A bundle with a user namespace of that kind."""
    mine.own_namespace(kind)
    return mine


def words_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


# -------------------------------------------------------------------------------------- who one is


@BOTH
def test_the_user_is_root_inside_by_the_maps_that_were_asked_for(bundle: Mine, kind: str) -> None:
    assert bundle.sh("id -u; id -g") == "0\n0\n"
    for name, own in (("uid", bundle.user.entry.pw_uid), ("gid", bundle.user.entry.pw_gid)):
        maps = words_of(bundle.out("cat", f"/proc/self/{name}_map"))
        assert maps == bundle.map_file(own, kind)
    # who may change groups could shed one that denies access: user_namespaces(7)
    denied = {"one": "deny\n", "range": "allow\n"}
    assert bundle.out("cat", "/proc/self/setgroups") == denied[kind]


@BOTH
def test_files_keep_their_owners(bundle: Mine, kind: str) -> None:
    seen = bundle.sh("stat -c %u:%g / /bin/cat /bin/sh /dev/shm && echo x >/tmp/made")
    assert set(seen.split()) == {"0:0"}
    made = os.stat(f"{bundle.rootfs}/tmp/made")
    assert (made.st_uid, made.st_gid) == (bundle.user.entry.pw_uid, bundle.user.entry.pw_gid)
    # the root of the host is nobody in there: proc_sys_fs(5), overflowuid
    assert bundle.out("stat", "-c", "%u", "/proc/uptime") == "65534\n"


@pytest.mark.parametrize("kind", ["range"])
def test_another_user_of_the_container_is_one_of_the_range(bundle: Mine) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 50, "additionalGids": [60, 70]}
    assert bundle.sh("id -u; id -G; touch /tmp/made") == "1000\n50 60 70\n"
    made = os.stat(f"{bundle.rootfs}/tmp/made")
    assert (made.st_uid, made.st_gid) == (bundle.outside(1000), bundle.outside(50))
    # what the user does to it from the host needs rights over that other user
    pid = bundle.up_sh(TRAP)
    assert os.stat(f"/proc/{pid}").st_uid == bundle.outside(1000)
    bundle.until("up")
    assert bundle.exec("id", "-u").stdout == "1000\n"
    bundle.kill("TERM")
    assert bundle.ended() == 7


@pytest.mark.parametrize(
    ("who", "word"),
    [
        ({"uid": 1, "gid": 0}, "uid"),
        ({"uid": 0, "gid": 1}, "gid"),
        ({"uid": 0, "gid": 0, "additionalGids": [7]}, "additionalGids"),
    ],
)
@pytest.mark.parametrize("kind", ["one"])
def test_a_user_that_is_not_mapped(bundle: Mine, who: dict[str, Any], word: str) -> None:
    bundle.process["user"] = who
    assert f"process.user.{word}" in bundle.refused()


@BOTH
def test_the_defences_are_those_of_root(bundle: Mine, kind: str) -> None:
    script = (
        "grep -E '^(CapEff|CapBnd|NoNewPrivs):' /proc/self/status;"
        " mknod /tmp/node c 1 3 || echo no mknod; mount -t tmpfs x /mnt || echo no mount;"
        " echo x >/proc/sysrq-trigger || echo no sysrq; ls /dev"
    )
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    lines = bundle.sh(f"({script}) 2>/dev/null").splitlines()
    wanted = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 31))
    assert [int(line.split()[1], 16) for line in lines[:2]] == [wanted, wanted]
    assert lines[2].split() == ["NoNewPrivs:", "1"]
    assert lines[3:6] == ["no mknod", "no mount", "no sysrq"]
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx"} <= set(lines[6:])


# ---------------------------------------------------------------------------------------- its life


@pytest.mark.in_vm
@BOTH
def test_the_whole_life(bundle: Mine, kind: str) -> None:
    bundle.process["args"] = ["sh", "-c", TRAP]
    bundle.create()
    pid = bundle.pid
    assert bundle.state()["status"] == "created"
    assert bundle.state()["pid"] == pid
    assert namespace(pid, "user") != namespace("self", "user")
    assert os.stat(f"/proc/{pid}").st_uid in (0, bundle.user.entry.pw_uid)
    bundle.start()
    bundle.until("up")
    listed = json.loads(bundle.call("list", "-f", "json").stdout)
    assert [(each["id"], each["status"], each["pid"]) for each in listed] == [
        (bundle.id, "running", pid)
    ]
    bundle.kill("TERM")
    assert bundle.ended() == 7
    assert bundle.output() == "up\ngot\n"
    assert bundle.status == "stopped"
    bundle.delete()
    assert json.loads(bundle.call("list", "-f", "json").stdout) == []
    assert not bundle.exists()


@BOTH
def test_the_creator_is_told_by_name(bundle: Mine, kind: str) -> None:
    bundle.create()
    assert bundle.state()["owner"] == bundle.user.entry.pw_name
    listed = json.loads(bundle.call("list", "-f", "json").stdout)
    assert [each["owner"] for each in listed] == [bundle.user.entry.pw_name]


@BOTH
def test_delete_by_force(bundle: Mine, kind: str) -> None:
    pid = bundle.up()
    assert bundle.delete(ok=False).returncode != 0
    bundle.delete("--force")
    assert not bundle.exists()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}/exe"))


@BOTH
def test_run_gives_the_exit_code_and_hands_streams_and_signals_on(bundle: Mine, kind: str) -> None:
    bundle.process["args"] = ["sh", "-c", "cat; echo err >&2; exit 5"]
    done = bundle.run(input="typed")
    assert (done.returncode, done.stdout, done.stderr) == (5, "typed", "err\n")
    assert not bundle.kept()
    bundle.process["args"] = ["sh", "-c", TRAP]
    bundle.write()
    with Running(bundle.argv("run", "--bundle", bundle.folder, bundle.id)) as running:
        assert running.line() == "up"
        running.send(signal.SIGTERM)
        assert running.line() == "got"
        assert running.wait() == 7
    assert not bundle.kept()


@BOTH
def test_run_detached(bundle: Mine, kind: str) -> None:
    bundle.process["args"] = FOREVER
    bundle.write()
    place = ["--bundle", bundle.folder, "--pid-file", f"{bundle.folder}/pid"]
    bundle.leave("run", "--detach", *place, bundle.id)
    assert bundle.status == "running"
    # nobody but the container's process is in the namespace that was made for it
    theirs = namespace(bundle.pid, "user")
    uid = bundle.user.entry.pw_uid
    wait_until(lambda: [pid for pid in processes_of(uid) if lives_in(pid, theirs)] == [bundle.pid])
    bundle.kill("KILL")
    assert bundle.ended() == -signal.SIGKILL
    bundle.delete()


def lives_in(pid: int, user_namespace: str) -> bool:
    with contextlib.suppress(OSError):
        return namespace(pid, "user") == user_namespace and not is_zombie(pid)
    return False


@BOTH
def test_exec(bundle: Mine, kind: str) -> None:
    pid = bundle.up()
    kinds = ("user", "pid", "mnt", "net", "ipc", "uts")
    look = "".join(f"readlink /proc/self/ns/{kind};" for kind in kinds)
    done = bundle.exec("sh", "-c", f"{look} id -u; exit 9", ok=False)
    assert done.returncode == 9
    assert done.stdout.split() == [*(namespace(pid, kind) for kind in kinds), "0"]
    maps = words_of(bundle.exec("cat", "/proc/self/uid_map").stdout)
    assert maps == bundle.map_file(bundle.user.entry.pw_uid, kind)
    assert "no-such" in bundle.exec("no-such", ok=False).stderr
    if kind == "range":
        said = bundle.exec("--user", "33:44", "--", "sh", "-c", "id -u; id -g")
        assert said.stdout == "33\n44\n"
    else:
        assert "33" in bundle.exec("--user", "33:44", "--", "id", ok=False).stderr


@BOTH
def test_a_terminal(bundle: Mine, kind: str) -> None:
    bundle.process["terminal"] = True
    bundle.process["args"] = ["sh"]
    bundle.give(bundle.short)
    with Terminal(bundle) as terminal:
        os.chown(terminal.path, bundle.user.entry.pw_uid, -1)
        bundle.create("--console-socket", terminal.path)
        terminal.accept()
        bundle.start()
        terminal.write("tty; stat -c %u:%g $(tty); echo x >/dev/console; exit 4\n")
        said = terminal.rest()
    assert bundle.ended() == 4
    group = {"one": 0, "range": 5}[kind]
    assert f"/dev/pts/0\n0:{group}\nx\n" in said


@BOTH
def test_mounts(bundle: Mine, kind: str) -> None:
    bundle.make("given/file", "theirs\n")
    bundle.give(f"{bundle.folder}/given")
    bundle.mounts += [
        bind("given", "/mnt", "ro"),
        mount("tmpfs", "/tmp/scratch", "tmpfs", "size=1m"),
    ]
    bundle.config["root"]["readonly"] = True
    script = "cat /mnt/file; touch /mnt/new; touch /new; touch /tmp/scratch/new && echo written"
    assert bundle.sh(f"({script}) 2>/dev/null") == "theirs\nwritten\n"


@BOTH
def test_devices_are_the_hosts(bundle: Mine, kind: str) -> None:
    bundle.sh("echo x >/dev/null; head -c 4 /dev/zero | od -An -tx1")
    node = os.stat("/dev/zero").st_rdev
    where = {"major": os.major(node), "minor": os.minor(node)}
    bundle.linux["devices"] = [{"path": "/dev/no-such-device", "type": "c", **where}]
    assert "/dev/no-such-device" in bundle.refused()


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("change", ["none", "joined"])
def test_without_a_user_namespace_of_its_own(mine: Mine, change: str) -> None:
    if change == "joined":
        mine.add_namespace("user", path="/proc/1/ns/user")
    said = mine.refused()
    assert "an ordinary user's container needs a user namespace" in said


@pytest.mark.parametrize("name", ["uidMappings", "gidMappings"])
@pytest.mark.parametrize("kind", ["one"])
def test_without_a_map(bundle: Mine, name: str) -> None:
    del bundle.linux[name]
    assert f"process.user.{name[:3]}: 0 is not mapped" in bundle.refused()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ((0, 0, 1), "range [0-1) -> [0-1) not allowed"),
        ((0, 1, SIZE), f"range [0-{SIZE}) -> [1-{SIZE + 1}) not allowed"),
        ((0, 2_999_999, 2), "range [0-2) -> [2999999-3000001) not allowed"),
    ],
)
@pytest.mark.parametrize("name", ["uid", "gid"])
@pytest.mark.parametrize("kind", ["one"])
def test_ids_of_somebody_else(
    bundle: Mine, name: str, entry: tuple[int, int, int], reason: str
) -> None:
    bundle.linux[f"{name}Mappings"] = [idmap(*entry)]
    said = bundle.refused()
    assert f"new{name}map: {name} {reason}" in said


@pytest.mark.parametrize("kind", ["range"])
def test_newuidmap_is_not_installed(bundle: Mine) -> None:
    bundle.environ["PATH"] = "/nonexistent"
    said = bundle.refused()
    assert "newuidmap is not installed" in said
    assert "uidmap" in said.partition("hint:")[2]


@pytest.mark.parametrize("kind", ["one"])
def test_newuidmap_is_not_needed_for_ones_own_id(bundle: Mine) -> None:
    bundle.environ["PATH"] = "/nonexistent"
    assert bundle.out("echo", "x") == "x\n"


@BOTH
def test_a_machine_without_user_namespaces(bundle: Mine, kind: str) -> None:
    # The limit is each namespace's own (namespaces(7)): here it is taken from one above the user.
    # The second shell has rights there: the ids were not mapped when the first one was executed.
    take = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'
    script = f"read go; exec sh -c '{take}' sh \"$@\""
    bundle.write()
    argv = bundle.argv("create", "--bundle", bundle.folder, bundle.id)
    with subprocess.Popen(
        ["unshare", "--user", "sh", "-c", script, "sh", *argv], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as made:  # fmt: skip
        wait_until(lambda: namespace(made.pid, "user") != namespace("self", "user"))
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{made.pid}/{name}").write_text("0 0 4294967295")
        _, said = made.communicate("go\n", timeout=seconds(10))
    assert made.returncode == 1
    assert "make user namespace" in said
    assert "max_user_namespaces" in said.partition("hint:")[2]
    assert not bundle.kept()


@pytest.mark.parametrize(
    ("resources", "file"),
    [
        ({"pids": {"limit": 100}}, "pids.max"),
        ({"memory": {"limit": 1 << 28}}, "memory.max"),
        ({"cpu": {"shares": 512}}, "cpu.weight"),
        ({"cpu": {"quota": 50_000, "period": 100_000}}, "cpu.max"),
        ({"unified": {"io.weight": "50"}}, "io.weight"),
        ({"devices": [{"allow": False}], "pids": {"limit": 100}}, "pids.max"),
    ],
)
@pytest.mark.parametrize("kind", ["one"])
def test_limits_are_refused_by_name(bundle: Mine, resources: dict[str, Any], file: str) -> None:
    bundle.linux["resources"] = resources
    said = bundle.refused()
    assert file in said
    assert "cgroup" in said


@BOTH
def test_resources_that_limit_nothing(bundle: Mine, kind: str) -> None:
    bundle.linux["resources"] = {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {}, "cpu": {"shares": 0, "quota": -1}, "pids": {"limit": -1},
    }  # fmt: skip
    assert bundle.out("echo", "x") == "x\n"


@pytest.mark.parametrize("kind", ["one"])
def test_what_needs_a_cgroup_says_so(bundle: Mine) -> None:
    bundle.up()
    for verb, args, before in (
        ("pause", (), ()),
        ("ps", (), ()),
        ("events", (), ("--stats",)),
        ("update", (), ("--pids-limit", "10")),
        ("kill", ("KILL",), ("--all",)),
    ):
        done = bundle.call(verb, *before, bundle.id, *args, ok=False)
        assert done.returncode != 0, verb
        assert "cgroup" in done.stderr, done
        assert bundle.status == "running"


@pytest.mark.parametrize(
    ("process", "words"),
    [
        ({"oomScoreAdj": -1000}, ("oom_score_adj", "CAP_SYS_RESOURCE")),
        (
            {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1 << 30}]},
            ("nofile", "CAP_SYS_RESOURCE"),
        ),
    ],
)
@pytest.mark.parametrize("kind", ["one"])
def test_what_only_the_hosts_root_may(
    bundle: Mine, process: dict[str, Any], words: Sequence[str]
) -> None:
    bundle.process.update(process)
    said = bundle.refused()
    assert all(word in said for word in words), said


@pytest.mark.parametrize("kind", ["one"])
def test_groups_where_they_were_given_up(bundle: Mine) -> None:
    """Groups cannot be set where one's own id alone is mapped: user_namespaces(7)."""
    bundle.process["user"]["additionalGids"] = [0]
    assert "additionalGids" in bundle.refused()


@pytest.mark.parametrize("kind", ["one"])
def test_a_map_without_root(bundle: Mine) -> None:
    """Whoever is not root inside has lost its capabilities by the first exec: capabilities(7)."""
    for name, own in (("uid", bundle.user.entry.pw_uid), ("gid", bundle.user.entry.pw_gid)):
        bundle.linux[f"{name}Mappings"] = [idmap(5, own, 1)]
    bundle.process["user"] = {"uid": 5, "gid": 5}
    assert "uidMappings" in bundle.refused()


@pytest.mark.parametrize("kind", ["one"])
def test_a_cgroup_that_was_asked_for(bundle: Mine) -> None:
    bundle.linux["cgroupsPath"] = "/some/where"
    assert "cgroup" in bundle.refused()


@pytest.mark.parametrize("kind", ["one"])
def test_a_device_that_is_another_at_the_host(bundle: Mine) -> None:
    zero = os.stat("/dev/zero").st_rdev
    where = {"major": os.major(zero), "minor": os.minor(zero)}
    bundle.linux["devices"] = [{"path": "/dev/null", "type": "c", **where}]
    assert "/dev/null" in bundle.refused()


@pytest.mark.parametrize("kind", ["one"])
def test_sysfs_belongs_to_the_hosts_network(bundle: Mine) -> None:
    spaces = bundle.linux["namespaces"]
    bundle.linux["namespaces"] = [entry for entry in spaces if entry["type"] != "network"]
    assert "sysfs" in bundle.refused()
    bundle.mounts = [entry for entry in bundle.mounts if entry["type"] != "sysfs"]
    assert bundle.out("readlink", "/proc/self/ns/net").strip() == namespace("self", "net")


# ------------------------------------------------------------------------------- where the state is


@BOTH
def test_the_state_is_in_the_runtime_folder(bundle: Mine, kind: str) -> None:
    place = bundle.make("xdg")
    bundle.give(place)
    bundle.environ["XDG_RUNTIME_DIR"] = place
    bundle.place = []
    bundle.root = f"{place}/pycontain-runtime"
    bundle.up()
    assert bundle.kept() == [bundle.id]
    made = os.stat(bundle.root)
    assert (made.st_uid, made.st_mode & 0o777) == (bundle.user.entry.pw_uid, 0o700)
    assert bundle.status == "running"
    assert bundle.exec("echo", "x").stdout == "x\n"
    bundle.delete("--force")
    assert bundle.kept() == []


@pytest.mark.parametrize("kind", ["one"])
def test_without_a_runtime_folder_the_state_must_be_placed(bundle: Mine) -> None:
    given, bundle.place = bundle.place, []
    done = bundle.create(ok=False)
    bundle.place = given
    assert done.returncode != 0
    assert "--root" in done.stderr
    assert "XDG_RUNTIME_DIR" in done.stderr


@pytest.mark.parametrize("kind", ["one"])
def test_a_relative_runtime_folder_counts_as_none(bundle: Mine) -> None:
    """XDG Base Directory Specification: such a path is invalid, and ignored."""
    bundle.environ["XDG_RUNTIME_DIR"] = os.path.basename(bundle.folder)
    given, bundle.place = bundle.place, []
    done = bundle.create(ok=False)
    if done.returncode == 0:
        bundle.delete("--force")
    bundle.place = given
    assert done.returncode != 0
    assert "XDG_RUNTIME_DIR" in done.stderr


@pytest.mark.parametrize("kind", ["one"])
def test_a_state_folder_that_is_not_the_users(bundle: Mine) -> None:
    place = bundle.make("roots")
    os.chmod(place, 0o755)
    given, bundle.place = bundle.place, ["--root", place]
    done = bundle.create(ok=False)
    bundle.place = given
    assert done.returncode != 0
    assert f"{place}/{bundle.id}: permission denied" in done.stderr


@BOTH
def test_a_home_that_nobody_else_can_enter(bundle: Mine, kind: str) -> None:
    assert bundle.user.home.stat().st_mode & 0o777 == 0o700
    os.chmod(bundle.folder, 0o700)
    os.chmod(bundle.rootfs, 0o700)
    assert bundle.sh("ls -d /bin; touch /made") == "/bin\n"
    assert bundle.sh("cat /made && echo still") == "still\n"


@BOTH
def test_a_bundle_that_the_user_may_not_read(bundle: Mine, kind: str) -> None:
    bundle.write()
    os.chown(f"{bundle.folder}/config.json", 0, 0)
    os.chmod(f"{bundle.folder}/config.json", 0o600)
    done = bundle.create(ok=False)
    assert done.returncode != 0
    assert f"{bundle.folder}/config.json" in done.stderr
    assert "permission denied" in done.stderr


# -------------------------------------------------------------------------------------------- hooks


def note(bundle: Mine, kind: str) -> dict[str, Any]:
    """A hook that appends to ``notes`` what it is, the state that it reads, and its namespace."""
    script = (
        f'{{ printf "%s " {kind} "$(readlink /proc/self/ns/user)"; cat; echo; }} '
        f">>{bundle.folder}/notes"
    )
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}


@BOTH
def test_hooks(bundle: Mine, kind: str) -> None:
    bundle.make("notes", "")
    bundle.give(f"{bundle.folder}/notes")
    # those of the container's own files cannot write to the host's
    bundle.config["hooks"] = {name: [note(bundle, name)] for name in HOOKS if name != HOOKS[3]}
    bundle.config["hooks"]["startContainer"] = [
        {"path": "/bin/sh", "args": ["sh", "-c", "echo started >/tmp/note"]}
    ]
    bundle.up("cat", "/tmp/note")
    bundle.ended()
    bundle.delete()
    assert bundle.output() == "started\n"
    notes = [line.split(" ", 2) for line in Path(f"{bundle.folder}/notes").read_text().splitlines()]
    assert [name for name, _, _ in notes] == [name for name in HOOKS if name != HOOKS[3]]
    states = {name: json.loads(state) for name, _, state in notes}
    assert {state["id"] for state in states.values()} == {bundle.id}
    assert states["createRuntime"]["pid"] == bundle.pid
    assert states["createContainer"]["pid"] == 1
    assert states["poststop"]["status"] == "stopped"
    # so they can change the container's network and mounts
    spaces = {name: space for name, space, _ in notes}
    assert spaces["createRuntime"] == spaces["createContainer"] != namespace("self", "user")


@pytest.mark.parametrize("name", ["prestart", "createRuntime", "createContainer"])
@pytest.mark.parametrize("kind", ["one"])
def test_a_hook_that_fails(bundle: Mine, name: str) -> None:
    bundle.config["hooks"] = {name: [{"path": "/bin/false"}]}
    assert "/bin/false" in bundle.refused()


# ------------------------------------------------------------- root in somebody's user namespace


def test_root_of_a_user_namespace_needs_no_other(mine: Mine) -> None:
    mine.in_namespace_of_mine()
    mine.process["args"] = ["sh", "-c", "id -u; cat /proc/self/uid_map; readlink /proc/self/ns/net"]
    done = mine.run()
    assert done.returncode == 0, done
    uid, *rest = done.stdout.splitlines()
    assert uid == "0"
    assert rest[0].split() == ["0", str(mine.user.entry.pw_uid), "1"]
    assert rest[1].split()[:2] == ["1", first_subuid()]
    assert rest[2] != namespace("self", "net")


def test_root_of_a_user_namespace_has_no_device_program_and_no_limits(mine: Mine) -> None:
    mine.in_namespace_of_mine()
    mine.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    assert mine.out("echo", "x") == "x\n"
    for resources in ({"pids": {"limit": 9}}, {"unified": {"cgroup.max.descendants": "9"}}):
        mine.linux["resources"] = resources
        assert "cgroup" in mine.refused()


def test_a_user_namespace_in_the_users(mine: Mine) -> None:
    mine.in_namespace_of_mine()
    mine.linux["namespaces"].insert(0, {"type": "user"})
    swapped = [idmap(0, 1, 1000), idmap(1000, 0, 1), idmap(1001, 1001, 1000)]
    mine.linux["uidMappings"] = mine.linux["gidMappings"] = swapped
    mine.process["user"] = {"uid": 1000, "gid": 1000}
    assert mine.sh("id -u; touch /tmp/made; stat -c %u /bin/cat").split() == ["1000", "1000"]
    assert os.stat(f"{mine.rootfs}/tmp/made").st_uid == mine.user.entry.pw_uid


@contextlib.contextmanager
def delegated(user: User) -> Iterator[str]:
    """The folder of a cgroup that is the user's."""
    root = next(
        line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if line.rpartition(" - ")[2].startswith("cgroup2 ")
    )  # fmt: skip
    folder = f"{root}/oci-{os.getpid()}-{time.time_ns():x}"
    os.makedirs(f"{folder}/start")
    try:
        for path in (folder, f"{folder}/start"):
            for name in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
                os.chown(f"{path}/{name}", user.entry.pw_uid, user.entry.pw_gid)
        yield folder
    finally:
        for path, _, _ in os.walk(folder, topdown=False):
            os.rmdir(path)


def test_a_cgroup_that_was_handed_down(mine: Mine) -> None:
    with delegated(mine.user) as folder:
        name = os.path.basename(folder)
        # a process is moved below a cgroup that is one's own, or not at all: cgroups(7)
        mine.shield = ["sh", "-c", f'echo 0 >{folder}/start/cgroup.procs; exec "$@"', "sh"]
        outer = Outer(mine)
        try:
            mine.before = outer.enter()
            mine.linux["cgroupsPath"] = f"/{name}/box"
            pid = mine.up()
            assert f"0::/{name}/box\n" in Path(f"/proc/{pid}/cgroup").read_text()
            assert Path(f"{folder}/box/cgroup.procs").read_text() == f"{pid}\n"
            mine.call("pause", mine.id)
            assert mine.status == "paused"
            mine.call("resume", mine.id)
            assert mine.exec("cat", "/proc/self/cgroup").stdout.splitlines()[-1].endswith("/box")
            mine.kill("KILL", "--all")
            assert mine.ended() == -signal.SIGKILL
            mine.delete()
            assert not os.path.exists(f"{folder}/box")
        finally:
            outer.end()


def test_the_life_of_a_container_in_a_user_namespace_that_stays(mine: Mine) -> None:
    outer = Outer(mine)
    try:
        mine.before = outer.enter()
        mine.process["args"] = ["sh", "-c", TRAP]
        mine.create()
        assert mine.status == "created"
        mine.start()
        mine.until("up")
        assert namespace(mine.pid, "user") == outer.namespace
        done = mine.exec("sh", "-c", "id -u; readlink /proc/self/ns/user; exit 9", ok=False)
        assert (done.returncode, done.stdout) == (9, f"0\n{outer.namespace}\n")
        mine.kill("TERM")
        assert mine.ended() == 7
        mine.delete()
        assert not mine.exists()
    finally:
        outer.end()


class Outer:
    """A user namespace, with a mount namespace in it, that stays: as a manager has one."""

    def __init__(self, mine: Mine) -> None:
        command = ["unshare", "--user", "--map-root-user", "--map-auto", "--mount"]
        self._held = subprocess.Popen(
            [*mine.user.become(), *command, "sh", "-c", "echo made; exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=mine.user.home,
        )  # fmt: skip
        assert self._held.stdout is not None
        assert self._held.stdout.readline() == b"made\n"
        self.namespace = namespace(self._held.pid, "user")

    def enter(self) -> list[str]:
        """Words before a command that bring it there."""
        return ["nsenter", "-t", str(self._held.pid), "-U", "-m", "--preserve-credentials", "--"]

    def end(self) -> None:
        """Let go of it."""
        self._held.communicate(timeout=seconds(10))


def test_nothing_of_the_users_is_left_running(mine: Mine) -> None:
    """Not even what held the namespaces while they were made, whether that succeeded or not."""
    mine.own_namespace("range")
    before = children()
    mine.out("true")
    mine.linux["uidMappings"].append(idmap(SIZE + 1, 1, 1))
    mine.refused()
    wait_until(lambda: all(is_zombie(pid) for pid in children() - before))


def is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    return True
