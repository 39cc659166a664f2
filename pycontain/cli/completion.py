"""``completion``: scripts that make a shell complete our command lines; see ``complete``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import UsageError, Verb

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App

_BASH = r"""# completion of pycontain for bash
_pycontain() {
    local -a answer
    mapfile -t answer < <("$1" __complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" \
        2>/dev/null)
    COMPREPLY=("${answer[@]:1}")
    case ${answer[0]} in
    files) compopt -o default ;;
    nospace) compopt -o nospace ;;
    esac
}
complete -F _pycontain pycontain
"""

_ZSH = r"""#compdef pycontain
# completion of pycontain for zsh
_pycontain() {
    local -a answer
    answer=("${(@f)$("${(Q)words[1]}" __complete zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" \
        2>/dev/null)}")
    local how=$answer[1]
    shift answer
    case $how in
    files)
        [[ $PREFIX == --*=* ]] && compset -P '*='
        _files
        ;;
    nospace) _describe -t values pycontain answer -S '' ;;
    words) (( $#answer )) && _describe -t values pycontain answer ;;
    esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _pycontain "$@"
else
    compdef _pycontain pycontain
fi
"""

_FISH = r"""# completion of pycontain for fish
function __pycontain_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l answer ($words[1] __complete fish $words[2..-1] "$current" 2>/dev/null)
    if test "$answer[1]" = files
        __fish_complete_path "$current"
    else if test (count $answer) -gt 1
        printf '%s\n' $answer[2..-1]
    end
end
complete -c pycontain -f -a '(__pycontain_complete)'
"""

SCRIPTS = {"bash": _BASH, "fish": _FISH, "zsh": _ZSH}


def _completion(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    script = SCRIPTS.get(arguments[0])
    if script is None:
        raise UsageError(f"no completion for {arguments[0]}", f"there are {', '.join(SCRIPTS)}", 1)
    streams.write(script)
    return 0


COMPLETION = Verb(
    "completion",
    "bash|fish|zsh",
    "Print a script that makes a shell complete command lines",
    _completion,
    least=1,
    most=1,
    examples=(
        ("pycontain completion bash >/etc/bash_completion.d/pycontain", "for every user of bash"),
        ("pycontain completion zsh >/usr/share/zsh/vendor-completions/_pycontain", "of zsh"),
        ("pycontain completion fish >~/.config/fish/completions/pycontain.fish", "for oneself"),
    ),
)
