"""What ``cp`` means: which file or folder goes where, by docker's rules.

The rules concern the words of two paths and what stands at them. A path that ends with a slash
means a folder, one whose last word is a dot the content of a folder.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from pycontain.engine import copying
from pycontain.engine.folders import LOOK, Folder
from pycontain.errors import Conflict, InvalidInput, NotFound, PycontainError, kernel_error

if TYPE_CHECKING:
    from pycontain.engine.tree import Tree

ROOT = (0, 0)
"""The root user of a container, whose are the files that are copied into it."""


class Words(NamedTuple):
    """What the text of a path says.

    Attributes:
        path: normalised by its words alone (``a/..`` is nothing, whatever ``a`` is).
        base: its last name, empty for the root.
        is_folder: it ends with a slash, or with a dot.
        content: it ends with a dot: what is in the folder, not the folder.
    """

    path: str
    base: str
    is_folder: bool
    content: bool


def words(text: str) -> Words:
    """Return what a path says that begins at ``/``, with or without a slash in front."""
    path = os.path.normpath(f"/{text.lstrip('/')}")
    content = not text or text.rstrip("/").rpartition("/")[2] == "."
    return Words(path, os.path.basename(path), content or text.endswith("/"), content)


def local_words(text: str) -> Words:
    """Return what a path of the caller's says; a relative one begins at the working directory.

    Raises:
        OSError: the working directory is gone.
    """
    return words(text if text.startswith("/") else f"{os.getcwd()}/{text}")


class Plan(NamedTuple):
    """What is to be done.

    Attributes:
        inside: the copy gets a name of its own in the folder that the destination is; otherwise it
            is the destination.
        name: that name; empty where only the content is copied.
    """

    inside: bool
    name: str


def plan(
    source: Words, source_is_folder: bool, target: Words, target_is_folder: bool | None
) -> Plan:
    """Decide where a copy goes.

    Args:
        source: the words of its path.
        source_is_folder: what it is.
        target: likewise.
        target_is_folder: None where there is nothing yet.

    Raises:
        InvalidInput: a folder onto a file; the destination is no folder, though its path says so.
        NotFound: the destination is not there, though its path says that it is a folder.
    """
    if source.is_folder and not source_is_folder:
        raise InvalidInput(f"copy {source.path}: not a directory")
    if target_is_folder:
        return Plan(True, "" if source_is_folder and source.content else source.base)
    if source_is_folder:
        if target_is_folder is not None:
            raise Conflict(f"copy {source.path}: cannot copy directory to the file {target.path}")
        return Plan(False, "")
    if target.is_folder:
        if target_is_folder is None:
            raise NotFound(f"copy to {target.path}: no such directory")
        raise InvalidInput(f"copy to {target.path}: not a directory")
    return Plan(False, target.base)


# ---- into a container ----


def copy_in(tree: Tree, source: str | BinaryIO, path: str, *, archive: bool, follow: bool) -> int:
    """Copy into a container; see ``Tree.copy_in``."""
    there = words(path)
    found = _kind(tree, there)
    if not isinstance(source, str):
        from pycontain.engine import archive as archives

        if not found:
            raise InvalidInput(f'destination "{tree.name}:{path}" must be a directory')
        return archives.extract(source, tree, there.path)
    here = _local(source)
    fd = _open_local(here, follow)
    try:
        is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        chosen = plan(here, is_folder, there, found)
        folder, name = _place(tree, there, chosen)
        with folder:
            tree.check_content(folder, there.path)
            rules = copying.Rules(None if archive else ROOT, powers=True)
            if not is_folder:
                return _copy(fd, None, folder, name, rules)
            with Folder.of(fd) as content:
                return _copy(fd, content, folder, name, rules)
    finally:
        os.close(fd)


def _kind(tree: Tree, there: Words) -> bool | None:
    """Whether the destination is a folder; None where there is nothing."""
    try:
        mode = tree.stat(there.path).st_mode
    except NotFound:
        return None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise InvalidInput(
            f'destination "{tree.name}:{there.path}" must be a directory or a regular file'
        )
    return stat.S_ISDIR(mode)


def _place(tree: Tree, there: Words, chosen: Plan) -> tuple[Folder, str]:
    if chosen.inside:
        return tree.folder(there.path), chosen.name
    return tree.place(there.path)


def _local(text: str) -> Words:
    try:
        return local_words(text)
    except OSError as err:
        raise _of_host("find the working directory", "", err) from err


def _open_local(here: Words, follow: bool) -> int:
    # A link is itself copied, unless the words ask for a folder.
    flags = LOOK & ~os.O_NOFOLLOW if follow or here.is_folder else LOOK
    try:
        return os.open(here.path, flags)
    except OSError as err:
        raise _of_host("copy", here.path, err) from err


def _of_host(step: str, path: str, err: OSError) -> PycontainError:
    if isinstance(err, FileNotFoundError):
        return NotFound(f"{step}: {path}: no such file or directory")
    return kernel_error(step, path, err.errno or 0)


# ---- out of a container ----


def copy_out(tree: Tree, path: str, target: str | BinaryIO, *, archive: bool, follow: bool) -> int:
    """Copy out of a container; see ``Tree.copy_out``."""
    there = words(path)
    fd, content = tree.source(there.path, follow=follow or there.is_folder)
    try:
        if there.is_folder and content is None:
            raise InvalidInput(f"copy {there.path}: not a directory")
        if isinstance(target, str):
            rules = copying.Rules(None if archive else (os.geteuid(), os.getegid()), powers=archive)
            return _to_host(fd, content, there, target, rules)
        return _to_archive(fd, content, there, target)
    finally:
        os.close(fd)
        if content is not None:
            content.close()


def _to_archive(fd: int, content: Folder | None, there: Words, target: BinaryIO) -> int:
    from pycontain.engine.archive import Writer

    writer = Writer(target)
    writer.add(fd, content, "." if there.content else there.base or ".")
    return writer.finish()


def _to_host(
    fd: int, content: Folder | None, there: Words, target: str, rules: copying.Rules
) -> int:
    here = _local(target)
    chosen = plan(there, content is not None, here, output_kind(here.path))
    # A link at the end leads to where the file goes, though there may be nothing yet.
    path = os.path.realpath(here.path)
    above, name = (path, chosen.name) if chosen.inside else os.path.split(path)
    try:
        folder = Folder(os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as err:
        raise _of_host("copy to", above, err) from err
    with folder:
        return _copy(fd, content, folder, name, rules)


def output_kind(path: str) -> bool | None:
    """Return whether a place of the caller's for output is a folder; None where there is nothing.

    Raises:
        NotFound: nor is there the folder for it.
        InvalidInput: it is a device or another thing that is not for output.
    """
    above = os.path.dirname(path) or "."
    if not os.path.isdir(above):
        raise NotFound(f'invalid output path: directory "{above}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    except OSError as err:
        raise kernel_error("copy to", path, err.errno or 0) from err
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise InvalidInput(f'invalid output path: "{path}" must be a directory or a regular file')
    return stat.S_ISDIR(mode)


def _copy(fd: int, content: Folder | None, folder: Folder, name: str, rules: copying.Rules) -> int:
    """Copy to `name` in a folder; without a name the content alone."""
    copier = copying.Copier(rules)
    if content is not None and not name:
        return copier.copy_content(content, folder)
    return copier.copy(fd, content, folder, name)
