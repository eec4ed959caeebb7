#ifndef PRIMES_H
#define PRIMES_H

#include <stddef.h>
#include <stdint.h>

/* Marks 1 at every prime index below `limit`. */
void primes_sieve(uint8_t *marks, size_t limit);

/* Writes the prime factors of n, smallest first; returns how many. 64 always suffice. */
size_t primes_factor(uint64_t n, uint64_t factors[64]);

void primes_print(uint64_t n);

#endif
