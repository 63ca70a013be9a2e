/* ours_admin.c - the scenarios with the admin's page: the page while jobs run, and a service
 * where nothing happens.  See ours.h. */
#include "ours.h"

#include "life.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TYPES = 10, CLIENTS = 64, LATENCIES = 1 << 20 };

/* One client, who asks for the page again and again, each time by a new connection, as curl
 * does. */
struct client {
    pthread_t thread;
    const char *socket;
    int64_t pause;  /* ns between two requests */
    int64_t *times; /* of the first LATENCIES requests */
    size_t requests;
};
static _Atomic int over;

static void get_status(const char *socket)
{
    static const char request[] = "GET /mq/status HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct wire *w = bench_wire_open(socket);
    bench_wire_send(w, request, sizeof(request) - 1);
    const char *line = bench_wire_line(w);
    bench_check(line && strcmp(line, "HTTP/1.1 200 OK") == 0, line ? line : "an answer");
    bench_check(bench_wire_drain(w) > 100, "the page");
    bench_wire_close(w);
}

static void *ask(void *arg)
{
    struct client *c = arg;
    while (!atomic_load(&over)) {
        int64_t begin = bench_now();
        get_status(c->socket);
        if (c->requests < LATENCIES)
            c->times[c->requests] = bench_now() - begin;
        c->requests++;
        if (c->pause)
            bench_pause(c->pause);
    }
    return NULL;
}

static void start_clients(const struct args *a, struct client *clients, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        clients[i] = (struct client){.socket = bench_text(a, "socket"),
                                     .pause = bench_number(a, "pause") * 1000000,
                                     .times = calloc(LATENCIES, sizeof(int64_t))};
        bench_check(clients[i].times != NULL, "memory");
        bench_check(pthread_create(&clients[i].thread, NULL, ask, &clients[i]) == 0,
                    "pthread_create");
    }
}

static void stop_clients(struct client *clients, size_t n, int64_t begin)
{
    atomic_store(&over, 1);
    size_t requests = 0, noted = 0;
    int64_t *all = calloc(n * LATENCIES, sizeof(*all));
    bench_check(all != NULL, "memory");
    for (size_t i = 0; i < n; i++) {
        pthread_join(clients[i].thread, NULL);
        size_t some = clients[i].requests < LATENCIES ? clients[i].requests : LATENCIES;
        memcpy(all + noted, clients[i].times, some * sizeof(*all));
        noted += some;
        requests += clients[i].requests;
        free(clients[i].times);
    }
    bench_result("requests", (double)requests * 1e9 / (double)(bench_now() - begin));
    bench_check(noted > 0, "at least one request");
    bench_result_times(all, noted);
    free(all);
}

/* N jobs through one of ten types while CLIENTS look at the page; without jobs, for some
 * SECONDS. */
void admin(const struct args *a)
{
    struct bgmq_http *http;
    struct bgmq_error error = {""};
    struct client clients[CLIENTS];
    size_t n = (size_t)bench_number(a, "clients");
    bench_check(n <= CLIENTS, "fewer clients");
    per_thread = (uint64_t)bench_number(a, "n");
    open_service(&in_memory, read_body, NULL, TYPES);
    start_service();
    struct bgmq_http_options options = {.unix_socket = bench_text(a, "socket")};
    bench_check(bgmq_http_start(&http, mq, &options, &error) == 0, error.text);
    start_clients(a, clients, n);
    int64_t begin = bench_now();
    if (per_thread) {
        bench_threads(1, publish_all, NULL);
        bench_tally_wait(per_thread);
        bench_result_rate(per_thread, begin);
    } else {
        bench_pause(bench_number(a, "seconds") * INT64_C(1000000000));
    }
    if (n)
        stop_clients(clients, n, begin);
    bgmq_http_stop(http);
}

/* Seconds of user and system time of this process, as /proc/self/stat has them. */
static double cpu_seconds(void)
{
    char line[1024];
    FILE *f = fopen("/proc/self/stat", "r");
    bench_check(f && fgets(line, sizeof(line), f), "/proc/self/stat");
    fclose(f);
    unsigned long user = 0, system = 0;
    char *rest = strrchr(line, ')');
    bench_check(rest && sscanf(rest + 2,
                               "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                               &user, &system) == 2,
                "/proc/self/stat");
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* How often the threads of this process went to sleep so far. */
static double switches(void)
{
    double sum = 0;
    DIR *dir = opendir("/proc/self/task");
    bench_check(dir != NULL, "/proc/self/task");
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char path[64], line[256];
        snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
        while (f && fgets(line, sizeof(line), f)) {
            unsigned long n;
            if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1)
                sum += (double)n;
        }
        if (f)
            fclose(f);
    }
    closedir(dir);
    return sum;
}

void idle(const struct args *a)
{
    long seconds = bench_number(a, "seconds");
    struct bgmq_http *http;
    struct bgmq_error error = {""};
    struct bgmq_options options = {.database = bench_text(a, "db"),
                                   .guests = (int)bench_number(a, "guests")};
    struct bgmq_type_options type = {.threads = (unsigned)bench_number(a, "workers")};
    open_service(&options, read_body, &type, (unsigned)bench_number(a, "types"));
    start_service();
    bench_check(bgmq_http_start(&http, mq, NULL, &error) == 0, error.text);
    /* One message through all of it, so that everything lazy is done. */
    char body[BODY] = "";
    publish(body);
    bench_tally_wait(1);
    bench_check(bgmq_flush(mq) == 0, "bgmq_flush");
    bench_pause(INT64_C(
        6500000000)); /* the check-point of who is idle comes after five seconds */
    double slept = switches(); /* takes time of its own with many threads: first */
    double cpu = cpu_seconds();
    bench_pause(seconds * INT64_C(1000000000));
    bench_result("cpu", cpu_seconds() - cpu);
    bench_result("wakeups", (switches() - slept - 1) / (double)seconds);
    bgmq_http_stop(http);
}
