/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold of a region that has just been attached, whatever happened to its last writer. */
#ifndef TEST_INVARIANTS_H
#define TEST_INVARIANTS_H

#include "tables.h"

/* Every session of a family is whole and found both ways; no other word is in the index. */
static inline void
check_sessions (fp_region_t *r, int v6)
{
  const fp_shared_table_t *t = fp_session_table (r, v6);
  u32 live = 0, words = 0;
  for (u32 s = 0; s < t->capacity; s++)
    {
      void *record = fp_session_at (t, v6, s);
      u8 phase = fp_life_phase (atomic_load (fp_session_life (record, v6)));
      if (phase == FP_PHASE_FREE)
	continue;
      CHECK (phase == FP_PHASE_LIVE, "only whole sessions are left");
      live++;
      for (u8 dir = 0; dir < 2; dir++)
	{
	  fp_session_key_t k;
	  u64 hash = fp_session_key (r, record, v6, dir, &k);
	  fp_sref_t ref = fp_session_find (r, v6, &k, hash);
	  CHECK (ref.found && fp_session_has_key (fp_session_at (t, v6, ref.slot), v6, ref.dir, &k), "slot %u dir %u", s, dir);
	}
    }
  for (u64 p = 0; p < fp_index_positions (&t->index); p++)
    words += atomic_load (fp_index_at (&t->index, p)) != 0;
  CHECK (words == 2 * live, "%u words of %u sessions", words, live);
  CHECK (live == fp_shared_used (r, v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4), "count");
}

/* Frontends have their services and addresses, sets their members and no others. */
static inline void
check_control (fp_region_t *r)
{
  u64 position = 0, w, endpoints = 0;
  while ((w = fp_control_next (r, FP_CONTROLLED_FRONTEND, &position)))
    {
      const fp_frontend_t *f = fp_frontend_at (r, fp_word_slot (w));
      CHECK (fp_frontend_service (r, f), "a frontend's service is there");
      CHECK ((f->key.scope & FP_SCOPE_NODE_PORT) || fp_vip_kinds (r, 0, f->key.vrf, f->key.address), "its address is known");
    }
  position = 0;
  while ((w = fp_control_next (r, FP_CONTROLLED_SERVICE, &position)))
    {
      u32 slot = fp_word_slot (w);
      fp_set_t set = fp_service_set (r, fp_service_at (r, slot), FP_SET_CLUSTER);
      u32 members = 0;
      for (u32 e = r->control->service[slot].head; e != FP_NONE; e = r->control->endpoint[e].next)
	members += fp_set_member (r, e, FP_SET_CLUSTER), endpoints++;
      CHECK (set.count == members, "set of %u, %u members", set.count, members);
      for (u32 i = 0; i < set.count; i++)
	CHECK (fp_endpoint_at (r, set.slots[i])->service_slot == slot, "member of another service");
    }
  CHECK (endpoints == r->controlled[FP_CONTROLLED_ENDPOINT].used, "no endpoint without a service");
}

/* Everything can be used up to the last slot, so nothing was lost or counted twice. */
static inline void
check_capacity (fp_region_t *r)
{
  fp_worker_t w;
  fp_sref_t ref;
  fp_worker_init (&w, r, 0, 1);
  fp_worker_quiescent (&w, fp_now_ns ());
  u32 used = fp_shared_used (r, FP_SHARED_SESSION4), added = 0;
  for (u32 i = 0; i < 2 * r->capacity.sessions4; i++)
    added += insert4 (&w, 100000 + i, i % 3, w.tick + 10, &ref) == FP_INSERTED;
  CHECK (used + added == r->capacity.sessions4, "%u + %u of %u", used, added, r->capacity.sessions4);
  fp_worker_sleep (&w);
}

#endif /* TEST_INVARIANTS_H */
