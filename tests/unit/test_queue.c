/* test_queue.c - the list and the pairing heap: order, removal from the middle, walks; and
 * random work on both, compared with a plain array. */
#include "queue.h"

#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "retry.h"

enum { MANY = 400, STEPS = 20000 };

static struct message *made(uint64_t id)
{
    struct message *m = bgmqi_message_new("", 0);
    ck_assert_ptr_nonnull(m);
    ck_assert_int_eq(bgmqi_message_extend(m), 0); /* heaps need it */
    m->id = id;
    return m;
}

static bool by_due(const struct message *a, const struct message *b)
{
    int64_t x = message_due_ms(a), y = message_due_ms(b);
    return x != y ? x < y : a->id < b->id;
}

static struct message *due(uint64_t id, int64_t ms)
{
    struct message *m = made(id);
    message_put_due_ms(m, ms);
    return m;
}

/* Where a random test starts: printed, and taken from the environment to repeat a run. */
static uint64_t random_start(void)
{
    const char *given = getenv("BGMQ_TEST_SEED");
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)t.tv_nsec;
    dprintf(STDOUT_FILENO, "# BGMQ_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* ---- list -------------------------------------------------------------------------- */

static void expect_list(const struct queue *q, const char *ids)
{
    char forth[256] = "", back[256] = "";
    size_t n = 0;
    for (const struct message *m = q->head; m; m = m->next, n++)
        snprintf(forth + strlen(forth), 8, "%llu ", (unsigned long long)m->id);
    for (const struct message *m = q->tail; m; m = m->prev) {
        char rest[256];
        memcpy(rest, back, sizeof(rest));
        snprintf(back, sizeof(back), "%llu %.200s", (unsigned long long)m->id, rest);
    }
    ck_assert_str_eq(forth, ids);
    ck_assert_str_eq(back, ids);
    ck_assert_uint_eq(q->len, n);
}

START_TEST(list_gives_what_came_first)
{
    struct queue q = {.len = 0};
    ck_assert_ptr_null(bgmqi_queue_pop(&q));
    for (uint64_t id = 1; id <= 3; id++)
        bgmqi_queue_push(&q, made(id));
    expect_list(&q, "1 2 3 ");
    for (uint64_t id = 1; id <= 3; id++) {
        struct message *m = bgmqi_queue_pop(&q);
        ck_assert_uint_eq(m->id, id);
        ck_assert(!m->next && !m->prev);
        bgmqi_message_unref(m);
    }
    ck_assert_ptr_null(bgmqi_queue_pop(&q));
    expect_list(&q, "");
}
END_TEST

START_TEST(list_takes_at_the_front)
{
    struct queue q = {.len = 0};
    bgmqi_queue_push_front(&q, made(2));
    bgmqi_queue_push_front(&q, made(1));
    bgmqi_queue_push(&q, made(3));
    expect_list(&q, "1 2 3 ");
    bgmqi_queue_clear(&q);
    expect_list(&q, "");
}
END_TEST

/* _i: which of the four goes first. */
START_TEST(list_loses_any_of_its_messages)
{
    static const char *const rest[] = {"2 3 4 ", "1 3 4 ", "1 2 4 ", "1 2 3 "};
    struct queue q = {.len = 0};
    struct message *m[4];
    for (uint64_t i = 0; i < 4; i++)
        bgmqi_queue_push(&q, m[i] = made(i + 1));
    bgmqi_queue_remove(&q, m[_i]);
    expect_list(&q, rest[_i]);
    bgmqi_queue_push(&q, m[_i]);
    ck_assert_ptr_eq(q.tail, m[_i]);
    while (q.len)
        bgmqi_message_unref(bgmqi_queue_pop(&q));
    ck_assert(!q.head && !q.tail);
}
END_TEST

START_TEST(list_clear_gives_back_its_references)
{
    struct queue q = {.len = 0};
    struct message *m = made(7);
    bgmqi_message_ref(m);
    bgmqi_queue_push(&q, m);
    bgmqi_queue_clear(&q);
    ck_assert_uint_eq(atomic_load(&m->refs), 1);
    bgmqi_message_unref(m);
}
END_TEST

/* ---- heap -------------------------------------------------------------------------- */

START_TEST(heap_gives_the_least)
{
    static const int64_t times[] = {50, 10, 40, 10, 30, 20};
    static const uint64_t order[] = {1, 3, 5, 4, 2, 0};
    struct heap h = {.less = by_due};
    ck_assert_ptr_null(bgmqi_heap_pop(&h));
    for (uint64_t i = 0; i < 6; i++)
        bgmqi_heap_push(&h, due(i, times[i]));
    ck_assert_uint_eq(h.len, 6);
    for (int i = 0; i < 6; i++) {
        ck_assert_ptr_eq(h.top, bgmqi_heap_walk(&h, NULL));
        struct message *m = bgmqi_heap_pop(&h);
        ck_assert_uint_eq(m->id, order[i]);
        ck_assert(!m->next && !m->prev && !message_extra(m)->child);
        bgmqi_message_unref(m);
    }
    ck_assert(!h.top && h.len == 0);
}
END_TEST

/* _i: the message that goes, in a heap that a pop has given some depth. */
START_TEST(heap_loses_any_of_its_messages)
{
    struct heap h = {.less = by_due};
    struct message *m[17];
    for (uint64_t i = 0; i < 17; i++)
        bgmqi_heap_push(&h, m[i] = due(i, (int64_t)(i * 7 % 17)));
    ck_assert_ptr_eq(bgmqi_heap_pop(&h), m[0]);
    bgmqi_heap_remove(&h, m[_i]);
    ck_assert(!m[_i]->next && !m[_i]->prev && !message_extra(m[_i])->child);
    ck_assert_uint_eq(h.len, 15);
    int64_t last = -1;
    for (struct message *got; (got = bgmqi_heap_pop(&h)) != NULL;) {
        ck_assert_ptr_ne(got, m[_i]);
        ck_assert_int_gt(message_due_ms(got), last);
        last = message_due_ms(got);
        bgmqi_message_unref(got);
    }
    bgmqi_message_unref(m[_i]);
    bgmqi_message_unref(m[0]);
}
END_TEST

/* 200,000 pushed in order make a heap as deep and as wide as they can; nothing may recurse. */
START_TEST(heap_bears_long_rows)
{
    struct heap h = {.less = by_due};
    for (uint64_t i = 0; i < 200000; i++)
        bgmqi_heap_push(&h, due(i, _i ? (int64_t)i : -(int64_t)i));
    size_t seen = 0;
    for (struct message *m = NULL; (m = bgmqi_heap_walk(&h, m)) != NULL;)
        seen++;
    ck_assert_uint_eq(seen, h.len);
    ck_assert_uint_eq(h.top->id, _i ? 0 : 199999);
    bgmqi_heap_clear(&h);
    ck_assert(!h.top && h.len == 0);
}
END_TEST

START_TEST(heap_clear_gives_back_its_references)
{
    struct heap h = {.less = by_due};
    struct message *m = due(1, 1);
    bgmqi_message_ref(m);
    bgmqi_heap_push(&h, m);
    bgmqi_heap_clear(&h);
    ck_assert_uint_eq(atomic_load(&m->refs), 1);
    bgmqi_message_unref(m);
}
END_TEST

/* ---- random work, compared with an array ------------------------------------------- */

struct model {
    struct message *in[MANY];
    size_t n;
    uint64_t random;
};

static size_t roll(struct model *w, size_t n)
{
    return (size_t)(bgmqi_random_next(&w->random) % n);
}

static void model_remove(struct model *w, size_t i)
{
    memmove(w->in + i, w->in + i + 1, (--w->n - i) * sizeof(w->in[0]));
}

static size_t model_least(const struct model *w)
{
    size_t least = 0;
    for (size_t i = 1; i < w->n; i++)
        if (by_due(w->in[i], w->in[least]))
            least = i;
    return least;
}

/* A walk meets each message once: those of the model, no other. */
static void check_walk(const struct model *w, const struct heap *h)
{
    for (size_t i = 0; i < w->n; i++)
        w->in[i]->flags = 0;
    size_t met = 0;
    for (struct message *m = NULL; (m = bgmqi_heap_walk(h, m)) != NULL; met++) {
        ck_assert_uint_eq(m->flags, 0);
        m->flags = 1;
    }
    ck_assert_uint_eq(met, w->n);
    for (size_t i = 0; i < w->n; i++)
        ck_assert_uint_eq(w->in[i]->flags, 1);
}

static void heap_step(struct model *w, struct heap *h, uint64_t id)
{
    /* Tides: it fills for a thousand steps, and empties for the next. */
    size_t what = roll(w, 10), push = id / 1000 % 2 ? 3 : 6;
    if (what < push && w->n < MANY) {
        struct message *m = due(id, (int64_t)roll(w, 50));
        bgmqi_heap_push(h, m);
        w->in[w->n++] = m;
    } else if (what < 8 && w->n) {
        size_t i = model_least(w);
        ck_assert_ptr_eq(bgmqi_heap_pop(h), w->in[i]);
        bgmqi_message_unref(w->in[i]);
        model_remove(w, i);
    } else if (w->n) {
        size_t i = roll(w, w->n);
        bgmqi_heap_remove(h, w->in[i]);
        bgmqi_message_unref(w->in[i]);
        model_remove(w, i);
    }
    ck_assert_uint_eq(h->len, w->n);
    ck_assert_ptr_eq(h->top, w->n ? w->in[model_least(w)] : NULL);
}

START_TEST(heap_does_as_an_array_does)
{
    struct heap h = {.less = by_due};
    struct model w = {.random = random_start()};
    for (uint64_t id = 0; id < STEPS; id++) {
        heap_step(&w, &h, id);
        if (id % 16 == 0)
            check_walk(&w, &h);
    }
    bgmqi_heap_clear(&h);
}
END_TEST

static void list_step(struct model *w, struct queue *q, uint64_t id)
{
    size_t what = roll(w, 10), push = id / 1000 % 2 ? 4 : 6;
    if (what < push && w->n < MANY) {
        struct message *m = made(id);
        bool front = roll(w, 2);
        (front ? bgmqi_queue_push_front : bgmqi_queue_push)(q, m);
        memmove(w->in + front, w->in, w->n++ * sizeof(w->in[0]));
        w->in[front ? 0 : w->n - 1] = m;
    } else if (what < 8) {
        struct message *m = bgmqi_queue_pop(q);
        ck_assert_ptr_eq(m, w->n ? w->in[0] : NULL);
        bgmqi_message_unref(m);
        if (w->n)
            model_remove(w, 0);
    } else if (w->n) {
        size_t i = roll(w, w->n);
        bgmqi_queue_remove(q, w->in[i]);
        bgmqi_message_unref(w->in[i]);
        model_remove(w, i);
    }
    ck_assert_uint_eq(q->len, w->n);
    ck_assert_ptr_eq(q->head, w->n ? w->in[0] : NULL);
    ck_assert_ptr_eq(q->tail, w->n ? w->in[w->n - 1] : NULL);
}

START_TEST(list_does_as_an_array_does)
{
    struct queue q = {.len = 0};
    struct model w = {.random = random_start()};
    for (uint64_t id = 0; id < STEPS; id++) {
        list_step(&w, &q, id);
        size_t i = 0;
        if (id % 16 == 0)
            for (struct message *m = q.head; m; m = m->next)
                ck_assert_ptr_eq(m, w.in[i++]);
    }
    bgmqi_queue_clear(&q);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("queue");
    TCase *list = harness_case(s, "list");
    tcase_add_test(list, list_gives_what_came_first);
    tcase_add_test(list, list_takes_at_the_front);
    tcase_add_loop_test(list, list_loses_any_of_its_messages, 0, 4);
    tcase_add_test(list, list_clear_gives_back_its_references);
    tcase_add_test(list, list_does_as_an_array_does);
    TCase *heap = harness_case(s, "heap");
    tcase_add_test(heap, heap_gives_the_least);
    tcase_add_loop_test(heap, heap_loses_any_of_its_messages, 1, 17);
    tcase_add_loop_test(heap, heap_bears_long_rows, 0, 2);
    tcase_add_test(heap, heap_clear_gives_back_its_references);
    tcase_add_test(heap, heap_does_as_an_array_does);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
