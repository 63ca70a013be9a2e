#!/usr/bin/env python3
"""Every ```c block of README.md is right.

A block with main() is compiled, linked with the library just built, and run in an empty
folder until it ends with status 0.  Any other block is compiled only: as it stands after a
few includes, or, when that fails, inside a function that has the usual names (mq, job, app,
db, body, len, err).  The first block is part of examples/hello.c, word for word.  Blocks of
```sql, ```python and ```js are run, as another process would, where jobs.db is a database of
the library's; one that inserts has to leave rows in the inbox.  Blocks of other kinds (```sh,
```text) are left alone.  The columns of the views, and of the inbox, are those of that database.
"""
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = pathlib.Path(os.environ['BGMQ_BUILD_ROOT']) / 'src'
FLAGS = ['-std=c11', '-D_GNU_SOURCE', '-D_POSIX_C_SOURCE=200809L', '-Wall', '-Wextra', '-Werror',
         '-Wno-unused', '-Wno-misleading-indentation', f'-I{ROOT}/include']
HEAD = '\n'.join(f'#include <{name}>' for name in (
    'bgmq.h', 'jansson.h', 'microhttpd.h', 'sqlite3.h', 'stdio.h', 'stdlib.h', 'string.h',
    'unistd.h')) + '\n'
NAMES = '''
int your_handler(struct bgmq_job *job, void *ctx);
int a_function(struct bgmq *mq, struct bgmq_job *job, void *app, sqlite3 *db,
               const void *body, size_t len);
int a_function(struct bgmq *mq, struct bgmq_job *job, void *app, sqlite3 *db,
               const void *body, size_t len)
{
    int err = 0;
'''
OWNER = '''
#include <bgmq.h>
int main(void)
{
    struct bgmq *mq;
    if (bgmq_open(&mq, &(struct bgmq_options){.database = "jobs.db"}, NULL))
        return 1;
    bgmq_free(mq);
    return 0;
}
'''
LINK = [f'-L{BUILT}', '-lbgmq', '-ljansson', '-lmicrohttpd', '-lsqlite3', '-lpthread',
        f'-Wl,-rpath,{BUILT}']


def compiled(source, folder, *flags):
    path = pathlib.Path(folder) / 'snippet.c'
    path.write_text(source)
    done = subprocess.run(['cc', *FLAGS, str(path), *flags], capture_output=True, text=True)
    return done.returncode == 0, done.stderr


def run(t, name, block):
    with tempfile.TemporaryDirectory() as folder:
        program = f'{folder}/snippet'
        good, why = compiled(block, folder, '-o', program, *LINK)
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


def own(folder):
    """Makes jobs.db in FOLDER.  Whether it is there, and why not."""
    good, why = compiled(OWNER, folder, '-o', f'{folder}/owner', *LINK)
    if good:
        good = subprocess.run([f'{folder}/owner'], cwd=folder).returncode == 0
    return good, why


def columns(t, text):
    with tempfile.TemporaryDirectory() as folder:
        good, why = own(folder)
        if not t.check('a database is made', good, why):
            return
        db = sqlite3.connect(f'{folder}/jobs.db')
        views = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'view'"
                                              " AND name LIKE 'bgmq%'")]
        for view in views:
            there = [row[1] for row in db.execute(f'PRAGMA table_info({view})')]
            line = re.search(rf'^\| `{view}` \|(.*?)(:.*)?\|$', text, re.M)
            listed = re.findall(r'`(\w+)`', line.group(1)) if line else []
            t.check(f'the columns of {view} are listed', listed == there, there)
        inbox = {row[1] for row in db.execute('PRAGMA table_info(bgmq_inbox)')}
        db.close()
        part = re.search(r'^Columns: .*?\n\n', text, re.M | re.S)
        listed = set(re.findall(r'`(\w+)`', part.group())) if part else set()
        t.check('the columns of the inbox are listed', inbox - {'id', 'created'} == listed,
                *sorted(inbox ^ listed))


def in_inbox(folder):
    db = sqlite3.connect(f'{folder}/jobs.db')
    rows = db.execute('SELECT count(*) FROM bgmq_inbox').fetchone()[0]
    db.close()
    return rows


def has_node_sqlite():
    node = shutil.which('node')
    return node and subprocess.run([node, '-e', "require('node:sqlite')"],
                                   capture_output=True).returncode == 0


def beside(t, name, kind, block):
    """What another process does with the database of an owner."""
    if kind == 'js' and not has_node_sqlite():
        t.skip(f'{name} runs', 'no node with node:sqlite')
        return
    with tempfile.TemporaryDirectory() as folder:
        good, why = own(folder)
        if good:
            sql = f'import sqlite3\nsqlite3.connect("jobs.db").executescript({block!r})'
            command = {'sql': [sys.executable, '-c', sql],
                       'python': [sys.executable, '-c', block],
                       'js': ['node', '-e', block]}[kind]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            good, why = done.returncode == 0, done.stderr
        if good and 'INSERT INTO bgmq_inbox' in block:
            good, why = in_inbox(folder) > 0, 'nothing is in the inbox'
        t.check(f'{name} runs', good, why)


def main():
    t = tap.Tap()
    path = ROOT / 'README.md'
    if not t.check('README.md is there', path.exists()):
        return t.end()
    text = path.read_text()
    every = [(text[:found.start()].count('\n') + 2, found.group(1), found.group(2))
             for found in re.finditer(r'^```(\w+)\n(.*?)^```$', text, re.M | re.S)]
    blocks = [(line, block) for line, kind, block in every if kind == 'c']
    t.check('README.md shows code', bool(blocks))
    for line, block in blocks:
        name = f'the block at line {line}'
        if re.search(r'\bmain\s*\(', block):
            run(t, name, block)
        else:
            syntax(t, name, block)
    for line, kind, block in every:
        if kind in ('sql', 'python', 'js'):
            beside(t, f'the block at line {line}', kind, block)
    columns(t, text)
    hello = ROOT / 'examples/hello.c'
    if blocks:
        t.check('the first block is part of examples/hello.c',
                hello.exists() and blocks[0][1].strip() in hello.read_text())
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
