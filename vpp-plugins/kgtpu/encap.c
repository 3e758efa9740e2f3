/* SPDX-License-Identifier: Apache-2.0 */
/* Encapsulation in the graph: nodes that the FIB entries of UE pools lead to. */
#include <kgtpu/answer.h>
#include <kgtpu/kgtpu.h>
#include <kgtpu/outer.h>
#include <kgtpu/plain.h>
#include <kgtpu/tally.h>
#include <kgtpu/trace.h>
#include <khost/khost_buffer.h>
#include <khost/khost_error.h>
#include <khost/khost_large.h>

#include <fastpath/fp_gtpu.h>

#define CHUNK 64
#define SEGMENTS 64 /* of one large packet that are encapsulated together */
#define MOST_HEADERS 256 /* of a piece: IP with options or extension headers, TCP */
#define GATHERED (KHOST_LARGE - 1) /* of a chunk at most; the last place is for pieces that no buffer holds */

/* Of one frame. */
typedef struct
{
  vlib_main_t *vm;
  vlib_node_runtime_t *node;
  kgtpu_main_t *km;
  khost_worker_t *w;
  u32 data_size;
  u32 skip; /* skipOuterLookup is on */
  u32 skipped;
  u32 large; /* packets of the chunk that were gathered */
  kgtpu_vector_t vector;
  kgtpu_tally_t tally;
} frame_t;

/* ip4-rewrite leaves the TTL of such a packet alone. */
static_always_inline u8
packet_flags (const vlib_buffer_t *b)
{
  return FP_PACKET_IP_VALID | (b->flags & VNET_BUFFER_F_LOCALLY_ORIGINATED ? FP_PACKET_KEEP_TTL : 0);
}

static_always_inline void
to_packet (frame_t *f, vlib_buffer_t *b, fp_packet_t *p, u32 table)
{
  khost_packet_from_buffer (f->vm, b, p, table, f->data_size, packet_flags (b));
  p->headroom = p->headroom > KGTPU_REWRITE_ROOM ? p->headroom - KGTPU_REWRITE_ROOM : 0;
  p->mtu = f->km->link_mtu;
}

static_always_inline u16
send_outer (frame_t *f, vlib_buffer_t *b, const fp_packet_t *p)
{
  f->tally.tx_packets++;
  f->tally.tx_bytes += p->length;
  return kgtpu_outer_next (f->vm, f->node, f->w, f->km, b, p, f->skip, &f->skipped);
}

/* ---- large packets ---- */

/* As in_segments, of pieces that may need several buffers: one after the other through memory of the thread. */
static __clib_noinline void
in_long_segments (frame_t *f, vlib_buffer_t *b, fp_packet_t *large, u32 vrf)
{
  u8 *room = f->w->large + GATHERED * KHOST_LARGE_STRIDE + KHOST_LARGE_HEADROOM;
  const u32 headroom = KHOST_LARGE_HEADROOM - KGTPU_REWRITE_ROOM;
  fp_packet_t segment;
  fp_verdict_t verdict;
  u32 at = 0, bi;

  while (fp_gtpu_segment (large, &at, room, headroom, KHOST_LARGE_STRIDE - KHOST_LARGE_HEADROOM, &segment))
    {
      vlib_buffer_t *s;
      u16 next;

      if (vlib_buffer_alloc (f->vm, &bi, 1) != 1)
	{
	  fp_count_drop (&f->w->fp, FP_DROP_NO_ROOM);
	  break;
	}
      s = vlib_get_buffer (f->vm, bi);
      kgtpu_open_piece (s, b, 0);
      segment.mtu = large->mtu;
      kgtpu_tally_in (&f->tally, &segment, 1);
      fp_gtpu_encap_vector (&f->w->fp, &segment, &verdict, 1);
      if (verdict.action == FP_DROP)
	next = kgtpu_dropped (f->node, s, verdict.reason);
      else if (verdict.action != FP_FORWARD && verdict.action != FP_REPLY)
	next = kgtpu_own_drop (f->node, f->w, s, FP_DROP_UNSUPPORTED);
      else if (!khost_buffer_take (f->vm, s, &segment))
	next = kgtpu_own_drop (f->node, f->w, s, FP_DROP_NO_ROOM);
      else
	next = verdict.action == FP_REPLY ? kgtpu_answer (f->vm, &f->km->vrfs[vrf], s, &segment) : send_outer (f, s, &segment);
      vlib_buffer_enqueue_to_next (f->vm, f->node, &bi, &next, 1);
    }
}

/* A packet that must go on as several. The kernel cuts bytes that lie side by side. */
static __clib_noinline void
in_segments (frame_t *f, vlib_buffer_t *b, fp_packet_t *large, u32 vrf)
{
  const u32 headroom = VLIB_BUFFER_PRE_DATA_SIZE - KGTPU_REWRITE_ROOM;
  u32 bis[SEGMENTS], at = 0, n;

  if (PREDICT_FALSE ((large->gso_type == FP_GSO_NONE ? large->fragment_size : large->gso_size + MOST_HEADERS) > f->data_size))
    {
      in_long_segments (f, b, large, vrf);
      return;
    }
  do
    {
      fp_packet_t segments[SEGMENTS];
      fp_verdict_t verdicts[SEGMENTS];
      u16 nexts[SEGMENTS];
      const u32 room = vlib_buffer_alloc (f->vm, bis, SEGMENTS);

      for (n = 0; n < room; n++)
	{
	  vlib_buffer_t *s = vlib_get_buffer (f->vm, bis[n]);
	  const u32 length = fp_gtpu_segment (large, &at, s->data, headroom, f->data_size, &segments[n]);

	  if (!length)
	    break;
	  segments[n].mtu = large->mtu;
	  kgtpu_open_piece (s, b, length);
	}
      if (n < room)
	vlib_buffer_free (f->vm, bis + n, room - n);
      if (n == 0)
	break;
      kgtpu_tally_in (&f->tally, segments, n);
      fp_gtpu_encap_vector (&f->w->fp, segments, verdicts, n);
      for (u32 i = 0; i < n; i++)
	{
	  vlib_buffer_t *s = vlib_get_buffer (f->vm, bis[i]);

	  if (verdicts[i].action == FP_FORWARD && verdicts[i].way == FP_WAY_GTPU)
	    nexts[i] = send_outer (f, s, &segments[i]);
	  else if (verdicts[i].action == FP_REPLY)
	    nexts[i] = kgtpu_answer (f->vm, &f->km->vrfs[vrf], s, &segments[i]);
	  else
	    nexts[i] = kgtpu_dropped (f->node, s, verdicts[i].reason);
	}
      vlib_buffer_enqueue_to_next (f->vm, f->node, bis, nexts, n);
      n = n == room && room == SEGMENTS;
    }
  while (n);
}

/* ---- the node ---- */

static_always_inline u16
carry_out (frame_t *f, vlib_buffer_t *b, u32 place, fp_packet_t *p, const fp_verdict_t *v, u32 vrf)
{
  if (PREDICT_FALSE (f->large) && (v->action == FP_FORWARD || v->action == FP_REPLY) &&
      khost_is_elsewhere (b, p, f->data_size) && !khost_buffer_take (f->vm, b, p))
    return kgtpu_own_drop (f->node, f->w, b, FP_DROP_NO_ROOM);
  if (PREDICT_TRUE (v->action == FP_FORWARD && v->way == FP_WAY_GTPU))
    return send_outer (f, b, p);
  switch (v->action)
    {
    case FP_REPLY:
      return kgtpu_answer (f->vm, &f->km->vrfs[vrf], b, p);
    case FP_SEGMENT: /* in its place among the others */
      kgtpu_send_on (f->vm, f->node, &f->vector, place);
      in_segments (f, b, p, vrf);
      vlib_buffer_free_one (f->vm, f->vector.bis[place]);
      f->vector.gone = place + 1;
      return KHOST_STAYS;
    case FP_DROP:
      return kgtpu_dropped (f->node, b, v->reason);
    default: /* its pool has gone from the region, and will from the FIB */
      return kgtpu_own_drop (f->node, f->w, b, FP_DROP_GTPU_NO_TUNNEL);
    }
}

static_always_inline uword
encap (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  u32 *bis = vlib_frame_vector_args (frame), n = frame->n_vectors;
  vlib_buffer_t *bufs[VLIB_FRAME_SIZE + KGTPU_AHEAD];
  u16 nexts[VLIB_FRAME_SIZE];
  frame_t f = { .vm = vm,
		.node = node,
		.km = &kgtpu_main,
		.w = khost_worker (vm->thread_index),
		.vector = { .bis = bis, .nexts = nexts },
		.data_size = vlib_buffer_get_default_data_size (vm) };

  f.skip = (fp_config (f.w->fp.region)->gtpu_switches & FP_GTPU_SKIP_OUTER_LOOKUP) != 0;
  kgtpu_get_buffers (vm, bis, bufs, n);
  for (u32 at = 0, count; at < n; at += count)
    {
      fp_packet_t packets[CHUNK];
      fp_verdict_t verdicts[CHUNK];
      u32 vrfs[CHUNK];
      kgtpu_trace_t traces[CHUNK];
      u32 vrf = ~0, table = 0;
      kgtpu_way_t way = { .peer = ~0 };
      kgtpu_sent_t sent = {};
      u64 start;

      count = clib_min (CHUNK, n - at);
      f.large = 0;
      for (u32 i = 0; i < count; i++)
	{
	  vlib_buffer_t *b = bufs[at + i];

	  vlib_prefetch_buffer_header (bufs[at + i + KGTPU_AHEAD], LOAD);
	  clib_prefetch_load (vlib_buffer_get_current (bufs[at + i + KGTPU_AHEAD / 2]));
	  vrfs[i] = vnet_buffer (b)->ip.adj_index[VLIB_TX];
	  if (PREDICT_FALSE (vrfs[i] != vrf))
	    {
	      vrf = vrfs[i];
	      table = f.km->vrfs[vrf].table;
	    }
	  if (PREDICT_TRUE (!(b->flags & KHOST_NOT_PLAIN)))
	    {
	      kgtpu_plain_packet (b, &packets[i], table, f.km->link_mtu, KGTPU_REWRITE_ROOM, f.data_size, packet_flags (b), 0);
	      continue;
	    }
	  to_packet (&f, b, &packets[i], table);
	  if (PREDICT_FALSE (packets[i].contiguous < packets[i].length && f.large < GATHERED))
	    {
	      f.large += khost_packet_gather (vm, f.w, f.large, b, &packets[i]);
	      if (f.large == GATHERED)
		count = i + 1; /* the places are taken: the others in the next round */
	    }
	}
      if (PREDICT_FALSE (node->flags & VLIB_NODE_FLAG_TRACE))
	for (u32 i = 0; i < count; i++)
	  {
	    traces[i].vrf = packets[i].vrf;
	    kgtpu_trace_header (&traces[i], &packets[i]);
	  }
      kgtpu_tally_in (&f.tally, packets, count);
      start = kgtpu_tally_start (at);
      fp_gtpu_encap_vector (&f.w->fp, packets, verdicts, count);
      kgtpu_tally_ran (&f.tally, start, count);
      for (u32 i = 0; i < count; i++)
	{
	  vlib_buffer_t *b = bufs[at + i];
	  const u32 skipped = f.skipped;

	  if (PREDICT_TRUE (verdicts[i].action == FP_FORWARD && verdicts[i].way == FP_WAY_GTPU &&
			    !(node->flags & VLIB_NODE_FLAG_TRACE)) &&
	      PREDICT_TRUE ((nexts[at + i] = kgtpu_send_usual (f.km, f.skip, f.data_size, &way, b, &packets[i], &sent)) != KHOST_STAYS))
	    continue;
	  nexts[at + i] = carry_out (&f, b, at + i, &packets[i], &verdicts[i], vrfs[i]);
	  if (PREDICT_FALSE (node->flags & VLIB_NODE_FLAG_TRACE) && nexts[at + i] != KHOST_STAYS &&
	      b->flags & VLIB_BUFFER_IS_TRACED)
	    {
	      kgtpu_trace_t *t = vlib_add_trace (vm, node, b, sizeof (*t));
	      *t = traces[i];
	      t->verdict = verdicts[i];
	      t->next = nexts[at + i];
	      t->peer = packets[i].peer;
	      t->skipped = f.skipped != skipped;
	      if (verdicts[i].action == FP_FORWARD)
		kgtpu_trace_header (t, &packets[i]);
	    }
	}
      f.skipped += sent.packets;
      f.tally.tx_packets += sent.packets;
      f.tally.tx_bytes += sent.bytes;
    }
  kgtpu_send_on (vm, node, &f.vector, n);
  kgtpu_tally_count (&f.w->fp, FP_PATH_GTPU_ENCAP, &f.tally);
  if (f.skipped)
    fp_count (&f.w->fp, FP_C_GTPU_OUTER_LOOKUP_SKIPPED, f.skipped);
  return n;
}

VLIB_NODE_FN (kgtpu4_encap_node) (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return encap (vm, node, frame);
}

VLIB_NODE_FN (kgtpu6_encap_node) (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return encap (vm, node, frame);
}

#define ENCAP_NODE(node, node_name)                                                                                    \
  VLIB_REGISTER_NODE (node) = {                                                                                         \
    .name = node_name,                                                                                                  \
    .vector_size = sizeof (u32),                                                                                        \
    .type = VLIB_NODE_TYPE_INTERNAL,                                                                                    \
    .format_trace = format_kgtpu_encap_trace,                                                                           \
    .n_errors = FP_DROPS,                                                                                               \
    .error_counters = khost_drop_errors,                                                                                \
    .sibling_of = "kgtpu4-input",                                                                                       \
  };

ENCAP_NODE (kgtpu4_encap_node, "kgtpu4-encap")
ENCAP_NODE (kgtpu6_encap_node, "kgtpu6-encap")
