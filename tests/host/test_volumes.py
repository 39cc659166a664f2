"""Volumes on a real kernel: filled, shared, mounted, removed; by many at once, and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from harness import CommandLine, Store, python_env, wait_until

from pycontain.engine import records
from pycontain.errors import Conflict, InvalidInput, KernelError, NotFound, StoreError
from pycontain.kernel.process import boot_id
from pycontain.kernel.release import release
from pycontain.model.container import Container, Mount
from pycontain.store import files

if TYPE_CHECKING:
    from pycontain.engine.volumes import Volumes

pytestmark = pytest.mark.host


@pytest.fixture
def volumes(store: Store) -> Volumes:
    return store.engine.volumes


def named(name: str, target: str = "/data", *options: str, **more: Any) -> Mount:
    return Mount(type="volume", source=name, target=target, options=options, **more)


def anonymous(target: str) -> Mount:
    return Mount(type="volume", target=target)


def data(store: Store, name: str) -> Path:
    return Path(store.layout.volume(name).data)


def prepared(store: Store, *mounts: Mount, **more: Any) -> tuple[Container, Path]:
    """A container that did not run yet, and the folder of its own files, to put some there."""
    made = store.create("true", mounts=mounts, **more)
    return made, Path(store.layout.container(made.id).upper)


def finish(store: Store, made: Container) -> None:
    store.containers.start(made.id)
    assert store.containers.wait(made.id) == 0
    store.containers.remove(made.id)


# ---- filling ----


@pytest.mark.in_vm
def test_the_first_use_fills_it(store: Store) -> None:
    made, upper = prepared(store, named("data", "/app"))
    app = upper / "app"
    app.mkdir(mode=0o1750)
    (app / "file").write_bytes(b"of the image")
    os.chown(app / "file", 33, 34)
    os.chmod(app / "file", 0o4711)
    os.setxattr(app / "file", "trusted.mark", b"1")
    os.chown(app, 35, 36)
    finish(store, made)
    there = data(store, "data")
    info = (there / "file").stat()
    assert (there.stat().st_uid, there.stat().st_gid, there.stat().st_mode & 0o7777) == (
        35, 36, 0o1750,
    )  # fmt: skip
    assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (33, 34, 0o4711)
    assert os.getxattr(there / "file", "trusted.mark") == b"1"
    store.sh("echo mine >/data/file; rm -f /data/gone", mounts=(named("data"),))
    assert store.sh("cat /data/file", mounts=(named("data", "/etc"), named("data"))) == "mine\n"


def test_only_an_empty_one_is_filled(store: Store) -> None:
    store.sh("touch /data/mine", mounts=(named("data"),))
    assert "passwd" not in store.sh("ls /etc", mounts=(named("data", "/etc"),))
    assert "passwd" not in store.sh("ls /etc", mounts=(named("other", "/etc", no_copy=True),))


def test_a_container_fills_at_its_first_start_alone(store: Store) -> None:
    made = store.create("sh", "-c", "rm -rf /etc/*; true", mounts=(named("data", "/etc"),))
    for _ in range(2):
        store.containers.start(made.id)
        store.containers.wait(made.id)
        assert "passwd" not in os.listdir(data(store, "data"))


def test_a_link_in_the_image_brings_nothing_of_the_host(store: Store, tmp_path: Path) -> None:
    """CVE-2022-23648."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_bytes(b"")
    made, upper = prepared(store, named("one", "/evil"), named("two", "/up/x"))
    (upper / "evil").symlink_to(tmp_path / "secret")
    (upper / "up").symlink_to("../../../../../../../../../etc")
    finish(store, made)
    assert os.listdir(data(store, "one")) == os.listdir(data(store, "two")) == []


def test_two_who_start_at_once_fill_it_once(store: Store, pycontain: CommandLine) -> None:
    words = ("run", "--rm", "-v", "data:/etc", "busybox", "sh", "-c", "cat /etc/passwd | wc -l")
    ends = [pycontain.start(*words, stdout=subprocess.PIPE) for _ in range(4)]
    said = {end.communicate()[0] for end in ends}
    assert said == {store.sh("cat /etc/passwd | wc -l").encode()}
    assert not os.path.lexists(store.layout.volume("data").filling)


@pytest.mark.parametrize("kind", ["named", "anonymous"])
def test_killed_while_it_is_filled(store: Store, pycontain: CommandLine, kind: str) -> None:
    for count in range(600, 6600, 600):  # it may be full before anybody gets to look
        mount = named(f"data{count}", "/big") if kind == "named" else anonymous("/big")
        made, upper = prepared(store, mount)
        assert made.mounts is not None
        (upper / "big").mkdir()
        for number in range(count):
            (upper / f"big/{number}").write_bytes(b"x" * 100)
        paths = store.layout.volume(made.mounts[0].source)
        with pycontain.start("start", made.id) as child:
            while not os.path.lexists(paths.filling) and child.poll() is None:
                pass
            child.kill()
        if os.path.lexists(paths.filling):
            break
    assert os.path.lexists(paths.filling)
    store.containers.start(made.id)
    store.containers.wait(made.id)
    assert len(os.listdir(paths.data)) == count
    assert all(os.path.getsize(f"{paths.data}/{number}") == 100 for number in range(count))
    assert not os.path.lexists(paths.filling)


# ---- mounts ----


def tmpfs(volumes: Volumes, name: str = "fast", o: str = "size=1m") -> Mount:
    volumes.create(name, options={"type": "tmpfs", "device": "tmpfs", "o": o})
    return named(name)


def mounts_of(store: Store) -> list[str]:
    """What of the store is mounted on the host, or mounted in it."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if os.path.dirname(store.root) in line]


@pytest.mark.in_vm
def test_a_tmpfs_is_one_for_all_who_run(store: Store, volumes: Volumes) -> None:
    mount = tmpfs(volumes, o="size=1m,mode=1770,noexec")
    first = store.detach(mounts=(mount,))
    store.exec(first, "sh", "-c", "echo shared >/data/file")
    second = store.detach(mounts=(named("fast", "/with a blank", "rro"),))
    assert store.exec(second, "cat", "/with a blank/file").stdout == b"shared\n"
    assert store.exec(second, "touch", "/with a blank/new").code == 1
    # Its maker ends: the others have it on.
    store.containers.kill(first, signal.SIGKILL)
    assert store.sh("cat /data/file; touch /data/new", mounts=(mount,)) == "shared\n"
    assert store.exec(second, "ls", "/with a blank").stdout == b"file\nnew\n"
    assert b"noexec" in store.exec(second, "grep", "blank", "/proc/mounts").stdout
    with store.containers.tree(first) as tree:  # which does not run
        assert tree.read("/data/file") == b"shared\n"
    assert mounts_of(store) == []
    assert os.listdir(data(store, "fast")) == []
    # The last one's monitor is killed: nothing is left of it, and nothing can be put there.
    os.kill(store.run_record(second).monitor, signal.SIGKILL)
    wait_until(lambda: store.state_of(second) == "exited")
    assert store.sh("ls /data", mounts=(mount,)) == ""
    with store.containers.tree(first) as tree, pytest.raises(KernelError, match="read-only"):
        tree.write("/data/file", b"")
    assert mounts_of(store) == []


def test_what_the_kernel_says_of_options(store: Store, volumes: Volumes) -> None:
    made = store.create("true", mounts=(tmpfs(volumes, o="size=banana"),))
    with pytest.raises(KernelError) as caught:
        store.containers.start(made.id)
    assert "size=banana" in str(caught.value)
    assert "(tmpfs: " in str(caught.value)


def dev_of_image(store: Store) -> tuple[Container, Path]:
    """A container whose image has a folder /dev, and says that there is a volume."""
    made, upper = prepared(store, anonymous("/dev"))
    (upper / "dev").mkdir(exist_ok=True)
    return made, upper / "dev" / "null"


def test_nothing_is_hidden_without_the_device_for_that(store: Store) -> None:
    made, _ = dev_of_image(store)
    with pytest.raises(KernelError, match="/dev/null: no such file") as caught:
        store.containers.start(made.id)
    assert "a volume or a mount on /dev" in str(caught.value.hint)


@pytest.mark.parametrize("leads", ["", "/proc/timer_list", "/proc/sys/kernel/core_pattern"])
def test_what_an_image_has_for_the_device_shows_nothing(store: Store, leads: str) -> None:
    """Bound over what is to be hidden, it would show what it leads to."""
    made, null = dev_of_image(store)
    if leads:
        null.symlink_to(leads)
    else:
        null.write_text("a file")
    with pytest.raises(KernelError, match="/dev/null: no such device"):
        store.containers.start(made.id)


def test_an_image_may_bring_the_device(store: Store) -> None:
    made, null = dev_of_image(store)
    os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    finish(store, made)


def test_a_mount_that_cannot_be_noted_is_let_go(store: Store, volumes: Volumes) -> None:
    made = store.create("true", mounts=(tmpfs(volumes),))
    folder = os.path.dirname(store.layout.volume("fast").mounted)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    os.symlink("nowhere", folder)
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(StoreError, match="not a folder"):
            store.containers.start(made.id)
    assert set(os.listdir("/proc/self/fd")) <= before
    os.unlink(folder)
    finish(store, made)


def test_many_who_start_at_once_share_a_tmpfs(store: Store, volumes: Volumes) -> None:
    mount = tmpfs(volumes)

    def start(number: int) -> str:
        return store.detach("sh", "-c", f"touch /data/{number}; sleep 1000", mounts=(mount,))

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(start, range(6)))
    wait_until(lambda: len(store.exec(found[0], "ls", "/data").stdout.split()) == 6)


# Starts a container, stops its monitor before that has done anything, and is killed.
KILLED_STARTER = """
import os, signal, sys
from pycontain import Engine
from pycontain.kernel import process

def spawn(*words, real=process.spawn, **more):
    pid, _ = real(*words, **more)
    os.kill(pid, signal.SIGSTOP)
    os.write(1, b"%d" % pid)
    os.kill(os.getpid(), signal.SIGKILL)

process.spawn = spawn
Engine(*sys.argv[1:3]).containers.start(sys.argv[3])
"""


def started_by_one_that_is_killed(store: Store, identity: str) -> int:
    """The pid of a container's monitor, which is stopped on its way to the run's record."""
    words = [sys.executable, "-c", KILLED_STARTER, store.root, store.state, identity]
    paths = store.layout.container(identity)
    for _ in range(20):
        done = subprocess.run(words, env=python_env(), stdout=subprocess.PIPE, check=False)
        assert done.returncode == -signal.SIGKILL
        monitor = int(done.stdout)
        if records.load_run(paths, records.last_run(paths)) is None:
            return monitor
        os.kill(monitor, signal.SIGCONT)  # it was faster
        store.containers.kill(identity, signal.SIGKILL)
        store.containers.wait(identity)
    raise AssertionError("no monitor could be stopped in time")


def waits_for_a_lock(pid: int) -> bool:
    """Whether a process waits for a lock that somebody has (proc_locks(5))."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and str(pid) in line.split() for line in lines)


def test_a_tmpfs_whose_maker_was_killed_while_it_was_being_mounted(
    store: Store, pycontain: CommandLine, volumes: Volumes
) -> None:
    """The next to start waits for it: there is one tree."""
    mount = tmpfs(volumes)
    first = store.create("sleep", "1000", mounts=(mount,)).id
    second = store.create("sleep", "1000", mounts=(mount,)).id
    monitor = started_by_one_that_is_killed(store, first)
    with pycontain.start("start", second, stdout=subprocess.DEVNULL) as child:
        wait_until(lambda: child.poll() is not None or waits_for_a_lock(child.pid))
        os.kill(monitor, signal.SIGCONT)
    assert child.returncode == 0
    wait_until(lambda: store.state_of(first) != "created")
    assert store.state_of(first) == "running", store.view(first).status
    store.exec(first, "touch", "/data/mine")
    assert store.exec(second, "ls", "/data").stdout == b"mine\n"


def test_a_part_of_a_tmpfs(store: Store, volumes: Volumes) -> None:
    if release() < (6, 15):
        pytest.skip("needs Linux 6.15: before, a mount in no namespace cannot be copied")
    mount, part = tmpfs(volumes), named("fast", "/part", subpath="sub")
    with pytest.raises(KernelError, match=r"subpath: sub of volume fast: no such"):
        store.sh("true", mounts=(part,))
    first = store.detach(mounts=(mount,))
    store.exec(first, "sh", "-c", "mkdir /data/sub; echo said >/data/sub/file; ln -s / /data/out")
    second = store.detach(mounts=(part,))
    assert store.exec(second, "cat", "/part/file").stdout == b"said\n"
    store.exec(second, "touch", "/part/new")
    assert store.exec(first, "ls", "/data/sub").stdout == b"file\nnew\n"
    out = named("fast", "/part", subpath="out")
    assert store.sh("ls /part", mounts=(out,)) == "out\nsub\n"
    both = (mount, part, named("fast", "/again"))
    assert store.sh("mkdir /data/sub/x; rmdir /again/sub/x; ls /part", mounts=both) == "file\nnew\n"
    # Where only a part is left, nobody can have the rest: another tree would be another volume.
    store.containers.remove(first, force=True)
    with pytest.raises(Conflict, match="has not the whole of it"):
        store.sh("true", mounts=(mount,))
    store.containers.remove(second, force=True)
    assert store.sh("ls /data", mounts=(mount,)) == ""
    # As new, at three targets of one container.
    assert store.sh("touch /data/x; ls /again", mounts=both[::2]) == "x\n"


def test_mapped_owners_of_a_tmpfs_are_one_containers_own(store: Store, volumes: Volumes) -> None:
    if release() < (6, 15):
        pytest.skip("needs Linux 6.15: before, a mount in no namespace cannot be copied")
    plain, ranges = tmpfs(volumes), ((0, 1000, 100),)
    mapped = named("fast", "/mapped", uid_map=ranges, gid_map=ranges)
    script = "touch /data/x; chown 5:5 /data/x; stat -c %u /data/x /mapped/x"
    assert store.sh(script, mounts=(mapped, plain)).split() == ["5", "1005"]
    first = store.detach(mounts=(mapped,))
    with pytest.raises(Conflict, match="has not the whole of it"):
        store.sh("true", mounts=(plain,))
    store.containers.remove(first, force=True)
    first = store.detach(mounts=(plain,))
    assert store.sh(script, mounts=(mapped, plain)).split() == ["5", "1005"]
    assert store.exec(first, "stat", "-c", "%u", "/data/x").stdout == b"5\n"


def test_twice_in_one_container(store: Store, volumes: Volumes) -> None:
    mounts = (tmpfs(volumes), named("fast", "/other"), named("plain", "/a"), named("plain", "/b"))
    store.detach(mounts=(mounts[0],))
    script = "touch /data/x /a/y && ls /other /b"
    assert store.sh(script, mounts=mounts).split() == ["/b:", "y", "/other:", "x"]


def test_a_volume_may_be_a_folder_of_the_host(
    store: Store, volumes: Volumes, tmp_path: Path
) -> None:
    host = tmp_path / "host"
    host.mkdir()
    options = {"type": "none", "device": str(host), "o": "bind"}
    volumes.create("bound", options=options)
    volumes.create("read", options={**options, "o": "bind,ro"})
    assert "passwd" in store.sh("ls /etc", mounts=(named("bound", "/etc"),))
    assert "passwd" in os.listdir(host)  # filled, being empty
    assert store.code("touch /data/x", mounts=(named("read"),)) == 1
    volumes.create("lost", options={**options, "device": f"{host}/nothing"})
    with pytest.raises(KernelError, match=r"lost.*no such file"):
        store.sh("true", mounts=(named("lost"),))
    volumes.create("odd", options={"type": "tmpfs", "device": "x", "o": "nonsense=1"})
    with pytest.raises(KernelError, match=r"volume odd.*nonsense"):
        store.sh("true", mounts=(named("odd"),))
    volumes.remove("bound")
    assert "passwd" in os.listdir(host)


def test_subpath(store: Store) -> None:
    script = "mkdir -p /data/a/b; touch /data/a/b/there; ln -s / /data/out; ln -s a/b /data/in"
    store.sh(script, mounts=(named("data"),))
    for path in ("a/b", "in"):
        assert store.sh("ls /m", mounts=(named("data", "/m", subpath=path),)) == "there\n"
    assert "usr" not in store.sh("ls /m", mounts=(named("data", "/m", subpath="out"),))
    with pytest.raises(KernelError, match="subpath: nothing of volume data"):
        store.sh("true", mounts=(named("data", "/m", subpath="nothing"),))


@pytest.mark.in_vm
def test_an_image_is_mounted_read_only(store: Store) -> None:
    mount = Mount(type="image", source="busybox", target="/img", options=("rro",))
    assert "bin" in store.sh("ls /img", mounts=(mount,))
    script = "mount -o remount,rw,bind /img; mount -o remount,rw /img; touch /img/x"
    assert store.code(script, mounts=(mount,), privileged=True) == 1
    made = store.create("ls", "/img/bin", mounts=(mount,))
    with store.containers.tree(made.id) as tree:
        assert "bin" in tree.listdir("/img")
    with pytest.raises(NotFound):
        store.create(
            "true", mounts=(Mount(type="image", source="sha256:" + "0" * 64, target="/i"),)
        )


def test_owners(store: Store) -> None:
    store.sh("mkdir /data/d; touch /data/d/f; ln -s / /data/l", mounts=(named("data"),))
    before = os.stat("/")
    out = store.sh("stat -c '%u:%g' /data /data/d/f", user="33:34",
                   mounts=(named("data", chown=True),))  # fmt: skip
    assert out == "33:34\n33:34\n"
    assert (os.stat("/").st_uid, os.stat("/").st_gid) == (before.st_uid, before.st_gid)
    mapped = named("data", uid_map=((33, 1000, 1),), gid_map=((34, 2000, 1),))
    assert store.sh("stat -c '%u:%g' /data/d/f", mounts=(mapped,)) == "1000:2000\n"
    assert data(store, "data").stat().st_uid == 33
    with pytest.raises(InvalidInput, match="the system's"):
        store.sh("true", mounts=(Mount(type="bind", source="/usr", target="/x", chown=True),))


def test_the_files_of_a_subpath_or_behind_a_link_are_given_too(
    store: Store, volumes: Volumes, tmp_path: Path
) -> None:
    volumes.create("data")
    (data(store, "data") / "part" / "deep").mkdir(parents=True)
    folder, link = tmp_path / "folder", tmp_path / "link"
    (folder / "deep").mkdir(parents=True)
    link.symlink_to(folder)
    mounts = (
        named("data", "/part", subpath="part", chown=True),
        Mount(type="bind", source=str(link), target="/link", chown=True),
    )
    seen = store.sh("stat -c %u:%g /part/deep /link/deep", user="7:8", mounts=mounts)
    assert seen == "7:8\n7:8\n"
    assert data(store, "data").stat().st_uid == 0


def test_a_link_never_leads_a_mount_out(store: Store, tmp_path: Path) -> None:
    """CVE-2021-30465: whoever shares a volume swaps a folder in it for a link, all the time."""
    canary = tmp_path / "canary"
    canary.mkdir()
    script = (
        f"cd /shared; mkdir -p dir; ln -s {canary} link; ln -s /../../../../..{canary} up;"
        " while :; do mv -T dir at; mv -T at dir; mv -T link at; mv -T at link;"
        " mv -T up at; mv -T at up; done 2>/dev/null"
    )
    shared = named("shared", "/shared")
    store.detach("sh", "-c", script, mounts=(shared,))
    below = (shared, named("inner", "/shared/at"), named("shared", "/sub", subpath="at"))
    mounted = shown = 0
    for number in range(500):
        if number >= 25 and mounted and shown:
            break
        # What is there at that moment may be nothing, or no folder.
        with contextlib.suppress(KernelError):
            mounted += store.code("touch /shared/at/mark", mounts=below[:2]) == 0
        with contextlib.suppress(KernelError):
            shown += store.run("touch", "/sub/mark", mounts=(below[2],)).exit_code == 0
    assert os.listdir(canary) == []
    assert mounted
    assert shown
    assert mounts_of(store) == []


# ---- lives ----


def test_anonymous_ones_go_where_that_was_said(store: Store, volumes: Volumes) -> None:
    store.sh("true", mounts=(anonymous("/a"),))  # which removes
    assert not volumes.list()
    first = store.create("true", mounts=(anonymous("/a"), named("kept", "/b")))
    second = store.create("true", volumes_from=(first.name,))
    store.containers.remove(first.id, volumes=True)
    assert len(volumes.list()) == 2  # the other has it
    store.containers.remove(second.id, volumes=True)
    assert [volume.name for volume in volumes.list()] == ["kept"]
    third = store.create("true", mounts=(anonymous("/a"),))
    store.containers.remove(third.id)
    assert [use.users for use in volumes.usage()] == [(), ()]
    assert len(volumes.prune()[0]) == 1


def test_volumes_of_another(store: Store, tmp_path: Path) -> None:
    bind = Mount(type="bind", source=str(tmp_path), target="/bind")
    first = store.detach(mounts=(anonymous("/anon"), named("data"), bind))
    store.exec(first, "touch", "/anon/a", "/data/d")
    name = store.view(first).container.name
    assert store.sh("ls /anon /data", volumes_from=(name,)).split() == [
        "/anon:",
        "a",
        "/data:",
        "d",
    ]
    assert store.code("touch /data/x", volumes_from=(f"{name}:ro",)) == 1
    assert store.code("touch /bind/x", volumes_from=(first[:12],)) == 0
    with pytest.raises(NotFound):
        store.create("true", volumes_from=("nobody",))


def test_a_volume_is_never_removed_under_a_new_user(store: Store, volumes: Volumes) -> None:
    stop = threading.Event()

    removed: list[int] = []

    def remove() -> None:
        while not stop.is_set():
            with contextlib.suppress(Conflict, NotFound):
                volumes.remove("data")
                removed.append(1)

    with ThreadPoolExecutor(1) as pool:
        remover = pool.submit(remove)
        try:
            for number in range(1000):
                if number >= 30 and removed:
                    break
                made = store.create("true", mounts=(named("data"),))
                assert volumes.exists("data")
                store.containers.remove(made.id)
                time.sleep(0.002)
        finally:
            stop.set()
        remover.result()
    assert removed


def test_a_removal_that_was_killed_is_finished(store: Store, volumes: Volumes) -> None:
    made = store.create("true", mounts=(anonymous("/a"), named("kept", "/b")))
    paths = store.layout.container(made.id)
    records.note_release(paths, made)
    os.rename(paths.folder, f"{store.layout.containers}/.removed-{made.id}")
    store.containers.list()
    assert [volume.name for volume in volumes.list()] == ["kept"]


def test_after_a_power_cut(store: Store, volumes: Volumes) -> None:
    """What died with another boot goes; a document of its container is not read."""
    identity = store.detach(mounts=(anonymous("/a"),), remove=True)
    (volume,) = volumes.list()
    assert volume.boot == boot_id()
    store.containers.remove(identity, force=True)
    assert not volumes.list()
    kept = store.create("true", mounts=(anonymous("/a"),))
    (volume,) = volumes.list()
    assert volume.boot == ""
    assert volume.container == kept.id


def test_a_container_of_an_earlier_version(store: Store, volumes: Volumes) -> None:
    made = store.create(
        "sh", "-c", "cat /etc/mine 2>/dev/null || echo here >/etc/mine", mounts=(anonymous("/etc"),)
    )
    paths = store.layout.container(made.id)
    document = files.load(paths.document, dict)
    del document["mounts"]
    files.write_atomic(paths.document, files.dump(document))
    for _ in range(2):
        store.containers.start(made.id)
        store.containers.wait(made.id)
    assert store.log(made.id) == b"here\n"
    assert Path(f"{paths.volumes}/0/mine").read_text() == "here\n"
    volumes.prune()


def test_events(store: Store, volumes: Volumes) -> None:
    store.sh("true", mounts=(named("data"), anonymous("/a")))
    volumes.remove("data")
    with store.engine.events.read(follow=False, filters={"type": ["volume"]}) as stream:
        told = [(event.action, event.id == "data") for event in stream]
    assert sorted(told) == sorted(
        (action, mine) for action in ("create", "mount", "unmount", "destroy")
        for mine in (True, False)
    )  # fmt: skip


def test_the_command_line(store: Store, pycontain: CommandLine) -> None:
    assert pycontain("volume", "create", "--label", "a=b", "data").stdout == b"data\n"
    assert pycontain("run", "-d", "--name", "user", "-v", "data:/d:ro", "busybox", "sleep", "1000")
    done = pycontain("volume", "rm", "data")
    identity = store.containers.find("user")
    assert done.returncode == 1
    assert f"remove data: volume is in use - [{identity}]" in done.stderr.decode()
    out = pycontain("inspect", "-f", "{{range .Mounts}}{{.Name}} {{.RW}}{{end}}", "user").stdout
    assert out == b"data false\n"
    assert pycontain("volume", "ls", "-q", "-f", "dangling=true").stdout == b""
    assert pycontain("__complete", "fish", "volume", "rm", "").stdout == b"words\ndata\n"
    assert pycontain("__complete", "fish", "run", "-v", "da").stdout == b"nospace\ndata:\n"
