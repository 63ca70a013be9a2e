/* test_message.c - messages, what few of them have, and failures: limits, copies, references. */
#include "message.h"

#include "harness.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "utf8.h"

/* LEN times C and a NUL, lent until the next call with the same SLOT. */
static char *run_of(int slot, char c, size_t len)
{
    static char text[2][8192];
    ck_assert_uint_lt(len, sizeof(text[0]));
    memset(text[slot], c, len);
    text[slot][len] = '\0';
    return text[slot];
}

static struct message_ext *ext_of(const struct bgmq_message_options *o)
{
    struct message_ext *ext = NULL;
    ck_assert_int_eq(bgmqi_message_ext_new(o, NULL, NULL, 0, &ext), 0);
    return ext;
}

static void refused(const struct bgmq_message_options *o)
{
    struct message_ext *ext = (struct message_ext *)(uintptr_t)8;
    ck_assert_int_eq(bgmqi_message_ext_new(o, NULL, NULL, 0, &ext), BGMQ_EINVAL);
    ck_assert_ptr_eq(ext, (struct message_ext *)(uintptr_t)8);
}

/* ---- messages ---------------------------------------------------------------------- */

START_TEST(body_is_copied_and_ended)
{
    char body[] = "he\0lo";
    struct message *m = bgmqi_message_new(body, 5);
    body[0] = 'x';
    ck_assert_mem_eq(m->body, "he\0lo", 6);
    ck_assert_uint_eq(m->len, 5);
    ck_assert_uint_eq(m->id, 0);
    ck_assert_int_eq(m->place, PLACE_NONE);
    ck_assert_int_eq(m->row, ROW_NONE);
    ck_assert_uint_gt(message_cost(m), 5 + offsetof(struct message, body));
    bgmqi_message_unref(m);
}
END_TEST

START_TEST(empty_body_is_a_body)
{
    struct message *m = bgmqi_message_new("", 0);
    ck_assert_uint_eq(m->len, 0);
    ck_assert_str_eq(m->body, "");
    bgmqi_message_unref(m);
    bgmqi_message_unref(NULL);
}
END_TEST

START_TEST(last_reference_frees_all)
{
    struct message *m = bgmqi_message_new("x", 1);
    bgmqi_message_set_ext(m, ext_of(&(struct bgmq_message_options){.tag = "t"}));
    struct failure *f = bgmqi_failure_new("c", "t", 1);
    ck_assert_ptr_null(message_put_failure(m, bgmqi_failure_ref(f)));
    struct budget budget = {.max = 1000};
    struct progress *p = bgmqi_progress_new(&budget);
    ck_assert_ptr_null(message_put_progress(m, bgmqi_progress_ref(p)));
    bgmqi_message_ref(m);
    bgmqi_message_unref(m);
    ck_assert_str_eq(message_ext(m)->tag, "t");
    bgmqi_message_unref(m);
    ck_assert_uint_eq(atomic_load(&f->refs), 1);
    ck_assert_uint_eq(atomic_load(&p->refs), 1);
    bgmqi_failure_unref(f);
    bgmqi_progress_unref(p);
}
END_TEST

static void *ref_and_unref(void *m)
{
    for (int i = 0; i < 20000; i++) {
        bgmqi_message_ref(m);
        bgmqi_message_unref(m);
    }
    bgmqi_message_unref(m);
    return NULL;
}

START_TEST(threads_share_a_message)
{
    struct message *m = bgmqi_message_new("shared", 6);
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        bgmqi_message_ref(m);
    for (int i = 0; i < 3; i++)
        t[i] = harness_thread(ref_and_unref, m);
    bgmqi_message_unref(m);
    for (int i = 0; i < 3; i++)
        harness_join(t[i]);
}
END_TEST

/* ---- the extra --------------------------------------------------------------------- */

/* With malloc's chunks of 16 bytes and more, 100 bytes and 96 of ours are the most. */
START_TEST(waiting_message_costs_its_body_and_96_bytes)
{
    static const char body[100] = "";
    struct message *m = bgmqi_message_new(body, sizeof(body));
    ck_assert_uint_le(offsetof(struct message, body), 83);
    ck_assert_uint_le(message_cost(m), sizeof(body) + 96);
    bgmqi_message_unref(m);
}
END_TEST

START_TEST(plain_message_has_nothing_besides)
{
    struct message *m = bgmqi_message_new("x", 1);
    ck_assert_int_eq(bgmqi_message_set_priority(m, 0), 0);
    ck_assert_int_eq(bgmqi_message_set_due_ms(m, 0), 0);
    bgmqi_message_set_ext(m, NULL);
    message_put_due_ms(m, 0);
    ck_assert_ptr_null(message_put_failure(m, NULL));
    ck_assert_ptr_null(message_put_progress(m, NULL));
    ck_assert_ptr_null(message_extra(m));
    ck_assert_ptr_null(message_ext(m));
    ck_assert_ptr_null(message_unique_key(m));
    ck_assert_ptr_null(message_failure(m));
    ck_assert_ptr_null(message_progress(m));
    ck_assert_int_eq(message_expires_ms(m), 0);
    ck_assert_int_eq(message_due_ms(m), 0);
    bgmqi_message_unref(m);
}
END_TEST

START_TEST(who_has_a_priority_a_time_or_options_has_an_extra)
{
    struct bgmq_message_options o = {.unique_key = "k", .expire_at_ms = 9};
    struct message *m[3];
    for (int i = 0; i < 3; i++)
        m[i] = bgmqi_message_new("x", 1);
    size_t plain = message_cost(m[0]);
    ck_assert_int_eq(bgmqi_message_set_priority(m[0], 7), 0);
    ck_assert_int_eq(bgmqi_message_set_due_ms(m[1], 5), 0);
    bgmqi_message_set_ext(m[2], ext_of(&o));
    ck_assert_int_eq(m[0]->priority, 7);
    ck_assert_int_eq(message_due_ms(m[1]), 5);
    ck_assert_str_eq(message_unique_key(m[2]), "k");
    ck_assert_int_eq(message_expires_ms(m[2]), 9);
    for (int i = 0; i < 3; i++) {
        ck_assert_ptr_nonnull(message_extra(m[i]));
        ck_assert_uint_eq(message_cost(m[i]), plain + bgmqi_message_extra_cost());
        bgmqi_message_unref(m[i]);
    }
}
END_TEST

START_TEST(extra_that_comes_second_is_given_back)
{
    struct message *m = bgmqi_message_new("x", 1);
    struct message_extra *first = bgmqi_message_extra_new();
    ck_assert(bgmqi_message_attach(m, first));
    message_put_due_ms(m, 3);
    ck_assert(!bgmqi_message_attach(m, bgmqi_message_extra_new()));
    ck_assert_int_eq(bgmqi_message_extend(m), 0);
    ck_assert_ptr_eq(message_extra(m), first);
    ck_assert_int_eq(message_due_ms(m), 3);
    bgmqi_message_unref(m);
}
END_TEST

/* A message that others look at, without a lock, while it gets its extra. */
struct looked_at {
    struct message *m;
    _Atomic bool seen_empty;
    bool seen_ext;
    int64_t due_ms;
};

static void *look_until_there(void *arg)
{
    struct looked_at *l = arg;
    while (!message_extra(l->m)) {
        l->seen_ext |= message_ext(l->m) != NULL;
        atomic_store(&l->seen_empty, true);
        sched_yield();
    }
    l->seen_ext |= message_ext(l->m) != NULL;
    l->due_ms = message_due_ms(l->m);
    bgmqi_message_unref(l->m);
    return NULL;
}

START_TEST(extra_is_whole_for_who_looks_without_the_lock)
{
    for (int i = 0; i < 200; i++) {
        struct looked_at l = {.m = bgmqi_message_new("x", 1)};
        bgmqi_message_ref(l.m);
        pthread_t t = harness_thread(look_until_there, &l);
        WAIT_UNTIL(atomic_load(&l.seen_empty));
        struct message_extra *x = bgmqi_message_extra_new();
        x->due_ms = i + 1;
        bgmqi_message_attach(l.m, x);
        bgmqi_message_unref(l.m);
        harness_join(t);
        ck_assert(!l.seen_ext);
        ck_assert_int_eq(l.due_ms, i + 1);
    }
}
END_TEST

/* ---- what most do not have --------------------------------------------------------- */

START_TEST(nothing_to_keep_is_no_ext)
{
    ck_assert_ptr_null(ext_of(NULL));
    struct bgmq_message_options o = {.priority = 3, .delay_ms = 5};
    ck_assert_ptr_null(ext_of(&o));
}
END_TEST

START_TEST(strings_are_copied)
{
    char tag[] = "tag";
    struct bgmq_message_options o = {.reply_to = "mq:R.inq",
                                     .reply_id = 77,
                                     .tag = tag,
                                     .traceparent = "00-ab-cd-01",
                                     .unique_key = "key"};
    struct message_ext *ext = NULL;
    ck_assert_int_eq(bgmqi_message_ext_new(&o, "Type", NULL, 0, &ext), 0);
    tag[0] = 'x';
    ck_assert_str_eq(ext->reply_to, "mq:R.inq");
    ck_assert_uint_eq(ext->reply_id, 77);
    ck_assert_str_eq(ext->tag, "tag");
    ck_assert_str_eq(ext->traceparent, "00-ab-cd-01");
    ck_assert_str_eq(ext->unique_key, "key");
    ck_assert_str_eq(ext->type, "Type");
    ck_assert_ptr_null(ext->meta);
    bgmqi_message_ext_free(ext);
}
END_TEST

START_TEST(reply_id_alone_is_kept)
{
    struct message_ext *ext = ext_of(&(struct bgmq_message_options){.reply_id = 9});
    ck_assert_uint_eq(ext->reply_id, 9);
    ck_assert(!ext->tag && !ext->reply_to && !ext->unique_key && !ext->type);
    bgmqi_message_ext_free(ext);
}
END_TEST

START_TEST(longest_strings_are_taken)
{
    struct bgmq_message_options o = {.reply_to = run_of(0, 'r', 255),
                                     .unique_key = run_of(1, 'u', 200)};
    o.tag = o.traceparent = o.unique_key;
    struct message_ext *ext = ext_of(&o);
    ck_assert_uint_eq(strlen(ext->reply_to), 255);
    ck_assert_uint_eq(strlen(ext->unique_key), 200);
    ck_assert_uint_eq(strlen(ext->tag), 200);
    ck_assert_uint_eq(strlen(ext->traceparent), 200);
    bgmqi_message_ext_free(ext);
}
END_TEST

START_TEST(too_long_or_empty_or_not_utf8_is_refused)
{
    const char *longer = run_of(0, 'u', 201), *no_utf8 = "a\xff";
    refused(&(struct bgmq_message_options){.reply_to = run_of(1, 'r', 256)});
    refused(&(struct bgmq_message_options){.reply_to = ""});
    refused(&(struct bgmq_message_options){.reply_to = no_utf8});
    refused(&(struct bgmq_message_options){.unique_key = longer});
    refused(&(struct bgmq_message_options){.unique_key = ""});
    refused(&(struct bgmq_message_options){.unique_key = no_utf8});
    refused(&(struct bgmq_message_options){.tag = longer});
    refused(&(struct bgmq_message_options){.tag = no_utf8});
    refused(&(struct bgmq_message_options){.traceparent = longer});
    refused(&(struct bgmq_message_options){.traceparent = no_utf8});
}
END_TEST

/* ---- meta -------------------------------------------------------------------------- */

static const char *meta_of(const struct message_ext *ext, const char *key)
{
    struct message *m = bgmqi_message_new("", 0);
    bgmqi_message_set_ext(m, (struct message_ext *)ext);
    const char *value = bgmqi_message_meta(m, key);
    atomic_store(&m->extra, NULL); /* lent */
    bgmqi_message_unref(m);
    return value;
}

START_TEST(meta_is_found_by_key)
{
    static const char *const meta[] = {"a", "1", "empty", "", "\xc3\xa9", "\xe2\x82\xac",
                                       "1", "a", NULL};
    struct message_ext *ext = ext_of(&(struct bgmq_message_options){.meta = meta});
    ck_assert_str_eq(meta_of(ext, "a"), "1");
    ck_assert_str_eq(meta_of(ext, "1"), "a");
    ck_assert_str_eq(meta_of(ext, "empty"), "");
    ck_assert_str_eq(meta_of(ext, "\xc3\xa9"), "\xe2\x82\xac");
    ck_assert_ptr_null(meta_of(ext, ""));
    ck_assert_ptr_null(meta_of(ext, "b"));
    ck_assert_ptr_null(meta_of(ext, NULL));
    ck_assert_ptr_null(meta_of(NULL, "a"));
    bgmqi_message_ext_free(ext);
}
END_TEST

START_TEST(meta_comes_back_from_its_packed_form)
{
    static const char packed[] = "k\0v\0k2\0v2";
    struct message_ext *ext = NULL;
    ck_assert_int_eq(bgmqi_message_ext_new(NULL, NULL, packed, sizeof(packed), &ext), 0);
    ck_assert_uint_eq(ext->meta_len, sizeof(packed));
    ck_assert_str_eq(meta_of(ext, "k2"), "v2");
    bgmqi_message_ext_free(ext);
}
END_TEST

START_TEST(meta_of_four_kibibytes_is_the_most)
{
    const char *fits[] = {"k", run_of(0, 'v', 4093), NULL};
    struct message_ext *ext = ext_of(&(struct bgmq_message_options){.meta = fits});
    ck_assert_uint_eq(ext->meta_len, 4096);
    bgmqi_message_ext_free(ext);
    const char *over[] = {"k", run_of(0, 'v', 4094), NULL};
    refused(&(struct bgmq_message_options){.meta = over});
    const char *sum[] = {"a", run_of(0, 'v', 2048), "b", run_of(1, 'w', 2048), NULL};
    refused(&(struct bgmq_message_options){.meta = sum});
    const char *much[] = {"a", run_of(0, 'v', 8000), NULL};
    refused(&(struct bgmq_message_options){.meta = much});
}
END_TEST

START_TEST(meta_out_of_shape_is_refused)
{
    static const char *const odd[] = {"key", NULL}, *const nameless[] = {"", "v", NULL},
                             *const key[] = {"\xc3", "v", NULL},
                             *const value[] = {"k", "\xed\xa0\x80", NULL};
    refused(&(struct bgmq_message_options){.meta = odd});
    refused(&(struct bgmq_message_options){.meta = nameless});
    refused(&(struct bgmq_message_options){.meta = key});
    refused(&(struct bgmq_message_options){.meta = value});
}
END_TEST

/* ---- failures ---------------------------------------------------------------------- */

START_TEST(failure_keeps_code_text_and_time)
{
    struct failure *f = bgmqi_failure_new("E42", "no \xe2\x82\xac left", 1234);
    ck_assert_str_eq(f->code, "E42");
    ck_assert_str_eq(f->text, "no \xe2\x82\xac left");
    ck_assert_int_eq(f->at_ms, 1234);
    ck_assert_ptr_eq(bgmqi_failure_ref(f), f);
    bgmqi_failure_unref(f);
    bgmqi_failure_unref(f);
    bgmqi_failure_unref(NULL);
    ck_assert_ptr_null(bgmqi_failure_ref(NULL));
}
END_TEST

START_TEST(failure_is_cut_at_its_limits)
{
    struct failure *f = bgmqi_failure_new(run_of(0, 'c', 64), run_of(1, 't', 1024), 0);
    ck_assert_uint_eq(strlen(f->code), 64);
    ck_assert_uint_eq(strlen(f->text), 1024);
    bgmqi_failure_unref(f);
    f = bgmqi_failure_new(run_of(0, 'c', 65), run_of(1, 't', 5000), 0);
    ck_assert_uint_eq(strlen(f->code), 64);
    ck_assert_uint_eq(strlen(f->text), 1024);
    bgmqi_failure_unref(f);
}
END_TEST

/* _i: bytes before a character of four, which is then cut or not. */
START_TEST(failure_is_cut_between_characters)
{
    char *text = run_of(0, 'x', 1300);
    for (size_t at = (size_t)_i; at + 4 < 1300; at += 4)
        memcpy(text + at, "\xf0\x9f\x98\x80", 4);
    struct failure *f = bgmqi_failure_new(text, text, 0);
    size_t left = (64 - (size_t)_i) % 4;
    ck_assert_uint_eq(strlen(f->code), 64 - left);
    ck_assert_uint_eq(strlen(f->text), 1024 - left);
    ck_assert(bgmqi_utf8_valid(f->code, strlen(f->code)));
    ck_assert(bgmqi_utf8_valid(f->text, strlen(f->text)));
    bgmqi_failure_unref(f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("message");
    TCase *message = harness_case(s, "message");
    tcase_add_test(message, body_is_copied_and_ended);
    tcase_add_test(message, empty_body_is_a_body);
    tcase_add_test(message, last_reference_frees_all);
    tcase_add_test(message, threads_share_a_message);
    TCase *extra = harness_case(s, "extra");
    tcase_add_test(extra, waiting_message_costs_its_body_and_96_bytes);
    tcase_add_test(extra, plain_message_has_nothing_besides);
    tcase_add_test(extra, who_has_a_priority_a_time_or_options_has_an_extra);
    tcase_add_test(extra, extra_that_comes_second_is_given_back);
    tcase_add_test(extra, extra_is_whole_for_who_looks_without_the_lock);
    TCase *ext = harness_case(s, "ext");
    tcase_add_test(ext, nothing_to_keep_is_no_ext);
    tcase_add_test(ext, strings_are_copied);
    tcase_add_test(ext, reply_id_alone_is_kept);
    tcase_add_test(ext, longest_strings_are_taken);
    tcase_add_test(ext, too_long_or_empty_or_not_utf8_is_refused);
    TCase *meta = harness_case(s, "meta");
    tcase_add_test(meta, meta_is_found_by_key);
    tcase_add_test(meta, meta_comes_back_from_its_packed_form);
    tcase_add_test(meta, meta_of_four_kibibytes_is_the_most);
    tcase_add_test(meta, meta_out_of_shape_is_refused);
    TCase *failure = harness_case(s, "failure");
    tcase_add_test(failure, failure_keeps_code_text_and_time);
    tcase_add_test(failure, failure_is_cut_at_its_limits);
    tcase_add_loop_test(failure, failure_is_cut_between_characters, 0, 4);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
