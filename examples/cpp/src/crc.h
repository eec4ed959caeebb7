#ifndef TEXTSTAT_CRC_H
#define TEXTSTAT_CRC_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32 as in IEEE 802.3, bit by bit. */
uint32_t textstat_crc32(const void *bytes, size_t size);

#endif
