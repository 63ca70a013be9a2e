#!/usr/bin/python3
"""Other programs write into the inbox of a running owner, examples/guests, and read its views.

They are Python's sqlite3, the sqlite3 shell, and node by way of the shell.  What is not
installed is skipped.
"""
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import tap

BUILT = os.path.join(os.environ.get('BGMQ_BUILD_ROOT', '.'), 'examples')
PATIENCE = 60

# How node does it: with node:sqlite where that is, else with the shell.
NODE = '''
const path = process.argv[1];
const sql = "INSERT INTO bgmq_inbox(type, body) VALUES('Note', 'from node')";
let sqlite = null;
try { sqlite = require('node:sqlite'); } catch (e) { }
if (sqlite) {
    const db = new sqlite.DatabaseSync(path);
    db.exec('PRAGMA busy_timeout = 5000; PRAGMA wal_autocheckpoint = 0');
    db.exec(sql);
    db.close();
} else {
    require('child_process').execFileSync('sqlite3',
        ['-cmd', '.timeout 5000', '-cmd', 'PRAGMA wal_autocheckpoint = 0', path, sql]);
}
'''


def by_python(path):
    db = sqlite3.connect(path, timeout=5)
    db.execute('PRAGMA wal_autocheckpoint = 0')
    with db:
        db.execute("INSERT INTO bgmq_inbox(type, body, tag) VALUES('Note', ?, 'snake')",
                   ('from Python',))
    db.close()


def shell(path, sql):
    return subprocess.run(['sqlite3', '-cmd', '.timeout 5000', '-cmd',
                           'PRAGMA wal_autocheckpoint = 0', path, sql],
                          check=True, capture_output=True, text=True).stdout


def by_shell(path):
    shell(path, "INSERT INTO bgmq_inbox(type, body) VALUES('Note', 'from the shell')")


def by_node(path):
    subprocess.run(['node', '-e', NODE, path], check=True, capture_output=True)


WRITERS = [
    ('Python', by_python, 'from Python, tag snake', []),
    ('the sqlite3 shell', by_shell, 'from the shell', ['sqlite3']),
    ('node', by_node, 'from node', ['node', 'sqlite3']),
]


def missing(programs):
    return [p for p in programs if not shutil.which(p)]


class Owner:
    def __init__(self, path, n):
        self.process = subprocess.Popen([os.path.join(BUILT, 'guests'), path, str(n)],
                                        stdout=subprocess.PIPE, text=True)
        assert self.line() == 'ready', 'the owner did not start'

    def line(self):
        return self.process.stdout.readline().rstrip('\n')

    def end(self):
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.stdout.close()


def handled(t, folder):
    """What each writer inserts is printed by the handler of the running owner."""
    path = os.path.join(folder, 'guests.db')
    there = [w for w in WRITERS if not missing(w[3])]
    owner = Owner(path, len(there))
    for name, write, line, programs in WRITERS:
        if missing(programs):
            t.skip(f'a row of {name} is handled', ' '.join(missing(programs)) + ' not found')
            continue
        write(path)
        got = owner.line()
        t.check(f'a row of {name} is handled', got == line, f'{got!r}, not {line!r}')
    t.check('the owner ends', owner.end() == 0)


def views(t, folder):
    """The views say what waits, where the owner does not serve the type."""
    path = os.path.join(folder, 'views.db')
    owner = Owner(path, 1)
    db = sqlite3.connect(path, timeout=5, isolation_level=None)
    db.execute('PRAGMA wal_autocheckpoint = 0')
    db.execute("INSERT INTO bgmq_inbox(type, body, priority) VALUES('Parked', 'x', 3)")
    db.execute("INSERT INTO bgmq_inbox(type, body, run_at)"
               " VALUES('Parked', 'later', 4102444800000)")
    db.execute("INSERT INTO bgmq_inbox(type, body, run_at) VALUES('Parked', 'wrong', -1)")
    # In order of id: the last row has been taken over only after those before it.
    db.execute("INSERT INTO bgmq_inbox(type, body) VALUES('Note', 'end')")
    t.check('the last row is handled', owner.line() == 'end')
    t.check('the owner ends', owner.end() == 0)
    status = db.execute("SELECT waiting, delayed, dead, inbox, refused FROM bgmq_status"
                        " WHERE type = 'Parked'").fetchall()
    t.check('bgmq_status counts them', status == [(1, 1, 0, 0, 1)], status)
    rows = db.execute("SELECT type, state, priority, body_length FROM bgmq_messages"
                      " ORDER BY id").fetchall()
    t.check('bgmq_messages shows them',
            rows == [('Parked', 'waiting', 3, 1), ('Parked', 'delayed', 0, 5)], rows)
    db.close()
    if missing(['sqlite3']):
        t.skip('the shell reads the views', 'sqlite3 not found')
    else:
        out = shell(path, 'SELECT type, waiting FROM bgmq_status ORDER BY type')
        t.check('the shell reads the views', 'Parked|1\n' in out, out)


def kept(t, folder):
    """What is written while nobody owns the database is handled by the next owner."""
    path = os.path.join(folder, 'kept.db')
    subprocess.run([os.path.join(BUILT, 'guests'), path], check=True, capture_output=True)
    by_python(path)
    owner = Owner(path, 1)
    got = owner.line()
    t.check('a row is kept for the next owner', got == 'from Python, tag snake', got)
    t.check('the owner ends', owner.end() == 0)


def prefork(t, folder):
    """Every job of every worker process is done once."""
    path = os.path.join(folder, 'prefork.db')
    done = subprocess.run([os.path.join(BUILT, 'prefork'), path, '8', '20'],
                          capture_output=True, text=True, timeout=PATIENCE)
    t.check('the pre-fork server ends', done.returncode == 0, done.stderr)
    want = sorted(f'job of request {i} of worker {w}' for i in range(20) for w in range(8))
    got = sorted(done.stdout.splitlines())
    t.check('each job of each worker is done once', got == want, len(got))


def main():
    t = tap.Tap()
    for test in (handled, views, kept, prefork):
        with tempfile.TemporaryDirectory() as folder:
            test(t, folder)
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
