#!/usr/bin/env python3
"""What `meson install` puts down is enough for a stranger: through pkg-config, shared and
static, and through CMake."""
import os
import pathlib
import re
import shutil
import sys
import tempfile

import consumer
import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = pathlib.Path(os.environ['BGMQ_BUILD_ROOT'])
CMAKE = '''
cmake_minimum_required(VERSION 3.13)
project(stranger C)
find_package(bgmq 0.1 REQUIRED)
add_executable(stranger stranger.c)
target_link_libraries(stranger PRIVATE bgmq::bgmq)
'''


def find(top, name):
    found = sorted(top.rglob(name))
    return found[0] if found else None


def flags(env, *options, package='bgmq'):
    good, said = consumer.run('pkg-config', *options, package, env=env)
    return said.splitlines()[1].split() if good else []


def installed(t, top):
    good, said = consumer.run(shutil.which('meson'), 'install', '--no-rebuild', '--quiet', '-C',
                              BUILT, '--destdir', top)
    t.check('it installs', good, said)
    for name in ('bgmq.h', 'libbgmq.so', 'libbgmq.so.0', 'libbgmq.a', 'bgmq.pc',
                 'bgmqConfig.cmake', 'bgmqConfigVersion.cmake'):
        t.check(f'{name} is there', find(top, name) is not None)
    strange = [str(p) for p in top.rglob('*')
               if p.is_file() and 'bgmq' not in p.name]
    t.check('nothing else is there', not strange, *strange)
    return good and find(top, 'bgmq.pc') is not None


def versions(t, env):
    header = (ROOT / 'include/bgmq.h').read_text()
    macros = '.'.join(re.search(rf'BGMQ_VERSION_{part} (\d+)', header)[1]
                      for part in ('MAJOR', 'MINOR', 'PATCH'))
    t.check('pkg-config tells the version of bgmq.h', flags(env, '--modversion') == [macros])


def by_pkg_config(t, top, env, source):
    libdir = find(top, 'libbgmq.so').parent
    shared = flags(env, '--cflags', '--libs')
    good, said = consumer.run('cc', source, '-o', top / 'shared', *shared)
    t.check('pkg-config: links', good, said)
    if good:
        where = dict(os.environ, LD_LIBRARY_PATH=str(libdir))
        consumer.greets(t, 'pkg-config: runs', top / 'shared', env=where)
    t.check('pkg-config: the library alone, its own needs stay private',
            not [f for f in shared if f.startswith('-l') and f != '-lbgmq'], shared)
    t.check('pkg-config: no flags but where it is',
            not [f for f in shared if not f.startswith(('-I', '-L', '-l'))], shared)
    good, said = consumer.run('pkg-config', '--print-requires-private', 'bgmq', env=env)
    needs = said.split(':\n', 1)[1].split()
    t.check('pkg-config: tells what a static link needs',
            {'jansson', 'libmicrohttpd', 'sqlite3'} <= set(needs), said)
    # Those are linked shared here: their own static needs are not all installed everywhere.
    static = flags(env, '--cflags') + [find(top, 'libbgmq.a'), '-pthread']
    for need in ('jansson', 'libmicrohttpd', 'sqlite3'):
        static += flags(env, '--libs', package=need)
    good, said = consumer.run('cc', source, '-o', top / 'static', *static)
    t.check('static library: links', good, said)
    if good:
        consumer.greets(t, 'static library: runs', top / 'static')


def by_cmake(t, top, env):
    if not shutil.which('cmake'):
        t.skip('CMake: configures, builds, runs', 'cmake is not here')
        return
    (top / 'CMakeLists.txt').write_text(CMAKE)
    config = find(top, 'bgmqConfig.cmake').parent
    configure = ('cmake', '-G', 'Ninja', '-S', top, f'-Dbgmq_DIR={config}', '-B')
    good, said = consumer.run(*configure, top / 'cmake', env=env)
    if not t.check('CMake: configures', good, said):
        return
    good, said = consumer.run('cmake', '--build', top / 'cmake', env=env)
    if t.check('CMake: builds', good, said):
        where = dict(os.environ, LD_LIBRARY_PATH=str(find(top, 'libbgmq.so').parent))
        consumer.greets(t, 'CMake: runs', top / 'cmake/stranger', env=where)
    (top / 'CMakeLists.txt').write_text(CMAKE.replace('bgmq 0.1', 'bgmq 0.9'))
    good, said = consumer.run(*configure, top / 'cmake9', env=env)
    t.check('CMake: a version we are not is refused', not good and '0.9' in said, said)


def main():
    t = tap.Tap()
    with tempfile.TemporaryDirectory() as folder:
        top = pathlib.Path(folder)
        if installed(t, top):
            source = top / 'stranger.c'
            source.write_text(consumer.CONSUMER)
            env = dict(os.environ, PKG_CONFIG_SYSROOT_DIR='',
                       PKG_CONFIG_PATH=str(find(top, 'bgmq.pc').parent))
            # The paths in bgmq.pc begin at the prefix; the copy sits below TOP.
            pc = find(top, 'bgmq.pc')
            pc.write_text(pc.read_text().replace('prefix=/', f'prefix={top}/', 1))
            versions(t, env)
            by_pkg_config(t, top, env, source)
            by_cmake(t, top, env)
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
