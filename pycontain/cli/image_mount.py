"""``image mount``, ``image unmount`` and ``image diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Flag, Verb, switch
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine.image_mounts import MountedImage

_NONE = "<none>"


def _mount(app: App, values: Values, arguments: list[str]) -> int:
    images = app.engine.images
    if values["all"] and arguments:
        raise InvalidInput("image mount: --all names no images")
    if values["format"] not in (None, "json"):
        raise InvalidInput(f"image mount: --format {values['format']}: there is json")
    if not arguments and not values["all"]:
        _tell(app, [*images.mounts()], values["format"])
        return 0
    names = [image.id for image in images.list()] if values["all"] else arguments
    done: dict[str, str] = {}

    def act(name: str) -> None:
        done[images.get(name).id] = images.mount(name)

    code = app.each(names, act)
    if len(names) == 1 and not values["all"] and values["format"] is None:
        streams.write("".join(f"{path}\n" for path in done.values()))
    else:
        _tell(app, [one for one in images.mounts() if one.id in done], values["format"])
    return code


def _tell(app: App, mounted: list[MountedImage], form: str | None) -> None:
    names = {image.id: list(image.names) for image in app.engine.images.list()}
    if form == "json":
        from pycontain.cli.output import pretty_json

        streams.write(
            pretty_json(
                [
                    {
                        "id": one.id.removeprefix("sha256:"),
                        "Repositories": names.get(one.id, []),
                        "mountpoint": one.path,
                    }
                    for one in mounted
                ]
            )
        )
        return
    rows = [(name, one.path) for one in mounted for name in names.get(one.id) or [_NONE]]
    width = max((len(name) for name, _ in rows), default=0)
    streams.write("".join(f"{name:{width}}  {path}\n" for name, path in rows))


def _unmount(app: App, values: Values, arguments: list[str]) -> int:
    images = app.engine.images
    if bool(arguments) == values["all"]:
        raise InvalidInput("image unmount: name images, or say --all")
    names = [one.id for one in images.mounts()] if values["all"] else arguments

    def act(name: str) -> None:
        streams.write(f"{images.unmount(name).removeprefix('sha256:')}\n")

    return app.each(names, act)


def _diff(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    for change in app.engine.images.changes(*arguments):
        streams.write(f"{change.kind} {change.path}\n")
    return 0


MOUNT = Verb(
    "mount",
    "[OPTIONS] [IMAGE...]",
    "Mount images read-only and print where, or list those that are mounted",
    _mount,
    flags=(
        switch("all", "all images", short="a"),
        Flag("format", "'json'", metavar="format"),
    ),
    examples=(
        ("ls $(pycontain image mount busybox)", "the files of an image"),
        ("pycontain image mount", "what is mounted"),
    ),
)


def _unmounting(name: str) -> Verb:
    return Verb(
        name,
        "[OPTIONS] [IMAGE...]",
        "Unmount images",
        _unmount,
        flags=(switch("all", "all that are mounted", short="a"),),
        examples=((f"pycontain image {name} busybox", "what still reads it goes on"),),
    )


UNMOUNT = _unmounting("unmount")
UMOUNT = _unmounting("umount")

DIFF = Verb(
    "diff",
    "IMAGE [IMAGE]",
    "List what an image's last layer changes, or what differs from another image",
    _diff,
    least=1,
    most=2,
    examples=(("pycontain image diff app:2 app:1", "from app:1 to app:2"),),
)
