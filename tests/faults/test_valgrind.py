#!/usr/bin/env python3
"""Runs tests under valgrind's memcheck: no error, no block lost, no file left open.

Each program runs in one process (CK_FORK=no), so that what one test leaves behind is there at the
end.  Quick: a few programs that cover messages, JSON, options, queues and the store; in full the
others that can share a process.

helgrind and drd are not run: they know pthread mutexes, but neither C11 atomics nor futexes, of
which the locks and the hand-over of messages are made.  On flow/custom each has more than 700
reports, the first of them inside lock_take; what they could say, ThreadSanitizer says, which
knows both.
"""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

from tap import Tap

BUILD = pathlib.Path(os.environ['BGMQ_BUILD_ROOT'])
QUICK = ('unit_test_message', 'unit_test_json', 'unit_test_options', 'flow_test_custom',
         'flow_test_consume', 'store_test_store_values')
FULL = QUICK + ('unit_test_ticket', 'unit_test_map', 'unit_test_slab', 'unit_test_mem',
                'unit_test_journal_end', 'flow_test_tx', 'flow_test_reply',
                'faults_test_arguments')
LEAKS = 'definite,indirect,possible'
OPEN = re.compile(r'Open (?:file descriptor|AF_\w+ socket)[^\n]*\n==\d+==\s*(<inherited)?')


def run(name):
    """(status, what valgrind said, seconds)"""
    begun = time.monotonic()
    env = dict(os.environ, CK_FORK='no', CK_TIMEOUT_MULTIPLIER='20')
    try:
        done = subprocess.run(
            ['valgrind', '-q', '--leak-check=full', f'--show-leak-kinds={LEAKS}',
             f'--errors-for-leak-kinds={LEAKS}', '--track-fds=yes', '--fair-sched=yes',
             '--error-exitcode=99', str(BUILD / 'tests' / name)],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280,
            errors='replace')
    except subprocess.TimeoutExpired:
        return -1, 'it did not end in 280 s', time.monotonic() - begun
    return done.returncode, done.stdout, time.monotonic() - begun


def judge(tap, name, status, text):
    said = [line for line in text.splitlines() if line.startswith(('==', 'not ok'))]
    left = [found for found in OPEN.finditer(text) if not found[1]]
    tap.check(f'{name}: no error and nothing lost', status == 0, f'status {status}', *said[:60])
    tap.check(f'{name}: no file left open', not left, *(found[0] for found in left))


def control(tap):
    """A program that loses a block has to be told of, else nothing above means anything."""
    source = '#include <stdlib.h>\nint main(void) { volatile char *p = malloc(7); p = 0; }\n'
    folder = BUILD / 'tests'
    built = subprocess.run(['cc', '-g', '-x', 'c', '-', '-o', str(folder / 'valgrind_control')],
                           input=source, text=True, capture_output=True)
    status = run('valgrind_control')[0] if built.returncode == 0 else 0
    tap.check('a block that is lost is seen', status == 99, f'status {status}', built.stderr)


def main():
    tap = Tap()
    if not shutil.which('valgrind'):
        tap.skip('memcheck', 'valgrind is not installed')
        return tap.end()
    names = FULL if os.environ.get('BGMQ_FULL', '0') not in ('', '0') else QUICK
    missing = [f'tests/{name}' for name in names if not (BUILD / 'tests' / name).exists()]
    if missing:
        subprocess.run(['ninja', '-C', str(BUILD), *missing], stdout=subprocess.DEVNULL)
    control(tap)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, (status, text, seconds) in zip(names, pool.map(run, names)):
            judge(tap, name, status, text)
            print(f'# {name}: {seconds:.1f} s')
    print(f'# figure: programs {len(names)}')
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
