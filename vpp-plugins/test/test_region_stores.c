/* SPDX-License-Identifier: Apache-2.0 */
/* The region after every single store of a writer: while it is made, attached and repaired, and while all its tables change. The pages are
 * read-only; each store faults, the file as it is at that moment (all that a kill there would leave) is copied, attached and checked, and
 * the one instruction is let through. So no store can be forgotten, as a numbered step could. */
#if !defined(__x86_64__)
#include <stdio.h>
int
main (void)
{
  puts ("not checked: stepping over single stores is written for x86-64 (test_region kills at numbered steps everywhere)");
  return 0;
}
#else

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

static int watched_madvise (void *at, size_t size, int advice);
#define madvise(at, size, advice) watched_madvise (at, size, advice)
#include "invariants.h"
#include "prepared.h"
#undef madvise

#define TRAP_FLAG 0x100

static char copy_path[80];
static u8 *watched, *before; /* before: the bytes at the last check */
static size_t watched_size;
static u8 watching;	     /* the next region that is mapped is to be watched */
static u64 stores, checks;
static void (*check) (fp_region_t *copy, const fp_region_report_t *report);
static fp_capacity_t capacity;

/* ---- after each store ---- */

static void
write_copy (const void *bytes, size_t size)
{
  int fd = open (copy_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK (fd >= 0 && write (fd, bytes, size) == (ssize_t) size && !close (fd), "copy");
}

/* Attach to what a kill at this moment would leave; twice, for attaching is to change nothing the second time. */
static void
check_copy (void)
{
  u64 sessions = 0, words = 0;
  checks++;
  for (u32 round = 0; round < 2; round++)
    {
      fp_region_t copy;
      fp_region_report_t report = open_region (&copy, copy_path, &capacity, 1);
      CHECK (round == 0 || report.attached, "attached again: %s", report.reason);
      CHECK (round == 0 || report.sessions == sessions, "%lu sessions, then %lu", (unsigned long) sessions, (unsigned long) report.sessions);
      CHECK (round == 0 || report.repair.tentative + report.repair.dangling + report.repair.dropped + report.repair.links == 0,
	     "repaired twice");
      sessions = report.sessions;
      check_sessions (&copy, 0);
      check_sessions (&copy, 1);
      check_control (&copy);
      for (u64 p = 0; p < fp_index_positions (&copy.shared[FP_SHARED_FRAGMENT].index); p++)
	words += atomic_load (fp_index_at (&copy.shared[FP_SHARED_FRAGMENT].index, p)) != 0;
      CHECK (words == 0, "fragments begin empty");
      check (&copy, &report);
      if (round)
	check_capacity (&copy);
      fp_region_close (&copy, 0);
    }
}

static void
on_fault (int number, siginfo_t *info, void *context)
{
  ucontext_t *u = context;
  u8 *at = info->si_addr;
  (void) number;
  if (!watched || at < watched || at >= watched + watched_size)
    {
      signal (SIGSEGV, SIG_DFL); /* a real one: fault again */
      return;
    }
  stores++;
  if (memcmp (before, watched, watched_size))
    {
      u8 *mine = watched;
      memcpy (before, watched, watched_size);
      write_copy (before, watched_size);
      watched = NULL; /* the copy's own stores are not watched */
      check_copy ();
      watched = mine;
    }
  mprotect (watched, watched_size, PROT_READ | PROT_WRITE);
  u->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void
on_step (int number, siginfo_t *info, void *context)
{
  ucontext_t *u = context;
  (void) number;
  (void) info;
  u->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
  if (watched)
    mprotect (watched, watched_size, PROT_READ);
}

static int
watched_madvise (void *at, size_t size, int advice)
{
  int rc = madvise (at, size, advice);
  if (advice != MADV_POPULATE_WRITE || !watching)
    return rc;
  watching = 0;
  watched = at;
  watched_size = size;
  before = malloc (size);
  memcpy (before, at, size);
  CHECK (!mprotect (at, size, PROT_READ), "protect");
  return rc;
}

static void
end_watch (const char *what, u64 at_least)
{
  write_copy (watched, watched_size);
  mprotect (watched, watched_size, PROT_READ | PROT_WRITE);
  watched = NULL;
  check_copy ();
  free (before);
  printf ("%s: whole after each of %lu stores (%lu different contents)\n", what, (unsigned long) stores, (unsigned long) checks);
  CHECK (checks >= at_least, "too few");
  stores = checks = 0;
}

/* ---- what stays ---- */

/* A service whose set only ever goes from one whole set to another. */
static u32 allowed_low, allowed_high;

static void
check_prepared_and_set (fp_region_t *r, const fp_region_report_t *report)
{
  check_prepared (r, report);
  u8 vip[4] = { 10, 96, 0, 2 };
  const fp_frontend_t *f = fp_frontend_find (r, 0, 0, vip, fp_swap16 (80), 6);
  if (!allowed_high)
    return;
  CHECK (f, "the frontend is there");
  fp_set_t set = fp_service_set (r, fp_frontend_service (r, f), FP_SET_CLUSTER);
  CHECK (set.count >= allowed_low && set.count <= allowed_high, "%u endpoints, not %u to %u", set.count, allowed_low, allowed_high);
}

/* ---- the writers ---- */

static void
write_control (fp_region_t *r)
{
  fp_wire_config_t setting = { .key = FP_CONFIG_SNAT_PORT_RANGE, .value = 10000 | 20000u << 16 };
  fp_wire_prefix_t prefix = { .family = 4, .length = 16, .prefix_class = FP_PREFIX_POD, .address = { 10, 1 } };
  fp_wire_service_t service = wire_service (2, 4, 6);
  fp_wire_frontend_t f = wire_frontend (0x0a600002, 80, 2);
  upsert (r, FP_TABLE_CONFIG, &setting);
  setting.value = 10000 | 21000u << 16;
  upsert (r, FP_TABLE_CONFIG, &setting);
  upsert (r, FP_TABLE_PREFIX, &prefix);
  upsert (r, FP_TABLE_SERVICE, &service);
  service.empty_verdict = FP_EMPTY_DROP;
  upsert (r, FP_TABLE_SERVICE, &service);
  upsert (r, FP_TABLE_FRONTEND, &f);
  /* the set goes 0, 6, 3, 4, 0 */
  for (u32 step = 0; step < 4; step++)
    {
      static const u8 low[] = { 0, 3, 3, 0 }, high[] = { 6, 6, 4, 4 };
      allowed_low = low[step];
      allowed_high = high[step];
      for (u32 i = 0; i < 6; i++)
	{
	  fp_wire_endpoint_t e = wire_endpoint (2, 0x0a010100 + i, 80, 3);
	  if (step == 0 || (step == 2 && i == 5))
	    upsert (r, FP_TABLE_ENDPOINT, &e);
	  else if ((step == 1 && i >= 3) || step == 3)
	    delete (r, FP_TABLE_ENDPOINT, &e);
	}
      CHECK (!fp_control_commit (r), "commit");
    }
  allowed_high = 0;
  f.service = 1;
  upsert (r, FP_TABLE_FRONTEND, &f);
  f.port = 81;
  upsert (r, FP_TABLE_FRONTEND, &f);
  delete (r, FP_TABLE_FRONTEND, &f);
  delete (r, FP_TABLE_SERVICE, &service);
  delete (r, FP_TABLE_PREFIX, &prefix);
  delete (r, FP_TABLE_CONFIG, &setting);
  for (u32 i = 0; i < 3; i++)
    fp_control_poll (r);
}

static void
write_sessions (fp_region_t *r)
{
  fp_worker_t w;
  fp_sref_t ref[4], loser;
  fp_frag_result_t result;
  fp_worker_init (&w, r, 0, 1);
  for (u32 i = 0; i < 4; i++)
    {
      fp_worker_quiescent (&w, fp_now_ns ());
      insert4 (&w, 1000 + i, i, w.tick + 100, &ref[i]);
      insert4 (&w, 1000 + i, i + 1, w.tick + 100, &loser);
      insert6 (&w, 1000 + i, i, &loser);
      insert6 (&w, 1000 + i, i + 1, &loser);
      fp_frag_key_t k = { .id = i / 2, .proto = 17, .family = 4 };
      fp_frag_insert (&w, &k, FP_FRAG_SESSION, ref[i], &result);
    }
  for (u32 i = 0; i < 4; i++)
    {
      _Atomic u64 *life = &fp_session4_at (r, ref[i].slot)->life;
      fp_life_touch (life, atomic_load (life), 7, w.tick + 200);
      if (i % 2)
	fp_session4_remove (&w, ref[i].slot, ref[i].gen);
    }
  fp_worker_quiescent (&w, w.now_ns + 10000000000ull);
  fp_frag_age (&w, 64);
  for (u32 i = 0; i < 64; i++) /* slots again */
    {
      fp_worker_quiescent (&w, w.now_ns);
      if (i % 16 == 0)
	insert4 (&w, 2000 + i, i, w.tick + 100, &ref[0]);
    }
  fp_worker_sleep (&w);
  fp_control_poll (r);
}

static void
nothing_more (fp_region_t *r, const fp_region_report_t *report)
{
  CHECK (report->sessions == 0, "a new region has no sessions");
  fp_wire_service_t service = wire_service (1, 4, 6);
  CHECK (!upsert (r, FP_TABLE_SERVICE, &service) && !delete (r, FP_TABLE_SERVICE, &service), "usable");
}

static void
test_creation (const char *path)
{
  fp_region_t r;
  fp_region_report_t report;
  unlink (path);
  check = nothing_more;
  /* before it is mapped: nothing, then an empty file of the right size, then less than that */
  for (u32 size = 0; size < 20000; size += 4999)
    {
      u8 *zero = calloc (1, size + 1);
      write_copy (zero, size);
      free (zero);
      CHECK (fp_region_open (&r, copy_path, &capacity, 1, &report) == 0 && !report.attached && *report.reason, "size %u", size);
      fp_region_close (&r, 0);
    }
  watching = 1;
  report = open_region (&r, path, &capacity, 1);
  CHECK (!report.attached && watched, "new and watched");
  end_watch ("creation", 10);
  fp_region_close (&r, 1);
}

static void
test_writers (const char *path)
{
  static void (*const writers[]) (fp_region_t *) = { write_control, write_sessions };
  static const char *const names[] = { "services, sets, settings", "sessions of both families, fragments" };
  for (u32 i = 0; i < 2; i++)
    {
      fp_region_t r;
      unlink (path);
      open_region (&r, path, &capacity, 1);
      prepare (&r);
      fp_region_close (&r, 0);
      check = check_prepared_and_set;
      watching = 1;
      open_region (&r, path, &capacity, 1);
      writers[i] (&r);
      end_watch (names[i], 100);
      fp_region_close (&r, 1);
    }
}

/* What a killed writer leaves is repaired; what the repair leaves, killed itself, too. */
static void
test_repair (const char *path)
{
  fp_region_t r;
  fp_worker_t w;
  unlink (path);
  open_region (&r, path, &capacity, 1);
  prepare (&r);
  fp_region_close (&r, 0);
  open_region (&r, path, &capacity, 1);
  fp_worker_init (&w, &r, 0, 1);
  fp_worker_quiescent (&w, fp_now_ns ());
  fp_wire_service_t service = wire_service (3, 4, 6);
  upsert (&r, FP_TABLE_SERVICE, &service);
  for (u32 i = 0; i < 8; i++)
    {
      fp_sref_t ref;
      fp_wire_endpoint_t e = wire_endpoint (3, 0x0a010200 + i, 80, 3);
      fp_wire_frontend_t f = wire_frontend (0x0a600100 + i, 80, 3);
      upsert (&r, FP_TABLE_ENDPOINT, &e);
      upsert (&r, FP_TABLE_FRONTEND, &f);
      CHECK (insert4 (&w, 3000 + i, i, w.tick + 100, &ref) == FP_INSERTED, "session");
    }
  fp_worker_sleep (&w);
  fp_control_commit (&r);
  /* half a session, a tentative word, a word to nowhere, a frontend without its service, a cut set, a link to nowhere */
  fp_key4_t k = forward4 (3000), back = reverse4 (3001, 1);
  fp_sref_t ref = find4 (&r, &k);
  fp_session4_at (&r, ref.slot)->life = fp_life (ref.gen, FP_PHASE_PENDING, 0, 0);
  const fp_index_t *x = &r.shared[FP_SHARED_SESSION4].index;
  fp_index_erase (x, fp_key4_hash (&r, &back), find4 (&r, &back).slot << 1 | 1, find4 (&r, &back).gen);
  for (u32 i = 0; i < 8; i++)
    for (u32 n = 0; n < 7; n++)
      if (!x->buckets[i].word[n])
	{
	  x->buckets[i].word[n] = fp_word (i * 77777ull, i % 2 ? 5 : 1u << 20, 1) | (i % 3 ? FP_WORD_LIVE : FP_WORD_TENTATIVE);
	  break;
	}
  x->buckets[5].link = 3;
  x->buckets[6].link = 3;
  u64 word = fp_service_word (&r, 3);
  fp_service_at (&r, fp_word_slot (word))->sets[0] = 12345;
  fp_service_at (&r, fp_word_slot (word))->gen++;
  fp_region_close (&r, 0);
  check = check_prepared;
  watching = 1;
  fp_region_report_t report = open_region (&r, path, &capacity, 1);
  CHECK (report.attached && report.repair.dangling > 5 && report.repair.dropped && report.repair.links == 1, "something to repair");
  end_watch ("attaching and repairing", 100);
  fp_region_close (&r, 1);
}

int
main (void)
{
  struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
  struct sigaction step = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO | SA_NODEFER };
  const char *path = region_path ();
  snprintf (copy_path, sizeof (copy_path), "%s-copy", path);
  capacity = small_capacity ();
  sigaction (SIGSEGV, &fault, NULL);
  sigaction (SIGTRAP, &step, NULL);
  test_creation (path);
  test_writers (path);
  test_repair (path);
  unlink (path);
  unlink (copy_path);
  return 0;
}
#endif
