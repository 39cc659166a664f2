"""The images of a Pod's containers: there before the containers are made, as the policy has it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pycontain.errors import InvalidInput, NotFound, RegistryError
from pycontain.pod import reasons

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pycontain.engine import Engine
    from pycontain.errors import PycontainError
    from pycontain.image.intake import Report
    from pycontain.pod.plan import Member, Pull

_FRESH = 60.0  # seconds in which a registry is not asked again


class Images:
    """Prepares images.

    Args:
        engine: of the store.
    """

    def __init__(self, engine: Engine) -> None:
        self._images = engine.images
        self._prepared: dict[tuple[str, str], float] = {}

    def prepare(
        self,
        members: Iterable[Member],
        progress: Callable[[str], None] | None = None,
        report: Report | None = None,
    ) -> None:
        """See that the images of containers are there, and that they may have their users.

        A registry is asked once in a minute: the pods of a Deployment come at the same time.

        Args:
            members: that are to be made.
            progress: is given lines of text while an image is built or pulled.
            report: is told how far each layer is, from several threads.

        Raises:
            InvalidInput: ``runAsNonRoot`` is contradicted.
            NotFound: an image is not here, and may not be pulled.
            RegistryError: it cannot be pulled.
        """
        members = tuple(members)
        for member in members:
            self.bring(member, progress, report)
        for member in members:
            self.check_user(member)

    def bring(
        self,
        member: Member,
        progress: Callable[[str], None] | None = None,
        report: Report | None = None,
    ) -> None:
        """See that the image of a container is there; arguments and errors are those of
        ``prepare``.
        """
        key = member.options.image, member.pull
        if time.monotonic() - self._prepared.get(key, -_FRESH) >= _FRESH or not (
            self._images.exists(member.options.image)
        ):
            self._prepare(*key, progress, report)
            self._prepared[key] = time.monotonic()

    def _prepare(
        self,
        name: str,
        policy: Pull,
        progress: Callable[[str], None] | None,
        report: Report | None,
    ) -> None:
        if policy == "Never":
            self._images.get(name)
        elif policy == "Always":
            self._images.pull(name, report=report)
        elif policy == "IfNotPresent" or not _is_latest(name):
            self._images.ensure(name, progress)
        else:
            self._renew(name, progress, report)

    def _renew(
        self, name: str, progress: Callable[[str], None] | None, report: Report | None
    ) -> None:
        """Bring the newest image of a name that says no version; what is there is good enough where
        no registry answers.
        """
        try:
            self._images.pull(name, report=report)
        except (RegistryError, InvalidInput) as err:
            if not self._images.exists(name):
                raise
            if progress is not None:
                progress(f"{err.message}; using the image that is here")

    def user_of(self, member: Member) -> str:
        """Return who a container runs as, whose image is there: the image's user where no user is
        asked for, in the group that is.

        Raises:
            NotFound: the image is not there.
        """
        user = member.options.user
        if user is not None and not user.startswith(":"):
            return user
        own = self._images.get(member.options.image).config.user
        return own if user is None else own.partition(":")[0] + user

    def check_user(self, member: Member) -> None:
        """Refuse a user that is root where none may be.

        Raises:
            InvalidInput: ``runAsNonRoot`` is contradicted.
        """
        if not member.non_root:
            return
        user = self.user_of(member)
        uid = user.partition(":")[0]
        if not uid.isdecimal() or int(uid) == 0:
            reason = f"the user is {uid!r}, no number but 0" if uid else "the image's user is root"
            raise InvalidInput(
                f"container {member.options.name}: runAsNonRoot: {reason}", "set runAsUser"
            )


def reason(member: Member, err: PycontainError) -> str:
    """Return Kubernetes' word for an image that ``Images.bring`` could not bring."""
    from pycontain.image import reference

    try:
        reference.parse(member.options.image)
    except InvalidInput:
        return reasons.INVALID_IMAGE_NAME
    if member.pull == "Never" and isinstance(err, NotFound):
        return reasons.NEVER_PULL
    return reasons.PULL


def _is_latest(name: str) -> bool:
    """Whether a name is of an image of which there may be a newer one: Kubernetes' rule.

    What a recipe makes is of no registry.
    """
    from pycontain.image import recipes, reference

    ref = reference.parse(name)
    return not ref.digest and ref.tag in (None, "", "latest") and recipes.find(ref) is None
