"""The files of a container from outside: cp, diff, export and the Tree below them."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import threading
import time
from typing import TYPE_CHECKING

import pytest
from harness import FOREVER, PATIENCE, CommandLine, Store, proc_field, python_env, wait_until
from ordinary import ordinary_user

from pycontain.errors import Conflict, InvalidInput, KernelError, NotFound, PycontainError
from pycontain.model.container import Mount
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pycontain.engine.tree import Tree

pytestmark = pytest.mark.host

RACE = 4.0  # seconds that a race is tried for
SECRET = b"of the host, and nobody else's\n"


@pytest.fixture(params=["running", "stopped"])
def both(request: pytest.FixtureRequest, store: Store) -> Callable[..., str]:
    """Makes a container and returns its id: once it runs, once it has ended."""

    def make(**options: object) -> str:
        identity = store.detach(*FOREVER, **options)
        if request.param == "stopped":
            store.containers.kill(identity, signal.SIGKILL)
        return identity

    return make


def tar_names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def export(store: Store, ref: str) -> bytes:
    out = io.BytesIO()
    store.containers.export(ref, out)
    return out.getvalue()


def lines(store: Store, ref: str) -> list[str]:
    return [f"{change.kind} {change.path}" for change in store.containers.changes(ref)]


# ------------------------------------------------------------------------------------------- Tree


@pytest.mark.in_vm
def test_a_file_written_is_read_again(both: Callable[..., str], store: Store) -> None:
    with store.containers.tree(both()) as tree:
        tree.write("/tmp/file", b"one", mode=0o640, uid=12, gid=34)
        assert tree.read("tmp/file") == b"one"
        info = tree.stat("/tmp/file")
        assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o640, 12, 34)
        tree.write("/tmp/file", b"two")  # owner and mode stay
        info = tree.stat("/tmp/file")
        assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o640, 12, 34)
        assert tree.listdir("/tmp") == ["file"]
        fd = tree.open("/tmp/file", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"!")
        os.close(fd)
        fd = tree.open("/tmp/new", os.O_RDWR | os.O_CREAT, 0o600)
        os.close(fd)
        assert stat.S_IMODE(tree.stat("/tmp/new").st_mode) == 0o600
        assert tree.read("/tmp/file") == b"two!"
        with pytest.raises(InvalidInput, match="more than 3 bytes"):
            tree.read("/tmp/file", 3)
        with pytest.raises(NotFound, match="could not find the file /no/file"):
            tree.read("/no/file")
        with pytest.raises(Conflict):
            tree.open("/tmp/file", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with pytest.raises(Conflict):
            tree.write("/tmp", b"")
        with pytest.raises(InvalidInput, match="unknown flags"):
            tree.open("/tmp/file", os.O_TMPFILE)


def test_what_is_written_is_there_in_the_container(both: Callable[..., str], store: Store) -> None:
    identity = both()
    with store.containers.tree(identity) as tree:
        tree.write("/etc/hello", b"hello\n", uid=1000)
    if store.state_of(identity) != "running":
        store.containers.start(identity)
    shown = store.exec(identity, "sh", "-c", "cat /etc/hello; stat -c %u /etc/hello")
    assert shown.stdout == b"hello\n1000\n"


def test_links_lead_nowhere_but_into_the_container(
    both: Callable[..., str], store: Store, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    with store.containers.tree(both()) as tree:
        os.symlink("/", tmp_path / "top")
        tree.copy_in(f"{tmp_path}/top", "/tmp/")
        os.symlink(f"../../../../../..{secret}", tmp_path / "up")
        os.symlink(str(secret), tmp_path / "direct")
        tree.copy_in(f"{tmp_path}/up", "/tmp/")
        tree.copy_in(f"{tmp_path}/direct", "/tmp/")
        for path in (f"/tmp/top{secret}", "/tmp/up", "/tmp/direct", f"/../../..{secret}"):
            with pytest.raises(NotFound):
                tree.read(path)
        assert tree.readlink("/tmp/direct") == str(secret)
        # A write follows the link to where it leads in the container.
        tree.make_folders(str(tmp_path)).close()
        tree.write("/tmp/up", b"inside")
        assert tree.read(str(secret)) == b"inside"
    assert secret.read_bytes() == SECRET


def test_magic_links_are_not_followed(store: Store) -> None:
    identity = store.detach(pid="host")
    with store.containers.tree(identity) as tree, pytest.raises(KernelError) as caught:
        tree.listdir(f"/proc/{os.getpid()}/root/")
    assert caught.value.errno == errno.ELOOP


def test_devices_and_fifos_are_not_opened(both: Callable[..., str], store: Store) -> None:
    with store.containers.tree(both(cap_add=("MKNOD",))) as tree:
        with tree.folder("/tmp") as folder:
            os.mknod("zero", stat.S_IFCHR | 0o666, os.makedev(1, 5), dir_fd=folder.fd)
            os.mkfifo("fifo", dir_fd=folder.fd)
        for name in ("zero", "fifo"):
            with pytest.raises(InvalidInput, match="not a regular file"):
                tree.read(f"/tmp/{name}")
        with pytest.raises(InvalidInput, match="must be a directory or a regular file"):
            tree.copy_in("/etc/hostname", "/tmp/fifo")


def test_views_of_the_kernel_are_neither_copied_nor_written(store: Store, tmp_path: Path) -> None:
    with store.containers.tree(store.detach()) as tree:
        assert tree.read("/proc/1/comm") == b"sleep\n"
        for act in (
            lambda: tree.copy_out("/proc/1/comm", str(tmp_path)),
            lambda: tree.write("/proc/1/comm", b"x"),
            lambda: tree.open("/proc/1/comm", os.O_WRONLY),
            lambda: tree.copy_in("/etc/hostname", "/proc/"),
            lambda: tree.copy_in(io.BytesIO(archive_of("1/comm")), "/proc"),
        ):
            with pytest.raises(InvalidInput, match="view of the kernel's state"):
                act()
        tree.copy_out("/", f"{tmp_path}/whole")
        assert tree.read("/proc/1/comm") == b"sleep\n"
    assert os.listdir(tmp_path / "whole/proc") == os.listdir(tmp_path / "whole/sys") == []
    assert (tmp_path / "whole/bin/busybox").exists()


def archive_of(name: str, content: bytes = b"x", **fields: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        for key, value in fields.items():
            setattr(entry, key, value)
        tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.in_vm
def test_volumes_and_binds_are_seen(both: Callable[..., str], store: Store, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "here").write_bytes(b"bound")
    mounts = (
        Mount(type="volume", target="/srv/volume"),
        Mount(type="bind", source=str(host), target="/srv/bind"),
        Mount(type="bind", source=str(host), target="/read", options=("ro",)),
        Mount(type="bind", source=str(host), target="/srv/bind/sub"),
        Mount(type="tmpfs", target="/scratch"),
    )
    (host / "sub").mkdir()
    identity = both(mounts=mounts)
    with store.containers.tree(identity) as tree:
        assert tree.read("/srv/bind/here") == b"bound"
        tree.write("/srv/bind/new", b"there")
        tree.write("/srv/bind/sub/deep", b"there")
        tree.write("/srv/volume/file", b"kept")
        assert tree.listdir("/srv") == ["bind", "volume"]
        for act in (
            lambda: tree.write("/read/new", b""),
            lambda: tree.copy_in(f"{host}/here", "/read/"),
        ):
            with pytest.raises(KernelError) as caught:
                act()
            assert caught.value.errno == errno.EROFS
        tree.copy_out("/srv", f"{tmp_path}/out")
        if store.state_of(identity) != "running":  # where it is lost, nothing is written
            with pytest.raises(KernelError, match="read-only"):
                tree.write("/scratch/file", b"")
    assert (host / "new").read_bytes() == (host / "deep").read_bytes() == b"there"
    assert (tmp_path / "out/bind/here").read_bytes() == b"bound"
    assert (tmp_path / "out/bind/sub/here").read_bytes() == b"bound"
    assert (tmp_path / "out/volume/file").read_bytes() == b"kept"
    # An archive of the container's own files has none of it.
    assert [name for name in tar_names(export(store, identity)) if name.startswith("srv/")] == [
        "srv/bind", "srv/volume",
    ]  # fmt: skip


@pytest.mark.in_vm
def test_files_bound_by_us_are_written_where_they_are(
    both: Callable[..., str], store: Store, tmp_path: Path
) -> None:
    identity = both()
    (tmp_path / "hosts").write_bytes(b"10.0.0.1 other\n")
    with store.containers.tree(identity) as tree:
        assert b"localhost" in tree.read("/etc/hosts")
        tree.copy_in(f"{tmp_path}/hosts", "/etc/")
        tree.copy_in(io.BytesIO(archive_of("etc/hostname", b"name\n")), "/")
        assert tree.read("/etc/hosts") == b"10.0.0.1 other\n"
        assert tree.read("/etc/hostname") == b"name\n"
        assert not [name for name in tree.listdir("/etc") if "cp-" in name]
    with open(store.view(identity).paths.hosts, "rb") as file:
        assert file.read() == b"10.0.0.1 other\n"
    if store.state_of(identity) == "running":
        assert store.exec(identity, "cat", "/etc/hostname").stdout == b"name\n"


def test_a_volume_is_filled_before_the_first_start(store: Store) -> None:
    container = store.create(
        *FOREVER, read_only=True, mounts=(Mount(type="volume", target="/etc"),)
    )
    with store.containers.tree(container.id) as tree:
        assert "passwd" in tree.listdir("/etc")
        tree.write("/etc/more", b"kept")
        with pytest.raises(KernelError, match="read-only"):
            tree.write("/file", b"")
    store.containers.start(container.id)
    assert store.exec(container.id, "cat", "/etc/more").stdout == b"kept"


def test_the_lock_is_held_and_let_go(store: Store) -> None:
    container = store.create(*FOREVER)
    with store.containers.tree(container.id):
        lock = files.Lock(store.view(container.id).paths.lock, shared=True)
        assert not lock.acquire(wait=False)
    store.containers.start(container.id)
    with store.containers.tree(container.id), store.containers.tree(container.id):
        lock = files.Lock(store.view(container.id).paths.lock)
        assert not lock.acquire(wait=False)
    assert lock.acquire(wait=False)
    lock.release()


def test_a_container_that_ends_meanwhile_keeps_its_mounts(store: Store, tmp_path: Path) -> None:
    (tmp_path / "bound").mkdir()
    mounts = (Mount(type="bind", source=f"{tmp_path}/bound", target="/srv"),)
    identity = store.detach(mounts=mounts)
    with store.containers.tree(identity) as tree:
        store.containers.kill(identity, signal.SIGKILL)
        tree.write("/srv/file", b"where it belongs")
    assert (tmp_path / "bound/file").read_bytes() == b"where it belongs"
    assert "A /srv/file" not in lines(store, identity)


def test_nothing_of_the_container_is_loaded(store: Store, pycontain: CommandLine) -> None:
    """CVE-2019-14271: no chroot, no other namespace, nothing executed, no library of its own."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    identity = store.detach()
    calls = "trace=execve,execveat,chroot,pivot_root,setns,unshare"
    for words in ((f"{identity}:/etc", "-"), ("/etc/hostname", f"{identity}:/tmp/")):
        done = subprocess.run(
            ["strace", "-f", "-qq", "-e", calls, *pycontain.argv, "cp", *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
            env=python_env(), text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        seen = [line for line in done.stderr.splitlines() if "(" in line]
        assert len(seen) == 1, seen  # strace's own, of the interpreter


# --------------------------------------------------------------------------------------------- cp


@pytest.mark.in_vm
def test_both_ways_with_all_kinds(both: Callable[..., str], store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_bytes(os.urandom(100_000))
    (source / "file").chmod(0o4640)
    os.chown(source / "file", 1234, 99)
    os.link(source / "file", source / "sub/again")
    (source / "link").symlink_to("file")
    os.mkfifo(source / "fifo")
    with (source / "sparse").open("wb") as out:
        out.truncate(64 << 20)
    os.utime(source / "file", ns=(10**18 + 7, 10**18 + 7))
    with store.containers.tree(both()) as tree:
        tree.copy_in(str(source), "/tmp/plain")
        tree.copy_in(str(source), "/tmp/kept", archive=True)
        plain, kept = (tree.stat(f"/tmp/{name}/file") for name in ("plain", "kept"))
        assert (plain.st_uid, plain.st_gid, stat.S_IMODE(plain.st_mode)) == (0, 0, 0o640)
        assert plain.st_mtime_ns == 10**18 + 7
        assert (kept.st_uid, kept.st_gid) == (1234, 99)
        assert stat.S_IMODE(kept.st_mode) & 0o777 == 0o640
        assert kept.st_nlink == 2
        assert tree.stat("/tmp/kept/sparse").st_blocks < 2048
        assert tree.readlink("/tmp/kept/link") == "file"
        tree.copy_out("/tmp/kept", f"{tmp_path}/mine")
        tree.copy_out("/tmp/kept", f"{tmp_path}/theirs", archive=True)
    mine, theirs = ((tmp_path / name / "file").stat() for name in ("mine", "theirs"))
    assert (mine.st_uid, mine.st_gid, stat.S_IMODE(mine.st_mode)) == (0, 0, 0o640)
    assert (theirs.st_uid, theirs.st_gid) == (1234, 99)
    assert (tmp_path / "theirs/file").read_bytes() == (source / "file").read_bytes()
    assert (tmp_path / "theirs/sub/again").samefile(tmp_path / "theirs/file")
    assert stat.S_ISFIFO((tmp_path / "mine/fifo").stat().st_mode)


def test_set_id_programs_of_a_container_get_no_power_here(store: Store, tmp_path: Path) -> None:
    identity = store.detach()
    store.exec(identity, "sh", "-c", "cp /bin/busybox /tmp/su; chmod 6755 /tmp/su")
    with store.containers.tree(identity) as tree:
        tree.copy_out("/tmp/su", f"{tmp_path}/plain")
        tree.copy_out("/tmp/su", f"{tmp_path}/kept", archive=True)
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o6755


def test_file_capabilities_are_kept(store: Store, tmp_path: Path) -> None:
    # VFS_CAP_REVISION_2, effective, cap_net_raw (capabilities(7))
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    tool = tmp_path / "tool"
    tool.write_bytes(b"#!")
    os.setxattr(tool, "security.capability", capability)
    out = io.BytesIO()
    with store.containers.tree(store.create().id) as tree:
        tree.copy_in(str(tool), "/tmp/tool")
        tree.copy_out("/tmp/tool", out)
        tree.copy_in(io.BytesIO(out.getvalue()), "/etc")
        tree.copy_out("/etc/tool", f"{tmp_path}/kept", archive=True)
        tree.copy_out("/etc/tool", f"{tmp_path}/plain")
    assert os.getxattr(tmp_path / "kept", "security.capability") == capability
    assert os.listxattr(tmp_path / "plain") == []


def test_streams_keep_owners(store: Store) -> None:
    data = archive_of("a/b/file", b"abc", uid=1000, gid=2000, mode=0o640, mtime=7)
    out = io.BytesIO()
    with store.containers.tree(store.create().id) as tree:
        assert tree.copy_in(io.BytesIO(data), "/tmp") == 3
        tree.copy_out("/tmp/a/.", out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        assert tar.getnames() == [".", "./b", "./b/file"]
        member = tar.getmember("./b/file")
    assert (member.uid, member.gid, member.mode, member.mtime) == (1000, 2000, 0o640, 7)


def test_links_in_an_archive_stay_in_the_container(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
        for name in ("way/secret", "way/other"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
    with store.containers.tree(store.create().id) as tree:
        tree.make_folders(str(tmp_path)).close()
        tree.copy_in(io.BytesIO(out.getvalue()), "/tmp")
        assert tree.read(f"{tmp_path}/secret") == b"x"
        hard = archive_of("stolen", b"", type=tarfile.LNKTYPE, linkname="way/../../secret")
        with pytest.raises(InvalidInput, match="outside"):
            tree.copy_in(io.BytesIO(hard), "/tmp")
    assert (tmp_path / "secret").read_bytes() == SECRET
    assert not (tmp_path / "other").exists()


def test_a_big_file_is_not_read_into_memory(store: Store, pycontain: CommandLine) -> None:
    identity = store.create().id
    size = 300 << 20
    with store.containers.tree(identity) as tree:
        fd = tree.open("/tmp/big", os.O_WRONLY | os.O_CREAT)
        os.posix_fallocate(fd, 0, size)
        os.close(fd)
    with pycontain.start("cp", f"{identity}:/tmp/big", "-", stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        peak, total = 0, 0
        while data := child.stdout.read(1 << 20):
            total += len(data)
            if total % (1 << 24) < 1 << 20:
                with contextlib.suppress(FileNotFoundError, AssertionError):
                    peak = max(peak, int(proc_field(child.pid, "VmHWM")))
    assert total > size
    assert 0 < peak < 100_000  # kB


def test_a_person_is_told_how_much_was_copied(
    store: Store, pycontain: CommandLine, tmp_path: Path
) -> None:
    name = store.create(name="box").name
    (tmp_path / "file").write_bytes(b"12345")
    said = b"Successfully copied 5B to box:/tmp"
    words = ("cp", f"{tmp_path}/file", f"{name}:/tmp")
    assert said in pycontain(*words, tty=True).stdout
    assert said in pycontain("cp", "--quiet=false", *words[1:]).stderr
    assert pycontain("cp", "-q", *words[1:], tty=True).stdout == b""
    assert pycontain(*words).stderr == b""


# ------------------------------------------------------------------------------------- diff, export


@pytest.mark.in_vm
def test_diff_and_export_of_what_was_done(both: Callable[..., str], store: Store) -> None:
    identity = both()
    assert lines(store, identity) == []
    if store.state_of(identity) != "running":
        store.containers.start(identity)
    script = """
        echo new >/tmp/new; mkdir -p /srv/a; touch /srv/a/b; rm /etc/group; rm -r /home
        chmod 750 /root; mv /usr /usr2; rm -r /var/spool; mkdir /var/spool; echo x >>/etc/passwd
    """
    assert store.exec(identity, "sh", "-ec", script).code == 0
    store.containers.kill(identity, signal.SIGKILL)
    found = lines(store, identity)
    assert found == sorted(found, key=lambda line: line[2:])
    assert {
        "A /tmp/new", "A /srv", "A /srv/a/b", "D /etc/group", "C /etc", "D /home", "C /root",
        "D /usr", "A /usr2/bin/env", "C /var/spool", "C /etc/passwd",
    } <= set(found)  # fmt: skip
    names = tar_names(export(store, identity))
    assert {"tmp/new", "srv/a/b", "usr2/bin/env", "bin/busybox", "proc"} <= set(names)
    assert not {"etc/group", "home", "usr", ".", "proc/1"} & set(names)


def test_export_has_what_a_volume_covers(store: Store) -> None:
    mounts = (Mount(type="volume", target="/etc"),)
    identity = store.detach(mounts=mounts)
    store.exec(identity, "sh", "-c", "echo >/etc/in-the-volume")
    names = tar_names(export(store, identity))
    assert "etc/passwd" in names
    assert "etc/in-the-volume" not in names


def test_an_export_makes_the_same_root_again(store: Store, tmp_path: Path) -> None:
    identity = store.create().id
    (tmp_path / "whole").mkdir()
    subprocess.run(["tar", "xpC", tmp_path / "whole"], input=export(store, identity), check=True)
    layer = store.layout.layer(store.view(identity).container.layers[0])
    compare = ["rsync", "-anHi", "--delete", f"{layer}/", f"{tmp_path}/whole/"]
    if shutil.which("rsync"):
        found = subprocess.run(compare, capture_output=True, check=True).stdout
        assert found in (b"", b".d..t...... ./\n")  # the root itself has no entry
    seen = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*")}
    assert len(seen) == sum(len(found) + len(more) for _, found, more in os.walk(layer))


def test_a_broken_pipe_and_a_full_disk(
    store: Store, pycontain: CommandLine, tmp_path: Path
) -> None:
    identity = store.create().id
    for words in (("export", identity), ("cp", f"{identity}:/", "-")):
        with pycontain.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            child.stdout.close()
            assert child.stderr.read() == b""
        assert child.returncode == 141
        with open("/dev/full", "wb") as full:
            child = pycontain.start(*words, stdout=full, stderr=subprocess.PIPE)
            _, err = child.communicate(timeout=PATIENCE)
        assert child.returncode == 1
        assert b"no space left on device" in err
        assert len(err.splitlines()) == 1
    done = pycontain("export", "-o", f"{tmp_path}/out.tar", identity)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert "bin/busybox" in tar_names((tmp_path / "out.tar").read_bytes())
    assert stat.S_IMODE((tmp_path / "out.tar").stat().st_mode) == 0o600


def test_an_ordinary_users_files(whole_host: None) -> None:
    with ordinary_user() as user:
        assert user.run("run", "-d", "--name", "box", "busybox", *FOREVER).returncode == 0
        try:
            (user.home / "file").write_bytes(b"of the user")
            os.chown(user.home / "file", user.entry.pw_uid, user.entry.pw_gid)
            for state in ("running", "stopped"):
                done = user.run("cp", "file", "box:/tmp/")
                assert (done.returncode, done.stderr) == (0, b"")
                assert user.run("cp", "box:/tmp/file", f"back-{state}").returncode == 0
                info = (user.home / f"back-{state}").stat()
                assert (info.st_uid, info.st_size) == (user.entry.pw_uid, 11)
                data = archive_of("owned", uid=1000)
                assert user.run("cp", "-", "box:/tmp", input=data).returncode == 0
                out = user.run("cp", "box:/tmp/owned", "-").stdout
                with tarfile.open(fileobj=io.BytesIO(out)) as tar:
                    assert tar.getmember("owned").uid == 1000
                assert "tmp/owned" in tar_names(user.run("export", "box").stdout)
                user.run("exec", "box", "sh", "-c", "rm -r /home; mv /usr /usr2; mkdir /usr")
                changed = user.run("diff", "box").stdout.decode().splitlines()
                assert {"C /tmp", "A /tmp/file", "A /tmp/owned", "D /home"} <= set(changed)
                assert {"C /usr", "D /usr/bin", "A /usr2", "A /usr2/bin/env"} <= set(changed)
                user.run("stop", "-t", "0", "box")
        finally:
            user.run("rm", "-f", "box")


# ----------------------------------------------------------------------------------------- hostile


def moves(*names: str) -> str:
    """Commands that put each of these at the name ``x`` in turn; what is made there goes."""
    return "".join(f"mv -T {name} x || rm -rf x; mv -T x {name};" for name in names)


@contextlib.contextmanager
def hostile(store: Store, prepare: str, *names: str) -> Iterator[Tree]:
    """The files of a container that moves each of `names` to /work/x and back for ever."""
    script = f"mkdir /work; cd /work; {prepare}; touch ready; while :; do {moves(*names)} done"
    identity = store.detach("sh", "-c", script)
    with store.containers.tree(identity) as tree:
        wait_until(lambda: "work" in tree.listdir() and "ready" in tree.listdir("/work"))
        yield tree


def for_a_while(act: Callable[[], object], enough: Callable[[], bool]) -> dict[str, int]:
    """Do it again and again, and until it is enough; how often which error came."""
    seen: dict[str, int] = {}
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < RACE or (passed < PATIENCE and not enough()):
        try:
            act()
            kind = "well"
        except PycontainError as err:
            kind = type(err).__name__
        seen[kind] = seen.get(kind, 0) + 1
    return seen


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A folder of the host with a secret in it."""
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "secret").write_bytes(SECRET)
    return folder


def untouched(canary: Path) -> bool:
    return os.listdir(canary) == ["secret"] and (canary / "secret").read_bytes() == SECRET


def test_a_folder_that_becomes_a_link_while_it_is_read(
    store: Store, canary: Path, tmp_path: Path
) -> None:
    """CVE-2018-15664, out of the container: nothing of the host is ever in a copy."""
    prepare = f"mkdir d; echo ours >d/secret; ln -s {canary} l"
    seen = 0

    def act() -> None:
        nonlocal seen
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        (tmp_path / "out").mkdir()
        out = io.BytesIO()
        for path in ("/work/x", "/work/x/", "/work/x/secret"):
            with contextlib.suppress(NotFound, InvalidInput):
                tree.copy_out(path, f"{tmp_path}/out", archive=True)
            with contextlib.suppress(NotFound, InvalidInput):
                tree.copy_out(path, out)
        tree.copy_out("/work/.", f"{tmp_path}/out")
        with contextlib.suppress(NotFound):
            assert tree.read("/work/x/secret") == b"ours\n"
        for folder, _, names in os.walk(tmp_path / "out"):
            for name in names:
                if name == "secret":
                    seen += 1
                    path = os.path.join(folder, name)
                    with open(path, "rb") as file:
                        assert file.read() == b"ours\n"
        assert SECRET not in out.getvalue()

    with hostile(store, prepare, "d", "l") as tree:
        result = for_a_while(act, lambda: seen > 10)
    assert seen > 10, result
    assert untouched(canary)


@pytest.mark.in_vm
def test_a_folder_that_becomes_a_link_while_it_is_written(
    store: Store, canary: Path, tmp_path: Path
) -> None:
    """CVE-2018-15664, into the container: nothing of the host is ever written."""
    source = tmp_path / "payload"
    (source / "inner").mkdir(parents=True)
    (source / "secret").write_bytes(b"overwritten")
    (source / "inner/file").write_bytes(b"new")
    data = archive_of("x/secret", b"overwritten")

    def act() -> None:
        for copy in (
            lambda: tree.copy_in(f"{source}/.", "/work/x"),
            lambda: tree.copy_in(f"{source}/.", "/work/x/"),
            lambda: tree.copy_in(f"{source}/secret", "/work/x/secret"),
            lambda: tree.copy_in(io.BytesIO(data), "/work"),
            lambda: tree.write("/work/x/secret", b"overwritten"),
        ):
            with contextlib.suppress(PycontainError):
                copy()
                done.append(1)

    done: list[int] = []
    with hostile(store, f"mkdir d; ln -s {canary} l", "d", "l") as tree:
        for_a_while(act, lambda: len(done) > 10)
        assert len(done) > 10

        def arrived() -> bool:
            return any("secret" in tree.listdir(f"/work/{name}") for name in "dx")

        wait_until(lambda: for_one(arrived))
    assert untouched(canary)


def test_a_file_that_becomes_a_link_a_fifo_or_a_device(
    store: Store, canary: Path, tmp_path: Path
) -> None:
    """No copy waits on a fifo, reads a device, or brings what a link leads to on the host."""
    prepare = f"echo ours >f; ln -s {canary}/secret l; mkfifo p; mknod n c 1 5"
    kinds: set[int] = set()

    def act() -> None:
        out = tmp_path / "out"
        with contextlib.suppress(NotFound):
            out.unlink(missing_ok=True)
            tree.copy_out("/work/x", str(out))
            info = out.lstat()
            kinds.add(stat.S_IFMT(info.st_mode))
            if stat.S_ISREG(info.st_mode):
                assert out.read_bytes() == b"ours\n"
            out.unlink()
        with contextlib.suppress(NotFound, InvalidInput):
            assert tree.read("/work/x") == b"ours\n"
        with contextlib.suppress(NotFound, InvalidInput):
            tree.copy_in("/etc/hostname", "/work/y")

    with hostile(store, prepare, "f", "l", "p", "n") as tree:
        finished = threading.Event()
        timer = threading.Timer(RACE + 3 * PATIENCE, lambda: finished.is_set() or os._exit(70))
        timer.start()
        try:
            for_a_while(act, lambda: len(kinds) == 4)
        finally:
            finished.set()
            timer.cancel()
    assert len(kinds) == 4, kinds
    assert untouched(canary)


def test_the_race_is_one(store: Store, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same container against a resolution that leaves the root: here the secret is read."""

    def naive(root: int, path: str, flags: int) -> int:
        name = os.path.basename(path)
        folder = os.open(os.path.dirname(path).lstrip("/"), os.O_PATH, dir_fd=root)
        try:
            return os.open(name, flags, dir_fd=folder)
        finally:
            os.close(folder)

    prepare = f"mkdir d; echo ours >d/secret; ln -s {canary} l"
    read: set[bytes] = set()
    with hostile(store, prepare, "d", "l") as tree:
        monkeypatch.setattr("pycontain.engine.tree.open_in_root", naive)

        def act() -> bool:
            read.add(tree.read("/work/x/secret"))
            return {b"ours\n", SECRET} <= read

        wait_until(lambda: for_one(act))


def for_one(act: Callable[[], bool]) -> bool:
    """What it says; False where the name is something else just now."""
    with contextlib.suppress(PycontainError):
        return act()
    return False
