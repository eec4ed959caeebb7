#include "primes.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  static uint8_t marks[1000];
  primes_sieve(marks, sizeof marks);
  size_t count = 0;
  for (size_t i = 0; i < sizeof marks; i++) count += marks[i];
  printf("%zu primes below %zu\n", count, sizeof marks);
  for (int i = 1; i < argc; i++) primes_print(strtoull(argv[i], NULL, 10));
  return 0;
}
