"""Packages, the library in release mode, and the programs of this folder."""

import os
import pathlib
import shutil
import subprocess

from shell import BUILD, HERE, ROOT, Failure, say, sh

COMMON = "-O2 -DNDEBUG -D_GNU_SOURCE -D_POSIX_C_SOURCE=200809L -Wall -Wextra".split()

# program -> (sources beside its own, modules of pkg-config)
DRIVE, LIFE = ["drive.c", "bench.c"], ["life.c", "wire.c", "bench.c"]
PROGRAMS = {
    "ours": (["ours_store.c", "ours_tx.c", "ours_admin.c", "wire.c", "bench.c"], ["sqlite3"]),
    "peer_sqlite": (["bench.c"], ["sqlite3"]),
    "peer_glib": (DRIVE, ["glib-2.0"]),
    "peer_pool": (DRIVE, []),
    "peer_tbb": (DRIVE, ["tbb"]),
    "peer_libdispatch": (DRIVE, []),
    "peer_beanstalk": (LIFE, []),
    "peer_redis": (LIFE, ["hiredis"]),
    "peer_postgres": (LIFE, ["libpq"]),
    "peer_gearman": (LIFE, []),
}

# What has to be there: package in Debian -> how it is seen when dpkg does not know it.
NEEDED = {
    "meson": "cmd:meson", "ninja-build": "cmd:ninja", "gcc": "cmd:gcc",
    "pkg-config": "cmd:pkg-config", "libsqlite3-dev": "pc:sqlite3",
    "libjansson-dev": "pc:jansson", "libmicrohttpd-dev": "pc:libmicrohttpd",
}
# ... for a program or a server; without it the lines that need it are skipped.
PEERS = {
    "peer_glib": {"libglib2.0-dev": "pc:glib-2.0"},
    "peer_tbb": {"libtbb-dev": "pc:tbb", "g++": "cmd:g++"},
    "peer_libdispatch": {"libdispatch-dev": "hdr:dispatch/dispatch.h"},
    "peer_redis": {"libhiredis-dev": "pc:hiredis", "redis-server": "cmd:redis-server"},
    "peer_postgres": {"libpq-dev": "pc:libpq", "postgresql": "pg:initdb"},
    "peer_beanstalk": {"beanstalkd": "cmd:beanstalkd"},
    "peer_gearman": {"gearman-job-server": "cmd:gearmand"},
    "plots": {"gnuplot-nox": "cmd:gnuplot"},
}

# Servers come with their packages, but neither start now nor with the machine.
INSTALL = """
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\\nexit 101\\n' >$policy && chmod 755 $policy
fi
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" || exit 1
[ -d /run/systemd/system ] || exit 0
for name in "$@"; do
    if systemctl cat "$name.service" >/dev/null 2>&1; then
        systemctl disable --quiet "$name.service"
    fi
done
"""


def find_tool(name):
    """The path of a program, also where only root has it in PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def find_postgres(name):
    """Debian keeps the server's programs out of PATH."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"),
                   key=lambda path: float(path.parts[-3]))
    return str(found[-1]) if found else find_tool(name)


def is_there(probe):
    kind, _, name = probe.partition(":")
    if kind == "cmd":
        return bool(find_tool(name))
    if kind == "pg":
        return bool(find_postgres(name))
    if kind == "hdr":
        return any(pathlib.Path(p, name).exists() for p in ("/usr/include", "/usr/local/include"))
    return bool(shutil.which("pkg-config")) and not subprocess.run(
        ["pkg-config", "--exists", name], stderr=subprocess.DEVNULL).returncode


def missing_of(packages):
    return [name for name, probe in packages.items() if not is_there(probe)]


def as_root():
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and not subprocess.run(["sudo", "-n", "true"],
                                                   stderr=subprocess.DEVNULL).returncode:
        return ["sudo", "-n"]
    return None


def in_archive(name):
    return bool(shutil.which("apt-cache")) and bool(
        subprocess.run(["apt-cache", "show", name], stdout=subprocess.PIPE,
                       stderr=subprocess.DEVNULL).stdout)


def install(packages):
    """Installs what apt can; the caller looks again what is there."""
    root = as_root()
    if root is None or not shutil.which("apt-get"):
        return
    say("installing " + " ".join(packages))
    try:
        sh([*root, "apt-get", "update", "-qq"])
    except Failure as failure:
        say(str(failure))
    known = [name for name in packages if in_archive(name)]
    if not known:
        return
    try:
        sh([*root, "sh", "-c", INSTALL, "install", *known])
    except Failure:
        for name in known:  # one that cannot be had must not keep away the others
            try:
                sh([*root, "sh", "-c", INSTALL, "install", name])
            except Failure as failure:
                say(str(failure))


def need_packages(wanted):
    """Installs what is missing for the WANTED programs.  Returns those that cannot be had, with
    the reason."""
    packages = dict(NEEDED)
    for name in wanted:
        packages.update(PEERS.get(name, {}))
    missing = [name for name in missing_of(packages)
               # What this release does not have is not asked for again and again.
               if name != "libdispatch-dev" or in_archive(name)]
    if missing:
        install(missing)
    missing = missing_of(NEEDED)
    if missing:
        raise Failure("missing packages; as root: apt-get install " + " ".join(missing))
    without = {}
    for name in wanted:
        missing = missing_of(PEERS.get(name, {}))
        if missing:
            without[name] = "no package " + ", ".join(missing)
    return without


def pkg(*args):
    return sh(["pkg-config", *args]).split()


def build_library():
    if not (BUILD / "build.ninja").exists():
        sh(["meson", "setup", str(BUILD), str(ROOT), "--buildtype=release",
            "-Doptimization=2", "-Db_ndebug=true", "-Ddefault_library=shared"])
    sh(["meson", "compile", "-C", str(BUILD), "bgmq"])


def build_program(name):
    """Compiles what has changed and links it."""
    parts, modules = PROGRAMS[name]
    own = next(path.name for path in HERE.glob(f"{name}.c*"))
    flags = [f"-I{ROOT}/include", *(pkg("--cflags", *modules) if modules else [])]
    libs = pkg("--libs", *modules) if modules else []
    if name == "ours":
        libs += [f"-L{BUILD}/src", "-lbgmq", f"-Wl,-rpath,{BUILD}/src"]
    if name == "peer_libdispatch":
        libs += ["-ldispatch"]
    headers = max(path.stat().st_mtime for path in
                  [*HERE.glob("*.h"), *ROOT.glob("include/*.h")])
    objects = []
    for part in [own, *parts]:
        source, made = HERE / part, BUILD / f"bench-{part}.o"
        if not made.exists() or made.stat().st_mtime < max(source.stat().st_mtime, headers):
            compiler = ["g++", "-std=c++17"] if part.endswith(".cpp") else ["cc", "-std=c11"]
            sh([*compiler, *COMMON, *flags, "-c", str(source), "-o", str(made)])
        objects.append(str(made))
    linker = "g++" if own.endswith(".cpp") else "cc"
    sh([linker, *objects, "-o", str(BUILD / f"bench-{name}"), *libs, "-lpthread"])


def build(wanted, without):
    """The library and the WANTED programs but those that cannot be had."""
    build_library()
    for name in sorted(wanted):
        if name in PROGRAMS and name not in without:
            build_program(name)


def version_of(*command):
    """The first line of what it says of itself, or nothing where it is not there."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if lines and not done.returncode else None
