/* journal_care.c - what the writer does for its store between batches, once a second: a look
 * whether the file is still there and in good hands, what has become too old, and a word about
 * readers that hold the log.
 *
 * The writer's thread, like journal_writer.c.  Nothing here may take long, as it makes publishers
 * wait: what is too old goes in chunks, one a turn. */
#include "journal_impl.h"

#define MS              INT64_C(1000000)
#define LOOK_NS         (1000 * MS)
#define READER_LIMIT_NS (30000 * MS)

/* HELD is what a check-point has returned.  A reader that stays at one place of the log for long is
 * named once: the log grows with each commit until it goes. */
static void watch_reader(struct journal *j, int held, int64_t now)
{
    int64_t limit_ns =
        j->options.reader_limit_ms ? j->options.reader_limit_ms * MS : READER_LIMIT_NS;
    if (held < 0)
        return;
    if (held != j->held) {
        if (j->held_told && !held)
            bgmqi_log(j->options.log, BGMQ_LOG_INFO,
                      "nobody holds the log of the database any more");
        j->held_told &= held != 0;
        j->held = held;
        j->held_since_ns = now;
    }
    if (!held || j->held_told || now - j->held_since_ns < limit_ns)
        return;
    j->held_told = true;
    bool ours = j->store->ops->checks(j->store);
    bgmqi_log(j->options.log, BGMQ_LOG_WARNING,
              "%s has held its log for %lld s (%llu bytes): it grows until %s",
              ours ? "our own check of the database" : "a reader of the database",
              (long long)((now - j->held_since_ns) / (1000 * MS)),
              (unsigned long long)j->store->ops->log_bytes(j->store),
              ours ? "that has ended" : "that reader ends its transaction");
}

/* True once a minute; *TOLD_NS: when it was so last. */
static bool may_tell(int64_t *told_ns, int64_t now)
{
    if (*told_ns && now - *told_ns < JOURNAL_TELL_NS)
        return false;
    *told_ns = now;
    return true;
}

void bgmqi_journal_tell_slow(struct journal *j, int64_t now)
{
    if (j->commit_ns >= JOURNAL_VERY_NS && may_tell(&j->told_slow_ns, now))
        bgmqi_log(j->options.log, BGMQ_LOG_WARNING,
                  "the store is slow: a commit took %lld ms",
                  (long long)(j->commit_ns / MS));
}

void bgmqi_journal_checkpoint(struct journal *j, int64_t now, int force)
{
    int held = j->store->ops->checkpoint(j->store, force);
    if (held == BGMQ_EFULL && may_tell(&j->told_checkpoint_ns, now))
        bgmqi_log(j->options.log, BGMQ_LOG_WARNING,
                  "no room or memory to check-point the database: its log grows until "
                  "there is");
    watch_reader(j, held, now);
}

int64_t bgmqi_journal_care_ns(const struct journal *j)
{
    return j->more_to_forget ? 0 : j->look_ns;
}

int bgmqi_journal_look(struct journal *j, struct bgmq_error *why)
{
    int err = j->store->ops->look(j->store, why);
    if (err > 0)
        bgmqi_log(j->options.log, BGMQ_LOG_WARNING, "%s", why->text);
    return err < 0 ? err : 0;
}

int bgmqi_journal_care(struct journal *j, int64_t now, struct bgmq_error *why)
{
    if (now < j->look_ns && !j->more_to_forget)
        return 0;
    if (now >= j->look_ns) {
        j->look_ns = now + LOOK_NS;
        int err = bgmqi_journal_look(j, why);
        if (err)
            return err;
    }
    const struct clock *c = j->options.clock ? j->options.clock : &bgmqi_clock_system;
    j->more_to_forget = j->store->ops->upkeep(j->store, clock_wall_ms(c)) == 1;
    return 0;
}
