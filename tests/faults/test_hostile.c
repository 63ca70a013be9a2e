/* test_hostile.c - clients that want the admin to fall or the queue to be slow: the right answer
 * to each, memory that does not grow, an admin within reach, and work that goes on.
 *
 * Who attacks in numbers is a process of its own, made before there are threads.  It is slow and
 * not busy: what is measured is what the library loses to it, and not the processor. */
#include "../http/admin.h"

#include <bgmq.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOST "Host: localhost\r\n"

static const int64_t MS = 1000000;

static struct admin admin;

static void setup(void)
{
    admin_start(&admin, NULL, NULL);
    ck_assert_int_eq(bgmq_start(admin.mq), 0);
}

static void teardown(void)
{
    admin_stop(&admin);
}

/* ---- requests beyond all measure --------------------------------------------------- */

/* HEAD, then N times UNIT, then END; free() it. */
static char *many(const char *head, const char *unit, size_t n, const char *end)
{
    size_t len = strlen(unit);
    char *text = malloc(strlen(head) + n * len + strlen(end) + 1);
    ck_assert_ptr_nonnull(text);
    char *p = stpcpy(text, head);
    for (size_t i = 0; i < n; i++, p += len)
        memcpy(p, unit, len);
    strcpy(p, end);
    return text;
}

static const struct {
    int status;
    const char *head, *unit;
    size_t n;
    const char *end;
} monsters[] = {
    {431, "GET /mq/stop HTTP/1.1\r\n" HOST "X: ", "x", 64 * 1024, "\r\n\r\n"},
    {431, "GET /mq/stop HTTP/1.1\r\n" HOST, "x", 64 * 1024, ": y\r\n\r\n"},
    {431, "GET /mq/stop HTTP/1.1\r\n" HOST, "X: y\r\n", 3000, "\r\n"},
    {431, "GET /mq/stop HTTP/1.1\r\n" HOST, "Host: a\r\n", 3000, "\r\n"},
    {431, "GET /mq/stop HTTP/1.1\r\n" HOST "X: y\r\n", " fold\r\n", 5000, "\r\n"},
    {414, "GET /mq/stop?", "a", 60 * 1024, " HTTP/1.1\r\n" HOST "\r\n"},
    {414, "GET ", "/mq/stop", 8 * 1024, " HTTP/1.1\r\n" HOST "\r\n"},
    {400, "POST /mq/stop HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
     "1\r\nx\r\n", 100000, "0\r\n\r\n"},
    {400, "POST /mq/stop HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", "f", 16,
     "\r\nx"},
    {400, "POST /mq/stop HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0", ";a=b",
     20000, "\r\n\r\n"},
    {413, "POST /mq/stop HTTP/1.1\r\n" HOST "Content-Length: 9000000\r\n\r\n", "x",
     9000000, ""},
    {200, "GET /mq/status HTTP/1.1\r\n" HOST "\r\n",
     "GET /mq/stop HTTP/1.1\r\n" HOST "\r\n", 10000, ""},
    {404, "GET / HTTP/1.1\r\n" HOST "\r\n", "POST /mq/stop HTTP/1.1\r\n" HOST "\r\n",
     10000, ""},
};

/* H8, H9.  The answer may be lost on its way, when so much follows the request that the kernel
 * resets the connection; but there is no other answer, and nothing was stopped. */
START_TEST(monsters_are_answered)
{
    struct reply r;
    char *text =
        many(monsters[_i].head, monsters[_i].unit, monsters[_i].n, monsters[_i].end);
    int answered = 0;
    for (int i = 0; i < (harness_full() ? 50 : 5); i++) {
        client_raw(admin.port, text, &r);
        ck_assert_msg(r.status == monsters[_i].status || r.total == 0, "%d", r.status);
        answered += r.status != 0;
        ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", ""), 200);
    }
    free(text);
    ck_assert_int_gt(answered, 0);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

/* Sends the first LEN bytes of TEXT and leaves, with a reset when HARD. */
static void leave_at(const char *text, size_t len, int hard)
{
    struct linger linger = {.l_onoff = 1};
    int fd = client_connect(admin.port);
    client_send(fd, text, len);
    if (hard)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

static const char *const unfinished[] = {
    "GET /mq/stop HTTP/1.1\r\n" HOST,
    "GET /mq/status HTTP/1.1\r\n" HOST "\r\n",
    "POST /mq/stop HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\n12345678",
    "POST /mq/stop HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
};

/* H17, P12.  SIGPIPE and all other signals keep their default here: one would end the test. */
START_TEST(gone_at_each_byte)
{
    const char *text = unfinished[_i];
    for (int hard = 0; hard < 2; hard++)
        for (size_t len = 0; len <= strlen(text); len++)
            leave_at(text, len, hard);
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", ""), 200);
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
}
END_TEST

/* ---- the attackers ----------------------------------------------------------------- */

/* What each of them sends first; then a byte a second, until it is thrown out and comes again. */
static const char *const openings[] = {
    "",
    "GET /mq/status HTTP/1.1\r\n" HOST "X-Slow: ",
    "POST /mq/start HTTP/1.1\r\n" HOST "Content-Length: 4000\r\n\r\n",
    "POST /mq/start HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
};
enum { OPENINGS = sizeof openings / sizeof openings[0], CROWD_MAX = 1000, ROUND_MS = 20 };

struct crowd {
    pid_t pid;
    int control;
};

struct attacker {
    int fd;   /* -1: out */
    int said; /* 1: its opening */
};

static void enter(struct attacker *a, unsigned port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    a->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    a->said = 0;
    if (a->fd >= 0)
        connect(a->fd, (struct sockaddr *)&addr, sizeof addr);
}

static void get_out(struct attacker *a)
{
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
}

/* One turn of one attacker. */
static void trouble(struct attacker *a, size_t i, unsigned port)
{
    char answer[512];
    if (a->fd < 0)
        enter(a, port);
    const char *text = a->said ? "a" : openings[i % OPENINGS];
    ssize_t n = *text ? send(a->fd, text, strlen(text), MSG_NOSIGNAL) : 0;
    a->said |= n > 0;
    int out = n < 0 && errno != EAGAIN && errno != ENOTCONN;
    n = recv(a->fd, answer, sizeof answer, 0);
    if (out || n == 0 || (n < 0 && errno != EAGAIN && errno != ENOTCONN))
        get_out(a);
}

/* The process of N attackers.  Is told a port to attack or 0 to leave, answers with a byte, and
 * ends with the other end of CONTROL. */
static void attack(int control, size_t n)
{
    static struct attacker all[CROWD_MAX];
    unsigned port = 0;
    size_t next = 0, turn = n * ROUND_MS / 1000 + 1;
    for (size_t i = 0; i < n; i++)
        all[i].fd = -1;
    for (;;) {
        struct pollfd p = {.fd = control, .events = POLLIN};
        if (poll(&p, 1, port ? ROUND_MS : -1) == 1) {
            if (read(control, &port, sizeof port) != sizeof port)
                _exit(0);
            for (size_t i = 0; i < n; i++)
                port ? trouble(&all[i], i, port) : get_out(&all[i]);
            if (write(control, "", 1) != 1)
                _exit(1);
        }
        for (size_t i = 0; port && i < turn; i++, next = (next + 1) % n)
            trouble(&all[next], next, port);
    }
}

static void crowd_begin(struct crowd *c, size_t n)
{
    int ends[2];
    struct rlimit room;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &room), 0);
    ck_assert_uint_ge(room.rlim_max, CROWD_MAX + 100);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    c->pid = fork();
    ck_assert_int_ge(c->pid, 0);
    if (c->pid == 0) {
        close(ends[0]);
        room.rlim_cur = room.rlim_max;
        setrlimit(RLIMIT_NOFILE, &room);
        attack(ends[1], n);
    }
    close(ends[1]);
    c->control = ends[0];
}

/* The crowd goes for PORT, or leaves it alone: 0. */
static void crowd_tell(const struct crowd *c, unsigned port)
{
    char told;
    ck_assert_int_eq(write(c->control, &port, sizeof port), (ssize_t)sizeof port);
    ck_assert_int_eq(read(c->control, &told, 1), 1);
}

static void crowd_end(struct crowd *c)
{
    int status;
    close(c->control);
    ck_assert_int_eq(waitpid(c->pid, &status, 0), c->pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static size_t crowd_size(void)
{
    return harness_full() ? CROWD_MAX : 200;
}

/* ---- within reach ------------------------------------------------------------------ */

/* Milliseconds to the answer of one request. */
static long reach_ms(void)
{
    int64_t start = harness_now();
    ck_assert_int_eq(client_status(admin.port, "GET", "/mq/status", ""), 200);
    return (long)((harness_now() - start) / MS);
}

/* H10, H11.  The client's own patience is the deadline. */
START_TEST(admin_stays_within_reach)
{
    struct crowd crowd;
    long worst = 0;
    crowd_begin(&crowd, crowd_size());
    setup();
    reach_ms();
    long before = harness_resident_bytes();
    crowd_tell(&crowd, admin.port);
    for (int i = 0; i < (harness_full() ? 5 : 3); i++) {
        long took = reach_ms();
        worst = took > worst ? took : worst;
    }
    long growth = (harness_resident_bytes() - before) / 1024;
    ck_assert_int_eq(bgmq_started(admin.mq), 1);
    crowd_end(&crowd);
    reach_ms();
    teardown();
    harness_figure("reach_ms", worst);
    if (!HARNESS_ASAN && !HARNESS_TSAN) {
        harness_figure("growth_kib", growth);
        ck_assert_int_lt(growth, 8 * 1024);
    }
}
END_TEST

/* ---- guesses ----------------------------------------------------------------------- */

#define TOKEN "a-token-that-is-never-guessed"
enum { GUESSERS = 8 };

/* A process that guesses as fast as it is answered, from when it reads the port on. */
static pid_t guesser_begin(int from)
{
    static const char text[] =
        "POST /mq/start HTTP/1.1\r\n" HOST
        "Authorization: Bearer a-token-that-is-never-guesseD\r\n\r\n";
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid != 0)
        return pid;
    unsigned port;
    char answer[1024];
    if (read(from, &port, sizeof port) != sizeof port)
        _exit(1);
    for (struct attacker a;; get_out(&a)) {
        enter(&a, port);
        struct pollfd p = {.fd = a.fd, .events = POLLOUT};
        poll(&p, 1, -1);
        send(a.fd, text, sizeof text - 1, MSG_NOSIGNAL);
        p.events = POLLIN;
        poll(&p, 1, -1);
        while (recv(a.fd, answer, sizeof answer, 0) > 0)
            ;
    }
}

/* H13. */
START_TEST(guesses_shut_nobody_out)
{
    static struct harness_log log;
    struct bgmq_options options = {.log = harness_log_keep, .log_ctx = &log};
    struct bgmq_http_options http = {.token = TOKEN};
    pid_t guessers[GUESSERS];
    struct reply r;
    int port[2];
    ck_assert_int_eq(pipe(port), 0);
    for (int i = 0; i < GUESSERS; i++)
        guessers[i] = guesser_begin(port[0]);
    harness_log_init(&log);
    ck_assert_int_eq(bgmq_open(&admin.mq, &options, NULL), 0);
    ck_assert_int_eq(bgmq_http_start(&admin.http, admin.mq, &http, NULL), 0);
    admin.port = bgmq_http_port(admin.http);
    int64_t start = harness_now();
    for (int i = 0; i < GUESSERS; i++)
        ck_assert_int_eq(write(port[1], &admin.port, sizeof admin.port),
                         (ssize_t)sizeof admin.port);
    for (int i = 0; i < (harness_full() ? 2000 : 50); i++) {
        const char *path = i % 2 ? "/mq/stop" : "/mq/start";
        client_request(admin.port, "POST", path, "Authorization: Bearer " TOKEN "\r\n",
                       &r);
        ck_assert_int_eq(r.status, 200);
        ck_assert_int_eq(bgmq_started(admin.mq), i % 2 == 0);
    }
    long seconds = (long)((harness_now() - start) / (1000 * MS));
    for (int i = 0; i < GUESSERS; i++) {
        kill(guessers[i], SIGKILL);
        waitpid(guessers[i], NULL, 0);
    }
    ck_assert_int_ge(harness_log_count(&log, BGMQ_LOG_WARNING), 1);
    ck_assert_int_le(harness_log_count(&log, BGMQ_LOG_WARNING), seconds + 2);
    teardown();
    harness_log_fini(&log);
    close(port[0]);
    close(port[1]);
}
END_TEST

/* ---- work goes on ------------------------------------------------------------------ */

static struct counter done;

/* Each message puts the next one in. */
static int pass_on(struct bgmq_job *job, void *ctx)
{
    (void)job;
    (void)ctx;
    counter_add(&done, 1);
    bgmq_publish(admin.mq, "Work", "x", 1, NULL, NULL);
    return BGMQ_DONE;
}

/* Messages that end within MS milliseconds. */
static long work(int ms)
{
    long before = counter_value(&done);
    int64_t start = harness_now();
    poll(NULL, 0, ms); /* the time that is measured */
    long n = counter_value(&done) - before;
    return (long)(n * 1000 * MS / (harness_now() - start));
}

static int compare(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

enum { PAIRS = 15 };

static long attacked_work(const struct crowd *crowd, int ms)
{
    crowd_tell(crowd, admin.port);
    long n = work(ms);
    crowd_tell(crowd, 0);
    reach_ms(); /* all that the crowd left behind is away */
    return n;
}

/* Windows with attackers and without take turns, now these first and now those, so that what else
 * the machine does falls on both; the figure is the median of the pairs. */
START_TEST(work_goes_on)
{
    struct crowd crowd;
    long percent[PAIRS];
    int pairs = harness_full() ? PAIRS : 1, ms = harness_full() ? 700 : 100;
    counter_init(&done);
    crowd_begin(&crowd, crowd_size());
    setup();
    ck_assert_int_eq(bgmq_register(admin.mq, "Work", pass_on, NULL,
                                   &(struct bgmq_type_options){.threads = 2}),
                     0);
    for (int i = 0; i < 16; i++)
        ck_assert_int_eq(bgmq_publish(admin.mq, "Work", "x", 1, NULL, NULL), 0);
    counter_wait(&done, 1000);
    for (int i = 0; i < pairs; i++) {
        long first = i % 2 ? attacked_work(&crowd, ms) : work(ms);
        long second = i % 2 ? work(ms) : attacked_work(&crowd, ms);
        long calm = i % 2 ? second : first, attacked = i % 2 ? first : second;
        ck_assert_int_gt(calm, 0);
        ck_assert_int_gt(attacked, 0);
        percent[i] = attacked * 100 / calm;
    }
    crowd_end(&crowd);
    qsort(percent, (size_t)pairs, sizeof percent[0], compare);
    harness_figure("throughput_percent", percent[pairs / 2]);
    teardown();
    counter_fini(&done);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hostile");
    TCase *tc = harness_case(s, "requests");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, monsters_are_answered, 0,
                        sizeof monsters / sizeof monsters[0]);
    tcase_add_loop_test(tc, gone_at_each_byte, 0,
                        sizeof unfinished / sizeof unfinished[0]);
    tc = harness_case(s, "crowd");
    tcase_add_test(tc, admin_stays_within_reach);
    tcase_add_test(tc, work_goes_on);
    tcase_add_test(tc, guesses_shut_nobody_out);
    return s;
}

int main(void)
{
    return harness_run(suite());
}
