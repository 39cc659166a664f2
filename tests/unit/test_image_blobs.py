"""Blobs: whole under the name of their content or not there, resumed, and taken in once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from pycontain.errors import DigestMismatch, ImageError, StoreError
from pycontain.image import documents
from pycontain.image.blobs import CHUNK, KEPT, Blobs, Partial
from pycontain.image.documents import Descriptor
from pycontain.store.layout import Layout
from tests.unit import imagefiles as made

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"content" * 1000


def descriptor(data: bytes, size: int | None = None) -> Descriptor:
    return Descriptor(
        media_type=documents.LAYER,
        digest=documents.digest_of(data),
        size=len(data) if size is None else size,
    )


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "state"))
    layout.prepare()
    blobs = Blobs(layout)
    blobs.prepare()
    return blobs


def partials(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "root/images/partial"))


def take(blobs: Blobs, wanted: Descriptor, *chunks: bytes) -> bytes:
    """Write a blob behind what there is of it, and return that."""
    with blobs.receive(wanted) as partial:
        assert partial is not None
        before = b"".join(partial.present())
        for chunk in chunks:
            partial.write(chunk)
        partial.finish()
    return before


def content(blobs: Blobs, wanted: Descriptor) -> bytes:
    with open(blobs.path(wanted.digest), "rb") as file:
        return file.read()


def test_a_blob_comes(blobs: Blobs, tmp_path: Path) -> None:
    wanted = descriptor(CONTENT)
    assert not blobs.has(wanted)
    assert take(blobs, wanted, CONTENT[:10], CONTENT[10:]) == b""
    assert blobs.has(wanted)
    assert content(blobs, wanted) == CONTENT
    assert blobs.digests() == [wanted.digest]
    with blobs.receive(wanted) as partial:
        assert partial is None
    assert partials(tmp_path) == []


def test_an_empty_blob(blobs: Blobs) -> None:
    take(blobs, descriptor(b""))
    assert blobs.has(descriptor(b""))


def test_it_goes_on_where_another_stopped(blobs: Blobs, tmp_path: Path) -> None:
    wanted = descriptor(CONTENT)
    with pytest.raises(ZeroDivisionError), blobs.receive(wanted) as partial:
        assert partial is not None
        partial.write(CONTENT[:5000])
        raise ZeroDivisionError
    assert not blobs.has(wanted)
    with pytest.raises(DigestMismatch, match="ends after 6000 bytes instead of 7000"):
        take(blobs, wanted, CONTENT[5000:6000])
    assert take(blobs, wanted, CONTENT[6000:]) == CONTENT[:6000]
    assert content(blobs, wanted) == CONTENT
    assert partials(tmp_path) == []


def test_what_is_there_comes_in_pieces(blobs: Blobs) -> None:
    data = bytes(2 * CHUNK) + b"end"
    with pytest.raises(ZeroDivisionError), blobs.receive(descriptor(data)) as partial:
        assert partial is not None
        partial.write(data)
        raise ZeroDivisionError
    with blobs.receive(descriptor(data)) as partial:
        assert partial is not None
        assert [len(piece) for piece in partial.present()] == [CHUNK, CHUNK, 3]
        assert partial.size == len(data)
        partial.finish()
    assert blobs.has(descriptor(data))


@pytest.mark.parametrize("wrong", [b"x" * len(CONTENT), CONTENT + b"x"])
def test_other_content_is_not_kept(blobs: Blobs, tmp_path: Path, wrong: bytes) -> None:
    """Nor taken for a beginning by the next."""
    wanted = descriptor(CONTENT)
    with pytest.raises(DigestMismatch, match=wanted.digest):
        take(blobs, wanted, wrong)
    assert not blobs.has(wanted)
    assert [name for name in partials(tmp_path) if not name.endswith(".lock")] == []
    assert take(blobs, wanted, CONTENT) == b""


def test_a_beginning_that_is_too_long(blobs: Blobs, tmp_path: Path) -> None:
    wanted = descriptor(CONTENT)
    (tmp_path / "root/images/partial" / wanted.digest[7:]).write_bytes(CONTENT * 2)
    with pytest.raises(DigestMismatch, match="more than the 7000 bytes"):
        take(blobs, wanted)
    assert take(blobs, wanted, CONTENT) == b""


def test_a_blob_of_another_size_is_replaced(blobs: Blobs) -> None:
    """As a power cut may leave one."""
    wanted = descriptor(CONTENT)
    with open(blobs.path(wanted.digest), "wb") as file:
        file.write(CONTENT[:100])
    assert not blobs.has(wanted)
    take(blobs, wanted, CONTENT)
    assert content(blobs, wanted) == CONTENT


def test_two_threads_take_it_once(blobs: Blobs) -> None:
    wanted = descriptor(CONTENT)
    inside, written = threading.Event(), []

    def work() -> None:
        with blobs.receive(wanted) as partial:
            if partial is not None:
                inside.set()
                written.append(partial)
                partial.write(CONTENT)
                partial.finish()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside.is_set()
    assert len(written) == 1
    assert isinstance(written[0], Partial)


def test_the_next_has_what_a_killed_process_wrote(blobs: Blobs, tmp_path: Path) -> None:
    wanted = descriptor(CONTENT)
    program = (
        "import os, sys; from pycontain.image.blobs import Blobs;"
        "from pycontain.image.documents import Descriptor;"
        "from pycontain.store.layout import Layout;"
        "blobs = Blobs(Layout(sys.argv[1], sys.argv[2]));"
        "wanted = Descriptor(media_type='', digest=sys.argv[3], size=7000);"
        "taking = blobs.receive(wanted); partial = taking.__enter__();"
        "partial.write(b'content' * 500);"
        "os.kill(os.getpid(), 9)"
    )
    words = [str(tmp_path / "root"), str(tmp_path / "state"), wanted.digest]
    assert subprocess.run([sys.executable, "-c", program, *words], check=False).returncode == -9
    assert take(blobs, wanted, CONTENT[3500:]) == CONTENT[:3500]


def test_documents(blobs: Blobs) -> None:
    digest = blobs.add(b"{}")
    assert digest == descriptor(b"{}").digest
    assert blobs.add(b"{}") == digest
    assert blobs.read(descriptor(b"{}")) == b"{}"
    with pytest.raises(DigestMismatch, match="2 bytes long instead of 3"):
        blobs.read(descriptor(b"{}", 3))
    with pytest.raises(StoreError, match="no such file"):
        blobs.read(descriptor(b"[]"))


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:", "sha256:../../../x", "sha256:" + "A" * 64, "../x", "sha512:" + "0" * 128,
     "sha256:" + "0" * 63 + "\n"],
)  # fmt: skip
def test_no_digest_names_another_path(blobs: Blobs, digest: str) -> None:
    wanted = Descriptor(media_type="", digest=digest, size=1)
    with pytest.raises(ImageError, match="not a sha256 digest"):
        blobs.path(digest)
    with pytest.raises(ImageError), blobs.receive(wanted):
        pass


def test_removal(blobs: Blobs) -> None:
    take(blobs, descriptor(CONTENT), CONTENT)
    assert blobs.remove(descriptor(CONTENT).digest) == len(CONTENT)
    assert blobs.remove(descriptor(CONTENT).digest) == 0
    assert blobs.digests() == []


def test_the_sweep(blobs: Blobs, tmp_path: Path) -> None:
    take(blobs, descriptor(CONTENT), CONTENT)
    with pytest.raises(ZeroDivisionError), blobs.receive(descriptor(b"other")) as partial:
        assert partial is not None
        partial.write(b"oth")
        raise ZeroDivisionError
    path = tmp_path / "root/images/partial" / made.digest(b"other")[7:]
    (path.parent / f"{path.name}.lock").touch()
    assert blobs.sweep() == 0
    assert partials(tmp_path) == [path.name]  # it is gone on with
    written = path.stat().st_mtime
    assert blobs.sweep(written + 1) == 0
    assert partials(tmp_path) == [path.name]
    for moment in (written - KEPT - 60, written + KEPT + 60):
        path.write_bytes(b"oth")
        os.utime(path, (moment, moment))
        assert blobs.sweep() == 3
        assert partials(tmp_path) == []
    path.write_bytes(b"oth")
    assert blobs.sweep(written) == 3
    assert partials(tmp_path) == []
    assert blobs.has(descriptor(CONTENT))


def test_a_disk_that_is_full(blobs: Blobs, tmp_path: Path) -> None:
    wanted = descriptor(CONTENT)
    (tmp_path / "root/images/partial" / wanted.digest[7:]).symlink_to("/dev/full")
    with pytest.raises(StoreError, match="no space left on device"), blobs.receive(wanted) as into:
        assert into is not None
        into.write(CONTENT)
