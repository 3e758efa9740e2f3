/* SPDX-License-Identifier: Apache-2.0 */
/* Process-local handles: fp_region_t for the mapped region with everything that is derived from it, fp_worker_t for one packet thread.
 * Filled by fp_region_open (fp_region.h). */
#ifndef FP_HANDLE_H
#define FP_HANDLE_H

#include "fp_counters.h"
#include "fp_index.h"
#include "fp_retire.h"

/* Slots taken out of a table, in order, until they are free (fp_retire.h). Linked through the pool's side array. */
#define FP_LIMBO_BATCHES 64
#define FP_LIMBO_BATCH	 64

/* Ageing: slots are dealt to the workers in runs of this many. */
#define FP_AGE_SLICE 1024

typedef struct
{
  u32 head, tail;
  u32 open;  /* slots at the tail that carry no tag yet */
  u32 first; /* oldest batch */
  u32 batches;
  struct
  {
    u64 tag;
    u32 count;
  } batch[FP_LIMBO_BATCHES];
} fp_limbo_t;

/* Table that workers fill: sessions of a family, fragments. */
typedef struct
{
  fp_index_t index;
  fp_pool_t *pool;
  u8 *records;
  u32 capacity;
} fp_shared_table_t;

/* Table that only the control thread writes. */
typedef struct
{
  fp_index_t index;
  u8 *records;
  u32 capacity;
  _Atomic u32 used; /* written by the control thread */
} fp_control_table_t;

enum fp_shared
{
  FP_SHARED_SESSION4,
  FP_SHARED_SESSION6,
  FP_SHARED_FRAGMENT,
  FP_SHARED_TABLES
};

enum fp_controlled
{
  FP_CONTROLLED_SERVICE,
  FP_CONTROLLED_FRONTEND,
  FP_CONTROLLED_ENDPOINT,
  FP_CONTROLLED_PREFIX,
  FP_CONTROLLED_SETTING,
  FP_CONTROLLED_GTPU_ENDPOINT,
  FP_CONTROLLED_GTPU_PEER,
  FP_CONTROLLED_TUNNEL,
  FP_CONTROLLED_UE,
  FP_CONTROLLED_ENCAP, /* records only, named by tunnels and UE prefixes */
  FP_CONTROLLED_VIP,
  FP_CONTROLLED_TABLES
};

struct fp_prefix_snapshot; /* fp_prefixes.h */
struct fp_control;	   /* fp_control_state.h */
struct fp_service_counters; /* fp_service_counters.h */

struct fp_region
{
  fp_hash_t hash;
  fp_shared_table_t shared[FP_SHARED_TABLES];
  fp_control_table_t controlled[FP_CONTROLLED_TABLES];
  u32 *arrays; /* endpoint sets */
  u32 array_words;
  struct fp_prefix_snapshot *_Atomic prefixes;
  fp_config_t *_Atomic config;
  fp_quiescence_t *quiescence;
  fp_counters_t *counters; /* per worker, the control thread's last */
  struct fp_service_counters *service_counters[FP_MAX_WORKERS + 1]; /* the same, each by the Service's slot */
  u32 service_mask;
  u32 workers;		   /* that age sessions */
  struct fp_control *control;
  struct fp_gtpu_tables *gtpu; /* fp_tunnel_types.h */
  struct fp_gtpu_path *gtpu_paths; /* by peer slot (fp_gtpu_path.h), or NULL: not kept */
  _Atomic u16 *gtpu_link_mtu; /* by peer slot: of the link that its packets leave by, 0: unknown; NULL: one link for all (fp_packet_t.mtu) */
  u32 *crc_table;
  /* mapping */
  u8 *base;
  u64 size;
  int fd;
  fp_capacity_t capacity;
  u64 creation_id;
};

/* Context of one packet thread. One thread uses it. */
struct fp_worker
{
  fp_region_t *region;
  fp_counters_t *counters;
  u64 now_ns; /* CLOCK_BOOTTIME, set at each quiescent point */
  u32 tick;
  u32 worker;
  u64 rng[2];
  u32 loops;
  fp_chain_t free[FP_SHARED_TABLES];
  fp_limbo_t limbo[FP_SHARED_TABLES];
  u32 age_cursor[FP_SHARED_TABLES];
  u64 icmp_full_ns; /* token bucket of ICMP errors (fp_icmp.h): when it will be full */
  struct fp_fragment_holds *holds; /* held fragments (fp_fragment.h) */
  struct fp_gtpu_worker *gtpu;	   /* GTP-U's own state (fp_gtpu_worker.h), or NULL */
};

FP_ALWAYS_INLINE void
fp_count (fp_worker_t *w, enum fp_counter c, u64 n)
{
  fp_counter_add (&w->counters->counter[c], n);
}

FP_ALWAYS_INLINE void
fp_count_drop (fp_worker_t *w, enum fp_drop reason)
{
  fp_counter_add (&w->counters->drop[reason], 1);
}

/* xoroshiro128+ (public domain algorithm by Blackman and Vigna): fast, not for secrets. */
FP_ALWAYS_INLINE u64
fp_random (fp_worker_t *w)
{
  u64 a = w->rng[0], b = w->rng[1], r = a + b;
  b ^= a;
  w->rng[0] = (a << 24 | a >> 40) ^ b ^ b << 16;
  w->rng[1] = b << 37 | b >> 27;
  return r;
}

/* Uniform in 0 .. n - 1, n > 0 (multiply-shift; the bias is below n / 2^32). */
FP_ALWAYS_INLINE u32
fp_random_below (fp_worker_t *w, u32 n)
{
  return (u32) ((fp_random (w) >> 32) * n >> 32);
}

/* ---- slots ---- */

FP_INLINE void
fp_limbo_close (fp_worker_t *w, fp_limbo_t *l)
{
  if (!l->open)
    return;
  u64 tag = fp_quiescence_tag (w->region->quiescence);
  if (l->batches == FP_LIMBO_BATCHES)
    l->batches--; /* the newest grows instead, and waits as long as its last slot must */
  else
    l->batch[(l->first + l->batches) % FP_LIMBO_BATCHES].count = 0;
  u32 b = (l->first + l->batches++) % FP_LIMBO_BATCHES;
  l->batch[b].tag = tag;
  l->batch[b].count += l->open;
  l->open = 0;
}

/* Give back a slot whose index words have been erased. */
FP_INLINE void
fp_slot_retire (fp_worker_t *w, enum fp_shared table, u32 slot)
{
  fp_limbo_t *l = &w->limbo[table];
  fp_pool_t *p = w->region->shared[table].pool;
  atomic_store_explicit (&p->link[slot], FP_NONE, memory_order_relaxed);
  if (l->head == FP_NONE)
    l->head = slot;
  else
    atomic_store_explicit (&p->link[l->tail], slot, memory_order_relaxed);
  l->tail = slot;
  if (++l->open >= FP_LIMBO_BATCH)
    fp_limbo_close (w, l);
}

/* Move slots that are free by now into the worker's chain, what is too much there into the pool; at most `limit`. */
FP_INLINE u32
fp_slot_reclaim (fp_worker_t *w, enum fp_shared table, u32 limit)
{
  fp_limbo_t *l = &w->limbo[table];
  fp_pool_t *p = w->region->shared[table].pool;
  fp_chain_t *c = &w->free[table];
  fp_limbo_close (w, l);
  if (!l->batches)
    return 0;
  u64 safe = fp_quiescence_safe (w->region->quiescence);
  u32 done = 0;
  while (done < limit && l->batches && l->batch[l->first].tag <= safe)
    {
      u32 slot = l->head;
      l->head = (u32) atomic_load_explicit (&p->link[slot], memory_order_relaxed);
      if (c->count >= FP_POOL_CHAIN)
	fp_pool_put (p, c);
      fp_chain_push (p, c, slot);
      done++;
      if (!--l->batch[l->first].count)
	{
	  l->first = (l->first + 1) % FP_LIMBO_BATCHES;
	  l->batches--;
	}
    }
  return done;
}

/* A slot to fill, or FP_NONE. */
FP_INLINE u32
fp_slot_alloc (fp_worker_t *w, enum fp_shared table)
{
  fp_pool_t *p = w->region->shared[table].pool;
  fp_chain_t *c = &w->free[table];
  if (FP_UNLIKELY (!c->count))
    {
      fp_slot_reclaim (w, table, FP_POOL_CHAIN);
      if (!c->count && !fp_pool_get (p, c, FP_POOL_CHAIN))
	return FP_NONE;
    }
  return fp_chain_pop (p, c);
}

/* Give back a slot that was never visible. */
FP_INLINE void
fp_slot_free (fp_worker_t *w, enum fp_shared table, u32 slot)
{
  fp_chain_push (w->region->shared[table].pool, &w->free[table], slot);
}

/* ---- the worker's loop ---- */

FP_INLINE void
fp_worker_set_time (fp_worker_t *w, u64 now_ns)
{
  w->now_ns = now_ns;
  w->tick = (u32) (now_ns >> FP_TICK_SHIFT);
}

/* Top of each loop: the thread holds no slot, no session, no set. */
FP_INLINE void
fp_worker_quiescent (fp_worker_t *w, u64 now_ns)
{
  fp_worker_set_time (w, now_ns);
  for (u32 t = 0; t < FP_SHARED_TABLES; t++)
    fp_limbo_close (w, &w->limbo[t]);
  fp_quiescent (w->region->quiescence, w->worker);
  if ((++w->loops & 15) == 0)
    for (u32 t = 0; t < FP_SHARED_TABLES; t++)
      if (w->limbo[t].head != FP_NONE)
	fp_slot_reclaim (w, (enum fp_shared) t, 4 * FP_POOL_CHAIN);
}

/* Before waiting for packets, and after. */
FP_INLINE void
fp_worker_sleep (fp_worker_t *w)
{
  fp_quiescence_sleep (w->region->quiescence, w->worker);
}

FP_INLINE void
fp_worker_wake (fp_worker_t *w)
{
  fp_quiescence_wake (w->region->quiescence, w->worker);
}

/* worker: 0 .. r->workers - 1; FP_MAX_WORKERS is the control thread's own context. Leaves the worker awake. */
FP_INLINE void
fp_worker_init (fp_worker_t *w, fp_region_t *r, u32 worker, u64 seed)
{
  memset (w, 0, sizeof (*w));
  w->region = r;
  w->worker = worker;
  w->counters = &r->counters[worker];
  for (u32 i = 0; i < 2; i++)
    { /* splitmix64 */
      u64 z = seed += 0x9e3779b97f4a7c15ull;
      z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
      z = (z ^ z >> 27) * 0x94d049bb133111ebull;
      w->rng[i] = z ^ z >> 31;
    }
  w->rng[0] |= 1;
  for (u32 t = 0; t < FP_SHARED_TABLES; t++)
    {
      w->free[t].head = FP_NONE;
      w->limbo[t].head = FP_NONE;
      w->age_cursor[t] = worker * FP_AGE_SLICE;
    }
  fp_worker_wake (w);
}

#endif /* FP_HANDLE_H */
