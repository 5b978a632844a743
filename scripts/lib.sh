# shellcheck shell=bash disable=SC2034 # the lists are for those who source this
# What scripts/demo and scripts/test share: the lists of packages, their installation, the build. Sourced, not run.

# --- what Debian 12 packages are needed ---

# To build both programs.
PACKAGES_BUILD=(
    gcc libc6-dev meson ninja-build pkgconf protobuf-c-compiler
    libcurl4-openssl-dev libjansson-dev libmicrohttpd-dev libnghttp2-dev libpcap-dev libprotobuf-c-dev libsqlite3-dev libssl-dev
    libuv1-dev
)
# Faster AES-GCM, see src/net/gcm.h; there for one kind of processor only.
case $(uname -m) in x86_64) PACKAGES_BUILD+=(libipsec-mb-dev) ;; esac
# To show them at work.
PACKAGES_DEMO=(bird2 curl iproute2 jq openssl procps)
# To test them: the second compiler, its sanitizers and valgrind, the test runners, the BGP daemons and web proxies they play against.
PACKAGES_TEST=(
    clang libclang-rt-14-dev libcmocka-dev
    protobuf-compiler python3 python3-grpcio python3-protobuf python3-pytest python3-pytest-xdist
    bird2 exabgp frr gobgpd openbgpd
    dante-server haproxy keepalived microsocks tinyproxy prometheus tcpdump
    curl iproute2 jq openssl procps valgrind
)

# --- words ---

say() {
    printf '%s\n' "$*"
}

# The reason of a failure, on stderr.
complain() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# --- rights ---

is_root() {
    [ "$(id -u)" -eq 0 ]
}

# Runs a command as root: as it is, or through sudo.
as_root() {
    if is_root; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        complain "needs root for: $*"
        complain "run this as root, or install sudo"
        return 1
    fi
}

# --- packages ---

# Those of the named packages that are not installed, one a line.
missing_packages() {
    local name
    for name in "$@"; do
        # shellcheck disable=SC2016 # dpkg-query's placeholder
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" != installed ]; then
            printf '%s\n' "$name"
        fi
    done
}

# Installs the named packages (as root). Daemons among them must not start, now or at the next boot: only the tests' own
# copies run. policy-rc.d is Debian's switch for "now"; it is ours only while we install. One at a time: the lock.
install_as_root() {
    local policy=/usr/sbin/policy-rc.d mark='kbgp scripts/lib.sh: no daemon starts while its package is installed' missing
    (
        flock 9
        mapfile -t missing < <(missing_packages "$@")
        [ "${#missing[@]}" -gt 0 ] || exit 0 # another run was faster
        # An older one of ours is what a killed run left behind.
        if [ ! -e "$policy" ] || grep -qF "$mark" "$policy"; then
            trap 'rm -f "$policy"' EXIT
            trap 'exit 130' INT TERM HUP
            printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" >"$policy"
            chmod 755 "$policy"
        fi
        export DEBIAN_FRONTEND=noninteractive
        # A package server that stumbles is asked again.
        apt-get update -q -o Acquire::Retries=3
        apt-get install -y -q --no-install-recommends -o Acquire::Retries=3 -o DPkg::Lock::Timeout=600 "${missing[@]}"
        disable_daemons "${missing[@]}"
    ) 9</var/lib/dpkg
}

# Takes the daemons of packages that were just installed out of the boot sequence.
disable_daemons() {
    local package file
    for package in "$@"; do
        while read -r file; do
            case $file in
            */systemd/system/*@.*) ;; # a template: nothing runs
            /lib/systemd/system/*.service | /usr/lib/systemd/system/*.service | /lib/systemd/system/*.timer | /lib/systemd/system/*.socket)
                ! command -v systemctl >/dev/null || systemctl --quiet disable "${file##*/}" >/dev/null 2>&1 || true
                ;;
            /etc/init.d/*)
                ! command -v update-rc.d >/dev/null || update-rc.d "${file##*/}" disable >/dev/null 2>&1 || true
                ;;
            esac
        done < <(dpkg-query -L "$package")
    done
}

# Installs what is missing of the named packages; prints what that is. Output of apt-get goes to the file in $1.
ensure_packages() {
    local log=$1 missing
    shift
    mapfile -t missing < <(missing_packages "$@")
    if [ "${#missing[@]}" -eq 0 ]; then
        say "All $# packages are there already."
        return 0
    fi
    if ! command -v apt-get >/dev/null; then
        complain "no apt-get here: this script is made for Debian 12. Missing: ${missing[*]}"
        return 1
    fi
    say "Installing ${#missing[@]} packages and what they need: ${missing[*]}"
    if ! as_root bash -c "$(declare -f missing_packages install_as_root disable_daemons); set -euo pipefail; install_as_root \"\$@\"" \
        install "${missing[@]}" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        complain "apt-get could not install the packages"
        return 1
    fi
}

# --- build ---

# build DIR CC [meson options]: configures the tree's programs in DIR (if need be) and builds them. Two runs of a script
# wait for each other.
# shellcheck disable=SC2094 # the folder is opened for its lock, not read
build() {
    local dir=$1 cc=$2
    shift 2
    mkdir -p "$dir"
    (
        flock 9
        # A folder that was configured elsewhere (a copied tree) or with other options starts afresh.
        if ! CC=$cc meson setup "$dir" "$ROOT" "$@" 9<&- || ! meson configure "$dir" "$@" 9<&-; then
            CC=$cc meson setup --wipe "$dir" "$ROOT" "$@" 9<&-
        fi
        ninja -C "$dir" 9<&-
    ) 9<"$dir"
}

# The tree's root. The script that sources this file lies in scripts/.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
