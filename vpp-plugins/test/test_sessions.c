/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions with one thread: insertion, both keys, collisions, removal, ageing, full tables, references. */
#include "tables.h"

static fp_region_t r;
static fp_worker_t w;

static void
test_life (void)
{
  fp_capacity_t c = small_capacity ();
  open_region (&r, NULL, &c, 1);
  fp_worker_init (&w, &r, 0, 1);
  fp_worker_quiescent (&w, 1000000000000ull);

  fp_sref_t ref, other;
  CHECK (insert4 (&w, 1, 5, w.tick + 100, &ref) == FP_INSERTED, "first");
  fp_key4_t f = forward4 (1), b = reverse4 (1, 5);
  fp_sref_t hit = find4 (&r, &f);
  CHECK (hit.found && hit.slot == ref.slot && hit.dir == 0 && hit.gen == ref.gen, "forward");
  hit = find4 (&r, &b);
  CHECK (hit.found && hit.slot == ref.slot && hit.dir == 1, "reverse");
  f.vrf = 1;
  CHECK (!find4 (&r, &f).found, "another VRF");
  f.vrf = 0, f.proto = 17;
  CHECK (!find4 (&r, &f).found, "another protocol");

  /* the same flow again, with the same and with another endpoint: the first stays */
  CHECK (insert4 (&w, 1, 5, w.tick + 100, &other) == FP_EXISTS && other.slot == ref.slot && other.gen == ref.gen, "same");
  CHECK (insert4 (&w, 1, 6, w.tick + 100, &other) == FP_EXISTS && other.slot == ref.slot && other.dir == 0, "other endpoint");
  b = reverse4 (1, 6);
  CHECK (!find4 (&r, &b).found, "the loser's reverse key is gone");

  /* another flow with the same reverse key */
  u32 slot = fp_session4_alloc (&w);
  fp_session4_t *s = fp_session4_at (&r, slot);
  fill4 (s, 1, 5);
  s->cport = 9999;
  CHECK (fp_session4_insert (&w, &slot, 1, w.tick + 100, &other) == FP_COLLISION && other.slot == ref.slot && other.dir == 1, "taken");
  s = fp_session4_at (&r, slot);
  s->nport = 4242;
  CHECK (fp_session4_insert (&w, &slot, 1, w.tick + 100, &other) == FP_INSERTED, "next port");
  CHECK (fp_shared_used (&r, FP_SHARED_SESSION4) == 2, "two sessions");

  /* refresh, and its race with removal */
  _Atomic u64 *life = &fp_session4_at (&r, ref.slot)->life;
  u64 seen = atomic_load (life);
  CHECK (fp_life_touch (life, seen, 7, w.tick + 500) == 1, "touch");
  CHECK (fp_life_touch (life, seen, 9, w.tick + 500) == -1, "someone else was there");
  CHECK (fp_life_state (atomic_load (life)) == 7 && fp_life_expiry (atomic_load (life)) == w.tick + 500, "touched");
  seen = atomic_load (life);
  CHECK (fp_session4_deref (&r, ref) == fp_session4_at (&r, ref.slot), "reference");
  CHECK (fp_session4_remove (&w, ref.slot, ref.gen) == 1 && fp_session4_remove (&w, ref.slot, ref.gen) == 0, "removed once");
  CHECK (fp_life_touch (life, seen, 7, w.tick + 900) == 0, "a removed session is a miss");
  CHECK (!fp_session4_deref (&r, ref), "reference died");
  f = forward4 (1);
  CHECK (!find4 (&r, &f).found, "gone");
  CHECK (insert4 (&w, 1, 6, w.tick + 100, &other) == FP_INSERTED && other.slot != ref.slot, "again, in another slot");
  fp_region_close (&r, 1);
}

static void
test_expiry (void)
{
  fp_capacity_t c = small_capacity ();
  fp_sref_t ref;
  open_region (&r, NULL, &c, 2);
  fp_worker_t w2;
  fp_worker_init (&w, &r, 0, 1);
  fp_worker_init (&w2, &r, 1, 2);
  fp_worker_sleep (&w2);
  fp_worker_quiescent (&w, 1000000000000ull);
  for (u32 i = 0; i < 60; i++)
    CHECK (insert4 (&w, i, i, w.tick + 10 * (i % 2) + 1, &ref) == FP_INSERTED, "flow %u", i);
  fp_worker_quiescent (&w, 1000000000000ull + (2ull << FP_TICK_SHIFT));
  fp_worker_set_time (&w2, w.now_ns);
  u32 gone = fp_sessions_age (&w, 1000) + fp_sessions_age (&w2, 1000);
  CHECK (gone == 30, "%u expired", gone);
  for (u32 i = 0; i < 60; i++)
    {
      fp_key4_t f = forward4 (i), b = reverse4 (i, i);
      CHECK (find4 (&r, &f).found == i % 2 && find4 (&r, &b).found == i % 2, "flow %u", i);
    }
  /* expiry compares modulo 2^32 */
  fp_worker_quiescent (&w, (u64) (0xffffffffu) << FP_TICK_SHIFT);
  CHECK (fp_tick_passed (3, 0xfffffff0u) && !fp_tick_passed (0xfffffff0u, 3), "wrap");
  fp_region_close (&r, 1);
}

/* A full table refuses, and takes again what was given back. Both families; every key to the last slot. */
static void
test_full (void)
{
  fp_capacity_t c = small_capacity ();
  c.sessions4 = 1000;
  c.sessions6 = 50;
  fp_sref_t ref;
  open_region (&r, NULL, &c, 1);
  fp_worker_init (&w, &r, 0, 1);
  fp_worker_quiescent (&w, 1000000000000ull);
  for (u32 round = 0; round < 5; round++)
    {
      for (u32 i = 0; i < 1000; i++)
	CHECK (insert4 (&w, i, i % 10, w.tick + 5, &ref) == FP_INSERTED, "round %u flow %u", round, i);
      for (u32 i = 1000; i < 1100; i++)
	CHECK (insert4 (&w, i, i % 10, w.tick + 5, &ref) == FP_FULL, "full");
      CHECK (fp_shared_used (&r, FP_SHARED_SESSION4) == 1000, "used");
      for (u32 i = 0; i < 1100; i++)
	{
	  fp_key4_t f = forward4 (i), b = reverse4 (i, i % 10);
	  CHECK (find4 (&r, &f).found == (i < 1000) && find4 (&r, &b).found == (i < 1000), "flow %u", i);
	}
      fp_worker_quiescent (&w, w.now_ns + (10ull << FP_TICK_SHIFT));
      CHECK (fp_sessions_age (&w, 5000) == 1000, "all expired");
      for (u32 i = 0; i < 2; i++)
	fp_worker_quiescent (&w, w.now_ns);
    }
  for (u32 i = 0; i < 51; i++)
    {
      u32 slot = fp_session6_alloc (&w);
      CHECK ((slot == FP_NONE) == (i == 50), "IPv6 slot %u", i);
      if (slot == FP_NONE)
	break;
      fill6 (fp_session6_at (&r, slot), i, i % 3);
      CHECK (fp_session6_insert (&w, &slot, 1, w.tick + 5, &ref) == FP_INSERTED, "IPv6 flow %u", i);
      for (u8 dir = 0; dir < 2; dir++)
	{
	  fp_key6_t k;
	  fp_session6_key (fp_session6_at (&r, slot), dir, &k);
	  fp_sref_t hit = fp_session6_find (&r, &k, fp_key6_hash (&r, &k));
	  CHECK (hit.found && hit.slot == slot && hit.dir == dir, "IPv6 flow %u dir %u", i, dir);
	}
    }
  CHECK (fp_control_flush_sessions (&r) == 50, "flushed");
  CHECK (fp_shared_used (&r, FP_SHARED_SESSION6) == 0, "none left");
  fp_region_close (&r, 1);
}

/* A slot is used again only when every awake thread has passed a quiescent point. */
static void
test_quiescence (void)
{
  fp_capacity_t c = small_capacity ();
  c.sessions4 = 1;
  fp_sref_t ref, again;
  fp_worker_t w2;
  open_region (&r, NULL, &c, 2);
  fp_worker_init (&w, &r, 0, 1);
  fp_worker_init (&w2, &r, 1, 2);
  fp_worker_quiescent (&w, 1000);
  fp_worker_quiescent (&w2, 1000);
  CHECK (insert4 (&w, 1, 1, 100, &ref) == FP_INSERTED, "the only slot");
  fp_session4_remove (&w, ref.slot, ref.gen);
  CHECK (insert4 (&w, 2, 1, 100, &again) == FP_FULL, "still readable on both");
  fp_worker_quiescent (&w, 1000);
  CHECK (insert4 (&w, 2, 1, 100, &again) == FP_FULL, "still readable on the other");
  fp_worker_quiescent (&w2, 1000);
  fp_worker_quiescent (&w, 1000);
  CHECK (insert4 (&w, 2, 1, 100, &again) == FP_INSERTED && again.gen == ref.gen + 1, "free");
  fp_session4_remove (&w, again.slot, again.gen);
  CHECK (insert4 (&w, 3, 1, 100, &ref) == FP_FULL, "readable");
  fp_worker_sleep (&w2);
  fp_worker_quiescent (&w, 1000);
  CHECK (insert4 (&w, 3, 1, 100, &ref) == FP_INSERTED, "a sleeping thread counts as quiescent");
  fp_worker_wake (&w2);
  fp_session4_remove (&w, ref.slot, ref.gen);
  fp_worker_quiescent (&w, 1000);
  CHECK (insert4 (&w, 4, 1, 100, &ref) == FP_FULL, "awake again");
  fp_region_close (&r, 1);
}

static void
test_fragments (void)
{
  fp_capacity_t c = small_capacity ();
  fp_frag_result_t result;
  fp_sref_t session = { 3, 9, 1, 1, { 0, 0 } };
  open_region (&r, NULL, &c, 1);
  fp_worker_init (&w, &r, 0, 1);
  fp_worker_quiescent (&w, 1000000000000ull);
  fp_frag_key_t k = { .id = 77, .proto = 17, .family = 4 };
  CHECK (fp_frag_find (&w, &k).kind == 0, "not known");
  CHECK (fp_frag_insert (&w, &k, FP_FRAG_SESSION, session, &result) == 0 && result.session.slot == 3, "entered");
  fp_frag_result_t hit = fp_frag_find (&w, &k);
  CHECK (hit.kind == FP_FRAG_SESSION && hit.session.slot == 3 && hit.session.gen == 9 && hit.session.dir == 1, "found");
  CHECK (fp_frag_insert (&w, &k, FP_FRAG_PASS, session, &result) == 0 && result.kind == FP_FRAG_SESSION, "the first counts");
  u32 entered = 1;
  for (u32 i = 0; i < 100; i++)
    {
      k.id = 1000 + i;
      int rc = fp_frag_insert (&w, &k, FP_FRAG_PASS, session, &result);
      entered += rc == 0;
      CHECK ((rc == 0) == (fp_frag_find (&w, &k).kind == FP_FRAG_PASS), "fragment %u", i);
    }
  /* the loser above waits for a quiescent point, so that one slot fewer was free */
  CHECK (entered == 63, "%u entered", entered);
  CHECK (atomic_load (&w.counters->counter[FP_C_FRAGMENT_TABLE_FULL]) == 38, "refusals counted");
  fp_worker_quiescent (&w, w.now_ns + 3000000000ull);
  k.id = 1000;
  CHECK (fp_frag_find (&w, &k).kind == 0, "expired");
  fp_frag_age (&w, 1000);
  CHECK (fp_shared_used (&r, FP_SHARED_FRAGMENT) == 0, "aged");
  for (u32 i = 0; i < 2; i++)
    fp_worker_quiescent (&w, w.now_ns);
  CHECK (fp_frag_insert (&w, &k, FP_FRAG_DROP, session, &result) == 0, "free again");
  /* an expired entry that ageing has not met makes way */
  fp_worker_quiescent (&w, w.now_ns + 3000000000ull);
  CHECK (fp_frag_insert (&w, &k, FP_FRAG_PASS, session, &result) == 0 && result.kind == FP_FRAG_PASS, "replaced");
  CHECK (fp_frag_find (&w, &k).kind == FP_FRAG_PASS, "replaced");
  fp_region_close (&r, 1);
}

int
main (void)
{
  test_life ();
  test_expiry ();
  test_full ();
  test_quiescence ();
  test_fragments ();
  puts ("sessions: life, expiry, full tables, quiescence, fragments");
  return 0;
}
