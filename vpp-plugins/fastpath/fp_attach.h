/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching to a region that another process left, whatever state it is in: every index, length and generation is checked before it is
 * used, and what is not whole is taken out. No thread runs yet.
 *
 * The rule is the same for all tables: an entry counts if a live word lies in a bucket of its key, names a slot of the table,
 * carries the record's generation and the tag of the key that the record holds now, and the record is valid in itself. Words that do not pass are
 * erased (tentative ones too: their writer is gone), a session needs both its words and phase LIVE. Free lists, sets, known addresses and snapshots are
 * made anew from what is left. Doing it again changes nothing, so that a crash meanwhile does no harm. */
#ifndef FP_ATTACH_H
#define FP_ATTACH_H

#include "fp_control.h"
#include "fp_tunnel_attach.h"

typedef struct
{
  u64 sessions4, sessions6; /* kept */
  u64 tentative;	    /* words of insertions that were cut short */
  u64 dangling;		    /* words without a record that fits */
  u64 dropped;		    /* sessions of which only a part was there */
  u64 links;		    /* overflow links cut */
} fp_attach_report_t;

#define FP_ATTACH_BLOCK	   16			/* buckets whose records are prefetched together */
#define FP_ATTACH_LIFETIME FP_TICKS (86400 * 2) /* no expiry lies farther ahead */

/* Chains: owner[i] = bucket on whose chain overflow bucket i hangs, or FP_NONE (then it is emptied and free). 0 or -ENOMEM. */
FP_INLINE int
fp_attach_chains (fp_index_t *x, u32 **owner, fp_attach_report_t *rep)
{
  u32 *own = malloc (x->overflow_size * sizeof (u32)), used = 0;
  if (!own)
    return -ENOMEM;
  memset (own, 0xff, x->overflow_size * sizeof (u32));
  for (u64 b = 0; b <= x->mask; b++)
    {
      _Atomic u64 *link = &x->buckets[b].link;
      for (u64 v; (v = atomic_load_explicit (link, memory_order_relaxed)); link = &x->overflow[v - 1].link)
	{
	  if (v > x->overflow_size || own[v - 1] != FP_NONE)
	    {
	      atomic_store_explicit (link, 0, memory_order_relaxed);
	      rep->links++;
	      break;
	    }
	  own[v - 1] = (u32) b;
	  if (v > used)
	    used = (u32) v;
	}
    }
  fp_chain_t chain = { FP_NONE, 0 };
  atomic_store_explicit (&x->overflow_pool->fresh, used, memory_order_relaxed);
  for (u32 i = 0; i < x->overflow_size; i++)
    if (own[i] == FP_NONE)
      {
	memset (&x->overflow[i], 0, sizeof (x->overflow[i]));
	if (i >= used)
	  continue;
	fp_chain_push (x->overflow_pool, &chain, i);
	fp_pool_put (x->overflow_pool, &chain);
      }
  *owner = own;
  return 0;
}

/* Chain buckets without a word are free again: while threads insert, they stay where they hang. */
FP_INLINE void
fp_attach_unchain (const fp_index_t *x, const u32 *owner)
{
  for (u32 i = 0; i < x->overflow_size; i++)
    for (u32 bucket; owner[i] != FP_NONE && (bucket = fp_index_unchain (x, owner[i])) != FP_NONE;)
      fp_index_give_back (x, bucket);
}

/* Bucket n of both areas in a row. */
FP_ALWAYS_INLINE fp_bucket_t *
fp_attach_bucket (const fp_index_t *x, u64 n)
{
  return n <= x->mask ? &x->buckets[n] : &x->overflow[n - x->mask - 1];
}

/* Whether a word lies where its key's lookups come by, with the right tag. */
FP_ALWAYS_INLINE int
fp_attach_place (const fp_index_t *x, const u32 *owner, u64 n, u64 word, u64 hash)
{
  if (word != (fp_word (hash, fp_word_ref (word), fp_word_gen (word)) | FP_WORD_LIVE))
    return 0;
  if (n > x->mask)
    return owner[n - x->mask - 1] == fp_index_first (x, hash);
  return n == fp_index_first (x, hash) || n == fp_index_second (x, hash);
}

FP_INLINE void
fp_attach_erase (_Atomic u64 *word, u64 w, fp_attach_report_t *rep)
{
  if ((w & (FP_WORD_LIVE | FP_WORD_TENTATIVE)) == FP_WORD_TENTATIVE)
    rep->tentative++;
  else
    rep->dangling++;
  atomic_store_explicit (word, 0, memory_order_relaxed);
}

/* ---- sessions ---- */

FP_ALWAYS_INLINE int
fp_attach_session_word (const fp_region_t *r, int v6, const u32 *owner, u8 *seen, u64 n, u64 w)
{
  const fp_shared_table_t *t = fp_session_table (r, v6);
  u32 slot = fp_word_slot (w), dir = fp_word_ref (w) & 1;
  if (w >> 62 != 2 || slot >= t->capacity)
    return 0;
  void *s = fp_session_at (t, v6, slot);
  u64 life = atomic_load_explicit (fp_session_life (s, v6), memory_order_relaxed);
  u32 gen = atomic_load_explicit (fp_session_gen (s, v6), memory_order_relaxed);
  if (fp_life_phase (life) != FP_PHASE_LIVE || life >> 48 != (gen & 0xffff) || fp_word_gen (w) != (gen & 0xffff))
    return 0;
  fp_session_key_t k;
  if (!fp_attach_place (&t->index, owner, n, w, fp_session_key (r, s, v6, (u8) dir, &k)) || (seen[slot] & 1 << dir))
    return 0;
  seen[slot] |= (u8) (1 << dir);
  return 1;
}

FP_ALWAYS_INLINE void
fp_attach_session_words (fp_region_t *r, int v6, const u32 *owner, u8 *seen, fp_attach_report_t *rep)
{
  const fp_shared_table_t *t = fp_session_table (r, v6);
  u64 buckets = (u64) t->index.mask + 1 + t->index.overflow_size;
  for (u64 from = 0; from < buckets; from += FP_ATTACH_BLOCK)
    {
      u64 to = from + FP_ATTACH_BLOCK < buckets ? from + FP_ATTACH_BLOCK : buckets;
      for (u64 n = from; n < to; n++)
	for (u32 i = 0; i < FP_BUCKET_WORDS; i++)
	  {
	    u64 w = atomic_load_explicit (&fp_attach_bucket (&t->index, n)->word[i], memory_order_relaxed);
	    if (!w || fp_word_slot (w) >= t->capacity)
	      continue;
	    u8 *s = fp_session_at (t, v6, fp_word_slot (w));
	    FP_PREFETCH (s);
	    if (v6)
	      FP_PREFETCH (s + FP_CACHE_LINE);
	    FP_PREFETCH (&seen[fp_word_slot (w)]);
	  }
      for (u64 n = from; n < to; n++)
	for (u32 i = 0; i < FP_BUCKET_WORDS; i++)
	  {
	    _Atomic u64 *word = &fp_attach_bucket (&t->index, n)->word[i];
	    u64 w = atomic_load_explicit (word, memory_order_relaxed);
	    if (w && !fp_attach_session_word (r, v6, owner, seen, n, w))
	      fp_attach_erase (word, w, rep);
	  }
    }
}

/* Sessions of one family; 0 or -ENOMEM. */
FP_ALWAYS_INLINE int
fp_attach_sessions (fp_region_t *r, int v6, fp_attach_report_t *rep)
{
  const fp_shared_table_t *t = fp_session_table (r, v6);
  fp_index_t x = t->index;
  u32 *owner = NULL, used = 0, horizon = r->control->worker.tick + FP_ATTACH_LIFETIME;
  u8 *seen = calloc (t->capacity, 1);
  u64 kept = 0;
  if (!seen || fp_attach_chains (&x, &owner, rep))
    {
      free (seen);
      return -ENOMEM;
    }
  fp_attach_session_words (r, v6, owner, seen, rep);
  for (u32 slot = 0; slot < t->capacity; slot++)
    {
      void *s = fp_session_at (t, v6, slot);
      _Atomic u64 *life = fp_session_life (s, v6);
      u64 l = atomic_load_explicit (life, memory_order_relaxed);
      if (seen[slot] == 3)
	{
	  kept++;
	  used = slot + 1;
	  fp_service_count_kept (&r->control->worker, v6, s);
	  if ((i32) (horizon - fp_life_expiry (l)) < 0)
	    atomic_store_explicit (life, (l & ~0xffffffffull) | horizon, memory_order_relaxed);
	  continue;
	}
      if (seen[slot])
	{
	  fp_session_erase_words (r, v6, slot);
	  rep->dropped++;
	}
      if (l == 0)
	continue;
      _Atomic u32 *gen = fp_session_gen (s, v6);
      atomic_store_explicit (gen, atomic_load_explicit (gen, memory_order_relaxed) + 1, memory_order_relaxed);
      atomic_store_explicit (life, 0, memory_order_relaxed);
    }
  fp_chain_t chain = { FP_NONE, 0 };
  atomic_store_explicit (&t->pool->fresh, used, memory_order_relaxed);
  for (u32 slot = 0; slot < used; slot++)
    if (seen[slot] != 3)
      {
	fp_chain_push (t->pool, &chain, slot);
	if (chain.count == FP_POOL_CHAIN)
	  fp_pool_put (t->pool, &chain);
      }
  fp_pool_put (t->pool, &chain);
  fp_attach_unchain (&x, owner);
  free (owner);
  free (seen);
  *(v6 ? &rep->sessions6 : &rep->sessions4) = kept;
  fp_counter_add (&r->counters[FP_MAX_WORKERS].live[v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4], kept);
  return 0;
}

/* ---- tables that begin empty ---- */

FP_INLINE void
fp_attach_empty_index (fp_index_t *x)
{
  memset (x->buckets, 0, ((size_t) x->mask + 1) * sizeof (fp_bucket_t));
  memset (x->overflow, 0, x->overflow_size * sizeof (fp_bucket_t));
}

FP_INLINE void
fp_attach_fragments (fp_region_t *r)
{
  fp_shared_table_t *t = &r->shared[FP_SHARED_FRAGMENT];
  fp_attach_empty_index (&t->index);
  for (u32 slot = 0; slot < t->capacity; slot++)
    atomic_store_explicit (&fp_frag_at (t, slot)->life, 0, memory_order_relaxed);
}

/* ---- the control plane's tables ---- */

FP_INLINE int
fp_attach_service_ref (const fp_region_t *r, const u8 *services, u32 slot, u8 family)
{
  return slot < r->controlled[FP_CONTROLLED_SERVICE].capacity && services[slot] && fp_service_at (r, slot)->family == family;
}

/* Whether a record is valid in itself and what it names is there (seen: by enum fp_controlled, flags of the slots that are). */
FP_INLINE int
fp_attach_record_valid (const fp_region_t *r, u32 table, u32 slot, u8 *const *seen)
{
  const u8 *services = seen[FP_CONTROLLED_SERVICE];
  fp_wire_t wire;
  if (fp_table_gtpu (table))
    return fp_gtpu_attach_valid (r, table, slot, seen);
  if (table == FP_TABLE_FRONTEND)
    {
      const fp_frontend_t *f = fp_frontend_at (r, slot);
      if (!fp_attach_service_ref (r, services, f->service_slot, f->key.scope & 0x0f) || !fp_frontend_service (r, f) ||
	  fp_service_at (r, f->service_slot)->protocol != f->key.proto || (f->key.scope & 0x70))
	return 0;
    }
  if (table == FP_TABLE_ENDPOINT &&
      !fp_attach_service_ref (r, services, fp_endpoint_at (r, slot)->service_slot, fp_endpoint_at (r, slot)->family))
    return 0;
  fp_wire_rebuild (r, table, slot, &wire);
  return fp_wire_valid (table, &wire) == 0;
}

/* A word of a control table: whether it counts. */
FP_INLINE int
fp_attach_controlled_word (const fp_region_t *r, u32 table, const u32 *owner, u8 *const *seen, u64 n, u64 w)
{
  enum fp_controlled c = fp_table_controlled (table);
  const fp_control_table_t *t = &r->controlled[c];
  u32 slot = fp_word_slot (w);
  return w >> 62 == 2 && !(fp_word_ref (w) & 1) && slot < t->capacity && !seen[c][slot] &&
	 fp_word_gen (w) == (u16) atomic_load_explicit (fp_controlled_gen (r, c, slot), memory_order_relaxed) &&
	 fp_attach_place (&t->index, owner, n, w, fp_controlled_hash (r, c, slot)) && fp_attach_record_valid (r, table, slot, seen);
}

FP_INLINE void
fp_attach_controlled_words (fp_region_t *r, u32 table, const u32 *owner, u8 *const *seen, fp_attach_report_t *rep)
{
  enum fp_controlled c = fp_table_controlled (table);
  fp_control_table_t *t = &r->controlled[c];
  fp_control_slots_t *slots = &r->control->slots[c];
  u64 buckets = (u64) t->index.mask + 1 + t->index.overflow_size;
  for (u64 from = 0; from < buckets; from += FP_ATTACH_BLOCK)
    {
      u64 to = from + FP_ATTACH_BLOCK < buckets ? from + FP_ATTACH_BLOCK : buckets;
      for (u32 stage = 0; stage < 2 && fp_table_gtpu (table); stage++)
	for (u64 n = from; n < to; n++)
	  for (u32 i = 0; i < FP_BUCKET_WORDS; i++)
	    {
	      u64 w = atomic_load_explicit (&fp_attach_bucket (&t->index, n)->word[i], memory_order_relaxed);
	      if (w && fp_word_slot (w) < t->capacity)
		fp_gtpu_prefetch (r, table, fp_word_slot (w), stage);
	    }
      for (u64 n = from; n < to; n++)
	for (u32 i = 0; i < FP_BUCKET_WORDS; i++)
	  {
	    _Atomic u64 *word = &fp_attach_bucket (&t->index, n)->word[i];
	    u64 w = atomic_load_explicit (word, memory_order_relaxed);
	    if (!w)
	      continue;
	    if (!fp_attach_controlled_word (r, table, owner, seen, n, w))
	      {
		fp_attach_erase (word, w, rep);
		continue;
	      }
	    seen[c][fp_word_slot (w)] = 1;
	    t->used++;
	    if (fp_word_slot (w) >= slots->fresh)
	      slots->fresh = fp_word_slot (w) + 1;
	  }
    }
}

/* Words and free slots of one control table; seen[its number]: capacity bytes, zero. 0 or -ENOMEM. */
FP_INLINE int
fp_attach_controlled (fp_region_t *r, u32 table, u8 *const *seen, fp_attach_report_t *rep)
{
  enum fp_controlled c = fp_table_controlled (table);
  fp_control_table_t *t = &r->controlled[c];
  fp_control_slots_t *slots = &r->control->slots[c];
  u32 *owner = NULL;
  if (fp_attach_chains (&t->index, &owner, rep))
    return -ENOMEM;
  fp_attach_controlled_words (r, table, owner, seen, rep);
  fp_attach_unchain (&t->index, owner);
  free (owner);
  /* The generation of a slot that was being given back may not have been raised yet. */
  for (u32 slot = 0; slot < t->capacity; slot++)
    if (!seen[c][slot])
      {
	_Atomic u32 *gen = fp_controlled_gen (r, c, slot);
	atomic_store_explicit (gen, atomic_load_explicit (gen, memory_order_relaxed) + 1, memory_order_relaxed);
	if (slot < slots->fresh)
	  slots->free[slots->nfree++] = slot;
      }
  return 0;
}

/* Users of services and addresses, sets, snapshots. */
FP_INLINE int
fp_attach_derive (fp_region_t *r)
{
  fp_control_t *c = r->control;
  u64 position = 0, w;
  while ((w = fp_control_next (r, FP_CONTROLLED_FRONTEND, &position)))
    c->service[fp_frontend_at (r, fp_word_slot (w))->service_slot].frontends++;
  position = 0;
  while ((w = fp_control_next (r, FP_CONTROLLED_ENDPOINT, &position)))
    fp_control_link (c, fp_endpoint_at (r, fp_word_slot (w))->service_slot, fp_word_slot (w));
  position = 0;
  while ((w = fp_control_next (r, FP_CONTROLLED_SERVICE, &position)))
    fp_control_dirty (c, fp_word_slot (w));
  fp_attach_empty_index (&r->controlled[FP_CONTROLLED_VIP].index);
  fp_vip_recount (r);
  if (fp_publish_sets (r))
    return -ENOSPC;
  return fp_publish_prefixes (r) || fp_publish_settings (r) || fp_gtpu_publish (r) ? -ENOMEM : 0;
}

/* The whole region; 0 or a negative errno. r: mapped, with empty side tables; the control worker's time is set. */
FP_INLINE int
fp_attach (fp_region_t *r, fp_attach_report_t *rep)
{
  static const u8 order[] = { FP_TABLE_SERVICE, FP_TABLE_FRONTEND, FP_TABLE_ENDPOINT, FP_TABLE_PREFIX, FP_TABLE_CONFIG,
			      FP_TABLE_GTPU_ENDPOINT, FP_TABLE_GTPU_PEER, FP_TABLE_GTPU_TUNNEL, FP_TABLE_GTPU_UE };
  u8 *seen[FP_CONTROLLED_TABLES] = { NULL };
  int rc = 0;
  for (u32 i = 0; !rc && i < sizeof (order); i++)
    {
      enum fp_controlled c = fp_table_controlled (order[i]);
      seen[c] = calloc ((size_t) r->controlled[c].capacity + 1, 1);
      rc = seen[c] ? fp_attach_controlled (r, order[i], seen, rep) : -ENOMEM;
    }
  if (!rc)
    rc = fp_gtpu_attach (r, seen);
  for (u32 i = 0; i < FP_CONTROLLED_TABLES; i++)
    free (seen[i]);
  if (!rc)
    rc = fp_attach_derive (r);
  if (!rc)
    {
      fp_service_counters_attach (r);
      rc = fp_attach_sessions (r, 0, rep);
    }
  if (!rc)
    rc = fp_attach_sessions (r, 1, rep);
  fp_attach_fragments (r);
  return rc;
}

#endif /* FP_ATTACH_H */
