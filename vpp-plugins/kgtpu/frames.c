/* SPDX-License-Identifier: Apache-2.0 */
/* Frames into tunnels: a feature of the link for frames, ahead of VPP's own Ethernet input, which never sees them. */
#include <kgtpu/frames.h>
#include <kgtpu/outer.h>
#include <kgtpu/plain.h>
#include <khost/khost_error.h>
#include <khost/khost_large.h>

#include <fastpath/fp_gtpu.h>

#define CHUNK	 64
#define SEGMENTS 64 /* of one large frame that are encapsulated together */
#define MOST_HEADERS 256 /* of a piece: Ethernet, IP with options or extension headers, TCP */
#define GATHERED (KHOST_LARGE - 1) /* of a chunk at most; the last place is for pieces that no buffer holds */

/* Of one vector. */
typedef struct
{
  vlib_main_t *vm;
  vlib_node_runtime_t *node;
  const kgtpu_main_t *km;
  khost_worker_t *w;
  kgtpu_vector_t vector;
  u32 data_size;
  u32 skip; /* skipOuterLookup is on */
  u32 skipped;
  u32 large; /* of the chunk that were gathered */
  kgtpu_tally_t tally;
} frame_t;

/* A frame in several buffers, or with work left for a device. What VPP says of that counts from the IP header. 0: a large frame of no kind that can be
 * cut. */
static __clib_noinline int
unusual (frame_t *f, vlib_buffer_t *b, fp_packet_t *p)
{
  const int at = vnet_buffer (b)->l3_hdr_offset - b->current_data;
  const u32 l3 = b->flags & VNET_BUFFER_F_L3_HDR_OFFSET_VALID && at > KGTPU_ETHERNET && at <= b->current_length ? at : KGTPU_ETHERNET;

  vlib_buffer_advance (b, l3);
  khost_packet_from_buffer (f->vm, b, p, KGTPU_FRAME_VRF, f->data_size, 0);
  vlib_buffer_advance (b, -(word) l3);
  p->l3 -= l3;
  p->contiguous += l3;
  p->length += l3;
  p->room += l3;
  p->headroom -= l3;
  p->headroom = p->headroom > KGTPU_REWRITE_ROOM ? p->headroom - KGTPU_REWRITE_ROOM : 0;
  p->mtu = f->km->link_mtu;
  if (p->csum == FP_CSUM_PARTIAL)
    p->csum_start = (u16) (p->csum_start + l3);
  if (b->flags & VNET_BUFFER_F_GSO && p->gso_type == FP_GSO_NONE)
    return 0;
  if (p->contiguous < p->length && f->large < GATHERED)
    f->large += khost_packet_gather (f->vm, f->w, f->large, b, p);
  return 1;
}

static_always_inline u16
carry_out (frame_t *f, vlib_buffer_t *b, fp_packet_t *p, const fp_verdict_t *v)
{
  if (PREDICT_FALSE (v->action != FP_FORWARD || v->way != FP_WAY_GTPU))
    return v->action == FP_DROP ? kgtpu_dropped (f->node, b, v->reason) : kgtpu_own_drop (f->node, f->w, b, FP_DROP_UNSUPPORTED);
  if (PREDICT_FALSE (f->large) && khost_is_elsewhere (b, p, f->data_size) && !khost_buffer_take (f->vm, b, p))
    return kgtpu_own_drop (f->node, f->w, b, FP_DROP_NO_ROOM);
  f->tally.tx_packets++;
  f->tally.tx_bytes += p->length;
  return kgtpu_outer_next (f->vm, f->node, f->w, f->km, b, p, f->skip, &f->skipped);
}

/* As in_segments, of pieces that may need several buffers: one after the other through memory of the thread. */
static __clib_noinline u32
in_long_segments (frame_t *f, vlib_buffer_t *b, const fp_packet_t *large)
{
  u8 *room = f->w->large + GATHERED * KHOST_LARGE_STRIDE + KHOST_LARGE_HEADROOM;
  const u32 headroom = KHOST_LARGE_HEADROOM - KGTPU_REWRITE_ROOM, kept = f->large;
  fp_packet_t segment;
  fp_verdict_t verdict;
  u32 at = 0, bi, n = 0;

  f->large = 1;
  while (fp_gtpu_segment_frame (large, &at, room, headroom, KHOST_LARGE_STRIDE - KHOST_LARGE_HEADROOM, &segment))
    {
      u16 next;

      if (vlib_buffer_alloc (f->vm, &bi, 1) != 1)
	{
	  fp_count_drop (&f->w->fp, FP_DROP_NO_ROOM);
	  break;
	}
      n++;
      kgtpu_open_piece (vlib_get_buffer (f->vm, bi), b, 0);
      kgtpu_tally_in (&f->tally, &segment, 1);
      fp_gtpu_encap_frame_vector (&f->w->fp, &segment, &verdict, 1);
      next = carry_out (f, vlib_get_buffer (f->vm, bi), &segment, &verdict);
      vlib_buffer_enqueue_to_next (f->vm, f->node, &bi, &next, 1);
    }
  f->large = kept;
  return n;
}

/* The pieces of a large frame, in its place among the others. Returns how many there were. */
static __clib_noinline u32
in_segments (frame_t *f, vlib_buffer_t *b, const fp_packet_t *large)
{
  const u32 headroom = VLIB_BUFFER_PRE_DATA_SIZE - KGTPU_REWRITE_ROOM, kept = f->large;
  u32 bis[SEGMENTS], at = 0, n, room, all = 0;

  if (PREDICT_FALSE (large->gso_size + MOST_HEADERS > f->data_size))
    return in_long_segments (f, b, large);
  f->large = 0;
  do
    {
      fp_packet_t segments[SEGMENTS];
      fp_verdict_t verdicts[SEGMENTS];
      u16 nexts[SEGMENTS];

      room = vlib_buffer_alloc (f->vm, bis, SEGMENTS);
      for (n = 0; n < room; n++)
	{
	  vlib_buffer_t *s = vlib_get_buffer (f->vm, bis[n]);
	  const u32 length = fp_gtpu_segment_frame (large, &at, s->data, headroom, f->data_size, &segments[n]);

	  if (!length)
	    break;
	  kgtpu_open_piece (s, b, length);
	}
      if (n < room)
	vlib_buffer_free (f->vm, bis + n, room - n);
      if (n == 0)
	break;
      all += n;
      kgtpu_tally_in (&f->tally, segments, n);
      fp_gtpu_encap_frame_vector (&f->w->fp, segments, verdicts, n);
      for (u32 i = 0; i < n; i++)
	nexts[i] = carry_out (f, vlib_get_buffer (f->vm, bis[i]), &segments[i], &verdicts[i]);
      vlib_buffer_enqueue_to_next (f->vm, f->node, bis, nexts, n);
    }
  while (n == SEGMENTS);
  f->large = kept;
  return all;
}

static __clib_noinline void
trace (frame_t *f, vlib_buffer_t *b, const kgtpu_frame_trace_t *came, const fp_packet_t *p, const fp_verdict_t *v, u16 next, int skipped)
{
  kgtpu_frame_trace_t *t;

  if (!(b->flags & VLIB_BUFFER_IS_TRACED))
    return;
  t = vlib_add_trace (f->vm, f->node, b, sizeof (*t));
  *t = *came;
  t->verdict = *v;
  t->next = next;
  t->peer = p->peer;
  t->skipped = (u8) skipped;
}

VLIB_NODE_FN (kgtpu_frame_input_node) (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
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
  const int any = fp_gtpu_any (f.w->fp.region), tracing = node->flags & VLIB_NODE_FLAG_TRACE;

  f.skip = (fp_config (f.w->fp.region)->gtpu_switches & FP_GTPU_SKIP_OUTER_LOOKUP) != 0;
  kgtpu_get_buffers (vm, bis, bufs, n);
  for (u32 at = 0, to; at < n; at = to)
    {
      fp_packet_t packets[CHUNK];
      fp_verdict_t verdicts[CHUNK];
      u16 places[CHUNK];
      kgtpu_frame_trace_t traces[CHUNK];
      kgtpu_way_t way = { .peer = ~0 };
      kgtpu_sent_t sent = {};
      u32 taken = 0;
      u64 start;

      to = clib_min (at + CHUNK, n);
      f.large = 0;
      for (u32 i = at; i < to; i++)
	{
	  vlib_buffer_t *b = bufs[i];
	  fp_packet_t *p = &packets[taken];
	  int vlan;

	  vlib_prefetch_buffer_header (bufs[i + KGTPU_AHEAD], LOAD);
	  clib_prefetch_load (vlib_buffer_get_current (bufs[i + KGTPU_AHEAD / 2]));
	  vlan = kgtpu_take_tag (b);
	  if (PREDICT_FALSE (vlan < 0 || !any))
	    {
	      nexts[i] = kgtpu_own_drop (node, f.w, b, vlan < 0 ? FP_DROP_TRUNCATED : FP_DROP_GTPU_NO_TUNNEL);
	      continue;
	    }
	  if (PREDICT_TRUE (!(b->flags & KHOST_NOT_PLAIN)))
	    kgtpu_plain_packet (b, p, KGTPU_FRAME_VRF, f.km->link_mtu, KGTPU_REWRITE_ROOM, f.data_size, 0, 0);
	  else if (!unusual (&f, b, p))
	    {
	      nexts[i] = kgtpu_own_drop (node, f.w, b, FP_DROP_UNSUPPORTED);
	      continue;
	    }
	  p->vlan = (u16) vlan;
	  if (PREDICT_FALSE (tracing))
	    {
	      traces[taken] = (kgtpu_frame_trace_t){ .vlan = (u16) vlan, .bytes = p->length };
	      clib_memcpy (traces[taken].header, p->l3, KGTPU_ETHERNET);
	    }
	  places[taken++] = (u16) i;
	  if (PREDICT_FALSE (f.large == GATHERED))
	    to = i + 1; /* the places are taken: the others in the next round */
	}
      if (taken == 0)
	continue;
      kgtpu_tally_in (&f.tally, packets, taken);
      start = kgtpu_tally_start (at);
      fp_gtpu_encap_frame_vector (&f.w->fp, packets, verdicts, taken);
      kgtpu_tally_ran (&f.tally, start, taken);
      for (u32 i = 0; i < taken; i++)
	{
	  const u32 place = places[i], skipped = f.skipped;
	  vlib_buffer_t *b = bufs[place];

	  if (PREDICT_TRUE (verdicts[i].action == FP_FORWARD && verdicts[i].way == FP_WAY_GTPU && !tracing) &&
	      PREDICT_TRUE ((nexts[place] = kgtpu_send_usual (f.km, f.skip, f.data_size, &way, b, &packets[i], &sent)) != KHOST_STAYS))
	    continue;
	  if (PREDICT_FALSE (verdicts[i].action == FP_SEGMENT))
	    {
	      kgtpu_send_on (vm, node, &f.vector, place);
	      if (in_segments (&f, b, &packets[i]))
		{
		  vlib_buffer_free_one (vm, bis[place]);
		  f.vector.gone = place + 1;
		}
	      else
		nexts[place] = kgtpu_own_drop (node, f.w, b, FP_DROP_NO_ROOM);
	      continue;
	    }
	  nexts[place] = carry_out (&f, b, &packets[i], &verdicts[i]);
	  if (PREDICT_FALSE (tracing))
	    trace (&f, b, &traces[i], &packets[i], &verdicts[i], nexts[place], f.skipped != skipped);
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

VLIB_REGISTER_NODE (kgtpu_frame_input_node) = {
  .name = "kgtpu-frame-input",
  .vector_size = sizeof (u32),
  .type = VLIB_NODE_TYPE_INTERNAL,
  .format_trace = format_kgtpu_frame_trace,
  .n_errors = FP_DROPS,
  .error_counters = khost_drop_errors,
  .sibling_of = "kgtpu4-input",
};
