/* SPDX-License-Identifier: Apache-2.0 */
/* The region of this VPP: opened when the start-up section is known, before worker threads run; given back at the end. */
#include <khost/khost_internal.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <host/signalling.h>
#include <khost/khost_large.h>
#include <fastpath/fp_control.h>
#include <fastpath/fp_fragment.h>
#include <fastpath/fp_gtpu.h>

static void
waiting (const char *path)
{
  khost_log (WARNING, "region %s: another engine holds it, waiting", path);
}

static int
open_region (khost_control_t *kc, u32 n_workers)
{
  const fp_region_report_t *report = &kc->host.report;
  int rv;

  kc->host.region = &kc->region;
  rv = host_region_open (&kc->host, kc->options.region, &kc->options.sizes, n_workers, waiting);
  if (rv == 0 && report->discarded)
    khost_log (WARNING, "region %s: discarded because %s; connections begin anew", kc->options.region, report->reason);
  if (rv == 0)
    khost_log (NOTICE, "region %s: %s%s%s, %llu bytes, %llu sessions kept, %s, %llu us", kc->options.region,
	       report->attached ? "attached" : "made anew", report->attached ? "" : " because ", report->reason, report->bytes,
	       report->sessions, report->was_clean ? "closed cleanly before" : "not closed before", report->ns / 1000);
  return rv;
}

static clib_error_t *
open_worker (khost_control_t *kc, u32 i)
{
  khost_worker_t *w = &khost_exported_main.workers[i];
  u64 seed = 0;

  if (getrandom (&seed, sizeof (seed), 0) != sizeof (seed))
    return clib_error_return_unix (0, "khost: random numbers");
  clib_memset (w, 0, sizeof (*w));
  fp_worker_init (&w->fp, &kc->region, i, seed);
  fp_worker_set_time (&w->fp, fp_now_ns ());
  w->fp.holds = calloc (1, sizeof (*w->fp.holds));
  w->fp.gtpu = calloc (1, sizeof (*w->fp.gtpu));
  w->large = mmap (NULL, KHOST_LARGE * KHOST_LARGE_STRIDE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  kc->host.gtpu[i] = w->fp.gtpu;
  return w->fp.holds && w->fp.gtpu && w->large != MAP_FAILED ? NULL : clib_error_return (0, "khost: out of memory; raise the memory limit");
}

static void *
collapse_main (void *argument)
{
  fp_region_collapse (argument);
  return NULL;
}

/* Packets flow meanwhile: a restart's gap does not wait for the kernel to copy pages. A thread that does nothing but this one call. */
static void
collapse (khost_control_t *kc)
{
  sigset_t all, before;
  pthread_t thread;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  if (pthread_create (&thread, NULL, collapse_main, &kc->region) == 0)
    pthread_detach (thread);
  pthread_sigmask (SIG_SETMASK, &before, NULL);
}

clib_error_t *
khost_region_open (vlib_main_t *vm)
{
  khost_control_t *kc = &khost_control;
  khost_main_t *km = &khost_exported_main;
  const u32 n = vlib_get_thread_main ()->n_vlib_mains; /* those that are about to start, too */
  clib_error_t *error;

  if (n > FP_MAX_WORKERS)
    return clib_error_return (0, "khost: %u threads: at most %u, lower cpu { workers }", n, FP_MAX_WORKERS);
  if (open_region (kc, n))
    return clib_error_return (0, "khost: %s", kc->host.report.message);
  kc->host.functions = &khost_host_functions;
  vec_validate_aligned (km->workers, n - 1, CLIB_CACHE_LINE_BYTES);
  for (u32 i = 0; i < n; i++)
    {
      error = open_worker (kc, i);
      if (error)
	return error;
    }
  kc->host.signalling = host_signalling_open (&kc->host);
  if (!kc->host.signalling)
    return clib_error_return (0, "khost: out of memory; raise the memory limit");
  collapse (kc);
  kc->open = 1;
  km->n_workers = n;
  km->region = &kc->region;
  return NULL;
}

/* Worker threads stand at the barrier for good. The process ends: the kernel takes back the mapping and the lock. */
void
khost_region_stop (void)
{
  if (khost_control.open)
    atomic_store (&((fp_header_t *) khost_control.region.base)->clean, 1);
}

/* ---- replay ---- */

static void
replay_table (const khost_listener_t *listener, u32 table)
{
  fp_region_t *r = &khost_control.region;
  const u32 entry = FP_DUMP_ENTRY (table);
  u8 *entries = NULL;
  u64 cursor = 0;

  vec_validate (entries, 1024 * entry - 1);
  do
    {
      const int n = fp_control_dump (r, table, &cursor, entries, 1024);
      for (int i = 0; i < n; i++)
	{
	  fp_wire_t record;
	  if (fp_control_fetch (r, table, entries + i * entry, &record) == 0 && khost_is_servable (table, &record))
	    listener->fn (table, &record, 0);
	}
    }
  while (cursor);
  vec_free (entries);
}

void
khost_replay (const khost_listener_t *listener)
{
  for (u32 table = FP_TABLE_CONFIG; table <= FP_TABLE_GTPU_UE; table++)
    if (listener->tables >> table & 1)
      replay_table (listener, table);
}
