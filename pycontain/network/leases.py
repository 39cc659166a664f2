"""Addresses in use: one symbolic link for each, in the network's folder of this boot.

``ADDRESS → CONTAINER RUN``. symlink(2) is the claim: it succeeds once. A lease whose run has ended
is void, and taken over; who holds it and whether that lives is the caller's knowledge. The next
address is the one after the last that was given, so that a freed one rests as long as possible:
neighbours remember hardware addresses, and connections of a dead container still get answers.
"""

from __future__ import annotations

import errno
import fcntl
import os
from _socket import AF_INET

from pycontain.errors import Conflict, NotFound
from pycontain.network import address
from pycontain.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Lives = Callable[[str], bool]
    """Given what a lease says, whether its holder lives."""

_LAST = "last"  # before the family's digit: which address was given last


class Leases:
    """The leases of one network; changed under the network's lock.

    Args:
        folder: made when missing.
    """

    __slots__ = ("_folder",)

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def all(self) -> dict[str, str]:
        """Return address → holder of all leases, void ones too."""
        found = {}
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return {}
        for name in names:
            # What is being written of the last one's is no lease, though it has a dot.
            if ("." in name or ":" in name) and not files.is_temporary(name):
                try:
                    found[name] = os.readlink(f"{self._folder}/{name}")
                except OSError as err:
                    if err.errno not in (errno.ENOENT, errno.EINVAL):
                        raise files.store_error("read lease", name, err) from err
        return found

    def held(self, lives: Lives) -> dict[str, str]:
        """Return address → holder of those whose holders live; the others are freed."""
        found = {}
        for name, holder in self.all().items():
            if lives(holder):
                found[name] = holder
            else:
                self.free(name, holder)
        return found

    def is_used(self, lives: Lives) -> bool:
        """Whether any holder lives; asks until one does."""
        for name, holder in self.all().items():
            if lives(holder):
                return True
            self.free(name, holder)
        return False

    def free(self, name: str, holder: str) -> None:
        """Free an address, unless another has it by now. Needs no lock of the network.

        Only what is free can be claimed: while this has the folder's lock, nobody else frees what
        it is about to free, and so nobody claims it in between.
        """
        path = f"{self._folder}/{name}"
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                if os.readlink(path) == holder:
                    os.unlink(path)
            finally:
                os.close(folder)
        except FileNotFoundError:
            return
        except OSError as err:
            raise files.store_error("free address", name, err) from err

    def take(self, wanted: str, holder: str, lives: Lives) -> None:
        """Lease one address.

        Raises:
            Conflict: somebody has it.
        """
        files.make_folders(self._folder)
        if not self._claim(wanted, holder, lives):
            raise Conflict(f"address {wanted}: already in use")

    def give(
        self, pool: address.Range, subnet: address.Range, reserved: Iterable[int], holder: str,
        lives: Lives,
    ) -> str:  # fmt: skip
        """Lease any address of a range.

        Args:
            pool: the range.
            subnet: of which it is a part; its first and last address are nobody's.
            reserved: addresses that are not given.
            holder: who gets it.
            lives: whether a holder lives.

        Returns:
            The address, without a prefix length.

        Raises:
            Conflict: all are in use.
        """
        files.make_folders(self._folder)
        low, high = bounds(pool, subnet)
        taken = set(reserved)
        at = self._last(pool.family)
        at = at + 1 if low <= at < high else low
        # At most one more than there are leases has to be looked at, however large the range is.
        for _ in range(min(high - low + 1, len(self.all()) + len(taken) + 1)):
            name = address.text(pool.family, at)
            if at not in taken and self._claim(name, holder, lives):
                files.write_word(f"{self._folder}/{_last_name(pool.family)}", name)
                return name
            at = at + 1 if at < high else low
        raise Conflict(f"no address of {pool} is free")

    def _claim(self, name: str, holder: str, lives: Lives) -> bool:
        path = f"{self._folder}/{name}"
        while True:
            try:
                files.claim(path, holder, durable=False)
            except Conflict:
                try:
                    other = files.read_word(path)
                except NotFound:
                    continue
                if lives(other):
                    return False
                self.free(name, other)
            else:
                return True

    def _last(self, family: int) -> int:
        try:
            word = files.read_word(f"{self._folder}/{_last_name(family)}")
        except NotFound:
            return -1
        return address.number(word)[1]


def _last_name(family: int) -> str:
    return _LAST + ("4" if family == AF_INET else "6")


def bounds(pool: address.Range, subnet: address.Range) -> tuple[int, int]:
    """Return the first and the last address of a range that a host may have; none, where the last
    is before the first.

    Args:
        pool: the range.
        subnet: of which it is a part; its first and last address are nobody's.
    """
    low, high = subnet.usable()
    return max(low, pool.first), min(high, pool.last)
