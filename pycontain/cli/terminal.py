"""The attach client: this process's standard streams, terminal and signals, and a container's.

One loop around poll(2) over three descriptors: the attachment, standard input, and a pipe into
which the interpreter writes the number of each signal (signal.set_wakeup_fd), so that nothing is
done inside a handler and no signal falls between two calls. Nothing is read from the attachment
while output waits to be written: memory is bounded by one frame, and a slow reader of ours is the
monitor's to cut off.

A face may change its own process: here it sets signal handlers and the terminal's mode, and undoes
both however the loop ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import stat
from typing import TYPE_CHECKING, Any

from pycontain.cli import streams
from pycontain.errors import kernel_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Protocol

    class _Frame(Protocol):
        """One piece of what comes back."""

        @property
        def kind(self) -> str: ...
        @property
        def data(self) -> bytes: ...
        @property
        def code(self) -> int: ...

    class Attachment(Protocol):
        """What the engine gives for a container or an exec that we are attached to."""

        def fileno(self) -> int:
            """Return the descriptor to poll."""

        def read(self) -> _Frame | None:
            """Return what came, None if nothing did; never blocks."""

        def write_stdin(self, data: bytes) -> int:
            """Pass input on; return how much was taken, 0 when full."""

        def close_stdin(self) -> bool:
            """Pass the end of input on; False when there is no room for it yet."""

        @property
        def owner(self) -> bool:
            """Whether we started it, and are its pipe."""

        def drained(self) -> bool:
            """Whether all that we sent has been taken."""

        def close_output(self, stream: str) -> None:
            """Say that nobody reads this stream any more."""

        def resize(self, rows: int, cols: int) -> None:
            """Set the terminal's size."""

        def signal(self, number: int) -> None:
            """Send a signal."""

        def finish(self) -> None:
            """Do what is due after the exit frame."""

        def close(self) -> None:
            """Detach."""


STDIN, STDOUT, STDERR = 0, 1, 2
OUTPUTS = frozenset(("stdout", "stderr"))
"""All that comes back."""

_DRAIN = 10  # milliseconds between looks at what the other side has taken
_STREAMS = {STDOUT: "standard output", STDERR: "standard error"}

_CHUNK = 32 << 10
# poll(2) promises room for this much on a pipe (pipe(7)), so that a write does not block
_ATOMIC = select.PIPE_BUF

# Frames in a row before signals and input are looked at again.
_ROUND = 64

# Never forwarded. Job control is this process's own: Ctrl-Z stops the client, not the container.
# A fault must end the process that has it: the handler would return to the same instruction.
_OWN = frozenset(
    (
        signal.SIGKILL,
        signal.SIGSTOP,
        signal.SIGCHLD,
        signal.SIGPIPE,
        signal.SIGURG,
        signal.SIGWINCH,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGCONT,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
    )
)

# What ends a client whose terminal is in raw mode: the terminal is restored first.
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


class DetachFilter:
    """Finds the detach keys in what the user types; whatever only begins like them goes through.

    Args:
        keys: the sequence; empty finds nothing.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what goes through now, and whether the sequence is complete."""
        if not self._keys:
            return data, False
        held = self._held + data
        at = held.find(self._keys)
        if at >= 0:
            self._held = b""
            return held[:at], True
        # hold the longest end that may still become the sequence
        for size in range(min(len(self._keys) - 1, len(held)), 0, -1):
            if held.endswith(self._keys[:size]):
                self._held = held[-size:]
                return held[:-size], False
        self._held = b""
        return held, False

    def flush(self) -> bytes:
        """Return what is held: no more will come."""
        held, self._held = self._held, b""
        return held


def terminal_size(fd: int = STDOUT) -> tuple[int, int] | None:
    """Return rows and columns of the terminal `fd`; None when it is none or does not know."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return None
    return (size.lines, size.columns) if size.lines and size.columns else None


def our_size() -> tuple[int, int] | None:
    """Return rows and columns of the terminal that we write to, else of the one we read from."""
    return terminal_size(STDOUT) or terminal_size(STDIN)


class RawMode:
    """The terminal's raw mode: every key goes to the container, none is acted on here.

    Args:
        fd: of the terminal.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] | None = None

    def enter(self) -> None:
        """Switch to raw mode (termios(3), cfmakeraw); again after a stop, where the shell reset it.

        What was typed ahead is kept: it is the container's.
        """
        import termios

        now = termios.tcgetattr(self._fd)
        if self._before is None:
            self._before = list(now)
        iflag, oflag, cflag, lflag, ispeed, ospeed, cc = now
        iflag &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        oflag &= ~termios.OPOST
        lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        cflag = (cflag & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        cc = list(cc)
        cc[termios.VMIN], cc[termios.VTIME] = 1, 0
        raw = [iflag, oflag, cflag, lflag, ispeed, ospeed, cc]
        termios.tcsetattr(self._fd, termios.TCSANOW, raw)

    def leave(self) -> None:
        """Restore the mode from before; a terminal that is gone has none."""
        if self._before is None:
            return
        import termios

        before, self._before = self._before, None
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, before)
        except termios.error as err:
            if err.args[0] not in (errno.EIO, errno.ENOTTY, errno.EBADF):
                raise


class SignalPipe:
    """Signals as bytes to read: enter it, poll ``fileno()``, ``take()`` their numbers.

    Args:
        numbers: the signals that are caught while it is entered.
    """

    def __init__(self, numbers: set[int]) -> None:
        self._numbers = numbers
        self._before: dict[int, Any] = {}
        self._old_wakeup = -1
        self._read = self._write = -1

    def __enter__(self) -> SignalPipe:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._old_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._numbers:
            self._before[number] = signal.signal(number, _noted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # None: set by someone who is not Python; it cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._read

    def take(self) -> list[int]:
        """Return the signals that came, in order."""
        try:
            return list(os.read(self._read, 4096))
        except BlockingIOError:
            return []


def _noted(number: int, frame: FrameType | None) -> None:
    """Do nothing: the number is in the pipe already."""


class Relay:
    """Joins our standard streams with an attachment until it ends or the user detaches.

    Args:
        attachment: the engine's.
        stdin: pass our standard input on.
        tty: the other side is a terminal.
        detach_keys: the sequence, in bytes; heeded on terminals only, as docker does.
        sig_proxy: forward signals; not where the other side is a terminal.
        outputs: what is shown. With none of them, this ends when all of our input was taken.
    """

    def __init__(
        self,
        attachment: Attachment,
        *,
        stdin: bool,
        tty: bool,
        detach_keys: bytes = b"",
        sig_proxy: bool = True,
        outputs: frozenset[str] = OUTPUTS,
    ) -> None:
        self.attachment = attachment
        self._outputs = outputs
        self.detached = False
        self._raw = RawMode(STDIN) if stdin and tty and os.isatty(STDIN) else None
        self._sized = tty and our_size() is not None
        self._proxy = sig_proxy and not tty
        self._filter = DetachFilter(detach_keys if tty else b"")
        self._reading = stdin
        self._typed = b""
        self._eof = False
        self._output = b""
        self._target = STDOUT
        self._more = False
        self._code: int | None = None
        self._ended = False
        self._ending_signal = 0
        self._broken = False
        self._pipe = attachment.owner and not tty

    def run(self) -> int | None:
        """Relay until the end.

        Returns:
            The exit code; 0 after a detach, or when all input was taken and no output is shown;
            128 + n when signal n ended this client and the container runs on; None when the
            other side vanished without a code.

        Raises:
            BrokenPipeError: whoever reads our output has gone.
            KernelError: our output cannot be written, for instance to a full disk.
        """
        try:
            with SignalPipe(self._caught()) as signals:
                try:
                    self._enter()
                    self._loop(signals)
                finally:
                    if self._raw is not None:
                        self._raw.leave()
        finally:
            if self._code is None:
                self.attachment.close()
        if self._code is not None:
            self.attachment.finish()
            self.attachment.close()
            if self._broken:
                raise BrokenPipeError(errno.EPIPE, "standard output")
            return self._code
        if self._ending_signal:
            return 128 + self._ending_signal
        return 0 if self.detached else None

    def _caught(self) -> set[int]:
        caught: set[int] = set()
        if self._proxy:
            caught |= {number for number in signal.valid_signals() if number not in _OWN}
        if self._sized:
            caught.add(signal.SIGWINCH)
        if self._raw is not None:
            caught |= {signal.SIGCONT, *_ENDING}
        # what the caller ignores (nohup) stays ignored
        return {number for number in caught if signal.getsignal(number) is not signal.SIG_IGN}

    def _enter(self) -> None:
        if self._raw is not None:
            self._raw.enter()
        self._resize()

    def _resize(self) -> None:
        size = our_size() if self._sized else None
        if size is not None:
            self._tell(self.attachment.resize, *size)

    def _loop(self, signals: SignalPipe) -> None:
        while not (self._ended or self.detached or self._ending_signal):
            ready = self._wait(signals)
            if signals.fileno() in ready:
                for number in signals.take():
                    self._handle(number)
            self._write_output()
            if not self._output and (self._more or self.attachment.fileno() in ready):
                self._read_frames()
            if self._reading and STDIN in ready and not self._typed:
                self._read_stdin()
            self._write_stdin()
            if self._only_drains() and self.attachment.drained():
                self.detached = True

    def _only_drains(self) -> bool:
        """Whether all that is left is that the other side takes our input."""
        return not (self._outputs or self._reading or self._typed or self._eof)

    def _wait(self, signals: SignalPipe) -> set[int]:
        poll = select.poll()
        poll.register(signals.fileno(), select.POLLIN)
        events = 0 if self._output else select.POLLIN
        if self._typed or self._eof:
            events |= select.POLLOUT
        if events:
            poll.register(self.attachment.fileno(), events)
        if self._output:
            poll.register(self._target, select.POLLOUT)
        if self._reading and not self._typed:
            poll.register(STDIN, select.POLLIN)
        timeout = _DRAIN if self._only_drains() else None
        return {fd for fd, _ in poll.poll(0 if self._more and not self._output else timeout)}

    def _handle(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self._resize()
        elif number == signal.SIGCONT and self._raw is not None:
            self._raw.enter()
            self._resize()
        elif self._proxy:
            self._tell(self.attachment.signal, number)
        elif number in _ENDING:
            self._ending_signal = number

    def _read_frames(self) -> None:
        """Take some frames; whether the attachment may hold more is noted for the next round."""
        for _ in range(_ROUND):
            frame = self.attachment.read()
            self._more = frame is not None
            if frame is None:
                return
            self._take(frame)
            if self._output or self._ended:
                return

    def _take(self, frame: _Frame) -> None:
        if frame.kind in OUTPUTS:
            if frame.kind not in self._outputs:
                return
            self._output = frame.data
            self._target = STDOUT if frame.kind == "stdout" else STDERR
            self._write_output()
        elif frame.kind == "exit":
            # the last word: all output came before it
            self._code = frame.code
            self._ended = True
        elif frame.kind == "closed":
            self._ended = True
        elif frame.kind == "lagged":
            end = "\n" if self._raw is None else "\r\n"
            streams.complain(f"pycontain: output was skipped: we read too slowly{end}")

    def _write_output(self) -> None:
        """Write what fits without blocking, so that signals and typing are heeded meanwhile."""
        while self._output and self._writable(self._target):
            try:
                count = os.write(self._target, self._output[: _chunk(self._target)])
            except BlockingIOError:
                return
            except BrokenPipeError:
                if not self._pipe:
                    raise
                # The container learns it as any member of a pipeline does; we wait for its end.
                self._broken = True
                self.attachment.close_output("stderr" if self._target == STDERR else "stdout")
                count = len(self._output)
            except OSError as err:
                raise kernel_error("write", _STREAMS[self._target], err.errno or 0) from err
            self._output = self._output[count:]

    @staticmethod
    def _writable(fd: int) -> bool:
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        # an error counts: the write says which
        return bool(poll.poll(0))

    def _read_stdin(self) -> None:
        try:
            data = os.read(STDIN, _CHUNK)
        except BlockingIOError:
            return
        except OSError as err:
            # the terminal hung up, or we are in the background of an orphaned group (tty_ioctl(4))
            if err.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self._reading = False
            self._eof = True
            self._typed = self._filter.flush()
            return
        self._typed, self.detached = self._filter.feed(data)

    def _write_stdin(self) -> None:
        try:
            if self._typed and not self._ended:
                self._typed = self._typed[self.attachment.write_stdin(self._typed) :]
            if self._eof and not self._typed and not self._ended:
                self._eof = not self.attachment.close_stdin()
        except ConnectionError:
            # the other side has ended; its last frames are still to be read
            self._reading = self._eof = False
            self._typed = b""

    @staticmethod
    def _tell(act: Callable[..., None], *arguments: int) -> None:
        # the other side may end at any moment; its last frames say so
        with contextlib.suppress(ConnectionError):
            act(*arguments)


def _chunk(fd: int) -> int:
    return _CHUNK if stat.S_ISREG(os.fstat(fd).st_mode) else _ATOMIC
