/* disk_impl.h - what the files of the simulated disk share. */
#ifndef BGMQ_TEST_DISK_IMPL_H
#define BGMQ_TEST_DISK_IMPL_H

#include "disk.h"

struct disk_store {
    struct store base;
    bool dead;
};

static inline bool disk_happens(unsigned one_in)
{
    return one_in && sim_below(one_in) == 0;
}

/* Some calls take long, and all let others go on. */
void disk_take_time(void);

/* disk_read.c */
int disk_load(struct store *s, uint32_t type, enum lane lane, int64_t key, uint64_t seq,
              size_t limit, size_t max_bytes, store_row_fn *fn, void *ctx);
int disk_search(struct store *s, const struct store_search *what, store_row_fn *fn,
                void *ctx);
int disk_types(struct store *s, store_type_fn *fn, void *ctx);
int disk_ended(struct store *s, uint64_t id, store_ended_fn *fn, void *ctx);
int disk_errors(struct store *s, uint64_t id, store_error_fn *fn, void *ctx);
int disk_inbox(struct store *s, uint64_t after, size_t limit, store_inbox_fn *fn,
               void *ctx);

#endif
