"""``pull``, ``push``, ``load``, ``save``, ``login`` and ``logout``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Flag, Verb, switch
from pycontain.errors import InvalidInput, NotFound, kernel_error

if TYPE_CHECKING:
    from typing import BinaryIO

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.image.pull import Pulled
    from pycontain.image.reference import Reference

_FORMS = ("docker-archive", "oci-archive", "oci-dir")
_PLATFORM = Flag("platform", "for this machine, as linux/arm64", metavar="os/arch[/variant]")


def _pull(app: App, values: Values, arguments: list[str]) -> int:
    from pycontain.image import reference

    ref = reference.parse(arguments[0])
    if not values["all-tags"]:
        if not (ref.tag or ref.digest) and not values["quiet"]:
            streams.write(f"Using default tag: {reference.DEFAULT_TAG}\n")
        pulled = _pull_one(app, values, str(ref) if ref.digest else ref.local)
        _conclude(values, pulled.name, new=pulled.new)
        return 0
    if ref.tag or ref.digest:
        raise InvalidInput("tag can't be used with --all-tags/-a")
    names = [f"{ref.name}:{tag}" for tag in app.engine.images.tags(arguments[0])]
    found = [_pull_one(app, values, name) for name in names]
    called = reference.parse(found[-1].name).name if found else ref.name
    _conclude(values, called, new=any(pulled.new for pulled in found))
    return 0


def _pull_one(app: App, values: Values, name: str) -> Pulled:
    """Pull one image, and tell of it."""
    from pycontain.cli.progress import Shown
    from pycontain.image import reference

    with Shown("pull", quiet=values["quiet"]) as shown:

        def asking(full: str) -> None:
            ref = reference.parse(full)
            what = ref.canonical if ref.digest else ref.tag or reference.DEFAULT_TAG
            shown.head(f"{what}: Pulling from {ref.path}\n")

        pulled = app.engine.images.pull(
            name, platform=values["platform"], report=shown.report, asking=asking
        )
    if not values["quiet"]:
        streams.write(f"Digest: {pulled.digest}\n")
    return pulled


def _conclude(values: Values, name: str, *, new: bool) -> None:
    from pycontain.image import reference

    if not values["quiet"]:
        status = "Downloaded newer image" if new else "Image is up to date"
        streams.write(f"Status: {status} for {name}\n")
    streams.write(f"{reference.parse(name).canonical}\n")


def _push(app: App, values: Values, arguments: list[str]) -> int:
    from pycontain.image import reference

    ref = reference.parse(arguments[0])
    quiet = values["quiet"]
    if ref.digest:
        raise InvalidInput(f"cannot push a digest reference: {ref}")
    if values["all-tags"] and ref.tag:
        raise InvalidInput("tag can't be used with --all-tags/-a")
    if not (values["all-tags"] or ref.tag or quiet):
        streams.write(f"Using default tag: {reference.DEFAULT_TAG}\n")
    if not quiet:
        streams.write(f"The push refers to repository [{ref.domain}/{ref.path}]\n")
    for name in _tags_here(app, ref) if values["all-tags"] else [ref.local]:
        _push_one(app, values, name)
    if quiet:
        meant = ref if values["all-tags"] else reference.parse(ref.local)
        streams.write(f"{meant.canonical}\n")
    return 0


def _tags_here(app: App, ref: Reference) -> list[str]:
    """Return the names that images here have in the repository of a reference."""
    from pycontain.image import reference

    names = [name for image in app.engine.images.list() for name in image.names]
    mine = sorted(name for name in names if reference.parse(name).name == ref.name)
    if not mine:
        raise NotFound(f"an image does not exist locally with the tag: {ref.name}")
    return mine


def _push_one(app: App, values: Values, name: str) -> None:
    from pycontain.cli.progress import Shown

    with Shown("push", quiet=values["quiet"]) as shown:
        digest, size = app.engine.images.push(name, report=shown.report)
    if not values["quiet"]:
        streams.write(f"{name.rpartition(':')[2]}: digest: {digest} size: {size}\n")


def _load(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    from pycontain.cli.progress import Shown

    path = values["input"]
    if path in (None, "-"):
        if sys.stdin is None or sys.stdin.isatty():
            raise InvalidInput(
                "requested load from stdin, but stdin is empty", "give it a file by -i"
            )
        source: str | BinaryIO = sys.stdin.buffer
    else:
        source = path
    with Shown("load", quiet=values["quiet"]) as shown:
        loaded = app.engine.images.load(source, platform=values["platform"], report=shown.report)
    for image, names in loaded:
        for name in names:
            streams.write(f"Loaded image: {name}\n")
        if not names:
            streams.write(f"Loaded image ID: {image.id}\n")
    return 0


def _save(app: App, values: Values, arguments: list[str]) -> int:
    form, path = values["format"] or _FORMS[0], values["output"]
    if form not in _FORMS:
        raise InvalidInput(f"--format {form}: no such format", f"there are {', '.join(_FORMS)}")
    if form == "oci-dir":
        if path in (None, "-"):
            raise InvalidInput("--format oci-dir: a folder goes to no stream", "name it by -o")
        app.engine.images.save(arguments, path, form=form)
        return 0
    if path in (None, "-"):
        if sys.stdout is None or sys.stdout.isatty():
            raise InvalidInput(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect"
            )
        streams.flush()
        app.engine.images.save(arguments, sys.stdout.buffer, form=form)
        return 0
    _save_to(app, arguments, path, form)
    return 0


def _save_to(app: App, names: list[str], path: str, form: str) -> None:
    """Write a file beside, and rename it: a failure leaves what was there."""
    special = os.path.exists(path) and not os.path.isfile(path)
    beside = path if special else f"{path}.new-{os.getpid()}"
    try:
        with open(beside, "wb" if special else "xb") as file:
            app.engine.images.save(names, file, form=form)
        if not special:
            os.rename(beside, path)
    except BaseException as err:
        if not special and os.path.exists(beside):
            os.unlink(beside)
        if isinstance(err, OSError):
            raise kernel_error("save", path, err.errno or 0) from err
        raise


def _login(app: App, values: Values, arguments: list[str]) -> int:
    from pycontain.engine import registries

    domain = registries.domain_of(arguments[0] if arguments else "")
    user, password = values["username"], values["password"]
    if values["password-stdin"]:
        if password is not None:
            raise InvalidInput(
                "conflicting options: cannot specify both --password and --password-stdin"
            )
        if not user:
            raise InvalidInput("the --password-stdin option requires --username to be set")
        password = (sys.stdin.read() if sys.stdin else "").rstrip("\r\n")
    elif password is not None:
        streams.complain("WARNING! Others can see --password. Use --password-stdin.\n")
    if user is None:
        user = _asked("Username: ")
    if password is None:
        password = _asked_silently("Password: ")
    if not user or not password:
        raise InvalidInput("login: a user name and a password are needed")
    place = registries.login(domain, user, password, app.settings)
    if place.startswith("/"):  # else it is a helper's name
        streams.complain(f"the password is kept unencrypted in {place}\n")
    streams.write("Login Succeeded\n")
    return 0


def _asked(prompt: str) -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        raise InvalidInput(
            "Cannot perform an interactive login from a non TTY device",
            "give --username and --password-stdin",
        )
    streams.write(prompt)
    streams.flush()
    return sys.stdin.readline().strip()


def _asked_silently(prompt: str) -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        return _asked(prompt)
    import getpass

    return getpass.getpass(prompt)


def _logout(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    from pycontain.engine import registries

    domain = registries.domain_of(arguments[0] if arguments else "")
    if registries.logout(domain):
        streams.write(f"Removing login credentials for {domain}\n")
    else:
        streams.write(f"Not logged in to {domain}\n")
    return 0


PULL = Verb(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Bring an image from its registry",
    _pull,
    flags=(
        switch("all-tags", "every tag of the repository", short="a"),
        _PLATFORM,
        switch("quiet", "print the image's name alone", short="q"),
    ),
    least=1,
    most=1,
    examples=(
        ("pycontain pull debian:bookworm", "from docker.io"),
        ("pycontain pull localhost:5000/team/app@sha256:…", "what has that digest, and no other"),
    ),
)

PUSH = Verb(
    "push",
    "[OPTIONS] NAME[:TAG]",
    "Send an image to its registry",
    _push,
    flags=(
        switch("all-tags", "every tag of the repository that is here", short="a"),
        switch("quiet", "print the image's name alone", short="q"),
    ),
    least=1,
    most=1,
    examples=(("pycontain push localhost:5000/team/app:1", "what is there is not sent again"),),
)

LOAD = Verb(
    "load",
    "[OPTIONS]",
    "Put the images of an archive into the store",
    _load,
    flags=(
        Flag("input", "the archive, or an OCI layout's folder, not standard input", short="i",
             metavar="path"),
        _PLATFORM,
        switch("quiet", "no progress", short="q"),
    ),
    most=0,
    examples=(
        ("pycontain load -i app.tar.gz", "docker's or OCI's, compressed or not"),
        ("docker save app | pycontain load", "from standard input"),
    ),
)  # fmt: skip

SAVE = Verb(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Write images to an archive",
    _save,
    flags=(
        Flag("format", f"one of {', '.join(_FORMS)}; the first is both docker's and OCI's",
             metavar="format"),
        Flag("output", "a file, not standard output", short="o", metavar="path"),
    ),
    least=1,
    examples=(
        ("pycontain save -o app.tar app:1 app:2", "for docker, podman, skopeo and load"),
        ("pycontain save app | ssh host pycontain load", "to another machine"),
    ),
)  # fmt: skip

LOGIN = Verb(
    "login",
    "[OPTIONS] [REGISTRY]",
    "Try a password at a registry, and keep it",
    _login,
    flags=(
        Flag("username", "the user", short="u", metavar="name"),
        Flag("password", "the password, which others can see in the process list", short="p",
             metavar="password"),
        switch("password-stdin", "read the password from standard input"),
    ),
    most=1,
    examples=(
        ("pass team | pycontain login -u me --password-stdin localhost:5000", "unseen by others"),
    ),
)  # fmt: skip

LOGOUT = Verb(
    "logout",
    "[REGISTRY]",
    "Forget the password of a registry",
    _logout,
    most=1,
    examples=(("pycontain logout localhost:5000", "docker.io where none is named"),),
)
