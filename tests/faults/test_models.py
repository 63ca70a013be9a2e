#!/usr/bin/env python3
"""T10: Spin finds no fault in the models of the protocols, and finds one without any guard.

Each model in models/ says at its head which functions it follows and what must hold.  It is
searched through as it is, and once more with each of its guards taken away (-DNO_GUARD_NAME):
then there has to be a fault, or the model would show nothing.  No run goes round in a circle, on
whatever schedule: with no deadlock that is to say that each ends, and every call returns.
"""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import tap

MODELS = pathlib.Path(__file__).resolve().parent / 'models'
MOST = 5_000_000
# What each model is built with, and the guards that matter then.
PLANS = [
    ('ticket', [], ['DURABLE', 'LATE', 'ORPHAN', 'FAILED']),
    ('ticket', ['LAST'], ['SLEEPING', 'TOKEN']),
    ('ticket', ['IMPATIENT'], ['BEGIN']),
    ('life', [], ['IDLE', 'START', 'INSIDE', 'QUIT']),
    ('life', ['TWO'], ['CLOSED', 'SHUT_DONE']),
    ('life', ['ALL'], ['ROUSE']),
    ('bound', [], ['WORKER', 'TURN', 'BOUND', 'TOKEN']),
    ('bound', ['IMPATIENT'], ['HEAD']),
    ('fence', [], ['END', 'GIVE_UP', 'HOLD', 'UNHOLD', 'DESK']),
    ('checkpoint', [], ['WRITE_LOCK', 'FALLBACK', 'ORDER']),
    ('lock', [], ['AWAITED', 'LOOK', 'SWAP', 'WAKE']),
    ('arrive', [], ['LOOK', 'RELOOK', 'COME', 'CHAIN', 'TOKEN']),
    ('arrive', ['QUIT'], ['LEAVE']),
    ('arrive', ['ROUSE'], ['NOTE']),
]
# Safety: assertions and deadlocks.  Endless: a circle without progress, which none of ours marks.
SAFETY = (['-DSAFETY'], [])
ENDLESS = (['-DNP'], ['-l'])
CIRCLE = 'init { bool b; do :: b = !b od }'
FOUND = re.compile(r'errors: (\d+)')
STATES = re.compile(r'^\s*(\d+) states, stored', re.M)


def search(model, defines, what=SAFETY):
    """Returns errors, states and what the checker said; None: it did not come so far."""
    build, run = what
    with tempfile.TemporaryDirectory() as folder:
        steps = [['spin', *(f'-D{d}' for d in defines), '-a', str(model)],
                 ['gcc', '-O0', '-w', *build, '-o', 'pan', 'pan.c'],
                 ['./pan', '-m100000', *run]]
        said = ''
        for step in steps:
            done = subprocess.run(step, cwd=folder, capture_output=True, text=True)
            said += done.stdout + done.stderr
            if done.returncode:
                return None, 0, said
        errors, states = FOUND.search(said), STATES.search(said)
        cut = 'max search depth too small' in said or 'out of memory' in said
        whole = errors and states and not cut
        return (int(errors[1]), int(states[1]), said) if whole else (None, 0, said)


def file_of(model):
    return MODELS / f'{model}.pml'


def guards_named(model):
    text = file_of(model).read_text(encoding='utf-8')
    return set(re.findall(r'NO_GUARD_(\w+)', text))


def check_planted_circle(t):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / 'circle.pml'
        file.write_text(CIRCLE, encoding='utf-8')
        errors, _, said = search(file, [], ENDLESS)
        t.check('a circle that was planted is found', errors and errors > 0, said)


def main():
    t = tap.Tap()
    if not shutil.which('spin') or not shutil.which('gcc'):
        t.skip('models', 'spin or gcc is not there')
        return t.end()
    runs = []
    for model, defines, guards in PLANS:
        runs.append((model, defines, None))
        runs += [(model, defines, guard) for guard in guards]
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = list(pool.map(
            lambda run: search(file_of(run[0]),
                               run[1] + ([f'NO_GUARD_{run[2]}'] if run[2] else [])), runs))
        circles = list(pool.map(lambda plan: search(file_of(plan[0]), plan[1], ENDLESS), PLANS))
    total = 0
    for (model, defines, guard), (errors, states, said) in zip(runs, results):
        name = ' with '.join([model, *defines])
        if guard:
            t.check(f'{name}: without {guard} there is a fault', errors and errors > 0, said)
        else:
            t.check(f'{name}: {states} states, no fault', errors == 0 and states <= MOST, said)
            total += states
    for (model, defines, _), (errors, _, said) in zip(PLANS, circles):
        t.check(f'{" with ".join([model, *defines])}: each run ends', errors == 0, said)
    check_planted_circle(t)
    for model in sorted({p[0] for p in PLANS} | {p.stem for p in MODELS.glob('*.pml')}):
        tried = {g for m, _, guards in PLANS if m == model for g in guards}
        t.check(f'{model}: each of its guards is taken away once', tried == guards_named(model),
                f'{sorted(tried ^ guards_named(model))}')
    print(f'# figure: states {total}')
    print(f'# figure: guards {sum(1 for run in runs if run[2])}')
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
