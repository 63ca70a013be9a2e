#!/usr/bin/env python3
"""No scenario of guard.c takes more instructions than its bound (see guard.py).

New bounds are stored by tests/guard/run --write [NAME...]; look first at why there are more:
callgrind_annotate shows the functions.  Only the plain build runs this, as it builds the library
anew, in release mode."""
import os
import sys

import guard
import tap


def verdicts(t):
    t.check('one instruction more than the bound is over it', guard.verdict(1001, 1000) == 'over')
    t.check('the bound itself and a little less are good',
            {guard.verdict(n, 1000) for n in (1000, 950, 850)} == {'good'})
    t.check('more than 15 % below asks for a new bound', guard.verdict(849, 1000) == 'low')
    t.check('a count is good by the bound made of it, and at most 5 % more is',
            guard.new_bound(1000.5) == 1051 and guard.new_bound(100) == 105)


def lists(t, program, bounds):
    names = program.names()
    t.check('each scenario has a bound, and each bound a scenario', sorted(names) == sorted(bounds),
            *sorted(set(names) ^ set(bounds)), 'store them: tests/guard/run --write')


def compare(t, program, counts, bounds):
    for name, bound in bounds.items():
        if name not in counts:
            continue
        said = guard.verdict(counts[name], bound)
        more = 100 * (counts[name] / bound * guard.MARGIN - 1)
        t.check(f'{name}: {counts[name]:.0f} instructions, at most {bound}', said != 'over',
                f'about {more:.0f} % more than when the bound was stored; where:',
                f'callgrind_annotate {program.file(name)}',
                f'if it is worth that: tests/guard/run --write {name}')
        if said == 'low':
            print(f'# note: {name} takes {counts[name]:.0f} instructions, its bound is {bound}:'
                  f' tests/guard/run --write {name}')


def loop(t, slower, bound):
    t.check(f'a small loop in publish is noticed: {slower:.0f} instructions, at most {bound}',
            guard.verdict(slower, bound) == 'over')


def run(t):
    program = guard.Guard(os.path.join(os.environ['BGMQ_BUILD_ROOT'], 'guard'))
    program.folder.mkdir(exist_ok=True)
    program.build()
    made, bounds = guard.read_bounds()
    lists(t, program, bounds)
    here = guard.made_with()
    if made != here:
        t.skip('counts', f'the bounds are of {made}, here is {here}')
        return
    counts = program.count_all([*program.names(), guard.SLOWER])
    compare(t, program, counts, bounds)
    loop(t, counts[guard.SLOWER], bounds['publish'])


def main():
    t = tap.Tap()
    verdicts(t)
    need = guard.missing()
    if need:
        t.skip('counts', f'no {need}')
        return t.end()
    try:
        run(t)
    except guard.Failure as failure:
        t.check('the scenarios run', False, failure)
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
