#!/usr/bin/env python3
"""gcc's analyser, clang-tidy and cppcheck find nothing in src but what accepted.py explains.

What a tool says of a file is kept in the build folder by all that it depends on, so that a file
that has not changed is not looked at again.  Only the plain build runs this.
"""
import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import tap
from accepted import ACCEPTED

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEPT = pathlib.Path(os.environ['BGMQ_BUILD_ROOT']) / 'lint'
FLAGS = ('-std=c11', '-D_GNU_SOURCE', '-D_POSIX_C_SOURCE=200809L')
INCLUDES = (f'-I{ROOT / "include"}', f'-I{ROOT / "src"}')
FINDING = re.compile(r'^(?P<file>[^\s:]+):(?P<line>\d+):(?:\d+:)? '
                     r'(?:fatal )?(?:warning|error): (?P<text>.*?) \[(?P<check>[\w.,=-]+)\]$', re.M)


@dataclasses.dataclass(frozen=True)
class Tool:
    name: str
    release: str
    """Other releases report other things than accepted.py knows."""
    argv: tuple
    settings: str = ''
    """A file that says what it looks for."""
    planted: str = ''
    """A function it must say something about."""

    def command(self, path):
        return [*self.argv, str(path)]


TOOLS = (
    Tool('gcc -fanalyzer', '12',
         ('gcc', *FLAGS, *INCLUDES, '-O1', '-fanalyzer', '-fdiagnostics-plain-output',
          '-fdiagnostics-path-format=none', '-c', '-o', '/dev/null'),
         planted='''
#include <stdlib.h>
int f(void);
int f(void)
{
    int *p = malloc(sizeof(*p));
    if (!p)
        return 1;
    *p = 2;
    free(p);
    return *p;
}'''),
    Tool('clang-tidy', '14',
         ('clang-tidy', '--quiet', f'--config-file={ROOT / ".clang-tidy"}',
          *(f'--extra-arg={flag}' for flag in (*FLAGS, *INCLUDES))),
         settings='.clang-tidy',
         planted='''
#include <string.h>
int f(const char *text);
int f(const char *text)
{
    char *p = strerror(1);
    if (strcmp(text, p))
        return 1;
    return 2;
}'''),
    Tool('cppcheck', '2.10',
         ('cppcheck', '--quiet', '--enable=warning,style,performance,portability', '--std=c11',
          '--language=c', '--platform=unix64', '-D__linux__', '-D__x86_64__', '-D__GNUC__=12',
          '-D__GLIBC__=2', '-D_GNU_SOURCE', *INCLUDES, '--suppress=missingIncludeSystem',
          '--template={file}:{line}:{column}: warning: {message} [{id}]'),
         planted='''
int f(int n);
int f(int n)
{
    int a[4] = {0};
    a[4] = n;
    return a[0];
}'''),
)


@dataclasses.dataclass(frozen=True)
class Finding:
    check: str
    file: str
    line: str
    where: str
    text: str

    def is_accepted(self, entry):
        return (entry.check == self.check and entry.file == self.file
                and entry.line in self.line)


def version(tool):
    return subprocess.run([tool.argv[0], '--version'], capture_output=True, text=True).stdout


def missing(tool):
    """Why TOOL cannot be asked, or None."""
    if not shutil.which(tool.argv[0]):
        return f'no {tool.argv[0]}'
    told = re.search(r'\b\d+(\.\d+)+', version(tool))
    if not told or not f'{told[0]}.'.startswith(f'{tool.release}.'):
        return f'accepted.py is of {tool.release}, here is {told[0] if told else "?"}'
    return None


def source_of(path):
    """All that a tool's words about PATH depend on, but the tool."""
    done = subprocess.run(['gcc', *FLAGS, *INCLUDES, '-E', str(path)], capture_output=True)
    return done.stdout + path.read_bytes()


def ask(tool, path):
    done = subprocess.run(tool.command(path), capture_output=True, text=True, cwd=ROOT)
    said = done.stdout + done.stderr
    if done.returncode and not FINDING.search(said):
        said += f'\n{path}:1: error: {tool.argv[0]} fails: {said[-300:]!r} [no-answer]\n'
    return said


def findings(said):
    found = {}
    for m in FINDING.finditer(said):
        path = pathlib.Path(os.path.normpath(ROOT / m['file']))
        lines = path.read_text().splitlines() if path.is_file() else []
        line = lines[int(m['line']) - 1].strip() if int(m['line']) <= len(lines) else ''
        finding = Finding(m['check'], path.name, line, f'{path.name}:{m["line"]}', m['text'])
        found[(finding.check, finding.where, finding.text)] = finding
    return list(found.values())


def look(tool, told, path, source):
    """What TOOL finds in PATH, and the name under which that is kept."""
    key = hashlib.sha256(b'\0'.join((told.encode(), str(path).encode(), source))).hexdigest()
    kept = KEPT / f'{path.stem}-{tool.argv[0]}-{key[:32]}.txt'
    if not kept.exists():
        said = ask(tool, path)
        temporary = kept.with_suffix('.new')
        temporary.write_text(said)
        temporary.rename(kept)
    return findings(kept.read_text()), kept


def is_seen(tool):
    """Whether TOOL says something about the fault that was planted for it."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / 'planted.c'
        path.write_text(tool.planted)
        return bool(findings(ask(tool, path)))


def run_tool(t, tool, paths, sources, pool):
    settings = (ROOT / tool.settings).read_text() if tool.settings else ''
    told = f'{version(tool)} {tool.argv} {settings}'
    looks = list(pool.map(lambda p: look(tool, told, p, sources[p]), paths))
    found = [finding for some, _ in looks for finding in some]
    found = {(f.check, f.where, f.text): f for f in found}.values()  # a header is seen often
    wrong = [f for f in found if not any(f.is_accepted(entry) for entry in ACCEPTED)]
    t.check(f'{tool.name}: nothing in src', not wrong,
            *(f'{f.where}: {f.text} [{f.check}]: {f.line}' for f in wrong))
    t.check(f'{tool.name}: it sees what was planted', is_seen(tool))
    return {entry for entry in ACCEPTED for f in found if f.is_accepted(entry)}, \
        {kept for _, kept in looks}


def main():
    t = tap.Tap()
    paths = sorted((ROOT / 'src').glob('*.c'))
    KEPT.mkdir(parents=True, exist_ok=True)
    met, fresh, skipped = set(), set(), 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        sources = dict(zip(paths, pool.map(source_of, paths)))
        for tool in TOOLS:
            why = missing(tool)
            if why:
                skipped += 1
                t.skip(f'{tool.name}: nothing in src', why)
                continue
            some, kept = run_tool(t, tool, paths, sources, pool)
            met |= some
            fresh |= kept
    stale = [] if skipped else [entry for entry in ACCEPTED if entry not in met]
    t.check('what is accepted is still there', not stale, *stale)
    unexplained = [entry for entry in ACCEPTED if not entry.why]
    t.check('what is accepted has a reason', not unexplained, *unexplained)
    for path in set(KEPT.iterdir()) - fresh:
        path.unlink()
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
