/* SPDX-License-Identifier: Apache-2.0 */
/* Fragments: what the first fragment of a datagram was decided to be, for those that follow it, on any worker. Entries live FP_FRAG_TICKS
 * and carry nothing that must survive a restart: attaching empties the table. Holding fragments that come before their
 * first is the kernel's (fp_fragment.h). */
#ifndef FP_FRAGTABLE_H
#define FP_FRAGTABLE_H

#include "fp_handle.h"

#define FP_FRAG_TICKS FP_TICKS (2)

typedef struct
{
  u8 kind; /* enum fp_frag_kind; 0: not known */
  fp_sref_t session;
} fp_frag_result_t;

FP_ALWAYS_INLINE fp_frag_t *
fp_frag_at (const fp_shared_table_t *t, u32 slot)
{
  return (fp_frag_t *) t->records + slot;
}

FP_ALWAYS_INLINE int
fp_frag_match (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_shared_table_t *t = ctx;
  (void) live;
  if (FP_UNLIKELY (ref >> 1 >= t->capacity))
    return FP_MATCH_NO;
  fp_frag_t *f = fp_frag_at (t, ref >> 1);
  if (memcmp (&f->key, key, sizeof (f->key)))
    return FP_MATCH_NO;
  u8 phase = fp_life_phase (atomic_load_explicit (&f->life, memory_order_seq_cst));
  return phase == FP_PHASE_LIVE || phase == FP_PHASE_PENDING ? FP_MATCH_YES : FP_MATCH_DEAD;
}

FP_INLINE fp_frag_result_t
fp_frag_result (const fp_shared_table_t *t, u64 word)
{
  const fp_frag_t *f = fp_frag_at (t, fp_word_slot (word));
  fp_frag_result_t result = { f->kind, { f->session_slot, f->session_gen, f->dir, f->kind == FP_FRAG_SESSION, { 0, 0 } } };
  return result;
}

/* To DYING from exactly `life`, and away. A LIVE entry is for whoever does it first, a PENDING one for its owner alone. */
FP_INLINE int
fp_frag_remove (fp_worker_t *w, u32 slot, u64 life)
{
  const fp_shared_table_t *t = &w->region->shared[FP_SHARED_FRAGMENT];
  fp_frag_t *f = fp_frag_at (t, slot);
  if (!atomic_compare_exchange_strong_explicit (&f->life, &life, fp_life_with_phase (life, FP_PHASE_DYING), memory_order_seq_cst,
						memory_order_seq_cst))
    return 0;
  fp_index_erase (&t->index, fp_hash_frag (&w->region->hash, &f->key), slot << 1, (u32) (life >> 48));
  fp_slot_retire (w, FP_SHARED_FRAGMENT, slot);
  if (fp_life_phase (life) == FP_PHASE_LIVE)
    fp_counter_add (&w->counters->live[FP_SHARED_FRAGMENT], -1ull);
  return 1;
}

/* What is known of a datagram; kind 0: nothing (yet, or any more). */
FP_INLINE fp_frag_result_t
fp_frag_find (fp_worker_t *w, const fp_frag_key_t *key)
{
  const fp_shared_table_t *t = &w->region->shared[FP_SHARED_FRAGMENT];
  u64 word = fp_index_find (&t->index, fp_hash_frag (&w->region->hash, key), fp_frag_match, t, key);
  fp_frag_result_t none = { 0, { FP_NONE, 0, 0, 0, { 0, 0 } } };
  if (!word)
    return none;
  u64 life = atomic_load_explicit (&fp_frag_at (t, fp_word_slot (word))->life, memory_order_acquire);
  if (fp_tick_passed (w->tick, fp_life_expiry (life)))
    return none;
  return fp_frag_result (t, word);
}

/* Enter what the first fragment is. Who comes second gets what the first one entered (*result in any case). 0: entered or
 * there already; -1: no room, counted. An expired entry of the key makes way. */
FP_INLINE int
fp_frag_insert (fp_worker_t *w, const fp_frag_key_t *key, u8 kind, fp_sref_t session, fp_frag_result_t *result)
{
  const fp_shared_table_t *t = &w->region->shared[FP_SHARED_FRAGMENT];
  u64 hash = fp_hash_frag (&w->region->hash, key);
  result->kind = kind;
  result->session = session;
  for (u32 try = 0; try < 2; try++)
    {
      u32 slot = fp_slot_alloc (w, FP_SHARED_FRAGMENT);
      if (slot == FP_NONE)
	break;
      fp_frag_t *f = fp_frag_at (t, slot);
      f->key = *key;
      f->kind = kind;
      f->dir = session.dir;
      f->session_slot = session.slot;
      f->session_gen = session.gen;
      u32 gen = (u32) (atomic_load_explicit (&f->life, memory_order_relaxed) >> 48) + 1;
      u64 life = fp_life (gen, FP_PHASE_PENDING, 0, w->tick + FP_FRAG_TICKS);
      atomic_store_explicit (&f->life, life, memory_order_release);
      u64 winner = 0;
      int visible = 0;
      int rc = fp_index_insert (&t->index, hash, slot << 1, gen, fp_frag_match, t, key, &winner, &visible);
      if (rc == FP_INDEX_OK)
	{
	  atomic_store_explicit (&f->life, fp_life_with_phase (life, FP_PHASE_LIVE), memory_order_release);
	  fp_counter_add (&w->counters->live[FP_SHARED_FRAGMENT], 1);
	  return 0;
	}
      fp_frag_remove (w, slot, life);
      if (rc == FP_INDEX_FULL)
	break;
      u32 other = fp_word_slot (winner);
      life = atomic_load_explicit (&fp_frag_at (t, other)->life, memory_order_acquire);
      if (!fp_tick_passed (w->tick, fp_life_expiry (life)))
	{
	  *result = fp_frag_result (t, winner);
	  return 0;
	}
      if (fp_life_phase (life) == FP_PHASE_LIVE)
	fp_frag_remove (w, other, life);
    }
  fp_count (w, FP_C_FRAGMENT_TABLE_FULL, 1);
  return -1;
}

FP_INLINE void
fp_frag_age (fp_worker_t *w, u32 budget)
{
  const fp_shared_table_t *t = &w->region->shared[FP_SHARED_FRAGMENT];
  u32 *cursor = &w->age_cursor[FP_SHARED_FRAGMENT];
  u32 used = atomic_load_explicit (&t->pool->fresh, memory_order_relaxed);
  while (budget--)
    {
      if (*cursor >= used)
	{
	  *cursor = w->worker * FP_AGE_SLICE;
	  if (*cursor >= used)
	    break;
	}
      u32 slot = (*cursor)++;
      if (*cursor % FP_AGE_SLICE == 0)
	*cursor += (w->region->workers - 1) * FP_AGE_SLICE;
      u64 life = atomic_load_explicit (&fp_frag_at (t, slot)->life, memory_order_acquire);
      if (fp_life_phase (life) == FP_PHASE_LIVE && fp_tick_passed (w->tick, fp_life_expiry (life)))
	fp_frag_remove (w, slot, life);
    }
}

#endif /* FP_FRAGTABLE_H */
