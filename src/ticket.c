/* ticket.c - a publisher's wait for its commit (see ticket.h).  Takes no lock. */
#include "ticket.h"

#include <assert.h>
#include <bgmq.h>
#include <stdatomic.h>

#include "clock.h"
#include "mem.h"
#include "park.h"

#define PATIENCE_NS INT64_C(250000000)

enum state { QUEUED, WRITING, DONE, TAKEN_BACK };

struct ticket {
    struct park park;
    _Atomic uint8_t state; /* enum state */
    _Atomic uint8_t shares;
    int result; /* this and ROWS are written before the state becomes DONE */
    size_t n;
    struct ticket_row {
        uint64_t id;
        int result;
    } rows[];
};

static size_t size_of(size_t n)
{
    return sizeof(struct ticket) + n * sizeof(struct ticket_row);
}

struct ticket *bgmqi_ticket_new(size_t n)
{
    struct ticket *t = bgmqi_mem_alloc(size_of(n));
    if (!t)
        return NULL;
    *t = (struct ticket){.n = n};
    for (size_t i = 0; i < n; i++)
        t->rows[i] = (struct ticket_row){.id = 0};
    atomic_init(&t->shares, 2);
    return t;
}

void bgmqi_ticket_discard(struct ticket *t)
{
    if (t)
        bgmqi_mem_free(t, size_of(t->n));
}

void bgmqi_ticket_release(struct ticket *t)
{
    if (t && atomic_fetch_sub(&t->shares, 1) == 1)
        bgmqi_ticket_discard(t);
}

static bool move(struct ticket *t, uint8_t from, uint8_t to)
{
    return atomic_compare_exchange_strong(&t->state, &from, to);
}

bool bgmqi_ticket_over(struct ticket *t, int64_t ns)
{
    if (atomic_load(&t->state) != DONE)
        bgmqi_park_wait(&t->park, ns);
    return atomic_load(&t->state) == DONE;
}

int bgmqi_ticket_wait(struct ticket *t, int64_t timeout_ns)
{
    int64_t now = clock_mono_ns(&bgmqi_clock_system), deadline = now + timeout_ns;
    for (; atomic_load(&t->state) != DONE; now = clock_mono_ns(&bgmqi_clock_system)) {
        if (now < deadline) {
            bgmqi_park_wait(&t->park, deadline - now);
            continue;
        }
        if (move(t, QUEUED, TAKEN_BACK))
            return BGMQ_ETIMEOUT;
        /* A transaction that waits for somebody else's lock ends soon, one way or the other;
         * "uncertain" is worth a moment's patience. */
        if (atomic_load(&t->state) == WRITING && now >= deadline + PATIENCE_NS)
            return BGMQ_EUNCERTAIN;
        bgmqi_park_wait(&t->park, PATIENCE_NS / 8);
    }
    return t->result;
}

int bgmqi_ticket_result(const struct ticket *t, size_t i, uint64_t *id)
{
    assert(i < t->n);
    *id = t->rows[i].id;
    return t->rows[i].result;
}

bool bgmqi_ticket_begin(struct ticket *t)
{
    return move(t, QUEUED, WRITING);
}

void bgmqi_ticket_again(struct ticket *t)
{
    move(t, WRITING, QUEUED);
    bgmqi_park_wake(&t->park); /* it may be late, and about to give up */
}

void bgmqi_ticket_set(struct ticket *t, size_t i, uint64_t id, int result)
{
    assert(i < t->n);
    t->rows[i] = (struct ticket_row){.id = id, .result = result};
}

void bgmqi_ticket_finish(struct ticket *t, int result)
{
    t->result = result;
    if (move(t, WRITING, DONE) || move(t, QUEUED, DONE))
        bgmqi_park_wake(&t->park);
    bgmqi_ticket_release(t);
}
