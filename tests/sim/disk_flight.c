/* disk_flight.c - the flight file of the simulated world: what it says outlives the process
 * (see disk.h and flight.h). */
#include "disk.h"
#include "flight.h"

#include <stdlib.h>

enum { RINGS = 64, SLOTS = RINGS * FLIGHT_RING };

struct flight {
    uint64_t number;
    struct flight_bell bell;
    struct flight_slot slots[SLOTS];
    struct flight_ring rings[RINGS];
};

static struct flight flight;

int __wrap_bgmqi_flight_open(struct flight **ret, const char *path,
                             struct flight_log *log, struct bgmq_error *error);
void __wrap_bgmqi_flight_log_fini(struct flight_log *log);
void __wrap_bgmqi_flight_clear(struct flight *f);
void __wrap_bgmqi_flight_free(struct flight *f);
struct flight_bell *__wrap_bgmqi_flight_bell(struct flight *f);
struct flight_ring *__wrap_bgmqi_flight_take(struct flight *f);
void __wrap_bgmqi_flight_release(struct flight *f, struct flight_ring *ring);

void disk_flight_format(void)
{
    flight = (struct flight){.number = 1};
}

int __wrap_bgmqi_flight_open(struct flight **ret, const char *path,
                             struct flight_log *log, struct bgmq_error *error)
{
    *log = (struct flight_log){.ids = malloc(SLOTS * sizeof(*log->ids)),
                               .attempts = malloc(SLOTS * sizeof(*log->attempts)),
                               .running = malloc(SLOTS),
                               .number = flight.number};
    for (unsigned i = 0; i < SLOTS; i++) {
        struct flight_slot *s = &flight.slots[i];
        if (!s->id)
            continue;
        log->ids[log->n] = s->id;
        log->attempts[log->n] = s->attempt;
        log->running[log->n++] = s->state != FLIGHT_ENDED;
    }
    for (unsigned i = 0; i < RINGS; i++)
        flight.rings[i] = (struct flight_ring){.slots = flight.slots + i * FLIGHT_RING};
    *ret = &flight;
    return 0;
}

void __wrap_bgmqi_flight_log_fini(struct flight_log *log)
{
    free(log->ids);
    free(log->attempts);
    free(log->running);
}

void __wrap_bgmqi_flight_clear(struct flight *f)
{
    for (unsigned i = 0; i < SLOTS; i++)
        flight_end(&f->slots[i]);
    f->number++;
}

void __wrap_bgmqi_flight_free(struct flight *f)
{
    (void)f;
}

struct flight_bell *__wrap_bgmqi_flight_bell(struct flight *f)
{
    return &f->bell;
}

struct flight_ring *__wrap_bgmqi_flight_take(struct flight *f)
{
    for (unsigned i = 0; f && i < RINGS; i++)
        if (!f->rings[i].taken) {
            f->rings[i].taken = true;
            return &f->rings[i];
        }
    return NULL;
}

void __wrap_bgmqi_flight_release(struct flight *f, struct flight_ring *ring)
{
    (void)f;
    if (ring)
        ring->taken = false;
}
