/* cargo.h - what the processes that are killed share: bodies that say what they are, random
 * numbers, the time. */
#ifndef BGMQ_TEST_CARGO_H
#define BGMQ_TEST_CARGO_H

#include "oracle.h"

#include <stddef.h>
#include <stdint.h>

enum { CARGO_MAX = 3000 };

/* Milliseconds since 1970. */
int64_t wall_ms(void);
/* The next number of a sequence; STATE may begin anywhere. */
uint64_t next_random(uint64_t *state);
/* A number that follows from TEXT. */
uint64_t cargo_hash(const char *text);
/* Writes the body of KEY: the key, a bar, and bytes that follow from the key.  Returns its
 * length. */
size_t cargo_make(const char *key, char body[CARGO_MAX]);
/* Writes to KEY what the LEN bytes of BODY say they are; 0 when that is not what was published. */
int cargo_read(const char *body, size_t len, char key[KEY_SIZE]);

#endif
