"""Those who watch a container: its owner, who loses nothing, and onlookers, who never block it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, collect, proc_field, wait_until
from pace import seconds

from pycontain.model.container import RunOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Store

    from pycontain.runtime.attachment import Attachment

pytestmark = pytest.mark.host

ECHO = ("sh", "-c", "while read line; do echo got $line; done; exit 3")


@pytest.fixture
def echo(store: Store) -> Iterator[str]:
    identity = store.detach(*ECHO, interactive=True)
    yield identity
    store.containers.remove(identity, force=True)


def ready(attachment: Attachment) -> Attachment:
    """Wait until the monitor knows the client: from here on it misses nothing."""
    attachment.wait_ready()
    return attachment


def test_output_from_now_on(store: Store, echo: str) -> None:
    first = ready(store.containers.attach(echo))
    first.write_stdin(b"one\n")
    collect(first, until=b"got one\n")
    second = ready(store.containers.attach(echo))
    second.write_stdin(b"two\n")
    assert collect(second, until=b"two\n").stdout == b"got two\n"
    assert collect(first, until=b"two\n").stdout == b"got two\n"
    first.close()
    second.write_stdin(b"three\n")
    assert collect(second, until=b"three\n").stdout == b"got three\n"
    second.close()
    assert store.state_of(echo) == "running"
    assert store.log(echo) == b"got one\ngot two\ngot three\n"


def test_all_hear_the_end(store: Store) -> None:
    script = "read line; echo bye; echo err >&2; exit 6"
    identity = store.detach("sh", "-c", script, interactive=True)
    clients = [ready(store.containers.attach(identity)) for _ in range(5)]
    clients[0].write_stdin(b"go\n")
    for client in clients:
        found = collect(client)
        client.close()
        assert (found.stdout, found.stderr, found.code) == (b"bye\n", b"err\n", 6)


def test_more_clients_than_there_are_places(store: Store, echo: str) -> None:
    clients = [store.containers.attach(echo) for _ in range(40)]
    served = 0
    for client in clients:
        try:
            client.wait_ready()
            served += 1
        except Exception as err:  # noqa: BLE001 - the monitor hung up: told, not left waiting
            assert "monitor" in str(err)
        client.close()
    assert served >= 15
    again = ready(store.containers.attach(echo))
    again.write_stdin(b"x\n")
    assert collect(again, until=b"got x\n").stdout == b"got x\n"
    again.close()


def test_input_ends_for_all_where_the_owner_closes_it(store: Store) -> None:
    identity, owner = store.attached(*ECHO, interactive=True)
    found = collect(owner, b"a\nb\n")
    owner.close()
    assert (found.stdout, found.code) == (b"got a\ngot b\n", 3)
    assert store.containers.wait(identity) == 3


def test_a_closed_client_does_not_close_the_input(store: Store, echo: str) -> None:
    client = ready(store.containers.attach(echo))
    client.write_stdin(b"a\n")
    collect(client, until=b"got a\n")
    client.close()
    time.sleep(0.1)
    assert store.state_of(echo) == "running"


def test_a_slow_onlooker_never_blocks_and_is_told(store: Store) -> None:
    size = 20_000_000
    script = f"read line; head -c {size} /dev/zero; echo; echo end"
    identity = store.detach("sh", "-c", script, interactive=True)
    client = ready(store.containers.attach(identity))
    client.write_stdin(b"go\n")
    ended = store.containers.await_end(identity, timeout=PATIENCE)
    assert ended is not None  # although the client has read nothing
    assert ended.code == 0
    found = collect(client)
    client.close()
    assert found.lagged > 0
    assert len(found.stdout) + found.lagged <= size + 5
    assert len(store.log(identity)) == size + 5


def test_a_slow_onlooker_that_reads_on_is_told_how_much(store: Store) -> None:
    total = 5_000_000
    script = f"read line; head -c {total} /dev/zero; >/said; read line; echo end; read line"
    identity = store.detach("sh", "-c", script, log_driver="none", interactive=True)
    client = ready(store.containers.attach(identity))
    client.write_stdin(b"go\n")
    said = f"{store.view(identity).paths.upper}/said"
    wait_until(lambda: os.path.exists(said))
    begun = collect(client, quiet=seconds(0.5))  # reads on, so there is room again
    client.write_stdin(b"on\n")
    found = collect(client, until=b"end\n")
    client.close()
    assert begun.lagged + found.lagged > 0
    assert found.stdout.endswith(b"end\n")
    whole = len(begun.stdout) + begun.lagged + len(found.stdout) + found.lagged
    assert whole == total + 4


def test_an_owner_that_is_slow_loses_nothing(store: Store) -> None:
    lines = 300_000
    _, owner = store.attached("seq", "1", str(lines))
    time.sleep(1)
    found = collect(owner)
    owner.close()
    assert found.lagged == 0
    assert found.stdout == b"".join(b"%d\n" % n for n in range(1, lines + 1))


def test_an_owner_that_does_not_read_makes_it_wait(store: Store) -> None:
    identity, owner = store.attached("sh", "-c", "head -c 50000000 /dev/zero; echo end >&2")
    monitor = store.run_record(identity).monitor
    time.sleep(1)
    assert store.state_of(identity) == "running"
    assert int(proc_field(monitor, "VmRSS")) < 6000
    found = collect(owner)
    owner.close()
    assert len(found.stdout) == 50_000_000
    assert found.stderr == b"end\n"


def test_an_owner_that_leaves_lets_it_go_on(store: Store) -> None:
    identity, owner = store.attached("sh", "-c", "head -c 5000000 /dev/zero; exit 2")
    time.sleep(0.3)
    owner.close()
    assert store.containers.wait(identity) == 2
    assert len(store.log(identity)) == 5_000_000


def test_the_end_comes_after_all_output(store: Store) -> None:
    for _ in range(20):
        _, owner = store.attached("sh", "-c", "seq 1 2000; seq 1 2000 >&2", remove=True)
        found = collect(owner)
        owner.finish()
        assert (found.stdout.count(b"\n"), found.stderr.count(b"\n")) == (2000, 2000)
        assert found.code == 0


@pytest.mark.in_vm
def test_a_terminal_for_several(store: Store) -> None:
    options = RunOptions(image="busybox", command=("sh",), tty=True, interactive=True)
    container, _ = store.containers.run(options, attach=False)
    first = ready(store.containers.attach(container.id))
    second = ready(store.containers.attach(container.id))
    first.resize(12, 34)
    first.write_stdin(b"stty size\n")
    collect(first, until=b"12 34")
    collect(second, until=b"12 34")
    second.write_stdin(b"exit 8\n")
    assert collect(first).code == 8
    assert collect(second).code == 8
    first.close()
    second.close()


def test_a_client_that_sends_nonsense_is_dropped_alone(store: Store, echo: str) -> None:
    from pycontain.runtime.attachment import connect

    path = store.view(echo).paths.attach
    for data in (b"", b"x", b"?" * 8, b"\xff" * 9000, b"w" + bytes(3), b"s" + b"\xff" * 7):
        with connect(path) as raw:
            raw.setblocking(True)
            raw.send(data) if data else raw.shutdown(2)
    client = ready(store.containers.attach(echo))
    client.write_stdin(b"a\n")
    assert collect(client, until=b"got a\n").stdout == b"got a\n"
    client.close()


def test_input_that_the_container_does_not_take_blocks_only_its_sender(store: Store) -> None:
    identity = store.detach(interactive=True)
    writer = ready(store.containers.attach(identity))
    watcher = ready(store.containers.attach(identity))
    sent = 0
    for _ in range(1000):
        taken = writer.write_stdin(bytes(32768))
        sent += taken
        if not taken:
            break
    assert sent < 32_000_000  # no unlimited buffer
    wait_until(lambda: store.state_of(identity) == "running")
    writer.close()
    watcher.close()
    store.containers.remove(identity, force=True)


def test_nothing_is_left_of_the_socket(store: Store) -> None:
    identity = store.detach("true")
    store.containers.wait(identity)
    assert not os.path.exists(store.view(identity).paths.attach)


def test_the_end_is_heard_although_input_was_left_unread(store: Store) -> None:
    """A monitor that ends with unread input resets the connection (unix(7), ECONNRESET)."""
    for _ in range(20):
        identity, attachment = store.attached("true", interactive=True)
        store.containers.await_record(identity)
        attachment.write_stdin(b"nobody reads this")
        assert collect(attachment).code == 0
        attachment.close()
