/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline.h"

#include <errno.h>
#include <sys/mman.h>

#include "clocks.h"
#include "fastpath/fp_gtpu.h"
#include "fastpath/fp_service.h"

#define READY_AT_ONCE 64

/* Segments of one large frame that are handled together. Each has a place of its own, touched only as far as used. */
#define SEGMENTS	64
#define SEGMENT_DEPTH	2 /* a segment may still be too big for its tunnel */
#define SEGMENT_STRIDE	(EMB_HEADROOM + EMB_MAX_FRAME)
#define SEGMENT_ROOM	(SEGMENT_STRIDE - EMB_HEADROOM)
#define SEGMENTS_MEMORY ((size_t) SEGMENT_DEPTH * SEGMENTS * SEGMENT_STRIDE)

/* Packets on their way onto one link, in order. Those in `aside` have no other place that lasts. */
typedef struct outlet
{
  emb_worker_t *w;
  uint32_t link;
  uint32_t n, n_aside;
  uint32_t depth; /* of segments made of segments */
  struct outlet *frames; /* of the link for frames */
  fp_packet_t *packets[EMB_BATCH];
  fp_packet_t aside[32];
} outlet_t;

/* The link that packets leave by which came from no other one. */
#define PACKETS_LINK 0

static void run_vector (outlet_t *o, fp_packet_t *packets, uint32_t n);

/* Not by an initialiser: that would clear the arrays. */
static inline void
open_outlet (outlet_t *o, emb_worker_t *w, uint32_t link, outlet_t *frames)
{
  o->w = w;
  o->link = link;
  o->n = o->n_aside = o->depth = 0;
  o->frames = frames;
}

static void
flush (outlet_t *o)
{
  if (o->n)
    emb_port_send (&o->w->ports[o->link], o->packets, o->n, &o->w->counters[o->link]);
  o->n = o->n_aside = 0;
}

/* `packet` stays where it is until the next flush. */
static inline void
put (outlet_t *o, fp_packet_t *packet)
{
  if (o->n == EMB_BATCH)
    flush (o);
  o->packets[o->n++] = packet;
}

static void
put_aside (outlet_t *o, const fp_packet_t *packet)
{
  if (o->n == EMB_BATCH || o->n_aside == sizeof (o->aside) / sizeof (o->aside[0]))
    flush (o);
  o->aside[o->n_aside] = *packet;
  put (o, &o->aside[o->n_aside++]);
}

/* What one kernel did with a vector. A large frame counts as one packet, as it does in the counters of a Linux interface. */
typedef struct
{
  uint64_t packets, bytes, start;
} tally_t;

static inline uint64_t
sum_lengths (const fp_packet_t *packets, uint32_t n)
{
  uint64_t bytes = 0;

  for (uint32_t i = 0; i < n; i++)
    bytes += packets[i].length;
  return bytes;
}

static void
run_kernel (emb_worker_t *w, enum fp_path which, emb_kernel_t *kernel, fp_packet_t *packets, fp_verdict_t *verdicts,
	    uint32_t n)
{
  fp_path_counters_t *path = &w->fp.counters->path[which];
  const uint64_t bytes = sum_lengths (packets, n), start = emb_clocks ();

  kernel (&w->fp, packets, verdicts, n);
  fp_counter_add (&path->clocks, emb_clocks () - start);
  fp_counter_add (&path->clock_packets, n);
  fp_counter_add (&path->rx_packets, n);
  fp_counter_add (&path->rx_bytes, bytes);
}

static void
count_out (emb_worker_t *w, enum fp_path which, uint64_t packets, uint64_t bytes)
{
  fp_path_counters_t *path = &w->fp.counters->path[which];

  fp_counter_add (&path->tx_packets, packets);
  fp_counter_add (&path->tx_bytes, bytes);
}

typedef uint32_t segment_t (const fp_packet_t *, u32 *, u8 *, u32, u32, fp_packet_t *);

/* Cuts a large packet into smaller ones and sends them through `next`. */
static void
in_segments (outlet_t *o, const fp_packet_t *large, segment_t *segment, void (*next) (outlet_t *, fp_packet_t *, uint32_t))
{
  fp_packet_t segments[SEGMENTS];
  uint8_t *memory = o->w->segments + (size_t) o->depth * SEGMENTS * SEGMENT_STRIDE;
  uint32_t at = 0, n;

  if (o->depth == SEGMENT_DEPTH)
    return;
  o->depth++;
  flush (o); /* packets before it, and segments of another frame that still lie in this memory */
  do
    {
      for (n = 0; n < SEGMENTS; n++)
	if (!segment (large, &at, memory + (size_t) n * SEGMENT_STRIDE + EMB_HEADROOM, EMB_KERNEL_ROOM,
			      SEGMENT_ROOM, &segments[n]))
	  break;
      next (o, segments, n);
      flush (o);
      if (o->frames)
	flush (o->frames);
    }
  while (n == SEGMENTS);
  o->depth--;
}

/* ---- into a tunnel ---- */

static void answer (outlet_t *o, fp_packet_t *packet);

static void
encapsulate (outlet_t *o, fp_packet_t *packets, uint32_t n)
{
  fp_verdict_t verdicts[EMB_BATCH];
  emb_worker_t *w = o->w;
  uint64_t done = 0, bytes = 0;

  if (n == 0)
    return;
  run_kernel (w, FP_PATH_GTPU_ENCAP, w->vector->encap, packets, verdicts, n);
  for (uint32_t i = 0; i < n; i++)
    switch (verdicts[i].action)
      {
      case FP_FORWARD:
	done++;
	bytes += packets[i].length;
	put (o, &packets[i]);
	break;
      case FP_REPLY:
	answer (o, &packets[i]);
	break;
      case FP_SEGMENT:
	in_segments (o, &packets[i], fp_gtpu_segment, encapsulate);
	break;
      default:
	break;
      }
  count_out (w, FP_PATH_GTPU_ENCAP, done, bytes);
}

/* An ICMP error about a packet that cannot go into its tunnel: its receiver may be a client of a Service, or behind a tunnel too. No
 * error is made about it. */
static void
answer (outlet_t *o, fp_packet_t *packet)
{
  fp_verdict_t verdict;
  uint8_t towards;

  run_kernel (o->w, FP_PATH_SERVICE, o->w->vector->service, packet, &verdict, 1);
  if (verdict.action != FP_FORWARD)
    return;
  count_out (o->w, FP_PATH_SERVICE, 1, packet->length);
  if (o->w->vector->towards_ue (&o->w->fp, packet, 1, &towards))
    {
      run_kernel (o->w, FP_PATH_GTPU_ENCAP, o->w->vector->encap, packet, &verdict, 1);
      if (verdict.action != FP_FORWARD)
	return;
      count_out (o->w, FP_PATH_GTPU_ENCAP, 1, packet->length);
    }
  put (o, packet);
}

static void
put_all (outlet_t *o, fp_packet_t *packets, uint32_t n)
{
  for (uint32_t i = 0; i < n; i++)
    put (o, &packets[i]);
}

/* A packet out of a tunnel may be larger than the link takes: a reassembled one. */
__attribute__ ((noinline)) static void
put_too_big (outlet_t *o, fp_packet_t *packet)
{
  const uint32_t mtu = o->w->ports[o->link].mtu;
  const bool may_fragment = packet->l3[0] >> 4 == 4 && !(packet->l3[6] & 0x40);
  fp_parsed_t parsed;

  if (may_fragment)
    {
      packet->fragment_size = (uint16_t) mtu;
      in_segments (o, packet, fp_gtpu_segment, put_all);
      return;
    }
  fp_count_drop (&o->w->fp, FP_DROP_TOO_BIG);
  if (!fp_parse (packet, &parsed) && fp_icmp_reply (&o->w->fp, packet, &parsed, FP_ICMP_TOO_BIG, mtu))
    answer (o, packet);
}

static inline void
put_fitting (outlet_t *o, fp_packet_t *packet)
{
  if (FP_UNLIKELY (packet->length > o->w->ports[o->link].mtu && packet->gso_type == FP_GSO_NONE))
    put_too_big (o, packet);
  else
    put (o, packet);
}

/* ---- Services ---- */

/* What the Service kernel sends on: onto the link, or into a tunnel. */
static void
leave (outlet_t *o, fp_packet_t *packets, uint32_t n)
{
  fp_packet_t side[EMB_BATCH];
  uint8_t towards[EMB_BATCH];
  const uint32_t found = o->w->vector->towards_ue (&o->w->fp, packets, n, towards);
  uint32_t n_side = 0;

  if (found == n)
    {
      encapsulate (o, packets, n);
      return;
    }
  for (uint32_t i = 0; i < n; i++)
    if (found && towards[i])
      side[n_side++] = packets[i];
    else
      put_fitting (o, &packets[i]);
  encapsulate (o, side, n_side);
  if (n_side)
    flush (o);
}

static void
keep (outlet_t *o, const fp_packet_t *packet)
{
  emb_hold_keep (&o->w->hold, packet, (uint8_t) o->link);
  o->w->held++;
}

static void
serve (outlet_t *o, fp_packet_t *packets, uint32_t n, bool tunnels)
{
  fp_verdict_t verdicts[EMB_BATCH];
  emb_worker_t *w = o->w;
  uint32_t kept = 0;

  if (n == 0)
    return;
  run_kernel (w, FP_PATH_SERVICE, w->vector->service, packets, verdicts, n);
  for (uint32_t i = 0; i < n; i++)
    {
      const fp_verdict_t *v = &verdicts[i];

      if (v->action == FP_HOLD)
	keep (o, &packets[i]);
      if (v->action != FP_FORWARD && v->action != FP_REPLY)
	continue;
      packets[i].flags |= FP_PACKET_IP_VALID | (v->way == FP_WAY_PASS ? 0 : FP_PACKET_KEEP_TTL);
      if (kept != i)
	packets[kept] = packets[i];
      kept++;
    }
  count_out (w, FP_PATH_SERVICE, kept, sum_lengths (packets, kept));
  if (tunnels)
    leave (o, packets, kept);
  else
    for (uint32_t i = 0; i < kept; i++)
      put (o, &packets[i]);
}

/* ---- out of a tunnel ---- */

/* Carries out what the kernel said and moves the inner packets to the front. Returns their number. */
static uint32_t
decapsulate (outlet_t *o, fp_packet_t *packets, uint32_t n, fp_packet_t *inner)
{
  fp_verdict_t verdicts[EMB_BATCH];
  emb_worker_t *w = o->w;
  uint64_t done = 0, bytes = 0;
  uint32_t n_inner = 0;
  uint8_t nested;

  run_kernel (w, FP_PATH_GTPU_DECAP, w->vector->decap, packets, verdicts, n);
  for (uint32_t i = 0; i < n; i++)
    switch (verdicts[i].action)
      {
      case FP_FORWARD:
	if (verdicts[i].way != FP_WAY_PASS)
	  {
	    done++;
	    bytes += packets[i].length;
	  }
	if (verdicts[i].way == FP_WAY_ETHERNET)
	  {
	    put_aside (o->frames, &packets[i]);
	    break;
	  }
	if (verdicts[i].way == FP_WAY_GTPU && fp_gtpu_may_be_nested (&packets[i]) && w->vector->ours (&w->fp, &packets[i], 1, &nested))
	  {
	    /* It would come back by the host's forwarding and be taken out again, as another tunnel's. */
	    fp_count_drop (&w->fp, FP_DROP_GTPU_NESTED);
	    break;
	  }
	if (&inner[n_inner] != &packets[i])
	  inner[n_inner] = packets[i];
	n_inner++;
	break;
      case FP_REPLY:
	put_aside (o, &packets[i]);
	break;
      case FP_HOLD:
	keep (o, &packets[i]);
	break;
      case FP_SEGMENT:
	in_segments (o, &packets[i], fp_gtpu_segment, run_vector);
	break;
      default:
	break;
      }
  count_out (w, FP_PATH_GTPU_DECAP, done, bytes);
  return n_inner;
}

/* n <= EMB_BATCH packets. What is put onto the outlet lies in `packets`, or is flushed. */
static void
run_vector (outlet_t *o, fp_packet_t *packets, uint32_t n)
{
  fp_packet_t side[EMB_BATCH];
  uint8_t ours[EMB_BATCH];
  uint32_t found, plain = 0, n_side = 0;

  if (FP_LIKELY (!fp_gtpu_any (o->w->fp.region)))
    {
      serve (o, packets, n, false);
      return;
    }
  found = o->w->vector->ours (&o->w->fp, packets, n, ours);
  if (found == n)
    plain = decapsulate (o, packets, n, packets);
  else if (found)
    {
      for (uint32_t i = 0; i < n; i++)
	if (ours[i])
	  side[n_side++] = packets[i];
	else
	  {
	    if (plain != i)
	      packets[plain] = packets[i];
	    plain++;
	  }
      plain += decapsulate (o, side, n_side, packets + plain);
    }
  else
    plain = n;
  serve (o, packets, plain, true);
}

/* Frames into the tunnels of their VLANs; the outer packets leave by the link of `o`. */
static void
encapsulate_frames (outlet_t *o, fp_packet_t *frames, uint32_t n)
{
  fp_verdict_t verdicts[EMB_BATCH];
  uint64_t done = 0, bytes = 0;

  if (n == 0)
    return;
  run_kernel (o->w, FP_PATH_GTPU_ENCAP, o->w->vector->encap_frames, frames, verdicts, n);
  for (uint32_t i = 0; i < n; i++)
    if (verdicts[i].action == FP_FORWARD && verdicts[i].way == FP_WAY_GTPU)
      {
	done++;
	bytes += frames[i].length;
	put (o, &frames[i]);
      }
    else if (verdicts[i].action == FP_SEGMENT)
      in_segments (o, &frames[i], fp_gtpu_segment_frame, encapsulate_frames);
  count_out (o->w, FP_PATH_GTPU_ENCAP, done, bytes);
}

static void
run_frames (outlet_t *o, fp_packet_t *frames, uint32_t n)
{
  if (!fp_gtpu_any (o->w->fp.region))
    return;
  for (uint32_t i = 0; i < n; i++)
    frames[i].mtu = o->w->ports[o->link].mtu;
  encapsulate_frames (o, frames, n);
}

/* ---- the worker's calls ---- */

uint32_t
emb_pipeline_run_port (emb_worker_t *w, uint32_t link)
{
  fp_packet_t packets[EMB_BATCH];
  const uint32_t frames_link = w->options->frames_interface;
  outlet_t frames, outlet;
  emb_port_t *port = &w->ports[link];
  const uint32_t n = emb_port_receive (port, packets, EMB_BATCH, &w->counters[link]), taken = port->taken;

  if (taken == 0)
    return 0;
  open_outlet (&frames, w, frames_link, NULL);
  open_outlet (&outlet, w, link == frames_link ? PACKETS_LINK : link, &frames);
  if (n && link == frames_link)
    {
      run_frames (&outlet, packets, n);
      flush (&outlet);
    }
  else if (n)
    {
      w->held = 0;
      for (uint32_t i = 0; i < n; i++)
	packets[i].cookie = emb_hold_cookie (&w->hold, i);
      run_vector (&outlet, packets, n);
      flush (&outlet);
      flush (&frames);
      if (w->held)
	emb_hold_settle (&w->hold, n);
    }
  emb_port_release (port);
  return taken;
}

void
emb_pipeline_run_held (emb_worker_t *w)
{
  uint64_t cookies[READY_AT_ONCE];
  uint8_t expired[READY_AT_ONCE];
  uint32_t n;

  if (w->hold.n_free == EMB_HOLD_SLOTS)
    return;
  n = fp_fragments_ready (&w->fp, cookies, expired, READY_AT_ONCE);
  for (uint32_t i = 0; i < n; i++)
    {
      outlet_t frames, outlet;
      fp_packet_t packet, *kept;
      uint8_t link;

      kept = emb_hold_packet (&w->hold, cookies[i], &link);
      w->held = 0;
      if (kept && !expired[i])
	{
	  packet = *kept;
	  open_outlet (&frames, w, w->options->frames_interface, NULL);
	  open_outlet (&outlet, w, link, &frames);
	  run_vector (&outlet, &packet, 1);
	  flush (&outlet);
	  flush (&frames);
	}
      if (!w->held)
	emb_hold_free (&w->hold, cookies[i]);
    }
}

void
emb_pipeline_send_signals (emb_worker_t *w)
{
  outlet_t outlet;
  fp_packet_t packets[32];
  uint32_t n;

  open_outlet (&outlet, w, PACKETS_LINK, NULL);

  while ((n = emb_outbox_take (&w->outbox, packets, 32)) > 0)
    {
      for (uint32_t i = 0; i < n; i++)
	put (&outlet, &packets[i]);
      flush (&outlet);
      emb_outbox_release (&w->outbox, n);
    }
}

int
emb_pipeline_prepare (emb_worker_t *w)
{
  w->segments = mmap (NULL, SEGMENTS_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (w->segments == MAP_FAILED)
    {
      w->segments = NULL;
      return -errno;
    }
  return 0;
}

void
emb_pipeline_destroy (emb_worker_t *w)
{
  if (w->segments)
    munmap (w->segments, SEGMENTS_MEMORY);
  w->segments = NULL;
}
