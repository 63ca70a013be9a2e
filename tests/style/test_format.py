#!/usr/bin/env python3
"""Layout and size: .clang-format decides, files stay short, functions stay on one screen.

Versions of clang-format differ in taste; 14, Debian 12's, is the judge.
"""
import pathlib
import re
import shutil
import subprocess
import sys

import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ('include', 'src', 'tests', 'examples')
AIM, LIMIT = 500, 600
SCREEN = 60
WIDTH = 100  # of comments; .clang-format holds code to 90


def code():
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob('*')):
            if path.suffix in ('.c', '.h', '.cpp') and path.is_file():
                yield path


def judge():
    for name in ('clang-format-14', 'clang-format'):
        found = shutil.which(name)
        if found:
            version = subprocess.run([found, '--version'], capture_output=True, text=True)
            if ' 14.' in version.stdout:
                return found
    return None


def layout(t):
    tool = judge()
    if not tool:
        t.skip('layout', 'clang-format 14 is not here')
        return
    for folder in FOLDERS:
        files = [p for p in code() if p.relative_to(ROOT).parts[0] == folder]
        done = subprocess.run([tool, '--style=file', '--dry-run', '-Werror', *files],
                              capture_output=True, text=True)
        bad = sorted(set(re.findall(rf'^{re.escape(str(ROOT))}/(.*?):\d+:\d+: error',
                                    done.stderr, re.M)))
        t.check(f'{folder} is laid out by .clang-format', done.returncode == 0 and not bad,
                *[f'clang-format -i {name}' for name in bad])


def sizes(t):
    long, wide = [], []
    for path in code():
        text = path.read_text().splitlines()
        lines = len(text)
        name = path.relative_to(ROOT)
        wide += [f'{name}:{number}' for number, line in enumerate(text, 1)
                 if len(line) > WIDTH]
        if lines > LIMIT:
            long.append(f'{name} has {lines} lines')
        elif lines > AIM:
            print(f'# {name} has {lines} lines: look for a split')
    t.check(f'no file has more than {LIMIT} lines', not long, *long)
    t.check(f'no line has more than {WIDTH} columns', not wide, *wide)


def functions(t):
    """A function of the library: from a line that is '{' alone to one that is '}' alone."""
    long = []
    for path in sorted((ROOT / 'src').glob('*.c')):
        begun = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line == '{':
                begun = number
            elif line == '}' and begun:
                if number - begun - 1 > SCREEN:
                    long.append(f'src/{path.name}:{begun}: {number - begun - 1} lines')
                begun = None
    t.check(f'no function has more than {SCREEN} lines', not long, *long)


def heads(t):
    """Each .c of the library says first what it is, in 1 to 25 lines."""
    bad = []
    for path in sorted((ROOT / 'src').glob('*.c')):
        head = re.match(r'/\*.*?\*/', path.read_text(), re.S)
        if not head or not 1 <= head.group().count('\n') + 1 <= 25:
            bad.append(f'src/{path.name} has no comment at its head')
        elif path.name not in head.group():
            bad.append(f'src/{path.name}: the head does not begin with its name')
    t.check('each file says what it is', not bad, *bad)


def main():
    t = tap.Tap()
    layout(t)
    sizes(t)
    functions(t)
    heads(t)
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
