#!/usr/bin/env python3
"""Tests the tests: each fault of mutants.py, put into a copy of the sources, is found by one of the
tests that it names.  One that nobody finds is a test that is missing.

Without BGMQ_FULL only a few are tried.  BGMQ_MUTANTS="NAME..." names those to try.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import tap
from mutants import MUTANTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = pathlib.Path(os.environ['BGMQ_BUILD_ROOT']) / 'mutants'
TREE, BUILT = FOLDER / 'tree', FOLDER / 'built'
FULL = os.environ.get('BGMQ_FULL', '0') not in ('', '0')
# A fault may keep a test from ending: that is found as well, so nobody waits for long.
TEST_SECONDS, PROGRAM_SECONDS = 20, 240


class Broken(Exception):
    """The sources do not build as they are, or a test fails without any fault."""


# ---- the copy ----------------------------------------------------------------------------------

def listed():
    said = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
                          cwd=ROOT, capture_output=True, check=True).stdout
    return sorted(name for name in os.fsdecode(said).split('\0')
                  if name and (ROOT / name).is_file())


def copy():
    """Brings the tree up to date; what is the same keeps its time, so that it is not built anew."""
    names = listed()
    for name in names:
        there, here = ROOT / name, TREE / name
        if here.is_file() and here.read_bytes() == there.read_bytes():
            continue
        here.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(there, here)
    for path in [p for p in TREE.rglob('*') if p.is_file()]:
        if str(path.relative_to(TREE)) not in names:
            path.unlink()


# ---- tests -------------------------------------------------------------------------------------

def program(test):
    area, _, name = test.partition(':')[0].partition('/')
    return f'tests/{area}_test_{name}'


def build(tests):
    """None, or why it does not build."""
    if not (BUILT / 'build.ninja').exists():
        shutil.rmtree(BUILT, ignore_errors=True)
        done = subprocess.run(['meson', 'setup', str(BUILT), str(TREE), '-Dbuildtype=debug',
                               '-Ddefault_library=static'], capture_output=True, text=True)
        if done.returncode:
            return done.stdout + done.stderr
    done = subprocess.run(['ninja', '-C', str(BUILT), *sorted({program(t) for t in tests})],
                          capture_output=True, text=True)
    return (done.stdout + done.stderr)[-2000:] if done.returncode else None


def fails(test):
    """None when TEST passes, else what it says."""
    case = test.partition(':')[2]
    with tempfile.TemporaryDirectory(dir=FOLDER, ignore_cleanup_errors=True) as temporary:
        env = dict(os.environ, BGMQ_FULL='0', CK_TAP_LOG_FILE_NAME='-', CK_VERBOSITY='silent',
                   CK_DEFAULT_TIMEOUT=str(TEST_SECONDS), TMPDIR=temporary)
        if case:
            env['CK_RUN_CASE'] = case
        child = subprocess.Popen([str(BUILT / program(test))], cwd=ROOT, env=env, text=True,
                                 errors='replace', stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, start_new_session=True)
        try:
            said, _ = child.communicate(timeout=PROGRAM_SECONDS)
        except subprocess.TimeoutExpired:
            said = 'it does not end'
            child.returncode = 1
        try:  # a test that was ended leaves its children
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait() if child.returncode is None else None
    if not child.returncode:
        return None
    wrong = [line for line in said.splitlines() if line.startswith('not ok')]
    return '\n'.join(wrong) or said[-500:]


# ---- mutants -----------------------------------------------------------------------------------

def misplaced(mutant):
    """What is not as it has to be: its line is there, once, and so are its tests."""
    wrong = []
    text = (ROOT / 'src' / mutant.file).read_text()
    for old, new in mutant.changes:
        if text.count(old) != 1 or old == new:
            wrong.append(f'src/{mutant.file} has {text.count(old)} times: {old}')
    for test in mutant.tests:
        name, _, case = test.partition(':')
        area, _, name = name.partition('/')
        source = ROOT / 'tests' / area / f'test_{name}.c'
        if not source.is_file() or (case and f'"{case}"' not in source.read_text()):
            wrong.append(f'no test {test}')
    return wrong


def put_in(mutant):
    """Returns the text of the file without it."""
    path = TREE / 'src' / mutant.file
    text = before = path.read_text()
    for old, new in mutant.changes:
        text = text.replace(old, new)
    path.write_text(text)
    return before


def try_one(t, mutant):
    """True: it was found."""
    begun = time.monotonic()
    before = put_in(mutant)
    try:
        why = build(mutant.tests)
        if why:
            t.check(f'{mutant.name} builds', False, why)
            return False
        finder = next((test for test in mutant.tests if fails(test)), None)
    finally:
        (TREE / 'src' / mutant.file).write_text(before)
    t.check(f'{mutant.name} is found', finder is not None,
            f'src/{mutant.file}: nothing of {", ".join(mutant.tests)} fails',
            f'replay: BGMQ_MUTANTS={mutant.name} ./tests/faults/run mutants')
    if finder:
        print(f'# by {finder}, in {time.monotonic() - begun:.1f} s')
    return finder is not None


def chosen():
    named = os.environ.get('BGMQ_MUTANTS', '').split()
    strange = set(named) - {m.name for m in MUTANTS}
    if strange:
        raise Broken(f'no mutant {", ".join(sorted(strange))}')
    return [m for m in MUTANTS if (m.name in named if named else FULL or m.quick)]


def begin(mutants):
    copy()
    tests = sorted({test for m in mutants for test in m.tests})
    why = build(tests)
    if why:
        raise Broken(f'without any: {why}')
    for test in tests:
        why = fails(test)
        if why:
            raise Broken(f'{test} fails without any: {why}')


def main():
    sys.stdout.reconfigure(line_buffering=True)
    t = tap.Tap()
    lost = [f'{m.name}: {why}' for m in MUTANTS for why in misplaced(m)]
    t.check('each has its line, and its tests', not lost, *lost)
    names = [m.name for m in MUTANTS]
    t.check('each has a name of its own', len(names) == len(set(names)))
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        mutants = [] if lost else chosen()
        begin(mutants)
        found = sum(try_one(t, m) for m in mutants)
        print(f'# figure: mutants {len(mutants)}')
        print(f'# figure: survivors {len(mutants) - found}')
    except Broken as broken:
        t.check('they can be tried', False, broken)
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
