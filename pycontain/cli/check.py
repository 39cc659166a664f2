"""``system check``: what this kernel and machine offer to containers, and lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontain.cli import output, streams
from pycontain.cli.flags import LISTING_FORMAT, Verb
from pycontain.errors import PycontainError

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine.machine import Finding

LISTING = output.Listing(
    kind="*formatter.checkContext",
    headings={
        "State": "STATE",
        "Name": "NAME",
        "Found": "FOUND",
        "Remedy": "REMEDY",
        "Needed": "NEEDED",
    },
    table="{{.State}}\t{{.Name}}\t{{.Found}}{{if .Remedy}}; {{.Remedy}}{{end}}",
    quiet="{{.Name}}",
)


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "State": finding.state,
        "Name": finding.name,
        "Found": finding.found,
        "Remedy": finding.remedy,
        "Needed": finding.needed,
    }


def _check(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    from pycontain.engine import machine

    findings = machine.outside()
    try:
        layout = app.engine.layout
    except PycontainError as err:
        # an ordinary user's namespaces, or the store's folders: the rest cannot be tried
        findings.append(machine.refused("store", err))
    else:
        findings += machine.inside(layout, rootless=app.engine.rootless)
    streams.write(LISTING.render([_row(finding) for finding in findings], values["format"], False))
    return int(any(finding.state == machine.MISSING and finding.needed for finding in findings))


CHECK = Verb(
    "check",
    "[OPTIONS]",
    "Say what this kernel and machine offer to containers, and lack",
    _check,
    flags=(LISTING_FORMAT,),
    most=0,
    examples=(
        ("pycontain check", "a line each; exit code 1 when containers cannot run"),
        ("pycontain check --format '{{.State}} {{.Name}}'", "without the details"),
    ),
)
