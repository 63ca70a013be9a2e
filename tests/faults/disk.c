/* disk.c - see recorder.h: what a disk may hold after a loss of power. */
#include "recorder.h"

#include "../harness/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SECTOR = 512 };

uint64_t random_next(uint64_t *random)
{
    uint64_t x = *random ? *random : 88172645463325252U;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *random = x;
    return x >> 11;
}

/* ---- images -------------------------------------------------------------------------- */

static void image_grow(struct image *m, size_t len)
{
    if (len > m->cap) {
        m->cap = len + len / 2;
        m->bytes = realloc(m->bytes, m->cap);
        ck_assert_ptr_nonnull(m->bytes);
    }
    if (len > m->len)
        memset(m->bytes + m->len, 0, len - m->len);
    m->len = len > m->len ? len : m->len;
}

static void image_copy(struct image *to, const struct image *from)
{
    to->len = 0;
    image_grow(to, from->len);
    if (from->len)
        memcpy(to->bytes, from->bytes, from->len);
    to->there = from->there;
}

/* TORN: only some of the sectors, each at random. */
static void image_apply(struct image *m, const struct record *op, uint64_t *torn)
{
    if (op->kind == RECORD_TRUNCATE) {
        m->len = (size_t)op->at < m->len ? (size_t)op->at : m->len;
        return;
    }
    size_t at = (size_t)op->at;
    image_grow(m, at + op->len);
    for (size_t done = 0; done < op->len;) {
        size_t n = SECTOR - (at + done) % SECTOR;
        n = n < op->len - done ? n : op->len - done;
        n = torn ? n : op->len - done;
        if (!torn || random_next(torn) & 1)
            memcpy(m->bytes + at + done, op->bytes + done, n);
        done += n;
    }
}

/* ---- what is safe -------------------------------------------------------------------- */

void disk_init(struct disk *d, const struct recording *r)
{
    *d = (struct disk){.recording = r};
    for (int i = 0; i < RECORD_FILES; i++) {
        image_copy(&d->synced[i], &r->before[i]);
        d->safe[i] = r->before[i].there;
    }
}

void disk_fini(struct disk *d)
{
    for (int i = 0; i < RECORD_FILES; i++) {
        free(d->synced[i].bytes);
        free(d->ghost[i].bytes);
        free(d->pending[i]);
    }
}

static void settle(struct disk *d, enum record_file f)
{
    for (size_t i = 0; i < d->n[f]; i++)
        image_apply(&d->synced[f], &d->recording->ops[d->pending[f][i]], NULL);
    d->n[f] = 0;
}

static void step(struct disk *d, size_t i)
{
    const struct record *op = &d->recording->ops[i];
    enum record_file f = op->file;
    switch (op->kind) {
    case RECORD_MAKE:
        d->synced[f].len = 0;
        d->synced[f].there = 1;
        d->n[f] = 0;
        break;
    case RECORD_DELETE:
        settle(d, f);
        image_copy(&d->ghost[f], &d->synced[f]);
        d->synced[f].len = 0;
        d->synced[f].there = 0;
        break;
    case RECORD_SYNC:
        settle(d, f);
        break;
    case RECORD_SYNC_FOLDER:
        for (int k = 0; k < RECORD_FILES; k++) {
            d->safe[k] = d->synced[k].there;
            d->ghost[k].there = 0;
        }
        break;
    default:
        if (d->n[f] == d->cap[f]) {
            d->cap[f] = d->cap[f] ? d->cap[f] * 2 : 64;
            d->pending[f] = realloc(d->pending[f], d->cap[f] * sizeof(size_t));
            ck_assert_ptr_nonnull(d->pending[f]);
        }
        d->pending[f][d->n[f]++] = i;
    }
}

void disk_advance(struct disk *d, size_t n)
{
    while (d->at < n)
        step(d, d->at++);
}

static int folder_is_open(const struct disk *d, int f)
{
    return d->safe[f] != d->synced[f].there || d->ghost[f].there;
}

size_t disk_open_changes(const struct disk *d)
{
    size_t n = 0;
    for (int f = 0; f < RECORD_FILES; f++)
        n += d->n[f] + (size_t)folder_is_open(d, f);
    return n;
}

/* ---- what is left -------------------------------------------------------------------- */

/* How a disk comes to keep some: any of the writes, the first ones, or the last ones. */
enum order { ANY, FIRST, LAST, ORDERS };

static void lose_some(const struct disk *d, int f, struct image *m, uint64_t *random)
{
    size_t n = d->n[f], cut = n ? random_next(random) % (n + 1) : 0;
    enum order order = (enum order)(random_next(random) % ORDERS);
    for (size_t i = 0; i < n; i++) {
        const struct record *op = &d->recording->ops[d->pending[f][i]];
        uint64_t chance = random_next(random) % 8;
        int keep = order == ANY ? chance < 4 : order == FIRST ? i < cut : i >= cut;
        int torn = order == ANY ? chance >= 6 : i == cut && chance < 4;
        if (torn || keep)
            image_apply(m, op, torn ? random : NULL);
    }
}

/* M gets what is left of file F. */
static void leave(const struct disk *d, int f, enum disk_loss loss, uint64_t *random,
                  struct image *m)
{
    int undo = folder_is_open(d, f) &&
               (loss == DISK_KEEPS_LEAST ||
                (loss == DISK_KEEPS_SOME && random_next(random) % 4 == 0));
    if (undo) {
        m->there = 0;
        if (d->safe[f])
            image_copy(m, d->ghost[f].there ? &d->ghost[f] : &d->synced[f]);
        return;
    }
    image_copy(m, &d->synced[f]);
    if (loss == DISK_KEEPS_SOME)
        lose_some(d, f, m, random);
    for (size_t i = 0; loss == DISK_KEEPS_ALL && i < d->n[f]; i++)
        image_apply(m, &d->recording->ops[d->pending[f][i]], NULL);
}

static void write_image(const char *name, const struct image *m)
{
    unlink(name);
    if (!m->there)
        return;
    int fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, m->bytes, m->len), (ssize_t)m->len);
    close(fd);
}

uint64_t disk_write(const struct disk *d, enum disk_loss loss, uint64_t *random,
                    const char *path)
{
    static const char *const ends[] = {"", "-wal", "-journal", "-shm"};
    static struct image scratch; /* kept for the next one */
    uint64_t sum = 1469598103934665603U;
    char name[600];
    for (int f = 0; f < 4; f++) {
        snprintf(name, sizeof(name), "%s%s", path, ends[f]);
        if (f == RECORD_FILES) {
            unlink(name); /* the index of the log is nothing that a disk keeps */
            continue;
        }
        leave(d, f, loss, random, &scratch);
        write_image(name, &scratch);
        for (size_t i = 0; scratch.there && i + 8 <= scratch.len; i += 8) {
            uint64_t word;
            memcpy(&word, scratch.bytes + i, 8);
            sum = (sum ^ word) * 1099511628211U;
        }
        sum = (sum ^ (scratch.there ? scratch.len + 1 : 0)) * 1099511628211U;
    }
    return sum;
}
