"""What a container's options and its image's configuration come to, together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from pycontain.model.container import ImageConfig
from pycontain.model.parse.mounts import is_anonymous

if TYPE_CHECKING:
    from pycontain.model.container import Container, HealthCheck, RunOptions


def entrypoint(options: RunOptions, image: ImageConfig) -> list[str] | None:
    """Return the words before the command; None where neither names any."""
    return image.entrypoint if options.entrypoint is None else list(options.entrypoint)


def command(options: RunOptions, image: ImageConfig) -> list[str] | None:
    """Return the command; the image's own does not go with another entrypoint."""
    if options.command:
        return list(options.command)
    return image.cmd if options.entrypoint is None else None


def environment(options: RunOptions, image: ImageConfig) -> list[str]:
    """Return the user's variables and those of the image that they do not replace or remove."""
    named = {line.partition("=")[0] for line in options.env}
    inherited = [line for line in image.env or () if line.partition("=")[0] not in named]
    return [line for line in options.env if "=" in line] + inherited


def health_check(options: RunOptions, image: ImageConfig) -> HealthCheck | None:
    """Return the health check as it is asked for: the image's, in place of what is not said.

    None where neither says anything; it may be one that says only when, and one that says ``NONE``.
    """
    asked, inherited = options.health, image.healthcheck
    if asked is None or inherited is None:
        return asked or inherited
    names = asked.__struct_fields__
    return replace(
        asked, **{name: getattr(asked, name) or getattr(inherited, name) for name in names}
    )


def configuration(container: Container) -> ImageConfig:
    """Return what an image has to say, so that its containers begin as this one did.

    Triggers for builds are not inherited: they were meant for the first that builds on the image.
    """
    options, image = container.options, container.config
    return ImageConfig(
        entrypoint=entrypoint(options, image),
        cmd=command(options, image),
        env=environment(options, image),
        user=image.user if options.user is None else options.user,
        working_dir=options.workdir or image.working_dir,
        stop_signal=options.stop_signal or image.stop_signal,
        volumes={target: {} for target in volumes(container)} or None,
        exposed_ports=_ports(container),
        labels={**(image.labels or {}), **options.labels} or None,
        shell=image.shell,
        healthcheck=health_check(options, image),
    )


def _ports(container: Container) -> dict[str, dict[str, str]] | None:
    """The image's ports, those that it was told to expose, and those that the host has too."""
    options = container.options
    published = (f"{one.target}/{one.protocol}" for one in options.publish)
    return {
        **(container.config.exposed_ports or {}),
        **{port: {} for port in sorted({*options.expose, *published})},
    } or None


def volumes(container: Container) -> list[str]:
    """Return the targets of volumes that nobody named, as a configuration has them, sorted."""
    mounts = container.options.mounts
    named = {mount.target for mount in mounts if not is_anonymous(mount)}
    own = {mount.target for mount in mounts} - named
    return sorted((own | set(container.config.volumes or ())) - named)
