# shellcheck shell=sh
# What install.sh and tests/run share: Debian's packages. Sourced, so it changes nothing by itself.

# gcc, libc6-dev, libseccomp-dev and python3-dev compile the native parts; busybox-static is what
# the image "busybox" is made of; networks are made with nftables.
BUILD_PACKAGES="gcc libc6-dev libseccomp-dev python3 python3-dev python3-venv busybox-static nftables"
BUNDLE=/etc/ssl/certs/ca-certificates.crt

say() {
    printf '==> %s\n' "$*"
}

fail() {
    printf '%s: %s\n' "$0" "$*" >&2
    exit 1
}

installed() {
    case $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null) in
    *" ok installed") ;;
    *) return 1 ;;
    esac
}

# missing_packages PACKAGE…: prints those that are not installed.
missing_packages() {
    for package in "$@"; do
        installed "$package" || printf '%s ' "$package"
    done
}

# without_services COMMAND…: what packages it installs start none (invoke-rc.d(8), policy-rc.d).
without_services() {
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    code=0
    "$@" || code=$?
    rm "$policy"
    return "$code"
}

# install_packages PACKAGE…
#
# python3-venv brings ca-certificates, which writes the bundle of certificates anew. One that was
# put there before, as behind a proxy with a certificate of its own, is the one that works here.
install_packages() {
    [ $# -gt 0 ] || return 0
    kept=
    if [ -f "$BUNDLE" ] && ! installed ca-certificates; then
        kept=$(mktemp)
        cat "$BUNDLE" >"$kept"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update || fail "apt-get update failed: see above"
    without_services apt-get -q -y --no-install-recommends install "$@" ||
        fail "apt-get install failed: see above"
    if [ -n "$kept" ]; then
        cat "$kept" >"$BUNDLE"
        rm "$kept"
    fi
}
