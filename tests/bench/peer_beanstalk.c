/* peer_beanstalk.c - the durable life cycle on beanstalkd, its protocol by hand: put; reserve,
 * delete.  tests/bench/run starts the server and then this: peer_beanstalk lifecycle
 * name=value... */
#include "life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *answer(struct wire *w, const char *begin)
{
    const char *line = bench_wire_line(w);
    bench_check(line && strncmp(line, begin, strlen(begin)) == 0,
                line ? line : "an answer");
    return line + strlen(begin);
}

static void *open_wire(const char *address, unsigned number, int is_worker)
{
    (void)number;
    (void)is_worker;
    return bench_wire_open(address);
}

static void publish(void *connection, const char *body)
{
    char command[BODY + 64];
    int len = snprintf(command, sizeof(command), "put 0 0 120 %d\r\n%.*s\r\n", BODY, BODY,
                       body);
    bench_wire_send(connection, command, (size_t)len);
    answer(connection, "INSERTED ");
}

static uint64_t work(void *connection)
{
    static const char reserve[] = "reserve\r\n";
    char body[BODY + 2], command[64];
    bench_wire_send(connection, reserve, sizeof(reserve) - 1);
    unsigned long long id = strtoull(answer(connection, "RESERVED "), NULL, 10);
    bench_wire_read(connection, body, sizeof(body));
    uint64_t sum = bench_read(body, BODY);
    int len = snprintf(command, sizeof(command), "delete %llu\r\n", id);
    bench_wire_send(connection, command, (size_t)len);
    answer(connection, "DELETED");
    return sum;
}

int main(int argc, char **argv)
{
    return bench_life(
        argc, argv,
        &(struct life){.connect = open_wire, .publish = publish, .work = work});
}
