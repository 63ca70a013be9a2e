/* draft.h - one message, made ready to be admitted to its type.  The publisher's thread. */
#ifndef BGMQI_DRAFT_H
#define BGMQI_DRAFT_H

#include "handle.h"

/* One message to be published, to a type or to a queue by name. */
struct publication {
    const char *type; /* or */
    const char *queue;
    const void *body;
    size_t len;
    const struct bgmq_message_options *options; /* or NULL */
    const char *body_type;                      /* of a custom queue's message; or NULL */
    const char *meta_packed;                    /* in place of options->meta; or NULL */
    size_t meta_len;
    const struct failure *failure; /* carried by a custom queue's message */
    bool behind; /* wait for nobody: what follows from a row may be as late as its end */
};

struct draft {
    struct type *type;
    struct admission a;
    struct message *noted; /* for a test service (see note) */
    int64_t due_ms;
    bool waits; /* the publisher has to wait for the commit */
};

/* Makes the message of P for T (NULL: no type yet, so no defaults), with no level yet. */
int bgmqi_draft_message(struct bgmq *mq, const struct publication *p, struct type *t,
                        struct message **ret);
/* Makes *RET of M, which it takes in any case. */
int bgmqi_draft_init(struct bgmq *mq, struct type *t, const struct publication *p,
                     struct message *m, struct draft *ret);
/* Gives back what D holds, when it was not admitted. */
void bgmqi_draft_fini(struct draft *d);
/* Waits for TICKET's group as long as publishers wait.  CTX is the service. */
int bgmqi_draft_wait(void *ctx, struct ticket *ticket);
/* Likewise, releases TICKET, and tells the N receipts which are duplicates. */
int bgmqi_draft_await(struct bgmq *mq, struct ticket *ticket,
                      struct bgmq_receipt *receipts, size_t n);
/* For a test service: a reference to M, which is about to be let in. */
struct message *bgmqi_draft_note(const struct bgmq *mq, struct message *m);
/* Tells the test service of what was noted, when it is IN, and gives the reference back. */
void bgmqi_draft_tell(struct bgmq *mq, const char *name, struct message *noted,
                      int64_t due_ms, bool in);

#endif
