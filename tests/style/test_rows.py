#!/usr/bin/env python3
"""Each row of the tables in tests/README.md names the tests that show it, or says why none can.

A test carries the names of its rows in the comment above it: "/* A17. ..." or "/* S10, S11: ..."
for the next test, "/* ---- H6, H7: ... */" for all tests of that part of a file, and "# W3. ..." in
scripts.  With --write the tables are brought up to date instead of checked.
"""
import pathlib
import re
import sys

import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLES = ROOT / 'tests/README.md'
ROW = re.compile(r'^\| ([ASPHWMJG]\d+) \| (.*) \| (.*) \| (.*) \|$', re.M)
NAMES = r'(?:[ASPHWMJG]\d+b?)(?:, [ASPHWMJG]\d+b?)*'
MARK = re.compile(rf'^\s*(?:/\*\s|#\s|""")(---- )?({NAMES})[.:,]? ?')
TEST = re.compile(r'^\s*(?:START_TEST\((\w+)\)|def (\w+)\()')
MOST = 4
"""Tests named in a row; there may be more."""


def tests_of(path):
    """(row, test) for each mark in a file."""
    part, one, seen = [], [], False
    for line in path.read_text().splitlines():
        mark, test = MARK.match(line), TEST.match(line)
        if line.startswith('/* ----') and not (mark and mark[1]):
            part = []
        if mark:
            rows = [row.rstrip('b') for row in mark[2].split(', ')]
            if mark[1]:
                part, one, seen = rows, [], False
            else:
                one += rows
        elif test and (test[1] or test[2].startswith(('test_', 'check_')) or one or part):
            for row in dict.fromkeys(one + ([] if one else part)):
                yield row, test[1] or test[2]
            one = []


def found():
    """row -> the tests that carry it, those of their own comment first."""
    rows = {}
    for area in sorted(p for p in (ROOT / 'tests').iterdir() if p.is_dir()):
        for path in sorted([*area.glob('test_*.c'), *area.glob('test_*.py')]):
            for row, test in tests_of(path):
                rows.setdefault(row, []).append(f'`{area.name}/{path.stem}: {test}`')
    return rows


def shown_by(tests):
    more = len(tests) - MOST
    return ', '.join(tests[:MOST]) + (f' and {more} more' if more > 0 else '')


def brought_up_to_date(text, rows):
    def row(match):
        name, fault, outcome, shown = match.groups()
        if name in rows:
            shown = shown_by(rows[name])
        return f'| {name} | {fault} | {outcome} | {shown} |'
    return ROW.sub(row, text)


def main():
    text, rows = TABLES.read_text(), found()
    if '--write' in sys.argv[1:]:
        TABLES.write_text(brought_up_to_date(text, rows))
        return 0
    t = tap.Tap()
    there = [match[1] for match in ROW.finditer(text)]
    for kind, count in dict(A=20, S=30, P=15, H=17, W=12, M=14, J=10, G=5).items():
        t.check(f'each row {kind} once, in its order',
                [n for n in there if n[0] == kind] == [f'{kind}{i + 1}' for i in range(count)])
    bare = [match[1] for match in ROW.finditer(text)
            if match[4][0] != '`' and not match[4].startswith('no test: ')]
    t.check('each row is shown by a test, or says why by none', not bare, ' '.join(bare))
    t.check('the tests named are those that carry the row', brought_up_to_date(text, rows) == text,
            'run tests/style/test_rows.py --write')
    t.check('no test carries a row that is in no table', set(rows) <= set(there),
            *sorted(set(rows) - set(there)))
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
