/* backup.c - bgmq_backup, bgmq_purge.  The caller's thread copies; the journal's says what, and
 * purges. */
#include <stdlib.h>

#include "err.h"
#include "handle.h"
#include "store_backup.h"
#include "thread.h"

static void find_source(void *ctx, struct store *store)
{
    *(char **)ctx = bgmqi_store_backup_source(store);
}

/* On a thread of the host's, which may not hear of a limit that the copy meets. */
static int copy(const char *source, const char *path, struct bgmq_error *error)
{
    struct thread_calm calm;
    bgmqi_thread_calm(&calm);
    int err = bgmqi_store_backup_copy(source, path, error);
    bgmqi_thread_uncalm(&calm);
    return err;
}

int bgmq_backup(struct bgmq *mq, const char *path, struct bgmq_error *error)
{
    char *source = NULL;
    int err = bgmqi_handle_enter(mq);
    if (error)
        error->text[0] = '\0';
    if (!err && (!path || !mq->journal))
        err = bgmqi_err_set(error, BGMQ_EINVAL, "no name for a copy, or no database");
    /* After all that was accepted before the call. */
    if (!err)
        err = bgmqi_journal_run(mq->journal, find_source, &source,
                                mq->config.publish_timeout_ms * INT64_C(1000000));
    if (!err)
        err = source ? copy(source, path, error) : BGMQ_ENOMEM;
    free(source);
    if (err && error && !error->text[0])
        bgmqi_err_set(error, err, "%s", bgmq_strerror(err));
    return err;
}

static void purge(void *ctx, struct store *store)
{
    *(int *)ctx = store->ops->purge(store);
}

int bgmq_purge(struct bgmq *mq)
{
    int result = BGMQ_ESTORE;
    int err = bgmqi_handle_enter(mq);
    if (err)
        return err;
    if (!mq->journal || !mq->config.erase)
        return BGMQ_EINVAL;
    err = bgmqi_journal_run(mq->journal, purge, &result,
                            mq->config.publish_timeout_ms * INT64_C(1000000));
    return err ? err : result;
}
