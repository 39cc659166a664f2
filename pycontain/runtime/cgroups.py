"""A container's cgroup: made with its limits, changed, removed.

cgroup v2 only (Documentation/admin-guide/cgroup-v2.rst). ``resources`` says which lines go into
which control files; here they meet the kernel.
"""

from __future__ import annotations

import errno
import os

from pycontain.errors import (
    Conflict,
    InvalidInput,
    KernelError,
    NotFound,
    NotSupported,
    PycontainError,
    kernel_error,
)
from pycontain.kernel import cgroup
from pycontain.runtime.resources import NESTED, writes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pycontain.model import oci
    from pycontain.runtime.resources import Write

ACCOUNTING = ("cpu", "io", "memory", "pids")
"""Controllers whose figures managers show for every container, with limits or without."""

_RECLAIMS = 5

_HINTS = {
    "cpu.max": "the quota may not be less than cpu.burst, nor more than the kernel counts (weeks)",
    "cpu.max.burst": "the burst may not be larger than cpu.quota",
    "cpu.weight": "an idle cgroup has no weight: set cpu.idle to 0 first",
    "io.max": "the numbers must be those of a whole disk that is there",
    "cpuset.cpus": "each CPU must exist, and a range begin with its lower end",
    "cpuset.mems": "each memory node must exist, and a range begin with its lower end",
    "pids.max": "there are never more tasks than 4194304; -1 is no limit",
}
_UNFIT = (errno.EINVAL, errno.ENODEV, errno.ERANGE)
"""How control files refuse a value that can never be."""


_REASONS = {
    errno.EBUSY: "processes are in that cgroup itself",
    errno.EOPNOTSUPP: "it is in a threaded subtree",
    errno.EINVAL: "realtime processes are outside the root",
}
"""Why cgroup.subtree_control refuses (cgroup-v2.rst)."""


def make(path: str, resources: oci.Resources, *, accounting: Sequence[str] = ACCOUNTING) -> int:
    """Make the cgroup `path` with its limits, and those above it where they are missing.

    Controllers are enabled in the cgroups above as far as the limits need them; that is not undone
    upon failure, as others may rely on it by then. What was made is.

    Args:
        path: ``linux.cgroupsPath``, absolute, below the root of cgroup v2.
        resources: ``linux.resources``.
        accounting: controllers that are enabled too where that is possible.

    Returns:
        A descriptor of the cgroup's folder.

    Raises:
        InvalidInput: the path or a value cannot be; see ``writes``.
        Conflict: processes are in the cgroup, or it is frozen or hands controllers down.
        NotSupported: a controller is needed that is not there; with its name and the reason.
        KernelError: the kernel refuses: with the file and the value.
    """
    parts = _parts(path)
    lines = writes(resources)
    try:
        return _make(path, parts, lines, accounting)
    except KernelError as err:
        if err.errno not in (errno.ENOENT, errno.ENODEV):
            raise
    # A make that failed took a cgroup away that this one was in: it is made again.
    return _make(path, parts, lines, accounting)


def _make(path: str, parts: Sequence[str], lines: Sequence[Write], wished: Sequence[str]) -> int:
    made: list[tuple[int, str]] = []
    opened = [cgroup.open_root()]
    try:
        for at, part in enumerate(parts):
            _enable(opened[-1], "/" + "/".join(parts[:at]), lines, wished)
            opened.append(_enter(opened[-1], part, path, made))
        _check(opened[-1], path, new=bool(made) and made[-1][0] == opened[-2])
        for line in _resolve(opened[-1], lines):
            _write(opened[-1], path, line)
        return opened.pop()
    except BaseException:
        for parent, name in reversed(made):
            _rmdir(parent, name)
        raise
    finally:
        for fd in opened:
            os.close(fd)


def _parts(path: str) -> list[str]:
    """The names in a path, checked."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not path.startswith("/") or not parts:
        raise InvalidInput(f"linux.cgroupsPath: {path!r} is no absolute path below the root")
    if ".." in parts or "\0" in path or "\n" in path:
        raise InvalidInput(f"linux.cgroupsPath: {path!r} may not have '..', NUL or newline")
    return parts


def _enter(parent: int, name: str, path: str, made: list[tuple[int, str]]) -> int:
    """Open a cgroup, made where it is missing."""
    try:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
            made.append((parent, name))
        except FileExistsError:
            pass
        return cgroup.open_folder(parent, name)
    except OSError as err:
        raise kernel_error("make cgroup", f"{path}: {name}", err.errno or 0) from err


def _rmdir(parent: int, name: str) -> None:
    """Take back what was made, unless somebody else uses it by now."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as err:
        if err.errno not in (errno.EBUSY, errno.ENOTEMPTY, errno.ENOENT):
            raise kernel_error("remove cgroup", name, err.errno or 0) from err


def _check(folder: int, path: str, *, new: bool) -> None:
    """Whether a process can be put here, and nobody else's already is."""
    kind = (cgroup.read(folder, "cgroup.type") or "domain").strip()
    if kind not in ("domain", "domain threaded"):
        # cgroup-v2.rst, "Threads": below a threaded cgroup there are threads only.
        raise Conflict(f"cgroup {path}: it is {kind}, as it is in a threaded subtree")
    if new:
        return
    if "populated 1" in (cgroup.read(folder, "cgroup.events") or ""):
        raise Conflict(f"cgroup {path}: there are processes in it", "give another cgroupsPath")
    if (cgroup.read(folder, "cgroup.freeze") or "").strip() == "1":
        raise Conflict(f"cgroup {path}: it is frozen")
    if words := (cgroup.read(folder, "cgroup.subtree_control") or "").split():
        # cgroup-v2.rst, "No Internal Process Constraint".
        raise Conflict(
            f"cgroup {path}: it hands {', '.join(words)} down, so no process may be in it"
        )


def _enable(folder: int, name: str, lines: Iterable[Write], wished: Iterable[str]) -> None:
    """Hand controllers to the cgroups below `folder`."""
    needed = _needed(lines)
    wished = {*wished, *(line.controller for line in lines if line.controller)} - needed.keys()
    if not needed and not wished:
        return
    offered = _offered(folder)
    _require(folder, name, needed, offered)
    handed = set((cgroup.read(folder, "cgroup.subtree_control") or "").split())
    missing, wished = sorted(needed.keys() - handed), sorted((wished & offered) - handed)
    if (missing or wished) and _inhabited(folder):
        if missing:
            subject = f"{', '.join(missing)} below {name} (processes are in that cgroup itself)"
            raise kernel_error("enable cgroup controller", subject, errno.EBUSY)
        return
    if missing:
        _hand_down(folder, name, missing)
    for controller in wished:
        try:
            _hand_down(folder, name, [controller])
        except KernelError:
            continue  # it is for figures only: nothing that was asked for depends on it


def _needed(lines: Iterable[Write]) -> dict[str, Write]:
    """The controllers without which a line cannot be kept, and such a line."""
    found: dict[str, Write] = {}
    for line in lines:
        if line.controller and not line.moot:
            found.setdefault(line.controller, line)
    return found


def _offered(folder: int) -> set[str]:
    return set((cgroup.read(folder, "cgroup.controllers") or "").split())


def _require(folder: int, name: str, needed: Mapping[str, Write], offered: set[str]) -> None:
    for controller, line in needed.items():
        if controller not in offered:
            raise _missing(folder, name, controller, line)


def require(resources: oci.Resources) -> None:
    """Refuse limits whose controllers this machine's cgroup v2 does not offer; change nothing.

    Raises:
        InvalidInput: see ``writes``.
        NotSupported: with the controller's name and the reason.
        KernelError: there is no cgroup v2.
    """
    needed = _needed(writes(resources))
    root = cgroup.open_root()
    try:
        _require(root, "/", needed, _offered(root))
    finally:
        os.close(root)


def accounts(root: int) -> bool:
    """Return whether `root`, of the hierarchy, offers a controller of ``ACCOUNTING``."""
    return not _offered(root).isdisjoint(ACCOUNTING)


def _inhabited(folder: int) -> bool:
    """Whether processes are in the cgroup itself, which only the root may have beside controllers.

    The kernel refuses some controllers then (cgroup-v2.rst, "No Internal Process Constraint"), and
    with the others it makes the cgroup the root of a threaded subtree, where no process can be put.
    """
    if cgroup.read(folder, "cgroup.type") is None:  # the real root
        return False
    return bool((cgroup.read(folder, "cgroup.procs") or "").strip())


def _hand_down(folder: int, name: str, controllers: Sequence[str]) -> None:
    try:
        cgroup.write(folder, "cgroup.subtree_control", " ".join(f"+{word}" for word in controllers))
    except KernelError as err:
        reason = _REASONS.get(err.errno)
        subject = f"{', '.join(controllers)} below {name}" + (f" ({reason})" if reason else "")
        raise kernel_error("enable cgroup controller", subject, err.errno) from err


def _missing(folder: int, name: str, controller: str, line: Write) -> NotSupported:
    if cgroup.read(folder, "cgroup.type") is not None:  # only the real root has none
        reason = f"it is not handed down to {name}"
    elif cgroup.in_version_1(controller):
        reason = "a cgroup v1 hierarchy has it"
    else:
        reason = "this kernel does not offer it"
    return NotSupported(
        "enable cgroup controller",
        f"{controller} ({reason}), needed for {line.file}={line.text}",
        errno.EOPNOTSUPP,
    )


def _resolve(folder: int, lines: Iterable[Write]) -> list[Write]:
    """What is to be written, by the files that are there."""
    found = []
    for line in lines:
        while not cgroup.exists(folder, line.file) and line.instead:
            line = line.instead
        if not line.moot or cgroup.exists(folder, line.file):
            found.append(line)
    return found


def _write(folder: int, path: str, line: Write) -> None:
    try:
        cgroup.write(folder, line.file, line.text or "\n")  # an empty write would do nothing
    except KernelError as err:
        subject = f"{path}: {line.file}={line.text}"
        if err.errno == errno.ENOENT:
            raise NotSupported(
                "write cgroup", f"{subject} (this kernel has no such file)", errno.EOPNOTSUPP
            ) from err
        hint = _HINTS.get(line.file) if err.errno in _UNFIT else None
        raise kernel_error("write cgroup", subject, err.errno, hint) from err


def update(
    folder: int,
    resources: oci.Resources,
    *,
    reclaim: bool = False,
    then: Callable[[], None] | None = None,
) -> None:
    """Change the limits of a living cgroup: all of them, or upon failure none.

    What `resources` does not say stays. Memory plus swap is taken with the present memory limit
    where none is said, and a period with the present quota.

    Args:
        folder: of the cgroup, from ``make`` or ``open_folder``.
        resources: the changes, as ``linux.resources``.
        reclaim: where more memory is in use than its new limit, have the kernel take back first
            what it can (file cache, what may be swapped). Without it, it kills for the rest.
        then: called when they are made; where it fails, what was changed is as it was again.

    Raises:
        InvalidInput: see ``writes``.
        Conflict: with ``checkBeforeUpdate`` more memory is used than the new limit; with `reclaim`
            it cannot be brought below it.
        NotFound: the cgroup has been removed.
        NotSupported: a controller is needed that is not there.
        KernelError: the kernel refuses a value; what was changed before is as it was again.
    """
    path = _name(folder)
    lines = writes(_completed(folder, resources))
    _check_usage(folder, path, resources)
    if any(not line.moot and not _there(folder, line) for line in lines):
        _enable_above(folder, lines)
    lines = _resolve(folder, lines)
    before = _present(folder, lines)
    done: list[Write] = []
    try:
        for line in _in_order(lines, before):
            if reclaim and line.file == "memory.max":
                _make_room(folder, path, line)
            _write(folder, path, line)
            done.append(line)
        if then:
            then()
    except PycontainError as err:
        if left := [line.file for line in reversed(done) if not _restored(folder, line, before)]:
            err.hint = f"what could not be set back: {', '.join(left)}"
        raise


def _present(folder: int, lines: Iterable[Write]) -> dict[str, str]:
    """What the files hold; the weight too, which the kernel sets when the cgroup becomes idle."""
    files = {"cpu.weight", *(line.file for line in lines)}
    return {file: (cgroup.read(folder, file) or "").strip() for file in files}


def _name(folder: int) -> str:
    """Where the cgroup is, for errors."""
    path = os.readlink(f"/proc/self/fd/{folder}")
    if path.endswith(" (deleted)"):
        raise NotFound(f"cgroup {path.removesuffix(' (deleted)')}: it has been removed")
    return path


def _there(folder: int, line: Write) -> bool:
    return any(cgroup.exists(folder, file) for file in line.files())


def _completed(folder: int, resources: oci.Resources) -> oci.Resources:
    """The changes with the present values that they can only be understood with."""
    memory, cpu = resources.get("memory", {}), resources.get("cpu", {})
    completed: oci.Resources = {**resources}
    if memory.get("swap", 0) > 0 and not memory.get("limit"):
        completed["memory"] = {**memory, "limit": _present_limit(folder, "memory.max")}
    if cpu.get("period") and not cpu.get("quota"):
        completed["cpu"] = {**cpu, "quota": _present_limit(folder, "cpu.max")}
    return completed


def _present_limit(folder: int, file: str) -> int:
    text = (cgroup.read(folder, file) or "max").split()[0]
    return -1 if text == "max" else int(text)


def _check_usage(folder: int, path: str, resources: oci.Resources) -> None:
    """Refuse a limit below the usage, as cgroup v1 did; cgroup v2 kills."""
    memory = resources.get("memory", {})
    limit = memory.get("limit", 0)
    usage = int(cgroup.read(folder, "memory.current") or 0)
    if memory.get("checkBeforeUpdate") and 0 < limit < usage:
        raise Conflict(
            f"cgroup {path}: linux.resources.memory.limit of {limit} is less than the {usage} bytes"
            " in use"
        )


def _make_room(folder: int, path: str, line: Write) -> None:
    """Bring the memory in use below a new limit, so that writing the limit kills nobody.

    memory.reclaim (since Linux 5.19) fails with EAGAIN where less than that could be taken back; it
    may have got some of it. What the container takes between this and the limit is for the limit.
    """
    if not line.text.isdecimal():
        return
    limit = int(line.text)
    for _ in range(_RECLAIMS):
        usage = int(cgroup.read(folder, "memory.current") or 0)
        if usage <= limit:
            return
        try:
            cgroup.write(folder, "memory.reclaim", str(usage - limit))
        except KernelError as err:
            if err.errno != errno.EAGAIN:
                raise
    usage = int(cgroup.read(folder, "memory.current") or 0)
    if usage > limit:
        raise Conflict(
            f"cgroup {path}: memory limit of {limit} bytes: {usage} are in use and cannot be"
            " reclaimed",
            "a lower limit would kill; stop it first, or give it swap",
        )


def _enable_above(folder: int, lines: Iterable[Write]) -> None:
    """Hand controllers down to a cgroup that was made without them."""
    above = cgroup.ancestors(folder)
    try:
        for fd in above:
            _enable(fd, _name(fd), lines, ())
    finally:
        for fd in above:
            os.close(fd)


def _in_order(lines: Sequence[Write], before: Mapping[str, str]) -> list[Write]:
    """The order in which no step between is tighter than both ends.

    Swap that grows comes before memory that shrinks, so that pages have where to go. A burst that
    shrinks comes before a quota that does, as the kernel wants the quota not to be smaller.
    """
    first = [line for line in lines if _is_early(line, before)]
    return first + [line for line in lines if line not in first]


def _is_early(line: Write, before: Mapping[str, str]) -> bool:
    if line.file == "memory.swap.max":
        return _amount(line.text) > _amount(before[line.file])
    return line.file == "cpu.max.burst" and _amount(line.text) < _amount(before[line.file])


def _amount(text: str) -> float:
    return float("inf") if text == "max" else float(text) if text.isdecimal() else 0


def _restored(folder: int, line: Write, before: Mapping[str, str]) -> bool:
    """Write back what a file held; tell whether the kernel took it."""
    text = before[line.file]
    if line.file in NESTED:
        device = line.text.partition(" ")[0]
        same = [old for old in text.splitlines() if old.partition(" ")[0] == device]
        text = same[0] if same else f"{device} {NESTED[line.file]}"
    try:
        if line.file != "cpu.weight" or text != "0":  # an idle cgroup's comes with cpu.idle
            cgroup.write(folder, line.file, text or "\n")
        if line.file == "cpu.idle" and before["cpu.weight"] not in ("", "0"):
            cgroup.write(folder, "cpu.weight", before["cpu.weight"])
    except KernelError:
        return False
    return True


def open_folder(path: str) -> int:
    """Return a descriptor of the cgroup `path`.

    Raises:
        InvalidInput: the path cannot be one.
        NotFound: there is no such cgroup.
        KernelError: the caller may not.
    """
    parts = _parts(path)
    root = cgroup.open_root()
    try:
        return cgroup.open_folder(root, "/".join(parts))
    except (FileNotFoundError, NotADirectoryError) as err:
        raise NotFound(f"cgroup {path}: there is none") from err
    except OSError as err:
        raise kernel_error("open cgroup", path, err.errno or 0) from err
    finally:
        os.close(root)


def remove(path: str) -> None:
    """Kill what runs in the cgroup `path` and remove it with those below; a missing one is fine.

    Those above stay, made by us or not: another container may be on its way into them.

    Raises:
        InvalidInput: the path cannot be one.
        KernelError: processes do not leave, or the caller may not.
    """
    parts = _parts(path)
    root = cgroup.open_root()
    try:
        cgroup.remove(root, "/".join(parts))
    finally:
        os.close(root)


def remove_empty(path: str) -> None:
    """Remove the cgroup `path` if nothing is below it and nobody in it.

    Raises:
        InvalidInput: the path cannot be one.
        KernelError: the caller may not.
    """
    root = cgroup.open_root()
    try:
        os.rmdir("/".join(_parts(path)), dir_fd=root)
    except OSError as err:
        if err.errno not in (errno.EBUSY, errno.ENOTEMPTY, errno.ENOENT):
            raise kernel_error("remove cgroup", path, err.errno or 0) from err
    finally:
        os.close(root)


def give(folder: int, uid: int) -> None:
    """Give a cgroup to the user `uid` of the host, so that a container may make cgroups in it.

    Only the folder and what ``/sys/kernel/cgroup/delegate`` lists (config-linux.md, "Cgroup
    ownership"): with the other files the container could lift its own limits.

    Raises:
        KernelError: the caller may not.
    """
    try:
        with open("/sys/kernel/cgroup/delegate", encoding="ascii") as file:
            names = file.read().split()
    except FileNotFoundError:
        names = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
    try:
        os.chown(folder, uid, -1)
        for name in names:
            if cgroup.exists(folder, name):
                os.chown(name, uid, -1, dir_fd=folder)
    except OSError as err:
        raise kernel_error("give cgroup", f"{_name(folder)} to {uid}", err.errno or 0) from err
