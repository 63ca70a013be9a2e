/* fuzz_api.c - sequences of calls, against a model that is an array of messages.
 *
 * The first byte says whether there is a database, and how small the window is; then two or three
 * bytes are a call.  The kit of bgmq_test.h makes one sequence of all, so after each call the model
 * knows what there must be: which messages wait, are delayed, dead or gone, in which order they
 * start, with which attempt. */
#include "files.h"

enum { MOST = 48, ATTEMPTS = 3, KEYS = 4, CALLS_MAX = 120 };

enum state { WAITING, DELAYED, DEAD, GONE };

struct message {
    uint64_t id, pos; /* pos: its place among those that wait */
    int64_t due_ms, expires_ms;
    int priority, key;
    unsigned attempt;
    enum state state;
    bool lasting; /* it has a row */
};

static struct message all[MOST];
static unsigned n;
static uint64_t places;
static int64_t now_ms;
static struct bgmq *mq;
static bool durable, started;
static const uint8_t *in, *in_end;

static unsigned byte(void)
{
    return in < in_end ? *in++ : 0;
}

/* ---- the model ----------------------------------------------------------------------- */

static void enter(struct message *m, int64_t due_ms)
{
    m->due_ms = due_ms;
    m->pos = ++places;
    m->state = due_ms ? DELAYED : WAITING;
}

static struct message *holder_of(int key)
{
    for (unsigned i = 0; key && i < n; i++)
        if (all[i].key == key && (all[i].state == WAITING || all[i].state == DELAYED))
            return &all[i];
    return NULL;
}

static void die(struct message *m)
{
    m->state = DEAD;
    m->key = 0;
}

/* What is due waits, in the order in which it became due; what has expired is dead. */
static void pass_time(void)
{
    for (unsigned i = 0; i < n; i++)
        if (all[i].state <= DELAYED && all[i].expires_ms && all[i].expires_ms <= now_ms)
            die(&all[i]);
    for (;;) {
        struct message *next = NULL;
        for (unsigned i = 0; i < n; i++)
            if (all[i].state == DELAYED && all[i].due_ms <= now_ms &&
                (!next || all[i].due_ms < next->due_ms ||
                 (all[i].due_ms == next->due_ms && all[i].pos < next->pos)))
                next = &all[i];
        if (!next)
            return;
        enter(next, 0);
    }
}

static unsigned count(enum state state)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += all[i].state == state;
    return sum;
}

static struct message *by_id(uint64_t id)
{
    for (unsigned i = 0; i < n; i++)
        if (all[i].id == id)
            return &all[i];
    fprintf(stderr, "no message %llu\n", (unsigned long long)id);
    abort();
}

static struct message *pick(void)
{
    unsigned i = byte();
    return n ? &all[i % n] : NULL;
}

/* ---- calls --------------------------------------------------------------------------- */

static int plan; /* verdict of the next handler */
static struct message *ran;

static int handle(struct bgmq_job *job, void *ctx)
{
    struct message *m = by_id(bgmq_job_id(job));
    (void)ctx;
    CHECK(m->state == WAITING && !ran);
    for (unsigned i = 0; i < n && !durable; i++) /* nobody of its queue was to go first */
        if (all[i].state == WAITING && (all[i].priority > 0) == (m->priority > 0))
            CHECK(all[i].priority != m->priority
                      ? all[i].priority < m->priority
                      : m->priority > 0 || all[i].pos >= m->pos);
    CHECK(bgmq_job_attempt(job) == ++m->attempt);
    CHECK(bgmq_job_priority(job) == m->priority);
    ran = m;
    return plan == BGMQ_SNOOZE ? bgmq_job_snooze(job, 700) : plan;
}

static void settle(struct message *m)
{
    if (plan == BGMQ_SNOOZE) {
        m->attempt--;
        enter(m, now_ms + 700);
    } else if (plan == BGMQ_RETRY && m->attempt < ATTEMPTS) {
        enter(m, now_ms + 500);
    } else if (plan == BGMQ_RETRY || plan == BGMQ_PERMANENT) {
        die(m);
    } else {
        m->state = GONE;
        m->key = 0;
    }
}

static void publish(void)
{
    static const enum bgmq_durability levels[] = {BGMQ_BEHIND, BGMQ_DISK, BGMQ_MEMORY,
                                                  BGMQ_COMMIT};
    unsigned how = byte(), more = byte();
    char key[8];
    if (n == MOST)
        return;
    struct message *m = &all[n];
    *m = (struct message){.priority = how & 1 ? (int)(how >> 6) : 0,
                          .key = how & 2 ? 1 + (int)(how >> 4) % (KEYS - 1) : 0};
    snprintf(key, sizeof(key), "key%d", m->key);
    struct bgmq_message_options o = {
        .priority = m->priority,
        .delay_ms = how & 4 ? 1 + 10 * (more & 63) : 0,
        .expire_ms = how & 8 ? 100 + 10 * (more >> 4) : 0,
        .unique_key = m->key ? key : NULL,
        .durability = durable ? levels[more & 3] : BGMQ_DEFAULT,
    };
    struct bgmq_receipt r;
    struct message *holder = holder_of(m->key);
    CHECK(bgmq_publish(mq, "T", "body", 4, &o, &r) == 0);
    CHECK((r.duplicate != 0) == (holder != NULL));
    if (holder) {
        CHECK(r.id == holder->id);
        return;
    }
    m->id = r.id;
    m->lasting = r.level > BGMQ_MEMORY;
    m->expires_ms = o.expire_ms ? now_ms + o.expire_ms : 0;
    n++;
    enter(m, o.delay_ms ? now_ms + o.delay_ms : 0);
}

static void step(void)
{
    static const int verdicts[] = {BGMQ_DONE, BGMQ_RETRY, BGMQ_SNOOZE, BGMQ_DISCARD,
                                   BGMQ_PERMANENT};
    plan = verdicts[byte() % 5];
    bool waits = started && count(WAITING) > 0;
    CHECK(bgmq_test_step(mq, "T") == waits);
    CHECK((ran != NULL) == waits);
    if (ran)
        settle(ran);
    ran = NULL;
}

static void advance(void)
{
    int64_t ms = 10 * byte();
    now_ms += ms;
    CHECK(bgmq_test_advance(mq, ms) == 0);
    pass_time();
}

static void take(void)
{
    unsigned how = byte();
    struct bgmq_message *h = NULL;
    int err = bgmq_get(mq, how & 4 ? "mq:T.priorityq" : "mq:T.inq", 0, &h);
    CHECK(err == 0 || err == BGMQ_ETIMEOUT);
    if (err)
        return;
    struct message *m = by_id(bgmq_message_id(h));
    CHECK(m->state == WAITING && (m->priority > 0) == !!(how & 4));
    CHECK(bgmq_message_attempts(h) == m->attempt);
    if (how % 4 == 0) {
        CHECK(bgmq_ack(h) == 0);
        CHECK(bgmq_ack(h) == BGMQ_ELOST);
        m->state = GONE;
        m->key = 0;
    } else if (how % 4 == 1) {
        CHECK(bgmq_nak(h, 0) == 0);
        CHECK(bgmq_nak(h, 1) == BGMQ_ELOST);
        die(m);
    } else {
        enter(m, 0);
        if (how % 4 == 2)
            CHECK(bgmq_nak(h, 1) == 0);
    }
    bgmq_message_free(h);
}

static void operate(void)
{
    unsigned how = byte() % 4;
    struct message *m = pick();
    if (!m)
        return;
    struct bgmq_select which = {.id = m->id};
    bool rests = m->state == WAITING || m->state == DELAYED;
    if (how == 0) {
        CHECK(bgmq_cancel(mq, "T", &which, NULL) == (rests ? 1 : BGMQ_ENOENT));
        if (rests)
            die(m);
    } else if (how == 1) {
        bool there = rests || m->state == DEAD;
        CHECK(bgmq_discard(mq, "T", &which) == (there ? 1 : BGMQ_ENOENT));
        if (there)
            m->state = GONE;
        m->key = there ? 0 : m->key;
    } else if (how == 2) {
        CHECK(bgmq_retry(mq, "T", &which) == (m->state == DEAD ? 1 : BGMQ_ENOENT));
        if (m->state != DEAD)
            return;
        m->attempt = 0;
        m->expires_ms = m->expires_ms <= now_ms ? 0 : m->expires_ms;
        enter(m, 0);
    } else {
        struct bgmq_change c = {.set_time = 1, .run_at_ms = now_ms + 10 * byte()};
        CHECK(bgmq_change(mq, "T", m->id, &c) == (rests ? 0 : BGMQ_ENOENT));
        if (rests)
            enter(m, c.run_at_ms > now_ms ? c.run_at_ms : 0);
    }
}

static void open_service(unsigned window)
{
    struct bgmq_options o = {.database = durable ? files_path : NULL,
                             .log = files_ignore};
    struct bgmq_type_options t = {.window = window,
                                  .max_attempts = ATTEMPTS,
                                  .backoff = BGMQ_BACKOFF_FIXED,
                                  .backoff_base_ms = 500};
    CHECK(bgmq_test_open(&mq, &o, now_ms, NULL) == 0);
    CHECK(bgmq_register(mq, "T", handle, NULL, &t) == 0);
    started = true;
}

static void stop_start_or_reopen(unsigned window)
{
    unsigned how = byte();
    if (how % 8 == 0 && durable) {
        bgmq_free(mq);
        for (unsigned i = 0; i < n; i++)
            if (!all[i].lasting)
                all[i].state = GONE;
        open_service(window);
        pass_time();
    } else {
        CHECK((started ? bgmq_stop(mq, 0) : bgmq_start(mq)) == 0);
        started = !started;
    }
}

static void compare(void)
{
    struct bgmq_collection c;
    CHECK(bgmq_test_advance(mq, durable ? 1000 : 0) ==
          0); /* the database looks once a second */
    now_ms += durable ? 1000 : 0;
    pass_time();
    CHECK(bgmq_type_collection(mq, "T", &c) == 0);
    CHECK(c.dlq == count(DEAD) && c.running == 0);
    CHECK(c.inq + c.priorityq + c.delayed == count(WAITING) + count(DELAYED));
    for (unsigned i = 0; i < n; i++) {
        struct bgmq_info info;
        int err = bgmq_find(mq, "T", all[i].id, &info);
        if (all[i].state == GONE)
            CHECK(err == BGMQ_ENOENT || info.state == BGMQ_STATE_DONE);
        else
            CHECK(err == 0 && (info.state == BGMQ_STATE_DEAD) == (all[i].state == DEAD) &&
                  info.attempt == all[i].attempt);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    files_begin();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    in = data;
    in_end = data + size;
    n = 0;
    places = 0;
    now_ms = INT64_C(1900000000000);
    unsigned first = byte(), window = 2 + first / 2 % 16;
    durable = first % 8 == 7;
    files_forget();
    open_service(window);
    int most = durable ? CALLS_MAX / 3 : CALLS_MAX; /* those take longer */
    for (int i = 0; i < most && in < in_end; i++) {
        switch (byte() % 8) {
        case 0:
        case 1:
        case 2:
            publish();
            break;
        case 3:
        case 4:
            step();
            break;
        case 5:
            advance();
            break;
        case 6:
            if (byte() % 2)
                take();
            else
                operate();
            break;
        default:
            stop_start_or_reopen(window);
        }
        if (i % 8 == 7)
            compare();
    }
    compare();
    bgmq_free(mq);
    return 0;
}
