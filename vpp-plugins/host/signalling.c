/* SPDX-License-Identifier: Apache-2.0 */
#include "signalling.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/fp_control.h"
#include "fastpath/fp_gtpu.h"

#define IDLE_MS	 1000
#define GRACE_MS 2		  /* while an End Marker waits for the workers */
#define RETRY_NS 10000000ull	  /* after a full outbox */
#define EVENT_NS 20000000ull	  /* an Error Indication costs a scan of all tunnels */
#define MERGE_NS 5000000ull	  /* timers nearer than this are handled together */
#define NEVER	 UINT64_MAX
#define NS_PER_MS 1000000ull

/* Timers of the path to one peer. */
typedef struct
{
  uint64_t due_ns;
  uint64_t round_ns; /* first request of this round */
  uint32_t gen;	     /* of the peer's slot */
  uint16_t sequence;
  uint8_t tries; /* requests of this round; 0: none is out */
  uint8_t state; /* enum fp_gtpu_path_state */
} path_t;

struct host_signalling
{
  uint64_t due_ns; /* earliest of all paths */
  uint16_t sequence;
  bool has_marker;
  fp_gtpu_marker_t marker; /* taken, not sent yet */
  uint64_t event_ns;	   /* not before then is the next one handled */
  path_t paths[];
};

host_signalling_t *
host_signalling_open (host_t *host)
{
  host_signalling_t *s = calloc (1, sizeof (*s) + host->region->capacity.gtpu_peers * sizeof (path_t));

  host->region->gtpu_paths = calloc (host->region->capacity.gtpu_peers, sizeof (fp_gtpu_path_t));
  if (!s || !host->region->gtpu_paths)
    {
      free (s);
      return NULL;
    }
  s->sequence = (uint16_t) fp_now_ns ();
  return s;
}

/* After the workers have ended. */
void
host_signalling_close (host_t *host)
{
  free (host->signalling);
  free (host->region->gtpu_paths);
  host->signalling = NULL;
  host->region->gtpu_paths = NULL;
}

void
host_signalling_peers_changed (host_t *host)
{
  host->signalling->due_ns = 0;
}

static void
count (host_t *host, enum fp_counter c)
{
  fp_counter_add (&host->region->counters[FP_MAX_WORKERS].counter[c], 1);
}

/* ---- Echo ---- */

/* Another peer than the slot's last one starts anew; an answer that has come in ends the round. */
static void
settle (host_t *host, uint32_t slot, const fp_gtpu_peer_t *peer)
{
  path_t *path = &host->signalling->paths[slot];
  fp_gtpu_path_t *shared = &host->region->gtpu_paths[slot];
  const uint32_t gen = atomic_load_explicit (&peer->gen, memory_order_relaxed);

  if (path->gen != gen || path->round_ns == 0)
    {
      if (path->gen != gen)
	{
	  atomic_store (&shared->sent_sequence, 0);
	  atomic_store (&shared->answered_ns, 0);
	  atomic_store (&shared->restart, 0);
	  atomic_store (&shared->rtt_us, 0);
	}
      *path = (path_t){ .gen = gen, .round_ns = 1 };
    }
  if (path->tries && !(atomic_load_explicit (&shared->sent_sequence, memory_order_acquire) & FP_GTPU_PATH_WAITING))
    {
      path->state = FP_GTPU_PATH_UP;
      path->tries = 0;
      path->due_ns = path->round_ns + peer->echo_interval_ms * NS_PER_MS;
    }
}

/* False: no room for the packet now. */
static bool
send_echo_request (host_t *host, uint32_t slot, const fp_gtpu_peer_t *peer, uint16_t sequence, uint64_t now)
{
  fp_gtpu_path_t *shared = &host->region->gtpu_paths[slot];
  uint8_t *packet = host->functions->packet_room (host);
  const fp_gtpu_endpoint_record_t *record = fp_gtpu_endpoint_at (host->region, peer->endpoint);
  fp_gtpu_endpoint_t endpoint = { .family = record->family };
  uint32_t length;

  if (!packet)
    return false;
  memcpy (endpoint.address, record->address, sizeof (endpoint.address));
  length = fp_gtpu_echo_request (packet, &endpoint, peer, sequence);
  atomic_store_explicit (&shared->sent_ns, now, memory_order_relaxed);
  atomic_store_explicit (&shared->sent_sequence, sequence | FP_GTPU_PATH_WAITING, memory_order_release);
  host->functions->packet_send (host, length, record->vrf);
  count (host, FP_C_GTPU_ECHO_SENT);
  return true;
}

static void
stop_waiting (host_t *host, uint32_t slot)
{
  atomic_fetch_and (&host->region->gtpu_paths[slot].sent_sequence, ~FP_GTPU_PATH_WAITING);
}

static void
run_path (host_t *host, uint32_t slot, const fp_gtpu_peer_t *peer, uint64_t now)
{
  path_t *path = &host->signalling->paths[slot];
  const uint64_t interval = peer->echo_interval_ms * NS_PER_MS;

  settle (host, slot, peer);
  if (interval == 0)
    {
      if (path->tries)
	stop_waiting (host, slot);
      path->state = FP_GTPU_PATH_UNKNOWN;
      path->tries = 0;
      path->due_ns = NEVER;
      return;
    }
  if (path->tries == 0 && path->due_ns > path->round_ns + interval)
    path->due_ns = path->round_ns + interval; /* the interval has become shorter, or Echo was off */
  if (now < path->due_ns)
    return;
  if (path->tries >= peer->n3)
    {
      stop_waiting (host, slot);
      path->state = FP_GTPU_PATH_DOWN;
      path->tries = 0;
      path->due_ns = path->round_ns + interval;
      if (now < path->due_ns)
	return;
    }
  if (path->tries == 0)
    path->sequence = host->signalling->sequence++;
  if (!send_echo_request (host, slot, peer, path->sequence, now))
    {
      path->due_ns = now + RETRY_NS;
      return;
    }
  if (path->tries++ == 0)
    path->round_ns = now;
  path->due_ns = now + peer->t3_ms * NS_PER_MS;
}

static void
run_paths (host_t *host, uint64_t now)
{
  host_signalling_t *s = host->signalling;

  if (now < s->due_ns)
    return;
  s->due_ns = NEVER;
  for (uint32_t slot = 0; slot < host->region->capacity.gtpu_peers; slot++)
    {
      const fp_gtpu_peer_t *peer = fp_control_gtpu_peer (host->region, slot);

      if (!peer)
	continue;
      run_path (host, slot, peer, now);
      if (s->paths[slot].due_ns < s->due_ns)
	s->due_ns = s->paths[slot].due_ns;
    }
  if (s->due_ns < now + MERGE_NS)
    s->due_ns = now + MERGE_NS;
}

uint32_t
host_signalling_paths (host_t *host, uint64_t *cursor, fp_msg_gtpu_path_t *out, uint32_t max)
{
  uint32_t n = 0;
  uint64_t slot = *cursor;

  for (; slot < host->region->capacity.gtpu_peers && n < max; slot++)
    {
      const fp_gtpu_peer_t *peer = fp_control_gtpu_peer (host->region, (uint32_t) slot);
      const fp_gtpu_path_t *shared = &host->region->gtpu_paths[slot];
      const fp_gtpu_endpoint_record_t *endpoint;
      uint32_t restart;

      if (!peer)
	continue;
      endpoint = fp_gtpu_endpoint_at (host->region, peer->endpoint);
      settle (host, (uint32_t) slot, peer);
      restart = atomic_load (&shared->restart);
      out[n] = (fp_msg_gtpu_path_t){
	.endpoint = endpoint->id,
	.family = endpoint->family,
	.state = host->signalling->paths[slot].state,
	.restart_counter = (uint8_t) restart,
	.has_restart_counter = (restart & FP_GTPU_PATH_RESTART) != 0,
	.rtt_us = atomic_load (&shared->rtt_us),
	.answered_ns = atomic_load (&shared->answered_ns),
      };
      memcpy (out[n].address, peer->address, sizeof (out[n].address));
      n++;
    }
  *cursor = slot < host->region->capacity.gtpu_peers ? slot : 0;
  return n;
}

/* ---- End Markers, Error Indications ---- */

/* The tables give a marker out once no worker sends by the tunnel's old record any more: it is the last packet on the old path. */
static void
run_end_markers (host_t *host)
{
  host_signalling_t *s = host->signalling;

  for (;;)
    {
      uint8_t *packet;

      if (!s->has_marker)
	s->has_marker = fp_control_take_end_marker (host->region, &s->marker);
      if (!s->has_marker)
	return;
      packet = host->functions->packet_room (host);
      if (!packet)
	return;
      host->functions->packet_send (host, fp_gtpu_end_marker (packet, &s->marker), s->marker.vrf);
      count (host, FP_C_GTPU_END_MARKERS_SENT);
      s->has_marker = false;
    }
}

static void
run_events (host_t *host, uint64_t now)
{
  fp_gtpu_event_t event;

  for (uint32_t i = 0; i < host->workers && now >= host->signalling->event_ns; i++)
    if (fp_gtpu_take_event (host->gtpu[i], &event))
      {
	fp_tunnel_mark_remote (host->region, event.endpoint, event.peer, event.teid, FP_GTPU_SEEN_ERROR_INDICATION);
	host->signalling->event_ns = now + EVENT_NS;
      }
}

int
host_signalling_run (host_t *host)
{
  const uint64_t now = fp_now_ns ();
  const host_signalling_t *s = host->signalling;

  run_paths (host, now);
  run_end_markers (host);
  run_events (host, now);
  if (s->has_marker)
    return GRACE_MS;
  return s->due_ns - now < IDLE_MS * NS_PER_MS ? (int) ((s->due_ns - now) / NS_PER_MS) + 1 : IDLE_MS;
}
