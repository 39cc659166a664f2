"""The log: whole, in order, bounded, rotated; whatever the container writes and whoever reads."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, collect, proc_field, wait_until

from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Store

    from pycontain.engine.logs import LogEntry

pytestmark = pytest.mark.host

MIB = 1 << 20
K8S = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) (stdout|stderr) [FP] .*")


def files(store: Store, identity: str) -> list[str]:
    """The log's files, newest first."""
    path = store.view(identity).paths.log
    return [path, *(f"{path}.{n}" for n in range(1, 20) if os.path.exists(f"{path}.{n}"))]


def raw(store: Store, identity: str) -> bytes:
    found = b""
    for path in reversed(files(store, identity)):
        with open(path, "rb") as file:
            found += file.read()
    return found


def ran(store: Store, script: str, **options: object) -> str:
    identity = store.detach("sh", "-c", script, **options)
    assert store.containers.wait(identity) == 0
    return identity


# ---------------------------------------------------------------------------------------- the forms


def test_the_k8s_form(store: Store) -> None:
    before = time.time_ns()
    identity = ran(store, "echo one; echo err >&2; sleep 0.05; printf two")
    lines = raw(store, identity).splitlines()
    assert all(K8S.fullmatch(line) for line in lines)
    assert {line.split(b" ", 1)[1] for line in lines} == {
        b"stdout F one", b"stderr F err", b"stdout P two",
    }  # fmt: skip
    entries = list(store.containers.logs(identity))
    assert all(before < entry.time < time.time_ns() for entry in entries)
    assert [entry.data for entry in entries if entry.stream == "stdout"] == [b"one\n", b"two"]


def test_the_json_form(store: Store) -> None:
    identity = ran(store, r"""printf 'a"\\b\tc\001\377é\n'; echo err >&2""", log_driver="json-file")
    items = [json.loads(line) for line in raw(store, identity).splitlines()]
    assert all(set(item) == {"log", "stream", "time"} for item in items)
    texts = {item["stream"]: item["log"] for item in items}
    assert texts == {"stdout": 'a"\\b\tc\x01\ufffdé\n', "stderr": "err\n"}
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
    assert all(re.fullmatch(stamp, item["time"]) for item in items)


def test_a_character_is_not_torn_by_a_read(store: Store) -> None:
    """Json holds text: a character that arrives in two parts is one all the same."""
    identity = ran(store, r"printf '\303'; sleep 0.2; printf '\251\n'", log_driver="json-file")
    assert store.log(identity).decode() == "é\n"


def test_no_log(store: Store) -> None:
    identity = ran(store, "echo x", log_driver="none")
    assert not os.path.exists(store.view(identity).paths.log)
    with pytest.raises(InvalidInput, match="none"):
        list(store.containers.logs(identity))


def test_an_empty_log(store: Store) -> None:
    for driver in ("k8s-file", "json-file"):
        assert store.log(ran(store, "true", log_driver=driver)) == b""
        assert store.log(store.create("true", log_driver=driver).id) == b""


def test_long_lines_of_text_come_back_whole(store: Store) -> None:
    line = "aäöü€😀" * 9000
    for padding in range(4):
        text = "x" * padding + line
        identity, attachment = store.attached("cat", interactive=True, log_driver="json-file")
        found = collect(attachment, text.encode())
        attachment.close()
        assert found.stdout.decode() == text
        assert store.log(identity).decode() == text


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (r"printf '\303'; sleep 0.1; printf x", "\ufffdx"),
        (r"printf '\360\237'; sleep 0.1; printf '\230'; sleep 0.1; printf '\200!'", "😀!"),
        (r"printf '\342\202'", "\ufffd\ufffd"),
        (r"printf '\342'; sleep 0.1; printf '\202\377\303\251'", "\ufffd\ufffd\ufffdé"),
    ],
)
def test_torn_and_damaged_characters(store: Store, script: str, text: str) -> None:
    assert store.log(ran(store, script, log_driver="json-file")).decode() == text


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
def test_a_second_run_adds_to_it(store: Store, driver: str) -> None:
    identity = ran(store, "echo x", log_driver=driver)
    store.containers.start(identity)
    store.containers.wait(identity)
    assert store.log(identity) == b"x\nx\n"


def test_a_second_run_after_an_unfinished_line(store: Store) -> None:
    identity = ran(store, "printf x")
    store.containers.start(identity)
    store.containers.wait(identity)
    assert store.log(identity) == b"xx"


# ------------------------------------------------------------------------------------------- floods


def test_binary_bytes_come_back_as_they_were(store: Store, tmp_path: object) -> None:
    from pycontain.model.container import Mount

    data = os.urandom(MIB) + bytes(range(256)) * 100 + b"\n\n\r\n\0\n"
    path = f"{tmp_path}/data"
    with open(path, "wb") as file:
        file.write(data)
    identity = ran(store, "cat /data", mounts=(Mount(type="bind", source=path, target="/data"),))
    assert store.log(identity) == data


@pytest.mark.slow
def test_a_hundred_megabytes_without_a_newline(store: Store) -> None:
    size = 100 * MIB
    script = f"head -c {size} /dev/zero | tr '\\0' x; >/said; sleep 1000"
    identity = store.detach("sh", "-c", script, log_max_size=0)
    record = store.run_record(identity)
    wait_until(lambda: os.path.exists(f"{store.view(identity).paths.upper}/said"))
    assert int(proc_field(record.monitor, "VmHWM")) < 4096
    store.containers.stop(identity, timeout=0)
    assert all(set(e.data) == {ord("x")} for e in store.containers.logs(identity))
    assert sum(len(e.data) for e in store.containers.logs(identity)) == size


def logged(store: Store, identity: str) -> int:
    return os.stat(store.view(identity).paths.log).st_size


def test_two_streams_of_many_writers_are_whole_lines(store: Store) -> None:
    """Lines that are written at once, up to PIPE_BUF, stay whole whoever else writes."""
    script = (
        "for w in 1 2 3 4; do (i=0; while [ $i -lt 3000 ]; do echo $w:$i; i=$((i+1)); done) & done;"
        "i=0; while [ $i -lt 3000 ]; do echo e:$i >&2; i=$((i+1)); done; wait"
    )
    identity = ran(store, script)
    entries = list(store.containers.logs(identity))
    for stream, writers in (("stdout", "1234"), ("stderr", "e")):
        text = b"".join(entry.data for entry in entries if entry.stream == stream).decode()
        lines = text.splitlines()
        for writer in writers:
            mine = [line for line in lines if line.startswith(f"{writer}:")]
            assert mine == [f"{writer}:{n}" for n in range(3000)]
        assert len(lines) == 3000 * len(writers)


def test_times_never_go_back(store: Store) -> None:
    identity = ran(store, "seq 1 50000")
    times = [entry.time for entry in store.containers.logs(identity)]
    assert times == sorted(times)


# ----------------------------------------------------------------------------------------- rotation


def whole_lines(store: Store, identity: str) -> list[bytes]:
    """Its lines, but for the first: the beginning of that may have gone with the oldest file."""
    return store.log(identity).split()[1:]


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
def test_rotation_by_size_and_count(store: Store, driver: str) -> None:
    identity = ran(store, "seq 1 60000", log_driver=driver, log_max_size=200_000, log_max_files=4)
    found = files(store, identity)
    assert len(found) == 4
    for path in found[1:]:
        assert 200_000 <= os.stat(path).st_size < 200_000 + 6 * 32768 + 65536
    lines = whole_lines(store, identity)
    assert lines[-1] == b"60000"
    first = int(lines[0])
    assert first > 1  # the oldest are gone
    assert lines == [b"%d" % n for n in range(first, 60001)]
    assert all(line.count(b"\n") == 1 for line in raw(store, identity).splitlines(keepends=True))


def test_one_file_only(store: Store) -> None:
    identity = ran(store, "seq 1 20000", log_max_size=50_000, log_max_files=1)
    assert len(files(store, identity)) == 1
    assert logged(store, identity) < 50_000 + 65536 * 3
    lines = whole_lines(store, identity)
    assert lines == [b"%d" % n for n in range(20001 - len(lines), 20001)]


def test_no_limit(store: Store) -> None:
    identity = ran(store, "seq 1 20000", log_max_size=0)
    assert len(files(store, identity)) == 1
    assert len(store.log(identity).split()) == 20000


# ------------------------------------------------------------------------------------------ reading


def test_follow_to_the_end(store: Store) -> None:
    identity = store.detach("sh", "-c", "echo a; sleep 0.4; echo b; sleep 0.4; printf c")
    assert store.log(identity, follow=True) == b"a\nb\nc"


def test_follow_tells_at_once(store: Store) -> None:
    identity = store.detach("sh", "-c", "echo a; sleep 1000")
    entries = store.containers.logs(identity, follow=True)
    assert next(entries).data == b"a\n"
    assert store.state_of(identity) == "running"
    close(entries)


def close(entries: Iterator[LogEntry]) -> None:
    entries.close()  # type: ignore[attr-defined]


@pytest.mark.in_vm
def test_follow_across_rotations(store: Store) -> None:
    script = "for i in $(seq 0 199); do seq $((i*100+1)) $((i*100+100)); sleep 0.01; done"
    identity = store.detach("sh", "-c", script, log_max_size=20_000, log_max_files=50)
    found = store.log(identity, follow=True).split()
    assert found == [b"%d" % n for n in range(1, 20001)]
    assert len(files(store, identity)) > 10


def test_follow_ends_when_it_is_removed(store: Store) -> None:
    identity = store.detach("sh", "-c", "echo a; sleep 1000")
    entries = store.containers.logs(identity, follow=True)
    assert next(entries).data == b"a\n"
    rest: list[LogEntry] = []
    thread = threading.Thread(target=lambda: rest.extend(entries))
    thread.start()
    time.sleep(0.3)
    store.containers.remove(identity, force=True)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert rest == []


def test_tail(store: Store) -> None:
    identity = ran(store, "seq 1 1000; printf end", log_max_size=4000, log_max_files=20)
    assert store.log(identity, tail=3) == b"999\n1000\nend"
    assert store.log(identity, tail=0) == b""
    assert store.log(identity, tail=500).startswith(b"502\n")
    assert store.log(identity, tail=5000) == store.log(identity)


def test_a_long_line_counts_once(store: Store) -> None:
    script = "echo first; head -c 200000 /dev/zero | tr '\\0' x; echo; echo last"
    identity = ran(store, script)
    found = store.log(identity, tail=2)
    assert found == b"x" * 200_000 + b"\nlast\n"


def test_tail_and_follow(store: Store) -> None:
    identity = store.detach(
        "sh", "-c", "seq 1 10; until [ -e /go ]; do sleep 0.05; done; echo more"
    )
    wait_until(lambda: store.log(identity).endswith(b"10\n"))
    entries = store.containers.logs(identity, tail=2, follow=True)
    assert [next(entries).data for _ in range(2)] == [b"9\n", b"10\n"]
    with store.containers.tree(identity) as tree:
        tree.write("/go", b"")
    assert [entry.data for entry in entries] == [b"more\n"]


def test_since_and_until(store: Store) -> None:
    script = "echo a; read go; echo b; read go; echo c"
    identity = store.detach("sh", "-c", script, interactive=True)
    client = store.containers.attach(identity)
    for said in (b"a\n", b"a\nb\n"):
        wait_until(lambda said=said: store.log(identity) == said)  # type: ignore[misc]
        client.write_stdin(b"go\n")
    assert store.containers.wait(identity) == 0
    client.close()
    times = [entry.time for entry in store.containers.logs(identity)]
    assert store.log(identity, since=times[1]) == b"b\nc\n"
    assert store.log(identity, until=times[1]) == b"a\nb\n"
    assert store.log(identity, since=times[1], until=times[1]) == b"b\n"
    assert store.log(identity, since=times[2] + 1) == b""


def test_a_stalled_reader_holds_nothing_up(store: Store) -> None:
    identity = store.detach("sh", "-c", "echo a; sleep 0.3; seq 1 100000")
    entries = store.containers.logs(identity, follow=True)
    assert next(entries).data == b"a\n"
    assert store.containers.wait(identity) == 0
    rest = b"".join(entry.data for entry in entries)
    assert rest.split()[-1] == b"100000"
