"""The journal: appended to by many, rotated, read to its end and on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pycontain.errors import StoreError
from pycontain.store.journal import Journal, Reader

ROOT = str(Path(__file__).parents[2])
WRITER = """\
import sys
sys.path[:0] = sys.argv[4].split(":")
from pycontain.store.journal import Journal
journal = Journal(sys.argv[1], limit=int(sys.argv[3]), kept=1000)
for number in range(500):
    journal.append(b"%s %d %s\\n" % (sys.argv[2].encode(), number, b"x" * (number % 60)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path)


def lines(journal: Journal, *, past: bool = True) -> list[bytes]:
    reader = Reader(journal, past=past)
    try:
        return list(reader.lines())
    finally:
        reader.close()


def test_lines_come_back_in_order(folder: str) -> None:
    journal = Journal(folder)
    assert lines(journal) == []
    for word in (b"one", b"two", b"three"):
        journal.append(word + b"\n")
    assert lines(journal) == [b"one", b"two", b"three"]
    assert lines(journal, past=False) == []


def test_a_reader_goes_on_where_it_was(folder: str) -> None:
    journal = Journal(folder)
    journal.append(b"before\n")
    reader = Reader(journal, past=False)
    assert list(reader.lines()) == []
    journal.append(b"one\n")
    journal.append(b"two\n")
    assert list(reader.lines()) == [b"one", b"two"]
    assert list(reader.lines()) == []
    journal.append(b"three\n")
    assert list(reader.lines()) == [b"three"]
    reader.close()


@pytest.mark.parametrize("past", [False, True])
def test_a_reader_of_nothing_gets_the_first_line(folder: str, past: bool) -> None:
    journal = Journal(folder)
    reader = Reader(journal, past=past)
    assert list(reader.lines()) == []
    journal.append(b"first\n")
    assert list(reader.lines()) == [b"first"]
    reader.close()


def test_a_line_that_is_being_written_is_not_there_yet(folder: str) -> None:
    journal = Journal(folder)
    journal.append(b"whole\n")
    reader = Reader(journal, past=True)
    with open(journal.path(None), "ab") as file:
        file.write(b"ha")
        file.flush()
        assert list(reader.lines()) == [b"whole"]
        file.write(b"lf\n")
    assert list(reader.lines()) == [b"half"]
    reader.close()


def test_the_next_writer_begins_a_new_line_after_a_torn_one(folder: str) -> None:
    journal = Journal(folder)
    with open(journal.path(None), "wb") as file:
        file.write(b"to")
    journal.append(b"whole\n")
    assert lines(journal) == [b"to", b"whole"]


def test_an_empty_line_is_none(folder: str) -> None:
    journal = Journal(folder)
    with open(journal.path(None), "wb") as file:
        file.write(b"\none\n\n\ntwo\n\n")
    assert lines(journal) == [b"one", b"two"]


def test_it_is_rotated_and_bounded(folder: str) -> None:
    journal = Journal(folder, limit=100, kept=2)
    for number in range(200):
        journal.append(b"%06d\n" % number)
    older = journal.older()
    assert len(older) == 2
    assert older[1] == older[0] + 1
    sizes = [os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)]
    assert len(sizes) <= 3
    assert max(sizes) <= 107
    kept = [int(line) for line in lines(journal)]
    assert kept == list(range(kept[0], 200))
    assert len(kept) >= 28


@pytest.mark.parametrize("step", [1, 3, 14, 15, 16, 31])
def test_a_reader_follows_rotations(folder: str, step: int) -> None:
    journal = Journal(folder, limit=100, kept=3)
    reader = Reader(journal, past=False)
    found: list[int] = []
    for number in range(300):
        journal.append(b"%06d\n" % number)
        if number % step == 0:
            found += map(int, reader.lines())
    found += map(int, reader.lines())
    reader.close()
    assert found == list(range(300))


def test_a_reader_that_is_too_slow_is_told(folder: str) -> None:
    journal = Journal(folder, limit=100, kept=1)
    journal.append(b"first\n")
    reader = Reader(journal, past=True)
    assert list(reader.lines()) == [b"first"]
    for number in range(100):
        journal.append(b"%06d\n" % number)
    with pytest.raises(StoreError, match="lines are gone"):
        list(reader.lines())
    reader.close()


def test_a_journal_that_was_removed_by_hand_begins_anew(folder: str) -> None:
    journal = Journal(folder, limit=100, kept=5)
    journal.append(b"one\n")
    reader = Reader(journal, past=False)
    os.unlink(journal.path(None))
    found: list[int] = []
    for number in range(60):
        journal.append(b"%06d\n" % number)
        found += map(int, reader.lines())
    reader.close()
    assert found == list(range(60))


@pytest.mark.parametrize("limit", [2_000, 20_000], ids=["within a page", "over pages"])
def test_many_processes_append_whole_lines_and_a_reader_gets_each_once(
    folder: str, limit: int
) -> None:
    path = os.pathsep.join([ROOT, *(part for part in sys.path if part)])
    names = ("a", "b", "c", "d")
    writers = [
        subprocess.Popen([sys.executable, "-ISc", WRITER, folder, name, str(limit), path])
        for name in names
    ]
    reader = Reader(Journal(folder), past=True)
    found: dict[str, list[int]] = {name: [] for name in names}
    running = True
    while running:
        running = any(writer.poll() is None for writer in writers)
        for line in reader.lines():
            name, number, rest = line.decode().split(" ")
            assert rest == "x" * (int(number) % 60)
            found[name].append(int(number))
    reader.close()
    assert [writer.wait() for writer in writers] == [0] * 4
    assert found == {name: list(range(500)) for name in names}
    assert len(Journal(folder).older()) >= 25_000 // limit


def test_an_append_that_fails_names_the_file(folder: str) -> None:
    journal = Journal(folder)
    os.mkdir(journal.path(None))
    with pytest.raises(StoreError, match=r"append: .*journal"):
        journal.append(b"line\n")


def test_a_symbolic_link_in_its_place_is_not_followed(folder: str) -> None:
    target = f"{folder}/target"
    Path(target).touch()
    os.symlink(target, Journal(folder).path(None))
    with pytest.raises(StoreError):
        Journal(folder).append(b"line\n")
    assert os.path.getsize(target) == 0
