"""Images made here: commit and import, beside docker's, killed, hostile, and an ordinary user's."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import io
import json
import os
import random
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from harness import wait_until
from ordinary import User, ordinary_user
from test_kill9 import COMMAND, NAME, Stage, Verb

from pycontain.errors import ImageError, InvalidInput, NotFound, RegistryError
from tests import peers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import CommandLine, Store

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: runs containers"),
]

# What can be done to a tree: every kind of entry, and every mark of overlayfs.
SCRIPT = """
set -e
rm -r /var && mkdir /var && echo new >/var/new
rm /etc/passwd && echo x >>/etc/group && mv /home /house
mkdir -m 1777 /dir && cd /dir
echo one >a && ln a b && chmod 4711 a && ln -s ../etc/group link && mkfifo pipe
mknod null c 1 3 && mknod block b 7 200 && mkdir -p -m 700 deep/er && chown 12:34 deep/er
dd if=/dev/zero of=sparse bs=1 count=1 seek=3000000 2>/dev/null
touch -d '1960-01-02 03:04:05' old && : >empty && rm /bin/vi && mkdir /bin/vi && : >/bin/vi/file
chmod 711 /usr && echo gone >/tmp/gone && rm /tmp/gone
"""


def layer_of(store: Store, name: str) -> bytes:
    """The last layer of an image, as an archive."""
    manifest = json.loads(blob(store, store.engine.images.get(name).digest))
    return gzip.decompress(blob(store, manifest["layers"][-1]["digest"]))


def names_of(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


def blob(store: Store, digest: str) -> bytes:
    return Path(store.layout.images, "blobs", "sha256", digest[7:]).read_bytes()


def document(store: Store, name: str) -> Any:
    return json.loads(blob(store, store.engine.images.get(name).id))


def told(store: Store, *verbs: str) -> list[str]:
    with store.engine.events.read(follow=False) as stream:
        return [event.verb for event in stream if event.verb in verbs]


def entries(data: bytes) -> dict[str, tuple[Any, ...]]:
    """What an archive says, without times, which differ from run to run."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name.rstrip("/"): said(member) for member in tar}


def said(member: tarfile.TarInfo) -> tuple[Any, ...]:
    if ".wh." in member.name:
        return ()  # of a mark only the name counts
    return (
        member.type if not member.issparse() else tarfile.REGTYPE,
        member.mode & 0o7777,  # docker's have the kind, too
        member.uid, member.gid, member.size if member.isreg() else 0, member.linkname,
        (member.devmajor, member.devminor) if member.ischr() or member.isblk() else (),
    )  # fmt: skip


def look(run: Any, image: str) -> str:
    """All files of an image, as a program in it sees them."""
    script = (
        "find / -xdev -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o "
        "-not -path '/etc/host*' -not -path /etc/resolv.conf -not -path /.dockerenv -not -path "
        "/etc/mtab -not -path /etc -not -path / -not -path /dir/old -print0 | sort -z"
        " | xargs -0 stat -c '%n %f %u %g %s %t:%T %Y'; stat -c %h /dir/a; cat /dir/a /var/new"
    )
    done = run("run", "--rm", "--network", "none", image, "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout if isinstance(done.stdout, str) else done.stdout.decode()


def saved_by_docker(path: Path) -> tuple[bytes, Any]:
    """The last layer and the configuration of the image in an archive."""
    with tarfile.open(path) as saved:

        def read(name: str) -> bytes:
            member = saved.extractfile(name)
            assert member is not None
            return member.read()

        (manifest,) = json.loads(read("manifest.json"))
        return read(manifest["Layers"][-1]), json.loads(read(manifest["Config"]))


def test_a_commit_is_docker_s(store: Store, pycontain: CommandLine, tmp_path: Path) -> None:
    """The same commands in the same tree, committed by both; ours is read by docker."""
    if not peers.available("docker", "dockerd", "containerd"):
        pytest.skip("docker is not installed")
    base = blob(store, store.engine.images.get("busybox").diff_ids[0])
    (tmp_path / "base.tar").write_bytes(base)
    words = ["--name", "box", "--network", "none", "-v", "/volume", "--env", "A=b",
             "--label", "l=1", "--workdir", "/tmp", "--user", "0"]  # fmt: skip
    change = ["-c", "ENV B='c d' C=$A", "-c", 'ENTRYPOINT ["env"]', "-c", "EXPOSE 80",
              "-m", "text", "-a", "me"]  # fmt: skip
    assert pycontain("run", *words, "busybox", "sh", "-c", SCRIPT).returncode == 0
    done = pycontain("commit", *change, "box", "made")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == store.engine.images.get("made").id
    with peers.docker(tmp_path / "docker") as docker:
        assert docker("import", str(tmp_path / "base.tar"), "busybox").returncode == 0
        ran = docker("run", *words, "busybox", "sh", "-c", SCRIPT)
        assert ran.returncode == 0, ran.stderr
        ran = docker("commit", *change, "box", "theirs")
        assert ran.returncode == 0, ran.stderr
        assert docker("save", "-o", str(tmp_path / "theirs.tar"), "theirs").returncode == 0
        layer, config = saved_by_docker(tmp_path / "theirs.tar")
        assert entries(layer_of(store, "made")) == entries(layer)
        ours = document(store, "made")
        for name in ("Env", "Cmd", "Entrypoint", "Labels", "ExposedPorts", "WorkingDir", "User",
                     "Volumes"):  # fmt: skip
            ours_said = ours["config"].get(name)
            if name == "Env":  # docker adds PATH where the image has none
                ours_said = [line for line in ours_said if not line.startswith("PATH=")]
            assert (ours_said or None) == (config["config"][name] or None), name
        step = {key: ours["history"][-1].get(key) for key in ("comment", "author", "created_by")}
        assert step == {key: config["history"][-1].get(key) for key in step}
        assert ours["author"] == config["author"]
        # Ours is read by docker, and is the same there.
        assert pycontain("commit", "-c", "CMD sh", "box", "plain").returncode == 0
        assert pycontain("save", "-o", str(tmp_path / "ours.tar"), "plain").returncode == 0
        loaded = docker("load", "-i", str(tmp_path / "ours.tar"))
        assert loaded.returncode == 0, loaded.stderr
        assert look(docker, "plain").splitlines() == look(pycontain, "plain").splitlines()


def test_a_commit_keeps_what_docker_s_loses(store: Store, pycontain: CommandLine) -> None:
    identity = store.create("true").id
    with store.containers.tree(identity) as tree:
        tree.write("/file", b"x")
    path = f"{store.view(identity).paths.upper}/file"
    os.setxattr(path, "user.mine", b"\xff\0=")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(path, "security.capability", capability)
    os.utime(path, ns=(1, 1_234_567_890_987_654_321))
    image = store.containers.commit(identity, "made:1")
    found = f"{store.layout.layer(image.layers[-1])}/file"
    assert os.getxattr(found, "user.mine") == b"\xff\0="
    assert os.getxattr(found, "security.capability") == capability
    assert os.stat(found).st_mtime_ns == 1_234_567_890_987_654_321


def test_nothing_changed_is_no_layer(store: Store) -> None:
    identity = store.create("true").id
    image = store.containers.commit(identity, message="nothing")
    assert image.layers == store.engine.images.get("busybox").layers
    assert image.names == ()
    assert document(store, image.id)["history"][-1]["empty_layer"] is True
    assert store.engine.run(image.id, ["true"]).exit_code == 0


def test_commits_on_commits(store: Store) -> None:
    name = "busybox"
    for number in range(4):
        script = f"echo {number} >/f{number}; rm -r /d; mkdir /d; echo {number} >/d/n; rm -f /f0"
        result = store.engine.start(name, ["sh", "-c", script])
        result.wait()
        name = store.containers.commit(result.id, f"made:{number}").names[0]
        result.close()
    image = store.engine.images.get(name)
    assert len(image.layers) == 5
    assert len(document(store, name)["history"]) == 5
    done = store.engine.run(name, ["sh", "-c", "ls /d /f*; cat /d/n"], check=True)
    assert done.stdout.decode().split() == ["/f1", "/f2", "/f3", "/d:", "n", "3"]


def test_a_running_container_waits(store: Store, pycontain: CommandLine) -> None:
    identity = store.detach()
    before = len(told(store, "pause", "unpause", "commit"))
    assert pycontain("commit", identity).returncode == 0
    assert told(store, "pause", "unpause", "commit")[before:] == ["pause", "unpause", "commit"]
    assert store.state_of(identity) == "running"
    assert pycontain("commit", "--pause=false", identity).returncode == 0
    assert told(store, "pause", "unpause", "commit")[before + 3 :] == ["commit"]
    store.containers.pause(identity)
    assert pycontain("commit", "-p", identity).returncode == 0
    assert store.state_of(identity) == "paused"


def test_a_failed_commit_lets_the_container_go_on(store: Store) -> None:
    identity = store.detach("sh", "-c", ": >/.wh.mark; : >/ready; exec sleep 1000")
    wait_until(lambda: os.path.exists(f"{store.view(identity).paths.upper}/ready"))
    with pytest.raises(ImageError, match=r"/\.wh\.mark"):
        store.containers.commit(identity, "made")
    assert store.state_of(identity) == "running"
    assert not store.engine.images.exists("made")
    assert os.listdir(store.layout.work) == []


def test_files_that_change_meanwhile(store: Store) -> None:
    """A file that grows and shrinks all the time; the layer is whole each time."""
    script = (
        "while :; do head -c 3000000 /dev/zero >/f; : >/f; mv /f /g; echo x >>/g; rm -rf /d;"
        " mkdir /d; : >/d/x; mv /d /e; rm -r /e; done"
    )
    identity = store.detach("sh", "-c", script)
    wait_until(lambda: os.path.exists(f"{store.view(identity).paths.upper}/g"))
    for _ in range(6):
        image = store.containers.commit(identity, "made", pause=False)
        known = {"f", "g", "d", "e", *(f".wh.{name}" for name in "fgde")}
        assert {name.split("/")[0] for name in names_of(layer_of(store, "made"))} <= known
        assert store.engine.run(image.id, ["true"]).exit_code == 0


def test_a_container_that_changes_folders_for_links(store: Store, tmp_path: Path) -> None:
    """Whatever it does while it is packed, nothing of the host is in the layer."""
    secret = tmp_path / "secret"
    secret.mkdir()
    text = os.urandom(16).hex()
    (secret / "file").write_text(text)
    script = (
        f"mkdir /real; : >/real/file; ln -s {secret} /link; ln -s {secret}/file /flink; : >/file;"
        " while :; do mv /real /x; mv /x /real; mv -T /link /x; mv -T /x /link;"
        " mv /file /y; mv /y /file; mv -T /flink /y; mv -T /y /flink; done"
    )
    identity = store.detach("sh", "-c", script)
    wait_until(lambda: os.path.lexists(f"{store.view(identity).paths.upper}/flink"))
    for _ in range(15):
        store.containers.commit(identity, "made", pause=False)
        assert text.encode() not in layer_of(store, "made")


@pytest.mark.parametrize("state", ["exited", "running"])
def test_killed_at_some_points(killer: str, store: Store, state: str) -> None:
    """What a killed commit leaves, the next removes; the image is whole or not there."""
    stage = Stage(killer, store, Verb((f"commit {NAME} made:1",), state), COMMAND)
    stage.prepare()
    assert stage.go(0).returncode == 0
    count = len(stage.calls())
    assert count > 10
    for point in sorted(random.sample(range(1, count + 1), 6)):
        with contextlib.suppress(NotFound):
            store.engine.images.remove("made:1")
        stage.go(point)
        store.engine.images.collect()
        assert os.listdir(store.layout.work) == [], point
        if store.engine.images.exists("made:1"):
            assert store.engine.run("made:1", ["true"]).exit_code == 0, point
        if store.state_of(NAME) == "paused":
            store.containers.unpause(NAME)
    store.containers.commit(NAME, "made:1")
    assert store.engine.run("made:1", ["true"]).exit_code == 0


def test_what_is_refused(store: Store, pycontain: CommandLine) -> None:
    identity = store.create("true").id
    before = store.engine.images.list()
    for words, reason in (
        (("nosuch",), b"No such container"),
        ((identity, "Upper"), b"lower"),
        ((identity, f"a@sha256:{'0' * 64}"), b"digest reference"),
        (("-c", "RUN x", identity), b"only a build"),
        (("-c", "ENV", identity), b"nothing follows"),
    ):
        done = pycontain("commit", *words)
        assert done.returncode == 1, done
        assert reason in done.stderr, done
    assert store.engine.images.list() == before


def test_of_a_container_whose_image_is_gone(store: Store, pycontain: CommandLine) -> None:
    identity = store.create("true", name="orphan").id
    store.engine.images.remove("busybox", force=True)
    with pytest.raises(NotFound, match="was removed") as caught:
        store.containers.commit(identity)
    assert caught.value.hint is not None
    exported, imported = caught.value.hint.removeprefix("pycontain ").split(" | pycontain ")
    done = pycontain(*exported.split())
    done = pycontain(*imported.split(), "flat", input=done.stdout)
    assert done.returncode == 0, done.stderr
    assert store.engine.run("flat", ["/bin/true"]).exit_code == 0


# ---- import ----


def exported(store: Store) -> bytes:
    identity = store.create("true").id
    file = io.BytesIO()
    store.containers.export(identity, file)
    return file.getvalue()


def test_import_of_every_compression(store: Store, pycontain: CommandLine, tmp_path: Path) -> None:
    data = exported(store)
    for number, program in enumerate((None, "gzip", "xz", "bzip2", "zstd")):
        packed = data
        if program is not None:
            packed = subprocess.run([program, "-c"], input=data, capture_output=True,
                                    check=True).stdout  # fmt: skip
        words = ["import", "-m", "said", "-c", "CMD echo hello", "-", f"it:{number}"]
        done = pycontain(*words, input=packed)
        assert done.returncode == 0, done.stderr
        image = store.engine.images.get(f"it:{number}")
        assert done.stdout.decode() == f"{image.id}\n"
        assert store.engine.run(f"it:{number}").stdout == b"hello\n"
        assert document(store, image.id)["history"][0]["comment"] == "said"
        manifest = json.loads(blob(store, image.digest))
        if program in ("gzip", "zstd"):
            assert blob(store, manifest["layers"][0]["digest"]) == packed
        else:
            assert gzip.decompress(blob(store, manifest["layers"][0]["digest"])) == data
    path = tmp_path / "root.tar"
    path.write_bytes(data)
    done = pycontain("import", "--platform", "linux/arm64", str(path), "other")
    assert done.returncode == 0, done.stderr
    made = document(store, "other")
    assert made["architecture"] == "arm64"
    assert made["history"][0]["comment"] == f"Imported from {path}"


def test_import_of_what_is_no_archive(store: Store, tmp_path: Path) -> None:
    images = store.engine.images
    before = [image.id for image in images.list()]
    data = exported(store)
    for content, kind in (
        (b"", InvalidInput), (b"no archive" * 100, ImageError), (data[:100_000], ImageError),
        (gzip.compress(data)[:-100], ImageError), (os.urandom(100_000), ImageError),
    ):  # fmt: skip
        with pytest.raises(kind):
            images.import_(io.BytesIO(content), "it")
    with pytest.raises(NotFound, match="no such file"):
        images.import_(str(tmp_path / "nosuch"))
    assert [image.id for image in images.list()] == before
    assert os.listdir(store.layout.work) == []


def test_import_from_a_server(store: Store, pycontain: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/root.tar.gz").write_bytes(gzip.compress(exported(store), 1))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words, directory=str(tmp_path / "served"))

        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/root.tar.gz")
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *words: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            done = pycontain("import", f"{url}/moved", "it")
            assert done.returncode == 0, done.stderr
            assert store.engine.run("it", ["/bin/echo", "x"]).stdout == b"x\n"
            with pytest.raises(RegistryError, match="404"):
                store.engine.images.import_(f"{url}/nosuch")
        finally:
            server.shutdown()
    with pytest.raises(RegistryError, match="refused"):
        store.engine.images.import_(f"{url}/root.tar.gz")


# ---- mounted images ----


def points(store: Store) -> list[str]:
    with open("/proc/self/mountinfo") as file:
        return [line for line in file if store.state in line]


@pytest.fixture
def mounting(store: Store) -> Iterator[None]:
    yield
    for mounted in store.engine.images.mounts():
        store.engine.images.unmount(mounted.id)


@pytest.mark.usefixtures("mounting")
def test_a_mounted_image(store: Store, pycontain: CommandLine) -> None:
    done = pycontain("image", "mount", "busybox")
    path = Path(done.stdout.decode().strip())
    assert (path / "bin/busybox").stat().st_size > 100_000
    (line,) = points(store)
    assert {"ro", "nosuid", "nodev"} <= set(line.split()[5].split(","))
    with pytest.raises(OSError, match="Read-only"):
        (path / "file").write_text("x")
    assert pycontain("image", "mount", "busybox").stdout == done.stdout
    assert len(points(store)) == 1
    listed = pycontain("image", "mount").stdout.decode().split()
    assert listed == ["busybox:latest", str(path)]
    (one,) = json.loads(pycontain("image", "mount", "--format", "json").stdout)
    assert one["mountpoint"] == str(path)
    inspected = pycontain("inspect", "-f", "{{.GraphDriver.Data.MergedDir}}", "busybox")
    assert inspected.stdout.decode().strip() == str(path)

    refused = pycontain("rmi", "busybox")
    assert refused.returncode == 1
    assert b"is mounted at" in refused.stderr
    assert pycontain("image", "prune", "-a", "-f").returncode == 0
    assert store.engine.images.exists("busybox")

    gone = pycontain("image", "umount", "busybox")
    assert gone.stdout.decode().strip() == store.engine.images.get("busybox").id[7:]
    assert pycontain("image", "unmount", "busybox").stdout == gone.stdout
    assert points(store) == []
    assert os.listdir(store.layout.image_mounts) == []

    assert pycontain("image", "mount", "--all").returncode == 0
    forced = pycontain("rmi", "-f", "busybox")
    assert forced.returncode == 0, forced.stderr
    assert points(store) == []
    assert pycontain("image", "unmount", "-a").stdout == b""


@pytest.mark.in_vm
@pytest.mark.usefixtures("mounting")
def test_several_layers_mounted(store: Store, pycontain: CommandLine) -> None:
    result = store.engine.start("busybox", ["sh", "-c", "rm -r /usr /bin/vi; echo x >/new"])
    result.wait()
    store.containers.commit(result.id, "made")
    result.close()
    done = pycontain("image", "mount", "made", "busybox")
    rows = dict(line.split() for line in done.stdout.decode().splitlines())
    try:
        made, base = Path(rows["made:latest"]), Path(rows["busybox:latest"])
        assert not (made / "usr").exists()
        assert (made / "new").read_text() == "x\n"
        assert (base / "usr").exists()
    finally:
        assert pycontain("image", "unmount", "--all").returncode == 0


@pytest.mark.usefixtures("mounting")
def test_mounts_that_nobody_has_any_more(store: Store) -> None:
    """What a killed command, another boot or an ended namespace leave."""
    images = store.engine.images
    path = images.mount("busybox")
    folder = os.path.dirname(path)
    subprocess.run(["umount", path], check=True)  # as if somebody else did
    assert images.mounts() == []
    assert images.mount("busybox") == path
    images.unmount("busybox")
    # Killed before the record, in it, and of another boot.
    record = json.dumps({"layers": ["sha256:x"], "boot": "another", "namespace": 1})
    for name, content in (("0" * 64, None), ("1" * 64, "{"), ("2" * 64, record)):
        os.makedirs(f"{os.path.dirname(folder)}/{name}/root")
        if content is not None:
            Path(f"{os.path.dirname(folder)}/{name}/mount.json").write_text(content)
    assert images.mounts() == []
    images.mount("busybox")
    images.unmount("busybox")
    assert os.listdir(store.layout.image_mounts) == []


def test_another_namespace_s_mount_keeps_its_layers(store: Store, pycontain: CommandLine) -> None:
    words = [*pycontain.argv, "image", "mount", "busybox"]
    script = '"$@" && read -r _ && ls "$(echo "$0"/*/root)"/bin/busybox'
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script, store.layout.image_mounts, *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdin is not None
        assert other.stdout is not None
        path = other.stdout.readline().strip()
        assert store.engine.images.mounts() == []
        assert os.listdir(path) == []
        store.engine.images.unmount("busybox")  # leaves the other's alone
        store.engine.images.remove("busybox")
        store.engine.images.collect()
        rest, _ = other.communicate("\n")
    assert rest.strip().endswith("/bin/busybox")


# ---- differences ----


def test_image_diff(store: Store, pycontain: CommandLine) -> None:
    script = "rm -r /var; echo x >>/etc/group; mkdir -p /new/deep; chmod 700 /usr; mv /home /h2"
    result = store.engine.start("busybox", ["sh", "-c", script])
    result.wait()
    store.containers.commit(result.id, "made")
    expected = ["D /var", "C /etc", "C /etc/group", "A /new", "A /new/deep", "C /usr", "D /home",
                "A /h2"]  # fmt: skip
    result.close()
    one = pycontain("image", "diff", "made").stdout.decode().splitlines()
    assert sorted(one) == sorted(expected)
    assert pycontain("image", "diff", "made", "busybox").stdout.decode().splitlines() == one
    back = pycontain("image", "diff", "busybox", "made").stdout.decode().splitlines()
    assert {line for line in back if line[0] == "D"} == {"D /new", "D /h2"}
    assert {"A /home", "A /var", "C /etc/group"} <= set(back)
    assert pycontain("image", "diff", "made", "made").stdout == b""
    every = pycontain("image", "diff", "busybox").stdout.decode().splitlines()
    assert "A /bin/busybox" in every
    assert {line[0] for line in every} == {"A"}
    missing = pycontain("image", "diff", "nosuch")
    assert missing.returncode == 1
    assert b"no such image" in missing.stderr


def test_files_of_the_same_time_and_size_are_compared(store: Store) -> None:
    names = []
    for text in ("one", "two"):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            for name, content in (("same", "it"), ("file", text)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content.encode()))
        data.seek(0)
        names.append(store.engine.images.import_(data).id)
    found = store.engine.images.changes(names[1], names[0])
    assert [(one.kind, one.path) for one in found] == [("C", "/file")]


# ---- an ordinary user ----


@pytest.fixture(scope="module")
def user(whole_host: None) -> Iterator[User]:
    with ordinary_user() as user:
        done = user.run("run", "--rm", "busybox", "true")
        assert done.returncode == 0, done.stderr
        yield user


def test_an_ordinary_user_s_commit(user: User) -> None:
    script = SCRIPT.replace("mknod null c 1 3 && mknod block b 7 200 && ", "")
    script += "setfattr -n user.x -v y a 2>/dev/null || :\n"
    done = user.run("run", "--name", "box", "--network", "none", "busybox", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    done = user.run("commit", "-m", "text", "box", "made")
    assert done.returncode == 0, done.stderr
    seen = [user.run("diff", "box"), user.run("image", "diff", "made")]
    ours, theirs = ({*one.stdout.decode().splitlines()} for one in seen)
    assert ours == theirs - {"C /tmp"} | (ours & {"C /tmp"})
    done = user.run("run", "--rm", "--network", "none", "made", "sh", "-c",
                    "ls /dir /house; cat /dir/b /var/new; ls /home /etc/passwd; stat -c %u:%g"
                    " /dir/deep/er; ls -l /dir/a")  # fmt: skip
    out = done.stdout.decode()
    assert "12:34" in out, (out, done.stderr)
    assert "one\nnew\n" in out
    assert "-rws--x--x" in out
    for words in (["commit", "--pause", "runs"], ["image", "mount", "made"]):
        if words[0] == "commit":
            done = user.run("run", "-d", "--name", "runs", "--network", "none", "busybox",
                            "sleep", "1000")  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert user.run("commit", "runs").returncode == 0
        done = user.run(*words)
        assert done.returncode == 1, words
        assert b"not supported" in done.stderr, done.stderr
    piped = user.run("export", "box")
    done = user.run("import", "-", "flat", input=piped.stdout)
    assert done.returncode == 0, done.stderr
    assert (
        user.run("run", "--rm", "--network", "none", "flat", "cat", "/var/new").stdout == b"new\n"
    )
    user.run("rm", "-f", "box", "runs")
