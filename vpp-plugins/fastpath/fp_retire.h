/* SPDX-License-Identifier: Apache-2.0 */
/* When a slot or an array that was unpublished may be used again: after every thread has passed a quiescent point.
 *
 * Who takes something out of the index reads `era` with fetch_add, after the erasing store, and tags it with the result.
 * A thread at a quiescent point (it holds no slot, no pointer, no set) copies `era` to its `seen`. Something tagged e is free when
 * every `seen` is >= e: a thread whose seen has reached e has read era after the fetch_add, so it also sees the erasing store
 * and cannot find the thing again; what it read before lies before its store of seen, which the reclaimer acquires.
 * A thread that waits for work sets seen to FP_ASLEEP and counts as quiescent. Waking is an exchange and then a load of era, both seq_cst:
 * a reclaimer that still read FP_ASLEEP did so before the exchange in the total order, hence its fetch_add comes before the load,
 * and the woken thread sees the erasing store. Nobody ever waits. */
#ifndef FP_RETIRE_H
#define FP_RETIRE_H

#include "fp_types.h"

#define FP_ASLEEP (~0ull)

typedef struct
{
  _Atomic u64 era FP_ALIGNED;
  struct
  {
    _Atomic u64 seen FP_ALIGNED;
  } thread[FP_MAX_WORKERS + 1]; /* the last one is the control thread's */
} fp_quiescence_t;

FP_INLINE void
fp_quiescence_init (fp_quiescence_t *q)
{
  atomic_store_explicit (&q->era, 1, memory_order_relaxed);
  for (u32 i = 0; i <= FP_MAX_WORKERS; i++)
    atomic_store_explicit (&q->thread[i].seen, FP_ASLEEP, memory_order_relaxed);
}

FP_ALWAYS_INLINE void
fp_quiescent (fp_quiescence_t *q, u32 thread)
{
  u64 era = atomic_load_explicit (&q->era, memory_order_acquire);
  if (atomic_load_explicit (&q->thread[thread].seen, memory_order_relaxed) != era)
    atomic_store_explicit (&q->thread[thread].seen, era, memory_order_release);
}

FP_INLINE void
fp_quiescence_sleep (fp_quiescence_t *q, u32 thread)
{
  atomic_store_explicit (&q->thread[thread].seen, FP_ASLEEP, memory_order_release);
}

FP_INLINE void
fp_quiescence_wake (fp_quiescence_t *q, u32 thread)
{
  atomic_exchange_explicit (&q->thread[thread].seen, 0, memory_order_seq_cst);
  u64 era = atomic_load_explicit (&q->era, memory_order_seq_cst);
  atomic_store_explicit (&q->thread[thread].seen, era, memory_order_release);
}

/* Tag for what has been unpublished up to now. */
FP_INLINE u64
fp_quiescence_tag (fp_quiescence_t *q)
{
  return atomic_fetch_add_explicit (&q->era, 1, memory_order_seq_cst) + 1;
}

/* Everything tagged up to the result is free. */
FP_INLINE u64
fp_quiescence_safe (const fp_quiescence_t *q)
{
  u64 min = FP_ASLEEP;
  for (u32 i = 0; i <= FP_MAX_WORKERS; i++)
    {
      u64 seen = atomic_load_explicit (&q->thread[i].seen, memory_order_seq_cst);
      if (seen < min)
	min = seen;
    }
  return min;
}

#endif /* FP_RETIRE_H */
