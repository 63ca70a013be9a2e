/* custom.h - a queue with a name of its own, in memory: replies, temporary queues, anything.
 *
 * Reference-counted: the registry holds one, every caller that found it another, so that it can
 * be dropped while somebody waits for it. */
#ifndef BGMQI_CUSTOM_H
#define BGMQI_CUSTOM_H

#include "mem.h"
#include "message.h"

struct custom;

struct custom *bgmqi_custom_new(const char *name,
                                struct budget *budget); /* NULL: no memory */
struct custom *bgmqi_custom_ref(struct custom *q);
void bgmqi_custom_unref(struct custom *q);
const char *bgmqi_custom_name(const struct custom *q);

/* Takes M.  EFULL; ENOENT: it was dropped. */
int bgmqi_custom_put(struct custom *q, struct message *m);
/* The next message, the caller's; ETIMEOUT, ENOENT (dropped), ECLOSED. */
int bgmqi_custom_take(struct custom *q, int64_t timeout_ns, struct message **ret);
/* Puts back at the tail what was taken. */
void bgmqi_custom_return(struct custom *q, struct message *m);
/* References to up to MAX messages, in order. */
size_t bgmqi_custom_peek(struct custom *q, struct message **ret, size_t max);
/* Empties it and sends its getters home with ERR, later ones too; returns how many it held. */
size_t bgmqi_custom_end(struct custom *q, int err);

#endif
