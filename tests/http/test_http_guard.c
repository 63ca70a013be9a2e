/* test_http_guard.c - the rules on requests as functions of their headers, for what no
 * client can bring over the wire of a test: other machines, other users, NUL bytes. */
#include "http_guard.h"

#include "admin.h"
#include "http_config.h"

#include <bgmq.h>
#include <check.h>
#include <string.h>

#define TOKEN "0123456789abcdef"

static struct http_config plain;
static char token_text[] = TOKEN;
static struct http_config with_token = {.token = token_text,
                                        .token_len = sizeof TOKEN - 1};

/* A head of these lines: name, value, name, value, NULL. */
static struct http_head head_of(const char *const *lines)
{
    struct http_head head = {0};
    for (; *lines; lines += 2)
        bgmqi_http_guard_add(&head, lines[0], lines[1], strlen(lines[1]));
    return head;
}

#define HEAD(...) head_of((const char *const[]){__VA_ARGS__, NULL})

static unsigned message(const struct http_head *head, enum http_peer peer, int any_host)
{
    struct http_verdict v = bgmqi_http_guard_message(&plain, head, peer, any_host);
    ck_assert_int_eq(v.status != 0, v.text != NULL);
    return v.status;
}

static unsigned change(const struct http_config *config, const struct http_head *head,
                       enum http_peer peer)
{
    return bgmqi_http_guard_change(config, head, peer).status;
}

START_TEST(names_of_headers_have_no_case)
{
    struct http_head head = HEAD("hOsT", "localhost", "ORIGIN", "x", "cookie", "y");
    ck_assert_str_eq(head.host, "localhost");
    ck_assert_str_eq(head.origin, "x");
    ck_assert_int_eq(head.cookie, 1);
}
END_TEST

/* M7. */
START_TEST(nul_in_a_value_is_400)
{
    struct http_head head = {0};
    bgmqi_http_guard_add(&head, "Host", "localhost\0.evil", 15);
    ck_assert_uint_eq(message(&head, PEER_LOCAL, 0), 400);
    ck_assert_uint_eq(message(&head, PEER_LOCAL, 1), 400);
}
END_TEST

START_TEST(framing_holds_for_any_host_too)
{
    struct http_head twice = HEAD("Host", "a", "Host", "a");
    struct http_head coded = HEAD("Host", "a", "Transfer-Encoding", "chunked");
    struct http_head large = HEAD("Host", "a", "Content-Length", "4097");
    struct http_head fits = HEAD("Host", "a", "Content-Length", "0004096");
    ck_assert_uint_eq(message(&twice, PEER_LOCAL, 1), 400);
    ck_assert_uint_eq(message(&coded, PEER_LOCAL, 1), 400);
    ck_assert_uint_eq(message(&large, PEER_LOCAL, 1), 413);
    ck_assert_uint_eq(message(&fits, PEER_LOCAL, 1), 0);
}
END_TEST

START_TEST(lengths_are_digits)
{
    static const char *const lengths[] = {"",    " ",   "+5",  "-1", "5 ",
                                          "0x5", "5,5", "1e3", "5.0"};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct http_head head = HEAD("Host", "localhost", "Content-Length", lengths[i]);
        ck_assert_uint_eq(message(&head, PEER_LOCAL, 0), 400);
    }
    struct http_head head = HEAD("Host", "localhost", "Content-Length",
                                 "340282366920938463463374607431768211457");
    ck_assert_uint_eq(message(&head, PEER_LOCAL, 0), 413);
}
END_TEST

START_TEST(another_user_gets_nothing)
{
    struct http_head head = HEAD("Host", "localhost");
    ck_assert_uint_eq(message(&head, PEER_STRANGER, 0), 403);
    ck_assert_uint_eq(message(&head, PEER_STRANGER, 1), 403);
    ck_assert_uint_eq(change(&plain, &head, PEER_STRANGER), 403);
}
END_TEST

START_TEST(other_machines_need_a_token)
{
    struct http_head bare = HEAD("Host", "localhost");
    struct http_head right = HEAD("Host", "localhost", "Authorization", "Bearer " TOKEN);
    ck_assert_uint_eq(change(&plain, &bare, PEER_REMOTE), 403);
    ck_assert_uint_eq(change(&plain, &right, PEER_REMOTE), 403);
    ck_assert_uint_eq(change(&with_token, &bare, PEER_REMOTE), 401);
    ck_assert_uint_eq(change(&with_token, &right, PEER_REMOTE), 0);
    ck_assert_uint_eq(bgmqi_http_guard_reading(&plain, &bare, PEER_REMOTE).status, 403);
    ck_assert_uint_eq(bgmqi_http_guard_reading(&with_token, &bare, PEER_REMOTE).status,
                      401);
    ck_assert_uint_eq(bgmqi_http_guard_reading(&with_token, &right, PEER_REMOTE).status,
                      0);
    ck_assert_uint_eq(bgmqi_http_guard_reading(&plain, &bare, PEER_LOCAL).status, 0);
}
END_TEST

/* H12. */
START_TEST(each_byte_of_the_token_counts)
{
    for (size_t i = 0; i < sizeof TOKEN - 1; i++) {
        char value[] = "Bearer " TOKEN;
        value[7 + i] ^= 1;
        struct http_head head = HEAD("Host", "localhost", "Authorization", value);
        ck_assert_uint_eq(change(&with_token, &head, PEER_LOCAL), 401);
    }
}
END_TEST

/* H12. */
START_TEST(each_length_of_the_token_counts)
{
    for (size_t len = 0; len < 3 * (sizeof TOKEN - 1); len++) {
        char value[128] = "Bearer ";
        for (size_t i = 0; i < len; i++)
            value[7 + i] = TOKEN[i % (sizeof TOKEN - 1)];
        struct http_head head = HEAD("Host", "localhost", "Authorization", value);
        ck_assert_uint_eq(change(&with_token, &head, PEER_LOCAL),
                          len == sizeof TOKEN - 1 ? 0 : 401);
    }
}
END_TEST

START_TEST(origin_has_to_be_the_host)
{
    static const struct {
        const char *host, *origin;
        unsigned status;
    } cases[] = {
        {"localhost:81", "http://localhost:81", 0},
        {"Localhost:81", "https://localhost:81", 0},
        {"localhost:81", "http://localhost", 403},
        {"localhost", "http://localhost:81", 403},
        {"localhost", "http://localhost/", 403},
        {"localhost", "http://localhost.evil", 403},
        {"localhost", "localhost", 403},
        {"localhost", "null", 403},
        {"null", "null", 403},
        {"localhost", "", 403},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_head head = HEAD("Host", cases[i].host, "Origin", cases[i].origin,
                                     "Authorization", "Bearer " TOKEN);
        ck_assert_uint_eq(change(&with_token, &head, PEER_LOCAL), cases[i].status);
        ck_assert_uint_eq(change(&plain, &head, PEER_LOCAL), 403);
    }
}
END_TEST

START_TEST(one_mark_of_several_is_enough)
{
    struct http_head agents = HEAD("User-Agent", "Mozilla/5.0", "User-Agent", "curl");
    struct http_head sites =
        HEAD("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Site", "none");
    struct http_head none = HEAD("User-Agent", "curl", "Sec-Fetch-Site", "NONE");
    ck_assert_uint_eq(change(&plain, &agents, PEER_LOCAL), 403);
    ck_assert_uint_eq(change(&plain, &sites, PEER_LOCAL), 403);
    ck_assert_uint_eq(change(&plain, &none, PEER_LOCAL), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("http_guard");
    TCase *tc = harness_case(s, "guard");
    tcase_add_test(tc, names_of_headers_have_no_case);
    tcase_add_test(tc, nul_in_a_value_is_400);
    tcase_add_test(tc, framing_holds_for_any_host_too);
    tcase_add_test(tc, lengths_are_digits);
    tcase_add_test(tc, another_user_gets_nothing);
    tcase_add_test(tc, other_machines_need_a_token);
    tcase_add_test(tc, each_byte_of_the_token_counts);
    tcase_add_test(tc, each_length_of_the_token_counts);
    tcase_add_test(tc, origin_has_to_be_the_host);
    tcase_add_test(tc, one_mark_of_several_is_enough);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
