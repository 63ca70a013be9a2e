#!/usr/bin/env python3
"""A program that loads the library by dlopen() unloads it while its threads run: they go on,
and so does what the program holds of it."""
import os
import pathlib
import subprocess
import sys
import tempfile

from tap import Tap

PROGRAM = r'''
#include <bgmq.h>
#include <dlfcn.h>
#include <semaphore.h>
#include <stdio.h>

static sem_t begun, go, done;

static int handle(struct bgmq_job *job, void *ctx)
{
    (void)job, (void)ctx;
    sem_post(&begun);
    sem_wait(&go);
    sem_post(&done);
    return BGMQ_DONE;
}

#define FIND(name) __typeof__(&name) f_##name = (__typeof__(&name))dlsym(lib, #name)

int main(int argc, char **argv)
{
    (void)argc;
    void *lib = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    struct bgmq *mq;
    if (!lib)
        return puts(dlerror()), 1;
    sem_init(&begun, 0, 0);
    sem_init(&go, 0, 0);
    sem_init(&done, 0, 0);
    FIND(bgmq_open);
    FIND(bgmq_register);
    FIND(bgmq_start);
    FIND(bgmq_publish);
    FIND(bgmq_free);
    struct bgmq_options options = {.database = argv[2]};
    if (f_bgmq_open(&mq, &options, NULL) || f_bgmq_register(mq, "T", handle, NULL, NULL) ||
        f_bgmq_start(mq))
        return 2;
    for (int i = 0; i < 100; i++)
        if (f_bgmq_publish(mq, "T", "x", 1, NULL, NULL))
            return 3;
    sem_wait(&begun);
    if (dlclose(lib) == 0 && dlopen(argv[1], RTLD_NOLOAD | RTLD_NOW) == NULL)
        return puts("it was unloaded"), 4;
    for (int i = 0; i < 100; i++)
        sem_post(&go);
    for (int i = 0; i < 100; i++)
        sem_wait(&done);
    f_bgmq_free(mq);
    puts("still there");
    return 0;
}
'''


# P15.
def check_library_stays_while_its_threads_run(t):
    source = pathlib.Path(os.environ['BGMQ_SOURCE'])
    library = pathlib.Path(os.environ['BGMQ_BUILD_ROOT']) / 'src' / 'libbgmq.so'
    with tempfile.TemporaryDirectory() as folder:
        code = pathlib.Path(folder, 'unload.c')
        code.write_text(PROGRAM, encoding='utf-8')
        program = pathlib.Path(folder, 'unload')
        made = subprocess.run(['cc', '-D_GNU_SOURCE', f'-I{source}/include', str(code), '-o',
                               str(program), '-ldl', '-lpthread'], capture_output=True, text=True)
        ran = made.returncode == 0 and subprocess.run(
            [str(program), str(library), str(pathlib.Path(folder, 'unload.db'))],
            capture_output=True, text=True, timeout=60)
        t.check('the library stays when it is unloaded while its threads run',
                ran and ran.returncode == 0 and 'still there' in ran.stdout,
                made.stderr if not ran else f'status {ran.returncode}: {ran.stdout}{ran.stderr}')


def main():
    t = Tap()
    check_library_stays_while_its_threads_run(t)
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
