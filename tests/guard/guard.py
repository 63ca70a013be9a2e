"""Counts the instructions of fixed scenarios (guard.c), and compares them with stored bounds.

A slow-down that clocks would lose in the noise of a shared machine is seen as more instructions,
and those are the same in each run.  The library is built in release mode, in a folder of its own;
callgrind counts the one thread that a scenario is about, its calls into SQLite and libc included,
and the count of an operation is that of the scenario by the number of its operations.

bounds.txt holds for each scenario the count it had, and 5 % more as its bound.  Counts depend on
compiler and libraries: the file says with which ones they were made, and with others nothing is
compared.  What is not seen: waiting, contention of threads, and how long the disk takes; for those
there is tests/bench.
"""
import concurrent.futures
import math
import os
import pathlib
import platform
import re
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BOUNDS = HERE / 'bounds.txt'
MARGIN = 1.05  # of a new bound, over the count
SLACK = 0.85  # a count below this part of its bound asks for a new one
SLOWER = 'publish-slower'  # publish and a deliberate loop: has to be over the bound of publish

MODULES = ('sqlite3', 'jansson', 'libmicrohttpd')
FLAGS = ('-std=c11 -O2 -g -DNDEBUG -D_GNU_SOURCE -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror'
         ' -Wl,-z,now').split()
# All of the environment of what is counted: malloc obeys some of it (meson has it fill memory).
# libc has several versions of memcpy and its kind, and takes the one for the processor: here
# always the plain one.
BARE = {'PATH': '/usr/bin:/bin',
        'GLIBC_TUNABLES': 'glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,'
                         '-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM,-SSE4_2,-SSSE3'}


class Failure(Exception):
    pass


def sh(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=250,
                          **more)
    if done.returncode:
        raise Failure(f'{" ".join(map(str, command))}: status {done.returncode}\n'
                      f'{done.stdout}{done.stderr}')
    return done.stdout


def missing():
    """The first tool that is not here, or None."""
    for tool in ('gcc', 'meson', 'ninja', 'pkg-config', 'valgrind'):
        if not shutil.which(tool):
            return tool
    return None


def made_with():
    """What counts depend on."""
    gcc = sh('gcc', '-dumpversion').split('.')[0].strip()
    sqlite = sh('pkg-config', '--modversion', 'sqlite3').strip()
    libc = os.confstr('CS_GNU_LIBC_VERSION')
    return f'gcc {gcc}, {platform.machine()}, {libc}, sqlite {sqlite}'


class Guard:
    """The program, built in FOLDER."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.program = self.folder / 'guard'
        self.counts = self.folder / 'counts'

    def build(self):
        env = {k: v for k, v in os.environ.items() if k not in ('CFLAGS', 'CPPFLAGS', 'LDFLAGS')}
        env['CC'] = 'gcc'
        inner = self.folder / 'library'
        if not (inner / 'build.ninja').exists():
            shutil.rmtree(inner, ignore_errors=True)
            sh('meson', 'setup', inner, ROOT, '--buildtype=release', '-Doptimization=2',
               '-Db_ndebug=true', env=env)
        library = 'src/libbgmq-private.a'
        sh('ninja', '-C', inner, library, env=env)
        sh('gcc', *FLAGS, f'-I{ROOT}/include', f'-I{ROOT}/src', HERE / 'guard.c',
           inner / library, '-o', self.program,
           *sh('pkg-config', '--cflags', '--libs', *MODULES).split(), '-lpthread')
        self.counts.mkdir(exist_ok=True)

    def names(self):
        return sh(self.program, 'list').split()

    def file(self, name):
        """What callgrind wrote, for callgrind_annotate."""
        return self.counts / f'{name}.callgrind'

    def count(self, name):
        """Instructions of one operation."""
        database = self.counts / f'{name}.db'
        for old in self.counts.glob(f'{database.name}*'):
            old.unlink()
        said = sh(shutil.which('valgrind'), '-q', '--tool=callgrind', '--collect-atstart=no',
                  f'--callgrind-out-file={self.file(name)}', self.program, name, database,
                  env=BARE)
        total = re.search(r'^totals: (\d+)', self.file(name).read_text(), re.M)
        if not total or int(total[1]) == 0:
            raise Failure(f'{name}: callgrind counted nothing')
        for left in self.counts.glob(f'{database.name}*'):
            left.unlink()
        return int(total[1]) / int(said)

    def count_all(self, names):
        """name -> count; several at a time, which changes nothing about them."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return dict(zip(names, pool.map(self.count, names)))


def new_bound(count):
    return math.ceil(count * MARGIN)


def verdict(count, bound):
    """'over', which fails; 'low': the bound holds nothing back any more; 'good'."""
    if count > bound:
        return 'over'
    return 'low' if count < bound * SLACK else 'good'


def read_bounds():
    """What they were made with, and name -> bound."""
    made, bounds = '', {}
    if not BOUNDS.exists():
        return made, bounds
    for line in BOUNDS.read_text().splitlines():
        if line.startswith('made with: '):
            made = line.removeprefix('made with: ')
        elif line and not line.startswith('#'):
            name, bound = line.split()[:2]
            bounds[name] = int(bound)
    return made, bounds


def write_bounds(made, bounds, order):
    head = ('# The most instructions that an operation of each scenario of guard.c may take.\n'
            '# Written by tests/guard/run --write [NAME...]: the count and 5 %.\n')
    rows = ''.join(f'{name:16} {bounds[name]:>8}\n' for name in order)
    BOUNDS.write_text(f'{head}made with: {made}\n{rows}')
