#include "primes.h"

#include <inttypes.h>
#include <stdio.h>

void primes_print(uint64_t n) {
  uint64_t factors[64];
  size_t count = primes_factor(n, factors);
  printf("%" PRIu64 " =", n);
  for (size_t i = 0; i < count; i++) printf("%s %" PRIu64, i == 0 ? "" : " *", factors[i]);
  printf("\n");
}
