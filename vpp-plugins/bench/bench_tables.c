/* SPDX-License-Identifier: Apache-2.0 */
/* Tables alone: clocks of a session lookup at random, one at a time, and the time to attach to a full region. */
#include "../test/tables.h"
#include "bench.h"

static void
measure (u32 sessions, int attach)
{
  fp_capacity_t c = small_capacity ();
  fp_region_t r;
  fp_worker_t w;
  fp_sref_t ref;
  const char *path = region_path ();
  c.sessions4 = sessions;
  unlink (path);
  open_region (&r, path, &c, 1);
  fp_worker_init (&w, &r, 0, 1);
  fp_worker_quiescent (&w, fp_now_ns ());
  u64 start = clocks ();
  for (u32 i = 0; i < sessions; i++)
    CHECK (insert4 (&w, i, i % 1000, w.tick + FP_TICKS (3600), &ref) == FP_INSERTED, "session %u", i);
  u64 insert = (clocks () - start) / sessions;
  u32 n = 1000000, found = 0;
  start = clocks ();
  for (u32 k = 0; k < n; k++)
    {
      fp_key4_t key = forward4 (fp_random_below (&w, sessions));
      found += find4 (&r, &key).found;
    }
  CHECK (found == n, "found");
  printf ("%8u sessions: lookup %lu clocks, insertion %lu clocks, overflow buckets %u", sessions,
	  (unsigned long) ((clocks () - start) / n), (unsigned long) insert,
	  atomic_load (&r.shared[FP_SHARED_SESSION4].index.overflow_pool->fresh));
  fp_region_close (&r, 0);
  if (attach)
    {
      fp_region_report_t rep = open_region (&r, path, &c, 1);
      CHECK (rep.sessions == sessions, "kept");
      printf (", attached in %lu ms", (unsigned long) (rep.ns / 1000000));
      fp_region_close (&r, 1);
    }
  puts ("");
  unlink (path);
}

int
main (void)
{
  measure (1000, 0);
  measure (65536, 0);
  measure (1000000, 1);
  measure (4000000, 1);
  return 0;
}
