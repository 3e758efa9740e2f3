/* SPDX-License-Identifier: Apache-2.0 */
/* The control thread's side of the Services' counters: whose an entry is, and reading them. */
#ifndef FP_SERVICE_FIGURES_H
#define FP_SERVICE_FIGURES_H

#include "fp_publish.h"
#include "fp_service_counters.h"

FP_INLINE void
fp_service_counters_name (fp_region_t *r, u32 slot, u64 service)
{
  for (u32 i = 0; i <= FP_MAX_WORKERS; i++)
    if (r->service_counters[i])
      atomic_store_explicit (&r->service_counters[i][slot].service, service, memory_order_relaxed);
}

FP_INLINE u64
fp_service_name (const fp_region_t *r, u32 slot)
{
  return slot | (u64) atomic_load_explicit (&fp_service_at (r, slot)->gen, memory_order_relaxed) << 32;
}

/* A Service gets the slot, which has been nobody's for all workers since they passed a quiescent point, or was never used. */
FP_INLINE void
fp_service_counters_open (fp_region_t *r, u32 slot)
{
  for (u32 i = 0; i <= FP_MAX_WORKERS; i++)
    if (r->service_counters[i])
      {
	fp_service_counters_t *c = &r->service_counters[i][slot];
	for (u32 way = 0; way < 2; way++)
	  {
	    atomic_store_explicit (&c->way[way].packets, 0, memory_order_relaxed);
	    atomic_store_explicit (&c->way[way].bytes, 0, memory_order_relaxed);
	  }
	atomic_store_explicit (&c->created, 0, memory_order_relaxed);
	atomic_store_explicit (&c->live, 0, memory_order_relaxed);
      }
  fp_service_counters_name (r, slot, fp_service_name (r, slot));
}

/* Of a region that has been attached, before its sessions are counted. */
FP_INLINE void
fp_service_counters_attach (fp_region_t *r)
{
  u64 position = 0, word;
  fp_service_counters_name (r, 0, FP_NO_SERVICE); /* 0 is a name, too */
  while ((word = fp_control_next (r, FP_CONTROLLED_SERVICE, &position)))
    fp_service_counters_name (r, fp_word_slot (word), fp_service_name (r, fp_word_slot (word)));
}

/* A Service goes: its slot waits for the workers. Its sessions count nowhere from now on. */
FP_INLINE void
fp_service_retire (fp_region_t *r, u32 slot)
{
  fp_service_counters_name (r, slot, FP_NO_SERVICE);
  fp_control_retire_slot (r, FP_CONTROLLED_SERVICE, slot);
}

/* ---- reading ---- */

FP_INLINE void
fp_service_counters_read (const fp_region_t *r, u32 slot, fp_msg_service_counters_t *out)
{
  u64 live = 0;
  *out = (fp_msg_service_counters_t){ .service = fp_service_at (r, slot)->id };
  for (u32 i = 0; i <= FP_MAX_WORKERS; i++)
    if (r->service_counters[i])
      {
	const fp_service_counters_t *c = &r->service_counters[i][slot];
	out->forward_packets += atomic_load_explicit (&c->way[0].packets, memory_order_relaxed);
	out->forward_bytes += atomic_load_explicit (&c->way[0].bytes, memory_order_relaxed);
	out->reverse_packets += atomic_load_explicit (&c->way[1].packets, memory_order_relaxed);
	out->reverse_bytes += atomic_load_explicit (&c->way[1].bytes, memory_order_relaxed);
	out->sessions_created += atomic_load_explicit (&c->created, memory_order_relaxed);
	live += atomic_load_explicit (&c->live, memory_order_relaxed);
      }
  out->sessions = (i64) live < 0 ? 0 : live; /* read while they change */
}

/* Counters of the Service with a wire key: 0 or -ENOENT. */
FP_INLINE int
fp_control_service_counters (const fp_region_t *r, const void *key, fp_msg_service_counters_t *out)
{
  fp_wire_t k;
  u64 hash, word;
  memset (&k, 0, sizeof (k));
  memcpy (k.bytes, key, FP_WIRE_SERVICE_KEY);
  word = fp_wire_find (r, FP_TABLE_SERVICE, &k, &hash);
  if (!word)
    return -ENOENT;
  fp_service_counters_read (r, fp_word_slot (word), out);
  return 0;
}

/* Of up to max Services from *cursor (0: the start) on; returns how many, *cursor = 0 at the end. */
FP_INLINE u32
fp_control_service_counters_dump (const fp_region_t *r, u64 *cursor, fp_msg_service_counters_t *out, u32 max)
{
  u64 position = *cursor, word;
  u32 n = 0;
  while (n < max && (word = fp_control_next (r, FP_CONTROLLED_SERVICE, &position)))
    fp_service_counters_read (r, fp_word_slot (word), &out[n++]);
  *cursor = position < fp_index_positions (&r->controlled[FP_CONTROLLED_SERVICE].index) ? position : 0;
  return n;
}

#endif /* FP_SERVICE_FIGURES_H */
