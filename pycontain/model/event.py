"""One event: what happened to a container or an image, and when."""

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. In docker's words, as far as they go.

    Attributes:
        time: nanoseconds since the epoch.
        type: ``container`` or ``image``.
        action: of a container ``create``, ``attach``, ``start``, ``oom``, ``kill``, ``pause``,
            ``unpause``, ``die``, ``stop``, ``restart``, ``rename``, ``top``, ``destroy``,
            ``exec_create: COMMAND``, ``exec_start: COMMAND``, ``exec_die`` …; of an image
            ``build``.
        id: of the container, or the image's ``sha256:…``.
        attributes: of a container its labels, ``name`` and ``image`` as it was named; and by
            action ``exitCode`` and ``execDuration`` (seconds), ``signal``, ``oldName``,
            ``execID``.
    """

    time: int
    type: str
    action: str
    id: str
    attributes: dict[str, str] = {}

    @property
    def verb(self) -> str:
        """The action without its command: ``exec_start``."""
        return self.action.partition(":")[0]
