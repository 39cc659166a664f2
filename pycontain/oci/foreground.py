"""Staying for the end of a process: signals go to it, its terminal is ours, its code is ours."""

from __future__ import annotations

# The C module: the signal module is a face of it, made of enums.
import _signal  # type: ignore[import-not-found]
import fcntl
import os
import select

from pycontain._native._kernel import lib

_KEPT = frozenset(
    getattr(_signal, name)
    for name in (
        "SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE", "SIGURG", "SIGWINCH", "SIGTSTP", "SIGTTIN",
        "SIGTTOU", "SIGCONT", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL",
    )
)  # fmt: skip
_CHUNK = 1 << 16


class Terminal:
    """The other end of a process's terminal, connected to ours."""

    def __init__(self) -> None:
        self.fd = -1
        self._before: list[object] | None = None

    def take(self, fd: int) -> None:
        """Keep a copy of the other end."""
        self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        self.resize()

    def resize(self, *_: object) -> None:
        """Give the process's terminal the size of ours."""
        import termios

        if os.isatty(0):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self.fd, termios.TIOCSWINSZ, size)

    def raw(self) -> None:
        """Let our terminal pass every key on."""
        import termios

        if not os.isatty(0):
            return
        self._before = termios.tcgetattr(0)
        mode = termios.tcgetattr(0)
        mode[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR
            | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        mode[1] &= ~termios.OPOST
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(0, termios.TCSANOW, mode)

    def restore(self) -> None:
        """Make our terminal what it was."""
        if self._before is not None:
            import termios

            termios.tcsetattr(0, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]
            self._before = None


def hold_signals() -> None:
    """Keep signals until ``wait``: one that comes while a process is being started is for it."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _forwarded())


def _forwarded() -> list[int]:
    # 32 and 33 are the C library's own (nptl(7)).
    return [number for number in range(1, _signal.NSIG) if number not in _KEPT | {32, 33}]


def wait(pid: int, terminal: Terminal) -> int:
    """Stay until our child `pid` has ended.

    Returns:
        Its exit code, or 128 + the signal that ended it.
    """
    pidfd = os.pidfd_open(pid)
    try:
        _forward_signals(pidfd)
        if terminal.fd >= 0:
            _signal.signal(_signal.SIGWINCH, terminal.resize)
            try:
                terminal.raw()
                _relay(terminal.fd, pidfd)
            finally:
                terminal.restore()
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(pidfd)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _forward_signals(pidfd: int) -> None:
    def forward(number: int, _: object) -> None:
        lib.pidfd_send_signal(pidfd, number)  # it may have ended: then there is nobody to tell

    for number in _forwarded():
        _signal.signal(number, forward)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _forwarded())


def _relay(console: int, pidfd: int) -> None:
    """Carry bytes both ways until the process has ended and its last words are read."""
    poller = select.poll()
    for fd in (0, console, pidfd):
        poller.register(fd, select.POLLIN)
    while True:
        ready = dict(poller.poll())
        if 0 in ready and not _copy(0, console):
            poller.unregister(0)
        if console in ready and not _copy(console, 1):
            return
        # The terminal may be open elsewhere: the process's end is the end, once all is read.
        if pidfd in ready and console not in ready:
            return


def _copy(source: int, target: int) -> bool:
    """Copy what is there; False at the end."""
    try:
        data = memoryview(os.read(source, _CHUNK))
    except OSError:
        return False  # EIO: nobody has the terminal open any more (pty(7))
    if not data:
        return False
    while data:
        data = data[os.write(target, data) :]
    return True
