"""What a container's process gets: streams, identity, files, mounts, kernel settings; its end."""

from __future__ import annotations

import os
import re
import resource
import signal
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import leaks
import pytest
from harness import collect, wait_until

from pycontain.errors import (
    CommandNotFound,
    InvalidInput,
    KernelError,
    NotExecutable,
    NotFound,
    PycontainError,
)
from pycontain.model.container import Device, Mount, Ulimit

if TYPE_CHECKING:
    from pathlib import Path

    from harness import CommandLine, Store

pytestmark = pytest.mark.host

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def bind(source: object, target: str, *options: str) -> Mount:
    return Mount(type="bind", source=str(source), target=target, options=options)


def options_at(mountinfo: str, target: str) -> set[str]:
    """The options of the topmost mount at `target`, its own and its file system's."""
    found: set[str] = set()
    for line in mountinfo.splitlines():
        fields = line.split()
        if fields[4] == target:
            found = set(fields[5].split(",")) | set(fields[-1].split(","))
    return found


# ------------------------------------------------------------------------------------------ the end


@pytest.mark.parametrize("code", [0, 1, 42, 125, 255])
def test_the_commands_code_is_the_containers(store: Store, code: int) -> None:
    assert store.code(f"exit {code}") == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_signal_is_128_and_its_number(store: Store, number: int) -> None:
    # With an init in between: nothing inside can kill pid 1.
    assert store.code(f"kill -{int(number)} $$; sleep 10", init=True) == 128 + number


def test_a_signal_to_the_first_process(store: Store) -> None:
    identity = store.detach()
    store.containers.kill(identity, signal.SIGKILL)
    record = store.containers.await_record(identity)
    assert (record.code, record.signal) == (137, 9)


def test_a_signal_that_is_caught(store: Store) -> None:
    identity = store.detach("sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done")
    wait_until(lambda: store.log(identity) == b"up\n")
    store.containers.kill(identity, signal.SIGTERM)
    assert store.containers.wait(identity) == 7


@pytest.mark.parametrize("command", ["nonsense", "/bin/nonsense", "/etc/passwd/x"])
def test_a_command_that_does_not_exist(store: Store, command: str) -> None:
    kinds = (CommandNotFound, NotExecutable) if "passwd" in command else (CommandNotFound,)
    with pytest.raises(kinds, match=r"nonsense|passwd"):
        store.run(command)


@pytest.mark.parametrize("command", ["/etc/passwd", "/etc", "/dev/null"])
def test_a_command_that_is_no_program(store: Store, command: str) -> None:
    with pytest.raises(NotExecutable, match="permission denied"):
        store.run(command)


def test_a_program_without_a_known_form(store: Store, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("no shebang")
    program.chmod(0o755)
    with pytest.raises(NotExecutable, match="exec format error"):
        store.run("/program", mounts=(bind(program, "/program"),))


def test_the_path_is_the_containers(store: Store, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "hello"
    program.write_text("#!/bin/sh\necho found")
    program.chmod(0o755)
    mounts = (bind(tmp_path / "bin", "/some/bin"),)
    done = store.run("hello", env=("PATH=/nowhere:/some/bin:/bin",), mounts=mounts)
    assert done.stdout == b"found\n"
    with pytest.raises(CommandNotFound):
        store.run("hello", mounts=mounts)


def test_a_program_that_is_not_executable_is_passed_over(store: Store, tmp_path: Path) -> None:
    (tmp_path / "ls").write_text("not a program")
    mounts = (bind(tmp_path, "/first"),)
    assert store.run("ls", "/bin/ls", env=("PATH=/first:/bin",), mounts=mounts).exit_code == 0


# ------------------------------------------------------------------------------------------ streams


@pytest.mark.in_vm
def test_streams_are_apart(store: Store) -> None:
    result = store.run("sh", "-c", "echo out; echo err >&2; echo out2; echo err2 >&2")
    assert (result.stdout, result.stderr) == (b"out\nout2\n", b"err\nerr2\n")


def test_input_is_given_whole_and_ends(store: Store) -> None:
    data = os.urandom(3_000_000)
    assert store.run("cat", input=data).stdout == data


def test_without_input_it_is_empty(store: Store) -> None:
    assert store.run("cat").stdout == b""
    assert store.run("cat", input=b"").stdout == b""


def test_input_that_nobody_reads(store: Store) -> None:
    assert store.run("true", input=bytes(5_000_000)).exit_code == 0


def test_a_lot_of_output_is_whole(store: Store) -> None:
    result = store.run("sh", "-c", "seq 1 300000; seq 1 1000 >&2")
    assert result.stdout == b"".join(b"%d\n" % n for n in range(1, 300001))
    assert result.stderr == b"".join(b"%d\n" % n for n in range(1, 1001))


def test_output_after_the_reader_went_is_sigpipe_free(store: Store) -> None:
    identity, attachment = store.attached("sh", "-c", "sleep 0.3; seq 1 100000; exit 3")
    attachment.close()
    assert store.containers.wait(identity) == 3
    assert store.log(identity).endswith(b"100000\n")


def test_a_user_may_open_the_standard_streams(store: Store) -> None:
    script = "echo a > /dev/stdout; echo b > /dev/stderr; echo c > /proc/self/fd/1"
    result = store.run("sh", "-c", script, user="1000")
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"a\nc\n", b"b\n")


def test_a_background_process_that_keeps_the_streams_does_not_keep_the_container(
    store: Store,
) -> None:
    assert store.sh("sleep 1000 & echo done") == "done\n"


@pytest.mark.in_vm
def test_a_terminal(store: Store) -> None:
    command = ("sh", "-c", "tty; stty size; echo err >&2; test -t 0 && test -t 1 && test -t 2")
    asked = {"tty": True, "interactive": True}
    from pycontain.model.container import RunOptions

    options = RunOptions(image="busybox", command=command, **asked)  # type: ignore[arg-type]
    container, attachment = store.containers.run(options, size=(33, 77))
    assert attachment is not None
    found = collect(attachment)
    attachment.close()
    assert found.code == 0
    assert found.stdout == b"/dev/pts/0\r\n33 77\r\nerr\r\n"
    assert store.view(container.id).status.state == "exited"


def test_a_terminal_is_a_controlling_one_with_a_console(store: Store) -> None:
    identity, attachment = store.attached(
        "sh", "-c", "echo hi > /dev/tty; echo ho > /dev/console; stat -c %u:%a /dev/console",
        tty=True, user="1000",
    )  # fmt: skip
    found = collect(attachment)
    attachment.close()
    assert found.stdout == b"hi\r\nho\r\n1000:620\r\n"
    assert store.containers.wait(identity) == 0


# -------------------------------------------------------------------------------------- environment


def environment(store: Store, **options: Any) -> dict[str, str]:
    lines = store.run("env", **options).stdout.decode().splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def test_the_environment_is_dockers(store: Store) -> None:
    found = environment(store, hostname="box")
    assert found == {"PATH": PATH, "HOSTNAME": "box", "HOME": "/root"}


def test_the_environment_with_a_terminal(store: Store) -> None:
    _, attachment = store.attached("env", tty=True)
    found = collect(attachment)
    attachment.close()
    assert b"TERM=xterm\r\n" in found.stdout


def test_variables_that_are_asked_for(store: Store) -> None:
    found = environment(store, env=("A=1", "B=x=y", "A=2", "HOME=/there", "E="))
    assert (found["A"], found["B"], found["HOME"], found["E"]) == ("2", "x=y", "/there", "")


def test_nothing_of_ours_is_in_the_environment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    assert "SECRET_OF_THE_HOST" not in environment(store)
    assert "SECRET_OF_THE_HOST" not in store.sh("cat /proc/1/environ")


# ----------------------------------------------------------------------------------------- identity


@pytest.mark.parametrize(
    ("user", "uid", "gid", "home"),
    [
        (None, 0, 0, "/root"),
        ("nobody", 65534, 65534, "/home"),
        ("1234", 1234, 0, "/"),
        ("1234:99", 1234, 99, "/"),
        ("mail:tty", 8, 5, "/var/spool/mail"),
        ("8", 8, 8, "/var/spool/mail"),
        (":5", 0, 5, "/root"),
    ],
)
def test_user(store: Store, user: str | None, uid: int, gid: int, home: str) -> None:
    out = store.sh('grep -E "^(Uid|Gid)" /proc/self/status; echo $HOME', user=user)
    ids = re.findall(r"[UG]id:\t(\d+)\t(\d+)\t(\d+)\t(\d+)", out)
    assert ids == [(str(uid),) * 4, (str(gid),) * 4]
    assert out.splitlines()[-1] == home


@pytest.mark.parametrize(
    ("asked", "groups"),
    [
        ({}, "0 10"),
        ({"user": "1234"}, "0"),
        ({"user": "1234:99"}, "99"),
        ({"user": "1234", "group_add": ("mail", "4242")}, "0 8 4242"),
    ],
)
def test_groups(store: Store, asked: dict[str, Any], groups: str) -> None:
    out = store.sh("grep ^Groups: /proc/self/status", **asked)
    assert out.split(":")[1].split() == groups.split()


@pytest.mark.parametrize("user", ["ghost", "root:ghosts", "4294967295", "-1"])
def test_a_user_that_there_is_not(store: Store, user: str) -> None:
    with pytest.raises((NotFound, InvalidInput), match=r"ghost|4294967295|-1"):
        store.run("true", user=user)


# ---------------------------------------------------------------------------- folders, names, files


def test_the_working_directory_is_made(store: Store) -> None:
    assert store.sh("pwd; stat -c %a:%u .", workdir="/a/b/c") == "/a/b/c\n755:0\n"


def test_a_working_directory_that_is_a_file(store: Store) -> None:
    with pytest.raises(KernelError, match="not a directory"):
        store.run("true", workdir="/etc/passwd")


def test_a_working_directory_through_a_link_stays_inside(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/../../../made")
    mounts = (bind(tmp_path, "/m"),)
    assert store.sh("pwd -P", workdir="/m/link/x", mounts=mounts) == "/made/x\n"
    assert not os.path.lexists("/made")


def test_hostname(store: Store) -> None:
    assert store.sh("hostname; cat /etc/hostname", hostname="box") == "box\nbox\n"
    name = store.sh("hostname").strip()
    assert re.fullmatch("[0-9a-f]{12}", name)
    assert store.sh("hostname", uts="host").strip() == os.uname().nodename


def test_hosts_and_resolver(store: Store) -> None:
    out = store.sh(
        "cat /etc/hosts; echo --; cat /etc/resolv.conf",
        add_host=("one:10.1.2.3", "six:fd00::1"),
        dns=("9.9.9.9",),
        dns_search=("example.org",),
        dns_option=("ndots:2",),
    )
    hosts, _, resolver = out.partition("--\n")
    assert "127.0.0.1\tlocalhost\n" in hosts
    assert "10.1.2.3\tone\n" in hosts
    assert "fd00::1\tsix\n" in hosts
    assert resolver == "nameserver 9.9.9.9\nsearch example.org\noptions ndots:2\n"


def test_the_containers_files_may_be_written_and_are_its_own(store: Store) -> None:
    script = "echo 1.2.3.4 x >> /etc/hosts; echo n > /etc/hostname; echo r > /etc/resolv.conf"
    assert store.code(script) == 0
    assert "1.2.3.4" not in store.sh("cat /etc/hosts")


def test_umask(store: Store) -> None:
    before = os.umask(0o077)
    try:
        assert store.sh("umask; touch /f; stat -c %a /f") == "0022\n644\n"
        assert store.sh("umask", umask=0o007) == "0007\n"
    finally:
        os.umask(before)


def test_the_root_is_a_writable_layer_of_its_own(store: Store) -> None:
    script = "test ! -e /mark && touch /mark && rm -r /home && stat -c %a /"
    assert store.sh(script) == "755\n"
    assert store.sh(script) == "755\n"


@pytest.mark.in_vm
def test_the_standard_devices(store: Store) -> None:
    names = "null zero full random urandom tty"
    out = store.sh(f"cd /dev; stat -c '%n %F %t:%T %a %u:%g' {names}")
    assert out.splitlines() == [
        f"{name} character special file {number} 666 0:0"
        for name, number in zip(
            names.split(), ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"], strict=True
        )
    ]
    links = store.sh("cd /dev; for l in fd stdin stdout stderr ptmx core; do readlink $l; done")
    assert links.split() == [
        *("/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"),
        *("pts/ptmx", "/proc/kcore"),
    ]
    assert set(store.sh("ls /dev").split()) == {
        *names.split(), "fd", "stdin", "stdout", "stderr", "ptmx", "core", "pts", "shm", "mqueue",
    }  # fmt: skip


def test_devices_work(store: Store) -> None:
    script = "head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; echo x > /dev/full"
    result = store.run("sh", "-c", script)
    assert result.stdout.split() == [b"3", b"5"]
    assert b"No space left" in result.stderr


# ------------------------------------------------------------------------------------------- limits


@pytest.mark.in_vm
def test_limits(store: Store) -> None:
    out = store.sh(
        "ulimit -n; ulimit -Hn; ulimit -c",
        ulimits=(
            Ulimit(name="nofile", soft=111, hard=222),
            Ulimit(name="core", soft=-1, hard=-1),
        ),
    )
    assert out.split() == ["111", "222", "unlimited"]


def test_a_limit_of_two_processes_holds(store: Store) -> None:
    limit = (Ulimit(name="fsize", soft=1024, hard=1024),)
    assert store.code("head -c 5000 /dev/zero > /f", ulimits=limit, init=True) != 0


def test_sysctls(store: Store) -> None:
    out = store.sh(
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
        sysctls={"net.ipv4.ip_forward": "1", "kernel.msgmax": "9000"},
    )
    assert out.split() == ["1", "9000"]


def test_a_sysctl_of_the_host_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInput, match=r"vm\.swappiness"):
        store.run("true", sysctls={"vm.swappiness": "1"})


def test_a_sysctl_with_a_bad_value_is_told_with_its_name(store: Store) -> None:
    with pytest.raises(KernelError, match=r"net\.ipv4\.ip_forward"):
        store.run("true", sysctls={"net.ipv4.ip_forward": "nonsense"})


def test_ports_below_1024_and_ping_need_no_capability(store: Store) -> None:
    out = store.sh("cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range")
    assert out.split() == ["0", "0", "2147483647"]


def test_shared_memory(store: Store) -> None:
    script = "grep ' /dev/shm ' /proc/self/mountinfo; stat -c %a /dev/shm"
    assert "size=65536k" in store.sh(script)
    out = store.sh(script, shm_size=1 << 20)
    assert "size=1024k" in out
    assert out.endswith("1777\n")


def test_timeout(store: Store) -> None:
    identity, attachment = store.attached("sleep", "100", timeout=1)
    found = collect(attachment)
    attachment.close()
    assert found.code == 137
    record = store.view(identity).status.record
    assert record is not None
    assert (record.reason, record.code, record.signal) == ("timeout", 137, 9)


def test_what_a_run_used_is_told(store: Store) -> None:
    result = store.run("sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
    assert result.cpu_usec is None or result.cpu_usec > 10_000
    assert result.started is not None
    assert result.finished is not None
    assert 0 < result.finished - result.started < 60e9
    assert result.memory_peak is None or result.memory_peak > 4096  # null, never 0


# ------------------------------------------------------------------------------------------- mounts


def test_a_bind(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert store.sh("cat /m/file; echo new > /m/new", mounts=(bind(tmp_path, "/m"),)) == "text"
    assert (tmp_path / "new").read_text() == "new\n"


def test_a_bind_of_a_file_onto_a_new_path(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_text("text")
    mounts = (bind(source, "/new/folder/file"),)
    assert store.sh("cat /new/folder/file", mounts=mounts) == "text"


def test_a_read_only_bind(store: Store, tmp_path: Path) -> None:
    result = store.run("touch", "/m/x", mounts=(bind(tmp_path, "/m", "ro"),))
    assert result.exit_code == 1
    assert b"Read-only file system" in result.stderr


@pytest.mark.parametrize("option", ["nosuid", "nodev", "noexec", "noatime", "nodiratime"])
def test_options_of_a_bind(store: Store, tmp_path: Path, option: str) -> None:
    mounts = (bind(tmp_path, "/m", option),)
    assert option in options_at(store.sh("cat /proc/self/mountinfo", mounts=mounts), "/m")


def test_noexec_holds(store: Store, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho ran")
    program.chmod(0o755)
    assert store.sh("/m/program", mounts=(bind(tmp_path, "/m"),)) == "ran\n"
    assert store.code("/m/program", mounts=(bind(tmp_path, "/m", "noexec"),)) == 126


def test_one_source_at_two_places(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    mounts = (bind(tmp_path, "/one"), bind(tmp_path, "/two", "ro"))
    result = store.run("sh", "-c", "cat /*/file; touch /one/x; touch /two/y", mounts=mounts)
    assert result.stdout == b"texttext"
    assert result.stderr.count(b"Read-only file system") == 1


@pytest.mark.in_vm
def test_more_mounts_than_a_process_may_have_files(store: Store) -> None:
    mounts = tuple(Mount(type="tmpfs", target=f"/m/{n}") for n in range(300))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        assert store.sh("grep -c ' /m/' /proc/self/mountinfo", mounts=mounts) == "300\n"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_missing_source(store: Store, tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "deep"
    with pytest.raises(PycontainError, match="missing"):
        store.run("true", mounts=(bind(missing, "/m"),))
    made = Mount(type="bind", source=str(missing), target="/m", make_source=True)
    assert store.code("touch /m/x", mounts=(made,)) == 0
    assert (missing / "x").exists()


def test_a_folder_onto_a_file_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"/etc/passwd.*not a directory"):
        store.run("true", mounts=(bind(tmp_path, "/etc/passwd"),))


def test_a_target_through_a_link_stays_inside(store: Store, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "out").symlink_to("/../../../../escaped")
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("text")
    mounts = (bind(inner, "/m"), bind(source, "/m/out/deep"))
    assert store.sh("cat /escaped/deep/file", mounts=mounts) == "text"
    assert not os.path.lexists("/escaped")


def test_a_tmpfs_with_a_bind_in_it(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    mounts = (
        bind(tmp_path, "/run/x/inner"),
        Mount(type="tmpfs", target="/run/x", options=("size=1m", "mode=0700")),
    )
    out = store.sh("cat /run/x/inner/file; stat -c %a /run/x; cat /proc/mounts", mounts=mounts)
    assert out.startswith("text700\n")
    assert re.search(r"tmpfs /run/x tmpfs \S*nosuid,nodev,noexec\S*size=1024k", out)


def test_a_tmpfs_may_be_executable(store: Store) -> None:
    mounts = (Mount(type="tmpfs", target="/t", options=("exec",)),)
    assert store.code("cp /bin/busybox /t/true && /t/true", mounts=mounts) == 0


def test_a_tmpfs_is_as_large_as_asked(store: Store) -> None:
    mounts = (Mount(type="tmpfs", target="/t", options=("size=64k",)),)
    assert store.code("head -c 60000 /dev/zero > /t/f", mounts=mounts) == 0
    assert store.code("head -c 70000 /dev/zero > /t/f", mounts=mounts) == 1


@pytest.fixture
def submount(tmp_path: Path) -> Any:
    """A folder that is a mount of its own with another mount below it, on the host."""
    top = tmp_path / "top"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", top], check=True)
    subprocess.run(["mount", "--make-shared", top], check=True)
    (top / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", top / "below"], check=True)
    (top / "below" / "file").write_text("text")
    yield top
    subprocess.run(["umount", "-R", top], check=True)


def test_what_is_mounted_below_comes_along(store: Store, submount: Path) -> None:
    assert store.sh("cat /m/below/file", mounts=(bind(submount, "/m"),)) == "text"
    alone = (bind(submount, "/m", "bind"),)
    assert store.code("test -e /m/below/file", mounts=alone) == 1


def test_read_only_reaches_below_where_asked(store: Store, submount: Path) -> None:
    script = "touch /m/x || echo top; touch /m/below/x || echo below"
    result = store.run("sh", "-c", script, mounts=(bind(submount, "/m", "rro"),))
    assert result.stdout == b"top\nbelow\n"


@pytest.mark.parametrize(
    ("option", "seen"), [("rprivate", False), ("rslave", True), ("rshared", True)]
)
def test_propagation_into_the_container(
    store: Store, submount: Path, option: str, seen: bool
) -> None:
    (submount / "late").mkdir()
    identity = store.detach(mounts=(bind(submount, "/m", option),))
    subprocess.run(["mount", "-t", "tmpfs", "late", submount / "late"], check=True)
    found = store.exec(identity, "grep", "-c", " /m/late ", "/proc/self/mountinfo")
    subprocess.run(["umount", submount / "late"], check=True)
    store.containers.remove(identity, force=True)
    assert (found.stdout == b"1\n") is seen


@pytest.mark.parametrize(("option", "seen"), [("rslave", False), ("rshared", True)])
def test_propagation_out_of_the_container(
    store: Store, submount: Path, option: str, seen: bool
) -> None:
    (submount / "inner").mkdir()
    identity = store.detach(
        mounts=(bind(submount, "/m", option),), cap_add=("SYS_ADMIN",)
    )  # fmt: skip
    assert store.exec(identity, "mount", "-t", "tmpfs", "inner", "/m/inner").code == 0
    with open("/proc/self/mountinfo") as file:
        assert (f" {submount}/inner " in file.read()) is seen
    store.containers.remove(identity, force=True)
    if seen:
        subprocess.run(["umount", submount / "inner"], check=True)


def test_a_read_only_root(store: Store) -> None:
    mounts = (Mount(type="tmpfs", target="/tmp"),)
    result = store.run("sh", "-c", "touch /x; touch /etc/y; touch /tmp/z && echo ok",
                       read_only=True, mounts=mounts)  # fmt: skip
    assert result.stdout == b"ok\n"
    assert result.stderr.count(b"Read-only file system") == 2
    assert store.code("echo x >> /etc/hosts", read_only=True) != 0
    assert store.code("touch /dev/shm/x && mkdir /a/b", read_only=True, workdir="/a") != 0


@pytest.mark.in_vm
def test_a_volume_starts_with_what_the_image_has(store: Store) -> None:
    mounts = (Mount(type="volume", target="/etc"),)
    out = store.sh("stat -c '%n %a' /etc /etc/shadow; head -1 /etc/passwd", mounts=mounts)
    assert out == "/etc 755\n/etc/shadow 640\nroot:x:0:0:root:/root:/bin/sh\n"


# ----------------------------------------------------------------------- namespaces and their joins


KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "uts")


def test_every_namespace_is_its_own(store: Store) -> None:
    links = store.sh("for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done")
    ours = [os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS]
    assert len(links.split()) == len(KINDS)
    assert not set(links.split()) & set(ours)


@pytest.mark.parametrize(
    ("option", "kind"),
    [("network", "net"), ("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("cgroupns", "cgroup")],
)
def test_the_hosts_namespace(store: Store, option: str, kind: str) -> None:
    link = store.sh(f"readlink /proc/self/ns/{kind}", **{option: "host"})
    assert link.strip() == os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.parametrize(("option", "kind"), [("network", "net"), ("pid", "pid")])
def test_another_containers_namespace(store: Store, option: str, kind: str) -> None:
    other = store.detach()
    link = store.sh(f"readlink /proc/self/ns/{kind}", **{option: f"container:{other}"})
    assert link.strip() == os.readlink(f"/proc/{store.run_record(other).pid}/ns/{kind}")
    store.containers.remove(other, force=True)
    mode: dict[str, Any] = {option: f"container:{other}"}
    with pytest.raises(PycontainError, match="No such container"):
        store.run("true", **mode)


def test_a_stopped_container_cannot_be_joined(store: Store) -> None:
    other = store.create("true").id
    with pytest.raises(PycontainError, match="not running"):
        store.run("true", network=f"container:{other}")


def test_the_network_of_none(store: Store) -> None:
    assert store.sh("ls /sys/class/net").split() == ["lo"]
    assert "state DOWN" not in store.sh("ip link show lo")
    assert store.sh("ip -4 addr show lo | grep -c 127.0.0.1") == "1\n"


def test_the_host_sees_nothing_of_its_mounts(store: Store) -> None:
    before = leaks.mount_table(os.path.dirname(store.root))
    identity = store.detach()
    assert leaks.mount_table(os.path.dirname(store.root)) == before
    store.containers.remove(identity, force=True)


def test_its_cgroup_is_its_root(store: Store) -> None:
    assert "0::/\n" in store.sh("cat /proc/self/cgroup")
    assert store.code("mkdir /sys/fs/cgroup/x") != 0


def test_devices(store: Store) -> None:
    device = (Device(source="/dev/null", target="/dev/mine", access="r"),)
    out = store.sh("stat -c '%F %t:%T' /dev/mine; cat /dev/mine", devices=device)
    assert out == "character special file 1:3\n"


def test_a_device_is_open_for_what_was_granted(store: Store) -> None:
    assert stat.S_ISCHR(os.stat("/dev/kmsg").st_mode)

    def device(access: str) -> tuple[Device, ...]:
        return (Device(source="/dev/kmsg", target="/dev/log", access=access),)

    def opens(mode: str, access: str) -> bool:
        devices = device(access)
        return store.code(f": {mode} /dev/log", devices=devices, cap_add=("SYSLOG",)) == 0

    assert opens("<", "r")
    assert not opens(">>", "r")
    assert opens(">>", "w")
    assert not opens("<", "w")


def test_a_device_that_there_is_not(store: Store) -> None:
    with pytest.raises(PycontainError, match="/dev/nonsense"):
        store.run("true", devices=(Device(source="/dev/nonsense", target="/dev/x"),))


# ------------------------------------------------------------------------------- the command line


def test_the_command_line_is_the_same_engine(store: Store, pycontain: CommandLine) -> None:
    script = "cat; echo err >&2; exit 3"
    done = pycontain("run", "--rm", "-i", "busybox", "sh", "-c", script, input=b"in")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"in", b"err\n")
    made = pycontain("run", "-d", "--name", "box", "busybox", "sleep", "100")
    assert store.containers.find("box") == made.stdout.decode().strip()
    assert pycontain("rm", "-f", "box").returncode == 0


def test_the_command_line_on_a_terminal(pycontain: CommandLine) -> None:
    script = "tty; test -t 2 && read line; echo got $line; exit 4"
    done = pycontain("run", "--rm", "-it", "busybox", "sh", "-c", script, input=b"x\n", tty=True)
    assert done.returncode == 4
    assert b"/dev/pts/0\r\n" in done.stdout
    assert done.stdout.endswith(b"got x\r\n")
