#!/usr/bin/env python3
"""Fuzzes whatever reads bytes: builds each fuzz_NAME.c with libFuzzer and the address and
undefined behaviour sanitizers, replays its corpus (corpus/NAME), and goes on from there: for a
second from a fixed seed, or as long as BGMQ_FUZZ_SECONDS says (15 s with BGMQ_FULL).

BGMQ_SEED is another seed, BGMQ_FUZZ="NAME..." names the targets.  An input that was wrong is kept.
"""
import concurrent.futures
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import tap

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILT = pathlib.Path(os.environ['BGMQ_BUILD_ROOT']) / 'fuzz'
FULL = os.environ.get('BGMQ_FULL', '0') not in ('', '0')
SECONDS = int(os.environ.get('BGMQ_FUZZ_SECONDS', '0')) or (15 if FULL else 1)
SEED = os.environ.get('BGMQ_SEED', '1')
SANITIZE = ['-fsanitize=address,undefined', '-fno-sanitize-recover=undefined']
FLAGS = ['-std=c11', '-O1', '-g1', '-D_GNU_SOURCE', '-D_POSIX_C_SOURCE=200809L', '-fPIC',
         '-Wno-unused-function', f'-I{ROOT}/include', f'-I{ROOT}/src', *SANITIZE]
# What is looked at for new ways through it: all of the library.
LIBRARY_FLAGS = ['-fsanitize=fuzzer-no-link']
LIMITS = ['-rss_limit_mb=256', '-timeout=1', '-max_len=4096', '-print_final_stats=1',
          '-close_fd_mask=1', '-verbosity=1']


class Broken(Exception):
    """Something does not build."""


# ---- building ----------------------------------------------------------------------------------

def libraries():
    asked = ['pkg-config', '--cflags', '--libs', 'sqlite3', 'jansson', 'libmicrohttpd']
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()


def stamp(sources, command):
    """What the result depends on; headers count for all."""
    digest = hashlib.sha256(repr(command).encode())
    for path in [*sources, *sorted((ROOT / 'src').glob('*.h')),
                 *sorted((ROOT / 'include').glob('*.h')), *sorted(HERE.glob('*.h'))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make(target, sources, command):
    """Runs COMMAND to make TARGET, unless it was made of the same before."""
    mark, wanted = target.with_name(target.name + '.made'), stamp(sources, command)
    if target.exists() and mark.exists() and mark.read_text() == wanted:
        return
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise Broken(ran.stderr[-3000:])
    mark.write_text(wanted)


def compiler():
    return ['ccache', 'clang'] if shutil.which('ccache') else ['clang']


def make_object(source):
    target = BUILT / (source.stem + '.o')
    make(target, [source],
         [*compiler(), *FLAGS, *LIBRARY_FLAGS, '-c', str(source), '-o', str(target)])
    return target


def build(targets):
    """Returns the program of each target."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(make_object, sorted((ROOT / 'src').glob('*.c'))))
        archive = BUILT / 'libbgmq-fuzz.a'
        archive.unlink(missing_ok=True)
        subprocess.run(['ar', 'rcs', str(archive), *map(str, objects)], check=True)
        return dict(zip(targets, pool.map(
            lambda source: make_program(source, archive, objects), targets)))


def make_program(source, archive, objects):
    target = BUILT / source.stem
    made = [path.with_name(path.name + '.made') for path in objects]
    make(target, [source, *made],
         ['clang', *FLAGS, '-fsanitize=fuzzer', str(source), str(archive), '-o', str(target),
          *libraries(), '-lpthread'])
    return target


# ---- running -----------------------------------------------------------------------------------

def run(program, name, arguments, seconds):
    """Returns the status and what was said."""
    wrong = BUILT / 'wrong'
    wrong.mkdir(exist_ok=True)
    command = [str(program), *LIMITS, f'-artifact_prefix={wrong}/{name}-', f'-seed={SEED}',
               *arguments]
    env = dict(os.environ, ASAN_OPTIONS='detect_leaks=1:allocator_may_return_null=1',
               UBSAN_OPTIONS='print_stacktrace=1')
    try:
        ran = subprocess.run(command, capture_output=True, text=True, errors='replace', env=env,
                             timeout=seconds)
        return ran.returncode, ran.stderr
    except subprocess.TimeoutExpired as late:
        said = late.stderr or b''
        return -1, (said.decode(errors='replace') if isinstance(said, bytes) else said) + \
            f'\ndid not end within {seconds} s'


def executions(said):
    found = re.search(r'stat::number_of_executed_units:\s*(\d+)', said)
    return int(found[1]) if found else 0


def explain(program, said):
    kept = re.search(r'Test unit written to (\S+)', said)
    again = [f'again: {program} {kept[1]}'] if kept else []
    return [*again, said[-4000:]]


def fuzz(t, source, program):
    name = source.stem.removeprefix('fuzz_')
    corpus = HERE / 'corpus' / name
    seeds = sorted(str(p) for p in corpus.iterdir()) if corpus.is_dir() else []
    done = crashes = 0
    if seeds:
        status, said = run(program, name, seeds, 60)
        done += len(seeds)
        crashes += status != 0
        t.check(f'{name}: its corpus is borne', status == 0, *explain(program, said))
    # What is found goes to a folder of the build: the next run goes on from there.
    found = BUILT / 'found' / name
    if not FULL:
        shutil.rmtree(found, ignore_errors=True)
    found.mkdir(parents=True, exist_ok=True)
    folders = [str(found), *([str(corpus)] if seeds else [])]
    status, said = run(program, name, [f'-max_total_time={SECONDS}', *folders], SECONDS + 60)
    done += executions(said)
    crashes += status != 0
    t.check(f'{name}: {SECONDS} s of hostile bytes are borne', status == 0,
            *explain(program, said))
    print(f'# {name}: {executions(said)} executions')
    return done, crashes


def main():
    t = tap.Tap()
    wanted = os.environ.get('BGMQ_FUZZ', '').split()
    targets = [s for s in sorted(HERE.glob('fuzz_*.c'))
               if not wanted or s.stem.removeprefix('fuzz_') in wanted]
    if not shutil.which('clang'):
        t.skip('hostile bytes are borne', 'clang is not installed')
        return t.end()
    try:
        programs = build(targets)
    except Broken as broken:
        t.check('the fuzzers build', False, broken)
        return t.end()
    done = crashes = 0
    for source in targets:
        n, wrong = fuzz(t, source, programs[source])
        done += n
        crashes += wrong
    print(f'# figure: executions {done}')
    print(f'# figure: crashes {crashes}')
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
