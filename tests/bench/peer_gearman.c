/* peer_gearman.c - the durable life cycle on gearmand, its binary protocol by hand: a background
 * job is submitted; the worker grabs it, and says that it is complete.  tests/bench/run starts
 * the server and then this: peer_gearman lifecycle name=value... */
#include "life.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CAN_DO = 1,
    PRE_SLEEP = 4,
    NOOP = 6,
    JOB_CREATED = 8,
    GRAB_JOB = 9,
    NO_JOB = 10,
    JOB_ASSIGN = 11,
    WORK_COMPLETE = 13,
    SUBMIT_JOB_BG = 18,
    LARGEST = 512,
};

struct packet {
    uint32_t type;
    size_t len;
    char data[LARGEST];
};

static void send_packet(struct wire *w, uint32_t type, const void *data, size_t len)
{
    char bytes[12 + LARGEST] = {0, 'R', 'E', 'Q'};
    uint32_t head[2] = {htonl(type), htonl((uint32_t)len)};
    bench_check(len <= LARGEST, "a shorter packet");
    memcpy(bytes + 4, head, sizeof(head));
    if (len > 0)
        memcpy(bytes + 12, data, len);
    bench_wire_send(w, bytes, 12 + len);
}

static void read_packet(struct wire *w, struct packet *ret)
{
    char head[12];
    uint32_t numbers[2];
    bench_wire_read(w, head, sizeof(head));
    memcpy(numbers, head + 4, sizeof(numbers));
    ret->type = ntohl(numbers[0]);
    ret->len = ntohl(numbers[1]);
    bench_check(memcmp(head, "\0RES", 4) == 0 && ret->len <= LARGEST, "gearman's packet");
    bench_wire_read(w, ret->data, ret->len);
}

static void *open_wire(const char *address, unsigned number, int is_worker)
{
    (void)number;
    struct wire *w = bench_wire_open(address);
    if (is_worker)
        send_packet(w, CAN_DO, "bench", 5);
    return w;
}

static void publish(void *connection, const char *body)
{
    /* The queue keeps jobs by function and unique name: each needs a name of its own. */
    static _Atomic unsigned long names;
    char data[LARGEST];
    int len = snprintf(data, sizeof(data), "bench%c%lu%c", 0, ++names, 0);
    memcpy(data + len, body, BODY);
    send_packet(connection, SUBMIT_JOB_BG, data, (size_t)len + BODY);
    struct packet reply;
    read_packet(connection, &reply);
    bench_check(reply.type == JOB_CREATED, "JOB_CREATED");
}

/* Waits until a job is assigned. */
static void grab(struct wire *w, struct packet *job)
{
    send_packet(w, GRAB_JOB, NULL, 0);
    for (;;) {
        read_packet(w, job);
        if (job->type == JOB_ASSIGN)
            return;
        if (job->type == NO_JOB)
            send_packet(w, PRE_SLEEP, NULL, 0);
        else if (job->type == NOOP)
            send_packet(w, GRAB_JOB, NULL, 0);
        else
            bench_check(0, "JOB_ASSIGN");
    }
}

static uint64_t work(void *connection)
{
    struct packet job;
    grab(connection, &job);
    bench_check(job.len > BODY, "the body");
    uint64_t sum = bench_read(job.data + job.len - BODY, BODY);
    char *handle_end = memchr(job.data, 0, job.len);
    bench_check(handle_end != NULL, "the handle");
    /* The handle with its zero, and an empty result.  Nothing answers. */
    send_packet(connection, WORK_COMPLETE, job.data, (size_t)(handle_end + 1 - job.data));
    return sum;
}

int main(int argc, char **argv)
{
    return bench_life(
        argc, argv,
        &(struct life){.connect = open_wire, .publish = publish, .work = work});
}
