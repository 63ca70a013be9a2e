/* peer_redis.c - the durable life cycle on Redis lists, by hiredis: LPUSH; BLMOVE to a list of
 * the worker's own, so that nothing is lost with it, then LREM.  tests/bench/run starts the
 * server and then this: peer_redis lifecycle name=value... */
#include "life.h"

#include <hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct connection {
    redisContext *redis;
    char own[32]; /* the list of what this worker runs */
};

static void *open_connection(const char *address, unsigned number, int is_worker)
{
    (void)is_worker;
    struct connection *c = calloc(1, sizeof(*c));
    bench_check(c != NULL, "memory");
    c->redis = redisConnectUnix(address);
    bench_check(c->redis && !c->redis->err, "redisConnectUnix");
    snprintf(c->own, sizeof(c->own), "running:%u", number);
    return c;
}

static redisReply *check(struct connection *c, void *got, int type)
{
    redisReply *reply = got;
    bench_check(reply != NULL, c->redis->errstr);
    bench_check(reply->type == type,
                reply->type == REDIS_REPLY_ERROR ? reply->str : "reply");
    return reply;
}

static void publish(void *connection, const char *body)
{
    struct connection *c = connection;
    void *reply = redisCommand(c->redis, "LPUSH jobs %b", body, (size_t)BODY);
    freeReplyObject(check(c, reply, REDIS_REPLY_INTEGER));
}

static uint64_t work(void *connection)
{
    struct connection *c = connection;
    redisReply *job =
        check(c, redisCommand(c->redis, "BLMOVE jobs %s RIGHT LEFT 0", c->own),
              REDIS_REPLY_STRING);
    bench_check(job->len == BODY, "the body");
    uint64_t sum = bench_read(job->str, BODY);
    redisReply *gone =
        check(c, redisCommand(c->redis, "LREM %s 1 %b", c->own, job->str, (size_t)BODY),
              REDIS_REPLY_INTEGER);
    bench_check(gone->integer == 1, "LREM");
    freeReplyObject(gone);
    freeReplyObject(job);
    return sum;
}

int main(int argc, char **argv)
{
    return bench_life(
        argc, argv,
        &(struct life){.connect = open_connection, .publish = publish, .work = work});
}
