#!/usr/bin/env python3
"""The built library is hardened: what the linker and the compiler were asked for is in the file,
it calls nothing that cannot be used safely, and none of the flags reaches those who use it.

Each look is tried on a library made to have what it looks for."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = pathlib.Path(os.environ['BGMQ_BUILD_ROOT'])
# No bound, no error, no thread-safety, or not ours to do in a process that is not ours.
UNSAFE = set('''
    strcpy strcat stpcpy sprintf vsprintf gets scanf sscanf fscanf strncpy strncat strtok
    __strcpy_chk __strcat_chk __stpcpy_chk __sprintf_chk __vsprintf_chk __isoc99_sscanf
    atoi atol atoll atof alloca rand srand random tmpnam tempnam mktemp
    system popen fork vfork exit _exit quick_exit setjmp longjmp
    signal sigaction pthread_cancel pthread_kill kill setlocale setenv putenv chdir umask
    localtime gmtime ctime asctime strsignal getpwnam getpwuid gethostbyname
'''.split())
# One line of C each that a look must see, and what it is built with.
BAD = '''
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int bad(const char *from);
int bad(const char *from)
{
    char copy[64];
    strcpy(copy, from);
    return atoi(copy);
}
'''
BAD_COMPILE = ('-w', '-fPIC', '-O0', '-fno-stack-protector', '-fcf-protection=none')
BAD_LINK = ('-shared', '-Wl,-z,execstack', '-Wl,-z,norelro', '-Wl,-z,lazy',
            '-Wl,-rpath,/tmp')


def output(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


class Library:
    def __init__(self, path):
        self.segments = output('readelf', '-lW', str(path))
        self.dynamic = output('readelf', '-dW', str(path))
        self.header = output('readelf', '-hW', str(path))
        self.calls = {line.split()[-1].split('@')[0] for line in
                      output('nm', '-D', '--undefined-only', str(path)).splitlines()}

    def flags_of(self, segment):
        found = re.search(rf'^\s*{segment}\s+(?:0x\w+\s+){{5}}([RWE ]+?)\s+0x', self.segments, re.M)
        return found[1] if found else None

    def stack_is_data(self):
        return self.flags_of('GNU_STACK') == 'RW'

    def nothing_is_written_and_run(self):
        flags = re.findall(r'^\s*LOAD\s+(?:0x\w+\s+){5}([RWE ]+?)\s+0x', self.segments, re.M)
        return bool(flags) and not [f for f in flags if 'W' in f and 'E' in f]

    def relocations_are_read_only(self):
        return self.flags_of('GNU_RELRO') is not None and bool(
            re.search(r'\(FLAGS\).*BIND_NOW', self.dynamic)
            and re.search(r'\(FLAGS_1\).*\bNOW\b', self.dynamic))

    def stays_loaded(self):
        return bool(re.search(r'\(FLAGS_1\).*\bNODELETE\b', self.dynamic))

    def text_is_shared(self):
        return 'TEXTREL' not in self.dynamic

    def looks_nowhere_else(self):
        return not re.search(r'\((RPATH|RUNPATH)\)', self.dynamic)

    def guards_its_stack(self):
        return '__stack_chk_fail' in self.calls

    def is_x86(self):
        return 'X86-64' in self.header

    def checks_sizes(self):
        return bool({'__snprintf_chk', '__vsnprintf_chk', '__memcpy_chk'} & self.calls)

    def unsafe_calls(self):
        return sorted(self.calls & UNSAFE)


LOOKS = (
    ('its stack is no code', Library.stack_is_data),
    ('no memory of it is both written and run', Library.nothing_is_written_and_run),
    ('its relocations are done at load and read-only then', Library.relocations_are_read_only),
    ('P15: it stays loaded, as its threads may outlive a dlclose()', Library.stays_loaded),
    ('its code is not relocated', Library.text_is_shared),
    ('it names no folder to look for libraries', Library.looks_nowhere_else),
    ('its stack frames are guarded', Library.guards_its_stack),
)
# Nothing makes the linker of today do these.
CANNOT_BE_MADE = ('no memory of it is both written and run', 'its code is not relocated')


def jump_targets_are_marked(path):
    """Whether the linker may mark a library of such objects: that needs libc's as well."""
    notes = output('readelf', '-nW', str(path))
    return 'IBT' in notes and 'SHSTK' in notes


def compile_bad(folder):
    source, made, library = folder / 'bad.c', folder / 'bad.o', folder / 'libbad.so'
    source.write_text(BAD)
    subprocess.run(['cc', *BAD_COMPILE, '-c', str(source), '-o', str(made)], check=True)
    subprocess.run(['cc', *BAD_LINK, str(made), '-o', str(library)], check=True)
    return Library(library), made


def options():
    given = json.loads((BUILT / 'meson-info/intro-buildoptions.json').read_text())
    return {option['name']: option['value'] for option in given}


def hardened(t, ours, bad, bad_object, optimised):
    for name, look in LOOKS:
        t.check(name, look(ours))
        if name not in CANNOT_BE_MADE:
            t.check('... and a library without is seen', not look(bad))
    objects = sorted((BUILT / 'src/libbgmq-private.a.p').glob('*.o'))
    if ours.is_x86():
        t.check('the jump targets of its objects are marked',
                objects and all(jump_targets_are_marked(o) for o in objects))
        t.check('... and an object without is seen', not jump_targets_are_marked(bad_object))
    else:
        t.skip('the jump targets of its objects are marked', 'not of this processor')
    if optimised:
        t.check('calls that write to buffers know their sizes', ours.checks_sizes())
        t.check('... and a library without is seen', not bad.checks_sizes())
    else:
        t.skip('calls that write to buffers know their sizes', 'needs an optimised build')
    t.check('it calls nothing unsafe', not ours.unsafe_calls(), *ours.unsafe_calls())
    t.check('... and what does is seen', bad.unsafe_calls() == ['atoi', 'strcpy'],
            bad.unsafe_calls())


def commands():
    """Of each object of the library: how it is compiled."""
    made = json.loads((BUILT / 'compile_commands.json').read_text())
    return {pathlib.Path(entry['file']).name: entry['command'].split() for entry in made
            if 'libbgmq-private.a.p' in entry['command']}


def compiled(t):
    wanted = ('-fvisibility=hidden', '-fstack-protector-strong', '-Wvla', '-Wconversion',
              '-Wsign-conversion', '-Wshadow', '-Wformat=2')
    made = commands()
    sources = sorted(p.name for p in (ROOT / 'src').glob('*.c'))
    t.check('all of src is in it', sorted(made) == sources, set(sources) ^ set(made))
    without = [f'{name}: {flag}' for name, given in sorted(made.items()) for flag in wanted
               if flag not in given]
    t.check('each file is compiled with the strict warnings, hidden', not without, *without[:10])


def silenced(t):
    """No file of the library turns a warning off for itself."""
    found = [f'{path.name}: {line.strip()}' for path in sorted((ROOT / 'src').glob('*.[ch]'))
             for line in path.read_text().splitlines()
             if re.search(r'#\s*pragma\b.*\bdiagnostic|_Pragma|\b(__builtin_)?alloca\s*\(', line)]
    t.check('no source turns warnings off or takes room on the stack by need', not found, *found)


def main():
    t = tap.Tap()
    given = options()
    if given['b_sanitize'] not in ('none', []):
        t.skip('hardening', 'a sanitizer takes its place')
        return t.end()
    with tempfile.TemporaryDirectory() as folder:
        bad, bad_object = compile_bad(pathlib.Path(folder))
        hardened(t, Library(BUILT / 'src/libbgmq.so'), bad, bad_object,
                 given['optimization'] not in ('0', 'plain'))
    compiled(t)
    silenced(t)
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
