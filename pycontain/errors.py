"""The one exception tree of pycontain.

::

    PycontainError(message, hint)
    ├── InvalidInput        the user's words cannot be carried out by anybody
    ├── NotFound            no such container, image, …
    ├── Conflict            the name or object is taken
    ├── InvalidState        the verb is not legal in the object's present state
    ├── StoreError          a file of the store is unreadable, damaged or cannot be written
    ├── ImageError
    │   ├── RegistryError
    │   └── DigestMismatch
    ├── KernelError(step, subject, errno)
    │   ├── NotSupported    this kernel or machine does not offer it
    │   └── NotPermitted    the caller may not
    ├── CommandError        the container's command could not be started
    │   ├── CommandNotFound
    │   └── NotExecutable
    ├── Incomplete(exit_code, stdout, stderr)
    │   │                   the command was started, and its result is not what was asked for
    │   ├── TimedOut        it was killed: its time was over
    │   ├── OutputLimit     it was killed: it wrote more than was allowed
    │   └── CommandFailed   its exit code is not 0, and that was to be an error
    └── Cancelled           whoever waited does not any more

Messages are lower case, without a full stop, and name the object, the step and the reason; a hint
says what the user can do. Faces (the command line, the OCI runner) map classes to exit codes.
"""

import errno as _errno
import os


class PycontainError(Exception):
    """The root: every error that pycontain raises on purpose."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class InvalidInput(PycontainError):
    """The user's words cannot be carried out by anybody."""


class NotFound(PycontainError):
    """No such object."""


class Conflict(PycontainError):
    """The name or the object is taken."""


class InvalidState(PycontainError):
    """The verb is not legal in the object's present state."""


class StoreError(PycontainError):
    """A file of the store is unreadable, damaged or cannot be written."""


class ImageError(PycontainError):
    """An image cannot be used."""


class RegistryError(ImageError):
    """A registry refused or failed.

    Attributes:
        status: the HTTP status it answered with, 0 where it gave no answer.
        code: its word for the reason (OCI distribution specification, "Error Codes"), such as
            ``MANIFEST_UNKNOWN``, or "".
    """

    def __init__(
        self, message: str, hint: str | None = None, *, status: int = 0, code: str = ""
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.code = code


class DigestMismatch(ImageError):
    """Content is not what its digest says."""


class KernelError(PycontainError):
    """A system call failed: the step that made it, what it was made on, and errno."""

    def __init__(self, step: str, subject: str, errno: int, hint: str | None = None) -> None:
        reason = os.strerror(errno).lower()
        super().__init__(f"{step}: {subject}: {reason}" if subject else f"{step}: {reason}", hint)
        self.step = step
        self.subject = subject
        self.errno = errno


class NotSupported(KernelError):
    """The kernel or the machine does not offer it."""


class NotPermitted(KernelError):
    """The caller may not."""


class CommandError(PycontainError):
    """The container's command could not be started."""


class CommandNotFound(CommandError):
    """The container's command does not exist."""


class NotExecutable(CommandError):
    """The container's command exists and cannot be executed."""


class Incomplete(PycontainError):
    """A command was started, and its result is not what was asked for.

    Attributes:
        exit_code: 128 + signal where one killed it.
        stdout, stderr: its output up to then.
    """

    def __init__(self, message: str, *, exit_code: int, stdout: bytes, stderr: bytes) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr


class TimedOut(Incomplete):
    """The command was killed, because its time was over."""


class OutputLimit(Incomplete):
    """The command was killed, because it wrote more than was allowed."""


class CommandFailed(Incomplete):
    """The command ended with an exit code other than 0."""


class Cancelled(PycontainError):
    """Whoever waited does not any more."""

    def __init__(self) -> None:
        super().__init__("cancelled by the caller")


_KINDS: dict[int, type[KernelError]] = {
    _errno.ENOSYS: NotSupported,
    _errno.EOPNOTSUPP: NotSupported,
    _errno.EPERM: NotPermitted,
    _errno.EACCES: NotPermitted,
}


def kernel_error(step: str, subject: str, errno: int, hint: str | None = None) -> KernelError:
    """Return the member of the ``KernelError`` family that fits `errno`."""
    return _KINDS.get(errno, KernelError)(step, subject, errno, hint)


_SHORTAGES = frozenset((
    _errno.EAGAIN, _errno.EDQUOT, _errno.EMFILE, _errno.ENFILE, _errno.ENOBUFS, _errno.ENOMEM,
    _errno.ENOSPC,
))  # fmt: skip


def is_shortage(err: BaseException | None) -> bool:
    """Whether an error says that there was not enough of something, and not what is wrong: later
    there may be.

    Args:
        err: what was raised; what it was raised from counts, too.
    """
    while err is not None:
        if isinstance(err, MemoryError) or getattr(err, "errno", None) in _SHORTAGES:
            return True
        err = err.__cause__
    return False
