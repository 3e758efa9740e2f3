/* SPDX-License-Identifier: Apache-2.0 */
/* What lives in a region before a test's writer begins, and must live afterwards whatever happens to that writer: a Service with one endpoint, and
 * sessions of both families. */
#ifndef TEST_PREPARED_H
#define TEST_PREPARED_H

#include "tables.h"

#define PREPARED_EACH	  10
#define PREPARED_SESSIONS (2 * PREPARED_EACH)

static inline void
insert6 (fp_worker_t *w, u32 i, u32 pick, fp_sref_t *ref)
{
  u32 slot = fp_session6_alloc (w);
  CHECK (slot != FP_NONE, "room");
  fill6 (fp_session6_at (w->region, slot), i, pick);
  if (fp_session6_insert (w, &slot, 1, w->tick + 1000, ref) == FP_COLLISION)
    fp_session6_free (w, slot);
}

static inline void
prepare (fp_region_t *r)
{
  fp_worker_t w;
  fp_sref_t ref;
  fp_wire_service_t service = wire_service (1, 4, 6);
  fp_wire_endpoint_t e = wire_endpoint (1, 0x0a010001, 80, 3);
  fp_wire_frontend_t f = wire_frontend (0x0a600001, 80, 1);
  CHECK (!upsert (r, FP_TABLE_SERVICE, &service) && !upsert (r, FP_TABLE_ENDPOINT, &e), "service");
  CHECK (!fp_control_commit (r) && !upsert (r, FP_TABLE_FRONTEND, &f), "frontend");
  fp_worker_init (&w, r, 0, 1);
  fp_worker_quiescent (&w, fp_now_ns ());
  for (u32 i = 0; i < PREPARED_EACH; i++)
    {
      CHECK (insert4 (&w, i, i % 3, w.tick + 1000, &ref) == FP_INSERTED, "session");
      insert6 (&w, i, i % 3, &ref);
    }
  fp_worker_sleep (&w);
}

static inline void
check_prepared (fp_region_t *r, const fp_region_report_t *report)
{
  CHECK (report->attached && report->sessions >= PREPARED_SESSIONS, "%lu sessions: %s", (unsigned long) report->sessions, report->reason);
  for (u32 i = 0; i < PREPARED_EACH; i++)
    {
      fp_session6_t s;
      fp_key4_t f = forward4 (i), b = reverse4 (i, i % 3);
      CHECK (find4 (r, &f).found && find4 (r, &b).found, "session %u of before", i);
      fill6 (&s, i, i % 3);
      for (u8 dir = 0; dir < 2; dir++)
	{
	  fp_key6_t k;
	  fp_session6_key (&s, dir, &k);
	  CHECK (fp_session6_find (r, &k, fp_key6_hash (r, &k)).found, "IPv6 session %u of before", i);
	}
    }
  u8 vip[4] = { 10, 96, 0, 1 };
  const fp_frontend_t *f = fp_frontend_find (r, 0, 0, vip, fp_swap16 (80), 6);
  CHECK (f && fp_service_set (r, fp_frontend_service (r, f), FP_SET_CLUSTER).count == 1, "service of before");
}

#endif /* TEST_PREPARED_H */
