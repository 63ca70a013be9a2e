#!/usr/bin/env python3
"""Sums up what meson wrote about the runs of tests/run, test point by test point.

Each argument is BUILD:STATE:FILE.  STATE is tested (FILE is meson's testlog.json), built
(nothing more was to be done; the build itself is one point) or broken (FILE is the log).
The last line printed is the result.
"""
import json
import os
import re
import sys

POINT = re.compile(r'^(not )?ok\b\s*\d*\s*-?\s*(.*)$')


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skips = []
        self.notes = []

    def program(self, build, log, test):
        """One program's points; a program that died counts as a failed point of its own."""
        name = f"{build}: {test['name'].removeprefix('bgmq:').replace(' / ', '/')}"
        good = bad = 0
        skips = []
        for line in test.get('stdout', '').splitlines():
            if line.startswith('# skipped: '):
                skips.append(f'{name}: {line.removeprefix("# skipped: ")}')
                good -= 1
            if line.startswith('# note: '):
                self.notes.append(f'{name}: {line.removeprefix("# note: ")}')
            found = POINT.match(line)
            if not found:
                continue
            if re.search(r'# *(SKIP|TODO)', found[2], re.I):
                skips.append(f'{name}: {found[2]}')
            elif found[1]:
                bad += 1
                self.failed.append((f'{name}: {os.path.basename(found[2])}'
                                    if found[2].startswith(('.', '/'))
                                    else f'{name}: {found[2]}', log))
            else:
                good += 1
        if not (good or bad or skips):
            good = test['result'] == 'OK'
            if test['result'] == 'SKIP':
                skips.append(name)
        if test['result'] not in ('OK', 'SKIP', 'EXPECTEDFAIL') and not bad:
            self.failed.append((f"{name}: {test['result']}", log))
        self.passed += good
        self.skips += skips

    def build(self, build, state, path):
        if state == 'broken':
            self.failed.append((f'{build}: does not build', path))
            return
        self.passed += 1
        if state != 'tested' or not os.path.exists(path):
            return
        with open(path, encoding='utf-8') as lines:
            for line in lines:
                self.program(build, path.removesuffix('json') + 'txt', json.loads(line))


def main():
    tally = Tally()
    for argument in sys.argv[1:]:
        tally.build(*argument.split(':', 2))
    print()
    for note in tally.notes:
        print(f'NOTE {note}')
    for name in tally.skips:
        print(f'SKIPPED {name}')
    for name, log in tally.failed:
        print(f'FAILED {name}')
    for log in sorted({log for _, log in tally.failed}):
        print(f'log: {log}')
    if tally.failed:
        print('Next: read the log; one suite alone is ./tests/run --quick --suite NAME')
    else:
        print('Next: ./examples/run shows the library at work in an app server')
    print(f'{tally.passed} passed, {len(tally.failed)} failed, {len(tally.skips)} skipped',
          flush=True)
    return 1 if tally.failed else 0


if __name__ == '__main__':
    sys.exit(main())
