"""``system``: what the store takes, giving it back, what the machine offers, what is configured."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest
from harness import python_env, wait_until
from ordinary import User, ordinary_user

from pycontain.engine import disk, machine
from pycontain.errors import InvalidInput
from pycontain.runtime import seccomp
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness import CommandLine, Store

    from pycontain.errors import PycontainError

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def user(whole_host: None) -> Iterator[User]:
    with ordinary_user() as user:
        done = user.run("run", "--rm", "busybox", "true")
        assert done.returncode == 0, done.stderr
        yield user


def usage(store: Store) -> disk.Usage:
    problems: list[PycontainError] = []
    found = disk.usage(store.engine, problems)
    assert not problems
    return found


# ---- df ----


def test_what_a_container_writes_is_its_own(store: Store) -> None:
    before = usage(store).image_part
    script = "head -c 50000 /dev/zero >/file; head -c 7000 /dev/zero >/vol/file; seq 1000"
    store.sh("true")
    identity = store.create("sh", "-c", script, mounts=anonymous("/vol")).id
    store.containers.start(identity)
    store.containers.wait(identity)
    found = usage(store)
    (use,) = found.containers
    assert use.view.container.id == identity
    assert use.writable == 50000
    assert [volume.size for volume in found.volumes] == [7000]
    assert use.log == os.path.getsize(use.view.paths.log) > 3000
    assert found.container_part == disk.Part(1, 0, 50000 + use.log, 50000 + use.log)
    assert found.volume_part == disk.Part(1, 1, 7000, 0)
    assert found.image_part.size == before.size
    assert (before.active, found.image_part.active) == (0, 1)
    assert before.reclaimable == before.size > found.image_part.reclaimable


def anonymous(target: str) -> tuple[object, ...]:
    from pycontain.model.container import Mount

    return (Mount(type="volume", target=target),)


def test_a_running_container_is_active(store: Store) -> None:
    identity = store.detach("sh", "-c", "head -c 100 /dev/zero >/file; exec sleep 1000")
    wait_until(lambda: usage(store).container_part.size == 100)
    assert usage(store).container_part == disk.Part(1, 1, 100, 0)
    store.containers.kill(identity, 9)
    assert usage(store).container_part == disk.Part(1, 0, 100, 100)


def test_sizes_of_the_image_are_those_of_its_layers(store: Store) -> None:
    found = usage(store)
    (use,) = found.images
    layers = [disk.folder_size(store.layout.layer(layer)) for layer in use.image.diff_ids]
    assert (use.size, use.shared, use.containers) == (sum(layers), 0, 0)
    assert found.image_part.total == 1
    assert found.image_part.size > use.size


def test_a_file_with_several_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"12345")
    os.link(tmp_path / "one", tmp_path / "two")
    (tmp_path / "below").mkdir()
    os.link(tmp_path / "one", tmp_path / "below" / "three")
    (tmp_path / "below" / "other").write_bytes(b"123")
    assert disk.folder_size(str(tmp_path)) == 8


def test_a_tree_may_be_deeper_than_a_path(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with open(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here), "wb") as file:
        file.write(b"1234")
    os.close(here)
    before = set(os.listdir("/proc/self/fd"))
    assert disk.folder_size(str(tmp_path)) == 4
    assert set(os.listdir("/proc/self/fd")) <= before
    files.remove_tree(f"{tmp_path}/{'d' * 200}")


def test_the_table_of_df(pycontain: CommandLine, store: Store) -> None:
    store.create("true")
    done = pycontain("system", "df")
    rows = [line.split() for line in done.stdout.decode().splitlines()]
    assert rows[0] == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert [row[0] for row in rows[1:]] == ["Images", "Containers", "Local", "Build"]
    assert rows[1][1:3] == ["1", "1"]
    assert rows[2][1:3] == ["1", "0"]
    whole = pycontain("system", "df", "-v").stdout.decode()
    for title in ("Images", "Containers", "Local Volumes"):
        assert f"{title} space usage:\n" in whole
    lines = pycontain("system", "df", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["Type"] for line in lines] == [
        "Images", "Containers", "Local Volumes", "Build Cache",
    ]  # fmt: skip


# ---- prune ----


def names(store: Store) -> set[str]:
    return {view.container.name for view in store.containers.list(all=True)}


def test_prune_asks_and_removes_what_does_not_run(pycontain: CommandLine, store: Store) -> None:
    store.create("true", name="fresh")
    store.detach(name="running")
    paused = store.detach(name="paused")
    store.containers.pause(paused)
    done = store.detach("sh", "-c", "head -c 3000 /dev/zero >/file", name="done")
    store.containers.wait(done)

    no = pycontain("container", "prune", input=b"n\n")
    assert no.returncode == 0
    assert no.stdout.startswith(b"WARNING! This will remove all stopped containers.\n")
    assert no.stdout.endswith(b"[y/N] ")
    assert pycontain("container", "prune").returncode == 0  # the end of the input is no yes
    assert names(store) == {"fresh", "running", "paused", "done"}

    yes = pycontain("container", "prune", input=b"y\n").stdout.decode()
    assert names(store) == {"running", "paused"}
    assert done in yes
    assert "Deleted Containers:\n" in yes
    assert float(yes.rpartition(": ")[2].removesuffix("kB\n")) >= 3
    store.containers.unpause(paused)


def test_prune_of_what_matches(pycontain: CommandLine, store: Store) -> None:
    for name, labels in (("one", {"a": "1"}), ("two", {"a": "2"}), ("three", {"keep": ""})):
        store.create("true", name=name, labels=labels)
    moment = time.time()
    store.create("true", name="young", labels={"a": "1"})

    def prune(*filters: str) -> set[str]:
        words = [word for text in filters for word in ("--filter", text)]
        done = pycontain("container", "prune", "-f", *words)
        assert done.returncode == 0, done.stderr
        return names(store)

    assert prune("until=24h") == {"one", "two", "three", "young"}
    assert prune("label=a=1", f"until={moment:.6f}") == {"two", "three", "young"}
    assert prune("label=a", "label!=a=2") == {"two", "three"}
    assert prune("label!=keep") == {"three"}


def test_a_filter_that_there_is_not_is_refused(pycontain: CommandLine, store: Store) -> None:
    store.create("true", name="kept")
    for text, message in (
        ("name=kept", b"invalid filter 'name'"),
        ("until=x", b"until"),
    ):
        done = pycontain("container", "prune", "-f", "--filter", text)
        assert done.returncode == 1
        assert message in done.stderr
    with pytest.raises(InvalidInput, match="more than one until"):
        disk.selection([("until", "1h"), ("until", "2h")], time.time_ns())
    assert names(store) == {"kept"}


def test_system_prune_clears_the_cache_too(pycontain: CommandLine, store: Store) -> None:
    profile = seccomp.default_profile(["CAP_CHOWN"])
    seccomp.compile_filter(profile, store.layout.cache)
    store.create("true", name="fresh")
    done = pycontain("system", "prune", "-f", "--filter", "label=none")
    assert done.returncode == 0
    assert names(store) == {"fresh"}
    assert os.listdir(store.layout.cache)
    out = pycontain("system", "prune", input=b"y\n").stdout.decode()
    listed = [line for line in out.splitlines() if line.startswith("  - ")]
    assert listed[:3] == [
        "  - all stopped containers",
        "  - all networks not used by at least one container",
        "  - all dangling images",
    ]
    assert any(line.startswith("  - the cache ") for line in listed)
    assert "Deleted cache:\n" in out
    assert names(store) == set()
    assert not os.listdir(store.layout.cache)
    assert store.sh("echo on") == "on\n"


def test_system_prune_of_everything_removes_images_too(
    pycontain: CommandLine, store: Store
) -> None:
    held = store.create("true", name="held").id
    assert pycontain("system", "prune", "-af", "--filter", "until=10m").returncode == 0
    assert len(store.engine.images.list()) == 1
    # a container stands on it until this very command removes the container
    assert held in pycontain("system", "prune", "-f").stdout.decode()
    assert len(store.engine.images.list()) == 1
    out = pycontain("system", "prune", "--all", "--force").stdout.decode()
    assert "Deleted Images:\nuntagged: busybox:latest\n" in out
    assert store.engine.images.list() == []
    assert not os.listdir(store.layout.layers)


# ---- check ----


def findings(done: bytes) -> dict[str, dict[str, object]]:
    return {row["Name"]: row for row in map(json.loads, done.splitlines())}


def test_check_says_what_there_is(pycontain: CommandLine, store: Store) -> None:
    done = pycontain("system", "check", "--format", "json")
    found = findings(done.stdout)
    assert done.returncode == 0, found
    for name in ("kernel", "overlay", "clone3", "pidfd", "namespaces", "seccomp"):
        assert found[name]["State"] == "ok", found[name]
        assert found[name]["Needed"] is True
    assert not os.listdir(store.layout.work)
    for name in ("cpu", "memory", "pids"):
        row = found[f"controller {name}"]
        assert row["State"] in ("ok", "missing")
        assert bool(row["Remedy"]) is (row["State"] == "missing")


def test_check_is_a_line_each(pycontain: CommandLine) -> None:
    lines = pycontain("system", "check").stdout.decode().splitlines()
    rows = len(pycontain("system", "check", "--format", "json").stdout.splitlines())
    assert lines[0].split() == ["STATE", "NAME", "FOUND;", "REMEDY"]
    assert len(lines) == rows + 1
    assert all(line.startswith(("ok ", "missing ")) for line in lines[1:])


def test_controllers_are_those_of_the_hierarchy(store: Store) -> None:
    from pycontain.kernel import cgroup

    root = cgroup.open_root()
    try:
        there = (cgroup.read(root, "cgroup.controllers") or "").split()
    finally:
        os.close(root)
    found = {row.name: row for row in machine.inside(store.layout, rootless=False)}
    for name in ("cpu", "cpuset", "io", "memory", "pids", "hugetlb"):
        assert (found[f"controller {name}"].state == machine.OK) is (name in there)


def test_check_where_a_store_cannot_be_is_1(pycontain: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    argv = [*pycontain.argv[:3], "--root", f"{tmp_path}/file", "--state", f"{tmp_path}/state"]
    import subprocess

    done = subprocess.run(
        [*argv, "system", "check"], capture_output=True, env=python_env(), check=False, timeout=60
    )
    assert done.returncode == 1
    assert any(line.startswith(b"missing   store ") for line in done.stdout.splitlines())


def test_check_where_a_call_is_refused_is_1(pycontain: CommandLine, store: Store) -> None:
    """A seccomp filter around us, as in a container: clone3 is not there."""
    import subprocess

    program = (
        "import ctypes, struct, sys\n"
        "L = ctypes.CDLL(None, use_errno=True)\n"
        "rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 435), (6, 0, 0, 0x50026), (6, 0, 0, 0x7fff0000)]\n"
        "code = ctypes.create_string_buffer(b''.join(struct.pack('=HBBI', *r) for r in rules))\n"
        "prog = struct.pack('=H6xQ', len(rules), ctypes.addressof(code))\n"
        "assert L.prctl(38, 1, 0, 0, 0) == 0\n"
        "assert L.prctl(22, 2, prog) == 0\n"
        "sys.argv[0] = 'pycontain'\n"
        "from pycontain.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = pycontain.argv[3:]
    done = subprocess.run(
        [pycontain.argv[0], "-c", program, *words, "system", "check", "--format", "json"],
        capture_output=True, env=python_env(), check=False, timeout=60,
    )  # fmt: skip
    found = findings(done.stdout)
    assert found["clone3"]["State"] == "missing", done.stderr
    assert found["clone3"]["Remedy"]
    assert done.returncode == 1


def test_check_of_an_ordinary_user(user: User) -> None:
    done = user.run("system", "check", "--format", "json")
    found = findings(done.stdout)
    assert done.returncode == 0, done
    for name in ("user namespaces", "newuidmap", "subordinate ids", "overlay"):
        assert found[name]["State"] == "ok", found[name]
        assert found[name]["Needed"] is True
    assert "65536 uids" in str(found["subordinate ids"]["Found"])
    assert found["cgroup v2"]["State"] == "missing"


def test_an_ordinary_user_measures_and_prunes(user: User) -> None:
    made = user.run("create", "--name", "pruned", "busybox", "true")
    assert made.returncode == 0
    assert b"Containers      1         0" in user.run("system", "df").stdout
    done = user.run("container", "prune", "-f")
    assert made.stdout in done.stdout, done


# ---- configuration ----


def test_containers_are_as_configured(pycontain: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('log_driver = "json-file"\nlog_max_files = 2\nstop_timeout = 7\n')
    os.environ["PYCONTAIN_CONFIG"] = str(path)
    try:
        made = pycontain("create", "--name", "asked", "--log-opt", "max-size=9k", "busybox", "true")
        assert made.returncode == 0, made.stderr
        form = "{{.HostConfig.LogConfig.Type}} {{json .HostConfig.LogConfig.Config}}"
        done = pycontain("inspect", "-f", form + " {{.Config.StopTimeout}}", "asked")
        assert done.stdout.decode().split(" ", 1)[0] == "json-file"
        assert b'"max-file":"2"' in done.stdout
        assert b'"max-size":"9216"' in done.stdout
        assert done.stdout.endswith(b" 7\n")
        info = json.loads(pycontain("system", "info", "-f", "json").stdout)["Configuration"]
        assert info["stop_timeout"] == {"Value": 7, "Origin": str(path)}
        assert info["log_max_size"] == {"Value": 16 << 20, "Origin": "built in"}
        assert info["root"] == {"Value": pycontain.argv[4], "Origin": "--root"}
        path.write_text("stop_timeot = 7\n")
        for words in (["ps"], ["run", "busybox", "true"], ["info"]):
            done = pycontain(*words)
            assert done.returncode in (1, 125)
            assert f"{path}: line 1: unknown key stop_timeot".encode() in done.stderr
            assert b"did you mean stop_timeout?" in done.stderr
    finally:
        del os.environ["PYCONTAIN_CONFIG"]


def test_a_users_store_is_where_the_users_file_says(user: User) -> None:
    folder = user.home / ".config/pycontain"
    folder.mkdir(parents=True)
    other = user.home / "other"
    (folder / "config.toml").write_text(f'root = "{other}"\nstop_timeout = 1\n')
    try:
        done = user.run("info", "-f", "{{.DockerRootDir}} {{.Configuration.root.Origin}}")
        assert done.stdout.decode() == f"{other} {folder}/config.toml\n", done
    finally:
        (folder / "config.toml").unlink()
