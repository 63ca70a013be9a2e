/* crc32c.h - the checksum that stands beside every stored body. */
#ifndef BGMQI_CRC32C_H
#define BGMQI_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli) of SIZE bytes; 0 for none.  DATA may be NULL when SIZE is 0. */
uint32_t bgmqi_crc32c(const void *data, size_t size);

/* The same without the instruction of the processor: the reference for tests. */
uint32_t bgmqi_crc32c_portable(const void *data, size_t size);

#endif
