#!/usr/bin/env python3
"""SQL is constant text: what others say is bound to it, never written into it.

A statement is a string literal, or a name that holds nothing but literals; a text of SQL has no
place for another text (%s).  Numbers of ours, in a PRAGMA, are the one exception.
"""
import pathlib
import re
import sys

import tap

SRC = pathlib.Path(__file__).resolve().parents[2] / 'src'
CALL = re.compile(r'\bsqlite3_(?:exec|prepare(?:_v[23])?)\(\s*[^,]+,\s*', re.S)
# Names that hold constant text: tables of literals, and arguments that get only such.
CONSTANT = {'sql', 'text', 'texts[i]', 'objects[i].sql', 'statements[i]', 'settings[i].sql'}
VERBS = r'\b(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|ATTACH|VACUUM)\b'
NUMBERS = {'store_open.c'}  # builds one PRAGMA of numbers


def literals(source):
    """Adjacent string literals, joined."""
    for found in re.finditer(r'(?:"(?:\\.|[^"\\])*"\s*)+', source):
        yield ''.join(re.findall(r'"((?:\\.|[^"\\])*)"', found.group()))


def statements(t):
    built, others = [], []
    for path in sorted(SRC.glob('*.c')):
        source = re.sub(r'/\*.*?\*/', '', path.read_text(), flags=re.S)
        for text in literals(source):
            if re.search(VERBS + r'.*%[a-z]', text, re.S) and 'strftime' not in text:
                built.append(f'{path.name}: {text[:70]}')
        for call in CALL.finditer(source):
            argument = source[call.end():].split(',', 1)[0].strip()
            literal = re.match(r'"|[\w> =-]+\? "|[A-Z_]+\b', argument)
            table = re.search(rf'static const char {re.escape(argument)}\[\] =', source)
            if not literal and not table and argument not in CONSTANT:
                others.append(f'{path.name}: {argument[:70]}')
    t.check('no text is written into a statement', not built, *built)
    t.check('every statement is a constant', not others, *others)


def formats(t):
    wrong = []
    for path in sorted(SRC.glob('*.c')):
        for call in re.finditer(r'\bsnprintf\(\s*sql\b', path.read_text()):
            if path.name not in NUMBERS:
                wrong.append(path.name)
            elif '%s' in path.read_text()[call.start():].split(';\n', 1)[0]:
                wrong.append(path.name + ': a text')
    t.check('only numbers of ours are written into a PRAGMA', not wrong, *wrong)


def main():
    t = tap.Tap()
    statements(t)
    formats(t)
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
