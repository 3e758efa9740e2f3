/* SPDX-License-Identifier: Apache-2.0 */
/* The region's file: kept over a restart, refused for a reason, locked, repaired after a writer was killed after any of its stores, and
 * never a crash whatever bytes it holds. */
#include <sys/wait.h>

static void fp_test_step (void);
#define FP_STEP() fp_test_step ()
#include "invariants.h"
#include "prepared.h"

static u64 steps, kill_at;

static void
fp_test_step (void)
{
  if (++steps == kill_at)
    _exit (77);
}

/* ---- what the killed writer does ---- */

static void
writer (fp_region_t *r)
{
  fp_worker_t w;
  fp_sref_t ref[8];
  fp_worker_init (&w, r, 0, 1);
  fp_wire_config_t setting = { .key = FP_CONFIG_SNAT_PORT_RANGE, .value = 10000 | 20000u << 16 };
  fp_wire_prefix_t prefix = { .family = 4, .length = 16, .prefix_class = FP_PREFIX_POD, .address = { 10, 1 } };
  fp_wire_service_t service = wire_service (2, 4, 6);
  upsert (r, FP_TABLE_CONFIG, &setting);
  setting.value = 10000 | 21000u << 16;
  upsert (r, FP_TABLE_CONFIG, &setting);
  upsert (r, FP_TABLE_PREFIX, &prefix);
  upsert (r, FP_TABLE_SERVICE, &service);
  service.empty_verdict = FP_EMPTY_DROP;
  upsert (r, FP_TABLE_SERVICE, &service);
  for (u32 i = 0; i < 4; i++)
    {
      fp_wire_endpoint_t e = wire_endpoint (2, 0x0a010100 + i, 80, 3);
      upsert (r, FP_TABLE_ENDPOINT, &e);
    }
  fp_control_commit (r);
  fp_wire_frontend_t f = wire_frontend (0x0a600002, 80, 2);
  upsert (r, FP_TABLE_FRONTEND, &f);
  f.service = 1;
  upsert (r, FP_TABLE_FRONTEND, &f);
  f.port = 81;
  upsert (r, FP_TABLE_FRONTEND, &f);
  for (u32 i = 1; i < 4; i++)
    {
      fp_wire_endpoint_t e = wire_endpoint (2, 0x0a010100 + i, 80, 0);
      delete (r, FP_TABLE_ENDPOINT, &e);
    }
  fp_control_commit (r);
  for (u32 i = 0; i < 8; i++)
    {
      fp_worker_quiescent (&w, fp_now_ns ());
      insert4 (&w, 1000 + i, i, w.tick + 100, &ref[i]);
      insert4 (&w, 1000 + i, i + 1, w.tick + 100, &ref[7]); /* a loser, too */
      insert4 (&w, 1000 + i, i, w.tick + 100, &ref[i]);
    }
  for (u32 i = 0; i < 4; i++)
    fp_session4_remove (&w, ref[i].slot, ref[i].gen);
  delete (r, FP_TABLE_FRONTEND, &f);
  fp_wire_endpoint_t last = wire_endpoint (2, 0x0a010100, 80, 0);
  delete (r, FP_TABLE_ENDPOINT, &last);
  fp_control_commit (r);
  delete (r, FP_TABLE_SERVICE, &service);
  delete (r, FP_TABLE_PREFIX, &prefix);
}

static void
test_kill (const char *path)
{
  fp_capacity_t c = small_capacity ();
  u64 at = 1;
  for (;; at++)
    {
      fp_region_t r;
      int status;
      unlink (path);
      fp_region_report_t rep = open_region (&r, path, &c, 1);
      CHECK (!rep.attached, "new");
      prepare (&r);
      fp_region_close (&r, 0);
      pid_t child = fork ();
      if (!child)
	{
	  rep = open_region (&r, path, &c, 1);
	  steps = 0;
	  kill_at = at;
	  writer (&r);
	  _exit (0);
	}
      CHECK (waitpid (child, &status, 0) == child && WIFEXITED (status), "child");
      rep = open_region (&r, path, &c, 1);
      check_prepared (&r, &rep);
      check_sessions (&r, 0);
      check_sessions (&r, 1);
      check_control (&r);
      check_capacity (&r);
      fp_region_close (&r, 1);
      if (WEXITSTATUS (status) == 0)
	break;
      CHECK (WEXITSTATUS (status) == 77, "child failed at step %lu", (unsigned long) at);
    }
  printf ("killed after each of %lu stores: whole every time\n", (unsigned long) at - 1);
  CHECK (at > 100, "too few steps");
}

static void
test_refused (const char *path)
{
  fp_capacity_t c = small_capacity (), other;
  fp_region_t r, second;
  fp_region_report_t rep;
  unlink (path);
  rep = open_region (&r, path, &c, 1);
  prepare (&r);
  u64 id = rep.creation_id;
  CHECK (fp_region_open (&second, path, &c, 1, &rep) == -EBUSY && strstr (rep.message, "in use"), "locked");
  fp_region_close (&r, 1);
  rep = open_region (&r, path, &c, 2);
  CHECK (rep.attached && rep.sessions == PREPARED_SESSIONS && rep.was_clean && rep.creation_id == id && !*rep.reason, "attached");
  check_prepared (&r, &rep);
  fp_region_close (&r, 0);
  rep = open_region (&r, path, &c, 1);
  CHECK (rep.attached && !rep.was_clean, "not clean");
  fp_region_close (&r, 1);
  other = c;
  other.endpoints++;
  rep = open_region (&r, path, &other, 1);
  CHECK (!rep.attached && strstr (rep.reason, "capacities") && rep.sessions == 0, "reason: %s", rep.reason);
  ((fp_header_t *) r.base)->boot_id[0] ^= 1;
  ((fp_header_t *) r.base)->digest = fp_header_digest ((fp_header_t *) r.base);
  fp_region_close (&r, 1);
  rep = open_region (&r, path, &other, 1);
  CHECK (!rep.attached && strstr (rep.reason, "booted"), "reason: %s", rep.reason);
  ((fp_header_t *) r.base)->layout ^= 1;
  fp_region_close (&r, 1);
  rep = open_region (&r, path, &other, 1);
  CHECK (!rep.attached && strstr (rep.reason, "layout"), "reason: %s", rep.reason);
  ((fp_header_t *) r.base)->hash_crc ^= 1;
  fp_region_close (&r, 1);
  rep = open_region (&r, path, &other, 1);
  CHECK (!rep.attached && strstr (rep.reason, "damaged"), "reason: %s", rep.reason);
  fp_region_close (&r, 1);
  CHECK (truncate (path, 5000) == 0, "truncate");
  rep = open_region (&r, path, &other, 1);
  CHECK (!rep.attached && *rep.reason, "truncated");
  fp_region_close (&r, 1);
  other.sessions4 = 0;
  CHECK (fp_region_open (&r, path, &other, 1, &rep) == -EINVAL && strstr (rep.message, "sessions4"), "%s", rep.message);
}

/* Random bytes in a region with contents. */
static void
test_damage (const char *path)
{
  fp_capacity_t c = small_capacity ();
  fp_region_t r;
  u64 seed = 12345, kept = 0, rounds = 400;
  for (u64 round = 0; round < rounds; round++)
    {
      unlink (path);
      open_region (&r, path, &c, 1);
      prepare (&r);
      writer (&r);
      u32 flips = 1u << (round % 14);
      for (u32 i = 0; i < flips; i++)
	{
	  seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	  /* every other round spares the empty pages: three quarters of the flips hit what is used */
	  u64 at = FP_PAGE + (seed >> 20) % (r.size - FP_PAGE);
	  if (round & 1)
	    at = at / FP_PAGE * FP_PAGE + at % 1024;
	  r.base[at] ^= (u8) (1 + (seed >> 12) % 255);
	}
      fp_region_close (&r, 0);
      fp_region_report_t rep = open_region (&r, path, &c, 1);
      CHECK (rep.attached, "only the header refuses");
      kept += rep.sessions;
      check_control (&r);
      check_capacity (&r);
      for (u32 table = 1; table <= 5; table++)
	{
	  u64 cursor = 0;
	  u8 out[64 * 64];
	  while (fp_control_dump (&r, table, &cursor, out, 64) >= 0 && cursor)
	    ;
	}
      fp_control_flush_sessions (&r);
      fp_region_close (&r, 0);
    }
  printf ("damaged %lu times: never a crash, %lu sessions kept on average\n", (unsigned long) rounds, (unsigned long) (kept / rounds));
}

int
main (void)
{
  const char *path = region_path ();
  test_refused (path);
  test_kill (path);
  test_damage (path);
  unlink (path);
  return 0;
}
