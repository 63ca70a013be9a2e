/* flow.h - what the flow tests share: a service with or without a database, a handler
 * that writes down what it saw and answers as told, and short words for what each test
 * does.
 *
 * Black box: only bgmq.h is used of the library.  Loop tests get 0 (memory) or 1
 * (database) in _i and pass it to flow_open(). */
#ifndef BGMQ_TEST_FLOW_H
#define BGMQ_TEST_FLOW_H

#include "../harness/harness.h"

/* 1 when the program runs under a sanitizer, which has threads, memory and locks of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FLOW_CHECKED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FLOW_CHECKED 1
#endif
#endif
#ifndef FLOW_CHECKED
#define FLOW_CHECKED 0
#endif

/* Fails the test unless CALL returns 0, or the error named. */
#define OK(call)         flow_check((call), BGMQ_OK, #call, __FILE__, __LINE__)
#define FAILS(err, call) flow_check((call), (err), #call, __FILE__, __LINE__)
void flow_check(int got, int want, const char *call, const char *file, int line);

/* A case of SUITE that looks for leaks, with patience for slow checkers. */
TCase *flow_case(Suite *suite, const char *name);
/* Adds TEST twice: in memory (_i is 0) and with a database (1). */
#define flow_add_both(tc, test) tcase_add_loop_test((tc), test, 0, 2)

/* Option structs by the fields that matter: TYPE(.threads = 2). */
#define SERVICE(...) ((struct bgmq_options){__VA_ARGS__})
#define TYPE(...)    ((struct bgmq_type_options){__VA_ARGS__})
#define MESSAGE(...) ((struct bgmq_message_options){__VA_ARGS__})

/* ---- a service ------------------------------------------------------------------ */

/* Opens a service, stopped, with the database of this test when DURABLE. */
struct bgmq *flow_open(int durable);
/* Likewise, with OPTIONS; its database is set when DURABLE. */
struct bgmq *flow_open_with(int durable, struct bgmq_options options);
/* Path of the database of this test. */
const char *flow_database(void);
/* Closes and frees; each step has to succeed. */
void flow_close(struct bgmq *mq);
/* Value of a query that yields one number, on the database of this test, read-only. */
long flow_sql(const char *sql);
/* Rows of unfinished messages in the closed database of this test. */
long flow_rows(void);

/* Milliseconds to wait for what has to come. */
unsigned flow_patience(void);

/* ---- messages ------------------------------------------------------------------- */

/* Publishes the bytes of TEXT; has to succeed.  Returns the id. */
uint64_t flow_publish(struct bgmq *mq, const char *type, const char *text);
uint64_t flow_publish_with(struct bgmq *mq, const char *type, const char *text,
                           struct bgmq_message_options options);
/* Publishes "0", "1", ... N - 1. */
void flow_publish_numbers(struct bgmq *mq, const char *type, int n);

/* Waits for the next message of QUEUE and takes it. */
struct bgmq_message *flow_take(struct bgmq *mq, const char *queue);
/* Takes the next message of QUEUE, whose body has to be TEXT, and ends it.  Returns its
 * id. */
uint64_t flow_expect(struct bgmq *mq, const char *queue, const char *text);
void flow_expect_body(const struct bgmq_message *m, const char *text);
/* Ends M and frees it. */
void flow_done(struct bgmq_message *m);
/* Nothing is in QUEUE. */
#define flow_expect_empty(mq, queue) flow_empty_at((mq), (queue), __FILE__, __LINE__)
void flow_empty_at(struct bgmq *mq, const char *queue, const char *file, int line);
/* Writes the bodies of QUEUE, in order, with a space after each, to RET. */
char *flow_bodies(struct bgmq *mq, const char *queue, char *ret, size_t size);

struct bgmq_stats flow_stats(struct bgmq *mq, const char *type);
struct bgmq_collection flow_collection(struct bgmq *mq, const char *type);
struct bgmq_counters flow_counters(struct bgmq *mq);
/* Waits until N attempts of TYPE have ended. */
void flow_wait_ended(struct bgmq *mq, const char *type, uint64_t n);

/* ---- a handler that writes down ------------------------------------------------- */

struct call {
    uint64_t id;
    unsigned attempt;
    int priority;
    size_t len;
    char body[64]; /* cut, with a NUL */
};

struct recorder {
    /* set before registering */
    unsigned failures; /* so many first attempts end with FAILURE */
    int failure;
    int verdict;      /* of all others */
    const char *code; /* what a failure notes; NULL: nothing */
    const char *text;
    const char *response; /* type of the response: "re:" and the body; NULL: none */
    struct gate *gate;    /* each call waits here, when not NULL */
    /* written by the handler */
    struct counter begun;
    pthread_mutex_t lock;
    struct call *calls;
    size_t n, cap;
    int now, most; /* handlers at once */
};

void recorder_init(struct recorder *r);
void recorder_fini(struct recorder *r);
bgmq_handler_fn recorder_handler;
/* A copy of the call numbered I from 0, which has to have been made. */
struct call recorder_call(struct recorder *r, size_t i);
/* Writes the bodies of all calls, in order, with a space after each, to RET. */
char *recorder_bodies(struct recorder *r, char *ret, size_t size);

/* Registers TYPE for R. */
void flow_register(struct bgmq *mq, const char *type, struct recorder *r);
void flow_register_with(struct bgmq *mq, const char *type, struct recorder *r,
                        struct bgmq_type_options options);

#endif
