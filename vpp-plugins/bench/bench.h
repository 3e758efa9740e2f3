/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks share: the clock, and numbers at random that are the same in every run. */
#ifndef BENCH_H
#define BENCH_H

#include <time.h>

#include "fp_types.h"

/* Time stamp counter; elsewhere nanoseconds. */
FP_INLINE u64
clocks (void)
{
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc ();
#else
  struct timespec t;
  clock_gettime (CLOCK_MONOTONIC, &t);
  return (u64) t.tv_sec * 1000000000ull + (u64) t.tv_nsec;
#endif
}

FP_INLINE u32
random32 (void)
{
  static u64 seed = 88172645463325252ull;
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return (u32) (seed >> 32);
}

#endif /* BENCH_H */
