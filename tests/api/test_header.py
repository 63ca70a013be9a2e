#!/usr/bin/env python3
"""Each header alone is valid C99, C11, C++11 and C++17, without a warning, and stays short."""
import itertools
import pathlib
import shutil
import subprocess
import sys

import tap

HEADERS = sorted((pathlib.Path(__file__).resolve().parents[2] / 'include').glob('*.h'))
STANDARDS = [('c', 'c99'), ('c', 'c11'), ('c++', 'c++11'), ('c++', 'c++17')]
USE = '''
#include "%s"
#include <bgmq.h>
int use(struct bgmq *mq);
int use(struct bgmq *mq)
{
    struct bgmq_options options = %s;
    options.max_body = 1;
    return bgmq_started(mq) + (int)options.max_body;
}
'''


def main():
    t = tap.Tap()
    for header, compiler, (language, standard) in itertools.product(
            HEADERS, ('gcc', 'clang'), STANDARDS):
        name = f'{compiler} takes {header.name} as {standard}'
        if not shutil.which(compiler):
            t.skip(name, f'{compiler} is not here')
            continue
        source = USE % (header.name, '{}' if language == 'c++' else '{0}')
        quiet = ['-Wno-missing-field-initializers']
        done = subprocess.run(
            [compiler, '-x', language, f'-std={standard}', '-Wall', '-Wextra', '-Wpedantic',
             '-Werror', *quiet, '-fsyntax-only', f'-I{header.parent}', '-'],
            input=source, capture_output=True, text=True)
        t.check(name, done.returncode == 0, done.stderr)
    for header in HEADERS:
        lines = len(header.read_text().splitlines())
        t.check(f'{header.name} has at most 600 lines', lines <= 600, f'{lines} lines')
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
