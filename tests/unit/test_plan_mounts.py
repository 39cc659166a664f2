"""Entries of ``mounts`` and devices as steps: what each word means, and which do not fit."""

from __future__ import annotations

import itertools
import os
import stat
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput
from pycontain.kernel.mount import (
    ATTR_NODEV,
    ATTR_NOEXEC,
    ATTR_NOSUID,
    ATTR_RDONLY,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)
from pycontain.runtime import mounts
from pycontain.runtime.mounts import ATTRIBUTES, PROPAGATION, RECURSIVE, MountWords
from pycontain.runtime.steps import Handle, Step

SAFE = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC
ATIME = 0x70  # MOUNT_ATTR__ATIME, linux/mount.h
NO_MAPS = ("", "")
MAPS = ("0 1000 1\n", "0 2000 1\n")
ID_MAP: Any = [{"containerID": 0, "hostID": 7, "size": 3}]

# config.md, "Linux mount options": those that are no flags of a file system.
WORDS = (
    "atime bind defaults dev diratime exec idmap loud noatime nodev nodiratime noexec norelatime"
    " nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec"
    " ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro"
    " rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared"
    " silent slave strictatime suid symfollow tmpcopyup unbindable"
).split()


def step(*options: str, maps: tuple[str, str] = NO_MAPS, **entry: Any) -> Step:
    """The step of an entry on /m."""
    entry.setdefault("destination", "/m")
    if options:
        entry["options"] = [*options]
    (found,) = steps(entry, maps)
    return found


def steps(entry: dict[str, Any], maps: tuple[str, str] = NO_MAPS) -> list[Step]:
    return mounts.steps(cast("Any", entry), maps)


def bind(*options: str, maps: tuple[str, str] = NO_MAPS, **entry: Any) -> Step:
    found = step(*options, maps=maps, source="/h", **entry)
    assert found.name == "bind"
    return found


# -------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("words", "set_", "clear", "data"),
    [
        ([], 0, 0, []),
        (["ro"], ATTR_RDONLY, 0, []),
        (["ro", "rw"], 0, ATTR_RDONLY, []),
        (["rw", "ro"], ATTR_RDONLY, 0, []),
        (["nosuid", "nodev", "noexec"], SAFE, 0, []),
        (["suid", "dev"], 0, ATTR_NOSUID | ATTR_NODEV, []),
        (["noexec", "exec"], 0, ATTR_NOEXEC, []),
        (["noatime"], 0x10, ATIME, []),
        (["relatime"], 0, ATIME, []),
        (["atime"], 0, ATIME, []),
        (["norelatime"], 0, ATIME, []),
        (["nostrictatime"], 0, ATIME, []),
        (["strictatime"], 0x20, ATIME, []),
        (["noatime", "strictatime"], 0x20, ATIME, []),
        (["strictatime", "relatime"], 0, ATIME, []),
        (["nodiratime", "nosymfollow"], 0x80 | 0x200000, 0, []),
        (["diratime", "symfollow"], 0, 0x80 | 0x200000, []),
        (["size=5", "ro", "mode=7"], ATTR_RDONLY, 0, ["size=5", "mode=7"]),
        (["defaults"], 0, 0, []),
        (["ro", "defaults"], ATTR_RDONLY, 0, []),
        (["silent", "loud", "bind", "rbind", "idmap", "tmpcopyup", "remount"], 0, 0, []),
    ],
)
def test_words_of_a_mount(words: list[str], set_: int, clear: int, data: list[str]) -> None:
    found = MountWords(words)
    assert (found.set, found.clear, found.data, found.below) == (set_, clear, data, (0, 0))


def test_every_word_of_the_specification_is_known() -> None:
    assert MountWords(WORDS).data == []
    known = {*ATTRIBUTES, *RECURSIVE, *PROPAGATION}
    said = {"bind", "rbind", "idmap", "ridmap", "remount", "tmpcopyup", "silent", "loud"}
    assert known | said == {*WORDS}


def test_no_word_means_two_things() -> None:
    assert not {*ATTRIBUTES} & {*RECURSIVE}
    assert not {*ATTRIBUTES, *RECURSIVE} & {*PROPAGATION}


def test_each_recursive_word_is_a_plain_one_with_an_r() -> None:
    assert {f"r{word}": ATTRIBUTES[word] for word in ATTRIBUTES if word != "defaults"} == RECURSIVE


@pytest.mark.parametrize(
    ("words", "below"),
    [
        (["rro"], (ATTR_RDONLY, 0)),
        (["rro", "rrw"], (0, ATTR_RDONLY)),
        (["rnosuid", "rnoexec"], (ATTR_NOSUID | ATTR_NOEXEC, 0)),
        (["rnoatime"], (0x10, ATIME)),
        (["rnoatime", "rstrictatime"], (0x20, ATIME)),
        (["rrelatime"], (0, ATIME)),
    ],
)
def test_recursive_words(words: list[str], below: tuple[int, int]) -> None:
    found = MountWords(words)
    assert (found.set, found.clear) == (0, 0)
    assert found.below == below
    assert found.whole() == below


def test_a_bit_is_never_set_and_cleared_but_for_the_atime_field() -> None:
    """The field is cleared before its value is set, mount_setattr(2); EINVAL for other bits."""
    for first, second in itertools.product([*ATTRIBUTES, *RECURSIVE], repeat=2):
        found = MountWords([first, second])
        for on, off in ((found.set, found.clear), found.below, found.whole()):
            assert on & off & ~ATIME == 0, (first, second)
            assert not on & ATIME or off & ATIME == ATIME, (first, second)


@given(st.lists(st.sampled_from([*ATTRIBUTES, *RECURSIVE])), st.integers(0, 0x2000FF))
def test_the_last_word_wins(words: list[str], before: int) -> None:
    """What the kernel makes of the bits is what the words say one after the other."""
    found = MountWords(words)
    expected = before
    for word in words:
        if word in ATTRIBUTES:
            expected = expected & ~ATTRIBUTES[word][1] | ATTRIBUTES[word][0]
    assert before & ~found.clear | found.set == expected
    on, off = found.below
    for word in words:
        if word in RECURSIVE:
            expected = expected & ~RECURSIVE[word][1] | RECURSIVE[word][0]
    assert (before & ~found.clear | found.set) & ~off | on == expected
    on, off = found.whole()
    assert before & ~off | on == expected


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("private", MS_PRIVATE),
        ("slave", MS_SLAVE),
        ("shared", MS_SHARED),
        ("unbindable", MS_UNBINDABLE),
    ],
)
def test_propagation(name: str, flag: int) -> None:
    assert MountWords([name]).propagation == flag
    assert MountWords([f"r{name}"]).propagation == flag | MS_REC
    assert MountWords(["rshared", name]).propagation == flag
    assert MountWords([]).propagation == 0


# -------------------------------------------------------------------------------------------- binds


@pytest.mark.parametrize(
    ("words", "kind", "propagation"),
    [
        # What is mounted below a copy would appear on the host, its peer (mount_namespaces(7)).
        (["bind"], "branch", MS_PRIVATE | MS_REC),
        (["rbind"], "tree", MS_PRIVATE | MS_REC),
        (["rbind", "rprivate"], "tree", MS_PRIVATE | MS_REC),
        (["rbind", "private"], "tree", MS_PRIVATE),
        (["rbind", "rslave"], "tree", MS_SLAVE | MS_REC),
        (["rbind", "shared"], "tree", MS_SHARED),
        (["rbind", "rshared"], "tree", MS_SHARED | MS_REC),
        (["bind", "runbindable"], "branch", MS_UNBINDABLE | MS_REC),
        (["rbind", "bind", "rslave"], "tree", MS_SLAVE | MS_REC),
    ],
)
def test_binds(words: list[str], kind: str, propagation: int) -> None:
    assert bind(*words).args == (Handle(kind, "/h"), "/m", 0, 0, 0, 0, propagation)


def test_attributes_of_a_bind_and_of_what_is_below_it() -> None:
    assert bind("rbind", "nosuid", "rw", "rslave").args[2:] == (
        ATTR_NOSUID, ATTR_RDONLY, 0, 0, MS_SLAVE | MS_REC,
    )  # fmt: skip
    assert bind("rbind", "rro", "rnoexec", "rprivate").args[2:] == (
        0, 0, ATTR_RDONLY | ATTR_NOEXEC, 0, MS_PRIVATE | MS_REC,
    )  # fmt: skip
    assert bind("bind", "noatime", "rrelatime").args[2:] == (
        0x10, ATIME, 0, ATIME, MS_PRIVATE | MS_REC,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"type": "bind"}, True),
        ({}, True),
        ({"type": "none", "options": ["bind"]}, True),
        ({"type": "none", "options": ["rbind"]}, True),
        ({"type": "tmpfs", "options": ["bind"]}, True),
        ({"type": "tmpfs"}, False),
        ({"type": "proc", "options": ["ro"]}, False),
    ],
)
def test_what_a_bind_is(entry: Any, expected: bool) -> None:
    whole: Any = {"destination": "/m", "source": "/h", **entry}
    assert mounts.is_bind(whole) is expected
    (made,) = steps(whole)
    assert made.name == ("bind" if expected else "mount")


@pytest.mark.parametrize("word", ["size=5", "mode=7", "nonsense", ""])
def test_a_word_that_a_bind_does_not_know(word: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^mount /m: unknown option '{word}' for a bind$"):
        bind("bind", word)


@pytest.mark.parametrize("word", ["sync", "async", "dirsync", "mand", "lazytime", "nolazytime"])
def test_a_bind_leaves_the_file_system_as_it_is(word: str) -> None:
    """Such flags are ignored then, mount(2), MS_BIND."""
    assert bind("bind", word).args == bind("bind").args
    assert step(word, type="tmpfs").args[4] == (word,)


def test_a_bind_cannot_begin_with_what_it_covers() -> None:
    with pytest.raises(InvalidInput, match=r"^mount /m: tmpcopyup is for a tmpfs$"):
        bind("bind", "tmpcopyup")


# ------------------------------------------------------------------------------------ owners mapped


@pytest.mark.parametrize(
    ("words", "kind", "recursive"),
    [
        (["bind", "idmap"], "branch", ""),
        (["bind", "ridmap"], "branch", "recursive"),
        (["rbind", "idmap"], "tree", ""),
        (["rbind", "ridmap"], "tree", "recursive"),
    ],
)
def test_owners_go_through_the_containers_maps(words: list[str], kind: str, recursive: str) -> None:
    assert bind(*words, maps=MAPS).args[0] == Handle(kind, "/h", (*MAPS, recursive))


@pytest.mark.parametrize(
    ("words", "recursive"), [([], ""), (["idmap"], ""), (["ridmap"], "recursive")]
)
@pytest.mark.parametrize("maps", [NO_MAPS, MAPS])
def test_maps_of_a_mounts_own(words: list[str], recursive: str, maps: tuple[str, str]) -> None:
    """config.md, "Mounts": they do not need a user namespace, and go before its maps."""
    other: Any = [
        {"containerID": 1, "hostID": 2, "size": 3},
        {"containerID": 9, "hostID": 9, "size": 1},
    ]
    found = bind("rbind", *words, maps=maps, uidMappings=ID_MAP, gidMappings=other)
    assert found.args[0] == Handle("tree", "/h", ("0 7 3\n", "1 2 3\n9 9 1\n", recursive))


def test_owners_are_left_alone_unless_it_is_asked_for() -> None:
    """A user namespace of the container's does not map the owners of what is bound."""
    assert bind("rbind", maps=MAPS).args[0] == Handle("tree", "/h")
    assert bind("rbind", maps=MAPS, uidMappings=[], gidMappings=[]).args[0] == Handle("tree", "/h")


@pytest.mark.parametrize("key", ["uidMappings", "gidMappings"])
def test_one_map_alone(key: str) -> None:
    with pytest.raises(InvalidInput, match=r"^mount /m: uidMappings and gidMappings go together$"):
        bind("bind", maps=MAPS, **{key: ID_MAP})


@pytest.mark.parametrize("maps", [NO_MAPS, (MAPS[0], ""), ("", MAPS[1])])
@pytest.mark.parametrize("word", ["idmap", "ridmap"])
def test_owners_cannot_be_mapped_without_maps(word: str, maps: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput, match=r"^mount /m: idmap without mappings"):
        bind("bind", word, maps=maps)


@pytest.mark.parametrize(
    "entry",
    [
        {"options": ["idmap"]},
        {"options": ["ridmap"]},
        {"uidMappings": ID_MAP, "gidMappings": ID_MAP},
    ],
)
def test_only_a_binds_owners_can_be_mapped(entry: Any) -> None:
    whole: Any = {"destination": "/m", "type": "tmpfs", **entry}
    with pytest.raises(InvalidInput, match=r"^mount /m: only a bind can have its owners mapped$"):
        steps(whole, MAPS)


def test_lines_of_a_map() -> None:
    assert mounts.id_map([]) == ""
    entries: Any = [
        {"containerID": 0, "hostID": 100000, "size": 65536},
        {"containerID": 65536, "hostID": 1, "size": 1},
    ]
    assert mounts.id_map(entries) == "0 100000 65536\n65536 1 1\n"


# ------------------------------------------------------------------------------------- file systems


def test_a_file_system() -> None:
    found = step("nosuid", "size=1m", "ro", type="tmpfs", source="shm")
    assert found == Step("mount", "tmpfs", "shm", "/m", ATTR_NOSUID | ATTR_RDONLY, ("size=1m",), 0)
    assert found.text == "mount tmpfs on /m (nosuid, size=1m, ro)"


def test_a_file_system_without_a_source_is_called_after_its_type() -> None:
    assert step(type="proc") == Step("mount", "proc", "proc", "/m", 0, (), 0)
    assert step(type="proc", source="") == step(type="proc")
    assert step(type="proc").text == "mount proc on /m"


def test_nothing_is_below_a_new_file_system() -> None:
    assert step("ro", "rrw", "rnosuid", type="tmpfs").args[3] == ATTR_NOSUID
    assert step("noatime", "rstrictatime", type="tmpfs").args[3] == 0x20


@pytest.mark.parametrize(("word", "flag"), [*PROPAGATION.items()])
def test_propagation_of_a_file_system(word: str, flag: int) -> None:
    assert step(word, type="tmpfs").args[5] == flag


@pytest.mark.parametrize("source", ["cgroup", "cgroup2", ""])
def test_cgroup_is_the_second_version(source: str) -> None:
    found = step(type="cgroup", source=source, destination="/sys/fs/cgroup")
    assert found.args[:3] == ("cgroup2", source or "cgroup2", "/sys/fs/cgroup")


def test_words_of_the_file_system_keep_their_order() -> None:
    assert step("b=2", "ro", "a=1", "flag", type="tmpfs").args[4] == ("b=2", "a=1", "flag")


# ------------------------------------------------------------------------------------------ copy up


def test_a_tmpfs_that_begins_with_what_it_covers() -> None:
    found = step("tmpcopyup", "size=1m", "ro", "mode=700", "rnoexec", type="tmpfs", source="x")
    handle = Handle("copy_up", "/m", ("size=1m", "mode=700"))
    assert found == Step("bind", handle, "/m", ATTR_RDONLY | ATTR_NOEXEC, 0, 0, 0, 0)
    assert found.text == "mount tmpfs on /m (tmpcopyup, size=1m, ro, mode=700, rnoexec)"


def test_propagation_of_a_tmpfs_that_was_filled() -> None:
    assert step("tmpcopyup", "rshared", type="tmpfs").args[6] == MS_SHARED | MS_REC


@pytest.mark.parametrize("kind", ["proc", "ramfs", "overlay"])
def test_only_a_tmpfs_can_begin_with_what_it_covers(kind: str) -> None:
    with pytest.raises(InvalidInput, match=r"^mount /m: tmpcopyup is for a tmpfs$"):
        step("tmpcopyup", type=kind)


# ------------------------------------------------------------------------------------------ remount


@pytest.mark.parametrize("entry", [{"type": "tmpfs"}, {"type": "bind", "source": "/h"}, {}])
def test_a_remount_changes_what_is_there(entry: Any) -> None:
    found = step("remount", "ro", "exec", "nosuid", **entry)
    assert found == Step("attributes", "/m", ATTR_RDONLY | ATTR_NOSUID, ATTR_NOEXEC, 0)
    assert found.text == "change mount /m (remount, ro, exec, nosuid)"


def test_a_remount_for_all_below_holds_for_the_mount() -> None:
    assert step("remount", "bind", "rro", type="bind").args == ("/m", ATTR_RDONLY, 0, 0)


def test_a_remount_changes_the_file_system_too() -> None:
    options = ["remount", "size=64k", "ro", "mode=700"]
    found = steps({"destination": "/m", "type": "tmpfs", "options": options})
    assert found == [
        Step("attributes", "/m", ATTR_RDONLY, 0, 0),
        Step("reconfigure", "/m", ("size=64k", "mode=700")),
    ]
    text = "change mount /m (remount, size=64k, ro, mode=700)"
    assert [step.text for step in found] == [text, text]


def test_a_remount_of_a_bind_leaves_the_file_system_as_it_is() -> None:
    assert step("remount", "bind", "ro", "sync") == Step("attributes", "/m", ATTR_RDONLY, 0, 0)


@pytest.mark.parametrize("word", ["size=64k", "nonsense", ""])
def test_a_word_that_a_remount_of_a_bind_does_not_know(word: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^mount /m: unknown option '{word}' for a bind$"):
        step("remount", "ro", word, type="bind")


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["idmap"], {}),
        (["ridmap"], {}),
        (["tmpcopyup"], {}),
        ([], {"uidMappings": ID_MAP, "gidMappings": ID_MAP}),
    ],
)
def test_what_a_remount_cannot_change_is_refused(kind: str, words: list[str], more: Any) -> None:
    whole: Any = {"destination": "/m", "type": kind, "options": ["remount", "ro", *words], **more}
    with pytest.raises(InvalidInput, match=r"^mount /m: what is mounted already cannot be"):
        steps(whole, MAPS)


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
@pytest.mark.parametrize(("word", "flag"), [*PROPAGATION.items()])
def test_a_remount_changes_the_propagation(kind: str, word: str, flag: int) -> None:
    """Left as it is where it is not said: never the default of a bind."""
    assert step("remount", word, type=kind) == Step("attributes", "/m", 0, 0, flag)
    assert step("remount", type=kind).args[3] == 0


def test_a_remount_tells_the_file_system_of_its_flags() -> None:
    found = steps({"destination": "/m", "type": "tmpfs", "options": ["remount", "sync"]})
    assert found[1:] == [Step("reconfigure", "/m", ("sync",))]


# ------------------------------------------------------------------------------------------ devices

STANDARD = {
    "/dev/null": (1, 3), "/dev/zero": (1, 5), "/dev/full": (1, 7),
    "/dev/random": (1, 8), "/dev/urandom": (1, 9), "/dev/tty": (5, 0),
}  # fmt: skip


def devices(*entries: Any, shown: bool = False) -> list[Step]:
    return mounts.devices(entries, shown=shown)


def test_the_standard_devices_are_the_hosts() -> None:
    """config-linux.md, "Default Devices"."""
    made = [found for found in devices() if found.name == "node"]
    assert made == [
        Step("node", path, 0o20666, os.makedev(*number), 0, 0) for path, number in STANDARD.items()
    ]
    for path, number in STANDARD.items():
        if os.path.exists(path):
            assert os.stat(path).st_rdev == os.makedev(*number), path


def test_the_standard_links() -> None:
    """runtime-linux.md, "Dev symbolic links"; and what programs expect beside them."""
    links = {str(found.args[1]): found.args[0] for found in devices() if found.name == "symlink"}
    assert links == {
        "/dev/fd": "/proc/self/fd",
        "/dev/stdin": "/proc/self/fd/0",
        "/dev/stdout": "/proc/self/fd/1",
        "/dev/stderr": "/proc/self/fd/2",
        "/dev/core": "/proc/kcore",
        "/dev/ptmx": "pts/ptmx",
    }


@pytest.mark.parametrize(
    ("kind", "bits"),
    [("c", stat.S_IFCHR), ("u", stat.S_IFCHR), ("b", stat.S_IFBLK), ("p", stat.S_IFIFO)],
)
def test_kinds_of_devices(kind: str, bits: int) -> None:
    found = devices({"path": "/dev/x", "type": kind, "major": 300, "minor": 70000})[6]
    assert found == Step("node", "/dev/x", bits | 0o666, os.makedev(300, 70000), 0, 0)
    assert found.text == f"make device /dev/x ({kind} 300:70000)"


def test_mode_and_owner_of_a_device() -> None:
    entry = {"path": "/dev/x", "type": "c", "major": 1, "minor": 2, "fileMode": 0o640}
    found = devices({**entry, "uid": 5, "gid": 6})[6]
    assert found.args == ("/dev/x", 0o20640, os.makedev(1, 2), 5, 6)
    # Some managers leave the bits of the type in, and not always the right ones.
    assert devices({**entry, "fileMode": 0o60640})[6].args[1] == 0o20640
    assert devices({**entry, "fileMode": 0})[6].args[1] == 0o20000


def test_devices_that_are_asked_for_come_between_nodes_and_links() -> None:
    found = devices({"path": "/dev/p", "type": "p"}, {"path": "/dev/q", "type": "p"})
    assert [step.name for step in found] == ["node"] * 8 + ["symlink"] * 6
    assert [step.args[0] for step in found[6:8]] == ["/dev/p", "/dev/q"]


def test_in_a_user_namespace_the_hosts_nodes_are_shown() -> None:
    found = devices({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}, shown=True)
    assert found[:7] == [
        Step("bind", Handle("branch", path), path, 0, 0, 0, 0, MS_PRIVATE)
        for path in (*STANDARD, "/dev/fuse")
    ]
    assert [step.name for step in found[7:]] == ["symlink"] * 6
    assert found[0].text == "show the host's /dev/null"


def test_in_a_user_namespace_a_fifo_is_made() -> None:
    """Mknod(2) refuses devices there, and nothing else."""
    found = devices({"path": "/dev/p", "type": "p"}, shown=True)[6]
    assert found == Step("node", "/dev/p", 0o10666, 0, 0, 0)
