/* SPDX-License-Identifier: Apache-2.0 */
/* State of the path to a peer, as Echo Requests and Responses show it (TS 29.281 7.2): an array in process memory, indexed by peer slot
 * (fp_region_t.gtpu_paths). The control thread sends the requests and keeps the timers; any worker notes the answer. */
#ifndef FP_GTPU_PATH_H
#define FP_GTPU_PATH_H

#include "fp_types.h"

#define FP_GTPU_PATH_WAITING  (1u << 16) /* a request is outstanding; below it the sequence number */
#define FP_GTPU_PATH_ANSWERED (1u << 16)
#define FP_GTPU_PATH_RESTART  (1u << 8) /* a restart counter has been received; below it the counter */

typedef struct fp_gtpu_path
{
  /* the control thread's */
  _Atomic u64 sent_ns;
  _Atomic u32 sent_sequence; /* | FP_GTPU_PATH_WAITING; the worker takes that bit away */
  /* the workers' */
  _Atomic u32 answered_sequence; /* | FP_GTPU_PATH_ANSWERED */
  _Atomic u64 answered_ns;	 /* CLOCK_BOOTTIME; 0: never */
  _Atomic u32 rtt_us;
  _Atomic u32 restart; /* | FP_GTPU_PATH_RESTART */
} fp_gtpu_path_t;

/* Note an Echo Response. Returns 1 if it answers the outstanding request, 0 if nobody waits for it: nothing is changed then. Two workers
 * with copies of one answer: the first counts. */
FP_INLINE int
fp_gtpu_path_answered (fp_gtpu_path_t *path, u16 sequence, int restart, u64 now_ns)
{
  u32 waiting = sequence | FP_GTPU_PATH_WAITING;
  u64 sent = atomic_load_explicit (&path->sent_ns, memory_order_acquire);
  if (!atomic_compare_exchange_strong_explicit (&path->sent_sequence, &waiting, sequence, memory_order_acq_rel, memory_order_relaxed))
    return 0;
  if (restart >= 0)
    atomic_store_explicit (&path->restart, (u32) restart | FP_GTPU_PATH_RESTART, memory_order_relaxed);
  atomic_store_explicit (&path->rtt_us, now_ns > sent ? (u32) ((now_ns - sent) / 1000) : 0, memory_order_relaxed);
  atomic_store_explicit (&path->answered_ns, now_ns, memory_order_relaxed);
  atomic_store_explicit (&path->answered_sequence, sequence | FP_GTPU_PATH_ANSWERED, memory_order_release);
  return 1;
}

#endif /* FP_GTPU_PATH_H */
