#!/usr/bin/env python3
"""The shipped library exports what symbols.txt lists, the header declares the same, and the
static library brings no name that could collide with a program's own."""
import os
import pathlib
import re
import subprocess
import sys

import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = pathlib.Path(os.environ['BGMQ_BUILD_ROOT']) / 'src'


def names(*options):
    done = subprocess.run(['nm', *options], capture_output=True, text=True, check=True)
    return [line.split()[-1].split('@')[0] for line in done.stdout.splitlines()
            if len(line.split()) > 1]


def compare(t, name, found, wanted):
    t.check(name, found == wanted,
            *[f'not listed: {n}' for n in sorted(found - wanted)],
            *[f'missing: {n}' for n in sorted(wanted - found)])


def main():
    t = tap.Tap()
    text = (ROOT / 'tests/api/symbols.txt').read_text().split()
    t.check('symbols.txt is sorted', text == sorted(set(text)))
    listed = set(text)
    text = ''.join(p.read_text() for p in sorted((ROOT / 'include').glob('*.h')))
    text = re.sub(r'/\*.*?\*/', '', text, flags=re.S)
    declared = set(re.findall(r'BGMQ_API\b[^;]*?\b(bgmq_\w+)\s*\(', text))
    compare(t, 'the headers declare what is listed', declared, listed)
    library = BUILT / 'libbgmq.so'
    exported = set(names('-D', '--defined-only', str(library))) - {'BGMQ_0'}
    compare(t, 'libbgmq.so exports what is listed', exported, listed)
    open_ends = [n for n in names('-D', '--undefined-only', str(library))
                 if n.startswith('bgmq')]
    t.check('libbgmq.so leaves nothing of ours undefined', not open_ends, *open_ends)
    static = BUILT / 'libbgmq.a'
    if static.exists():
        strange = [n for n in names('-g', '--defined-only', str(static))
                   if not n.startswith(('bgmq_', 'bgmqi_')) and not n.endswith(':')]
        t.check('libbgmq.a defines bgmq names only', not strange, *strange)
    else:
        t.skip('libbgmq.a defines bgmq names only', 'no static library in this build')
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
