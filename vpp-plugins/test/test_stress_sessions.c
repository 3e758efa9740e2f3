/* SPDX-License-Identifier: Apache-2.0 */
/* Threads against each other: the same new flows on two workers at once give one session each; writers, readers, ageing and the control
 * thread together for a few seconds, with every hit checked. */
#include <pthread.h>

#include "tables.h"

#if defined(__SANITIZE_THREAD__)
#define FLOWS 20000
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FLOWS 20000
#endif
#endif
#ifndef FLOWS
#define FLOWS 100000
#endif
#define SECONDS 4

static fp_region_t r;
static fp_sref_t *agreed[2];
static pthread_barrier_t barrier;
static _Atomic int stop;

/* Every flow, with an endpoint of this worker's own choice. */
static void *
same_flows (void *arg)
{
  u32 me = (u32) (uintptr_t) arg;
  fp_worker_t w;
  fp_worker_init (&w, &r, me, me + 1);
  pthread_barrier_wait (&barrier);
  for (u32 i = 0; i < FLOWS; i++)
    {
      fp_worker_quiescent (&w, 1000000000000ull);
      fp_key4_t k = forward4 (i);
      fp_sref_t ref = find4 (&r, &k);
      if (!ref.found)
	{
	  /* half of them choose the same endpoint, so that the reverse keys meet, too */
	  int rc = insert4 (&w, i, i % 2 ? 1 : me * 100 + 2, w.tick + 1000, &ref);
	  CHECK (rc == FP_INSERTED || rc == FP_EXISTS, "flow %u: %d", i, rc);
	}
      agreed[me][i] = ref;
    }
  fp_worker_sleep (&w);
  return NULL;
}

static void
test_same_flows (void)
{
  fp_capacity_t c = small_capacity ();
  pthread_t thread[2];
  c.sessions4 = FLOWS + 1024;
  open_region (&r, NULL, &c, 2);
  pthread_barrier_init (&barrier, NULL, 2);
  for (u32 i = 0; i < 2; i++)
    {
      agreed[i] = calloc (FLOWS, sizeof (fp_sref_t));
      pthread_create (&thread[i], NULL, same_flows, (void *) (uintptr_t) i);
    }
  for (u32 i = 0; i < 2; i++)
    pthread_join (thread[i], NULL);
  CHECK (fp_shared_used (&r, FP_SHARED_SESSION4) == FLOWS, "%u sessions", fp_shared_used (&r, FP_SHARED_SESSION4));
  u32 live = 0;
  for (u32 s = 0; s < c.sessions4; s++)
    live += fp_life_phase (atomic_load (&fp_session4_at (&r, s)->life)) == FP_PHASE_LIVE;
  CHECK (live == FLOWS, "%u live records", live);
  u64 words = 0, position;
  const fp_index_t *x = &r.shared[FP_SHARED_SESSION4].index;
  for (position = 0; position < fp_index_positions (x); position++)
    words += atomic_load (fp_index_at (x, position)) != 0;
  CHECK (words == 2 * FLOWS, "%lu words", (unsigned long) words);
  for (u32 i = 0; i < FLOWS; i++)
    {
      fp_key4_t k = forward4 (i);
      fp_sref_t ref = find4 (&r, &k);
      CHECK (ref.found && ref.slot == agreed[0][i].slot && ref.gen == agreed[0][i].gen, "flow %u: worker 0", i);
      CHECK (ref.slot == agreed[1][i].slot && ref.gen == agreed[1][i].gen, "flow %u: worker 1", i);
      fp_session4_key (fp_session4_at (&r, ref.slot), 1, &k);
      fp_sref_t back = find4 (&r, &k);
      CHECK (back.found && back.slot == ref.slot && back.dir == 1, "flow %u: reverse", i);
    }
  u64 lost = atomic_load (&r.counters[0].counter[FP_C_SESSION_RACE_LOST]) +
	     atomic_load (&r.counters[1].counter[FP_C_SESSION_RACE_LOST]);
  printf ("same %u flows on two workers: one session each, both agree (%lu met in the middle)\n", FLOWS, (unsigned long) lost);
  for (u32 i = 0; i < 2; i++)
    free (agreed[i]);
  fp_region_close (&r, 1);
}

/* ---- all together ---- */

#define POPULATION 600
#define STABLE	   50 /* flows that live all the time: no lookup may miss them */

static void *
writer (void *arg)
{
  u32 me = (u32) (uintptr_t) arg;
  fp_worker_t w;
  u64 now = 1000000000000ull;
  fp_worker_init (&w, &r, me, me + 1);
  while (!atomic_load_explicit (&stop, memory_order_relaxed))
    {
      fp_worker_quiescent (&w, now += 1000000);
      u32 i = STABLE + fp_random_below (&w, POPULATION - STABLE);
      fp_key4_t k = forward4 (i);
      fp_sref_t ref = find4 (&r, &k);
      if (!ref.found)
	{
	  int rc = insert4 (&w, i, fp_random_below (&w, 4), w.tick + 1 + fp_random_below (&w, 20), &ref);
	  if (rc == FP_EXISTS)
	    CHECK (fp_session4_at (&r, ref.slot)->client == 0x0a000000u + i, "the winner is the flow's");
	}
      else if (fp_random_below (&w, 4) == 0)
	fp_session4_remove (&w, ref.slot, ref.gen);
      else
	{
	  _Atomic u64 *life = &fp_session4_at (&r, ref.slot)->life;
	  fp_life_touch (life, atomic_load (life), 3, w.tick + 10);
	}
      fp_sessions_age (&w, 8);
    }
  fp_worker_sleep (&w);
  return NULL;
}

static void *
reader (void *arg)
{
  u32 me = (u32) (uintptr_t) arg;
  fp_worker_t w;
  u64 *lookups = calloc (1, sizeof (u64));
  fp_worker_init (&w, &r, me, me + 1);
  while (!atomic_load_explicit (&stop, memory_order_relaxed))
    {
      fp_worker_quiescent (&w, 1000000000000ull);
      for (u32 n = 0; n < 32; n++)
	{
	  u32 i = fp_random_below (&w, POPULATION);
	  fp_key4_t k = forward4 (i);
	  fp_sref_t ref = find4 (&r, &k);
	  CHECK (ref.found || i >= STABLE, "flow %u is missed", i);
	  if (ref.found)
	    CHECK (fp_session_has_key (fp_session4_at (&r, ref.slot), 0, 0, &k), "flow %u: whole record", i);
	}
      u8 vip[4] = { 10, 96, 0, 1 };
      const fp_frontend_t *f = fp_frontend_find (&r, 0, 0, vip, fp_swap16 (80), 6);
      CHECK (f, "the frontend is always there");
      const fp_service_t *s = fp_frontend_service (&r, f);
      CHECK (s, "its service is always there");
      fp_set_t set = fp_service_set (&r, s, FP_SET_CLUSTER);
      CHECK (set.count, "the set is never empty");
      for (u32 e = 0; e < set.count; e++)
	{
	  const fp_endpoint_t *ep = fp_endpoint (&r, set.slots[e]);
	  CHECK (ep->family == 4 && ep->address[0] == 10 && ep->address[1] == 1 && ep->port == fp_swap16 (8080), "endpoint");
	}
      u8 pod[4] = { 10, 1, 0, 7 };
      CHECK (fp_prefix_class (&r, 0, 0, pod) == FP_CLASS_POD, "class");
      (*lookups) += 32;
    }
  fp_worker_sleep (&w);
  return lookups;
}

static void
test_together (void)
{
  fp_capacity_t c = small_capacity ();
  pthread_t thread[4];
  fp_sref_t ref;
  fp_worker_t w;
  c.sessions4 = 512; /* full now and then */
  open_region (&r, NULL, &c, 4);
  fp_worker_init (&w, &r, 0, 9);
  fp_worker_quiescent (&w, 1000000000000ull);
  for (u32 i = 0; i < STABLE; i++)
    CHECK (insert4 (&w, i, 1, w.tick + 0x40000000, &ref) == FP_INSERTED, "stable flow");
  fp_worker_sleep (&w);
  fp_wire_service_t service = wire_service (7, 4, 6);
  fp_wire_frontend_t frontend = wire_frontend (0x0a600001, 80, 7);
  fp_wire_prefix_t prefix = { .family = 4, .length = 16, .prefix_class = FP_PREFIX_POD, .address = { 10, 1 } };
  CHECK (!upsert (&r, FP_TABLE_PREFIX, &prefix) && !upsert (&r, FP_TABLE_SERVICE, &service), "service");
  fp_wire_endpoint_t endpoint = wire_endpoint (7, 0x0a010000, 8080, 3);
  CHECK (!upsert (&r, FP_TABLE_ENDPOINT, &endpoint) && !fp_control_commit (&r), "endpoint");
  CHECK (!upsert (&r, FP_TABLE_FRONTEND, &frontend), "frontend");
  pthread_create (&thread[0], NULL, writer, (void *) 0);
  pthread_create (&thread[1], NULL, writer, (void *) 1);
  pthread_create (&thread[2], NULL, reader, (void *) 2);
  pthread_create (&thread[3], NULL, reader, (void *) 3);
  u64 end = fp_now_ns () + SECONDS * 1000000000ull, rounds = 0;
  while (fp_now_ns () < end)
    {
      /* replace all endpoints by others, and swap the frontend's record */
      u32 base = 0x0a010000u + (u32) (rounds % 60) * 256, n = 1 + (u32) rounds % 40;
      u32 entered = 0;
      for (u32 i = 0; i < n; i++)
	{
	  endpoint = wire_endpoint (7, base + 256 + i, 8080, 3);
	  entered += !upsert (&r, FP_TABLE_ENDPOINT, &endpoint); /* full while a reader is not running */
	}
      u64 cursor = 0;
      u8 dump[FP_DUMP_ENTRY (FP_TABLE_ENDPOINT) * 256];
      int found = fp_control_dump (&r, FP_TABLE_ENDPOINT, &cursor, dump, 256);
      for (int i = 0; entered && i < found; i++)
	{
	  fp_wire_endpoint_t e;
	  memcpy (&e, dump + (size_t) i * FP_DUMP_ENTRY (FP_TABLE_ENDPOINT), FP_WIRE_ENDPOINT_KEY);
	  if (memcmp (e.address, endpoint.address, 3))
	    delete (&r, FP_TABLE_ENDPOINT, &e);
	}
      CHECK (!fp_control_commit (&r), "commit");
      frontend.kind = rounds % 2 ? FP_FRONTEND_CLUSTER_IP : FP_FRONTEND_EXTERNAL_IP;
      upsert (&r, FP_TABLE_FRONTEND, &frontend);
      prefix.address[1] = 2;
      rounds % 2 ? upsert (&r, FP_TABLE_PREFIX, &prefix) : delete (&r, FP_TABLE_PREFIX, &prefix);
      fp_control_poll (&r);
      rounds++;
      struct timespec pause = { 0, 200000 };
      nanosleep (&pause, NULL);
    }
  atomic_store (&stop, 1);
  u64 lookups = 0;
  for (u32 i = 0; i < 4; i++)
    {
      void *result;
      pthread_join (thread[i], &result);
      if (result)
	lookups += *(u64 *) result;
      free (result);
    }
  CHECK (rounds > 10 && lookups > 1000, "something happened");
  u32 live = 0;
  for (u32 s = 0; s < c.sessions4; s++)
    live += fp_life_phase (atomic_load (&fp_session4_at (&r, s)->life)) == FP_PHASE_LIVE;
  CHECK (live == fp_shared_used (&r, FP_SHARED_SESSION4), "%u live, %u counted", live, fp_shared_used (&r, FP_SHARED_SESSION4));
  printf ("together: %lu lookups, %lu endpoint sets, %u sessions at the end\n", (unsigned long) lookups, (unsigned long) rounds, live);
  fp_region_close (&r, 1);
}

int
main (void)
{
  test_same_flows ();
  test_together ();
  return 0;
}
