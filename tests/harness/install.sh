# install.sh - sourced by tests/run and examples/run: finds out which packages are missing and
# installs them on Debian; elsewhere says what is missing.  Silent when all is there.
#
# need WHAT... with WHAT as "package=probe": the package's name in Debian, and how to see that
# the thing is there when the package is not: cmd:NAME, pc:NAME (pkg-config), hdr:NAME
# (C header), py:NAME (Python module).
# shellcheck shell=bash

# What Debian's packages bring comes before other copies of the same tools.
if command -v dpkg-query >/dev/null; then
    PATH="/usr/bin:/bin:$PATH"
fi

probe() {
    case $1 in
    cmd:*) command -v "${1#cmd:}" >/dev/null ;;
    pc:*) pkg-config --exists "${1#pc:}" 2>/dev/null ;;
    hdr:*) echo "#include <${1#hdr:}>" | cc -E - >/dev/null 2>&1 ;;
    py:*) python3 -c "import ${1#py:}" 2>/dev/null ;;
    *) false ;;
    esac
}

installed() {
    command -v dpkg-query >/dev/null &&
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing_of() {
    local what
    for what in "$@"; do
        installed "${what%%=*}" || probe "${what#*=}" || echo "${what%%=*}"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

need() {
    local missing log
    missing=$(missing_of "$@" | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "Missing here, by their names in Debian: $missing" >&2
        echo "Please install them, then run this again." >&2
        exit 2
    fi
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        echo "Missing packages: $missing" >&2
        echo "Please run as root: apt-get install $missing" >&2
        exit 2
    fi
    echo "installing: $missing"
    log=$(mktemp)
    # shellcheck disable=SC2086
    if ! { as_root apt-get -q update &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -q -y --no-install-recommends install $missing; } >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        echo "Could not install: $missing" >&2
        echo "With a network, as root: apt-get update && apt-get install $missing" >&2
        exit 2
    fi
    rm -f "$log"
}

# Started through sudo in somebody's checkout: go on as that user, so that the build folder
# stays theirs.  Packages are installed by now.
drop_root() {
    if [ "$(id -u)" = 0 ] && [ "${SUDO_UID:-0}" != 0 ] &&
        [ "$(stat -c %u .)" = "$SUDO_UID" ]; then
        exec sudo -u "#$SUDO_UID" -- "$0" "$@"
    fi
}

# setup_build FOLDER OPTION...: configures FOLDER, or brings it up to date.
setup_build() {
    local folder=$1
    shift
    if [ -f "$folder/build.ninja" ]; then
        meson setup --reconfigure "$folder" "$@" && return
        rm -rf "$folder"
    fi
    meson setup "$folder" "$@"
}
