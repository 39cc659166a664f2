"""``system df``: what the store takes on disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pycontain.cli import output, streams
from pycontain.cli.flags import LISTING_FORMAT, Verb, switch
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine.disk import ContainerUse, ImageUse, Part, Usage
    from pycontain.engine.volumes import VolumeUse
    from pycontain.errors import PycontainError

LISTING = output.Listing(
    kind="*formatter.diskUsageContext",
    headings={
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    },
    table="{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet="{{.Type}}",
)

_IMAGES = output.Listing(
    kind="*formatter.diskUsageImageContext",
    headings={
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "ID": "IMAGE ID",
        "CreatedSince": "CREATED",
        "Size": "SIZE",
        "SharedSize": "SHARED SIZE",
        "UniqueSize": "UNIQUE SIZE",
        "Containers": "CONTAINERS",
    },
    table=(
        "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}"
        "\t{{.UniqueSize}}\t{{.Containers}}"
    ),
    quiet="{{.ID}}",
)

_CONTAINERS = output.Listing(
    kind="*formatter.diskUsageContainerContext",
    headings={
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "LocalVolumes": "LOCAL VOLUMES",
        "Size": "SIZE",
        "LogSize": "LOG SIZE",
        "RunningFor": "CREATED",
        "Status": "STATUS",
        "Names": "NAMES",
    },
    table=(
        "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.LogSize}}"
        "\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}"
    ),
    quiet="{{.ID}}",
)

_VOLUMES = output.Listing(
    kind="*formatter.diskUsageVolumeContext",
    headings={"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"},
    table="{{.Name}}\t{{.Links}}\t{{.Size}}",
    quiet="{{.Name}}",
)


def _part(kind: str, part: Part) -> dict[str, Any]:
    share = f" ({part.reclaimable * 100 // part.size}%)" if part.size else ""
    return {
        "Type": kind,
        "TotalCount": str(part.total),
        "Active": str(part.active),
        "Size": output.human_size(part.size),
        "Reclaimable": f"{output.human_size(part.reclaimable)}{share}",
    }


def _parts(found: Usage) -> list[dict[str, Any]]:
    return [
        _part("Images", found.image_part),
        _part("Containers", found.container_part),
        _part("Local Volumes", found.volume_part),
        _part("Build Cache", found.cache_part),
    ]


def _image_rows(use: ImageUse, now: int) -> list[dict[str, Any]]:
    from pycontain.cli.images import listed_names, row

    return [
        {
            **row(use.image, name, now, full=False),
            "Size": output.human_size(use.size),
            "SharedSize": output.human_size(use.shared),
            "UniqueSize": output.human_size(use.size - use.shared),
            "Containers": str(use.containers),
        }
        for name in listed_names(use.image)
    ]


def _container_row(use: ContainerUse, now: int) -> dict[str, Any]:
    from pycontain.cli.ps import row

    return {
        **row(use.view, now, full=False),
        "Size": output.human_size(use.writable),
        "LogSize": output.human_size(use.log),
    }


def _own_volumes(use: ContainerUse) -> list[dict[str, Any]]:
    from pycontain.cli.ps import volume_names

    names = volume_names(use.view.container).values() if use.volumes else ()
    return [
        {"Name": name, "Links": "1", "Size": output.human_size(size)}
        for name, size in zip(names, use.volumes, strict=False)
    ]


def _volume_row(use: VolumeUse) -> dict[str, Any]:
    return {
        "Name": use.volume.name,
        "Links": str(len(use.users)),
        "Size": output.human_size(use.size or 0),
    }


def _whole(found: Usage) -> str:
    now = time.time_ns()
    images = [row for use in found.images for row in _image_rows(use, now)]
    containers = [_container_row(use, now) for use in found.containers]
    volumes = [row for use in found.containers for row in _own_volumes(use)]
    volumes += [_volume_row(use) for use in found.volumes]
    return (
        f"Images space usage:\n\n{_IMAGES.render(images, None, False)}"
        f"\nContainers space usage:\n\n{_CONTAINERS.render(containers, None, False)}"
        f"\nLocal Volumes space usage:\n\n{_VOLUMES.render(volumes, None, False)}"
        f"\nBuild cache usage: {output.human_size(found.cache_part.size)}\n"
    )


def _df(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    from pycontain.engine import disk

    if values["verbose"] and values["format"]:
        raise InvalidInput("the verbose and the format options conflict")
    problems: list[PycontainError] = []
    found = disk.usage(app.engine, problems)
    if values["verbose"]:
        streams.write(_whole(found))
    else:
        streams.write(LISTING.render(_parts(found), values["format"], False))
    return app.report(problems)


DF = Verb(
    "df",
    "[OPTIONS]",
    "Show what images, containers, volumes and caches take on disk",
    _df,
    flags=(
        LISTING_FORMAT,
        switch("verbose", "show each image, container and volume", short="v"),
    ),
    most=0,
    examples=(
        ("pycontain df", "a line for each kind"),
        ("pycontain df -v", "a line for each of them"),
        ("pycontain df --format '{{.Type}} {{.Size}}'", "sizes alone"),
    ),
)
