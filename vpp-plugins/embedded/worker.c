/* SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clocks.h"
#include "log.h"
#include "pipeline.h"
#include "fastpath/fp_gtpu.h"
#include "fastpath/fp_session.h"

#define IDLE_MS	       100 /* ageing goes on while nothing comes in */
#define HOLDING_MS     10  /* held fragments run out after 200 ms */
#define AGE_PERIOD_NS  30000000000ull
#define AGE_STEP_NS    20000000ull
#define DROPS_STEP_NS  1000000000ull
#define EXPIRE_STEP_NS  10000000ull

uint64_t
emb_now_ns (void)
{
  struct timespec t;
  clock_gettime (CLOCK_BOOTTIME, &t);
  return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

/* Opens and closes ports so that they match the links. */
static void
follow_links (emb_worker_t *w)
{
  for (uint32_t i = 0; i < w->links->n_links; i++)
    {
      const char *name = w->links->links[i].name, *step = "";
      const uint64_t state = atomic_load (&w->links->links[i].state);
      emb_port_t *port = &w->ports[i];
      int rv;

      if (state == w->port_states[i])
	continue;
      w->port_states[i] = state;
      if (state && port->fd >= 0 && emb_link_ifindex (state) == port->ifindex)
	{
	  port->mtu = emb_link_mtu (state);
	  continue;
	}
      if (port->fd >= 0)
	emb_port_close (port);
      atomic_fetch_and (&w->open_ports, ~(1ull << i));
      if (!state)
	continue;
      /* The group's number is this process's own: the process id and the link. */
      rv = emb_port_open (port, emb_link_ifindex (state), emb_link_mtu (state), i == w->options->frames_interface,
			  w->options->ring_frames, w->options->workers,
			  (uint16_t) (getpid () * EMB_MAX_INTERFACES + (int) i), &step);
      if (rv)
	{
	  EMB_LOG (EMB_ERROR, "interface cannot be opened", host_json_str (&j, "interface", name),
		   host_json_u64 (&j, "worker", w->index), host_json_str (&j, "step", step),
		   host_json_str (&j, "error", strerror (-rv)));
	  w->port_states[i] = 0; /* tried again after the next wait */
	  continue;
	}
      atomic_fetch_or (&w->open_ports, 1ull << i);
      EMB_LOG (EMB_INFO, "interface opened", host_json_str (&j, "interface", name),
	       host_json_u64 (&j, "worker", w->index), host_json_u64 (&j, "ringFrames", port->ring_frames));
    }
}

/* Times of the worker's regular work and of its busy polling. */
typedef struct
{
  uint64_t age_at, drops_at, expire_at;
  uint64_t last_packet;
  uint64_t gap; /* moving average of the time between vectors, ns */
} schedule_t;

static void
regular_work (emb_worker_t *w, schedule_t *s, uint64_t now)
{
  if (now >= s->age_at)
    {
      /* Each worker ages its share; all sessions are seen once in a period, however long the last step is ago. */
      uint64_t elapsed = s->age_at ? now - s->age_at + AGE_STEP_NS : AGE_STEP_NS;
      uint64_t slots = 2ull * w->options->sizes.sessions / w->options->workers;
      uint64_t budget = slots * (elapsed < AGE_PERIOD_NS ? elapsed : AGE_PERIOD_NS) / AGE_PERIOD_NS + 1;

      fp_sessions_age (&w->fp, (uint32_t) (budget < 65536 ? budget : 65536));
      s->age_at = now + AGE_STEP_NS;
    }
  if (now >= s->expire_at)
    {
      fp_gtpu_expire (&w->fp);
      s->expire_at = now + EXPIRE_STEP_NS;
    }
  if (now >= s->drops_at)
    {
      for (uint32_t i = 0; i < w->links->n_links; i++)
	emb_port_poll_drops (&w->ports[i]);
      s->drops_at = now + DROPS_STEP_NS;
    }
}

static void
wait_for_packets (emb_worker_t *w)
{
  struct pollfd fds[EMB_MAX_INTERFACES + 1];
  uint32_t n = 0;
  bool retry = false;

  fds[n++] = (struct pollfd){ .fd = w->wake_fd, .events = POLLIN };
  for (uint32_t i = 0; i < w->links->n_links; i++)
    {
      if (w->ports[i].fd >= 0)
	fds[n++] = (struct pollfd){ .fd = w->ports[i].fd, .events = POLLIN };
      retry |= w->port_states[i] != atomic_load (&w->links->links[i].state);
    }
  fp_worker_sleep (&w->fp);
  if (poll (fds, n, w->hold.n_free < EMB_HOLD_SLOTS ? HOLDING_MS : IDLE_MS) > 0)
    {
      uint64_t ignored;
      if (fds[0].revents && read (w->wake_fd, &ignored, sizeof (ignored)) < 0)
	ignored = 0;
      for (uint32_t i = 1; i < n; i++)
	if (fds[i].revents & (POLLERR | POLLHUP | POLLNVAL))
	  {
	    /* The interface went down; netlink will say so. The error is read away, or poll would not wait. */
	    int error;
	    socklen_t length = sizeof (error);
	    getsockopt (fds[i].fd, SOL_SOCKET, SO_ERROR, &error, &length);
	  }
    }
  fp_worker_wake (&w->fp);
  if (retry)
    follow_links (w);
}

static void *
worker_main (void *argument)
{
  emb_worker_t *w = argument;
  const uint64_t spin_ns = w->options->busy_poll_us * 1000ull;
  schedule_t schedule = { .gap = UINT32_MAX };
  char name[16] = "worker-";

  name[7] = (char) ('0' + w->index / 10);
  name[8] = (char) ('0' + w->index % 10);
  prctl (PR_SET_NAME, name, 0, 0, 0);
  fp_worker_wake (&w->fp);
  while (!atomic_load_explicit (&w->stop, memory_order_relaxed))
    {
      const uint64_t now = emb_now_ns ();
      uint32_t taken = 0;

      fp_worker_quiescent (&w->fp, now);
      for (uint32_t i = 0; i < w->links->n_links; i++)
	taken += emb_pipeline_run_port (w, i);
      emb_pipeline_run_held (w);
      emb_pipeline_send_signals (w);
      regular_work (w, &schedule, now);
      if (taken)
	{
	  const uint64_t gap = now - schedule.last_packet;
	  schedule.gap = (schedule.gap * 7 + (gap < UINT32_MAX ? gap : UINT32_MAX)) / 8;
	  schedule.last_packet = now;
	}
      else if (schedule.gap < spin_ns && now - schedule.last_packet < spin_ns)
	emb_relax ();
      else
	wait_for_packets (w);
      if (atomic_load_explicit (&w->links_changed, memory_order_relaxed))
	{
	  atomic_store (&w->links_changed, false);
	  follow_links (w);
	}
    }
  fp_worker_sleep (&w->fp);
  for (uint32_t i = 0; i < w->links->n_links; i++)
    if (w->ports[i].fd >= 0)
      emb_port_close (&w->ports[i]);
  return NULL;
}

int
emb_worker_prepare (emb_worker_t *w, fp_region_t *region, uint64_t seed)
{
  int rv = emb_pipeline_prepare (w);

  w->holds = calloc (1, sizeof (*w->holds));
  w->gtpu = calloc (1, sizeof (*w->gtpu));
  if (!w->holds || !w->gtpu)
    return -ENOMEM;
  if (rv)
    return rv;
  fp_worker_init (&w->fp, region, w->index, seed);
  fp_worker_sleep (&w->fp); /* until its thread runs */
  w->fp.holds = w->holds;
  w->fp.gtpu = w->gtpu;
  return emb_hold_init (&w->hold);
}

int
emb_worker_start (emb_worker_t *w)
{
  int rv;

  for (uint32_t i = 0; i < EMB_MAX_INTERFACES; i++)
    w->ports[i].fd = -1;
  w->wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (w->wake_fd < 0)
    return -errno;
  atomic_store (&w->links_changed, true);
  rv = pthread_create (&w->thread, NULL, worker_main, w);
  if (rv)
    return -rv;
  w->started = true;
  return 0;
}

void
emb_worker_signal (emb_worker_t *w)
{
  const uint64_t one = 1;

  if (write (w->wake_fd, &one, sizeof (one)) < 0)
    return; /* the counter is full: it is awake */
}

void
emb_worker_wake (emb_worker_t *w)
{
  atomic_store (&w->links_changed, true);
  emb_worker_signal (w);
}

void
emb_worker_stop (emb_worker_t *w)
{
  atomic_store (&w->stop, true);
  if (w->started)
    {
      emb_worker_wake (w);
      pthread_join (w->thread, NULL);
    }
  w->started = false;
  emb_hold_destroy (&w->hold);
  emb_pipeline_destroy (w);
  free (w->holds);
  free (w->gtpu);
  w->holds = NULL;
  w->gtpu = NULL;
  if (w->wake_fd >= 0)
    close (w->wake_fd);
  w->wake_fd = -1;
}
