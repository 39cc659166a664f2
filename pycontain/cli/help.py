"""Help texts, by click: loaded when a person asks, so that no other command pays for the import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pycontain.cli.main import GLOBAL_FLAGS, VERBS, load_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.cli.flags import Flag, Verb

_PROGRAM = "pycontain"
_WIDTH = 90


def _option(flag: Flag) -> click.Option:
    names = [f"--{name}" for name in (flag.name, *flag.aliases)]
    if flag.short:
        names.insert(0, f"-{flag.short}")
    summary = f"{flag.help} (default: on)" if flag.default is True else flag.help
    if flag.kind == "bool":
        return click.Option(names, is_flag=True, help=summary)
    many = flag.kind == "list"
    return click.Option(
        names, help=f"{summary}; may be repeated" if many else summary, metavar=flag.metavar
    )


def _examples(verb: Verb) -> str:
    lines = [f"  {command}\n      {meaning}" for command, meaning in verb.examples]
    # \b: click leaves the paragraph's lines as they are
    return "\b\nExamples:\n" + "\n".join(lines)


class VerbCommand(click.Command):
    """A verb as a click command.

    Args:
        verb: its table.
    """

    def __init__(self, verb: Verb) -> None:
        super().__init__(
            verb.name,
            params=[_option(flag) for flag in verb.flags],
            help=f"{verb.summary}.",
            epilog=_examples(verb),
        )
        self.verb = verb

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the base class names it
        """Return the usage line behind the command's name."""
        return [self.verb.usage]


class LazyGroup(click.Group):
    """All verbs; each is loaded when its help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the base class names it
        """Return the names of all verbs."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the base class names it
        """Return one verb, None where there is none of that name."""
        return VerbCommand(load_verb(cmd_name)) if cmd_name in VERBS else None


def _group(flags: Sequence[Flag]) -> LazyGroup:
    return LazyGroup(
        _PROGRAM,
        params=[_option(flag) for flag in flags],
        help="A low-level container runtime and daemonless engine.",
        epilog=f"Run '{_PROGRAM} COMMAND --help' for more information on a command.",
        subcommand_metavar="COMMAND",
    )


def help_text(verb: Verb | None) -> str:
    """Return the help text of a verb; None is the program's own."""
    # click cuts summaries to the width of the terminal it finds; here it is told
    settings: dict[str, Any] = {"max_content_width": _WIDTH, "terminal_width": _WIDTH}
    group = _group(GLOBAL_FLAGS)
    context = click.Context(group, info_name=_PROGRAM, **settings)
    if verb is None:
        return f"{group.get_help(context)}\n"
    command = VerbCommand(verb)
    inner = click.Context(command, parent=context, info_name=verb.name, **settings)
    return f"{command.get_help(inner)}\n"
