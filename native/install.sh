#!/bin/sh
# Installs pycontain on Debian 12 or newer, for every user of this machine, and runs a container.
#
#   sh native/install.sh
#
# May be run again at any time: what is there already is kept, pycontain itself is replaced by the
# one of this checkout. Nothing in the checkout is changed.
set -eu

PREFIX=/usr/local/lib/pycontain
LINKS=/usr/local/bin
COMMANDS="pycontain pycontain-runtime"

check_machine() {
    [ "$(uname -s)" = Linux ] || fail "this is $(uname -s): pycontain needs Linux 6.1 or newer"
    [ "$(id -u)" = 0 ] || fail "not root: installing packages and running a container need root"
    release=$(uname -r)
    major=${release%%.*}
    minor=${release#*.}
    minor=${minor%%[!0-9]*}
    if [ "$major" -lt 6 ] || { [ "$major" -eq 6 ] && [ "${minor:-0}" -lt 1 ]; }; then
        fail "kernel $release: pycontain needs Linux 6.1 or newer"
    fi
    system=$(. /etc/os-release 2>/dev/null && echo "${ID-} ${ID_LIKE-}") || system=
    case " $system " in
    *" debian "*) ;;
    *) fail "not Debian: install a C compiler, the headers of libseccomp and Python (3.11 or" \
        "newer), and a static busybox; then: python3 -m pip install $1" ;;
    esac
}

prepare_system() {
    missing=$(missing_packages $BUILD_PACKAGES)
    say "system packages to install: ${missing:-none}"
    # shellcheck disable=SC2086 # a list of words
    install_packages $missing
}

check_python() {
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$(python3 --version): pycontain needs Python 3.11 or newer (Debian 12 has it)"
}

# A virtual environment ends with the interpreter that made it, as after an upgrade of the system.
usable() {
    [ -x "$PREFIX/bin/python" ] && [ -x "$PREFIX/bin/pip" ] &&
        [ "$("$PREFIX/bin/python" -V 2>/dev/null)" = "$(python3 -V)" ]
}

make_environment() {
    if usable; then
        say "virtual environment: $PREFIX is there"
    else
        say "virtual environment: making $PREFIX"
        python3 -m venv --clear "$PREFIX"
    fi
}

# From a copy: the build writes into its folder, which may be another user's.
install_pycontain() {
    say "pycontain: compiling the native parts and installing into $PREFIX"
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    trap 'exit 1' HUP INT TERM
    tar -C "$1" --exclude='pycontain/_native/*' --exclude=__pycache__ -cf - \
        pyproject.toml README.md LICENSE pycontain native images | tar -C "$copy" -xf -
    "$PREFIX/bin/pip" install --upgrade "$copy" || fail "pip failed: see above"
}

# pip keeps the path of a "#!python" line and drops its options (docs/adr/0002): without -I the
# environment and the home of whoever calls decide what is imported, without -S start-up is longer.
isolate() {
    for command in $COMMANDS; do
        sed -i "1s|^#!.*|#!$PREFIX/bin/python -IS|" "$PREFIX/bin/$command"
    done
}

link() {
    mkdir -p "$LINKS"
    for command in $COMMANDS; do
        place=$LINKS/$command
        if [ -e "$place" ] || [ -L "$place" ]; then
            [ "$(readlink "$place")" = "$PREFIX/bin/$command" ] ||
                fail "$place is there and not from here: move it away and run this again"
        else
            ln -s "$PREFIX/bin/$command" "$place"
        fi
        say "command: $place"
    done
}

try() {
    say "a first container: pycontain run --rm --network none busybox echo hello from a container"
    "$LINKS/pycontain" run --rm --network none busybox echo hello from a container
}

main() {
    check_machine "$source"
    prepare_system
    check_python
    make_environment
    install_pycontain "$source"
    isolate
    link
    try
    say "done; \"pycontain --help\" lists the commands"
}

source=$(cd "$(dirname "$0")/.." && pwd)
. "$source/native/debian.sh"
main
