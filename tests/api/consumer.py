"""A small program of a stranger, for the tests that build one against the library."""
import subprocess

CONSUMER = r'''
#include <bgmq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int greet(struct bgmq_job *job, void *ctx)
{
    (void)ctx;
    return bgmq_job_respond(job, NULL, NULL, 0) ? BGMQ_PERMANENT : BGMQ_DONE;
}

int main(void)
{
    struct bgmq *mq;
    struct bgmq_message *m;
    if (bgmq_open(&mq, NULL, NULL) != 0)
        return 1;
    int bad = bgmq_register(mq, "Greet", greet, NULL, NULL) != 0 || bgmq_start(mq) != 0 ||
              bgmq_publish(mq, "Greet", "world", 5, NULL, NULL) != 0 ||
              bgmq_get(mq, "mq:Greet.outq", 30000, &m) != 0;
    if (!bad) {
        size_t len;
        bad = memcmp(bgmq_message_body(m, &len), "world", 5) != 0 || len != 5;
        bgmq_message_free(m);
    }
    bgmq_free(mq);
    if (!bad)
        puts("hello from a stranger");
    return bad ? 1 : 0;
}
'''


def run(*command, folder=None, env=None, seconds=240):
    """(good, everything it said)"""
    try:
        done = subprocess.run([str(c) for c in command], cwd=folder, env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as why:
        return False, f'{command}: {why}'
    return done.returncode == 0, f'{command}:\n{done.stdout}'


def greets(t, name, program, env=None):
    """One point: PROGRAM, the consumer built somehow, says its words."""
    good, said = run(program, env=env, seconds=60)
    return t.check(name, good and 'hello from a stranger' in said, said)
