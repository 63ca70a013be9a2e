/* registry.h - from names to types and custom queues.  Any thread. */
#ifndef BGMQI_REGISTRY_H
#define BGMQI_REGISTRY_H

#include "custom.h"
#include "type.h"

struct registry;

/* Borrows ENV and copies DEFAULTS, the configuration of types that nobody registered. */
struct registry *bgmqi_registry_new(struct type_env *env,
                                    const struct type_config *defaults);
/* Frees all types and queues.  NULL is allowed. */
void bgmqi_registry_free(struct registry *r);

/* 1 when NAME may be that of a type, or of a channel. */
int bgmqi_registry_valid(const char *name);
/* 1 when NAME may be that of a type's queues: TYPE, or TYPE@CHANNEL. */
int bgmqi_registry_names(const char *name);
/* Lends the type NAME, good until the registry goes; NULL: there is none. */
struct type *bgmqi_registry_find(struct registry *r, const char *name);
/* Likewise, made when it is not there; the journal learns its number first.  EINVAL, ENOMEM. */
int bgmqi_registry_type(struct registry *r, const char *name, struct type **ret);
/* The queues for messages of TYPE on CHANNEL (NULL: none): those of that channel, or of TYPE when
 * it takes every channel that nobody has registered.  EXACT: of that channel in any case.  Made
 * when not there; a name and its channel have at most 199 bytes together.  EINVAL, ENOMEM. */
int bgmqi_registry_channel(struct registry *r, const char *type, const char *channel,
                           bool exact, struct type **ret);
/* A type that an open database knows. */
int bgmqi_registry_restore(struct registry *r, uint32_t number, const char *name,
                           const uint64_t counts[LANES]);
/* T was registered: its place in the order of registration. */
void bgmqi_registry_ordered(struct registry *r, struct type *t);

/* Calls FN for each type: those registered in that order, then, unless REGISTERED_ONLY, the
 * parked ones.  One that is registered meanwhile is not left out.  No lock is held during FN.
 * Nonzero ends the walk, and is returned. */
int bgmqi_registry_each(struct registry *r, bool registered_only,
                        int (*fn)(void *ctx, struct type *t), void *ctx);

/* What a queue name stands for. */
struct address {
    enum place place;      /* INQ, PRIORITYQ, OUTQ, DLQ of TYPE; or NONE */
    struct type *type;     /* lent */
    struct custom *custom; /* a reference; bgmqi_custom_unref */
};
/* Finds QUEUE; a custom queue, or a type, is made when it is not there.  EINVAL, ENOMEM;
 * ENOENT: a temporary queue that is gone. */
int bgmqi_registry_resolve(struct registry *r, const char *queue, struct address *ret);
/* Likewise, but makes nothing: ENOENT. */
int bgmqi_registry_lookup(struct registry *r, const char *queue, struct address *ret);
/* Makes the temporary queue NAME.  ENOMEM. */
int bgmqi_registry_temp(struct registry *r, const char *name);
/* Takes QUEUE out; the reference is the caller's.  NULL: no such custom queue. */
struct custom *bgmqi_registry_drop(struct registry *r, const char *queue);
/* All custom queues end with ECLOSED. */
void bgmqi_registry_end_customs(struct registry *r);

#endif
