/* SPDX-License-Identifier: Apache-2.0 */
/* Decapsulation in the graph. Outer packets come by one of three ways: from UDP port 2152, from the bypass feature right behind ip input, or from the
 * FIB entry of a local address. What the kernel does not take goes on as if the node were not there. */
#include <kgtpu/deliver.h>
#include <kgtpu/frames.h>
#include <kgtpu/kgtpu.h>
#include <kgtpu/plain.h>
#include <kgtpu/run.h>
#include <kgtpu/tally.h>
#include <kgtpu/trace.h>
#include <khost/khost_buffer.h>
#include <khost/khost_error.h>
#include <khost/khost_large.h>
#include <vnet/feature/feature.h>
#include <vnet/ip/icmp4.h>
#include <vnet/ip/icmp6.h>
#include <vnet/ip/ip4.h>
#include <vnet/ip/ip6.h>

#include <fastpath/fp_gtpu.h>

#define CHUNK 64 /* packets between conversion and verdict: their descriptors stay in the first cache */

/* The FIB that packets of a vector come by, mostly all by one, and its VRF. */
typedef struct
{
  u32 fib_index, vrf;
} outer_t;

static_always_inline u16
inner_next (frame_t *f, vlib_buffer_t *b, const fp_packet_t *p)
{
  const int six = p->l3[0] >> 4 == 6;
  u32 next = six ? KGTPU_NEXT_IP6_LOOKUP : KGTPU_NEXT_IP4_LOOKUP;

  if (!f->skip || PREDICT_FALSE (!input_would_pass (p->l3, six)))
    return six ? KGTPU_NEXT_IP6_INPUT : KGTPU_NEXT_IP4_INPUT;
  f->skipped[six]++;
  f->skipped_in_all++;
  vnet_buffer (b)->ip.adj_index[VLIB_RX] = ~0;
  if (PREDICT_FALSE (f->features[six]))
    {
      vnet_feature_arc_start (f->km->arc[six], f->sw_if_index, &next, b);
      next = next < vec_len (f->km->arc_next[six]) ? f->km->arc_next[six][next] : KGTPU_NEXT_DROP;
    }
  return (u16) next;
}

static_always_inline u16
deliver (frame_t *f, vlib_buffer_t *b, fp_packet_t *p)
{
  khost_buffer_from_packet (f->vm, b, p);
  if (PREDICT_FALSE (fp_gtpu_may_be_nested (p)) && fp_gtpu_is_ours (&f->w->fp, p))
    return kgtpu_own_drop (f->node, f->w, b, FP_DROP_GTPU_NESTED);
  if (PREDICT_FALSE (!to_vrf (f, p->vrf)))
    return kgtpu_own_drop (f->node, f->w, b, FP_DROP_UNRESOLVED);
  b->flags &= ~VNET_BUFFER_F_LOCALLY_ORIGINATED;
  vnet_buffer (b)->sw_if_index[VLIB_RX] = f->sw_if_index;
  vnet_buffer (b)->sw_if_index[VLIB_TX] = ~0;
  vnet_buffer (b)->ip.flow_hash = 0;
  f->packets++;
  f->bytes += p->length;
  f->tally.tx_packets++;
  f->tally.tx_bytes += p->length;
  return inner_next (f, b, p);
}

/* ---- the others ---- */

/* An answer goes back by the outer VRF. */
static u16
answer (frame_t *f, vlib_buffer_t *b, const fp_packet_t *p, u32 fib_index)
{
  khost_buffer_from_packet (f->vm, b, p);
  b->flags |= VNET_BUFFER_F_LOCALLY_ORIGINATED;
  vnet_buffer (b)->sw_if_index[VLIB_TX] = fib_index;
  return p->l3[0] >> 4 == 6 ? KGTPU_NEXT_IP6_LOOKUP : KGTPU_NEXT_IP4_LOOKUP;
}

/* ---- what is not for us ---- */

/* UDP to port 2152 of an address that is none of ours: to who had the port before, with the buffer as UDP gave it; else as if nobody listened. */
static u16
pass_udp (frame_t *f, vlib_buffer_t *b, u32 payload, int six)
{
  if (f->km->chain_next[six] != ~0)
    {
      vlib_buffer_advance (b, payload);
      return (u16) f->km->chain_next[six];
    }
  if (six)
    icmp6_error_set_vnet_buffer (b, ICMP6_destination_unreachable, ICMP6_destination_unreachable_port_unreachable, 0);
  else
    icmp4_error_set_vnet_buffer (b, ICMP4_destination_unreachable, ICMP4_destination_unreachable_port_unreachable, 0);
  return six ? KGTPU_NEXT_IP6_ICMP_ERROR : KGTPU_NEXT_IP4_ICMP_ERROR;
}

static_always_inline u16
pass_fib (frame_t *f, vlib_buffer_t *b)
{
  const u32 index = vnet_buffer (b)->ip.adj_index[VLIB_TX];
  const kgtpu_local_t *l;

  if (PREDICT_FALSE (index >= vec_len (f->km->locals) || !dpo_id_is_valid (&f->km->locals[index].parent)))
    return kgtpu_own_drop (f->node, f->w, b, FP_DROP_UNRESOLVED); /* held while the entry went away */
  l = &f->km->locals[index];
  vnet_buffer (b)->ip.adj_index[VLIB_TX] = l->parent.dpoi_index;
  return l->parent.dpoi_next_node;
}

static_always_inline u16
pass (frame_t *f, vlib_buffer_t *b, u32 payload, const int six, const enum from from)
{
  u16 next;

  if (from == FROM_UDP)
    return pass_udp (f, b, payload, six);
  if (from == FROM_FIB)
    return pass_fib (f, b);
  vnet_feature_next_u16 (&next, b);
  return next;
}

/* ---- what may be for us ---- */

/* A whole packet to UDP port 2152, nothing unusual about it. */
static_always_inline int
is_plain_gtpu (const vlib_buffer_t *b, const u8 *h, const int six)
{
  if (PREDICT_FALSE (b->flags & KHOST_NOT_PLAIN))
    return 0;
  if (six)
    return b->current_length >= 48 && h[6] == IP_PROTOCOL_UDP && fp_load16 (h + 42) == fp_net16 (FP_GTPU_PORT);
  return b->current_length >= 28 && h[0] == 0x45 && h[9] == IP_PROTOCOL_UDP &&
	 fp_load16 (h + 22) == fp_net16 (FP_GTPU_PORT) && !(fp_load16 (h + 6) & fp_net16 (0x3fff));
}

/* The next node if the packet is not for the kernel, KHOST_STAYS if it is. */
static_always_inline u16
sort_fib (frame_t *f, vlib_buffer_t *b, fp_packet_t *p, u32 vrf, u32 data_size, const int six)
{
  const u32 index = vnet_buffer (b)->ip.adj_index[VLIB_TX];
  const int plain = is_plain_gtpu (b, vlib_buffer_get_current (b), six);
  const u8 *h;

  if (PREDICT_FALSE (index >= vec_len (f->km->locals)))
    return kgtpu_own_drop (f->node, f->w, b, FP_DROP_UNRESOLVED);
  if (PREDICT_TRUE (plain && f->km->fib_bypass))
    {
      khost_packet_from_buffer (f->vm, b, p, vrf, data_size, FP_PACKET_IP_VALID);
      f->bypassed++;
      return KHOST_STAYS;
    }
  /* VPP's own address: its way, reassembly included. */
  if (f->km->locals[index].own)
    return pass_fib (f, b);
  /* The host's address: what is not GTP-U is the host's, and so are its fragments; only the kernel tells which are which. */
  khost_packet_from_buffer (f->vm, b, p, vrf, data_size, FP_PACKET_IP_VALID);
  if (!fp_gtpu_is_ours (&f->w->fp, p))
    {
      fp_gtpu_let_through (&f->w->fp, p);
      return pass_fib (f, b);
    }
  h = p->l3;
  if (six ? h[6] == IP_PROTOCOL_UDP : !(fp_load16 (h + 6) & fp_net16 (0x3fff)))
    {
      if (!f->km->fib_bypass && !(f->km->switches & FP_GTPU_BYPASS))
	return six ? KGTPU_NEXT_IP6_LOCAL : KGTPU_NEXT_IP4_LOCAL;
      f->bypassed++;
    }
  return KHOST_STAYS;
}

/* FIB of the interface that a packet came in by. */
static_always_inline u32
arrival_fib (const vlib_buffer_t *b, const int six)
{
  return vec_elt (six ? ip6_main.fib_index_by_sw_if_index : ip4_main.fib_index_by_sw_if_index,
		  vnet_buffer (b)->sw_if_index[VLIB_RX]);
}

static_always_inline u32
outer_vrf (outer_t *o, u32 fib_index, const int six)
{
  if (PREDICT_FALSE (fib_index != o->fib_index))
    {
      o->fib_index = fib_index;
      o->vrf = six ? khost_vrf6 (fib_index) : khost_vrf4 (fib_index);
    }
  return o->vrf;
}

static_always_inline u16
sort (frame_t *f, vlib_buffer_t *b, fp_packet_t *p, u32 *payload, u32 data_size, const int six, const enum from from)
{
  u32 fib_index, vrf;

  if (from == FROM_UDP)
    {
      const i16 l3 = b->flags & VNET_BUFFER_F_L3_HDR_OFFSET_VALID ? vnet_buffer (b)->l3_hdr_offset :
								     (i16) (b->current_data - (six ? 48 : 28));
      *payload = (u32) (b->current_data - l3);
      vlib_buffer_advance (b, -(word) *payload);
    }
  if (from == FROM_FEATURE)
    {
      if (PREDICT_TRUE (!is_plain_gtpu (b, vlib_buffer_get_current (b), six)))
	return pass (f, b, 0, six, from);
      fib_index = arrival_fib (b, six);
    }
  else
    fib_index = vnet_buffer (b)->ip.fib_index;
  vrf = six ? khost_vrf6 (fib_index) : khost_vrf4 (fib_index);
  if (from == FROM_FIB)
    return sort_fib (f, b, p, vrf, data_size, six);
  khost_packet_from_buffer (f->vm, b, p, vrf, data_size, FP_PACKET_IP_VALID);
  return KHOST_STAYS;
}

/* A packet that lies in memory of the thread until the kernel's next call: a datagram put together of fragments, or one of a chain that was gathered.
 * Into buffers, if it goes on; what was gathered and is not ours lies in its buffers as it was. 0: there are none. */
static __clib_noinline int
settle (frame_t *f, vlib_buffer_t *b, fp_packet_t *p, const fp_verdict_t *v)
{
  const int gathered = (uword) (p->l3 - f->w->large) < KHOST_LARGE * KHOST_LARGE_STRIDE;

  if ((v->action != FP_FORWARD && v->action != FP_REPLY) || (gathered && v->action == FP_FORWARD && v->way == FP_WAY_PASS))
    return 1;
  return khost_buffer_take (f->vm, b, p);
}

static_always_inline u16
carry_out (frame_t *f, vlib_buffer_t *b, u32 bi, fp_packet_t *p, const fp_verdict_t *v, u32 payload, u32 data_size, const int six,
	   const enum from from)
{
  if (PREDICT_FALSE (khost_is_elsewhere (b, p, data_size)) && !settle (f, b, p, v))
    return kgtpu_own_drop (f->node, f->w, b, FP_DROP_NO_ROOM);
  if (PREDICT_TRUE (v->action == FP_FORWARD && v->way == FP_WAY_GTPU))
    return deliver (f, b, p);
  switch (v->action)
    {
    case FP_FORWARD:
      if (v->way == FP_WAY_ETHERNET)
	return kgtpu_frame_out (f->vm, f->node, f->w, b, p, &f->tally);
      f->bypassed -= from != FROM_UDP;
      if (from == FROM_FIB)
	fp_gtpu_let_through (&f->w->fp, p);
      return pass (f, b, payload, six, from);
    case FP_REPLY:
      return answer (f, b, p, from == FROM_FEATURE ? arrival_fib (b, six) : vnet_buffer (b)->ip.fib_index);
    case FP_HOLD:
      khost_keep (f->w);
      f->kept++;
      return KHOST_STAYS;
    case FP_CONSUMED:
      vlib_buffer_free_one (f->vm, bi);
      f->kept++;
      return KHOST_STAYS;
    case FP_DROP:
      return kgtpu_dropped (f->node, b, v->reason);
    default:
      return kgtpu_own_drop (f->node, f->w, b, FP_DROP_UNSUPPORTED);
    }
}

/* 1: to GTP-U's port, if it is UDP or TCP and has neither options nor extension headers. */
static_always_inline u32
has_port (vlib_buffer_t *b, const int six)
{
  return fp_load16 ((const u8 *) vlib_buffer_get_current (b) + (six ? 42 : 22)) == fp_net16 (FP_GTPU_PORT);
}

/* The packets of a frame as far as none goes to GTP-U's port, and all have the same features before them: these go on, as most frames of an interface do
 * as a whole. Returns how many; *next: where to. */
static_always_inline u32
pass_others (vlib_buffer_t **bufs, u32 n, const int six, u16 *next)
{
  const u32 index = bufs[0]->current_config_index, after = index + 1;
  u32 i = 0;

  *next = (u16) feature_main.shared_feature_config_heap[index];
  for (; i + 4 <= n; i += 4)
    {
      vlib_buffer_t **b = bufs + i;
      const u32 others = (b[0]->current_config_index ^ index) | (b[1]->current_config_index ^ index) |
			 (b[2]->current_config_index ^ index) | (b[3]->current_config_index ^ index);
      const u32 ours = has_port (b[0], six) | has_port (b[1], six) | has_port (b[2], six) | has_port (b[3], six);

      if (PREDICT_FALSE (others | ours))
	return i;
      b[0]->current_config_index = after;
      b[1]->current_config_index = after;
      b[2]->current_config_index = after;
      b[3]->current_config_index = after;
    }
  for (; i < n && bufs[i]->current_config_index == index && !has_port (bufs[i], six); i++)
    bufs[i]->current_config_index = after;
  return i;
}

/* The packets from bufs[0] on, which came by a FIB of that VRF, as far as they are of the run. Not inlined: it must not cost the others registers. */
#define RUN_FROM(name, from)                                                                                           \
  static __clib_noinline u32 name (frame_t *f, run_t *r, vlib_buffer_t **bufs, u16 *nexts, u32 n, u32 vrf)              \
  {                                                                                                                     \
    if (r->run.vrf != vrf || !to_vrf (f, r->run.inner_vrf))                                                             \
      return 0;                                                                                                         \
    r->came_by = run_came_by (bufs[0], from);                                                                           \
    return r->run.loop == 4 ? run_through (f, r, bufs, nexts, n, from, 4) :                                             \
	   r->run.loop == 2 ? run_through (f, r, bufs, nexts, n, from, 2) :                                              \
			      run_through (f, r, bufs, nexts, n, from, 1);                                               \
  }

RUN_FROM (run_from_udp, FROM_UDP)
RUN_FROM (run_from_feature, FROM_FEATURE)
RUN_FROM (run_from_fib, FROM_FIB)

/* Whether the packet in b is probably one of a run: of *r, which is then open. */
static_always_inline int
run_is_here (frame_t *f, run_t *r, vlib_buffer_t *b, const enum from from)
{
  const u32 teid = run_glance (b, from);

  if (r->open && teid == r->run.teid)
    return 1;
  return PREDICT_FALSE (fp_gtpu_run_begins (&f->w->fp, teid)) && run_open (f, r);
}

/* Buffers of a frame from `first` on; where those before it go is in `nexts`. */
static_always_inline void
decap_from (vlib_main_t *vm, vlib_node_runtime_t *node, u32 *bis, vlib_buffer_t **bufs, u16 *nexts, u32 first, u32 n, const int six,
	    const enum from from)
{
  const u32 data_size = vlib_buffer_get_default_data_size (vm);
  frame_t f = { .vm = vm, .node = node, .km = &kgtpu_main, .w = khost_worker (vm->thread_index), .vrf = ~0 };

  outer_t outer = { .fib_index = ~0, .vrf = KHOST_NO_VRF };
  const int bypass = from == FROM_FEATURE || (from == FROM_FIB && f.km->fib_bypass);
  const int runs = !six && (from == FROM_UDP || bypass) && !(node->flags & VLIB_NODE_FLAG_TRACE);
  run_t run;

  run.open = run.packets = 0;
  run.bytes = 0;

  f.skip = (fp_config (f.w->fp.region)->gtpu_switches & FP_GTPU_SKIP_INNER_IP_INPUT) != 0;
  for (u32 at = first, to; at < n; at = to)
    {
      fp_packet_t packets[CHUNK];
      fp_verdict_t verdicts[CHUNK];
      u32 payloads[CHUNK];
      u16 index[CHUNK];
      kgtpu_trace_t traces[CHUNK];
      deliveries_t d = {};
      u32 taken = 0;
      way_t way;
      u64 start;

      to = clib_min (at + CHUNK, n);
      if (runs && run_is_here (&f, &run, bufs[at], from))
	{
	  const u32 fib_index = from == FROM_FEATURE ? arrival_fib (bufs[at], 0) : vnet_buffer (bufs[at])->ip.fib_index;
	  const u32 vrf = outer_vrf (&outer, fib_index, 0);
	  const u64 begun = kgtpu_tally_start (at - first);
	  const u32 went = from == FROM_UDP ? run_from_udp (&f, &run, bufs + at, nexts + at, n - at, vrf) :
			   from == FROM_FIB ? run_from_fib (&f, &run, bufs + at, nexts + at, n - at, vrf) :
					      run_from_feature (&f, &run, bufs + at, nexts + at, n - at, vrf);

	  if (went)
	    {
	      kgtpu_tally_ran (&f.tally, begun, went);
	      at += went;
	      if (at == n)
		break;
	      to = clib_min (at + CHUNK, n);
	      /* one of another kind between them */
	      if (went >= LONG_RUN && at + FP_GTPU_RUN_WIDTH < n && run_glance (bufs[at + FP_GTPU_RUN_WIDTH], from) == run.run.teid)
		to = at + FP_GTPU_RUN_WIDTH;
	    }
	}
      f.large = 0;
      for (u32 i = at; i < to; i++)
	{
	  vlib_buffer_t *b = bufs[i];
	  const u64 cookie = khost_cookie (bis[i], node->node_index);

	  vlib_prefetch_buffer_header (bufs[i + KGTPU_AHEAD], LOAD);
	  clib_prefetch_load (vlib_buffer_get_current (bufs[i + KGTPU_AHEAD / 2]));
	  index[taken] = (u16) i;
	  if (PREDICT_TRUE (bypass && is_plain_gtpu (b, vlib_buffer_get_current (b), six)))
	    {
	      const u32 vrf = outer_vrf (&outer, from == FROM_FEATURE ? arrival_fib (b, six) : vnet_buffer (b)->ip.fib_index, six);

	      kgtpu_plain_packet (b, &packets[taken++], vrf, 0, 0, data_size, FP_PACKET_IP_VALID, cookie);
	      nexts[i] = KHOST_STAYS;
	      f.bypassed++;
	      continue;
	    }
	  nexts[i] = sort (&f, b, &packets[taken], &payloads[taken], data_size, six, from);
	  packets[taken].cookie = cookie;
	  if (PREDICT_FALSE (b->flags & VLIB_BUFFER_NEXT_PRESENT && nexts[i] == KHOST_STAYS))
	    {
	      f.large += khost_packet_gather (vm, f.w, f.large, b, &packets[taken]);
	      if (f.large == KHOST_LARGE)
		to = i + 1; /* the places are taken: the others in the next round */
	    }
	  taken += nexts[i] == KHOST_STAYS;
	}
      if (taken == 0)
	continue;
      if (PREDICT_FALSE (node->flags & VLIB_NODE_FLAG_TRACE))
	for (u32 i = 0; i < taken; i++)
	  kgtpu_trace_header (&traces[i], &packets[i]);
      kgtpu_tally_in (&f.tally, packets, taken);
      start = kgtpu_tally_start (at - first);
      fp_gtpu_decap_vector (&f.w->fp, packets, verdicts, taken);
      kgtpu_tally_ran (&f.tally, start, taken);
      way = way_of (&f, data_size);
      for (u32 i = 0; i < taken; i++)
	{
	  vlib_buffer_t *b = bufs[index[i]];
	  u32 skipped;
	  int traced;

	  if (PREDICT_TRUE (verdicts[i].action == FP_FORWARD && verdicts[i].way == FP_WAY_GTPU &&
			    !(node->flags & VLIB_NODE_FLAG_TRACE)) &&
	      PREDICT_TRUE ((nexts[index[i]] = deliver_usual (&way, b, &packets[i], &d)) != KHOST_STAYS))
	    continue;
	  delivered (&f, &d);
	  skipped = f.skipped_in_all;
	  traced = PREDICT_FALSE (node->flags & VLIB_NODE_FLAG_TRACE) && b->flags & VLIB_BUFFER_IS_TRACED;
	  if (traced)
	    {
	      traces[i].verdict = verdicts[i];
	      traces[i].vrf = packets[i].vrf;
	      traces[i].vlan = packets[i].vlan;
	    }
	  nexts[index[i]] = carry_out (&f, b, bis[index[i]], &packets[i], &verdicts[i], payloads[i], data_size, six, from);
	  if (traced && nexts[index[i]] != KHOST_STAYS)
	    {
	      kgtpu_trace_t *t = vlib_add_trace (vm, node, b, sizeof (*t));
	      *t = traces[i];
	      t->next = nexts[index[i]];
	      t->skipped = f.skipped_in_all != skipped;
	    }
	  way = way_of (&f, data_size);
	}
      delivered (&f, &d);
    }
  run_count (&f, &run);
  count_interface (&f);
  kgtpu_tally_count (&f.w->fp, FP_PATH_GTPU_DECAP, &f.tally);
  if (f.skipped_in_all)
    fp_count (&f.w->fp, FP_C_GTPU_INNER_INPUT_SKIPPED, f.skipped_in_all);
  if (f.bypassed)
    fp_count (&f.w->fp, FP_C_GTPU_BYPASSED, f.bypassed);
  khost_enqueue (vm, node, bis, nexts, n, f.kept);
}

static_always_inline uword
decap (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame, const int six, const enum from from)
{
  u32 *bis = vlib_frame_vector_args (frame), n = frame->n_vectors, first = 0;
  vlib_buffer_t *bufs[VLIB_FRAME_SIZE + KGTPU_AHEAD];
  u16 nexts[VLIB_FRAME_SIZE], next;

  kgtpu_get_buffers (vm, bis, bufs, n);
  if (from == FROM_FEATURE)
    {
      first = pass_others (bufs, n, six, &next);
      if (PREDICT_TRUE (first == n))
	{
	  vlib_buffer_enqueue_to_single_next (vm, node, bis, next, n);
	  return n;
	}
      clib_memset_u16 (nexts, next, first);
    }
  decap_from (vm, node, bis, bufs, nexts, first, n, six, from);
  return n;
}

#define DECAP_NODE(name, six, from)                                                                                    \
  VLIB_NODE_FN (name) (vlib_main_t * vm, vlib_node_runtime_t * node, vlib_frame_t * frame)                              \
  {                                                                                                                     \
    return decap (vm, node, frame, six, from);                                                                         \
  }

DECAP_NODE (kgtpu4_input_node, 0, FROM_UDP)
DECAP_NODE (kgtpu6_input_node, 1, FROM_UDP)
DECAP_NODE (kgtpu4_bypass_node, 0, FROM_FEATURE)
DECAP_NODE (kgtpu6_bypass_node, 1, FROM_FEATURE)
DECAP_NODE (kgtpu4_local_node, 0, FROM_FIB)
DECAP_NODE (kgtpu6_local_node, 1, FROM_FIB)

VLIB_REGISTER_NODE (kgtpu4_input_node) = {
  .name = "kgtpu4-input",
  .vector_size = sizeof (u32),
  .type = VLIB_NODE_TYPE_INTERNAL,
  .format_trace = format_kgtpu_decap_trace,
  .n_errors = FP_DROPS,
  .error_counters = khost_drop_errors,
  .n_next_nodes = KGTPU_N_NEXT,
  .next_nodes = {
#define _(n, s) [KGTPU_NEXT_##n] = s,
    KGTPU_FOREACH_NEXT (_)
#undef _
  },
};

#define SIBLING(node, node_name)                                                                                       \
  VLIB_REGISTER_NODE (node) = {                                                                                         \
    .name = node_name,                                                                                                  \
    .vector_size = sizeof (u32),                                                                                        \
    .type = VLIB_NODE_TYPE_INTERNAL,                                                                                    \
    .format_trace = format_kgtpu_decap_trace,                                                                           \
    .n_errors = FP_DROPS,                                                                                               \
    .error_counters = khost_drop_errors,                                                                                \
    .sibling_of = "kgtpu4-input",                                                                                       \
  };

SIBLING (kgtpu6_input_node, "kgtpu6-input")
SIBLING (kgtpu4_bypass_node, "kgtpu4-bypass")
SIBLING (kgtpu6_bypass_node, "kgtpu6-bypass")
SIBLING (kgtpu4_local_node, "kgtpu4-local")
SIBLING (kgtpu6_local_node, "kgtpu6-local")
