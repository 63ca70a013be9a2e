#!/usr/bin/env python3
"""What README.md names is there, and what is there is named.

Each test that it names as `area/test_x: name` is in that program, and runs: a test of a C
program is also added to its suite.  Each field of the options structs, each file of src, each
example and each table of the database is in its list.
"""
import pathlib
import re
import sys

import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]
STRUCTS = ('bgmq_options', 'bgmq_type_options', 'bgmq_message_options')


def section(text, head):
    """From the heading that begins with HEAD to the next one of its level or above."""
    found = re.search(rf'^(##+) {re.escape(head)}[^\n]*\n', text, re.M)
    if not found:
        return ''
    rest = text[found.end():]
    end = re.search(rf'^##{{1,{len(found.group(1)) - 1}}} ', rest, re.M)
    return rest[:end.start()] if end else rest


def why_not(reference):
    """Why REFERENCE, 'area/test_x: name' or 'examples/x.c', shows nothing; None: it does."""
    program, _, name = reference.partition(': ')
    if not name:
        return None if (ROOT / program).is_file() else 'no such file'
    source, script = (ROOT / 'tests' / f'{program}{kind}' for kind in ('.c', '.py'))
    if source.is_file():
        text = source.read_text()
        if f'START_TEST({name})' not in text:
            return 'no such test'
        added = re.search(rf'add\w*\([^;]*\b{name}\b[^;]*\);', text)
        return None if added else 'it is not added to the suite'
    if script.is_file():
        used = re.findall(rf'\b{name}\b', script.read_text())
        return None if f'def {name}(' in script.read_text() and len(used) > 1 else 'no such test'
    return 'no such program'


def shown(t, text, head, columns):
    """Each row of the tables under HEAD ends with the tests that show it, and they are there."""
    lines = [line for line in section(text, head).splitlines() if line.startswith('| ')]
    rows = [line for line in lines if line != columns]
    bare = [line for line in rows if not re.search(r'\| (`[^`]+`(, )?)+ \|$', line)]
    t.check(f'{head}: each row names what shows it', rows and not bare, *bare)
    wrong = []
    for line in rows:
        for reference in re.findall(r'`([^`]+)`', line.rsplit(' | ', 1)[1]):
            why = why_not(reference)
            wrong += [f'{reference}: {why}'] if why else []
    t.check(f'{head}: each test named is there', not wrong, *wrong)


def fields(name):
    header = (ROOT / 'include/bgmq.h').read_text()
    body = re.search(rf'^struct {name} \{{(.*?)^\}};', header, re.M | re.S).group(1)
    body = re.sub(r'/\*.*?\*/', '', body, flags=re.S)
    return re.findall(r'(\w+)\s*;', body)


def options(t, text):
    part = section(text, 'Options')
    for name in STRUCTS:
        found = re.search(rf'^`struct {name}`(.*?)(?=^`struct|\Z)', part, re.M | re.S)
        table = found.group(1) if found else ''
        first = ' '.join(re.findall(r'^\| ([^|]*) \|', table, re.M))
        listed = re.findall(r'`(\w+)`', first)
        there = fields(name)
        t.check(f'the table of struct {name} has each field once',
                len(there) > 10 and sorted(listed) == sorted(there),
                *sorted(set(listed) ^ set(there)))


def places(t, text):
    part = section(text, 'Where things are')
    names = ' '.join(re.findall(r'^\| `([^`]+)` \|', part, re.M)).split()
    stems = {p.stem for p in (ROOT / 'src').glob('*.[ch]')}
    family = {n[:-1] for n in names if n.endswith('*')}
    lost = [s for s in sorted(stems)
            if s not in names and not any(s.startswith(f) for f in family)]
    t.check('each file of src has its place in the map', not lost, *lost)
    gone = [n for n in names if n not in stems
            and not (n.endswith('*') and any(s.startswith(n[:-1]) for s in stems))]
    t.check('the map names what is there', names and not gone, *gone)
    listed = re.findall(r'^\| `([^`]+)` \|', section(text, 'Examples'), re.M)
    there = [p.name for p in (ROOT / 'examples').iterdir()
             if p.suffix in ('.c', '.cpp') or list(p.glob('*.c'))]
    t.check('each example is listed', sorted(listed) == sorted(there),
            *sorted(set(listed) ^ set(there)))


def tables(t, text):
    part = section(text, 'Tables and views')
    source = (ROOT / 'src/store_tables.c').read_text()
    there = set(re.findall(r'^\s*\{(?:TABLE|VIEW), \d,\s*"(bgmq_\w+)"', source, re.M))
    named = set(re.findall(r'`(bgmq_\w+)`', part))
    t.check('each table and view is named', there and there <= named, *sorted(there - named))


def main():
    t = tap.Tap()
    text = (ROOT / 'README.md').read_text()
    shown(t, text, 'What the five systems do', '| it | shown by |')
    shown(t, text, 'The test of each promise', '| promise | held by |')
    options(t, text)
    places(t, text)
    tables(t, text)
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
