"""config-linux.md: namespaces, id mappings, time offsets, names, sysctl, personality."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from .bundle import differs, field, idmap, mount, namespace, older, spec
from .test_mounts import with_user_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .bundle import Bundle

pytestmark = [pytest.mark.host, pytest.mark.slow]

FILES = {
    "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "user": "user",
    "cgroup": "cgroup", "time": "time",
}  # fmt: skip
COMMON = ["pid", "network", "ipc", "uts", "mount"]


@pytest.fixture
def holder() -> Iterator[int]:
    """A process on the host in namespaces of its own, to be joined."""
    argv = ["unshare", "--net", "--ipc", "--uts", "--cgroup", "sleep", "1000"]
    with subprocess.Popen(argv) as process:
        own = namespace("self", "cgroup")
        while namespace(process.pid, "cgroup") == own:  # the last of them to be made
            time.sleep(0.002)
        yield process.pid
        process.kill()


# -------------------------------------------------------------------------------------- new, joined


@spec("config-linux.md#configLinuxNamespaces: a namespace without a path is new")
@pytest.mark.parametrize("kind", [*COMMON, "cgroup"])
def test_new_namespaces(bundle: Bundle, kind: str) -> None:
    if kind == "cgroup":
        bundle.add_namespace("cgroup")
    bundle.create()
    assert namespace(bundle.pid, FILES[kind]) != namespace("self", FILES[kind])


@spec("config-linux.md#configLinuxNamespaces: a namespace that is not named is the runtime's")
@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "user", "cgroup", "time"])
def test_namespaces_that_are_not_named(bundle: Bundle, kind: str) -> None:
    bundle.namespaces(*(each for each in COMMON if each != kind))
    if kind == "uts":
        del bundle.config["hostname"]
    bundle.create()
    assert namespace(bundle.pid, FILES[kind]) == namespace("self", FILES[kind])


@spec("config-linux.md#configLinuxNamespaces: a namespace with a path is joined")
@pytest.mark.parametrize("kind", ["network", "ipc", "uts"])
def test_a_namespace_is_joined_by_path(bundle: Bundle, holder: int, kind: str) -> None:
    path = f"/proc/{holder}/ns/{FILES[kind]}"
    bundle.namespaces(*(each for each in COMMON if each != kind), **{kind: path})
    if kind == "uts":
        bundle.config["hostname"] = "shared"
    bundle.create()
    assert namespace(bundle.pid, FILES[kind]) == namespace(holder, FILES[kind])
    for other in set(COMMON) - {kind}:
        assert namespace(bundle.pid, FILES[other]) != namespace("self", FILES[other])


@spec("config-linux.md#configLinuxNamespaces: a namespace with a path is joined")
def test_a_cgroup_namespace_is_joined_by_path(bundle: Bundle, holder: int) -> None:
    bundle.add_namespace("cgroup", path=f"/proc/{holder}/ns/cgroup")
    done = bundle.create(ok=False)
    if done.returncode == 0:
        assert namespace(bundle.pid, "cgroup") == namespace(holder, "cgroup")


@spec("config-linux.md#configLinuxNamespaces: a namespace with a path is joined")
def test_a_pid_namespace_is_joined_by_path(bundle: Bundle) -> None:
    first = bundle.up()
    other = bundle.another()
    other.namespaces("network", "ipc", "uts", "mount", pid=f"/proc/{first}/ns/pid")
    other.process["args"] = ["sh", "-c", "echo $$; ps -o comm | grep -c sleep"]
    assert other.run(ok=True).stdout.split()[1] == "1"


def test_namespaces_of_another_container_as_in_a_pod(bundle: Bundle) -> None:
    first = bundle.up()
    other = bundle.another()
    paths = {kind: f"/proc/{first}/ns/{FILES[kind]}" for kind in ("network", "ipc", "uts")}
    other.namespaces("pid", "mount", **paths)
    del other.config["hostname"]
    assert other.out("hostname") == "box\n"
    assert bundle.status == "running"


def test_a_bound_namespace_file_is_joined(bundle: Bundle) -> None:
    place = bundle.make("netns", "")
    subprocess.run(["unshare", f"--net={place}", "ip", "link", "set", "lo", "up"], check=True)
    try:
        bundle.namespaces("pid", "ipc", "uts", "mount", network=place)
        assert "UP" in bundle.out("ip", "link", "show", "lo")
        bundle.create()
        with open(place) as file:
            inode = os.fstat(file.fileno()).st_ino
        assert namespace(bundle.pid, "net") == f"net:[{inode}]"
        bundle.delete("--force")
        assert os.path.ismount(place)
    finally:
        subprocess.run(["umount", place], check=True)


@spec("config-linux.md#configLinuxNamespaces: a path to another kind of namespace is an error")
@pytest.mark.parametrize("target", ["ns/uts", "ns/pid", "status", "../nothing"])
def test_a_path_to_another_kind(bundle: Bundle, holder: int, target: str) -> None:
    path = f"/proc/{holder}/{target}"
    bundle.namespaces("pid", "ipc", "uts", "mount", network=path)
    bundle.refused()


@spec("config-linux.md#configLinuxNamespaces: a namespace's path is absolute")
@differs("a relative one is taken from the working folder", "runc", "crun")
def test_a_relative_path(bundle: Bundle, holder: int) -> None:
    bundle.write()
    path = os.path.relpath(f"/proc/{holder}/ns/net", bundle.folder)
    bundle.namespaces("pid", "ipc", "uts", "mount", network=path)
    bundle.refused("create", cwd=bundle.folder)


@spec("config-linux.md#configLinuxNamespaces: a namespace named twice is an error")
@pytest.mark.parametrize("second", [{}, {"path": "/proc/self/ns/net"}])
def test_a_namespace_named_twice(bundle: Bundle, second: dict[str, str]) -> None:
    bundle.add_namespace("network", **second)
    bundle.refused()


@pytest.mark.parametrize("kind", ["", "net", "PID", "nothing", 5, None])
def test_a_kind_that_cannot_be(bundle: Bundle, kind: Any) -> None:
    bundle.add_namespace(kind)
    bundle.refused()


def test_a_pid_namespace_makes_init_number_one(bundle: Bundle) -> None:
    assert bundle.sh("echo $$") == "1\n"
    bundle.up()
    assert field(bundle.pid, "NSpid").split()[1:] == ["1"]


def test_loopback_is_up_in_a_new_network_namespace(bundle: Bundle) -> None:
    text = bundle.out("ip", "addr")
    assert "127.0.0.1/8" in text
    assert "UP" in text.split("lo:")[1].splitlines()[0]
    assert text.count("mtu") == 1


@differs("it changes the root with chroot(2)", "runc", "crun")
def test_without_a_mount_namespace(bundle: Bundle) -> None:
    """The root could not be changed without changing the caller's: that is refused."""
    bundle.private_mounts()
    bundle.namespaces("pid", "network", "ipc", "uts")
    bundle.refused("run")


# ------------------------------------------------------------------------------------ user mappings


def test_a_user_namespace(bundle: Bundle) -> None:
    with_user_namespace(bundle)
    script = "id -u; cat /proc/self/uid_map | tr -s ' '; touch /made; stat -c %u /made"
    assert bundle.sh(script) == "0\n 0 100000 65536\n0\n"
    assert os.stat(f"{bundle.rootfs}/made").st_uid == 100000


def test_several_mappings(bundle: Bundle) -> None:
    with_user_namespace(bundle)
    maps = [idmap(0, 100000, 1000), idmap(1000, 300000, 10), idmap(65534, 200000, 1)]
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = maps
    bundle.process["user"] = {"uid": 1005, "gid": 1009, "additionalGids": [5]}
    pid = bundle.up()
    assert field(pid, "Uid").split()[0] == "300005"
    assert field(pid, "Gid").split()[0] == "300009"
    assert field(pid, "Groups").split() == ["100005"]


def test_capabilities_in_a_user_namespace_are_its_own(bundle: Bundle) -> None:
    with_user_namespace(bundle)
    script = "hostname other && hostname 2>&1; mknod /x c 1 3 2>&1 | grep -c permitted"
    assert bundle.sh(script) in ("other\n1\n", "1\n")


@pytest.mark.in_vm
def test_a_user_namespace_with_all_mounts(bundle: Bundle) -> None:
    with_user_namespace(bundle)
    script = "echo x >/dev/null && test -c /dev/pts/ptmx && test -d /sys/kernel && echo ok"
    assert bundle.sh(script) == "ok\n"


@older("it wants mappings beside the path", runc="1.2")
def test_a_user_namespace_is_joined_by_path(bundle: Bundle) -> None:
    with_user_namespace(bundle)
    first = bundle.up()
    other = bundle.another()
    subprocess.run(["chown", "-R", "100000:100000", other.rootfs], check=True)
    kinds = ("pid", "network", "ipc", "uts", "mount")
    other.namespaces(*kinds, user=f"/proc/{first}/ns/user")
    with open(f"/proc/{first}/uid_map") as file:
        assert other.out("cat", "/proc/self/uid_map").split() == file.read().split()
    other.create()
    assert namespace(other.pid, "user") == namespace(first, "user")


@pytest.mark.parametrize(
    "maps",
    [
        [idmap(0, 100000, 0)],
        [idmap(-1, 100000, 1)],
        [idmap(0, 100000, 2**32)],
        [idmap(0, 100000, 10), idmap(5, 200000, 10)],
        [idmap(0, "100000", 10)],  # type: ignore[arg-type]
    ],
)
def test_mappings_that_cannot_be(bundle: Bundle, maps: list[dict[str, int]]) -> None:
    with_user_namespace(bundle)
    bundle.linux["uidMappings"] = maps
    bundle.refused()


def test_a_new_user_namespace_without_mappings(bundle: Bundle) -> None:
    bundle.add_namespace("user")
    bundle.refused()


@differs("they are ignored", "runc", "crun")
def test_mappings_without_a_user_namespace(bundle: Bundle) -> None:
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = [idmap(0, 100000, 10)]
    bundle.refused()


def test_a_user_outside_the_mapping(bundle: Bundle) -> None:
    with_user_namespace(bundle)
    bundle.process["user"] = {"uid": 70000, "gid": 0}
    bundle.refused("run")


# --------------------------------------------------------------------------------------------- time

knows_time = older("it knows no time namespaces", runc="1.2", crun="1.8.2")


def clock(bundle: Bundle) -> int:
    return int(float(bundle.out("cat", "/proc/uptime").split()[0]))


@knows_time
@spec("config-linux.md#configLinuxNamespaces: a namespace without a path is new")
def test_time_offsets(bundle: Bundle) -> None:
    bundle.add_namespace("time")
    bundle.linux["timeOffsets"] = {
        "boottime": {"secs": 1000000, "nanosecs": 5}, "monotonic": {"secs": 86400},
    }  # fmt: skip
    assert abs(clock(bundle) - time.clock_gettime(time.CLOCK_BOOTTIME) - 1000000) < 10
    bundle.up()
    with open(f"/proc/{bundle.pid}/timens_offsets") as file:
        rows = {line.split()[0]: line.split()[1:] for line in file}
    assert rows["boottime"] == ["1000000", "5"]
    assert rows["monotonic"] == ["86400", "0"]
    assert namespace(bundle.pid, "time") != namespace("self", "time")


@pytest.mark.in_vm
@knows_time
def test_an_exec_has_the_same_time(bundle: Bundle) -> None:
    bundle.add_namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1000000}}
    bundle.up()
    said = float(bundle.exec("cat", "/proc/uptime").stdout.split()[0])
    assert abs(said - time.clock_gettime(time.CLOCK_BOOTTIME) - 1000000) < 10


@knows_time
@pytest.mark.parametrize(
    "offsets",
    [
        {"realtime": {"secs": 1}},
        {"boottime": {"secs": 2**63}},
        {"boottime": {"secs": "1"}},
        {"boottime": {"nanosecs": 2**32}},
        {"boottime": 5},
        {"boottime": {"secs": -(10**9)}},
    ],
)
def test_time_offsets_that_cannot_be(bundle: Bundle, offsets: dict[str, Any]) -> None:
    bundle.add_namespace("time")
    bundle.linux["timeOffsets"] = offsets
    bundle.refused()


@knows_time
def test_time_offsets_without_a_time_namespace(bundle: Bundle) -> None:
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1}}
    bundle.refused()


# ----------------------------------------------------------------------------------- names, sysctls


def test_hostname(bundle: Bundle) -> None:
    bundle.config["hostname"] = "some-Name.example"
    assert bundle.out("hostname") == "some-Name.example\n"


def test_without_a_hostname(bundle: Bundle) -> None:
    del bundle.config["hostname"]
    assert bundle.out("hostname").strip() == os.uname().nodename


@older("it knows no domainname", runc="1.2", crun="1.8")
def test_domainname(bundle: Bundle) -> None:
    bundle.config["domainname"] = "example.test"
    assert bundle.out("cat", "/proc/sys/kernel/domainname") == "example.test\n"


@pytest.mark.parametrize("key", ["hostname", "domainname"])
def test_a_name_in_the_hosts_namespace_is_refused(bundle: Bundle, key: str) -> None:
    if key == "domainname":
        bundle.config.pop("hostname")
        bundle.config["domainname"] = "never.test"
    bundle.namespaces("pid", "network", "ipc", "mount")
    done = bundle.create(ok=False)
    with open("/proc/sys/kernel/domainname") as file:
        assert file.read() != "never.test\n"
    assert os.uname().nodename != "box"
    if key == "hostname":
        assert done.returncode != 0


def test_sysctls(bundle: Bundle) -> None:
    given = {
        "net.ipv4.ip_forward": "1", "net.ipv4.ping_group_range": "0 5",
        "kernel.shmmax": "65536", "fs.mqueue.msg_max": "20", "kernel.msgmni": "77",
    }  # fmt: skip
    bundle.linux["sysctl"] = given
    names = " ".join("/proc/sys/" + name.replace(".", "/") for name in given)
    said = bundle.sh(f"cat {names}").splitlines()
    assert [" ".join(line.split()) for line in said] == list(given.values())


def test_sysctl_names_with_slashes(bundle: Bundle) -> None:
    """sysctl(8): the separator is the first of the two that comes; interfaces may hold dots."""
    bundle.linux["sysctl"] = {"net/ipv4/conf/lo/forwarding": "1"}
    assert bundle.out("cat", "/proc/sys/net/ipv4/conf/lo/forwarding") == "1\n"


@spec("config.md#valid-values: invalid and unsupported values are an error")
@pytest.mark.parametrize(
    "name", ["kernel.domainname", "kernel.panic", "vm.swappiness", "fs.file-max", "nonsense", ""]
)
def test_sysctls_of_the_whole_host_are_refused(bundle: Bundle, name: str) -> None:
    path = f"/proc/sys/{name.replace('.', '/')}"
    if name == "kernel.domainname":
        bundle.namespaces("pid", "network", "ipc", "mount")
        del bundle.config["hostname"]
    before = _read(path)
    bundle.linux["sysctl"] = {name: "1234567"}
    bundle.refused()
    assert _read(path) == before


@pytest.mark.parametrize(
    ("name", "kind"), [("net.ipv4.ip_forward", "network"), ("kernel.shmmax", "ipc")]
)
def test_sysctls_of_a_namespace_that_is_the_hosts(bundle: Bundle, name: str, kind: str) -> None:
    """They would change the host; the value asked for is the one it has, should that happen."""
    path = f"/proc/sys/{name.replace('.', '/')}"
    bundle.namespaces(*(each for each in COMMON if each != kind))
    bundle.linux["sysctl"] = {name: _read(path).strip()}
    bundle.refused()


def _read(path: str) -> str:
    if not os.path.isfile(path):
        return ""
    with open(path) as file:
        return file.read()


def test_a_sysctl_value_that_the_kernel_refuses(bundle: Bundle) -> None:
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "many"}
    assert "ip_forward" in bundle.refused()


def test_sysctls_with_read_only_proc(bundle: Bundle) -> None:
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    assert bundle.out("cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"


# -------------------------------------------------------------------------------------- personality

knows_personality = older("it knows no personality", runc="1.2", crun="0.1")


@knows_personality
@pytest.mark.parametrize(("domain", "machine"), [("LINUX", None), ("LINUX32", "i686")])
def test_personality(bundle: Bundle, domain: str, machine: str | None) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("what LINUX32 shows depends on the machine")
    bundle.linux["personality"] = {"domain": domain}
    assert bundle.out("uname", "-m").strip() == (machine or os.uname().machine)


@knows_personality
@differs("it ignores flags", "runc", "crun")
@pytest.mark.parametrize(
    "given", [{"domain": "BSD"}, {}, {"domain": "LINUX", "flags": ["NOTHING"]}, {"domain": 5}]
)
def test_a_personality_that_cannot_be(bundle: Bundle, given: dict[str, Any]) -> None:
    bundle.linux["personality"] = given
    bundle.refused()


def test_shm_size_and_queues_are_the_containers(bundle: Bundle) -> None:
    bundle.mounts.append(mount("tmpfs", "/dev/shm", "shm", "size=3m"))
    assert "size=3072k" in bundle.sh("grep ' /dev/shm ' /proc/self/mountinfo | tail -1")
