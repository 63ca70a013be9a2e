/* peer_postgres.c - the durable life cycle on PostgreSQL, by libpq: INSERT; a transaction that
 * deletes the first row that nobody else has locked (SKIP LOCKED), around the handler.
 * tests/bench/run starts the server and then this: peer_postgres lifecycle name=value... */
#include "life.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t made = PTHREAD_ONCE_INIT;
static PGconn *maker; /* for make_table only */

static PGresult *check(PGconn *c, PGresult *got, ExecStatusType status)
{
    bench_check(PQresultStatus(got) == status, PQerrorMessage(c));
    return got;
}

static void run(PGconn *c, const char *sql)
{
    PQclear(check(c, PQexec(c, sql), PGRES_COMMAND_OK));
}

static void make_table(void)
{
    run(maker, "CREATE TABLE job(id bigserial PRIMARY KEY, body bytea NOT NULL)");
}

/* ADDRESS is the folder of the socket. */
static void *open_connection(const char *address, unsigned number, int is_worker)
{
    (void)number;
    (void)is_worker;
    const char *const keys[] = {"host", "dbname", "user", NULL};
    const char *const values[] = {address, "postgres", "bench", NULL};
    PGconn *c = PQconnectdbParams(keys, values, 0);
    bench_check(c && PQstatus(c) == CONNECTION_OK, c ? PQerrorMessage(c) : "libpq");
    maker = c;
    pthread_once(&made, make_table);
    PQclear(check(c, PQprepare(c, "put", "INSERT INTO job(body) VALUES($1)", 1, NULL),
                  PGRES_COMMAND_OK));
    PQclear(check(c,
                  PQprepare(c, "take",
                            "DELETE FROM job WHERE id = (SELECT id FROM job ORDER BY id"
                            " FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING body",
                            0, NULL),
                  PGRES_COMMAND_OK));
    return c;
}

static void publish(void *connection, const char *body)
{
    const int len = BODY, binary = 1;
    PGresult *r = PQexecPrepared(connection, "put", 1, &body, &len, &binary, 1);
    PQclear(check(connection, r, PGRES_COMMAND_OK));
}

static uint64_t work(void *connection)
{
    for (;;) {
        run(connection, "BEGIN");
        PGresult *r = PQexecPrepared(connection, "take", 0, NULL, NULL, NULL, 1);
        check(connection, r, PGRES_TUPLES_OK);
        if (PQntuples(r) == 1) {
            bench_check(PQgetlength(r, 0, 0) == BODY, "the body");
            uint64_t sum = bench_read(PQgetvalue(r, 0, 0), BODY);
            PQclear(r);
            run(connection, "COMMIT");
            return sum;
        }
        PQclear(r);
        run(connection, "COMMIT");
        bench_pause(500000); /* it polls, as such queues do */
    }
}

int main(int argc, char **argv)
{
    return bench_life(
        argc, argv,
        &(struct life){.connect = open_connection, .publish = publish, .work = work});
}
