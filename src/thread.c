/* thread.c - starts a thread that no signal of the host can land on.  Any thread.
 *
 * Blocked are all signals but those a thread raises by its own fault: blocking SIGSEGV and its
 * like would turn a fault into a silent kill without the host's handler. */
#include "thread.h"

#include <bgmq.h>
#include <errno.h>
#include <time.h>

static void faults_only(sigset_t *set)
{
    static const int faults[] = {SIGSEGV, SIGBUS,  SIGFPE, SIGILL,
                                 SIGTRAP, SIGABRT, SIGSYS};
    sigfillset(set);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        sigdelset(set, faults[i]);
}

int bgmqi_thread_start(pthread_t *ret, const char *name, size_t stack_size,
                       void *(*fn)(void *), void *arg)
{
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0)
        return BGMQ_ETHREAD;
    int err = pthread_attr_setstacksize(&attr, stack_size);
    sigset_t blocked, before;
    faults_only(&blocked);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    pthread_t thread;
    if (err == 0)
        err = pthread_create(&thread, &attr, fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (err != 0)
        return BGMQ_ETHREAD;
    pthread_setname_np(thread, name);
    *ret = thread;
    return 0;
}

void bgmqi_thread_shield(void)
{
    sigset_t blocked;
    faults_only(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
}

static bool is_pending(int signal)
{
    sigset_t pending;
    return sigpending(&pending) == 0 && sigismember(&pending, signal) == 1;
}

static void only_limit(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGXFSZ);
}

void bgmqi_thread_calm(struct thread_calm *ret)
{
    sigset_t limit;
    only_limit(&limit);
    pthread_sigmask(SIG_BLOCK, &limit, &ret->before);
    ret->was_pending = is_pending(SIGXFSZ);
}

/* The kernel sends it to the thread that writes, so it is this thread that takes it away. */
void bgmqi_thread_uncalm(const struct thread_calm *calm)
{
    sigset_t limit;
    only_limit(&limit);
    if (!calm->was_pending && is_pending(SIGXFSZ))
        while (sigtimedwait(&limit, NULL, &(struct timespec){.tv_sec = 0}) < 0 &&
               errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &calm->before, NULL);
}
