"""The attach client: detach keys, streams, signals, the terminal's mode.

The relay works on descriptors 0 to 2 and on signal handlers, so each test runs it in a forked child
whose other side, the monitor's, is played here over a socket.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.cli.terminal import DetachFilter, RawMode, Relay
from pycontain.errors import PycontainError
from pycontain.runtime.attachment import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYS = b"\x10\x11"
LIMIT = 60.0


# --- detach keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "through", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([KEYS], b"", True),
        ([b"a", b"\x10", b"\x11", b"b"], b"a", True),
        ([b"a\x10b"], b"a\x10b", False),
        ([b"\x10", b"b"], b"\x10b", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x10", b"\x10", b"\x11"], b"\x10", True),
        ([b"x" + KEYS + b"never"], b"x", True),
    ],
)
def test_detach_keys_are_found_and_their_beginnings_go_through(
    chunks: list[bytes], through: bytes, detached: bool
) -> None:
    keys = DetachFilter(KEYS)
    passed, found = b"", False
    for chunk in chunks:
        if found:
            break
        part, found = keys.feed(chunk)
        passed += part
    assert (passed + keys.flush(), found) == (through, detached)


@given(
    st.lists(st.sampled_from([b"a", b"b", b"ab", b"ba", b"aab", b"c"])),
    st.sampled_from([b"aab", b"aba", b"a", b"abab", b""]),
)
def test_however_it_is_cut_the_first_sequence_detaches(chunks: list[bytes], keys: bytes) -> None:
    whole = b"".join(chunks)
    at = whole.find(keys) if keys else -1
    found_keys, passed, found = DetachFilter(keys), b"", False
    for chunk in chunks:
        part, found = found_keys.feed(chunk)
        passed += part
        if found:
            break
    assert found == (at >= 0)
    assert passed + (b"" if found else found_keys.flush()) == (whole[:at] if found else whole)


# --- the relay in a child ------------------------------------------------------------------------


class Wire:
    """The child's attachment: frames come from the test, calls go back to it."""

    def __init__(self, connection: socket.socket, owner: bool) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self.owner = owner

    def _tell(self, *words: Any) -> None:
        self._socket.setblocking(True)
        self._socket.send(json.dumps(words).encode())
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> Frame | None:
        try:
            data = self._socket.recv(1 << 17)
        except BlockingIOError:
            return None
        if not data:
            return Frame("closed")
        kind, text, code = json.loads(data)
        return Frame(kind, text.encode("latin-1"), code)

    def write_stdin(self, data: bytes) -> int:
        taken = data[:1000]
        self._tell("stdin", taken.decode("latin-1"))
        return len(taken)

    def close_stdin(self) -> bool:
        self._tell("eof")
        return True

    def drained(self) -> bool:
        self._tell("drained")
        return True

    def close_output(self, stream: str) -> None:
        self._tell("close_output", stream)

    def resize(self, rows: int, cols: int) -> None:
        self._tell("resize", rows, cols)

    def signal(self, number: int) -> None:
        self._tell("signal", number)

    def finish(self) -> None:
        self._tell("finish")

    def close(self) -> None:
        self._tell("close")
        self._socket.close()


class Client:
    """A relay in a child process, seen from the monitor's and from the terminal's side."""

    def __init__(self, pid: int, wire: socket.socket) -> None:
        self.pid = pid
        self.wire = wire
        wire.settimeout(LIMIT)

    def frame(self, kind: str, data: bytes = b"", code: int = 0) -> None:
        self.wire.send(json.dumps([kind, data.decode("latin-1"), code]).encode())

    def told(self) -> list[Any]:
        """The next call of the attachment."""
        data = self.wire.recv(1 << 17)
        assert data, "the client has gone"
        words: list[Any] = json.loads(data)
        return words

    def code(self) -> int:
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        raise AssertionError("the client does not end")


def _child(act: Callable[[], int]) -> None:
    code = 99
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - pytest's is not the test's stream
    try:
        code = act()
    except BrokenPipeError:
        code = 141
    except PycontainError as err:
        os.write(2, str(err).encode())
        code = 98
    except BaseException:  # noqa: BLE001 - a child must not return into pytest
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _relay(wire: socket.socket, owner: bool, **settings: Any) -> int:
    relay = Relay(Wire(wire, owner), **{"stdin": True, "tty": False, **settings})
    code = relay.run()
    return 97 if code is None else code


@pytest.fixture
def clients() -> Iterator[list[Client]]:
    made: list[Client] = []
    yield made
    for client in made:
        if client.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(client.pid, signal.SIGKILL)
            os.waitpid(client.pid, 0)
        client.wire.close()


Streams = tuple[Client, int, int, int]


@pytest.fixture
def piped(clients: list[Client]) -> Iterator[Callable[..., Streams]]:
    """Make a client whose streams are pipes: its client, and our ends of 0, 1 and 2."""
    ours: list[int] = []

    def make(*, owner: bool = True, **settings: Any) -> Streams:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        (in_read, in_write), (out_read, out_write), (err_read, err_write) = (
            os.pipe() for _ in range(3)
        )
        pid = os.fork()
        if pid == 0:
            for number, fd in enumerate((in_read, out_write, err_write)):
                os.dup2(fd, number)
            for fd in (in_write, out_read, err_read, in_read, out_write, err_write):
                os.close(fd)
            near.close()
            _child(lambda: _relay(far, owner, **settings))
        for fd in (in_read, out_write, err_write):
            os.close(fd)
        far.close()
        clients.append(Client(pid, near))
        ours.extend((in_write, out_read, err_read))
        return clients[-1], in_write, out_read, err_read

    yield make
    for fd in ours:
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture
def on_terminal(clients: list[Client]) -> Iterator[Callable[..., tuple[Client, int]]]:
    """Make a client on a terminal of its own: its client, and the terminal's master."""
    masters: list[int] = []

    def make(**settings: Any) -> tuple[Client, int]:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid, master = pty.fork()
        if pid == 0:
            near.close()
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
            _child(lambda: _relay(far, True, **{"tty": True, "detach_keys": KEYS, **settings}))
        far.close()
        masters.append(master)
        clients.append(Client(pid, near))
        return clients[-1], master

    yield make
    for master in masters:
        os.close(master)


def read_all(fd: int) -> bytes:
    found = b""
    while data := os.read(fd, 1 << 16):
        found += data
    return found


def read_some(fd: int, wanted: bytes) -> bytes:
    found = b""
    end = time.monotonic() + LIMIT
    while wanted not in found:
        ready, _, _ = select.select([fd], [], [], end - time.monotonic())
        assert ready, f"{wanted!r} did not come, only {found!r}"
        found += os.read(fd, 1 << 16)
    return found


def is_raw(master: int) -> bool:
    return not termios.tcgetattr(master)[3] & termios.ECHO


# --- streams -------------------------------------------------------------------------------------


def test_output_goes_to_its_stream_and_the_code_is_the_containers(
    piped: Callable[..., Streams],
) -> None:
    client, _, out, err = piped()
    client.frame("stdout", b"a\xff\x00")
    client.frame("stderr", b"e")
    client.frame("stdout", b"b")
    client.frame("exit", code=7)
    assert (read_all(out), read_all(err)) == (b"a\xff\x00b", b"e")
    assert [client.told(), client.told()] == [["finish"], ["close"]]
    assert client.code() == 7


def test_output_before_the_end_is_written_whatever_the_readers_pace(
    piped: Callable[..., Streams],
) -> None:
    client, _, out, _ = piped()
    for _ in range(4):  # more than a pipe holds, less than pipe and socket do
        client.frame("stdout", b"x" * 32768)
    client.frame("exit")
    time.sleep(0.05)
    assert len(read_all(out)) == 4 * 32768
    assert client.told() == ["finish"]


def test_input_goes_on_whole_and_its_end_after_it(piped: Callable[..., Streams]) -> None:
    client, typed, _, _ = piped()
    os.write(typed, b"i" * 2500)
    os.close(typed)
    got = ""
    while (words := client.told())[0] == "stdin":
        got += words[1]
    assert (got, words) == ("i" * 2500, ["eof"])
    client.frame("exit")
    assert client.told() == ["finish"]


def test_an_output_that_is_not_wanted_is_dropped(piped: Callable[..., Streams]) -> None:
    client, _, out, err = piped(outputs=frozenset({"stderr"}))
    client.frame("stdout", b"dropped")
    client.frame("stderr", b"shown")
    client.frame("exit", code=3)
    assert (read_all(out), read_all(err)) == (b"", b"shown")
    assert client.told() == ["finish"]
    assert [client.told(), client.code()] == [["close"], 3]


def test_without_outputs_it_ends_when_its_input_was_taken(piped: Callable[..., Streams]) -> None:
    client, typed, out, _ = piped(outputs=frozenset())
    os.write(typed, b"i" * 1500)
    client.frame("stdout", b"dropped")
    os.close(typed)
    got = ""
    while (words := client.told())[0] == "stdin":
        got += words[1]
    assert (got, words) == ("i" * 1500, ["eof"])
    assert [client.told(), client.told()] == [["drained"], ["close"]]
    assert (client.code(), read_all(out)) == (0, b"")


def test_input_is_not_read_unless_asked_for(piped: Callable[..., Streams]) -> None:
    client, typed, _, _ = piped(stdin=False)
    os.write(typed, b"for somebody else")
    client.frame("stdout", b"x")
    client.frame("exit", code=3)
    assert client.told() == ["finish"]
    assert client.code() == 3


def test_output_is_not_waited_for_while_input_and_signals_come(
    piped: Callable[..., Streams],
) -> None:
    client, typed, _, _ = piped()
    for _ in range(4):  # nobody reads: the pipe holds 64 KiB
        client.frame("stdout", b"x" * 32768)
    time.sleep(0.05)
    os.write(typed, b"still heard")
    assert client.told() == ["stdin", "still heard"]
    os.kill(client.pid, signal.SIGTERM)
    assert client.told() == ["signal", signal.SIGTERM]


def test_a_lost_monitor_is_no_code(piped: Callable[..., Streams]) -> None:
    client, _, _, _ = piped()
    client.wire.close()
    assert client.code() in (97, 141)  # the fake's own last words may meet the closed socket


def test_a_reader_that_leaves_is_told_to_the_container(piped: Callable[..., Streams]) -> None:
    client, _, out, _ = piped()
    os.close(out)
    client.frame("stdout", b"x")
    assert client.told() == ["close_output", "stdout"]
    client.frame("exit", code=1)
    assert client.told() == ["finish"]
    assert client.code() == 141


def test_a_reader_that_leaves_ends_a_client_that_only_looks_on(
    piped: Callable[..., Streams],
) -> None:
    client, _, out, _ = piped(owner=False)
    os.close(out)
    client.frame("stdout", b"x")
    assert client.told() == ["close"]
    assert client.code() == 141


def test_missed_output_is_told(piped: Callable[..., Streams]) -> None:
    client, _, _, err = piped()
    client.frame("lagged", code=5)
    client.frame("exit")
    assert b"output was skipped" in read_all(err)


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN])
def test_signals_are_forwarded(number: int, piped: Callable[..., Streams]) -> None:
    client, _, out, _ = piped()
    client.frame("stdout", b"up")
    read_some(out, b"up")
    os.kill(client.pid, number)
    assert client.told() == ["signal", number]
    client.frame("exit", code=128 + number)
    assert client.told() == ["finish"]
    assert client.code() == 128 + number


def test_a_stopped_client_stops_alone(piped: Callable[..., Streams]) -> None:
    client, _, out, _ = piped()
    client.frame("stdout", b"up")
    read_some(out, b"up")
    # The kernel stops nobody whose process group has no parent in the session (tcsetpgrp(3),
    # "orphaned"), as ours may be: the client gets a group that has one.
    os.setpgid(client.pid, client.pid)
    os.kill(client.pid, signal.SIGTSTP)
    _, status = os.waitpid(client.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.kill(client.pid, signal.SIGCONT)
    client.frame("exit", code=4)
    assert client.told() == ["finish"]
    assert client.code() == 4


def test_without_the_proxy_signals_are_ours(piped: Callable[..., Streams]) -> None:
    client, _, out, _ = piped(sig_proxy=False)
    client.frame("stdout", b"up")
    read_some(out, b"up")
    os.kill(client.pid, signal.SIGTERM)
    assert client.code() == -signal.SIGTERM


def test_handlers_are_put_back() -> None:
    code = (
        "import signal, os, socket\n"
        "from pycontain.cli.terminal import SignalPipe\n"
        "before = [signal.getsignal(n) for n in (2, 15, 10)]\n"
        "with SignalPipe({2, 15, 10}) as pipe:\n"
        "    os.kill(os.getpid(), 15); os.kill(os.getpid(), 10)\n"
        "    assert pipe.take() == [15, 10], 'order'\n"
        "    assert pipe.take() == []\n"
        "assert before == [signal.getsignal(n) for n in (2, 15, 10)]\n"
        "assert signal.set_wakeup_fd(-1) == -1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT)


# --- the terminal --------------------------------------------------------------------------------


def test_the_terminal_is_raw_while_it_is_the_containers(
    on_terminal: Callable[..., tuple[Client, int]],
) -> None:
    client, master = on_terminal()
    assert client.told() == ["resize", 30, 90]
    assert is_raw(master)
    os.write(master, b"\x03\x1a\r")
    assert client.told() == ["stdin", "\x03\x1a\r"]
    client.frame("stdout", b"shown")
    client.frame("exit", code=5)
    assert client.told() == ["finish"]
    assert not is_raw(master)
    assert client.code() == 5


def test_a_new_size_is_passed_on(on_terminal: Callable[..., tuple[Client, int]]) -> None:
    client, master = on_terminal()
    assert client.told() == ["resize", 30, 90]
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 40, 0, 0))
    assert client.told() == ["resize", 20, 40]


def test_detach_keys_leave_the_container_alone(
    on_terminal: Callable[..., tuple[Client, int]],
) -> None:
    client, master = on_terminal()
    client.told()
    os.write(master, b"a\x10")
    assert client.told() == ["stdin", "a"]
    os.write(master, b"\x11")
    assert client.told() == ["close"]
    assert not is_raw(master)
    assert client.code() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_client_with_its_terminal_restored(
    number: int, on_terminal: Callable[..., tuple[Client, int]]
) -> None:
    client, master = on_terminal()
    client.told()
    os.kill(client.pid, number)
    assert client.told() == ["close"]
    assert not is_raw(master)
    assert client.code() == 128 + number


def test_a_crash_restores_the_terminal(on_terminal: Callable[..., tuple[Client, int]]) -> None:
    client, master = on_terminal()
    client.told()
    client.wire.send(b"not a frame")
    read_some(master, b"JSONDecodeError")
    assert not is_raw(master)
    assert client.code() == 99


def test_raw_mode_comes_back_after_a_stop(
    on_terminal: Callable[..., tuple[Client, int]],
) -> None:
    client, master = on_terminal()
    client.told()
    os.kill(client.pid, signal.SIGSTOP)
    os.waitpid(client.pid, os.WUNTRACED)
    mode = termios.tcgetattr(master)
    mode[3] |= termios.ECHO | termios.ICANON  # as a shell does
    termios.tcsetattr(master, termios.TCSANOW, mode)
    os.kill(client.pid, signal.SIGCONT)
    assert client.told() == ["resize", 30, 90]
    assert is_raw(master)


def test_leaving_raw_mode_twice_or_without_a_terminal_is_no_error() -> None:
    master, slave = pty.openpty()
    mode = RawMode(slave)
    before = termios.tcgetattr(slave)
    mode.leave()
    mode.enter()
    assert is_raw(slave)
    mode.leave()
    mode.leave()
    assert termios.tcgetattr(slave) == before
    mode.enter()
    os.close(master)
    os.close(slave)
    mode.leave()
