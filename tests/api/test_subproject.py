#!/usr/bin/env python3
"""Another meson project uses the checkout as its subproject, without a network: dependency()
finds it, what it builds works, and our tests, examples and flags stay out of the way."""
import json
import os
import pathlib
import shutil
import sys
import tempfile

import consumer
import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARENT = '''
project('parent', 'c', default_options: ['default_library=%s'])
executable('stranger', 'stranger.c', dependencies: dependency('bgmq', fallback: 'bgmq'))
'''

# What meson gives to every program by itself.
USUAL = ('-Wall', '-Winvalid-pch', '-O0', '-g', '-M', '-c', '-o', '-pipe', '-D_FILE_OFFSET_BITS=64',
         '-fdiagnostics-color', '-fcolor-diagnostics')


def flags_of(folder, name):
    """What the parent compiles NAME with, but where its includes are and what is its own."""
    made = json.loads((folder / 'compile_commands.json').read_text())
    command = [e['command'] for e in made if e['file'].endswith(name)][0].split()
    return {f for f in command if f.startswith('-') and not f.startswith('-I')}


def inherits_nothing(t, kind, top):
    ours, theirs = (flags_of(top / 'built', name) for name in ('agenda.c', 'stranger.c'))
    t.check(f'{kind}: we have flags of our own', '-Wconversion' in ours and '-Wshadow' in ours)
    strange = [f for f in theirs if not f.startswith(USUAL)]
    t.check(f'{kind}: its program has none of them', not strange, *strange)


def parent(t, kind):
    meson = shutil.which('meson')
    env = dict(os.environ, PKG_CONFIG_LIBDIR=os.environ.get('PKG_CONFIG_LIBDIR', ''))
    if not env['PKG_CONFIG_LIBDIR']:
        del env['PKG_CONFIG_LIBDIR']
    with tempfile.TemporaryDirectory() as folder:
        top = pathlib.Path(folder)
        (top / 'meson.build').write_text(PARENT % kind)
        (top / 'stranger.c').write_text(consumer.CONSUMER)
        (top / 'subprojects').mkdir()
        (top / 'subprojects/bgmq').symlink_to(ROOT, target_is_directory=True)
        good, said = consumer.run(meson, 'setup', '--wrap-mode=nodownload',
                                  '--force-fallback-for=bgmq', 'built', folder=top, env=env)
        if not t.check(f'{kind}: a parent project configures', good, said):
            return
        t.check(f'{kind}: our tests are not part of it',
                not (top / 'built/subprojects/bgmq/tests').exists())
        inherits_nothing(t, kind, top)
        good, said = consumer.run(meson, 'compile', '-C', 'built', folder=top, env=env)
        if t.check(f'{kind}: it builds', good, said):
            consumer.greets(t, f'{kind}: its program runs', top / 'built/stranger')


def main():
    t = tap.Tap()
    parent(t, 'shared')
    parent(t, 'static')
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
