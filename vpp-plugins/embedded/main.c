/* SPDX-License-Identifier: Apache-2.0 */
/* vpp-embedded: the packet kernels without VPP. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "check.h"
#include "control.h"
#include "engine.h"
#include "log.h"
#include "options.h"
#include "privileges.h"
#include "host/signalling.h"

static int
fail (const char *what, const char *detail, int rv, const char *remedy)
{
  EMB_LOG (EMB_ERROR, what, host_json_str (&j, "at", detail), host_json_str (&j, "error", strerror (-rv)),
	   host_json_str (&j, "remedy", remedy));
  return 1;
}

static int
block_signals (void)
{
  sigset_t set;

  signal (SIGPIPE, SIG_IGN);
  sigemptyset (&set);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGINT);
  sigprocmask (SIG_BLOCK, &set, NULL);
  return signalfd (-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void
waiting (const char *path)
{
  EMB_LOG (EMB_WARNING, "another engine holds the region, waiting", host_json_str (&j, "region", path));
}

static int
open_region (emb_engine_t *e)
{
  const emb_options_t *o = &e->options;
  int rv = host_region_open (&e->host, o->region, &o->sizes, o->workers, waiting);

  if (rv == 0 && e->host.report.discarded)
    EMB_LOG (EMB_WARNING, "discarded the region, connections begin anew", host_json_str (&j, "region", o->region),
	     host_json_str (&j, "reason", e->host.report.reason));
  if (rv == 0)
    EMB_LOG (EMB_INFO, e->host.report.attached ? "attached to the region" : "made a new region",
	     host_json_str (&j, "region", o->region), host_json_u64 (&j, "bytes", e->host.region->size),
	     host_json_u64 (&j, "keptSessions", e->host.report.sessions), host_json_str (&j, "reason", e->host.report.reason),
	     host_json_bool (&j, "closedCleanly", e->host.report.was_clean), host_json_u64 (&j, "ns", e->host.report.ns),
	     host_json_hex (&j, "creationId", e->host.report.creation_id));
  return rv;
}

static int
start_workers (emb_engine_t *e)
{
  int rv = 0;

  for (uint32_t i = 0; i < e->options.workers && rv == 0; i++)
    {
      emb_worker_t *w = &e->workers[i];
      uint64_t seed = 0;

      if (getrandom (&seed, sizeof (seed), 0) != sizeof (seed))
	return -errno;
      w->index = i;
      w->options = &e->options;
      w->vector = e->vector;
      w->links = &e->links;
      rv = emb_worker_prepare (w, e->host.region, seed);
      e->host.gtpu[i] = w->gtpu;
    }
  for (uint32_t i = 0; i < e->options.workers && rv == 0; i++)
    rv = emb_worker_start (&e->workers[i]);
  return rv;
}

static int
run (emb_engine_t *e)
{
  const emb_options_t *o = &e->options;
  const char *step = "";
  int signal_fd, listen_fd, rv;

  signal_fd = block_signals ();
  if (signal_fd < 0)
    return fail ("signals cannot be received", "signalfd", -errno, "raise the limit of open files");
  rv = emb_privileges_drop (&step);
  if (rv)
    return fail ("privileges cannot be given up", step, rv, "run it as root or give it the capability NET_RAW");
  rv = open_region (e);
  if (rv)
    return fail ("the region cannot be opened", o->region, rv, e->host.report.message);
  listen_fd = emb_control_listen (o->socket);
  if (listen_fd < 0)
    return fail ("the control socket cannot be made", o->socket, listen_fd,
		 "see that its directory exists and can be written");
  rv = emb_links_open (&e->links, o);
  if (rv)
    return fail ("links cannot be watched", "rtnetlink", rv, "see that the kernel has rtnetlink");
  rv = emb_privileges_filter_calls ();
  if (rv)
    return fail ("system calls cannot be limited", "seccomp", rv, "see that the kernel has seccomp filters");
  e->vector = emb_vector_choose ();
  e->host.signalling = host_signalling_open (&e->host);
  rv = e->host.signalling ? start_workers (e) : -ENOMEM;
  if (rv)
    fail ("packet threads cannot be started", "", rv, "lower --workers, or raise the limits of threads and memory");
  else
    {
      /* Packets flow already: a restart's gap does not wait for the kernel to copy pages. */
      uint64_t huge = fp_region_collapse (e->host.region);

      EMB_LOG (EMB_INFO, "ready", host_json_str (&j, "version", EMB_VERSION), host_json_str (&j, "socket", o->socket),
	       host_json_u64 (&j, "workers", o->workers), host_json_str (&j, "instructionSet", e->vector->name),
	       host_json_u64 (&j, "hugePageBytes", huge));
      rv = emb_control_run (e, listen_fd, signal_fd);
    }
  for (uint32_t i = 0; i < o->workers; i++)
    emb_worker_stop (&e->workers[i]);
  host_signalling_close (&e->host);
  unlink (o->socket);
  close (listen_fd);
  emb_links_close (&e->links);
  fp_region_close (e->host.region, rv == 0);
  EMB_LOG (EMB_INFO, "stopped", host_json_bool (&j, "clean", rv == 0));
  return rv ? 1 : 0;
}

int
main (int argc, char **argv)
{
  emb_engine_t engine = { .host.functions = &emb_host_functions, .links = { .fd = -1 } };
  int rv = emb_options_parse (&engine.options, argc, argv);

  if (rv >= 0)
    return rv;
  if (engine.options.check)
    return emb_check (engine.options.socket);
  engine.host.region = calloc (1, sizeof (*engine.host.region));
  engine.workers = aligned_alloc (64, engine.options.workers * sizeof (*engine.workers));
  if (!engine.host.region || !engine.workers)
    return fail ("out of memory", "start", -ENOMEM, "raise the memory limit");
  memset (engine.workers, 0, engine.options.workers * sizeof (*engine.workers));
  for (uint32_t i = 0; i < engine.options.workers; i++)
    engine.workers[i].wake_fd = -1;
  rv = run (&engine);
  free (engine.workers);
  free (engine.host.region);
  return rv;
}
