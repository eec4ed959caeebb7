#include "primes.h"

size_t primes_factor(uint64_t n, uint64_t factors[64]) {
  size_t count = 0;
  for (uint64_t p = 2; p * p <= n; p += 1 + (p > 2)) {
    for (; n % p == 0; n /= p) factors[count++] = p;
  }
  if (n > 1) factors[count++] = n;
  return count;
}
