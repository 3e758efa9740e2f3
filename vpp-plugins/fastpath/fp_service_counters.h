/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of each Service: process memory, one array per worker, by the Service's slot, written by that worker only. Packets of a flow whose Service
 * has been deleted (established TCP flows go on) count nowhere: what their session names is another generation of the slot. The control
 * thread writes an entry only while no worker can count in it (fp_service_figures.h). */
#ifndef FP_SERVICE_COUNTERS_H
#define FP_SERVICE_COUNTERS_H

#include "fp_handle.h"
#include "fp_huge.h"

typedef struct
{
  _Atomic u64 packets, bytes;
} fp_way_counters_t;

/* One cache line. */
typedef struct fp_service_counters
{
  _Atomic u64 service;	    /* whose: slot | generation << 32; FP_NO_SERVICE: nobody's */
  fp_way_counters_t way[2]; /* towards endpoints, back to clients; bytes from the IP header on, as they came */
  _Atomic u64 created;	    /* 40: sessions */
  _Atomic u64 live;	    /* sessions added less sessions removed; the workers' sum counts */
  u64 spare;
} FP_ALIGNED fp_service_counters_t;

#define FP_NO_SERVICE (~0ull)

_Static_assert (sizeof (fp_service_counters_t) == FP_CACHE_LINE, "counters of a Service");
_Static_assert (offsetof (fp_session4_t, service_gen) == offsetof (fp_session4_t, service_slot) + 4, "a Service in one word");
_Static_assert (offsetof (fp_session6_t, service_gen) == offsetof (fp_session6_t, service_slot) + 4, "a Service in one word");

/* The Service that a session was made for. */
FP_ALWAYS_INLINE u64
fp_session_service (int v6, const void *session)
{
  return fp_load64 (v6 ? &((const fp_session6_t *) session)->service_slot : &((const fp_session4_t *) session)->service_slot);
}

/* Entries of a worker. */
typedef struct
{
  fp_service_counters_t *entries;
  u32 mask; /* their number is a power of two */
} fp_service_counts_t;

FP_ALWAYS_INLINE fp_service_counts_t
fp_service_counts (const fp_worker_t *w)
{
  return (fp_service_counts_t){ w->region->service_counters[w->worker], w->region->service_mask };
}

/* What packets of a session of this Service count in, or NULL. */
FP_ALWAYS_INLINE fp_service_counters_t *
fp_service_entry (fp_service_counts_t t, u64 service)
{
  fp_service_counters_t *c = t.entries + ((u32) service & t.mask);
  return FP_LIKELY (atomic_load_explicit (&c->service, memory_order_relaxed) == service) ? c : NULL;
}

FP_ALWAYS_INLINE void
fp_service_count (fp_service_counts_t t, u64 service, u32 reverse, u64 bytes)
{
  fp_service_counters_t *c = t.entries + ((u32) service & t.mask);
  fp_way_counters_t *way = c->way + reverse;
  if (FP_UNLIKELY (atomic_load_explicit (&c->service, memory_order_relaxed) != service))
    return;
  fp_counter_add (&way->packets, 1);
  fp_counter_add (&way->bytes, bytes);
}

/* A session has begun (1) or is gone (-1). */
FP_INLINE void
fp_service_count_session (const fp_worker_t *w, int v6, const void *session, int by)
{
  fp_service_counters_t *c = fp_service_entry (fp_service_counts (w), fp_session_service (v6, session));
  if (!c)
    return;
  fp_counter_add (&c->created, by > 0);
  fp_counter_add (&c->live, (u64) (i64) by);
}

/* A session that was there when the region was attached. */
FP_INLINE void
fp_service_count_kept (const fp_worker_t *w, int v6, const void *session)
{
  fp_service_counters_t *c = fp_service_entry (fp_service_counts (w), fp_session_service (v6, session));
  if (c)
    fp_counter_add (&c->live, 1);
}

FP_INLINE size_t
fp_service_counters_bytes (const fp_region_t *r)
{
  return ((size_t) r->service_mask + 1) * sizeof (fp_service_counters_t);
}

FP_INLINE void
fp_service_counters_release (fp_region_t *r)
{
  for (u32 i = 0; i <= FP_MAX_WORKERS; i++)
    if (r->service_counters[i])
      munmap (r->service_counters[i], fp_service_counters_bytes (r));
}

/* For each worker and the control thread: 0 or -1. */
FP_INLINE int
fp_service_counters_init (fp_region_t *r)
{
  while (r->service_mask + 1 < r->controlled[FP_CONTROLLED_SERVICE].capacity)
    r->service_mask = 2 * r->service_mask + 1;
  for (u32 i = 0; i <= FP_MAX_WORKERS; i++)
    if ((i < r->workers || i == FP_MAX_WORKERS) && !(r->service_counters[i] = fp_huge_map (fp_service_counters_bytes (r))))
      return -1;
  return 0;
}

#endif /* FP_SERVICE_COUNTERS_H */
