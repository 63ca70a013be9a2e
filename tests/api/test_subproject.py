#!/usr/bin/env python3
"""Another meson project uses the checkout as its subproject, without a network: dependency()
finds it, what it builds works, and our tests and examples stay out of the way."""
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
