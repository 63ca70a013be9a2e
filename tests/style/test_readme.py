#!/usr/bin/env python3
"""Every ```c block of README.md is right.

A block with main() is compiled, linked with the library just built, and run in an empty
folder until it ends with status 0.  Any other block is compiled only: as it stands after a
few includes, or, when that fails, inside a function that has the usual names (mq, job, app,
db, body, len, err).  The first block is part of examples/hello.c, word for word.  Blocks of
other kinds (```sh, ```text) are left alone.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = pathlib.Path(os.environ['BGMQ_BUILD_ROOT']) / 'src'
FLAGS = ['-std=c11', '-D_GNU_SOURCE', '-D_POSIX_C_SOURCE=200809L', '-Wall', '-Wextra', '-Werror',
         '-Wno-unused', f'-I{ROOT}/include']
HEAD = '\n'.join(f'#include <{name}>' for name in (
    'bgmq.h', 'jansson.h', 'microhttpd.h', 'sqlite3.h', 'stdio.h', 'stdlib.h', 'string.h',
    'unistd.h')) + '\n'
NAMES = '''
int bgmq_handler_of_the_reader(struct bgmq_job *job, void *ctx);
int a_function(struct bgmq *mq, struct bgmq_job *job, void *app, sqlite3 *db,
               const void *body, size_t len);
int a_function(struct bgmq *mq, struct bgmq_job *job, void *app, sqlite3 *db,
               const void *body, size_t len)
{
    int err = 0;
'''


def compiled(source, folder, *flags):
    path = pathlib.Path(folder) / 'snippet.c'
    path.write_text(source)
    done = subprocess.run(['cc', *FLAGS, str(path), *flags], capture_output=True, text=True)
    return done.returncode == 0, done.stderr


def run(t, name, block):
    with tempfile.TemporaryDirectory() as folder:
        program = f'{folder}/snippet'
        good, why = compiled(block, folder, '-o', program, f'-L{BUILT}', '-lbgmq', '-ljansson',
                             '-lmicrohttpd', '-lsqlite3', '-lpthread', f'-Wl,-rpath,{BUILT}')
        if good:
            try:
                done = subprocess.run([program], cwd=folder, capture_output=True, text=True,
                                      timeout=60, stdin=subprocess.DEVNULL)
                good = done.returncode == 0
                why = f'status {done.returncode}\n{done.stdout}{done.stderr}'
            except subprocess.TimeoutExpired:
                good, why = False, 'does not end'
        t.check(f'{name} runs', good, why)


def syntax(t, name, block):
    with tempfile.TemporaryDirectory() as folder:
        good, why = compiled(HEAD + block, folder, '-fsyntax-only')
        if not good:
            good, why = compiled(f'{HEAD}{NAMES}{block}\n    return err;\n}}\n', folder,
                                 '-fsyntax-only')
        t.check(f'{name} compiles', good, why)


def main():
    t = tap.Tap()
    path = ROOT / 'README.md'
    if not t.check('README.md is there', path.exists()):
        return t.end()
    text = path.read_text()
    blocks = [(text[:found.start()].count('\n') + 2, found.group(1))
              for found in re.finditer(r'^```c\n(.*?)^```$', text, re.M | re.S)]
    t.check('README.md shows code', bool(blocks))
    for line, block in blocks:
        name = f'the block at line {line}'
        if re.search(r'\bmain\s*\(', block):
            run(t, name, block)
        else:
            syntax(t, name, block)
    hello = ROOT / 'examples/hello.c'
    if blocks:
        t.check('the first block is part of examples/hello.c',
                hello.exists() and blocks[0][1].strip() in hello.read_text())
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
