/* crc32c.c - CRC-32C, by the instruction of the processor where there is one.
 *
 * Called by the store, on its thread, for each body written or read.  It has no state:
 * the tables are constants, and the choice of the code costs one load and one branch a
 * call.
 *
 * The portable code looks up four bits at a time.  That is slow beside eight tables of
 * 256 words, but it runs only on processors older than the instruction, and it can be
 * read. */
#include "crc32c.h"

#include <string.h>

/* The remainders of the sixteen values of four bits, for the reflected polynomial
 * 82F63B78. */
static const uint32_t nibbles[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
    0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
    0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t bgmqi_crc32c_portable(const void *data, size_t size)
{
    const unsigned char *p = data;
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        crc = (crc >> 4) ^ nibbles[crc & 15];
        crc = (crc >> 4) ^ nibbles[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t by_instruction(const void *data,
                                                                 size_t size)
{
    const unsigned char *p = data;
    uint64_t crc = 0xffffffff;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof(word));
        crc = __builtin_ia32_crc32di(crc, word);
    }
    uint32_t rest = (uint32_t)crc;
    for (; size > 0; size--, p++)
        rest = __builtin_ia32_crc32qi(rest, *p);
    return ~rest;
}

uint32_t bgmqi_crc32c(const void *data, size_t size)
{
    if (__builtin_cpu_supports("sse4.2"))
        return by_instruction(data, size);
    return bgmqi_crc32c_portable(data, size);
}

#else

uint32_t bgmqi_crc32c(const void *data, size_t size)
{
    return bgmqi_crc32c_portable(data, size);
}

#endif
