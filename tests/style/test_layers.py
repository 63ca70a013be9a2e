#!/usr/bin/env python3
"""A file of src/ includes only lower layers, its own family and the public header.

The family of a file is its name up to the first underscore: store_open.c may include
store_schema.h.  Headers never include each other in a circle.  http speaks to the rest
through bgmq.h alone, as proof that the public functions are enough; by notice.h it tells of
itself.
"""
import pathlib
import re
import sys

import tap

SRC = pathlib.Path(__file__).resolve().parents[2] / 'src'

# Lowest first.  A later line of a layer may use its earlier ones.
LAYERS = [
    ('0', 'lock clock err'),
    ('0', 'park'),
    ('0', 'monitor'),
    ('0', 'slab'),
    ('0', 'fork log mem thread'),
    ('1', 'agenda crc32c map utf8'),
    ('2', 'json json_parse message retry timing'),
    ('3', 'getter queue store ticket'),
    ('4', 'flight'),
    ('4', 'journal owner store_*'),
    ('5', 'type'),
    ('6', 'custom'),
    ('6', 'registry'),
    ('7', 'metrics report solo ticker watch worker'),
    ('7', 'pool'),
    ('9', 'options'),
    ('9', 'handle'),
    ('9', 'notice'),
    ('9', 'guest inbox'),
    ('9', 'draft'),
    ('9', 'publish publish_* register'),
    ('9', 'reply'),
    ('9', 'tx tx_*'),
    ('9', 'backup consume health inspect operate pause job progress service service_*'),
    ('9', 'testkit'),
    ('10', 'http'),
]
# Families that include nothing of ours but the public header, and these.
ALONE = {'http': {'err', 'notice'}}


def family(module):
    return module.split('_')[0]


def rank(module):
    for name in (module, family(module) + '_*', family(module)):
        for place, (_, names) in enumerate(LAYERS):
            if name in names.split():
                return place
    return None


def includes(path):
    text = path.read_text()
    return re.findall(r'^#include "([^"]+)\.h"', text, re.M)


def problem(module, included):
    """Why MODULE may not include INCLUDED, or None."""
    if included == module:
        return None
    if family(included) == family(module):
        return None
    if family(module) in ALONE and included not in ALONE[family(module)]:
        return f'{module} includes {included}.h: only bgmq.h and its own are allowed'
    low, high = rank(included), rank(module)
    if low is None or low < high:
        return None
    return (f'{module} (layer {LAYERS[high][0]}) includes {included}.h'
            f' (layer {LAYERS[low][0]})')


def circle(headers):
    """A list of headers that include each other in a circle, or None."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return path[path.index(name):] + [name]
        if name in done or name not in headers:
            return None
        path.append(name)
        for other in headers[name]:
            found = visit(other)
            if found:
                return found
        path.pop()
        done.add(name)
        return None

    for name in headers:
        found = visit(name)
        if found:
            return found
    return None


def main():
    t = tap.Tap()
    files = sorted(SRC.glob('*.[ch]'))
    unknown = sorted({p.stem for p in files if rank(p.stem) is None})
    t.check('every file of src has a layer', files and not unknown, *unknown)
    wrong, second = [], []
    for path in files:
        if rank(path.stem) is None:
            continue
        names = includes(path)
        wrong += filter(None, (problem(path.stem, name) for name in names))
        if path.suffix == '.c' and (SRC / f'{path.stem}.h').exists():
            first = re.search(r'^#include .*$', path.read_text(), re.M)
            if not first or first.group() != f'#include "{path.stem}.h"':
                second.append(f'{path.name} does not include its own header first')
    t.check('includes go to lower layers only', not wrong, *wrong)
    t.check('a file includes its own header first', not second, *second)
    headers = {p.stem: includes(p) for p in files if p.suffix == '.h'}
    found = circle(headers)
    t.check('headers include each other in no circle', not found, found)
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
