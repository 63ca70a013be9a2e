/* cargo.c - bodies that say what they are.  Called by any thread; keeps nothing, and knows
 * nothing of the library. */
#include "cargo.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t cargo_hash(const char *text)
{
    uint64_t state = 1;
    for (const char *p = text; *p; p++)
        state = state * 1099511628211u + (unsigned char)*p;
    return next_random(&state);
}

size_t cargo_make(const char *key, char body[CARGO_MAX])
{
    uint64_t state = cargo_hash(key);
    size_t len = (size_t)snprintf(body, KEY_SIZE + 1, "%s|", key);
    size_t more = next_random(&state) % 4 ? 50 : next_random(&state) % (CARGO_MAX - 100);
    for (size_t i = 0; i < more; i++)
        body[len++] = (char)next_random(&state);
    return len;
}

int cargo_read(const char *body, size_t len, char key[KEY_SIZE])
{
    const char *bar = len ? memchr(body, '|', len < KEY_SIZE ? len : KEY_SIZE) : NULL;
    snprintf(key, KEY_SIZE, "%.*s", bar ? (int)(bar - body) : 0, body);
    char want[CARGO_MAX];
    size_t want_len = cargo_make(key, want);
    return bar && len == want_len && !memcmp(body, want, len);
}
