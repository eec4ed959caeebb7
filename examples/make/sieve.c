#include "primes.h"

#include <string.h>

void primes_sieve(uint8_t *marks, size_t limit) {
  memset(marks, 1, limit);
  for (size_t i = 0; i < limit && i < 2; i++) marks[i] = 0;
  for (size_t p = 2; p * p < limit; p++) {
    if (!marks[p]) continue;
    for (size_t multiple = p * p; multiple < limit; multiple += p) marks[multiple] = 0;
  }
}
