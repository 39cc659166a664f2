"""What a volume is: its document."""

import msgspec


class Volume(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``volume.json``: a folder that containers share, and that outlives them.

    Attributes:
        version: of this document's form.
        name: as the user has it; of an anonymous one 64 hexadecimal digits.
        created: nanoseconds since the epoch.
        driver: always ``local``.
        labels: the user's.
        options: of the driver: ``type``, ``device`` and ``o``, as mount(8) has them; none for a
            folder of the store.
        anonymous: nobody named it: it goes with its containers where they are removed so.
        container: id of the container that it was made for, empty where a user made it.
        boot: the boot that it dies with, since its container does; empty: it stays.
    """

    version: int = 1
    name: str
    created: int
    driver: str = "local"
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    anonymous: bool = False
    container: str = ""
    boot: str = ""
