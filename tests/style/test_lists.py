#!/usr/bin/env python3
"""The lists of files in the meson.build files name exactly the files that are there.

With --write the lists are brought up to date instead of checked.  The lists are written out,
not globbed, so that a build says what it is made of; this test keeps that from being a chore.
"""
import pathlib
import re
import sys

import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]


# Their programs are built by scripts of theirs.
BUILT_ELSEWHERE = ('bench', 'fuzz', 'guard')


def in_list(names, indent):
    return ''.join(f"{' ' * indent}'{name}',\n" for name in names)


def library():
    names = sorted(p.name for p in (ROOT / 'src').glob('*.c'))
    return 'sources = files(\n' + in_list(names, 2) + ')\n'


def programs(pattern, head):
    text = head + ' = {\n'
    for area in sorted(p for p in (ROOT / 'tests').iterdir() if p.is_dir()):
        names = sorted(p.name for p in area.glob(pattern))
        if pattern == '*.c':
            names = [n for n in names
                     if not n.startswith('test_') and area.name not in BUILT_ELSEWHERE]
        if names:
            text += f"  '{area.name}': [\n{in_list(names, 4)}  ],\n"
    return text + '}\n'


def examples():
    names = sorted(p.name for p in (ROOT / 'examples').glob('*.c'))
    names += sorted(p.name for p in (ROOT / 'examples').glob('*.cpp'))
    return 'singles = [\n' + in_list(names, 2) + ']\n'


def techstacks():
    names = sorted(p.name for p in (ROOT / 'examples/techstacks').glob('*.c'))
    return 'techstacks = [\n' + in_list([f'techstacks/{n}' for n in names], 2) + ']\n'


LISTS = [
    ('src/meson.build', r'sources = files\(\n.*?^\)\n', library),
    ('tests/meson.build', r'programs = \{\n.*?^\}\n',
     lambda: programs('test_*.c', 'programs')),
    ('tests/meson.build', r'helpers = \{\n.*?^\}\n', lambda: programs('*.c', 'helpers')),
    ('tests/meson.build', r'scripts = \{\n.*?^\}\n',
     lambda: programs('test_*.py', 'scripts')),
    ('examples/meson.build', r'singles = \[\n.*?^\]\n', examples),
    ('examples/meson.build', r'techstacks = \[\n.*?^\]\n', techstacks),
]


def main():
    write = '--write' in sys.argv[1:]
    t = tap.Tap()
    for name, pattern, wanted in LISTS:
        path = ROOT / name
        text = path.read_text()
        found = re.search(pattern, text, re.M | re.S)
        if not found:
            t.check(f'{name} has its list', False, pattern)
            continue
        if write and found.group() != wanted():
            path.write_text(text[:found.start()] + wanted() + text[found.end():])
            print(f'# {name}: list written')
        else:
            t.check(f'{name}: {wanted().split(" ")[0]} is every file there',
                    found.group() == wanted(),
                    'run tests/style/test_lists.py --write')
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
