/* target.h - what every fuzzer shares: how it says that something is wrong, and what the address
 * sanitizer is asked for. */
#ifndef BGMQ_FUZZ_TARGET_H
#define BGMQ_FUZZ_TARGET_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(expr)                                                                      \
    do {                                                                                 \
        if (!(expr)) {                                                                   \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #expr);                   \
            abort();                                                                     \
        }                                                                                \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);

/* What was freed is kept for a while, but not until the limit of memory. */
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=16";
}

#endif
