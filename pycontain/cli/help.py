"""Help texts, by click: loaded when a person asks, so that no other command pays for the import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pycontain.cli.main import GLOBAL_FLAGS, NOUNS, VERBS, load_verb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    """Verbs; each is loaded when its help is asked for.

    Args:
        prefix: of their names in the table: a noun and a blank, or nothing.
        verbs: their names.
        settings: of click.Group.
    """

    def __init__(self, prefix: str, verbs: Iterable[str], **settings: Any) -> None:
        super().__init__(**settings)
        self.prefix = prefix
        self.verbs = sorted(verbs)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the base class names it
        """Return the names of all verbs."""
        return self.verbs

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the base class names it
        """Return one verb, None where there is none of that name."""
        if not self.prefix and cmd_name in NOUNS:
            return _noun(cmd_name)
        if cmd_name not in self.verbs:
            return None
        return VerbCommand(load_verb(self.prefix + cmd_name))


def _noun(name: str) -> LazyGroup:
    summary, verbs = NOUNS[name]
    return LazyGroup(
        f"{name} ",
        verbs,
        name=name,
        help=f"{summary}.",
        epilog=f"Run '{_PROGRAM} {name} COMMAND --help' for more information on a command.",
        subcommand_metavar="COMMAND",
    )


def _group(flags: Sequence[Flag]) -> LazyGroup:
    return LazyGroup(
        "",
        [*VERBS, *NOUNS],
        name=_PROGRAM,
        params=[_option(flag) for flag in flags],
        help="A low-level container runtime and daemonless engine.",
        epilog=f"Run '{_PROGRAM} COMMAND --help' for more information on a command.",
        subcommand_metavar="COMMAND",
    )


def help_text(verb: Verb | None, noun: str = "") -> str:
    """Return the help text of a verb; None is that of the noun, or the program's own."""
    # click cuts summaries to the width of the terminal it finds; here it is told
    settings: dict[str, Any] = {"max_content_width": _WIDTH, "terminal_width": _WIDTH}
    group = _group(GLOBAL_FLAGS)
    context = click.Context(group, info_name=_PROGRAM, **settings)
    if verb is None and not noun:
        return f"{group.get_help(context)}\n"
    command = _noun(noun) if verb is None else VerbCommand(verb)
    name = noun if verb is None else verb.name
    inner = click.Context(command, parent=context, info_name=name, **settings)
    return f"{command.get_help(inner)}\n"
