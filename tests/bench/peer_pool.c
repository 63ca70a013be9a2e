/* peer_pool.c - the in-memory scenarios on what many programs have written themselves: a
 * list under a mutex, a condition that is signalled for each job.  tests/bench/run starts
 * it: peer_pool SCENARIO name=value... */
#include "drive.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct node {
    struct node *next;
    char body[BODY];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static struct node *head, **tail = &head; /* under lock */

static void work(void *ctx, unsigned number)
{
    (void)ctx;
    (void)number;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (!head)
            pthread_cond_wait(&filled, &lock);
        struct node *node = head;
        head = node->next;
        if (!head)
            tail = &head;
        pthread_mutex_unlock(&lock);
        bench_drive_handle(node->body);
        free(node);
    }
}

static void open_pool(unsigned workers)
{
    bench_workers(workers, work, NULL);
}

static void push(const void *body)
{
    struct node *node = malloc(sizeof(*node));
    bench_check(node != NULL, "malloc");
    node->next = NULL;
    memcpy(node->body, body, BODY);
    pthread_mutex_lock(&lock);
    *tail = node;
    tail = &node->next;
    pthread_cond_signal(&filled);
    pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv)
{
    return bench_drive(argc, argv, &(struct drive){.open = open_pool, .push = push});
}
