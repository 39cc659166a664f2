"""Volumes: names, options, documents, copies; no root, no mounts."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.engine import new_mounts, records
from pycontain.engine.volume_mounts import mounts_of
from pycontain.engine.volumes import Users, Volumes
from pycontain.errors import Conflict, InvalidInput, NotFound, PycontainError, StoreError
from pycontain.kernel.copy import copy_up
from pycontain.kernel.process import boot_id
from pycontain.model.container import Container, ImageConfig, Mount, RunOptions
from pycontain.model.parse.mounts import (
    parse_mount,
    parse_volume,
    parse_volumes_from,
    split_volumes_from,
    volume_name_fault,
)
from pycontain.runtime import spec
from pycontain.store import files
from pycontain.store.layout import Layout
from pycontain.volume.store import VolumeStore, check_options, new_volume

if TYPE_CHECKING:
    from typing import Any

    from pycontain.image.store import Image


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    layout.prepare()
    return layout


@pytest.fixture
def volumes(layout: Layout) -> Volumes:
    return Volumes(layout)


def container(identity: str, *mounts: Mount, old: bool = False, **more: Any) -> Container:
    return Container(
        id=identity * 64, name=f"name-{identity}", created=1, image_id="sha256:0", layers=(),
        options=RunOptions(image="busybox", mounts=mounts, **more), config=ImageConfig(),
        command=("true",), stop_signal=15, stop_timeout=10, mounts=None if old else mounts,
    )  # fmt: skip


def write(layout: Layout, made: Container) -> Container:
    paths = layout.container(made.id)
    files.make_folder(paths.folder)
    files.write_atomic(paths.document, files.dump(made))
    return made


def named(name: str, target: str = "/data", **more: Any) -> Mount:
    return Mount(type="volume", source=name, target=target, **more)


# ---- names and options ----


@pytest.mark.parametrize("name", ["a", "", ".a", "_a", "-a", "a/b", "a b", "ä1", "a\0b", "x" * 201])
def test_bad_names(volumes: Volumes, name: str) -> None:
    with pytest.raises(NotFound, match="no such volume"):
        volumes.get(name)
    if name:
        with pytest.raises(InvalidInput):
            volumes.create(name)
    assert list(volumes.list()) == []


@given(st.text(max_size=30))
def test_a_good_name_is_one_file_name(name: str) -> None:
    if not volume_name_fault(name):
        assert name not in (".", "..")
        assert not name.startswith(".")
        assert "/" not in name
        assert "\0" not in name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"foo": "1"}, 'invalid option: "foo"'),
        ({"type": "tmpfs"}, 'missing required option: "device"'),
        ({"device": "/x"}, 'missing required option: "type"'),
        ({"o": "bind"}, "missing required option"),
        ({"size": "1g"}, "quotas"),
    ],
)
def test_bad_options(options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_options(options)


def test_another_driver(volumes: Volumes) -> None:
    with pytest.raises(InvalidInput, match="nfs"):
        volumes.create("data", driver="nfs")


# ---- the store ----


def test_a_volume_is_made_once(volumes: Volumes, layout: Layout) -> None:
    first = volumes.create("data", labels={"team": "a"}, options={})
    assert volumes.create("data", labels={"team": "b"}) == first
    assert volumes.get("data").labels == {"team": "a"}
    assert stat.S_IMODE(os.stat(layout.volume("data").data).st_mode) == 0o755
    assert stat.S_IMODE(os.stat(layout.volumes).st_mode) == 0o700


def test_many_who_make_one_get_the_same(volumes: Volumes) -> None:
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(volumes.create("data"))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(map(repr, found))) == 1


def test_an_anonymous_one_has_a_long_name(volumes: Volumes) -> None:
    made = volumes.create()
    assert records.is_id(made.name)
    assert made.anonymous


def test_half_made_and_half_removed_ones_are_swept(volumes: Volumes, layout: Layout) -> None:
    volumes.create("data")
    gone = 2**22 + 1  # above every pid (proc_sys_kernel(5), pid_max)
    for name in (f".new-{gone}-x", ".removed-y"):
        os.makedirs(f"{layout.volumes}/{name}/data/deep")
    os.makedirs(f"{layout.volumes}/.new-{os.getpid()}-z")
    assert [volume.name for volume in volumes.list()] == ["data"]
    assert sorted(os.listdir(layout.volumes)) == [f".new-{os.getpid()}-z", "data"]


def test_a_removal_finishes_the_one_that_was_killed(volumes: Volumes, layout: Layout) -> None:
    os.makedirs(f"{layout.volumes}/.removed-y/data/deep")
    with pytest.raises(NotFound):
        volumes.remove("y")
    assert os.listdir(layout.volumes) == []


def test_a_damaged_one_hides_no_other(volumes: Volumes, layout: Layout) -> None:
    volumes.create("bad")
    volumes.create("good")
    Path(layout.volume("bad").document).write_text("{")
    problems: list[Any] = []
    assert [volume.name for volume in volumes.list(problems)] == ["good"]
    assert "damaged" in str(problems[0])
    with pytest.raises(StoreError):
        volumes.remove("bad")
    volumes.remove("bad", force=True)
    assert VolumeStore(layout).names() == ["good"]


# ---- use ----


def test_one_in_use_stays(volumes: Volumes, layout: Layout) -> None:
    volumes.create("data")
    user = write(layout, container("a", named("data")))
    with pytest.raises(Conflict, match=rf"remove data: volume is in use - \[{user.id}\]"):
        volumes.remove("data", force=True)
    assert volumes.prune(every=True)[0] == []
    files.remove_tree(layout.container(user.id).folder)
    volumes.remove("data")
    assert not volumes.exists("data")
    assert not os.path.exists(layout.volume("data").lock)


def test_removing_what_is_not_there(volumes: Volumes) -> None:
    with pytest.raises(NotFound, match="no such volume: data"):
        volumes.remove("data")
    volumes.remove("data", force=True)


def test_a_damaged_container_keeps_all(volumes: Volumes, layout: Layout) -> None:
    """Nobody knows what it uses."""
    volumes.create("data")
    made = write(layout, container("a"))
    Path(layout.container(made.id).document).write_text("{")
    for act in (lambda: volumes.remove("data", force=True), lambda: volumes.prune(every=True)):
        with pytest.raises(StoreError):
            act()
    volumes.release(["data"])
    assert volumes.exists("data")
    problems: list[Any] = []
    assert [use.volume.name for use in volumes.usage(problems)] == ["data"]
    assert len(problems) == 1


def test_prune(volumes: Volumes, layout: Layout) -> None:
    volumes.create("named", labels={"keep": "no"})
    volumes.create("other")
    nobody = volumes.create().name
    used = volumes.create().name
    write(layout, container("a", named(used, anonymous=True)))
    Path(f"{layout.volume(nobody).data}/file").write_bytes(b"x" * 1000)
    assert volumes.prune() == ([nobody], 1000)
    removed, _ = volumes.prune(every=True, accept=lambda volume: "keep" in volume.labels)
    assert removed == ["named"]
    assert volumes.prune(every=True)[0] == ["other"]
    assert [volume.name for volume in volumes.list()] == [used]


def test_one_that_died_with_its_boot(volumes: Volumes, layout: Layout) -> None:
    store = VolumeStore(layout)
    for name, boot in {"old": "another boot", "kept": "another boot", "new": boot_id()}.items():
        made = new_volume(name, anonymous=True, volatile=True)
        assert made.boot == boot_id()
        store.make(type(made)(name=name, created=1, anonymous=True, boot=boot))
    write(layout, container("a", named("kept", anonymous=True)))
    assert [volume.name for volume in volumes.list()] == ["kept", "new"]
    assert store.names() == ["kept", "new"]


def test_one_that_died_with_its_boot_is_not_read(volumes: Volumes, layout: Layout) -> None:
    """Nothing of it is synced: after a power cut its document may be empty."""
    store = VolumeStore(layout)
    made = new_volume("made", anonymous=True, volatile=True)
    for name, boot in {"old": "another boot", "used": "another boot", "new": boot_id()}.items():
        store.make(type(made)(name=name, created=1, anonymous=True, boot=boot))
        Path(layout.volume(name).document).write_bytes(b"")
    write(layout, container("a", named("used", anonymous=True)))
    problems: list[PycontainError] = []
    assert [volume.name for volume in volumes.list(problems)] == ["used"]
    assert store.names() == ["new", "used"]
    assert ["volumes/new" in str(err) for err in problems] == [True]


def test_users_are_looked_up_anew(layout: Layout) -> None:
    users = Users(layout)
    assert users.of("data") == []
    made = write(layout, container("a", named("data")))
    assert users.of("data") == [made.id]
    files.remove_tree(layout.container(made.id).folder)
    assert users.of("data") == []


def test_what_goes_with_a_container_is_noted(layout: Layout) -> None:
    made = write(layout, container("a", named("anon", anonymous=True), named("data", "/b")))
    paths = layout.container(made.id)
    records.note_release(paths, made)
    assert records.to_release(paths.folder) == ["anon"]
    assert records.to_release(f"{paths.folder}/nothing") == []


# ---- a new container's mounts ----


def planned(
    options: RunOptions, config: ImageConfig | None = None, *others: Container
) -> new_mounts.NewMounts:
    by_name = {other.name: other for other in others}

    def no_image(name: str) -> Image:
        raise NotFound(name)

    names = iter("xyz")
    return new_mounts.plan(
        options, config or ImageConfig(), by_name.__getitem__, no_image,
        anonymous=lambda: next(names) * 64,
    )  # fmt: skip


def test_anonymous_ones_get_names() -> None:
    options = RunOptions(image="b", mounts=(Mount(type="volume", target="/a"), named("data", "/b")))
    found = planned(options, ImageConfig(volumes={"/c/": {}, "/b": {}})).mounts
    assert {mount.target: (mount.source[:4], mount.anonymous) for mount in found} == {
        "/c": ("xxxx", True), "/a": ("yyyy", True), "/b": ("data", False),
    }  # fmt: skip


def test_volumes_from() -> None:
    first = container(
        "a", Mount(type="bind", source="/host", target="/bind"), named("data", "/data"),
        named("n" * 64, "/anon", anonymous=True), Mount(type="tmpfs", target="/tmp"),
    )  # fmt: skip
    second = container("b", named("other", "/data", options=("rro",)))
    options = RunOptions(
        image="b", volumes_from=("name-a:ro", "name-b"), mounts=(named("mine", "/bind"),)
    )
    found = planned(options, ImageConfig(volumes={"/anon": {}, "/own": {}}), first, second)
    assert {m.target: (m.source[:5], m.options, m.anonymous) for m in found.mounts} == {
        "/data": ("other", ("rro",), False),
        "/anon": ("nnnnn", ("rro",), True),
        "/own": ("xxxxx", (), True),
        "/bind": ("mine", (), False),
    }
    assert found.inherited == {"other", "n" * 64}
    assert all(mount.no_copy for mount in found.mounts if mount.source in found.inherited)


def test_volumes_of_an_earlier_version_are_not_shared() -> None:
    first = container("a", Mount(type="volume", target="/anon"), old=True)
    with pytest.raises(Conflict, match="own folder"):
        planned(RunOptions(image="b", volumes_from=("name-a",)), None, first)


def test_a_container_of_an_earlier_version_has_what_it_asked_for() -> None:
    made = container("a", Mount(type="volume", target="/anon"), old=True)
    assert spec.all_mounts(made) == made.options.mounts


@pytest.mark.parametrize(
    ("word", "mount"),
    [
        ("data:/a", named("data", "/a")),
        ("data:/a:ro,nocopy", named("data", "/a", options=("rro",), no_copy=True)),
        ("data:/a:copy,z", named("data", "/a")),
        ("data:/a:U,noexec", named("data", "/a", options=("noexec",), chown=True)),
        (
            "data:/a:idmap=uids=0-1000-1#1-5-2;gids=0-7-9",
            named("data", "/a", uid_map=((0, 1000, 1), (1, 5, 2)), gid_map=((0, 7, 9),)),
        ),
    ],
)
def test_named_volume_words(word: str, mount: Mount) -> None:
    assert parse_volume(word, "/") == mount


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("d:/a", "too short"),
        ("-x:/a", "invalid characters"),
        ("data:/a:copy,nocopy", "contradicts"),
        ("data:/a:idmap=uids=0-1-1", "go together"),
        ("data:/a:idmap=uids=0-1;gids=0-1-1", "FILE-SEEN-COUNT"),
        ("data:/a:idmap=uids=0-1-0;gids=0-1-1", "beyond"),
        ("data:/a:idmap=uids=0-1-1;uids=0-1-1", "uids="),
    ],
)
def test_named_volume_words_refused(word: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        parse_volume(word, "/")


@pytest.mark.parametrize(
    ("word", "mount"),
    [
        ("src=data,dst=/a", named("data", "/a")),
        ("src=data,dst=/a,ro,volume-nocopy", named("data", "/a", options=("rro",), no_copy=True)),
        ("src=data,dst=/a,volume-subpath=x//y/", named("data", "/a", subpath="x/y")),
        ("src=data,dst=/a,subpath=x", named("data", "/a", subpath="x")),
        (
            'src=data,dst=/a,volume-opt=type=tmpfs,"volume-opt=o=size=1m,mode=700",volume-label=a=b',
            named("data", "/a", driver_options={"type": "tmpfs", "o": "size=1m,mode=700"},
                  labels={"a": "b"}),
        ),
        ("src=data,dst=/a,noexec,suid=false,dev",
         named("data", "/a", options=("noexec", "nosuid", "dev"))),
        ("type=tmpfs,dst=/a,U=true", Mount(type="tmpfs", target="/a", chown=True)),
        ("type=image,src=box,dst=/a,image-subpath=etc",
         Mount(type="image", source="box", target="/a", options=("rro",), subpath="etc")),
    ],
)  # fmt: skip
def test_mount_words(word: str, mount: Mount) -> None:
    assert parse_mount(word, "/") == mount


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("src=data,dst=/a,volume-subpath=../x", r"\.\."),
        ("src=data,dst=/a,volume-subpath=/x", "relative"),
        ("src=data,dst=/a,volume-driver=nfs", "none but local"),
        ("type=bind,src=/x,dst=/a,subpath=x", "does not belong"),
        ("type=bind,src=/x,dst=/a,volume-label=x", "does not belong"),
        ("type=tmpfs,dst=/a,idmap=uids=0-1-1;gids=0-1-1", "does not belong"),
        ("type=image,dst=/a", "needs a source"),
        ("type=image,src=x,dst=/a,readonly=false", "read-only"),
        ("type=image,src=x,dst=/a,U", "does not belong"),
    ],
)
def test_mount_words_refused(word: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        parse_mount(word, "/")


@pytest.mark.parametrize(
    ("word", "found"),
    [("web", ("web", "")), ("web:ro", ("web", "ro")), ("web:z,rw", ("web", "rw"))],
)
def test_volumes_from_words(word: str, found: tuple[str, str]) -> None:
    assert split_volumes_from(parse_volumes_from(word)) == found


@pytest.mark.parametrize("word", ["", ":ro", "web:x", "web:ro:rw"])
def test_volumes_from_words_refused(word: str) -> None:
    with pytest.raises(InvalidInput, match="--volumes-from"):
        parse_volumes_from(word)


# ---- copying ----


@pytest.fixture
def image(tmp_path: Path) -> Path:
    place = tmp_path / "image"
    (place / "data/deep").mkdir(parents=True)
    (place / "data").chmod(0o1770)
    (place / "data/file").write_bytes(b"content")
    (place / "data/file").chmod(0o4711)
    os.setxattr(place / "data/file", "user.mark", b"1")
    os.link(place / "data/file", place / "data/deep/again")
    (place / "data/out").symlink_to("/etc/shadow")
    os.mkfifo(place / "data/pipe", 0o600)
    os.utime(place / "data/file", ns=(10**18, 10**18))
    return place


def copied(image: Path, target: str, copy: Path, *, again: bool = False) -> None:
    root = os.open(image, os.O_PATH)
    folder = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
    try:
        copy_up(root, target, folder, again=again)
    finally:
        os.close(root)
        os.close(folder)


def is_whole(copy: Path) -> bool:
    file = copy / "file"
    return (
        stat.S_IMODE(copy.stat().st_mode) == 0o1770
        and file.read_bytes() == b"content"
        and stat.S_IMODE(file.stat().st_mode) == 0o4711
        and os.getxattr(file, "user.mark") == b"1"
        and file.stat().st_mtime_ns == 10**18
        and file.stat().st_ino == (copy / "deep/again").stat().st_ino
        and str((copy / "out").readlink()) == "/etc/shadow"
        and stat.S_ISFIFO((copy / "pipe").stat().st_mode)
    )


def test_a_copy_has_everything(image: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    copied(image, "/data", copy)
    assert is_whole(copy)


def test_a_copy_that_was_interrupted_is_begun_anew(image: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "deep").mkdir(parents=True)
    (copy / "file").write_bytes(b"cont")
    (copy / "out").symlink_to(tmp_path / "elsewhere")
    copied(image, "/data", copy, again=True)
    assert is_whole(copy)
    assert not (tmp_path / "elsewhere").exists()


def test_no_link_leads_out_of_the_image(image: Path, tmp_path: Path) -> None:
    """CVE-2022-23648: a VOLUME whose path is a link brought the host's files into a volume."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_bytes(b"")
    (image / "evil").symlink_to(secret)
    (image / "up").symlink_to(f"../../../../../../..{secret}")
    copy = tmp_path / "copy"
    copy.mkdir()
    for target in ("/evil", "/up", "/data/../../secret", "/evil/.."):
        copied(image, target, copy)
    assert "key" not in os.listdir(copy)
    assert "secret" not in os.listdir(copy)


def test_mounts_by_device() -> None:
    text = (
        "30 20 0:50 / /a\\040b rw - tmpfs tmpfs rw\n"
        "31 20 0:51 / /other rw - tmpfs tmpfs rw\n"
        "32 20 0:50 /sub /part rw - tmpfs tmpfs rw\n"
        "33 20 0:50 / /c\\134 rw shared:1 - tmpfs tmpfs rw\n"
        "34 20 0:50 / /mapped rw,idmapped - tmpfs tmpfs rw\n"
    )
    assert list(mounts_of(text, "0:50")) == [
        ("/a b", True), ("/part", False), ("/c\\", True), ("/mapped", False),
    ]  # fmt: skip
