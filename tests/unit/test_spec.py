"""Options and image configuration to an OCI configuration, compared with docker's."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pycontain.errors import InvalidInput, NotFound, NotPermitted, NotSupported
from pycontain.kernel import capability
from pycontain.kernel.devices import ALLOW_ALL, DEFAULT_RULES
from pycontain.model import oci
from pycontain.model.container import (
    Device,
    DeviceRule,
    ImageConfig,
    Mount,
    RunOptions,
    Ulimit,
)
from pycontain.runtime import masks, spec
from pycontain.runtime.accounts import Account

ROOT = Account(0, 0, (0,), "/root", "root")
BOB = Account(1000, 1000, (1000, 29), "/home/bob", "bob")
EVERY = (1 << len(capability.NAMES)) - 1
FILES = spec.BoundFiles("/s/hosts", "/s/hostname", "/s/resolv.conf", "/s/init")
PATH = f"PATH={spec.DEFAULT_PATH}"
SAFE = ["nosuid", "noexec", "nodev"]
ID = "c" * 64


def options(**fields: Any) -> RunOptions:
    return RunOptions(image="x", **{"command": ("true",), **fields})


def build(
    asked: RunOptions | None = None,
    config: ImageConfig | None = None,
    account: Account = ROOT,
    joined: dict[str, str] | None = None,
    **given: Any,
) -> oci.Spec:
    asked = asked or options()
    arguments: dict[str, Any] = {
        "container_id": ID,
        "hostname": "host1",
        "files": FILES,
        "namespaces": spec.namespaces(asked, joined or {}),
        "bounding": EVERY,
        **given,
    }
    return spec.build(asked, config or ImageConfig(), account, **arguments)


def mount_of(result: oci.Spec, target: str) -> oci.Mount | None:
    found = [mount for mount in result["mounts"] if mount["destination"] == target]
    assert len(found) < 2
    return found[0] if found else None


def options_of(result: oci.Spec, target: str) -> list[str]:
    mount = mount_of(result, target)
    assert mount is not None
    return mount["options"]


# --------------------------------------------------------------------------------------- command

E, C = ["/entry", "e"], ["cmd", "c"]


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "flag", "words", "result"),
    [
        # the image's entrypoint, its command, --entrypoint, the user's command
        (None, C, None, (), ("cmd", "c")),
        (None, C, None, ("w",), ("w",)),
        (None, None, None, ("w", "x"), ("w", "x")),
        ([], [], None, ("w",), ("w",)),
        (E, None, None, (), ("/entry", "e")),
        (E, C, None, (), ("/entry", "e", "cmd", "c")),
        (E, C, None, ("w",), ("/entry", "e", "w")),
        (E, C, ("n",), (), ("n",)),
        (E, C, ("n",), ("w",), ("n", "w")),
        (E, C, ("n", "m"), ("w",), ("n", "m", "w")),
        (E, C, (), ("w",), ("w",)),
        (E, C, ("",), ("w",), ("w",)),
        ([""], C, None, (), ("cmd", "c")),
        (None, C, None, ("",), ("",)),
    ],
)
def test_command(
    entrypoint: list[str] | None,
    cmd: list[str] | None,
    flag: tuple[str, ...] | None,
    words: tuple[str, ...],
    result: tuple[str, ...],
) -> None:
    asked = options(entrypoint=flag, command=words)
    assert spec.command(asked, ImageConfig(entrypoint=entrypoint, cmd=cmd)) == result


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "flag"),
    [(None, None, None), ([], [], None), (E, C, ()), (E, C, ("",)), (None, C, ("",)),
     ([""], None, None)],
)  # fmt: skip
def test_no_command(
    entrypoint: list[str] | None, cmd: list[str] | None, flag: tuple[str, ...] | None
) -> None:
    with pytest.raises(InvalidInput, match=r"^no command specified$"):
        spec.command(
            options(entrypoint=flag, command=()), ImageConfig(entrypoint=entrypoint, cmd=cmd)
        )


# ----------------------------------------------------------------------------------- environment


@pytest.mark.parametrize(
    ("image", "user", "tty", "lines"),
    [
        (None, (), False, [PATH, "HOSTNAME=h", "HOME=/root"]),
        (None, (), True, [PATH, "HOSTNAME=h", "TERM=xterm", "HOME=/root"]),
        (["A=1"], ("B=2",), False, [PATH, "HOSTNAME=h", "B=2", "A=1", "HOME=/root"]),
        (["A=1"], ("A=2",), False, [PATH, "HOSTNAME=h", "A=2", "HOME=/root"]),
        (["PATH=/i"], (), False, ["PATH=/i", "HOSTNAME=h", "HOME=/root"]),
        (["PATH=/i"], ("PATH=/u",), False, ["PATH=/u", "HOSTNAME=h", "HOME=/root"]),
        (["HOSTNAME=i"], (), False, [PATH, "HOSTNAME=i", "HOME=/root"]),
        (["TERM=i"], (), True, [PATH, "HOSTNAME=h", "TERM=i", "HOME=/root"]),
        (["HOME=/i"], (), False, [PATH, "HOSTNAME=h", "HOME=/i"]),
        (None, ("HOME=", "X=1"), False, [PATH, "HOSTNAME=h", "X=1", "HOME=/root"]),
        (["A=1", "B=2"], ("A",), False, [PATH, "HOSTNAME=h", "B=2", "HOME=/root"]),
        (["PATH=/i"], ("PATH",), False, ["HOSTNAME=h", "HOME=/root"]),
        (None, ("A=1", "B=2", "A=3"), False, [PATH, "HOSTNAME=h", "A=3", "B=2", "HOME=/root"]),
        (["A="], (), False, [PATH, "HOSTNAME=h", "A=", "HOME=/root"]),
        (["A=b=c"], (), False, [PATH, "HOSTNAME=h", "A=b=c", "HOME=/root"]),
        (["BARE"], (), False, [PATH, "HOSTNAME=h", "HOME=/root"]),
    ],
)
def test_environment(
    image: list[str] | None, user: tuple[str, ...], tty: bool, lines: list[str]
) -> None:
    config = ImageConfig(env=image)
    assert spec.environment(options(env=user, tty=tty), config, ROOT, "h") == lines


def test_home_is_the_accounts() -> None:
    bob = spec.environment(options(), ImageConfig(), BOB, "h")
    assert bob[-1] == "HOME=/home/bob"
    none = spec.environment(options(), ImageConfig(), Account(5, 0, (0,), "/", ""), "h")
    assert none[-1] == "HOME=/"


# --------------------------------------------------------------------------------------- process


def test_the_process_of_root() -> None:
    result = build(options(command=("sh", "-c", "x")))
    granted = list(capability.DEFAULT)
    process = result["process"]
    assert set(process["capabilities"]["bounding"]) == set(granted)
    assert process["capabilities"]["effective"] == process["capabilities"]["bounding"]
    assert process["capabilities"]["permitted"] == process["capabilities"]["bounding"]
    assert process["capabilities"]["inheritable"] == []
    assert process["capabilities"]["ambient"] == []
    assert process["args"] == ["sh", "-c", "x"]
    assert process["cwd"] == "/"
    assert process["user"] == {"uid": 0, "gid": 0, "umask": 0o22, "additionalGids": [0]}
    assert process["terminal"] is False
    assert process["noNewPrivileges"] is False
    assert "rlimits" not in process
    assert process["oomScoreAdj"] == 0
    assert "consoleSize" not in process


def test_the_process_of_a_user_starts_without_capabilities() -> None:
    process = build(options(umask=0o077, cap_add=("SYS_ADMIN",)), account=BOB)["process"]
    assert process["user"] == {
        "uid": 1000,
        "gid": 1000,
        "umask": 0o77,
        "additionalGids": [1000, 29],
    }
    assert "CAP_SYS_ADMIN" in process["capabilities"]["bounding"]
    for name in ("effective", "permitted", "inheritable", "ambient"):
        assert process["capabilities"][name] == []


def test_capabilities() -> None:
    assert build(options(cap_drop=("ALL",)))["process"]["capabilities"]["bounding"] == []
    few = build(options(cap_drop=("all",), cap_add=("chown",)))["process"]["capabilities"]
    assert few["bounding"] == few["effective"] == ["CAP_CHOWN"]
    with pytest.raises(NotPermitted):
        build(options(cap_add=("SYS_RESOURCE",)), bounding=0)
    with pytest.raises(InvalidInput):
        build(options(cap_add=("foo",)))


def test_without_device_rules_nobody_makes_devices() -> None:
    result = build(device_rules=False)
    assert "CAP_MKNOD" not in result["process"]["capabilities"]["bounding"]
    assert "resources" not in result["linux"]
    with pytest.raises(NotSupported, match="CAP_MKNOD"):
        build(options(cap_add=("mknod",)), device_rules=False)
    every = build(options(cap_add=("ALL",)), device_rules=False)["process"]["capabilities"]
    assert "CAP_MKNOD" not in every["bounding"]
    assert "CAP_SYS_ADMIN" in every["bounding"]


@pytest.mark.parametrize(
    ("workdir", "image", "cwd"),
    [(None, "", "/"), (None, "/i", "/i"), ("/u", "/i", "/u"), ("/foo/../bar//x/", "", "/bar/x")],
)
def test_workdir(workdir: str | None, image: str, cwd: str) -> None:
    result = build(options(workdir=workdir), ImageConfig(working_dir=image))
    assert result["process"]["cwd"] == cwd


def test_a_relative_workdir_is_refused() -> None:
    for asked, config in ((options(workdir="rel"), None), (None, ImageConfig(working_dir="rel"))):
        with pytest.raises(InvalidInput, match="needs to be an absolute path"):
            build(asked, config)


def test_rlimits() -> None:
    limits = (
        Ulimit(name="nofile", soft=1, hard=2),
        Ulimit(name="core", soft=-1, hard=-1),
        Ulimit(name="nofile", soft=3, hard=-1),
    )
    assert build(options(ulimits=limits))["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 3, "hard": 2**64 - 1},
        {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
    ]


def test_a_terminal() -> None:
    process = build(options(tty=True), console_size=(24, 80))["process"]
    assert process["terminal"] is True
    assert process["consoleSize"] == {"height": 24, "width": 80}
    assert "TERM=xterm" in process["env"]


def test_init_goes_in_front() -> None:
    result = build(options(command=("a", "b")), init_path="/sbin/docker-init")
    assert result["process"]["args"] == ["/sbin/docker-init", "--", "a", "b"]
    assert mount_of(result, "/sbin/docker-init") == {
        "destination": "/sbin/docker-init",
        "type": "bind",
        "source": "/s/init",
        "options": ["bind", "rprivate", "ro"],
    }
    with pytest.raises(NotFound):
        build(init_path="/init", files=FILES._replace(init=""))


@pytest.mark.parametrize(
    ("asked", "config"),
    [
        ({"command": ("a\0b",)}, ImageConfig()),
        ({"workdir": "/a\0"}, ImageConfig()),
        ({}, ImageConfig(env=["A=\0"])),
    ],
)
def test_a_nul_byte_is_refused(asked: dict[str, Any], config: ImageConfig) -> None:
    with pytest.raises(InvalidInput, match="NUL"):
        build(options(**asked), config)


# -------------------------------------------------------------------------------- the document


def test_the_whole_is_json_with_the_specifications_names() -> None:
    result = build()
    assert set(result) == {"ociVersion", "root", "process", "mounts", "hostname", "linux"}
    assert set(result["linux"]) == {
        "namespaces", "cgroupsPath", "sysctl", "devices", "maskedPaths", "readonlyPaths",
        "resources", "seccomp",
    }  # fmt: skip
    assert result["linux"]["cgroupsPath"] == f"/pycontain/{ID}/container"
    assert result["hostname"] == "host1"
    assert result["root"] == {"path": "rootfs", "readonly": False}
    assert msgspec.json.decode(msgspec.json.encode(result), type=oci.Spec) == result
    assert json.loads(json.dumps(result)) == result


def test_two_builds_share_nothing() -> None:
    first = build()
    text = json.dumps(build())
    first["linux"]["maskedPaths"].clear()
    first["linux"]["resources"]["devices"].clear()
    first["mounts"][0]["options"].clear()
    assert json.dumps(build()) == text


@pytest.mark.parametrize(
    ("asked", "joined", "kinds"),
    [
        ({}, {}, ["mount", "network", "uts", "pid", "ipc", "cgroup"]),
        ({"network": "host"}, {}, ["mount", "uts", "pid", "ipc", "cgroup"]),
        (
            {"pid": "host", "uts": "host", "ipc": "host", "cgroupns": "host"},
            {},
            ["mount", "network"],
        ),
        ({"ipc": "none"}, {}, ["mount", "network", "uts", "pid", "ipc", "cgroup"]),
        (
            {"network": "container:a", "pid": "container:a"},
            {"network": "/n", "pid": "/p"},
            ["mount", "network=/n", "uts", "pid=/p", "ipc", "cgroup"],
        ),
    ],
)
def test_namespaces(asked: dict[str, str], joined: dict[str, str], kinds: list[str]) -> None:
    result = build(options(**asked), joined=joined)
    expected = []
    for word in kinds:
        kind, _, path = word.partition("=")
        expected.append({"type": kind, "path": path} if path else {"type": kind})
    assert result["linux"]["namespaces"] == expected
    assert ("hostname" in result) == ("uts" in kinds)


def test_a_namespace_to_join_must_be_given() -> None:
    with pytest.raises(NotFound, match="network namespace of container:a"):
        spec.namespaces(options(network="container:a"), {})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"uts": "host", "hostname": "x"}, "conflicting options: hostname and the UTS mode"),
        (
            {"network": "container:a", "hostname": "x"},
            "conflicting options: hostname and the network mode",
        ),
        (
            {"network": "container:a", "dns": ("1.2.3.4",)},
            "conflicting options: dns and the network mode",
        ),
        (
            {"network": "container:a", "add_host": ("a:1.2.3.4",)},
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
    ],
)
def test_conflicts(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        build(options(**asked), joined={"network": "/n"})
    assert caught.value.message == message


def test_the_hosts_network_takes_names_and_hosts() -> None:
    build(options(network="host", hostname="x", add_host=("a:1.2.3.4",), dns=("1.2.3.4",)))


# ---------------------------------------------------------------------------------------- mounts


def test_the_default_mounts() -> None:
    listed = [
        (mount["destination"], mount["type"], mount["source"], mount["options"])
        for mount in build()["mounts"]
    ]
    assert listed == [
        ("/proc", "proc", "proc", SAFE),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        (
            "/dev/pts", "devpts", "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        ("/sys", "sysfs", "sysfs", [*SAFE, "ro"]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", ["ro", *SAFE]),
        ("/dev/mqueue", "mqueue", "mqueue", SAFE),
        ("/dev/shm", "tmpfs", "shm", [*SAFE, "mode=1777", "size=67108864"]),
        ("/etc/resolv.conf", "bind", "/s/resolv.conf", ["bind", "rprivate"]),
        ("/etc/hostname", "bind", "/s/hostname", ["bind", "rprivate"]),
        ("/etc/hosts", "bind", "/s/hosts", ["bind", "rprivate"]),
    ]  # fmt: skip


def test_shared_memory_goes_with_the_ipc_namespace() -> None:
    assert options_of(build(options(shm_size=5)), "/dev/shm")[-1] == "size=5"
    assert options_of(build(options(shm_size=0)), "/dev/shm")[-1] == "size=67108864"
    assert mount_of(build(options(ipc="none")), "/dev/shm") is None
    host = mount_of(build(options(ipc="host")), "/dev/shm")
    assert host is not None
    assert (host["type"], host["source"]) == ("bind", "/dev/shm")
    other = build(
        options(ipc="container:a"), joined={"ipc": "/n"}, shm_source="/proc/5/root/dev/shm"
    )
    shared = mount_of(other, "/dev/shm")
    assert shared is not None
    assert shared["source"] == "/proc/5/root/dev/shm"
    assert spec.foreign_shm(other, "/proc/5/root/dev/shm")
    mine = (Mount(type="tmpfs", target="/dev/shm"),)
    own = build(
        options(ipc="container:a", mounts=mine), joined={"ipc": "/n"},
        shm_source="/proc/5/root/dev/shm",
    )  # fmt: skip
    assert not spec.foreign_shm(own, "/proc/5/root/dev/shm")
    shareable = build(options(ipc="shareable", shm_size=5))
    assert options_of(shareable, "/dev/shm")[-1] == "size=5"
    assert {"type": "ipc"} in shareable["linux"]["namespaces"]


def test_names_and_annotations() -> None:
    result = build(options(domainname="x.org", annotations={"a": "1"}))
    assert (result["domainname"], result["annotations"]) == ("x.org", {"a": "1"})
    assert not {"domainname", "annotations"} & set(build())
    with pytest.raises(InvalidInput, match="domainname and the UTS mode"):
        build(options(domainname="x.org", uts="host"))


def test_the_images_time_zone_gives_way() -> None:
    image = ImageConfig(cmd=["sh"], env=["TZ=Asia/Tokyo"])
    assert "TZ=Asia/Tokyo" in spec.environment(options(), image, ROOT, "h")
    asked = options(tz="Europe/Berlin")
    assert not [line for line in spec.environment(asked, image, ROOT, "h") if line[:3] == "TZ="]
    both = options(tz="Europe/Berlin", env=("TZ=UTC",))
    assert "TZ=UTC" in spec.environment(both, image, ROOT, "h")


def test_binds_volumes_and_tmpfs() -> None:
    mounts = (
        Mount(type="bind", source="/h", target="/a/b", options=("rro", "rslave")),
        Mount(type="bind", source="/h", target="/a"),
        Mount(type="bind", source="/h", target="/flat", options=("bind", "ro")),
        Mount(type="tmpfs", target="/t"),
        Mount(type="tmpfs", target="/u", options=("exec", "size=5m", "mode=1777", "exec")),
        Mount(type="volume", target="/v"),
    )
    result = build(options(mounts=mounts), volume_folders={"/v": "/s/v"})
    assert [mount["destination"] for mount in result["mounts"]][7:] == [
        "/a", "/flat", "/t", "/u", "/v", "/a/b", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts",
    ]  # fmt: skip
    assert options_of(result, "/a") == ["rbind", "rprivate"]
    assert options_of(result, "/a/b") == ["rbind", "rro", "rslave"]
    assert options_of(result, "/flat") == ["rprivate", "bind", "ro"]
    assert options_of(result, "/t") == ["noexec", "nosuid", "nodev", "rprivate"]
    assert options_of(result, "/u") == [
        "nosuid", "nodev", "rprivate", "size=5m", "mode=1777", "exec",
    ]  # fmt: skip
    assert mount_of(result, "/v") == {
        "destination": "/v", "type": "bind", "source": "/s/v", "options": ["rbind", "rprivate"],
    }  # fmt: skip
    assert result["linux"]["rootfsPropagation"] == "slave"


def test_shared_propagation_needs_a_shared_root() -> None:
    mounts = (
        Mount(type="bind", source="/h", target="/a", options=("rslave",)),
        Mount(type="bind", source="/h", target="/b", options=("rshared",)),
    )
    assert build(options(mounts=mounts))["linux"]["rootfsPropagation"] == "shared"


def test_parents_are_mounted_before_their_children() -> None:
    names = ["/a/b/c", "/a", "/z", "/a/b", "/z/y"]
    mounts = tuple(Mount(type="tmpfs", target=name) for name in names)
    order = [mount.target for mount in spec.user_mounts(options(mounts=mounts), ImageConfig())]
    assert order == ["/a", "/z", "/a/b", "/z/y", "/a/b/c"]


def test_volumes_of_the_image() -> None:
    config = ImageConfig(volumes={"/data/": {}, "/cache": {}})
    mounts = (Mount(type="bind", source="/h", target="/data"),)
    own = spec.user_mounts(options(mounts=mounts), config)
    assert {(mount.type, mount.target) for mount in own} == {
        ("volume", "/cache"),
        ("bind", "/data"),
    }
    result = build(options(mounts=mounts), config, volume_folders={"/cache": "/s/c"})
    cache = mount_of(result, "/cache")
    assert cache is not None
    assert cache["source"] == "/s/c"
    with pytest.raises(NotFound, match="volume for /cache: no folder given"):
        build(options(mounts=mounts), config)


@pytest.mark.parametrize("path", ["rel", "/", "/proc/x"])
def test_an_impossible_volume_of_the_image(path: str) -> None:
    with pytest.raises(InvalidInput):
        spec.user_mounts(options(), ImageConfig(volumes={path: {}}))


def test_a_users_mount_replaces_ours() -> None:
    hosts = Mount(type="bind", source="/mine", target="/etc/hosts")
    result = build(options(mounts=(hosts,)))
    assert mount_of(result, "/etc/hosts")["source"] == "/mine"  # type: ignore[index]
    dev = Mount(type="bind", source="/dev", target="/dev")
    result = build(options(mounts=(dev,)))
    below = [m["destination"] for m in result["mounts"] if m["destination"].startswith("/dev")]
    assert below == ["/dev"]
    shm = Mount(type="tmpfs", target="/dev/shm", options=("size=1m",))
    assert "size=1m" in options_of(build(options(mounts=(shm,))), "/dev/shm")


def test_read_only() -> None:
    tmpfs = Mount(type="tmpfs", target="/run")
    result = build(options(read_only=True, mounts=(tmpfs,)))
    assert result["root"]["readonly"] is True
    for target in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/sys", "/sys/fs/cgroup"):
        assert "ro" in options_of(result, target)
    for target in ("/run", "/dev", "/dev/shm", "/dev/mqueue", "/proc"):
        assert "ro" not in options_of(result, target)


@pytest.mark.parametrize(
    ("mode", "target"),
    [("network", "/sys"), ("pid", "/proc"), ("ipc", "/dev/mqueue"), ("cgroupns", "/sys/fs/cgroup")],
)
def test_rootless_borrows_what_shows_the_hosts_namespace(mode: str, target: str) -> None:
    own = mount_of(build(rootless=True), target)
    assert own is not None
    assert own["type"] != "bind"
    borrowed = mount_of(build(options(**{mode: "host"}), rootless=True), target)
    assert borrowed is not None
    assert (borrowed["type"], borrowed["source"]) == ("bind", target)
    assert borrowed["options"][0] == "rbind"
    assert "ro" not in borrowed["options"]
    assert ("rro" in borrowed["options"]) == target.startswith("/sys")
    rooted = mount_of(build(options(**{mode: "host"})), target)
    assert rooted == own


# -------------------------------------------------------------------------------------- defences


def test_the_default_defences() -> None:
    result = build()
    linux = result["linux"]
    assert linux["maskedPaths"] == list(masks.masked_paths())
    assert linux["readonlyPaths"] == list(masks.READONLY_PATHS)
    assert linux["resources"]["devices"] == list(DEFAULT_RULES)
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert linux["devices"] == []


def test_privileged_opens_everything() -> None:
    nodes: list[oci.Device] = [
        {"path": "/dev/vda", "type": "b", "major": 254, "minor": 0, "fileMode": 0o660},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666},
    ]
    result = build(options(privileged=True), host_devices={"/dev": nodes})
    linux = result["linux"]
    assert set(result["process"]["capabilities"]["bounding"]) == set(capability.NAMES)
    assert linux["maskedPaths"] == []
    assert linux["readonlyPaths"] == []
    assert "seccomp" not in linux
    assert linux["resources"]["devices"] == list(ALLOW_ALL)
    assert linux["devices"] == nodes
    assert "ro" not in options_of(result, "/sys")
    assert "ro" not in options_of(result, "/sys/fs/cgroup")


def test_privileged_keeps_what_is_asked_for_by_name() -> None:
    words = ("no-new-privileges", "mask=/proc/kcore")
    result = build(options(privileged=True, security_opt=words))
    assert result["process"]["noNewPrivileges"] is True
    assert result["linux"]["maskedPaths"] == ["/proc/kcore"]
    assert (
        "CAP_MKNOD"
        in build(options(privileged=True), device_rules=False)["process"]["capabilities"][
            "bounding"
        ]
    )


@pytest.mark.parametrize(
    ("word", "set_"),
    [
        ("no-new-privileges", True), ("no-new-privileges=true", True),
        ("no-new-privileges:true", True), ("no-new-privileges=1", True),
        ("no-new-privileges=false", False), ("no-new-privileges:false", False),
    ],
)  # fmt: skip
def test_no_new_privileges(word: str, set_: bool) -> None:
    assert build(options(security_opt=(word,)))["process"]["noNewPrivileges"] is set_


def test_seccomp(tmp_path: Path) -> None:
    for word in ("seccomp=unconfined", "seccomp:unconfined"):
        assert "seccomp" not in build(options(security_opt=(word,)))["linux"]
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_LOG", "syscalls": []}')
    for privileged in (False, True):
        asked = options(security_opt=(f"seccomp={profile}",), privileged=privileged)
        assert build(asked)["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_LOG"
    with pytest.raises(InvalidInput):
        build(options(security_opt=(f"seccomp={tmp_path}/none",)))


def test_the_seccomp_profile_follows_the_capabilities() -> None:
    def names(result: oci.Spec) -> set[str]:
        rules = result["linux"]["seccomp"]["syscalls"]
        return {
            name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]
        }

    assert "mount" not in names(build())
    assert "mount" in names(build(options(cap_add=("SYS_ADMIN",))))


def test_system_paths() -> None:
    open_ = spec.security(["systempaths=unconfined"])
    assert (open_.masked, open_.readonly) == ((), ())
    assert spec.security(["unmask=ALL"]) == open_
    more = spec.security(["mask=/etc/a:/etc/b/"])
    assert more.masked == (*masks.masked_paths(), "/etc/a", "/etc/b")
    less = spec.security(["unmask=/proc/kcore:/proc/sys"])
    assert "/proc/kcore" not in less.masked
    assert "/proc/sys" not in less.readonly
    assert "/proc/keys" in less.masked
    assert spec.security(["systempaths=unconfined", "mask=/x"]).masked == ("/x",)


def test_a_profile_of_apparmor() -> None:
    assert build(options(security_opt=("apparmor=mine",)))["process"]["apparmorProfile"] == "mine"
    for words in ((), ("apparmor=unconfined",), ("apparmor=mine", "apparmor=unconfined")):
        assert "apparmorProfile" not in build(options(security_opt=words))["process"]
    with pytest.raises(InvalidInput, match="newline"):
        spec.security(["apparmor=a\nb"])


def test_the_built_in_seccomp_profile_also_when_privileged() -> None:
    default = build()["linux"]["seccomp"]
    assert build(options(security_opt=("seccomp=builtin",)))["linux"]["seccomp"] == default
    asked = options(privileged=True, security_opt=("seccomp=builtin",))
    assert "seccomp" in build(asked)["linux"]


def test_what_confines_nothing_here_may_be_turned_off() -> None:
    assert spec.security(
        ["apparmor=unconfined", "label=disable", "label:disable"]
    ) == spec.security([])


@pytest.mark.parametrize("word", ["label=type:x_t", "label:level:s0"])
def test_a_confinement_that_there_is_not_is_refused(word: str) -> None:
    with pytest.raises(NotSupported):
        spec.security([word])


@pytest.mark.parametrize(
    "word",
    ["", "foo", "foo=bar", "no-new-privileges=x", "no-new-privileges=", "seccomp", "seccomp=",
     "systempaths=foo", "mask=", "mask=x", "mask=/", "unmask=x", "unmask=/not/masked", "apparmor",
     "label=", "writable-cgroups=true", "mask=/a:"],
)  # fmt: skip
def test_security_options_refused(word: str) -> None:
    with pytest.raises(InvalidInput, match="invalid --security-opt"):
        spec.security([word])


# ------------------------------------------------------------------------------- devices, sysctls

NULL: oci.Device = {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}


def test_a_device() -> None:
    device = Device(source="/dev/null", target="/dev/x", access="rw")
    result = build(options(devices=(device,)), host_devices={"/dev/null": [NULL]})
    assert result["linux"]["devices"] == [{**NULL, "path": "/dev/x"}]
    assert result["linux"]["resources"]["devices"] == [
        *DEFAULT_RULES,
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
    ]
    assert NULL["path"] == "/dev/null"


def test_device_rules_by_number() -> None:
    rules = (DeviceRule(type="c", major=10, minor=200, access="rw"), DeviceRule(type="a"))
    assert build(options(device_cgroup_rules=rules))["linux"]["resources"]["devices"] == [
        *DEFAULT_RULES,
        {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rw"},
        {"allow": True, "type": "a", "access": "rwm"},
    ]
    with pytest.raises(NotSupported, match="attach: device cgroup rules"):
        build(options(device_cgroup_rules=rules), device_rules=False)


def test_a_folder_of_devices() -> None:
    below: list[oci.Device] = [
        {"path": "/dev/snd/seq", "type": "c", "major": 116, "minor": 1},
        {"path": "/dev/snd/by/x", "type": "b", "major": 8, "minor": 2},
    ]
    device = Device(source="/dev/snd", target="/dev/s")
    result = build(options(devices=(device,)), host_devices={"/dev/snd": below})
    assert [node["path"] for node in result["linux"]["devices"]] == ["/dev/s/seq", "/dev/s/by/x"]
    rules = result["linux"]["resources"]["devices"][len(DEFAULT_RULES) :]
    assert [(rule["type"], rule["major"], rule["access"]) for rule in rules] == [
        ("c", 116, "rwm"),
        ("b", 8, "rwm"),
    ]


def test_a_device_that_is_not_there() -> None:
    given: list[dict[str, list[oci.Device]]] = [{}, {"/dev/none": []}]
    for devices in given:
        with pytest.raises(NotFound, match="device /dev/none: no such device"):
            build(
                options(devices=(Device(source="/dev/none", target="/dev/none"),)),
                host_devices=devices,
            )


PORTS = {"net.ipv4.ip_unprivileged_port_start": "0"}
PING = {"net.ipv4.ping_group_range": "0 2147483647"}


@pytest.mark.parametrize(
    ("asked", "joined", "rootless", "sysctls"),
    [
        ({}, {}, False, {**PORTS, **PING}),
        ({}, {}, True, PORTS),
        ({"network": "host"}, {}, False, {}),
        ({"network": "container:a"}, {"network": "/n"}, False, {}),
        (
            {"sysctls": {"net.core.somaxconn": "5", "kernel.shmmax": "6"}},
            {},
            False,
            {**PORTS, **PING, "net.core.somaxconn": "5", "kernel.shmmax": "6"},
        ),
        (
            {"sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"}},
            {},
            True,
            {"net.ipv4.ip_unprivileged_port_start": "80"},
        ),
        (
            {"network": "container:a", "sysctls": {"net.core.somaxconn": "5"}},
            {"network": "/n"},
            False,
            {"net.core.somaxconn": "5"},
        ),
    ],
)
def test_sysctls(
    asked: dict[str, Any], joined: dict[str, str], rootless: bool, sysctls: dict[str, str]
) -> None:
    assert build(options(**asked), joined=joined, rootless=rootless)["linux"]["sysctl"] == sysctls


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ({"network": "host"}, "net.core.somaxconn"),
        ({"ipc": "host"}, "kernel.shmmax"),
        ({"ipc": "host"}, "fs.mqueue.msg_max"),
        ({}, "kernel.core_pattern"),
        ({}, "vm.swappiness"),
        ({}, "net.//.kernel.core_pattern"),
    ],
)
def test_a_sysctl_of_the_host_is_refused(asked: dict[str, str], key: str) -> None:
    with pytest.raises(InvalidInput, match="not allowed"):
        build(options(sysctls={key: "1"}, **asked))
