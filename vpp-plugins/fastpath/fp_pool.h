/* SPDX-License-Identifier: Apache-2.0 */
/* Free slots of a table that several threads fill: a lock-free stack of chains, and slots never used yet.
 *
 * Slots travel in chains, so that a worker goes to the shared stack once in FP_POOL_CHAIN slots. Links lie in a process-local side
 * array (the region holds no free list: attaching rebuilds it from what is live). The head carries a tag against ABA.
 * A slot may come here only when no reader can still hold it (fp_retire.h) or if it was never published. */
#ifndef FP_POOL_H
#define FP_POOL_H

#include "fp_types.h"

#define FP_POOL_CHAIN 64

typedef struct
{
  _Atomic u64 head FP_ALIGNED; /* tag << 32 | first slot of the top chain */
  _Atomic u32 fresh FP_ALIGNED; /* slots from here on were never used */
  u32 capacity;
  _Atomic u64 *link; /* per slot: next chain (high half, in a chain's first slot only) | next slot of the chain */
} fp_pool_t;

/* Chain of slots in one thread's hands. */
typedef struct
{
  u32 head;
  u32 count;
} fp_chain_t;

FP_INLINE void
fp_pool_init (fp_pool_t *p, _Atomic u64 *link, u32 capacity, u32 fresh)
{
  atomic_store_explicit (&p->head, FP_NONE, memory_order_relaxed);
  atomic_store_explicit (&p->fresh, fresh, memory_order_relaxed);
  p->capacity = capacity;
  p->link = link;
}

FP_ALWAYS_INLINE void
fp_chain_push (fp_pool_t *p, fp_chain_t *c, u32 slot)
{
  atomic_store_explicit (&p->link[slot], c->count ? c->head : FP_NONE, memory_order_relaxed);
  c->head = slot;
  c->count++;
}

FP_ALWAYS_INLINE u32
fp_chain_pop (fp_pool_t *p, fp_chain_t *c)
{
  u32 slot = c->head;
  c->head = (u32) atomic_load_explicit (&p->link[slot], memory_order_relaxed);
  c->count--;
  return slot;
}

/* Give a chain to everyone; the caller's copy becomes empty. */
FP_INLINE void
fp_pool_put (fp_pool_t *p, fp_chain_t *c)
{
  if (!c->count)
    return;
  u64 head = atomic_load_explicit (&p->head, memory_order_relaxed);
  u64 next = (u32) atomic_load_explicit (&p->link[c->head], memory_order_relaxed);
  do
    atomic_store_explicit (&p->link[c->head], (head & 0xffffffff) << 32 | next, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit (&p->head, &head, ((head >> 32) + 1) << 32 | c->head, memory_order_release,
						 memory_order_relaxed));
  c->head = FP_NONE;
  c->count = 0;
}

/* Take a chain, of at most `fresh_most` slots if it is made of new ones; 0 if there is none. The length of one that was put is counted by
 * following its links. */
FP_INLINE int
fp_pool_get (fp_pool_t *p, fp_chain_t *c, u32 fresh_most)
{
  u64 head = atomic_load_explicit (&p->head, memory_order_acquire);
  while ((u32) head != FP_NONE)
    {
      u64 link = atomic_load_explicit (&p->link[(u32) head], memory_order_relaxed);
      if (atomic_compare_exchange_weak_explicit (&p->head, &head, ((head >> 32) + 1) << 32 | link >> 32,
						 memory_order_acquire, memory_order_acquire))
	{
	  c->head = (u32) head;
	  c->count = 0;
	  for (u32 s = c->head; s != FP_NONE; s = (u32) atomic_load_explicit (&p->link[s], memory_order_relaxed))
	    c->count++;
	  return 1;
	}
    }
  u32 fresh = atomic_load_explicit (&p->fresh, memory_order_relaxed);
  u32 n;
  do
    {
      n = p->capacity - fresh < fresh_most ? p->capacity - fresh : fresh_most;
      if (!n)
	return 0;
    }
  while (!atomic_compare_exchange_weak_explicit (&p->fresh, &fresh, fresh + n, memory_order_relaxed, memory_order_relaxed));
  c->count = 0;
  while (n--)
    fp_chain_push (p, c, fresh + n);
  return 1;
}

#endif /* FP_POOL_H */
