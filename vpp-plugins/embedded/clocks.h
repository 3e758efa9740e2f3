/* SPDX-License-Identifier: Apache-2.0 */
/* The processor's clock, and its way to wait a moment. */
#ifndef EMB_CLOCKS_H
#define EMB_CLOCKS_H

#include <stdint.h>

#include "worker.h"

static inline uint64_t
emb_clocks (void)
{
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc ();
#elif defined(__aarch64__)
  uint64_t v;
  __asm__ volatile ("mrs %0, cntvct_el0" : "=r"(v));
  return v;
#else
  return emb_now_ns ();
#endif
}

static inline void
emb_relax (void)
{
#if defined(__x86_64__)
  __builtin_ia32_pause ();
#elif defined(__aarch64__)
  __asm__ volatile ("yield");
#endif
}

#endif /* EMB_CLOCKS_H */
