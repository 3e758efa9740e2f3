/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: translated flows, found by their forward and by their reverse key. Lookups and life cycle; IPv4 and IPv6 share one body.
 *
 * Life of a slot (the phase lies in the atomic word `life`, with expiry and protocol state):
 *   FREE -> PENDING   by its owner, before the reverse key is entered;
 *   PENDING -> LIVE   after the forward key has been committed, by the owner or by whoever finds that committed key;
 *   PENDING -> ABANDONED  by a rival of the same flow whose way an unfinished owner blocks, or by an owner that lost;
 *   LIVE -> DYING     by whoever removes the session; the CAS decides between removers, and between a remover and a refresh:
 *                     a refresh (fp_session4_touch) that fails because of DYING is a miss, a removal for age that finds another expiry lets go.
 * DYING and ABANDONED are final for this incarnation: lookups and insertions treat its index words as absent and erase them on the way. The one whose
 * CAS made a LIVE session DYING erases its words, raises the generation and retires the slot; of an ABANDONED one, its owner does. (An owner whose
 * session others promoted and removed before it looked again finds DYING, and must not give the slot back a second time.)
 * So at most one session of a forward key is LIVE (fp_index.h gives one committed word among records that are not dying, and PENDING
 * becomes LIVE only with a committed word), and a hit on LIVE stays readable until the reader's next quiescent point.
 *
 * Insertion enters the reverse key first: found there under another flow, the caller tries the next source port; under the same flow,
 * another worker is at it: its session is adopted as soon as its forward key is committed; if that does not come at once, it is
 * made DYING and our own goes on. Then the forward key; who loses there takes out its reverse entry and adopts the winner. */
#ifndef FP_SESSION_H
#define FP_SESSION_H

#include "fp_service_counters.h"

#define FP_ADOPT_POLLS 8

/* ---- one body for both families: v6 is a constant in every caller ---- */

FP_ALWAYS_INLINE const fp_shared_table_t *
fp_session_table (const fp_region_t *r, int v6)
{
  return &r->shared[v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4];
}

FP_ALWAYS_INLINE void *
fp_session_at (const fp_shared_table_t *t, int v6, u32 slot)
{
  return t->records + (size_t) slot * (v6 ? sizeof (fp_session6_t) : sizeof (fp_session4_t));
}

FP_ALWAYS_INLINE _Atomic u64 *
fp_session_life (void *s, int v6)
{
  return v6 ? &((fp_session6_t *) s)->life : &((fp_session4_t *) s)->life;
}

FP_ALWAYS_INLINE _Atomic u32 *
fp_session_gen (void *s, int v6)
{
  return v6 ? &((fp_session6_t *) s)->gen : &((fp_session4_t *) s)->gen;
}

FP_ALWAYS_INLINE void
fp_session4_key (const fp_session4_t *s, u8 dir, fp_key4_t *k)
{
  memset (k, 0, sizeof (*k));
  k->src = dir ? s->ep : s->client;
  k->dst = dir ? s->nat : s->vip;
  k->sport = dir ? s->eport : s->cport;
  k->dport = dir ? s->nport : s->vport;
  k->proto = s->proto;
  k->vrf = s->vrf;
}

FP_ALWAYS_INLINE void
fp_session6_key (const fp_session6_t *s, u8 dir, fp_key6_t *k)
{
  memset (k, 0, sizeof (*k));
  memcpy (k->src, dir ? s->ep : s->client, 16);
  memcpy (k->dst, dir ? s->nat : s->vip, 16);
  k->sport = dir ? s->eport : s->cport;
  k->dport = dir ? s->nport : s->vport;
  k->proto = s->proto;
  k->vrf = s->vrf;
}

typedef union
{
  fp_key4_t v4;
  fp_key6_t v6;
} fp_session_key_t;

/* One of the record's keys, and its hash. */
FP_ALWAYS_INLINE u64
fp_session_key (const fp_region_t *r, const void *s, int v6, u8 dir, fp_session_key_t *k)
{
  if (v6)
    {
      fp_session6_key (s, dir, &k->v6);
      return fp_hash_key6 (&r->hash, &k->v6);
    }
  fp_session4_key (s, dir, &k->v4);
  return fp_hash_key4 (&r->hash, &k->v4);
}

FP_ALWAYS_INLINE u64
fp_session_hash (const fp_region_t *r, const void *s, int v6, u8 dir)
{
  fp_session_key_t k;
  return fp_session_key (r, s, v6, dir, &k);
}

FP_ALWAYS_INLINE int
fp_session_has_key (const void *session, int v6, u8 dir, const void *key)
{
  if (v6)
    {
      const fp_session6_t *s = session;
      const fp_key6_t *k = key;
      const u8 *addresses = dir ? s->ep : s->client;
      u64 d = (fp_load64 (addresses) ^ fp_load64 (k->src)) | (fp_load64 (addresses + 8) ^ fp_load64 (k->src + 8));
      addresses = dir ? s->nat : s->vip;
      d |= (fp_load64 (addresses) ^ fp_load64 (k->dst)) | (fp_load64 (addresses + 8) ^ fp_load64 (k->dst + 8));
      d |= (u64) ((dir ? s->eport : s->cport) ^ k->sport) | (u64) ((dir ? s->nport : s->vport) ^ k->dport);
      return (d | (u64) (s->vrf ^ k->vrf) | (u64) (s->proto ^ k->proto)) == 0;
    }
  const fp_session4_t *s = session;
  const fp_key4_t *k = key;
  const u8 *half = (const u8 *) s + 16 * dir; /* addresses, then ports: client and vip, or ep and nat */
  u64 d = fp_load64 (half) ^ fp_load64 (k);
  d |= fp_load32 (half + 8) ^ fp_load32 ((const u8 *) k + 8);
  return (d | (u64) (s->vrf ^ k->vrf) | (u64) (s->proto ^ k->proto)) == 0;
}

/* PENDING -> LIVE, expiry and state kept; the phase it has then. */
FP_INLINE u8
fp_session_promote (_Atomic u64 *life)
{
  u64 l = atomic_load_explicit (life, memory_order_acquire);
  while (fp_life_phase (l) == FP_PHASE_PENDING)
    {
      int done = atomic_compare_exchange_weak_explicit (life, &l, fp_life_with_phase (l, FP_PHASE_LIVE), memory_order_seq_cst,
							memory_order_seq_cst);
      FP_STEP ();
      if (done)
	return FP_PHASE_LIVE;
    }
  return fp_life_phase (l);
}

FP_ALWAYS_INLINE int
fp_session_match (const void *ctx, int live, u32 ref, const void *key, int v6)
{
  const fp_shared_table_t *t = ctx;
  if (FP_UNLIKELY (ref >> 1 >= t->capacity))
    return FP_MATCH_NO;
  void *s = fp_session_at (t, v6, ref >> 1);
  if (!fp_session_has_key (s, v6, ref & 1, key))
    return FP_MATCH_NO;
  _Atomic u64 *life = fp_session_life (s, v6);
  u8 phase = fp_life_phase (atomic_load_explicit (life, memory_order_seq_cst));
  if (FP_LIKELY (phase == FP_PHASE_LIVE))
    return FP_MATCH_YES;
  if (phase == FP_PHASE_PENDING)
    return !live || (ref & 1) || fp_session_promote (life) == FP_PHASE_LIVE ? FP_MATCH_YES : FP_MATCH_DEAD;
  return FP_MATCH_DEAD;
}

FP_ALWAYS_INLINE int
fp_session4_match (const void *ctx, int live, u32 ref, const void *key)
{
  return fp_session_match (ctx, live, ref, key, 0);
}

FP_ALWAYS_INLINE int
fp_session6_match (const void *ctx, int live, u32 ref, const void *key)
{
  return fp_session_match (ctx, live, ref, key, 1);
}

/* The same for an insertion, whose key is one of its own record's. */
typedef struct
{
  const void *record;
  u8 dir;
} fp_own_key_t;

FP_INLINE int
fp_session4_match_own (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_own_key_t *own = key;
  fp_key4_t k;
  fp_session4_key (own->record, own->dir, &k);
  return fp_session_match (ctx, live, ref, &k, 0);
}

FP_INLINE int
fp_session6_match_own (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_own_key_t *own = key;
  fp_key6_t k;
  fp_session6_key (own->record, own->dir, &k);
  return fp_session_match (ctx, live, ref, &k, 1);
}

FP_ALWAYS_INLINE fp_sref_t
fp_session_ref (const fp_shared_table_t *t, int v6, u64 word)
{
  fp_sref_t ref = { FP_NONE, 0, 0, 0, { 0, 0 } };
  if (word)
    {
      ref.slot = fp_word_slot (word);
      ref.dir = fp_word_ref (word) & 1;
      ref.found = 1;
      /* The generation that the word means: the record's may have been raised since (once, at most). */
      u32 gen = atomic_load_explicit (fp_session_gen (fp_session_at (t, v6, ref.slot), v6), memory_order_relaxed);
      ref.gen = gen - (u16) ((u16) gen - fp_word_gen (word));
    }
  return ref;
}

FP_ALWAYS_INLINE fp_sref_t
fp_session_find (const fp_region_t *r, int v6, const void *key, u64 hash)
{
  const fp_shared_table_t *t = fp_session_table (r, v6);
  return fp_session_ref (t, v6, fp_index_find (&t->index, hash, v6 ? fp_session6_match : fp_session4_match, t, key));
}

/* The generation is raised before the slot is retired, so that every reference dies with it. */
FP_INLINE void
fp_session_give_back (fp_worker_t *w, int v6, u32 slot)
{
  const fp_shared_table_t *t = fp_session_table (w->region, v6);
  _Atomic u32 *gen = fp_session_gen (fp_session_at (t, v6, slot), v6);
  atomic_store_explicit (gen, atomic_load_explicit (gen, memory_order_relaxed) + 1, memory_order_release);
  FP_STEP ();
  fp_slot_retire (w, v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4, slot);
}

FP_INLINE void
fp_session_erase_words (fp_region_t *r, int v6, u32 slot)
{
  const fp_shared_table_t *t = fp_session_table (r, v6);
  void *s = fp_session_at (t, v6, slot);
  u32 gen = atomic_load_explicit (fp_session_gen (s, v6), memory_order_relaxed);
  for (u8 dir = 0; dir < 2; dir++)
    {
      u64 hash = fp_session_hash (r, s, v6, dir);
      fp_index_erase (&t->index, hash, slot << 1 | dir, gen);
    }
}

/* PENDING -> ABANDONED; 0 if it is LIVE by now. */
FP_INLINE int
fp_session_abandon (_Atomic u64 *life)
{
  u64 l = atomic_load_explicit (life, memory_order_acquire);
  while (fp_life_phase (l) == FP_PHASE_PENDING)
    {
      int done = atomic_compare_exchange_weak_explicit (life, &l, fp_life_with_phase (l, FP_PHASE_ABANDONED), memory_order_seq_cst,
							memory_order_seq_cst);
      FP_STEP ();
      if (done)
	return 1;
    }
  return fp_life_phase (l) >= FP_PHASE_DYING;
}

/* Put a slot away that was never LIVE. */
FP_INLINE void
fp_session_discard (fp_worker_t *w, int v6, u32 slot, int visible)
{
  if (!visible)
    {
      void *s = fp_session_at (fp_session_table (w->region, v6), v6, slot);
      atomic_store_explicit (fp_session_life (s, v6), 0, memory_order_relaxed);
      FP_STEP ();
      fp_slot_free (w, v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4, slot);
      return;
    }
  fp_session_abandon (fp_session_life (fp_session_at (fp_session_table (w->region, v6), v6, slot), v6));
  fp_session_erase_words (w->region, v6, slot);
  fp_session_give_back (w, v6, slot);
}

/* Continue with a copy in a fresh slot, because other threads may be reading the old one. 0: no slot left (*slot is given back). */
FP_INLINE int
fp_session_renew (fp_worker_t *w, int v6, u32 *slot, int *visible)
{
  if (!*visible)
    return 1;
  const fp_shared_table_t *t = fp_session_table (w->region, v6);
  u32 fresh = fp_slot_alloc (w, v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4);
  if (fresh != FP_NONE)
    {
      /* All but life and gen, which others may change or read at any time. */
      u8 *to = fp_session_at (t, v6, fresh);
      const u8 *from = fp_session_at (t, v6, *slot);
      size_t before = v6 ? offsetof (fp_session6_t, gen) : offsetof (fp_session4_t, life);
      size_t after = v6 ? offsetof (fp_session6_t, service_slot) : offsetof (fp_session4_t, service_slot);
      memcpy (to, from, before);
      memcpy (to + after, from + after, (v6 ? sizeof (fp_session6_t) : sizeof (fp_session4_t)) - after);
      FP_STEP ();
    }
  fp_session_discard (w, v6, *slot, 1);
  *slot = fresh;
  *visible = 0;
  return fresh != FP_NONE;
}

/* The reverse key is there already. EXISTS: same flow, adopt *winner. COLLISION: another flow's. INSERTED: same flow, but out of the
 * way now: begin again. */
FP_INLINE int
fp_session_meet (fp_region_t *r, int v6, const void *own, u64 word, fp_sref_t *winner)
{
  const fp_shared_table_t *t = fp_session_table (r, v6);
  fp_session_key_t forward;
  u64 hash = fp_session_key (r, own, v6, 0, &forward);
  u32 slot = fp_word_slot (word);
  void *other = fp_session_at (t, v6, slot);
  if (!(fp_word_ref (word) & 1) || !fp_session_has_key (other, v6, 0, &forward))
    {
      *winner = fp_session_ref (t, v6, word);
      return FP_COLLISION;
    }
  for (u32 poll = 0; poll < FP_ADOPT_POLLS; poll++)
    {
      *winner = fp_session_find (r, v6, &forward, hash);
      if (winner->found)
	return FP_EXISTS;
    }
  if (fp_session_abandon (fp_session_life (other, v6)))
    fp_session_erase_words (r, v6, slot);
  return FP_INSERTED;
}

/* fp_session4_insert for both families; the hashes are those of the record's two keys. */
FP_ALWAYS_INLINE int
fp_session_insert (fp_worker_t *w, int v6, u32 *slot, u64 forward_hash, u64 reverse_hash, u8 state, u32 expiry, fp_sref_t *winner)
{
  fp_region_t *r = w->region;
  const fp_shared_table_t *t = fp_session_table (r, v6);
  fp_match_fn_t *match = v6 ? fp_session6_match_own : fp_session4_match_own;
  const int alone = r->workers == 1; /* only workers insert */
  int visible = 0;
  u64 word = 0;
  memset (winner, 0, sizeof (*winner));
  winner->slot = FP_NONE;
  for (u32 try = 0; try < FP_INDEX_TRIES; try++)
    {
      void *s = fp_session_at (t, v6, *slot);
      u32 gen = atomic_load_explicit (fp_session_gen (s, v6), memory_order_relaxed);
      const fp_own_key_t forward = { s, 0 }, reverse = { s, 1 };
      _Atomic u64 *life = fp_session_life (s, v6);
      atomic_store_explicit (life, fp_life (gen, FP_PHASE_PENDING, state, expiry), memory_order_release);
      FP_STEP ();

      int rc = fp_index_enter (&t->index, alone, reverse_hash, *slot << 1 | 1, gen, match, t, &reverse, &word, &visible);
      if (rc == FP_INDEX_EXISTS)
	{
	  int met = fp_session_meet (r, v6, s, word, winner);
	  if (met == FP_EXISTS)
	    {
	      fp_session_discard (w, v6, *slot, visible);
	      fp_count (w, FP_C_SESSION_RACE_LOST, 1);
	      return FP_EXISTS;
	    }
	  if (!fp_session_renew (w, v6, slot, &visible))
	    return FP_FULL;
	  if (met == FP_INSERTED)
	    continue;
	  fp_count (w, FP_C_SESSION_REVERSE_TAKEN, 1);
	  return FP_COLLISION;
	}
      if (rc == FP_INDEX_FULL)
	break;

      rc = fp_index_enter (&t->index, alone, forward_hash, *slot << 1, gen, match, t, &forward, &word, &visible);
      if (rc == FP_INDEX_OK && fp_session_promote (life) != FP_PHASE_ABANDONED)
	{
	  fp_count (w, FP_C_SESSION_NEW, 1);
	  fp_counter_add (&w->counters->live[v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4], 1);
	  fp_service_count_session (w, v6, s, 1);
	  /* not the record's generation: others may have found and removed the session by now */
	  *winner = (fp_sref_t){ *slot, gen, 0, 1, { 0, 0 } };
	  return FP_INSERTED;
	}
      if (rc == FP_INDEX_EXISTS && fp_word_slot (word) == *slot)
	/* both keys of this session are the same: only another source port can help */
	return fp_session_renew (w, v6, slot, &visible) ? FP_COLLISION : FP_FULL;
      if (rc == FP_INDEX_EXISTS)
	{
	  *winner = fp_session_ref (t, v6, word);
	  fp_session_discard (w, v6, *slot, 1);
	  fp_count (w, FP_C_SESSION_RACE_LOST, 1);
	  return FP_EXISTS;
	}
      if (rc == FP_INDEX_FULL)
	break;
      if (!fp_session_renew (w, v6, slot, &visible)) /* a rival abandoned it */
	return FP_FULL;
    }
  fp_session_discard (w, v6, *slot, visible);
  fp_count (w, FP_C_SESSION_INDEX_FULL, 1);
  return FP_FULL;
}

/* LIVE -> DYING from exactly `life`, then the rest of the removal. 0: it changed. */
FP_INLINE int
fp_session_remove_life (fp_worker_t *w, int v6, u32 slot, u64 life)
{
  void *s = fp_session_at (fp_session_table (w->region, v6), v6, slot);
  int done = atomic_compare_exchange_strong_explicit (fp_session_life (s, v6), &life, fp_life_with_phase (life, FP_PHASE_DYING),
						      memory_order_seq_cst, memory_order_seq_cst);
  FP_STEP ();
  if (!done)
    return 0;
  fp_session_erase_words (w->region, v6, slot);
  fp_service_count_session (w, v6, s, -1);
  fp_session_give_back (w, v6, slot);
  fp_counter_add (&w->counters->live[v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4], -1ull);
  return 1;
}

FP_INLINE int
fp_session_remove (fp_worker_t *w, int v6, u32 slot, u32 gen)
{
  const fp_shared_table_t *t = fp_session_table (w->region, v6);
  if (slot >= t->capacity)
    return 0;
  void *s = fp_session_at (t, v6, slot);
  for (;;)
    {
      u64 life = atomic_load_explicit (fp_session_life (s, v6), memory_order_acquire);
      if (fp_life_phase (life) != FP_PHASE_LIVE ||
	  atomic_load_explicit (fp_session_gen (s, v6), memory_order_acquire) != gen)
	return 0;
      if (fp_session_remove_life (w, v6, slot, life))
	{
	  fp_count (w, FP_C_SESSION_REMOVED, 1);
	  return 1;
	}
    }
}

FP_ALWAYS_INLINE void *
fp_session_deref (const fp_region_t *r, int v6, fp_sref_t ref)
{
  const fp_shared_table_t *t = fp_session_table (r, v6);
  if (ref.slot >= t->capacity)
    return NULL;
  void *s = fp_session_at (t, v6, ref.slot);
  if (fp_life_phase (atomic_load_explicit (fp_session_life (s, v6), memory_order_acquire)) != FP_PHASE_LIVE ||
      atomic_load_explicit (fp_session_gen (s, v6), memory_order_acquire) != ref.gen)
    return NULL;
  return s;
}

/* Refresh: from `seen` (as loaded) to another state and expiry. 1: done, or someone else refreshed at the same moment; -1: nothing done
 * because the word changed, load and decide again; 0: the session is going, treat the packet as a miss. */
FP_ALWAYS_INLINE int
fp_life_touch (_Atomic u64 *life, u64 seen, u8 state, u32 expiry)
{
  u64 to = (seen & ~0xffffffffffull) | (u64) state << 32 | expiry, was = seen;
  if (atomic_compare_exchange_strong_explicit (life, &was, to, memory_order_acq_rel, memory_order_acquire))
    {
      FP_STEP ();
      return 1;
    }
  return fp_life_phase (was) >= FP_PHASE_DYING || (was ^ seen) >> 48 ? 0 : was == to ? 1 : -1;
}

/* Look at up to `budget` slots of the worker's share of one table; the expired go. Returns how many went. */
FP_INLINE u32
fp_session_age (fp_worker_t *w, int v6, u32 budget)
{
  const fp_shared_table_t *t = fp_session_table (w->region, v6);
  u32 *cursor = &w->age_cursor[v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4];
  u32 used = atomic_load_explicit (&t->pool->fresh, memory_order_relaxed), gone = 0;
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
      u64 life = atomic_load_explicit (fp_session_life (fp_session_at (t, v6, slot), v6), memory_order_acquire);
      if (fp_life_phase (life) == FP_PHASE_LIVE && fp_tick_passed (w->tick, fp_life_expiry (life)) &&
	  fp_session_remove_life (w, v6, slot, life))
	gone++;
    }
  fp_count (w, FP_C_SESSION_EXPIRED, gone);
  return gone;
}

/* ---- IPv4 ---- */

FP_ALWAYS_INLINE u64
fp_key4_hash (const fp_region_t *r, const fp_key4_t *key)
{
  return fp_hash_key4 (&r->hash, key);
}

FP_ALWAYS_INLINE fp_session4_t *
fp_session4_at (const fp_region_t *r, u32 slot)
{
  return fp_session_at (fp_session_table (r, 0), 0, slot);
}

/* The record may be read until the caller's next quiescent point. */
FP_ALWAYS_INLINE fp_sref_t
fp_session4_find (const fp_region_t *r, const fp_key4_t *key, u64 hash)
{
  return fp_session_find (r, 0, key, hash);
}

/* A reference kept over quiescent points: the session, or NULL if it is gone. */
FP_ALWAYS_INLINE fp_session4_t *
fp_session4_deref (const fp_region_t *r, fp_sref_t ref)
{
  return fp_session_deref (r, 0, ref);
}

/* A slot, or FP_NONE when the table is full. Fill every field but life and gen, then insert or free it. */
FP_INLINE u32
fp_session4_alloc (fp_worker_t *w)
{
  return fp_slot_alloc (w, FP_SHARED_SESSION4);
}

FP_INLINE void
fp_session4_free (fp_worker_t *w, u32 slot)
{
  fp_slot_free (w, FP_SHARED_SESSION4, slot);
}

/* enum fp_insert. FP_INSERTED: the session is live, *winner refers to it. FP_EXISTS: *winner, the slot is given back. FP_COLLISION: the reverse key is
 * another flow's (*winner): change nat or nport in the record at *slot (which may be another one now) and call again, or free it.
 * FP_FULL: given back. */
FP_INLINE int
fp_session4_insert (fp_worker_t *w, u32 *slot, u8 state, u32 expiry, fp_sref_t *winner)
{
  const void *s = fp_session4_at (w->region, *slot);
  return fp_session_insert (w, 0, slot, fp_session_hash (w->region, s, 0, 0), fp_session_hash (w->region, s, 0, 1), state, expiry,
			    winner);
}

/* 1: removed by this call. */
FP_INLINE int
fp_session4_remove (fp_worker_t *w, u32 slot, u32 gen)
{
  return fp_session_remove (w, 0, slot, gen);
}

/* ---- IPv6 ---- */

FP_ALWAYS_INLINE u64
fp_key6_hash (const fp_region_t *r, const fp_key6_t *key)
{
  return fp_hash_key6 (&r->hash, key);
}

FP_ALWAYS_INLINE fp_session6_t *
fp_session6_at (const fp_region_t *r, u32 slot)
{
  return fp_session_at (fp_session_table (r, 1), 1, slot);
}

FP_ALWAYS_INLINE fp_sref_t
fp_session6_find (const fp_region_t *r, const fp_key6_t *key, u64 hash)
{
  return fp_session_find (r, 1, key, hash);
}

FP_ALWAYS_INLINE fp_session6_t *
fp_session6_deref (const fp_region_t *r, fp_sref_t ref)
{
  return fp_session_deref (r, 1, ref);
}

FP_INLINE u32
fp_session6_alloc (fp_worker_t *w)
{
  return fp_slot_alloc (w, FP_SHARED_SESSION6);
}

FP_INLINE void
fp_session6_free (fp_worker_t *w, u32 slot)
{
  fp_slot_free (w, FP_SHARED_SESSION6, slot);
}

FP_INLINE int
fp_session6_insert (fp_worker_t *w, u32 *slot, u8 state, u32 expiry, fp_sref_t *winner)
{
  const void *s = fp_session6_at (w->region, *slot);
  return fp_session_insert (w, 1, slot, fp_session_hash (w->region, s, 1, 0), fp_session_hash (w->region, s, 1, 1), state, expiry,
			    winner);
}

FP_INLINE int
fp_session6_remove (fp_worker_t *w, u32 slot, u32 gen)
{
  return fp_session_remove (w, 1, slot, gen);
}

#endif /* FP_SESSION_H */
