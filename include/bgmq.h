/*
 * bgmq.h - background message queues inside your process.
 *
 * Threads.  Every function may be called from any thread at any time unless its comment
 * says otherwise.  Handlers run on the library's worker threads with no lock held.  A
 * handler may call everything except what its comment forbids; the functions that take a
 * struct bgmq_job belong to the thread that runs the handler, for as long as it runs.
 *
 * Ownership.  "Copies": the argument is yours again when the call returns.  "Lends": the
 * result belongs to the library and is good until the moment named.  "Takes": the library
 * owns the argument from a call that returns 0, and only then.  "Borrows": the library keeps
 * a pointer to what is yours until the moment named.
 *
 * Errors.  Functions return 0 or a count on success and a negative enum bgmq_err on failure.
 * A failed call changes nothing, writes to no out parameter (a struct bgmq_error apart), and
 * leaves nothing to release.  Every function that takes a struct bgmq may return
 * BGMQ_EINVAL, BGMQ_ECLOSED and BGMQ_EFORKED; comments name the other errors that matter.
 *
 * Process.  The library starts threads with all asynchronous signals blocked, installs no
 * signal handler and never calls exit().  In a child of fork() every call returns
 * BGMQ_EFORKED and touches nothing: open a queue of its own there.
 *
 * Time.  Durations are milliseconds, points in time are milliseconds since 1970 UTC.
 */
#ifndef BGMQ_H
#define BGMQ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BGMQ_API __attribute__((visibility("default")))

/* API history, newest first.
 * 0.1: first version. */
#define BGMQ_VERSION_MAJOR 0
#define BGMQ_VERSION_MINOR 1
#define BGMQ_VERSION_PATCH 0

/* Lends the version of the library that runs, "major.minor.patch", good for ever. */
BGMQ_API const char *bgmq_version(void);

/* ---- errors ------------------------------------------------------------------------ */

enum bgmq_err {
    BGMQ_OK = 0,
    BGMQ_EINVAL = -1,       /* an argument is outside its documented range */
    BGMQ_ENOMEM = -2,       /* out of memory */
    BGMQ_ECLOSED = -3,      /* the service is closed */
    BGMQ_EFORKED = -4,      /* called in a child of fork() */
    BGMQ_EEXIST = -5,       /* the type, or the database, is there already */
    BGMQ_ENOENT = -6,       /* no such type, queue or message */
    BGMQ_ETOOBIG = -7,      /* the body is larger than max_body */
    BGMQ_EFULL = -8,        /* a bound on memory or disk is reached */
    BGMQ_EBUSY = -9,        /* handlers still run, or the store did not answer in time */
    BGMQ_ETIMEOUT = -10,    /* nothing came within the time given */
    BGMQ_EINPROGRESS = -11, /* requested; it goes on in the background */
    BGMQ_EDEADLK = -12,     /* would wait for the thread that calls */
    BGMQ_ELOST = -13,      /* the message is not yours any more: settled, or taken back */
    BGMQ_EUNCERTAIN = -14, /* the commit failed: the change may or may not be there */
    BGMQ_ESTORE = -15,     /* the store has failed; it takes nothing until reopened */
    BGMQ_EOPEN = -16,      /* the database cannot be opened or created */
    BGMQ_EUNSAFE = -17,    /* a symlink, no plain file, not ours, or writable by others */
    BGMQ_ENOTDB = -18,     /* the file is not a SQLite database */
    BGMQ_ENOTOURS = -19,   /* the database belongs to another application */
    BGMQ_EVERSION = -20, /* the database was written by a newer version of this library */
    BGMQ_EOWNED = -21,   /* another process owns the database */
    BGMQ_ETHREAD = -22,  /* a thread could not be started; none was */
    BGMQ_EJSON = -23,    /* text that is not JSON, or not of the shape asked for */
    BGMQ_EHTTP = -24,    /* the HTTP listener could not be started */
    BGMQ_EREADONLY = -25,  /* the connection, or the file, can only be read */
    BGMQ_EOTHERFILE = -26, /* the connection's main database is not the queue's, or an
                              attached one takes part in the transaction */
    BGMQ_EDRAINING = -27,  /* the service finishes what it has and takes nothing new */
    BGMQ_ESCHEMA = -28,    /* a table of ours is not as this library made it */
    BGMQ_ECORRUPT = -29    /* the database file is damaged */
};

/* Lends a short English text, good for ever.  Never NULL. */
BGMQ_API const char *bgmq_strerror(int err);
/* Lends the name of the code, "BGMQ_EINVAL", good for ever; "BGMQ_E?" for no code of ours. */
BGMQ_API const char *bgmq_errname(int err);

/* Says more about one failed call than its code.  Filled only where a function takes it. */
struct bgmq_error {
    char text[256]; /* one line, with the path, the position or the system's words */
};

/* ---- options ----------------------------------------------------------------------- */

struct bgmq;
struct bgmq_job;
struct bgmq_message;
struct json_t;

/* What an accepted message survives.  Each level includes those before it; those above MEMORY
 * need a database (EINVAL). */
enum bgmq_durability {
    BGMQ_DEFAULT = 0, /* that of the type, else of the service */
    BGMQ_MEMORY,      /* nothing: lost when the process ends */
    BGMQ_BEHIND,      /* a process crash later than flush_interval_ms after the publish */
    BGMQ_COMMIT,      /* the death of this process, at any instruction */
    BGMQ_DISK         /* crash of the operating system and loss of power as well */
};

/* What a handler, a filter or an error callback decides about the message it was given. */
enum bgmq_verdict {
    BGMQ_DONE = 0,      /* ended well */
    BGMQ_RETRY = 1,     /* failed; try again while attempts are left */
    BGMQ_PERMANENT = 2, /* failed for good: to the dlq */
    BGMQ_SNOOZE = 3,    /* again after bgmq_job_snooze's delay; no attempt is used */
    BGMQ_DISCARD = 4    /* ends here, neither outq nor dlq; counted as failed */
};

enum bgmq_level { BGMQ_LOG_ERROR, BGMQ_LOG_WARNING, BGMQ_LOG_INFO, BGMQ_LOG_DEBUG };

/* TEXT is one line without a line end, lent for the call.  Called from any thread with no
 * lock held; must not call back into the library (what it publishes is refused). */
typedef void bgmq_log_fn(void *ctx, enum bgmq_level level, const char *text);

/* A handler.  Returns an enum bgmq_verdict; a negative enum bgmq_err counts as BGMQ_RETRY
 * with that error's name as code (BGMQ_EJSON as BGMQ_PERMANENT); any other value is a failed
 * attempt that is logged.  Its signal mask and cancel state are put right after it, and
 * pthread_exit is a failed attempt; a longjmp out of it is undefined.  Working directory, umask,
 * setlocale and signal actions are the process's, uselocale, errno and floating-point modes the
 * worker's: what it changes there stays for the next.  What an on_error returns is done as it
 * says, also a RETRY when the attempts are used up. */
typedef int bgmq_handler_fn(struct bgmq_job *job, void *ctx);

/* Delay in milliseconds before attempt ATTEMPT + 1 (ATTEMPT >= 1 have failed). */
typedef int64_t bgmq_backoff_fn(unsigned attempt, void *ctx);

enum bgmq_backoff {
    /* Random in 0 .. min(max, base * 2^(attempt-1)): "full jitter". */
    BGMQ_BACKOFF_EXPONENTIAL = 0,
    BGMQ_BACKOFF_NONE,     /* at once, at the tail of its queue */
    BGMQ_BACKOFF_FIXED,    /* backoff_base_ms each time */
    BGMQ_BACKOFF_CALLBACK, /* backoff_fn decides */
    BGMQ_BACKOFF_TABLE     /* backoff_table[attempt - 1], the last one from then on */
};

/* For how long a message keeps its unique key from others of its type. */
enum bgmq_unique {
    BGMQ_UNIQUE_UNFINISHED = 0, /* while it waits or runs: until it is done or dead */
    BGMQ_UNIQUE_WAITING,        /* until its first start */
    BGMQ_UNIQUE_DONE,           /* until it is done or discarded: the dead keep it */
    BGMQ_UNIQUE_PERIOD /* for unique_period_ms from its acceptance, whatever becomes of it */
};

/* What a publish does when another message has the key. */
enum bgmq_conflict {
    BGMQ_CONFLICT_KEEP =
        0, /* adds nothing; the receipt names the other and says duplicate */
    BGMQ_CONFLICT_REPLACE, /* takes the place of the other, in one commit, if that one waits;
                               else as KEEP */
    BGMQ_CONFLICT_REFUSE /* EEXIST */
};

enum bgmq_history { BGMQ_HISTORY_OFF = 0, BGMQ_HISTORY_FAILURES, BGMQ_HISTORY_ALL };

/* Zero in any field means the default in brackets.  Strings are copied. */
struct bgmq_options {
    /* SQLite file [none: nothing survives the process].  Keep its folder from others: who cuts
     * FILE-shm short while it is open kills the process by SIGBUS, and an open() and close() of
     * the file that is not SQLite's, in this process, drops SQLite's locks. */
    const char *database;
    int share_database; /* the file may hold tables of your own, which are left alone [0] */
    int erase; /* 1: what is deleted from the file is overwritten; see bgmq_purge [0] */
    /* Of types that name none [DISK with a database, else MEMORY]. */
    enum bgmq_durability durability;
    unsigned flush_interval_ms;  /* longest a BEHIND change waits for its commit [10] */
    unsigned flush_batch;        /* ... and most changes that wait [4096] */
    unsigned publish_timeout_ms; /* longest a publish waits for the store [30000] */
    unsigned stop_grace_ms;      /* see bgmq_stop [10000] */
    size_t max_body;             /* bytes of one body [1 MiB; at most 64 MiB] */
    size_t
        max_bytes; /* memory for all messages, their cursors and results; publish beyond
                          it: EFULL, once outq has made room [64 MiB] */
    size_t stack_size;          /* of every thread, bytes [1 MiB] */
    unsigned history_keep;      /* rows of history kept, of all types together [100000] */
    int64_t history_max_age_ms; /* ... and how long [0: for ever] */
    unsigned standby_ms; /* waits so long for the owner of the database to go [0] */
    int guests; /* 1: looks 25 to 50 times a second for what other processes publish [0] */
    unsigned
        max_crashes; /* deaths of the process in a message's handler until it is dead [3] */
    unsigned
        boot_breaker; /* deaths within 60 s of opening after which the first bgmq_start
                              does not start [3; 1000: never] */
    unsigned metrics_interval_ms;      /* a line of metrics to LOG, as INFO [0: none] */
    int no_responses;                  /* 1: responses without reply_to go nowhere [0] */
    const char *const *response_types; /* NULL-ended: only these go out [NULL: all] */
    bgmq_log_fn *log;                  /* [NULL: warnings and errors to stderr] */
    void *log_ctx;
};

struct bgmq_type_options {
    unsigned threads;      /* 1..1024 [1] */
    unsigned max_attempts; /* starts, the first included, 1..1000 [5] */
    enum bgmq_backoff backoff;
    unsigned backoff_base_ms; /* [1000] */
    unsigned backoff_max_ms;  /* [300000] */
    bgmq_backoff_fn *backoff_fn;
    const unsigned *backoff_table; /* milliseconds; copied, <= 32 */
    unsigned backoff_table_len;
    unsigned timeout_ms; /* of one attempt: then its cancel flag is set [0: none] */
    unsigned stuck_ms;   /* after that: it is taken for stuck, and replaced [30000] */
    int64_t expire_ms;   /* of messages that say nothing [0: never] */
    int discard_expired; /* 1: what expires is discarded, not dead [0] */
    uint64_t
        max_messages; /* that wait, in memory and database; a publish beyond it waits up to
                              its wait_ms, then EFULL [0: no bound] */
    uint64_t max_bytes; /* of memory for messages of this type, likewise [0: none] */
    unsigned wait_ms;   /* for room, of messages that say nothing [0: EFULL at once] */
    const char
        *channel;    /* serves this channel of the type only [NULL: those without one] */
    int any_channel; /* 1, without CHANNEL: also channels that nobody registered [0] */
    enum bgmq_durability durability;
    unsigned window; /* bodies kept in memory while more wait in the database [1000] */
    unsigned outq_limit;     /* messages kept in outq, fewer when memory is short [100] */
    int no_outq;             /* 1: nothing goes to outq [0] */
    unsigned priority_share; /* starts from priorityq until one is taken from inq [15] */
    enum bgmq_history history;        /* finished messages kept as rows [OFF] */
    int history_body;                 /* ... with their body [0] */
    bgmq_handler_fn *request_filter;  /* before the handler; anything but DONE skips it */
    bgmq_handler_fn *response_filter; /* after a handler that returned DONE */
    /* In place of the rules: RETRY PERMANENT SNOOZE DISCARD.  Not asked about what was given up,
     * expired, was cancelled, or died with its thread or process. */
    bgmq_handler_fn *on_error;
};

struct bgmq_message_options {
    int priority;      /* > 0: priorityq, higher first; 1..32767 [0: inq] */
    int64_t delay_ms;  /* not before this long from now; negative is now; < 100 years */
    int64_t run_at_ms; /* not before this time; at most one of the two */
    int64_t expire_ms; /* no attempt starts later than this: dead, code "expired"; or */
    int64_t expire_at_ms;   /* ... by this time; at most one of the two [the type's] */
    const char *unique_key; /* 1..200 bytes: only one message of the type has it */
    enum bgmq_unique unique;
    int64_t unique_period_ms; /* with BGMQ_UNIQUE_PERIOD */
    enum bgmq_conflict on_conflict;
    const char *channel; /* as a type's name: served by who registered for it [none] */
    unsigned timeout_ms; /* [the type's] */
    unsigned
        wait_ms; /* longest wait for room at a bound [the type's]; never in a handler */
    const char *reply_to;    /* queue that gets the reply */
    uint64_t reply_id;       /* id of the request this answers */
    const char *tag;         /* <= 200 bytes, carried along and copied to the reply */
    const char *traceparent; /* <= 200 bytes, W3C trace context, likewise */
    const char *const
        *meta; /* key, value, key, value, NULL: UTF-8, <= 4 KiB together, likewise */
    unsigned max_attempts; /* [the type's] */
    enum bgmq_durability durability;
    int no_outq;
};

struct bgmq_receipt {
    uint64_t id;                /* of the message; never reused in one database */
    enum bgmq_durability level; /* reached when the call returned */
    int duplicate;     /* 1: nothing was added, ID is the message with the same key */
    uint64_t replaced; /* id of the message this one took the place of; 0: none */
};

/* ---- open, start, stop, close ------------------------------------------------------ */

/* Opens a service, stopped.  Copies OPTIONS, which may be NULL.  With a database: creates or
 * checks the file, becomes its owner, and finds every unfinished message again.  Blocks while
 * it does.  ERROR may be NULL; on failure it says which path and why.
 * With STANDBY_MS it waits so long for another owner to go: that is a stand-by.
 * EOPEN, EUNSAFE, ENOTDB, ENOTOURS, EVERSION, ESCHEMA, ECORRUPT, EOWNED (another process), EEXIST
 * (open in this process already), ETHREAD, ENOMEM. */
BGMQ_API int bgmq_open(struct bgmq **ret, const struct bgmq_options *options,
                       struct bgmq_error *error);

/* Starts the workers of every type, and ends a drain.  No-op when started.  The first call after
 * an open that found the process to have died too often (boot_breaker) starts nothing, logs why,
 * and returns 0: the application boots, and an operator starts the queue.  EBUSY in a handler. */
BGMQ_API int bgmq_start(struct bgmq *mq);

/* Takes no new work, waits up to GRACE_MS (0: stop_grace_ms) for running handlers, then sets
 * their cancel flag and waits as long again.  Messages stay where they are; publishing goes
 * on.  Nothing is killed: EBUSY when handlers still run, their number by bgmq_running().
 * No-op when stopped.  In a handler it only requests the stop: EINPROGRESS. */
BGMQ_API int bgmq_stop(struct bgmq *mq, unsigned grace_ms);

/* Requests a stop and returns at once: 0 when nothing runs any more, else EINPROGRESS.  The
 * cancel flags are set after stop_grace_ms. */
BGMQ_API int bgmq_request_stop(struct bgmq *mq);

/* 1 while started, 0 while not, or an error. */
BGMQ_API int bgmq_started(struct bgmq *mq);
/* Handlers that run now. */
BGMQ_API int bgmq_running(struct bgmq *mq);

/* Finishes everything and takes nothing new: publishing from outside handlers returns EDRAINING
 * until the next bgmq_start.  Waits up to TIMEOUT_MS until nothing waits or runs in any registered
 * type; what is delayed, or in the inbox, stays.  EBUSY: not by then; it goes on.  EINPROGRESS in a
 * handler. */
BGMQ_API int bgmq_drain(struct bgmq *mq, unsigned timeout_ms);

/* Takes no more messages of TYPE; those that run go on.  The others wait, publishing goes on.
 * ENOENT. */
BGMQ_API int bgmq_pause(struct bgmq *mq, const char *type);
BGMQ_API int bgmq_resume(struct bgmq *mq, const char *type);

/* Returns when everything accepted before the call has reached the level of its store. */
BGMQ_API int bgmq_flush(struct bgmq *mq);

/* Stops, writes out everything accepted, ends all threads and releases the database.  Every
 * later call on MQ but bgmq_close and bgmq_free returns ECLOSED.  Twice is harmless.  EDEADLK
 * in a handler.  EBUSY when a handler would not end: the service then stays stopped, and the
 * call may be repeated. */
BGMQ_API int bgmq_close(struct bgmq *mq);

/* Closes and frees MQ; NULL is allowed.  No other call on MQ may be running or follow; not in a
 * handler.  When a handler would not end, waits for it. */
BGMQ_API void bgmq_free(struct bgmq *mq);

/* ---- types ------------------------------------------------------------------------- */

/* Gives the type NAME (1..200 bytes of A-Z a-z 0-9 _ . -) its handler and threads, before or
 * after start and publish; messages that waited for it are handled.  Copies NAME and OPTIONS
 * (NULL: defaults), borrows CTX until bgmq_free.  EEXIST: registered already (the log names it).
 * EINVAL; ETHREAD.
 * A channel is a second row of queues of the same type, with workers of its own: register NAME
 * once for each channel, and once without.  Everywhere else it goes by the name "NAME@CHANNEL", of
 * 200 bytes at most, and a unique key is one of the channel. */
BGMQ_API int bgmq_register(struct bgmq *mq, const char *name, bgmq_handler_fn *handler,
                           void *ctx, const struct bgmq_type_options *options);

/* Changes the number of threads, 1..1024, at once; a surplus worker ends after the message it
 * runs.  ENOENT: not registered.  ETHREAD: unchanged. */
BGMQ_API int bgmq_set_threads(struct bgmq *mq, const char *name, unsigned threads);

/* ---- publishing -------------------------------------------------------------------- */

/* Publishes LEN bytes for TYPE, registered or not.  Copies everything.  OPTIONS and RECEIPT
 * may be NULL; BODY may be NULL only when LEN is 0 and is then refused too: a message has a
 * body, if an empty one ("", 0).  Returns when the message has reached its durability.
 * ETOOBIG; EFULL: a bound is reached, and wait_ms is over; EBUSY or EFULL after
 * publish_timeout_ms; EUNCERTAIN; ESTORE; EEXIST (BGMQ_CONFLICT_REFUSE); EDRAINING.  In a handler
 * it never waits for room. */
BGMQ_API int bgmq_publish(struct bgmq *mq, const char *type, const void *body, size_t len,
                          const struct bgmq_message_options *options,
                          struct bgmq_receipt *receipt);

/* Publishes a JSON body packed by FORMAT and what follows (jansson's json_pack; a member that may
 * be left out, by *, also is when there is no memory for it).  EJSON, ENOMEM, and as above. */
BGMQ_API int bgmq_publish_json(struct bgmq *mq, const char *type,
                               const struct bgmq_message_options *options,
                               struct bgmq_receipt *receipt, const char *format, ...);

struct bgmq_item {
    const char *type;
    const void *body;
    size_t len;
    const struct bgmq_message_options *options; /* may be NULL */
};

/* Publishes N messages in one commit: all are accepted or none.  RECEIPTS (N of them) may be
 * NULL.  Errors as bgmq_publish; it does not wait for room, and takes no on_conflict but KEEP
 * (EINVAL). */
BGMQ_API int bgmq_publish_many(struct bgmq *mq, const struct bgmq_item *items, size_t n,
                               struct bgmq_receipt *receipts);

/* Publishes into a queue by name: mq:T.inq or mq:T.priorityq of a type, or any other name of
 * 1..255 printable bytes, a queue in memory made on first use.  A temporary queue that was
 * dropped takes nothing: ENOENT. EINVAL: a name that begins with "mq:" and is none of these; a
 * custom queue takes no delay and no unique key. */
BGMQ_API int bgmq_publish_to(struct bgmq *mq, const char *queue, const void *body,
                             size_t len, const struct bgmq_message_options *options,
                             struct bgmq_receipt *receipt);

/* ---- inside a handler -------------------------------------------------------------- */

BGMQ_API struct bgmq *bgmq_job_service(struct bgmq_job *job);
BGMQ_API uint64_t bgmq_job_id(const struct bgmq_job *job);
/* Lends the name of the type, until the handler returns; so do all strings below. */
BGMQ_API const char *bgmq_job_type(const struct bgmq_job *job);
/* Lends the bytes of the body; a NUL follows them.  RET_LEN may be NULL. */
BGMQ_API const void *bgmq_job_body(const struct bgmq_job *job, size_t *ret_len);
BGMQ_API unsigned bgmq_job_attempt(const struct bgmq_job *job); /* 1 at the first */
BGMQ_API unsigned bgmq_job_max_attempts(const struct bgmq_job *job);
BGMQ_API int bgmq_job_priority(const struct bgmq_job *job);
BGMQ_API const char *bgmq_job_channel(const struct bgmq_job *job);     /* or NULL */
BGMQ_API const char *bgmq_job_tag(const struct bgmq_job *job);         /* or NULL */
BGMQ_API const char *bgmq_job_traceparent(const struct bgmq_job *job); /* or NULL */
BGMQ_API const char *bgmq_job_reply_to(const struct bgmq_job *job);    /* or NULL */
BGMQ_API const char *bgmq_job_meta(const struct bgmq_job *job,
                                   const char *key); /* or NULL */
/* The error noted so far, for filters and on_error: lends, NULL when there is none. */
BGMQ_API const char *bgmq_job_error_code(const struct bgmq_job *job);
BGMQ_API const char *bgmq_job_error_text(const struct bgmq_job *job);

/* 1 when the handler is asked to end soon: its time is over, the service stops, or somebody
 * cancelled it.  Cheap: ask it in every loop.  What then returns BGMQ_RETRY because of a stop goes
 * back to the front of its queue, and no attempt is used. */
BGMQ_API int bgmq_job_cancelled(const struct bgmq_job *job);
/* Milliseconds until the attempt's time-out, 0 when it is over; INT64_MAX: it has none. */
BGMQ_API int64_t bgmq_job_time_left(const struct bgmq_job *job);

/* Saves LEN bytes, at most 64 KiB, that say how far the work is; every later attempt gets them
 * back by bgmq_job_cursor.  Copies; NULL bytes: none any more.  LEVEL BEHIND (also DEFAULT) waits
 * for nobody and writes only the last of many: call it for each item.  COMMIT and DISK wait, with
 * the errors of bgmq_publish.  A message without a row keeps it in memory.  ELOST: the attempt is
 * over; EFULL: max_bytes is reached; ESTORE, ENOMEM, EINVAL (also: LEVEL MEMORY). */
BGMQ_API int bgmq_job_save_cursor(struct bgmq_job *job, const void *bytes, size_t len,
                                  enum bgmq_durability level);
/* Lends the cursor, a NUL behind it, until it is saved anew; NULL: none was saved. */
BGMQ_API const void *bgmq_job_cursor(const struct bgmq_job *job, size_t *ret_len);
/* A number and a text (NULL: none; cut at 200 bytes) for people, kept as a cursor at BEHIND is.
 * Copies.  EINVAL: the text is not UTF-8. */
BGMQ_API int bgmq_job_progress(struct bgmq_job *job, int64_t number, const char *text);
/* Bytes that are kept in the history, and with the message in outq, when the handler returns
 * DONE; at most 1 MiB.  Copies; a second call replaces the first.  EFULL as above. */
BGMQ_API int bgmq_job_result(struct bgmq_job *job, const void *bytes, size_t len);

/* Unpacks the body as JSON by FORMAT (jansson's json_unpack; strings are lent until the
 * handler returns).  EJSON notes position and reason as the job's error: return it; ENOMEM notes
 * nothing. */
BGMQ_API int bgmq_job_unpack(struct bgmq_job *job, const char *format, ...);
/* Lends the body as JSON, parsed once; EJSON, ENOMEM as above. */
BGMQ_API int bgmq_job_json(struct bgmq_job *job, struct json_t **ret);

/* Notes an error and returns VERDICT, for `return bgmq_job_fail(...)`.  Copies CODE (cut at 64
 * bytes) and the formatted text (cut at 1 KiB); bytes that are no UTF-8 become '?'. */
BGMQ_API int bgmq_job_fail(struct bgmq_job *job, enum bgmq_verdict verdict,
                           const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Runs the message again after DELAY_MS; returns BGMQ_SNOOZE, for `return`.  Without a delay, or
 * with BGMQ_SNOOZE alone, that is at once, and as often as the handler says so. */
BGMQ_API int bgmq_job_snooze(struct bgmq_job *job, int64_t delay_ms);

/* Sets the response, sent when the handler returns DONE: to reply_to, else to the inq of
 * TYPE.  Copies.  A second call replaces the first; a NULL type takes it back. */
BGMQ_API int bgmq_job_respond(struct bgmq_job *job, const char *type, const void *body,
                              size_t len);
/* Gives the reply tag, traceparent and meta of OPTIONS, in place of the request's; what is NULL
 * there stays the request's.  Copies; the rest of OPTIONS is not looked at. */
BGMQ_API int bgmq_job_reply_options(struct bgmq_job *job,
                                    const struct bgmq_message_options *options);
BGMQ_API int bgmq_job_respond_json(struct bgmq_job *job, const char *type,
                                   const char *format, ...);

/* ---- consuming without a handler --------------------------------------------------- */

/* Takes the next message of QUEUE (names as bgmq_publish_to, and mq:T.outq, mq:T.dlq), waiting
 * up to TIMEOUT_MS (0: not at all).  The message is yours until bgmq_ack or bgmq_nak, and
 * unfinished in the database.  Free it before bgmq_free.  ETIMEOUT: nothing came; ECLOSED: closed
 * while it waited. */
BGMQ_API int bgmq_get(struct bgmq *mq, const char *queue, unsigned timeout_ms,
                      struct bgmq_message **ret);
/* Ends a message taken by bgmq_get.  ELOST: settled before. */
BGMQ_API int bgmq_ack(struct bgmq_message *message);
/* Puts it back at the tail of its queue (REQUEUE), or into the dlq.  ELOST: settled before.
 * EINVAL: a custom queue has no dlq. */
BGMQ_API int bgmq_nak(struct bgmq_message *message, int requeue);
/* Frees what bgmq_get or bgmq_request gave; NULL is allowed.  Unsettled: as bgmq_nak(m, 1). */
BGMQ_API void bgmq_message_free(struct bgmq_message *message);

BGMQ_API uint64_t bgmq_message_id(const struct bgmq_message *message);
/* Lends, until bgmq_message_free; so do all strings below.  The type is that of the body; NULL
 * when a custom queue was given one by name only. */
BGMQ_API const char *bgmq_message_type(const struct bgmq_message *message);
BGMQ_API const void *bgmq_message_body(const struct bgmq_message *message,
                                       size_t *ret_len);
BGMQ_API uint64_t bgmq_message_reply_id(const struct bgmq_message *message); /* 0: none */
BGMQ_API const char *bgmq_message_reply_to(const struct bgmq_message *message);
BGMQ_API const char *bgmq_message_tag(const struct bgmq_message *message);
BGMQ_API const char *bgmq_message_traceparent(const struct bgmq_message *message);
BGMQ_API const char *bgmq_message_meta(const struct bgmq_message *message,
                                       const char *key);
BGMQ_API unsigned bgmq_message_attempts(const struct bgmq_message *message);
BGMQ_API int bgmq_message_priority(const struct bgmq_message *message);
BGMQ_API const char *bgmq_message_error_code(const struct bgmq_message *message);
BGMQ_API const char *bgmq_message_error_text(const struct bgmq_message *message);
/* Lends the result its handler kept (outq); NULL: none. */
BGMQ_API const void *bgmq_message_result(const struct bgmq_message *message,
                                         size_t *ret_len);
BGMQ_API int64_t bgmq_message_error_ms(const struct bgmq_message *message); /* 0: none */

/* Called once for each message of a queue, in order; MESSAGE is lent for the call and may not
 * be settled.  Returning nonzero ends the walk. */
typedef int bgmq_peek_fn(void *ctx, const struct bgmq_message *message);
/* Copies up to MAX messages of QUEUE, those in memory, and calls FN for each with no lock
 * held.  Returns the number of calls. */
BGMQ_API int bgmq_peek(struct bgmq *mq, const char *queue, size_t max, bgmq_peek_fn *fn,
                       void *ctx);

/* Writes a new name mq:tmp:{32 hex} to NAME and makes the queue, in memory. */
BGMQ_API int bgmq_temp_queue(struct bgmq *mq, char name[40]);
/* Drops a custom or temporary queue and what is in it.  Getters get ENOENT. */
BGMQ_API int bgmq_drop_queue(struct bgmq *mq, const char *queue);

/* Publishes with a temporary reply queue and waits up to TIMEOUT_MS for the reply, which is
 * yours to free (it needs no ack).  A reply that comes later is dropped and counted.
 * EDEADLK in a handler of the same type.  ETIMEOUT. */
BGMQ_API int bgmq_request(struct bgmq *mq, const char *type, const void *body, size_t len,
                          const struct bgmq_message_options *options, unsigned timeout_ms,
                          struct bgmq_message **ret);

/* ---- inspection -------------------------------------------------------------------- */

/* Counts of one worker, of one type or of all.  Cumulative while the process lives. */
struct bgmq_stats {
    char name[208];             /* the type, or "ALL WORKERS" */
    uint64_t normal_received;   /* attempts taken from inq */
    uint64_t priority_received; /* ... from priorityq */
    uint64_t processed;         /* attempts that ended well */
    uint64_t failed;            /* attempts that failed */
    uint64_t retries;           /* of those, put back to be tried again */
    int64_t last_ms;            /* end of the last attempt; 0: none yet */
};

BGMQ_API int bgmq_total_stats(struct bgmq *mq, struct bgmq_stats *ret);
BGMQ_API int bgmq_type_stats(struct bgmq *mq, const char *type, struct bgmq_stats *ret);
/* Stats of each worker that listens on QUEUE (mq:T.inq), up to MAX; returns their number. */
BGMQ_API int bgmq_workers(struct bgmq *mq, const char *queue, struct bgmq_stats *ret,
                          size_t max);
/* Sums N >= 1 of them: the later last_ms, the first one's name.  EINVAL when N is 0. */
BGMQ_API int bgmq_stats_combine(const struct bgmq_stats *stats, size_t n,
                                struct bgmq_stats *ret);

struct bgmq_collection {
    char name[208];
    int registered; /* 0: parked, no handler yet */
    unsigned threads;
    uint64_t added; /* to inq or priorityq, retries included */
    uint64_t taken; /* by bgmq_get */
    uint64_t outq_added, dlq_added;
    uint64_t inq, priorityq, dlq,
        outq; /* messages there now, those only in the database too */
    uint64_t delayed, running;
    uint64_t suspects;  /* waiting to be run alone: they ran when the process died */
    uint64_t stuck;     /* handlers that were given up, and have not returned */
    int64_t longest_ms; /* for so long the oldest of both has run; 0: nothing runs */
    uint64_t expired;   /* messages that were not started in time, since open */
    uint64_t timeouts;  /* attempts that were given up, since open */
    int paused;
};

BGMQ_API int bgmq_type_collection(struct bgmq *mq, const char *type,
                                  struct bgmq_collection *ret);

struct bgmq_entry {
    char key[216];
    int64_t value;
};
/* The description map of a type: ThreadCount, TotalMessagesAdded, TotalMessagesTaken,
 * TotalOutQMessagesAdded, TotalDlQMessagesAdded, mq:T.inq, mq:T.priorityq, mq:T.dlq, mq:T.outq */
BGMQ_API int bgmq_description_map(struct bgmq *mq, const char *type,
                                  struct bgmq_entry ret[9]);

/* Counts of the service as a whole that no type owns. */
struct bgmq_counters {
    uint64_t replayed;        /* unfinished messages found at open */
    uint64_t replies_dropped; /* their queue is gone or full, or no memory */
    uint64_t lost;            /* outcomes refused, the message was no longer theirs */
    uint64_t commits;         /* transactions of the journal */
    uint64_t journal_waiting; /* changes accepted, not yet committed */
    int store_state;          /* 0: none, 1: good, 2: retrying, 3: failed */
    int breaker;  /* 1: the process died too often, and bgmq_start was not obeyed yet */
    int draining; /* 1: between bgmq_drain and bgmq_start */
    int solo;     /* 1: suspects are run one at a time, nothing else runs */
    uint64_t
        inbox; /* messages taken over from other processes and plain SQL, since open */
    int admin; /* 0: none, 1: serves, 2: one could not start, or cannot answer for now */
    uint64_t
        slow_ms; /* the store is slow: the commit that runs has taken so long, or the last one
                         did, less than a minute ago; 0: none took 100 ms */
};
BGMQ_API int bgmq_service_counters(struct bgmq *mq, struct bgmq_counters *ret);

/* *RET gets a new string to free(): the pages of the admin. */
BGMQ_API int bgmq_status_text(struct bgmq *mq, char **ret);
BGMQ_API int bgmq_status_json(struct bgmq *mq, char **ret);
BGMQ_API int bgmq_stats_text(struct bgmq *mq, char **ret);
BGMQ_API int bgmq_stats_json(struct bgmq *mq, char **ret);
BGMQ_API int bgmq_description_text(struct bgmq *mq, const char *type, char **ret);

#ifdef __cplusplus
}
#endif

#include "bgmq_http.h"
#include "bgmq_operate.h"

#endif
