"""Recipes, packing, committing and finding images, with small recipes of our own."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycontain.errors import DigestMismatch, ImageError, InvalidInput, NotFound, StoreError
from pycontain.image import recipes
from pycontain.image.commit import pack
from pycontain.image.documents import MANIFEST, digest_of
from pycontain.image.index import REF_NAME, named
from pycontain.image.store import ImageStore
from pycontain.store import files
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPT = """set -eu
echo "variant $2"
cd "$1"
mkdir bin etc
echo "$2 $SOURCE_DATE_EPOCH" >etc/what
echo program >bin/a
ln bin/a bin/b
ln -s a bin/c
"""


class Store:
    """A store in a folder, with recipes that a test can change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipes = folder / "recipes"
        self.layout = Layout(str(folder / "root"), str(folder / "state"))
        self.layout.prepare()
        self.images = ImageStore(self.layout, str(self.recipes), in_use=tuple)
        self.recipe("base", SCRIPT, {"latest": "two", "2": "two", "1": "one"})

    def recipe(self, name: str, script: str, tags: dict[str, str]) -> None:
        (self.recipes / name).mkdir(parents=True, exist_ok=True)
        (self.recipes / name / "build").write_text(script)
        document = {"config": {"Cmd": ["sh"], "Env": ["A=b"], "Later": [1]}, "tags": tags}
        (self.recipes / name / "config.json").write_text(json.dumps(document))

    def index(self) -> Path:
        return Path(self.layout.images) / "index.json"

    def blobs(self) -> set[str]:
        return set(os.listdir(Path(self.layout.images) / "blobs" / "sha256"))

    def blob(self, digest: str) -> Path:
        return Path(self.layout.images) / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def layers(self) -> set[str]:
        return set(os.listdir(self.layout.layers))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_an_image_is_built_on_first_use_and_found_afterwards(store: Store) -> None:
    lines: list[str] = []
    image = store.images.ensure("base", lines.append)
    assert "variant two" in lines
    assert image.names == ("base:latest", "base:2")
    assert image.config.cmd == ["sh"]
    assert image.created == recipes.DEFAULT_EPOCH * 10**9
    assert image.os == "linux"
    again: list[str] = []
    assert store.images.ensure("docker.io/library/base:2", again.append) == image
    assert again == []
    assert store.images.list() == (image,)
    assert os.listdir(store.layout.work) == []


def test_each_variant_is_an_image_of_its_own(store: Store) -> None:
    two, one = store.images.ensure("base"), store.images.ensure("base:1")
    assert one.id != two.id
    assert [image.names for image in store.images.list()] == [two.names, one.names]


def test_what_is_stored_is_an_oci_layout_whose_digests_are_true(store: Store) -> None:
    image = store.images.ensure("base")
    assert json.loads((store.index().parent / "oci-layout").read_text()) == {
        "imageLayoutVersion": "1.0.0"
    }
    for item in json.loads(store.index().read_text())["manifests"]:
        assert item["mediaType"] == MANIFEST
        manifest = json.loads(store.blob(item["digest"]).read_bytes())
        for descriptor in (item, manifest["config"], *manifest["layers"]):
            data = store.blob(descriptor["digest"]).read_bytes()
            assert len(data) == descriptor["size"]
            assert digest_of(data) == descriptor["digest"]
        document = json.loads(store.blob(image.id).read_bytes())
        assert document["config"]["Later"] == [1]
        assert document["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
        assert "user" not in json.dumps(document).lower()
    assert image.size == store.blob(image.diff_ids[0]).stat().st_size


def test_the_layer_folder_is_what_the_tar_says(store: Store) -> None:
    image = store.images.ensure("base")
    folder = Path(store.layout.layer(image.diff_ids[0]))
    assert folder.stat().st_mode & 0o7777 == 0o755
    with tarfile.open(store.blob(image.diff_ids[0])) as tar:
        entries = {entry.name: entry for entry in tar}
    assert list(entries) == ["bin", "bin/a", "bin/b", "bin/c", "etc", "etc/what"]
    assert entries["bin/b"].islnk()
    assert entries["bin/c"].linkname == "a"
    for name, entry in entries.items():
        assert (entry.uname, entry.gname, entry.uid, entry.gid) == ("", "", 0, 0)
        if not entry.islnk():
            assert (folder / name).lstat().st_mtime == entry.mtime <= recipes.DEFAULT_EPOCH
    assert (folder / "bin" / "a").stat().st_nlink == 2


def test_same_input_same_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    one = Store(tmp_path / "a").images.ensure("base")
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert Store(tmp_path / "b").images.ensure("base").digest == one.digest
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    other = Store(tmp_path / "c").images.ensure("base")
    assert other.digest != one.digest
    assert other.created == 10**18


def test_source_date_epoch_must_be_a_number(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ImageError, match="SOURCE_DATE_EPOCH: 'yesterday'"):
        store.images.ensure("base")


def test_images_are_found_by_name_and_by_id(store: Store) -> None:
    image = store.images.ensure("base")
    digits = image.id.removeprefix("sha256:")
    for name in ("base", "base:2", image.id, digits, digits[:6], f"sha256:{digits[:2]}"):
        assert store.images.resolve(name) == image, name
        assert store.images.ensure(name) == image, name
    assert store.images.resolve(f"base@{image.digest}") == image


@pytest.mark.parametrize(
    "name",
    [
        "other",
        "base:9",
        "sha256:0000000000",
        "sha256:",
        "sha256:xyz",
        "0" * 64,
        "base@sha256:" + "0" * 64,
        "reg.io/base",
    ],
)
def test_what_is_not_there_is_told_with_what_could_be_built(name: str, store: Store) -> None:
    store.images.ensure("base")
    with pytest.raises(NotFound, match="no such image"):
        store.images.resolve(name)
    with pytest.raises(NotFound, match="no such image") as caught:
        store.images.ensure(name)
    assert "base:latest base:2 base:1" in str(caught.value.hint)


def test_the_digest_of_another_repository_does_not_count(store: Store) -> None:
    store.recipe("other", SCRIPT + "touch x", {"latest": ""})
    image = store.images.ensure("other")
    with pytest.raises(NotFound):
        store.images.resolve(f"base@{image.digest}")


def test_an_ambiguous_id_is_refused(store: Store) -> None:
    starts: dict[str, int] = {}
    number = 0
    while max(starts.values(), default=0) < 2:
        number += 1
        store.recipe("base", SCRIPT, {f"t{number}": f"v{number}"})
        digits = store.images.ensure(f"base:t{number}").id[7:8]
        starts[digits] = starts.get(digits, 0) + 1
    start = next(digits for digits, count in starts.items() if count == 2)
    with pytest.raises(InvalidInput, match="2 ids start with it"):
        store.images.resolve(f"sha256:{start}")


def test_a_bad_reference_is_no_missing_image(store: Store) -> None:
    with pytest.raises(InvalidInput, match="lower case"):
        store.images.ensure("Base")


def test_a_failed_recipe_is_told_and_undone(store: Store) -> None:
    store.recipe("bad", 'echo one\necho "no mirror" >&2\nexit 3', {"latest": ""})
    with pytest.raises(ImageError, match="build bad:latest: exit code 3: no mirror") as caught:
        store.images.ensure("bad")
    assert caught.value.hint == "one\nno mirror"
    assert os.listdir(store.layout.work) == []
    assert store.images.list() == ()


def test_a_recipe_sees_a_clean_environment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("http_proxy", "http://proxy")
    monkeypatch.setenv("PATH", "/nowhere:" + os.environ["PATH"])
    store.recipe(
        "env", "umask; pwd; env; readlink /proc/self/fd/0; ls /proc/self/fd", {"latest": ""}
    )
    lines: list[str] = []
    old = os.umask(0o077)
    try:
        store.images.ensure("env", lines.append)
    finally:
        os.umask(old)
    assert lines[1:3] == ["0022", "/"]
    assert "http_proxy=http://proxy" in lines
    assert "/dev/null" in lines
    assert not [line for line in lines if "SECRET" in line or "nowhere" in line]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_build_ends_its_processes_and_is_undone(
    error: type[BaseException], store: Store
) -> None:
    store.recipe("slow", 'echo "pid $$"; sleep 600 & echo "pid $!"; wait', {"latest": ""})
    pids: list[int] = []

    def interrupt(line: str) -> None:
        if line.startswith("pid "):
            pids.append(int(line[4:]))
        if len(pids) == 2:
            raise error

    with pytest.raises(error):
        store.images.ensure("slow", interrupt)
    assert os.listdir(store.layout.work) == []
    # A process that was killed closes its files, which is what is waited for, before it has ended.
    end = time.monotonic() + 30
    while any(map(_runs, pids)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not [pid for pid in pids if _runs(pid)]
    assert files.Lock(store.layout.build_lock).acquire(wait=False)


def _runs(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_two_processes_build_once(store: Store) -> None:
    store.recipe("slow", f"echo x >>{store.folder}/builds\nsleep 0.3\ntouch $1/x", {"latest": ""})
    code = (
        "import sys; from pycontain.store.layout import Layout;"
        "from pycontain.image.store import ImageStore;"
        "print(ImageStore(Layout(*sys.argv[1:3]), sys.argv[3]).ensure('slow').id)"
    )
    argv = [sys.executable, "-c", code, store.layout.root, store.layout.state, str(store.recipes)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    children = [subprocess.Popen(argv, stdout=subprocess.PIPE, env=env) for _ in range(3)]
    ids = {child.communicate(timeout=60)[0] for child in children}
    assert len(ids) == 1
    assert (store.folder / "builds").read_text() == "x\n"
    assert len(store.images.list()) == 1


def _die_at(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Let the `number`-th call of os.`name` end this process as kill -9 does."""
    real: Callable[..., object] = getattr(os, name)
    calls = 0

    def call(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("call", ["mkdir", "rename", "unlink", "rmdir"])
def test_a_kill_at_any_step_leaves_a_store_that_the_next_run_cleans(
    call: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store.images.ensure("base:1")
    blobs, layers = store.blobs(), store.layers()
    for number in range(1, 40):
        store.recipe("base", SCRIPT + f"echo {number} >x", {"latest": "two", "1": "one"})
        pid = os.fork()
        if pid == 0:
            with monkeypatch.context() as patch:
                _die_at(patch, call, number)
                try:
                    store.images.ensure("base")
                finally:
                    os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            break
        for image in store.images.list():
            assert store.images.ensure(image.id) == image
        if len(store.images.list()) == 1:
            assert store.images.collect() is not None
            assert (store.blobs(), store.layers()) == (blobs, layers)
        else:
            # the kill came after the commit: take the image out again
            assert store.images.collect() is not None
            blobs, layers = store.blobs(), store.layers()
            _rename(store, "base:latest", f"old:{number}")
        assert os.listdir(store.layout.work) == []
    else:
        pytest.fail("never came to the end")
    assert number > 1
    assert store.images.resolve("base:1") == kept


def _rename(store: Store, old: str, new: str) -> None:
    store.index().write_text(store.index().read_text().replace(f'"{old}"', f'"{new}"'))


def test_a_killed_builders_script_keeps_the_lock(store: Store) -> None:
    waits = f"until [ -e {store.folder}/go ]; do sleep 0.05; done"
    store.recipe("slow", f"touch {store.folder}/started; {waits}; touch $1/x", {"latest": ""})
    pid = os.fork()
    if pid == 0:
        try:
            store.images.ensure("slow")
        finally:
            os._exit(1)
    while not (store.folder / "started").exists():
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not files.Lock(store.layout.build_lock).acquire(wait=False)
    lines: list[str] = []

    def hear(line: str) -> None:
        lines.append(line)
        (store.folder / "go").touch()

    store.images.ensure("slow", hear)
    assert lines[0] == "waiting for another build"
    assert os.listdir(store.layout.work) == []


def test_a_missing_layer_folder_is_told(store: Store) -> None:
    image = store.images.ensure("base")
    files.remove_tree(store.layout.layer(image.diff_ids[0]))
    with pytest.raises(ImageError, match="not unpacked"):
        store.images.ensure("base")
    assert store.images.resolve("base") == image


def test_damaged_documents_are_named(store: Store) -> None:
    image = store.images.ensure("base")
    config = store.blob(image.id)
    whole = config.read_bytes()
    config.write_bytes(whole[:-1])
    with pytest.raises(DigestMismatch, match="bytes long instead of"):
        store.images.resolve("base")
    config.write_bytes(b"x" * len(whole))
    with pytest.raises(StoreError, match="damaged"):
        store.images.resolve("base")
    config.unlink()
    with pytest.raises(StoreError, match="no such file"):
        store.images.list()
    store.index().write_text("{")
    with pytest.raises(StoreError, match=r"index\.json: damaged"):
        store.images.list()


def test_a_digest_never_names_a_path(store: Store) -> None:
    image = store.images.ensure("base")
    text = store.index().read_text().replace(image.digest, "sha256:../../../../etc/passwd")
    store.index().write_text(text)
    with pytest.raises(ImageError, match="not a sha256 digest"):
        store.images.list()


def test_what_others_put_into_the_index_is_kept(store: Store) -> None:
    store.images.ensure("base:1")
    index = json.loads(store.index().read_text())
    foreign = {"mediaType": "application/x", "digest": "sha256:00", "size": 1, "urls": ["u"]}
    index["manifests"].append(foreign)
    index["annotations"] = {"a": "b"}
    store.index().write_text(json.dumps(index))
    store.images.ensure("base")
    index = json.loads(store.index().read_text())
    assert foreign in index["manifests"]
    assert index["annotations"] == {"a": "b"}
    assert len(store.images.list()) == 2


def test_renamed_takes_names_over_and_keeps_the_nameless_once() -> None:
    def item(digest: str, name: str | None, **more: object) -> dict[str, object]:
        annotations: dict[str, object] = {"annotations": {REF_NAME: name}} if name else {}
        return {"digest": digest, **annotations, **more}

    old = [item("a", "n:1", extra=1), item("a", "n:2"), item("b", "other"), item("c", None)]
    after = named(old, {"digest": "d", "size": 3}, ["n:1"])
    assert after[:-1] == [item("a", "n:2"), item("b", "other"), item("c", None)]
    assert after[-1] == item("d", "n:1", size=3)
    after = named(after, {"digest": "e"}, ["n:1", "n:2"])
    assert after == [
        item("b", "other"), item("c", None), item("a", None), item("d", None, size=3),
        item("e", "n:1"), item("e", "n:2"),
    ]  # fmt: skip
    assert named(after, {"digest": "a"}, []) == after
    assert named(after, {"digest": "f"}, []) == [*after, {"digest": "f"}]
    assert named(after, {"digest": "a"}, ["other"]) == [*after[1:2], *after[3:], item("b", None),
                                                        item("a", "other")]  # fmt: skip


def test_an_image_that_lost_its_name_is_still_found_by_id(store: Store) -> None:
    old = store.images.ensure("base")
    other = store.images.ensure("base:1")
    for name in old.names:
        store.images.tag(other, name)
    found = store.images.resolve(old.id)
    assert found.names == ()
    assert found.diff_ids == old.diff_ids
    assert store.images.resolve("base").names == ("base:1", "base:latest", "base:2")
    store.images.forget(other, ["base:1", "base:latest", "base:2"])
    assert store.images.resolve(other.id).names == ()


def test_pack_keeps_odd_names_and_modes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    odd = os.fsdecode(b"\xff\nname")
    (tree / odd).write_bytes(b"x")
    (tree / ("long" * 60)).mkdir()
    (tree / "suid").touch()
    (tree / "suid").chmod(0o4711)
    os.mkfifo(tree / "fifo", 0o600)
    (tree / "sparse").touch()
    os.truncate(tree / "sparse", 100_000)
    os.utime(tree / "suid", (-5, -5))
    blob = pack(str(tree), str(tmp_path / "tar"), 100)
    assert blob.size == (tmp_path / "tar").stat().st_size
    with tarfile.open(tmp_path / "tar") as tar:
        entries = {entry.name: entry for entry in tar}
    assert entries.keys() == {odd, "long" * 60, "suid", "fifo", "sparse"}
    assert entries["suid"].mode == 0o4711
    assert entries["suid"].mtime == 0
    assert entries["fifo"].isfifo()
    assert entries["sparse"].size == 100_000


def test_pack_keeps_extended_attributes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").touch()
    try:
        os.setxattr(tree / "file", "user.a", b"\x00\xffb")
    except OSError as err:
        pytest.skip(f"no extended attributes here: {err}")
    os.setxattr(tree / "file", "user.overlay.opaque", b"y")
    pack(str(tree), str(tmp_path / "tar"), 100)
    with tarfile.open(tmp_path / "tar") as tar:
        headers = tar.getmember("file").pax_headers
    assert headers["SCHILY.xattr.user.a"].encode("utf-8", "surrogateescape") == b"\x00\xffb"
    assert "SCHILY.xattr.user.overlay.opaque" not in headers


def test_pack_refuses_sockets(tmp_path: Path) -> None:
    import socket

    (tmp_path / "tree").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "tree" / "s"))
    with pytest.raises(ImageError, match="a socket cannot be in a layer"):
        pack(str(tmp_path / "tree"), str(tmp_path / "tar"), 100)


def test_the_built_in_recipes_are_whole() -> None:
    folder = recipes.recipes_folder()
    assert recipes.names() == ["busybox", "debian", "nginx", "postgres", "python", "redis"]
    for name in recipes.names():
        recipe = recipes.load(name)
        assert "latest" in recipe.tags
        assert recipe.config.get("Cmd") or recipe.config["Entrypoint"]
        assert os.access(f"{folder}/{name}/build", os.X_OK)
        subprocess.run(["/bin/sh", "-n", f"{folder}/{name}/build"], check=True)
    assert "debian:bookworm" in recipes.offers()


def test_finding_an_image_does_not_import_what_only_building_needs() -> None:
    code = (
        "import sys, pycontain.image.store;"
        "print({'tarfile', 'subprocess', 'shutil', 'hashlib', 'pathlib'} & set(sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout == "set()\n"
