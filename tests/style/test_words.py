#!/usr/bin/env python3
"""What must not stand in the sources: waits by guess, unbounded string functions, feature
macros, comments of the wrong kind, and paths of somebody's machine."""
import pathlib
import re
import sys

import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = {'.c', '.h', '.cpp', '.py', '.sh', '.md', '.build', '.sym', '.in', '.wrap', '.txt', '',
        '.html', '.json', '.sql'}
LIBRARY = ('src', 'include')
EVERYWHERE = ('src', 'include', 'tests', 'examples')

# name, folders, pattern, files that may
RULES = [
    ('no sleeping, waits have a reason', ('src', 'tests'),
     r'\b(u|nano|clock_nano)?sleep\s*\(',
     {'src/store_open.c'}),  # the busy handler, which SQLite calls to wait
    ('no unbounded string functions', LIBRARY + ('examples',),
     r'\b(strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|alloca|strtok)\s*\(', set()),
    ('no exit, abort or signal handler in the library', LIBRARY,
     r'(?<![\w.>])(exit|_exit|abort|sigaction|signal|pthread_cancel)\s*\(', set()),
    ('feature macros come from the build', EVERYWHERE,
     r'^\s*#\s*define\s+(_GNU_SOURCE|_POSIX_C_SOURCE)', set()),
    ('no // comments', EVERYWHERE, r'(^|\s)//(?!/)\s', {'examples/cpp_use.cpp'}),
    ('nothing left to do later', EVERYWHERE, r'\b(TODO|FIXME|XXX)\b(?!X)', set()),
]


def without_text(source):
    """SOURCE with comments and strings blanked, line ends kept."""
    def blank(found):
        return re.sub(r'[^\n]', ' ', found.group())
    return re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', blank, source, flags=re.S)


def files(folders, suffixes):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob('*')):
            if path.is_file() and path.suffix in suffixes:
                yield path, str(path.relative_to(ROOT))


def code_rules(t):
    for name, folders, pattern, may in RULES:
        found = []
        for path, short in files(folders, {'.c', '.h', '.cpp'}):
            if short in may:
                continue
            source = path.read_text()
            if 'TODO' not in pattern:
                source = without_text(source)
            for number, line in enumerate(source.splitlines(), 1):
                if re.search(pattern, line):
                    found.append(f'{short}:{number}: {path.read_text().splitlines()[number - 1]}')
        t.check(name, not found, *found)


def machine_paths(t):
    """Paths below the usual homes and mount points belong to one machine."""
    pattern = re.compile(r'(?<![\w.$}])/(home|root|work|Users|mnt|opt)/[\w.-]+')
    found = []
    tops = [p for p in sorted(ROOT.iterdir())
            if p.is_file() and p.suffix in TEXT and p.name != '.git']
    some = [(p, p.name) for p in tops]
    some += files(EVERYWHERE + ('subprojects', '.ci'), TEXT)
    for path, short in some:
        if path == pathlib.Path(__file__).resolve() or short.startswith('subprojects/packagecache'):
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                found.append(f'{short}:{number}: {line.strip()}')
    t.check('no paths of one machine', not found, *found)


def spaces(t):
    found = []
    for path, short in files(EVERYWHERE, {'.c', '.h', '.cpp', '.py', '.build'}):
        text = path.read_text()
        if not text.endswith('\n') or text.endswith('\n\n'):
            found.append(f'{short}: should end with one line end')
        for number, line in enumerate(text.splitlines(), 1):
            if line != line.rstrip() or '\t' in line:
                found.append(f'{short}:{number}: tab, or space at the end')
    t.check('no tabs, no space at line ends', not found, *found)


def main():
    t = tap.Tap()
    code_rules(t)
    machine_paths(t)
    spaces(t)
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
