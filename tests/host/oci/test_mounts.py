"""config.md, mounts: order, places, and every option."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ordinary import open_up

from .bundle import bind, differs, idmap, mount, older, spec, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .bundle import Bundle

pytestmark = [pytest.mark.host, pytest.mark.slow]


def mounts(bundle: Bundle, point: str) -> list[Mapping[str, str]]:
    """The mounts at `point` in a container of that configuration."""
    text = bundle.out("cat", "/proc/self/mountinfo")
    return [each for each in table(text) if each["point"] == point]


def options(bundle: Bundle, point: str) -> set[str]:
    found = mounts(bundle, point)
    assert found, f"nothing is mounted at {point}"
    return set(found[-1]["options"].split(","))


def option(*names: str) -> pytest.MarkDecorator:
    return spec(*(f"config.md#configLinuxMountOptions: option {name}" for name in names))


# ----------------------------------------------------------------------------- places, order, kinds


@spec("config.md#configMounts: mounts are made in their order")
def test_mounts_are_made_in_their_order(bundle: Bundle) -> None:
    one, two = bundle.make("one/f", "one"), bundle.make("two/f", "two")
    bundle.make("one/below")
    bundle.mounts += [
        bind(os.path.dirname(one), "/mnt"),
        bind(os.path.dirname(two), "/mnt/below"),
        mount("tmpfs", "/srv", "tmpfs"),
        bind(os.path.dirname(two), "/srv"),
    ]
    assert bundle.sh("cat /mnt/f /mnt/below/f /srv/f") == "onetwotwo"


def test_a_later_mount_hides_an_earlier_one(bundle: Bundle) -> None:
    one, two = bundle.make("one/f", "one"), bundle.make("two/f", "two")
    bundle.mounts += [bind(os.path.dirname(path), "/mnt") for path in (two, one)]
    assert bundle.sh("cat /mnt/f") == "one"


@spec("config.md#configMounts: a relative destination starts at the root")
def test_a_relative_destination(bundle: Bundle) -> None:
    bundle.process["cwd"] = "/tmp"
    bundle.mounts.append(mount("tmpfs", "mnt/rel", "tmpfs"))
    assert mounts(bundle, "/mnt/rel")


def test_a_relative_source_is_in_the_bundle(bundle: Bundle) -> None:
    bundle.make("data/f", "text")
    bundle.mounts.append(bind("data", "/mnt"))
    assert bundle.out("cat", "/mnt/f") == "text"


@pytest.mark.parametrize("kind", ["bind", "none", "", "anything", None])
def test_a_bind_is_told_by_its_option(bundle: Bundle, kind: str | None) -> None:
    bundle.make("data/f", "text")
    entry = bind(f"{bundle.folder}/data", "/mnt")
    if kind is None:
        del entry["type"]
    else:
        entry["type"] = kind
    bundle.mounts.append(entry)
    assert bundle.out("cat", "/mnt/f") == "text"


@pytest.mark.parametrize("point", ["/new/deep/er", "/mnt", "/dev/made"])
def test_a_missing_target_is_made(bundle: Bundle, point: str) -> None:
    bundle.make("data/f", "text")
    bundle.mounts.append(bind(f"{bundle.folder}/data", point))
    assert bundle.out("cat", f"{point}/f") == "text"


@pytest.mark.parametrize("point", ["/etc/new", "/a/b/c", "/etc/there"])
def test_a_file_is_bound_over_a_file(bundle: Bundle, point: str) -> None:
    bundle.make("rootfs/etc/there", "old")
    path = bundle.make("file", "text")
    bundle.mounts.append(bind(path, point, "ro"))
    assert bundle.out("cat", point) == "text"
    assert os.path.isfile(bundle.rootfs + point)


def test_a_socket_and_a_device_are_bound(bundle: Bundle) -> None:
    os.mkfifo(f"{bundle.folder}/pipe")
    bundle.mounts += [bind(f"{bundle.folder}/pipe", "/etc/pipe"), bind("/dev/null", "/etc/null")]
    assert bundle.sh("test -p /etc/pipe && test -c /etc/null && echo both") == "both\n"


@pytest.mark.parametrize("case", ["file on folder", "folder on file"])
def test_a_bind_of_another_kind_than_its_target(bundle: Bundle, case: str) -> None:
    bundle.make("rootfs/etc/file", "")
    source = bundle.make("file", "") if case == "file on folder" else bundle.make("data")
    bundle.mounts.append(bind(source, "/mnt" if case == "file on folder" else "/etc/file"))
    bundle.refused()


def test_a_missing_source(bundle: Bundle) -> None:
    bundle.mounts.append(bind("/nonexistent/source", "/mnt"))
    assert "/nonexistent/source" in bundle.refused()


def test_a_bind_of_a_single_mount_leaves_out_those_below(bundle: Bundle) -> None:
    bundle.make("data/below")
    path = f"{bundle.folder}/data"
    with mounted("tmpfs", f"{path}/below"):
        os.mkdir(f"{path}/below/x")
        bundle.mounts += [bind(path, "/mnt/one"), bind(path, "/mnt/all", "rbind")]
        assert bundle.sh("ls /mnt/one/below; echo -; ls /mnt/all/below") == "-\nx\n"


class mounted:  # noqa: N801 -- reads as a statement
    """A mount on the host for the time of a test, private to it."""

    def __init__(self, kind: str, place: str, *flags: str) -> None:
        self.place = place
        subprocess.run(["mount", "-t", kind, *flags, kind, place], check=True)
        subprocess.run(["mount", "--make-private", place], check=True)

    def __enter__(self) -> str:
        return self.place

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", self.place], check=True)


def test_file_systems_of_the_kernel(bundle: Bundle) -> None:
    bundle.mounts += [
        mount("tmpfs", "/mnt/t", "some-name", "size=1m", "mode=0700", "nr_inodes=50"),
        mount("ramfs", "/mnt/r", "ramfs"),
        mount("mqueue", "/mnt/q", "mqueue"),
        mount("proc", "/mnt/p", "proc", "hidepid=2"),
    ]
    text = bundle.out("cat", "/proc/self/mountinfo")
    found = {each["point"]: each for each in table(text)}
    assert [found[f"/mnt/{name}"]["type"] for name in "trqp"] == [
        "tmpfs",
        "ramfs",
        "mqueue",
        "proc",
    ]
    assert found["/mnt/t"]["source"] == "some-name"
    assert {"size=1024k", "mode=700", "nr_inodes=50"} <= set(found["/mnt/t"]["super"].split(","))
    assert "hidepid=" in found["/mnt/p"]["super"]


@pytest.mark.in_vm
def test_an_overlay(bundle: Bundle) -> None:
    bundle.make("low/f", "low")
    for name in ("up", "work"):
        bundle.make(name)
    words = (f"{key}={bundle.folder}/{name}" for key, name in (
        ("lowerdir", "low"), ("upperdir", "up"), ("workdir", "work"),
    ))  # fmt: skip
    bundle.mounts.append(mount("overlay", "/mnt", "overlay", *words))
    assert bundle.sh("cat /mnt/f; echo new >/mnt/g") == "low"
    assert os.path.exists(f"{bundle.folder}/up/g")


def test_an_option_that_the_file_system_does_not_know(bundle: Bundle) -> None:
    bundle.mounts.append(mount("tmpfs", "/mnt", "tmpfs", "no-such-option=1"))
    assert "/mnt" in bundle.refused()


@pytest.mark.parametrize("kind", ["no-such-fs", "ext4"])
def test_a_mount_that_cannot_be(bundle: Bundle, kind: str) -> None:
    bundle.mounts.append(mount(kind, "/mnt", "/nonexistent/device"))
    assert "/mnt" in bundle.refused()


@spec("config.md#valid-values: invalid and unsupported values are an error")
@pytest.mark.parametrize(
    "entry",
    [
        {"type": "tmpfs", "source": "tmpfs"},
        {"destination": 5, "type": "tmpfs"},
        {"destination": "/mnt", "type": 5},
        {"destination": "/mnt", "type": "tmpfs", "options": "ro"},
        {"destination": "/mnt", "type": "tmpfs", "options": [5]},
        {"destination": "/mnt", "type": "tmpfs", "source": ["x"]},
        "tmpfs",
    ],
)
def test_a_mount_entry_that_cannot_be(bundle: Bundle, entry: Any) -> None:
    bundle.mounts.append(entry)
    bundle.refused()


# -------------------------------------------------------------------------------- attribute options

FLAGS = [
    ("ro", "ro", True), ("nosuid", "nosuid", True), ("nodev", "nodev", True),
    ("noexec", "noexec", True), ("noatime", "noatime", True), ("nodiratime", "nodiratime", True),
    ("relatime", "relatime", True),
]  # fmt: skip
CLEARED = [
    ("ro", "rw", "ro"), ("nosuid", "suid", "nosuid"), ("nodev", "dev", "nodev"),
    ("noexec", "exec", "noexec"), ("nodiratime", "diratime", "nodiratime"),
]  # fmt: skip


@option("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime")
@pytest.mark.parametrize("how", ["tmpfs", "bind"])
@pytest.mark.parametrize(("word", "shown", "there"), FLAGS)
def test_flags_of_a_mount(bundle: Bundle, how: str, word: str, shown: str, there: bool) -> None:
    bundle.mounts.append(place(bundle, how, word))
    found = options(bundle, "/mnt")
    assert (shown in found) == there
    others = {"nosuid", "nodev", "noexec", "nodiratime", "noatime"} - {shown}
    if how == "tmpfs":
        assert not others & found


def place(bundle: Bundle, how: str, *words: str) -> dict[str, Any]:
    if how == "tmpfs":
        return mount("tmpfs", "/mnt", "tmpfs", *words)
    return bind(bundle.make("data"), "/mnt", *words)


@option("rw", "suid", "dev", "exec", "diratime")
@pytest.mark.parametrize("how", ["tmpfs", "bind"])
@pytest.mark.parametrize(("word", "undo", "shown"), CLEARED)
def test_the_last_of_two_opposites_counts(
    bundle: Bundle, how: str, word: str, undo: str, shown: str
) -> None:
    bundle.mounts.append(place(bundle, how, word, undo))
    assert shown not in options(bundle, "/mnt")
    bundle.mounts[-1] = place(bundle, how, undo, word)
    assert shown in options(bundle, "/mnt")


@option("rw", "suid", "dev", "exec", "diratime")
@differs("a bind keeps the flags of its source", "runc")
@pytest.mark.parametrize(("flag", "undo"), [(flag, undo) for flag, undo, _ in CLEARED])
def test_a_bind_can_clear_the_flags_of_its_source(bundle: Bundle, flag: str, undo: str) -> None:
    with mounted("tmpfs", bundle.make("data"), "-o", flag):
        bundle.mounts.append(bind("data", "/mnt", undo))
        assert flag not in options(bundle, "/mnt")


@differs("it clears them", "runc")
@pytest.mark.parametrize("flag", ["nosuid", "nodev", "noexec", "ro"])
def test_a_bind_with_another_option_keeps_the_flags_of_its_source(
    bundle: Bundle, flag: str
) -> None:
    """What is not named is not changed: else a bind would undo the host's nosuid."""
    with mounted("tmpfs", bundle.make("data"), "-o", flag):
        bundle.mounts.append(bind("data", "/mnt", "noatime"))
        assert {flag, "noatime"} <= options(bundle, "/mnt")


@option("atime", "norelatime", "strictatime", "nostrictatime", "noatime")
@pytest.mark.parametrize("how", ["tmpfs", "bind"])
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["strictatime"], None),
        (["noatime", "atime"], "relatime"),
        (["strictatime", "nostrictatime"], "relatime"),
        (["relatime", "noatime"], "noatime"),
        (["relatime", "norelatime"], "relatime"),
        ([], "relatime"),
    ],
)
def test_access_times(bundle: Bundle, how: str, words: list[str], shown: str | None) -> None:
    """mount(2): relatime is the kernel's default; strictatime shows as nothing."""
    bundle.mounts.append(place(bundle, how, *words))
    found = options(bundle, "/mnt") & {"relatime", "noatime"}
    assert found == ({shown} if shown else set())


@option("async", "sync", "dirsync", "lazytime", "nolazytime")
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["sync"], {"sync"}),
        (["sync", "async"], set()),
        (["dirsync"], {"dirsync"}),
        (["lazytime"], {"lazytime"}),
        (["lazytime", "nolazytime"], set()),
        (["sync", "dirsync"], {"sync", "dirsync"}),
    ],
)
@older("it does not know lazytime", runc="1.2")
def test_flags_of_a_file_system(bundle: Bundle, words: list[str], shown: set[str]) -> None:
    """These belong to the super block, mount(8)."""
    bundle.mounts.append(mount("tmpfs", "/mnt", "tmpfs", *words))
    found = set(mounts(bundle, "/mnt")[-1]["super"].split(","))
    assert found & {"sync", "dirsync", "lazytime"} == shown


@option("defaults", "silent", "loud", "iversion", "noiversion", "async", "rw", "atime")
@older("it does not know silent and loud", runc="1.2")
@pytest.mark.parametrize(
    "word", ["defaults", "silent", "loud", "iversion", "noiversion", "async", "rw", "atime"]
)
@pytest.mark.parametrize("how", ["tmpfs", "bind"])
def test_options_that_show_nothing_are_accepted(bundle: Bundle, how: str, word: str) -> None:
    bundle.mounts.append(place(bundle, how, word))
    found = options(bundle, "/mnt")
    assert "rw" in found
    assert not found & {"nosuid", "nodev", "noexec"} or how == "bind"


@older("it does not know defaults", runc="1.2")
def test_defaults_undoes_nothing_that_stands_beside_it(bundle: Bundle) -> None:
    bundle.mounts.append(mount("tmpfs", "/mnt", "tmpfs", "defaults", "ro", "nosuid"))
    assert {"ro", "nosuid"} <= options(bundle, "/mnt")


@option("remount")
def test_remount(bundle: Bundle) -> None:
    bundle.mounts += [
        mount("tmpfs", "/mnt", "tmpfs", "size=4m"),
        mount("tmpfs", "/mnt", "tmpfs", "remount", "ro", "nosuid", "size=8m"),
    ]
    found = mounts(bundle, "/mnt")
    assert len(found) == 1
    assert {"ro", "nosuid"} <= set((found[0]["options"] + "," + found[0]["super"]).split(","))
    assert "size=8192k" in found[0]["super"]


@option("remount", "bind")
def test_remount_of_a_bind(bundle: Bundle) -> None:
    data = bundle.make("data")
    bundle.mounts += [
        bind(data, "/mnt"),
        mount("none", "/mnt", data, "remount", "bind", "ro", "nosuid"),
    ]
    found = mounts(bundle, "/mnt")
    assert len(found) == 1
    assert {"ro", "nosuid"} <= set(found[0]["options"].split(","))
    assert os.access(data, os.W_OK)


@older("it does not know them", runc="1.2", crun="1.9")
def test_nosymfollow_and_symfollow(bundle: Bundle) -> None:
    bundle.make("data")
    os.symlink("/etc", f"{bundle.folder}/data/link")
    bundle.mounts.append(bind("data", "/mnt", "nosymfollow"))
    assert bundle.code("ls /mnt/link/") != 0
    bundle.mounts[-1] = bind("data", "/mnt", "nosymfollow", "symfollow")
    assert bundle.code("ls /mnt/link/") == 0


@option("ro")
def test_a_read_only_bind_is_read_only_in_the_container_alone(bundle: Bundle) -> None:
    data = bundle.make("data")
    bundle.mounts.append(bind(data, "/mnt", "ro"))
    assert bundle.code("touch /mnt/x") != 0
    bundle.make("data/host", "written")
    bundle.mounts.append(bind(data, "/srv"))
    assert bundle.code("touch /srv/x && ! touch /mnt/y") == 0


@option("noexec", "nosuid", "nodev")
def test_flags_have_their_effect(bundle: Bundle) -> None:
    bundle.mounts.append(mount("tmpfs", "/mnt", "tmpfs", "noexec", "nodev"))
    assert (
        bundle.code("cp /bin/busybox /mnt/x 2>/dev/null || cp /bin/sh /mnt/x; /mnt/x true") == 126
    )
    assert bundle.code("mknod /mnt/null c 1 3 && echo >/mnt/null") != 0


def test_a_read_only_tmpfs_can_be_made_with_mount_points_in_it(bundle: Bundle) -> None:
    """A target below a read-only mount is made before that is read-only, where it can be."""
    bundle.mounts += [
        mount("tmpfs", "/mnt", "tmpfs", "ro"),
    ]
    assert bundle.code("touch /mnt/x") != 0
    assert "ro" in options(bundle, "/mnt")


# ---------------------------------------------------------------------------------------- recursive

RECURSIVE = [
    ("rro", "ro"), ("rnosuid", "nosuid"), ("rnodev", "nodev"), ("rnoexec", "noexec"),
    ("rnoatime", "noatime"), ("rnodiratime", "nodiratime"),
]  # fmt: skip
UNDONE = [
    ("ro", "rrw"), ("nosuid", "rsuid"), ("nodev", "rdev"), ("noexec", "rexec"),
    pytest.param("noatime", "ratime", marks=differs("the kernel refuses what it asks for", "runc")),
    ("nodiratime", "rdiratime"), ("noatime", "rrelatime"),
    ("noatime", "rstrictatime"),
]  # fmt: skip


@pytest.fixture
def nested(bundle: Bundle) -> Iterator[str]:
    """A folder on the host with a mount of its own below it."""
    with mounted("tmpfs", bundle.make("tree")) as outer:
        os.mkdir(f"{outer}/below")
        with mounted("tmpfs", f"{outer}/below"):
            yield outer


@pytest.mark.parametrize(("word", "shown"), RECURSIVE)
def test_recursive_flags(bundle: Bundle, nested: str, word: str, shown: str) -> None:
    bundle.mounts.append(bind(nested, "/mnt", "rbind", word))
    text = bundle.out("cat", "/proc/self/mountinfo")
    found = {each["point"]: each["options"].split(",") for each in table(text)}
    assert shown in found["/mnt"]
    assert shown in found["/mnt/below"]


@pytest.mark.parametrize(("flag", "undo"), UNDONE)
@differs("a bind keeps the flags of its source", "crun")
def test_recursive_flags_undone(bundle: Bundle, flag: str, undo: str) -> None:
    bundle.make("tree")
    with mounted("tmpfs", f"{bundle.folder}/tree", "-o", "size=1m") as outer:
        os.mkdir(f"{outer}/below")
        with mounted("tmpfs", f"{outer}/below", "-o", flag):
            subprocess.run(["mount", "-o", f"remount,{flag}", outer], check=True)
            bundle.mounts.append(bind(outer, "/mnt", "rbind", undo))
            text = bundle.out("cat", "/proc/self/mountinfo")
    found = {each["point"]: each["options"].split(",") for each in table(text)}
    assert flag not in found["/mnt"]
    assert flag not in found["/mnt/below"]


def test_ro_is_not_recursive(bundle: Bundle, nested: str) -> None:
    bundle.mounts.append(bind(nested, "/mnt", "rbind", "ro"))
    assert bundle.code("! touch /mnt/x 2>/dev/null && touch /mnt/below/x") == 0


# -------------------------------------------------------------------------------------- propagation

PROPAGATION = [
    ("private", "", ""), ("rprivate", "", ""), ("shared", "shared:", ""),
    ("rshared", "shared:", "shared:"), ("slave", "master:", ""), ("rslave", "master:", "master:"),
    ("unbindable", "unbindable", ""), ("runbindable", "unbindable", "unbindable"),
]  # fmt: skip


@option(
    "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable",
    "rbind", "bind",
)  # fmt: skip
@pytest.mark.parametrize(("word", "top", "below"), PROPAGATION)
def test_propagation(bundle: Bundle, nested: str, word: str, top: str, below: str) -> None:
    for path in (nested, f"{nested}/below"):
        subprocess.run(["mount", "--make-shared", path], check=True)
    bundle.linux["rootfsPropagation"] = "rshared" if "shared" in word else "rslave"
    bundle.mounts.append(bind(nested, "/mnt", "rbind", word))
    text = bundle.out("cat", "/proc/self/mountinfo")
    found = {each["point"]: each["peers"] for each in table(text)}
    for point, wanted in (("/mnt", top), ("/mnt/below", below)):
        if wanted:
            assert wanted in found[point]
        elif "private" in word:
            assert "shared:" not in found[point]
    if word in ("private", "rprivate"):
        assert not found["/mnt"]


@option("rslave")
def test_a_slave_sees_what_the_host_mounts_later(bundle: Bundle, nested: str) -> None:
    subprocess.run(["mount", "--make-shared", nested], check=True)
    os.mkdir(f"{nested}/late")
    bundle.linux["rootfsPropagation"] = "rslave"
    bundle.mounts.append(bind(nested, "/mnt", "rbind", "rslave"))
    bundle.up_sh("echo up; while [ ! -e /mnt/late/f ]; do sleep 0.02; done; echo seen")
    bundle.until("up")
    with mounted("tmpfs", f"{nested}/late"):
        with open(f"{nested}/late/f", "w"):
            pass
        bundle.until("seen")


@option("rshared")
@pytest.mark.parametrize(("word", "reaches"), [("rshared", True), ("rslave", False)])
def test_what_the_container_mounts(bundle: Bundle, nested: str, word: str, reaches: bool) -> None:
    subprocess.run(["mount", "--make-shared", nested], check=True)
    os.mkdir(f"{nested}/in")
    for kind in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][kind].append("CAP_SYS_ADMIN")
    bundle.linux["rootfsPropagation"] = word
    bundle.mounts.append(bind(nested, "/mnt", "rbind", word))
    bundle.up_sh("mount -t tmpfs inner /mnt/in && echo done; exec sleep 1000")
    bundle.until("done")
    try:
        assert os.path.ismount(f"{nested}/in") == reaches
    finally:
        if reaches:
            subprocess.run(["umount", f"{nested}/in"], check=True)


def test_by_default_nothing_reaches_the_host(bundle: Bundle, nested: str) -> None:
    subprocess.run(["mount", "--make-shared", nested], check=True)
    os.mkdir(f"{nested}/in")
    for kind in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][kind].append("CAP_SYS_ADMIN")
    bundle.mounts.append(bind(nested, "/mnt", "rbind"))
    bundle.up_sh("mount -t tmpfs inner /mnt/in && echo done; exec sleep 1000")
    bundle.until("done")
    assert not os.path.ismount(f"{nested}/in")


# ---------------------------------------------------------------------------------------- tmpcopyup


def test_tmpcopyup(bundle: Bundle) -> None:
    bundle.make("rootfs/srv/a/b", "deep")
    os.chmod(f"{bundle.rootfs}/srv/a/b", 0o640)
    os.chown(f"{bundle.rootfs}/srv/a/b", 7, 8)
    os.symlink("a/b", f"{bundle.rootfs}/srv/link")
    bundle.mounts.append(mount("tmpfs", "/srv", "tmpfs", "tmpcopyup", "size=1m"))
    script = "cat /srv/link; stat -c '%a %u %g' /srv/a/b; readlink /srv/link; echo x >/srv/a/b"
    assert bundle.sh(script) == "deep640 7 8\na/b\n"
    with open(f"{bundle.rootfs}/srv/a/b") as file:
        assert file.read() == "deep"


def test_tmpcopyup_of_nothing_and_read_only(bundle: Bundle) -> None:
    bundle.make("rootfs/srv/f", "text")
    bundle.mounts += [
        mount("tmpfs", "/new", "tmpfs", "tmpcopyup"),
        mount("tmpfs", "/srv", "tmpfs", "tmpcopyup", "ro"),
    ]
    assert bundle.sh("ls /new; cat /srv/f; touch /srv/g 2>/dev/null || echo ro") == "textro\n"


@differs("it is ignored", "runc", "crun")
def test_tmpcopyup_is_for_tmpfs(bundle: Bundle) -> None:
    bundle.mounts.append(bind(bundle.make("data"), "/mnt", "tmpcopyup"))
    bundle.refused()


# ------------------------------------------------------------------------------------------ id maps

needs_idmap = older("it does not know mappings of mounts", runc="1.2", crun="1.8.2")


def owners(bundle: Bundle, *paths: str) -> list[str]:
    return bundle.out("stat", "-c", "%u:%g", *paths).split()


def data_of(bundle: Bundle, uid: int, gid: int) -> str:
    path = bundle.make("data/f", "text")
    os.chown(path, uid, gid)
    return os.path.dirname(path)


@needs_idmap
@spec(
    "config.md#configLinuxMountOptions: idmap maps the mount's ids",
    "config.md#configLinuxMountOptions: idmap takes the mount's own mappings",
)
def test_idmap_with_mappings_of_its_own(bundle: Bundle) -> None:
    data = data_of(bundle, 1000, 1001)
    bundle.mounts.append(bind(
        data, "/mnt", "idmap",
        uidMappings=[idmap(1000, 5000, 10)], gidMappings=[idmap(1001, 6001, 10)],
    ))  # fmt: skip
    assert owners(bundle, "/mnt/f") == ["5000:6001"]
    status = os.stat(f"{data}/f")
    assert (status.st_uid, status.st_gid) == (1000, 1001)


@needs_idmap
def test_mappings_without_the_word_are_applied(bundle: Bundle) -> None:
    """The option is only recommended beside the mappings."""
    data = data_of(bundle, 1000, 1000)
    bundle.mounts.append(bind(
        data, "/mnt",
        uidMappings=[idmap(1000, 5000, 10)], gidMappings=[idmap(1000, 5000, 10)],
    ))  # fmt: skip
    assert owners(bundle, "/mnt/f") == ["5000:5000"]


@needs_idmap
def test_a_file_made_through_an_idmapped_mount(bundle: Bundle) -> None:
    data = data_of(bundle, 1000, 1000)
    os.chown(data, 1000, 1000)
    maps = [idmap(1000, 0, 1)]
    bundle.mounts.append(bind(data, "/mnt", "idmap", uidMappings=maps, gidMappings=maps))
    assert bundle.sh("echo x >/mnt/new; stat -c %u /mnt/new") == "0\n"
    assert os.stat(f"{data}/new").st_uid == 1000


def with_user_namespace(bundle: Bundle, base: int = 100000) -> None:
    bundle.add_namespace("user")
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = [idmap(0, base, 65536)]
    subprocess.run(["chown", "-R", f"{base}:{base}", bundle.rootfs], check=True)
    for folder in (bundle.folder, os.path.dirname(bundle.folder)):
        os.chmod(folder, 0o755)
    open_up(Path(bundle.folder))


@needs_idmap
@spec("config.md#configLinuxMountOptions: idmap maps the mount's ids")
def test_idmap_with_the_containers_mappings(bundle: Bundle) -> None:
    data = data_of(bundle, 7, 8)
    with_user_namespace(bundle)
    bundle.mounts += [bind(data, "/mnt", "idmap"), bind(data, "/srv")]
    assert owners(bundle, "/mnt/f", "/srv/f") == ["7:8", "65534:65534"]


@needs_idmap
def test_mappings_of_its_own_beside_a_user_namespace(bundle: Bundle) -> None:
    data = data_of(bundle, 1000, 1000)
    with_user_namespace(bundle)
    maps = [idmap(1000, 100007, 1)]
    bundle.mounts.append(bind(data, "/mnt", "idmap", uidMappings=maps, gidMappings=maps))
    assert owners(bundle, "/mnt/f") == ["7:7"]


@needs_idmap
@spec(
    "config.md#configLinuxMountOptions: ridmap maps the mounts below too",
    "config.md#configLinuxMountOptions: ridmap takes the mount's own mappings",
)
@pytest.mark.parametrize(("word", "below"), [("idmap", "1000"), ("ridmap", "5000")])
def test_ridmap_reaches_the_mounts_below(
    bundle: Bundle, nested: str, word: str, below: str
) -> None:
    for path in (f"{nested}/f", f"{nested}/below/f"):
        with open(path, "w"):
            os.chown(path, 1000, 1000)
    maps = [idmap(1000, 5000, 10)]
    bundle.mounts.append(bind(nested, "/mnt", "rbind", word, uidMappings=maps, gidMappings=maps))
    assert owners(bundle, "/mnt/f", "/mnt/below/f") == ["5000:5000", f"{below}:{below}"]


@needs_idmap
@spec(
    "config.md#configLinuxMountOptions: idmap without any mapping is an error",
    "config.md#configLinuxMountOptions: ridmap without any mapping is an error",
)
@pytest.mark.parametrize("word", ["idmap", "ridmap"])
def test_a_mapping_of_nothing(bundle: Bundle, word: str) -> None:
    bundle.mounts.append(bind(bundle.make("data"), "/mnt", word))
    bundle.refused()


@needs_idmap
@spec(
    "config.md#configPOSIXMounts: uidMappings come with gidMappings",
    "config.md#configPOSIXMounts: gidMappings come with uidMappings",
)
@pytest.mark.parametrize("key", ["uidMappings", "gidMappings"])
def test_one_mapping_without_the_other(bundle: Bundle, key: str) -> None:
    bundle.mounts.append(bind(bundle.make("data"), "/mnt", "idmap", **{key: [idmap(0, 1, 1)]}))
    bundle.refused()


@needs_idmap
@pytest.mark.parametrize(
    "maps",
    [
        [idmap(0, 0, 0)],
        [idmap(-1, 0, 1)],
        [idmap(0, 2**32, 1)],
        [idmap(0, 0, 10), idmap(5, 100, 10)],
        [{"containerID": 0}],
    ],
)
def test_mappings_that_cannot_be(bundle: Bundle, maps: list[dict[str, int]]) -> None:
    bundle.mounts.append(
        bind(bundle.make("data"), "/mnt", "idmap", uidMappings=maps, gidMappings=maps)
    )
    bundle.refused()


@needs_idmap
def test_mappings_of_what_is_no_bind_are_not_ignored(bundle: Bundle) -> None:
    maps = [idmap(0, 5000, 10)]
    bundle.mounts.append(
        mount("tmpfs", "/mnt", "tmpfs", "idmap", uidMappings=maps, gidMappings=maps)
    )
    done = bundle.run()
    if done.returncode == 0:
        assert owners(bundle, "/mnt") == ["5000:5000"]


# ---------------------------------------------------------------------------------- special targets


@differs("on a hybrid host the tmpfs around the hierarchies stays writable", "runc")
@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
def test_a_cgroup_mount(bundle: Bundle, kind: str) -> None:
    if kind == "cgroup2" and not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        pytest.skip("the type that managers write is cgroup; cgroup2 is for unified hosts")
    bundle.mounts.append(mount(kind, "/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro"))
    assert bundle.sh("ls /sys/fs/cgroup | head -1").strip()
    assert bundle.code("mkdir /sys/fs/cgroup/x 2>/dev/null") != 0


def test_proc_shows_the_containers_processes(bundle: Bundle) -> None:
    assert bundle.sh("ls /proc | grep -c '^[0-9]'").strip() in ("2", "3", "4")


def test_a_tmpfs_below_proc_is_refused(bundle: Bundle) -> None:
    """Over /proc only what the file system there is for; a fake /proc/self would fool programs."""
    bundle.mounts.append(mount("tmpfs", "/proc/self", "tmpfs"))
    bundle.refused()


def test_no_mounts_at_all(bundle: Bundle) -> None:
    bundle.config["mounts"] = []
    bundle.process["args"] = ["ls", "/"]
    done = bundle.run()
    if done.returncode == 0:
        assert "bin" in done.stdout


@pytest.mark.in_vm
def test_many_mounts(bundle: Bundle) -> None:
    bundle.make("data/f", "text")
    bundle.mounts += [bind("data", f"/mnt/{number}") for number in range(200)]
    assert bundle.sh("cat /mnt/0/f /mnt/199/f; ls /mnt | wc -l") == "texttext200\n"


@pytest.mark.parametrize("name", ["a b", "ü", "tab\there", "quote'\"", "back\\slash", "new\nline"])
def test_names_with_odd_characters(bundle: Bundle, name: str) -> None:
    bundle.make(f"src {name}/f", "text")
    bundle.mounts.append(bind(f"{bundle.folder}/src {name}", f"/mnt/{name}"))
    assert bundle.out("cat", f"/mnt/{name}/f") == "text"
