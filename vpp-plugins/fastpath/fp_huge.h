/* SPDX-License-Identifier: Apache-2.0 */
/* Process memory that the packet path reads at random: on 2 MiB pages where the kernel gives them. Advice only, nothing depends on it. */
#ifndef FP_HUGE_H
#define FP_HUGE_H

#include <stdlib.h>
#include <sys/mman.h>

#include "fp_types.h"

#define FP_HUGE_PAGE 0x200000ull

/* The whole 2 MiB pages of some memory that has not been touched yet. */
FP_INLINE void
fp_huge_advise (void *memory, size_t bytes)
{
  uintptr_t from = ((uintptr_t) memory + FP_HUGE_PAGE - 1) & ~(uintptr_t) (FP_HUGE_PAGE - 1);
  uintptr_t to = ((uintptr_t) memory + bytes) & ~(uintptr_t) (FP_HUGE_PAGE - 1);
  if (from < to)
    madvise ((void *) from, to - from, MADV_HUGEPAGE);
}

/* n zeroed elements, for free (), or NULL. */
FP_INLINE void *
fp_huge_calloc (size_t n, size_t size)
{
  void *memory = calloc (n, size);
  if (memory)
    fp_huge_advise (memory, n * size);
  return memory;
}

/* Zeroed memory for munmap (), reserved but not taken before it is touched, or NULL. If large it begins on a 2 MiB page. */
FP_INLINE void *
fp_huge_map (size_t bytes)
{
  const int access = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  size_t spare = bytes < FP_HUGE_PAGE ? 0 : FP_HUGE_PAGE, whole = (bytes + 4095) & ~(size_t) 4095, skip;
  u8 *hole = mmap (NULL, whole + spare, access, flags, -1, 0);
  if (hole == MAP_FAILED)
    return NULL;
  if (!spare)
    return hole;
  skip = -(uintptr_t) hole & (FP_HUGE_PAGE - 1);
  if (skip)
    munmap (hole, skip);
  if (skip < spare)
    munmap (hole + skip + whole, spare - skip);
  fp_huge_advise (hole + skip, bytes);
  return hole + skip;
}

#endif /* FP_HUGE_H */
