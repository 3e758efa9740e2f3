/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of klb. A whole frame goes through the kernel at once; nothing here looks into a packet but the filter. */
#include <klb/klb.h>
#include <klb/klb_trace.h>

#include <khost/khost_buffer.h>

#include <vnet/feature/feature.h>
#include <vnet/ip/ip.h>

#include <fastpath/fp_service.h>

STATIC_ASSERT (VLIB_FRAME_SIZE <= FP_VECTOR_MAX, "a frame is one vector");

typedef enum
{
  KLB_NEXT_DROP,
  KLB_NEXT_LOOKUP,
  KLB_N_NEXT,
} klb_next_t;

typedef enum
{
  KLB_VIP,
  KLB_FEATURE,
  KLB_HELD,
  KLB_RELATED,
} klb_node_kind_t;

/* By interface, and by FIB. */
typedef struct
{
  const u32 *fibs, *vrfs;
} klb_vrfs_t;

/* What the kernel was shown of a packet. */
typedef struct
{
  u8 *l3;
  u32 length, vrf;
} klb_seen_t;

/* One call of a node. */
typedef struct
{
  vlib_main_t *vm;
  vlib_node_runtime_t *node;
  khost_worker_t *w;
  u32 *from;
  klb_vrfs_t vrfs;
  u64 bytes;
  u64 interfaces; /* of the last packet, and its VRF */
  u32 vrf;
  u32 n_from;
  u32 n_kept;
  u32 n_lost;	  /* of the kernel's packets: do not go on */
  u64 bytes_lost;
  u32 held_node;
  u32 data_size;
  u8 kind; /* klb_node_kind_t */
  u8 v6;
  u8 traced;
  fp_packet_t taken;
  u16 which[VLIB_FRAME_SIZE + KLB_EIGHT]; /* positions in the frame of the packets that the kernel sees */
  klb_seen_t seen[VLIB_FRAME_SIZE];	  /* of these */
  vlib_buffer_t *b[VLIB_FRAME_SIZE];
  u16 next[VLIB_FRAME_SIZE];
  klb_trace_t *trace[VLIB_FRAME_SIZE]; /* set only if the node is traced */
} klb_call_t;

/* ---- traces ---- */

static __clib_noinline __clib_unused void
klb_trace_before (klb_call_t *c, u32 (*vrf_of) (const vlib_buffer_t *))
{
  for (u32 i = 0; i < c->n_from; i++)
    {
      vlib_buffer_t *b = c->b[i];
      c->trace[i] = 0;
      if (!(b->flags & VLIB_BUFFER_IS_TRACED))
	continue;
      c->trace[i] = vlib_add_trace (c->vm, c->node, b, sizeof (klb_trace_t));
      clib_memset (c->trace[i], 0, sizeof (klb_trace_t));
      c->trace[i]->n_before = klb_trace_copy (c->trace[i]->before, vlib_buffer_get_current (b), b->current_length);
      c->trace[i]->filtered = 1;
      c->trace[i]->vrf = vrf_of (b);
    }
}

static __clib_noinline __clib_unused void
klb_trace_after (klb_call_t *c, u32 at, const u8 *l3, u32 contiguous, const fp_verdict_t *verdict)
{
  klb_trace_t *t = c->trace[at];

  if (!t)
    return;
  t->filtered = 0;
  t->verdict = *verdict;
  t->n_after = klb_trace_copy (t->after, l3, contiguous);
}

/* ---- the kernel, for a frame ---- */

always_inline klb_vrfs_t
klb_vrfs (int v6)
{
  return (klb_vrfs_t){ v6 ? ip6_main.fib_index_by_sw_if_index : ip4_main.fib_index_by_sw_if_index,
		       v6 ? khost->vrf_by_fib6 : khost->vrf_by_fib4 };
}

always_inline u32
klb_feature_fib (klb_vrfs_t v, const vlib_buffer_t *b)
{
  const u32 tx = vnet_buffer (b)->sw_if_index[VLIB_TX];

  return tx == ~0u ? v.fibs[vnet_buffer (b)->sw_if_index[VLIB_RX]] : tx;
}

always_inline u32
klb_vrf (klb_vrfs_t v, const vlib_buffer_t *b, klb_node_kind_t kind)
{
  const u32 fib = kind == KLB_FEATURE || kind == KLB_RELATED ? klb_feature_fib (v, b) : vnet_buffer (b)->ip.fib_index;

  return PREDICT_TRUE (fib < KHOST_MAX_FIBS) ? v.vrfs[fib] : KHOST_NO_VRF;
}

static u32
klb_vrf_feature4 (const vlib_buffer_t *b)
{
  return klb_vrf (klb_vrfs (0), b, KLB_FEATURE);
}

static u32
klb_vrf_feature6 (const vlib_buffer_t *b)
{
  return klb_vrf (klb_vrfs (1), b, KLB_FEATURE);
}

static u32
klb_vrf_other4 (const vlib_buffer_t *b)
{
  return klb_vrf (klb_vrfs (0), b, KLB_VIP);
}

static u32
klb_vrf_other6 (const vlib_buffer_t *b)
{
  return klb_vrf (klb_vrfs (1), b, KLB_VIP);
}

always_inline u32
klb_vrf_of (klb_call_t *c, const vlib_buffer_t *b, klb_node_kind_t kind)
{
  u64 interfaces;

  if (kind != KLB_FEATURE)
    return klb_vrf (c->vrfs, b, kind);
  clib_memcpy (&interfaces, vnet_buffer (b)->sw_if_index, sizeof (interfaces));
  if (PREDICT_FALSE (interfaces != c->interfaces))
    {
      c->vrf = klb_vrf (c->vrfs, b, KLB_FEATURE);
      c->interfaces = interfaces;
    }
  return c->vrf;
}

/* TTL and hop limit count once. IPv4: the kernel does it, and ip4-rewrite leaves what has its mark alone. IPv6: ip6-rewrite would cut what has the mark
 * into fragments where it is too big, so it counts; but a packet whose hop limit has run out is the kernel's to answer. */
always_inline u8
klb_packet_flags (const u8 *h, int v6)
{
  return FP_PACKET_IP_VALID | (v6 && h[7] > 1 ? FP_PACKET_KEEP_TTL : 0);
}

always_inline void
klb_mark_forwarded (vlib_buffer_t *b, int v6)
{
  if (!v6)
    b->flags |= VNET_BUFFER_F_LOCALLY_ORIGINATED;
}

always_inline const fp_packet_t *
klb_see (void *context, u32 i, fp_packet_t *room, klb_node_kind_t kind, int v6)
{
  klb_call_t *c = context;
  vlib_buffer_t *b = c->b[c->which[i]];
  const klb_seen_t seen = { vlib_buffer_get_current (b), b->current_length, klb_vrf_of (c, b, kind) };

  c->seen[i] = seen;
  *room = (fp_packet_t){
    .l3 = seen.l3,
    .contiguous = b->flags & KHOST_NOT_PLAIN ? 0 : seen.length,
    .length = seen.length,
    .vrf = seen.vrf,
    .flags = klb_packet_flags (seen.l3, v6),
  };
  return room;
}

always_inline const fp_packet_t *
klb_recall (void *context, u32 i, fp_packet_t *room, int v6)
{
  const klb_seen_t *seen = &((const klb_call_t *) context)->seen[i];

  *room = (fp_packet_t){
    .l3 = seen->l3,
    .contiguous = seen->length,
    .length = seen->length,
    .vrf = seen->vrf,
    .flags = klb_packet_flags (seen->l3, v6),
  };
  return room;
}

always_inline const fp_packet_t *
klb_recall4 (void *context, u32 i, fp_packet_t *room)
{
  return klb_recall (context, i, room, 0);
}

always_inline const fp_packet_t *
klb_recall6 (void *context, u32 i, fp_packet_t *room)
{
  return klb_recall (context, i, room, 1);
}

always_inline const fp_packet_t *
klb_see_feature4 (void *context, u32 i, fp_packet_t *room)
{
  return klb_see (context, i, room, KLB_FEATURE, 0);
}

always_inline const fp_packet_t *
klb_see_feature6 (void *context, u32 i, fp_packet_t *room)
{
  return klb_see (context, i, room, KLB_FEATURE, 1);
}

always_inline const fp_packet_t *
klb_see_other4 (void *context, u32 i, fp_packet_t *room)
{
  return klb_see (context, i, room, KLB_VIP, 0);
}

always_inline const fp_packet_t *
klb_see_other6 (void *context, u32 i, fp_packet_t *room)
{
  return klb_see (context, i, room, KLB_VIP, 1);
}

always_inline void
klb_prefetch (void *context, u32 i)
{
  const klb_call_t *c = context;

  FP_PREFETCH (vlib_buffer_get_current (c->b[c->which[i]]));
}

always_inline void
klb_hit (void *context, u32 i, u32 reverse, int v6)
{
  klb_call_t *c = context;
  const u32 at = c->which[i];
  vlib_buffer_t *b = c->b[at];

  klb_mark_forwarded (b, v6);
  c->next[at] = KLB_NEXT_LOOKUP;
  if (PREDICT_FALSE (c->traced))
    {
      const fp_verdict_t v = { FP_FORWARD, FP_DROP_NONE, (u8) (FP_WAY_FORWARD + reverse) };
      klb_trace_after (c, at, vlib_buffer_get_current (b), b->current_length, &v);
    }
}

always_inline void
klb_hit4 (void *context, u32 i, u32 reverse)
{
  klb_hit (context, i, reverse, 0);
}

always_inline void
klb_hit6 (void *context, u32 i, u32 reverse)
{
  klb_hit (context, i, reverse, 1);
}

static __clib_noinline __clib_unused fp_packet_t *
klb_take (void *context, u32 i)
{
  klb_call_t *c = context;
  const u32 at = c->which[i];
  vlib_buffer_t *b = c->b[at];

  khost_packet_from_buffer (c->vm, b, &c->taken, klb_vrf (c->vrfs, b, c->kind), c->data_size,
			    klb_packet_flags (vlib_buffer_get_current (b), c->v6) | (c->kind == KLB_RELATED ? FP_PACKET_KEEP_TTL : 0));
  c->taken.cookie = khost_cookie (c->from[at], c->held_node);
  c->bytes += c->taken.length;
  return &c->taken;
}

static __clib_noinline __clib_unused void
klb_settle (void *context, u32 i, fp_packet_t *p, const fp_verdict_t *v)
{
  klb_call_t *c = context;
  const u32 at = c->which[i], length = p->length;
  vlib_buffer_t *b = c->b[at];

  if (PREDICT_FALSE (c->traced))
    klb_trace_after (c, at, p->l3, p->contiguous, v);
  if (v->action == FP_FORWARD && v->way != FP_WAY_PASS)
    {
      klb_mark_forwarded (b, c->v6);
      c->next[at] = KLB_NEXT_LOOKUP;
      return;
    }
  switch (v->action)
    {
    case FP_FORWARD:
      if (c->kind == KLB_VIP)
	{
	  const dpo_id_t *parent = &pool_elt_at_index (klb_main.dpos, vnet_buffer (b)->ip.adj_index[VLIB_TX])->parent;
	  c->next[at] = parent->dpoi_next_node;
	  vnet_buffer (b)->ip.adj_index[VLIB_TX] = parent->dpoi_index;
	}
      else if (c->kind != KLB_FEATURE)
	c->next[at] = KLB_NEXT_LOOKUP;
      return; /* KLB_FEATURE: the next feature, as it stands there */
    case FP_REPLY:
      khost_buffer_from_packet (c->vm, b, p);
      b->flags |= VNET_BUFFER_F_LOCALLY_ORIGINATED;
      c->next[at] = KLB_NEXT_LOOKUP;
      return;
    case FP_HOLD:
      if (c->kind == KLB_FEATURE)
	vnet_buffer (b)->ip.fib_index = klb_feature_fib (c->vrfs, b);
      khost_keep (c->w);
      c->next[at] = KHOST_STAYS;
      c->n_kept++;
      break;
    default:
      b->error = c->node->errors[v->reason < FP_DROPS ? v->reason : FP_DROP_NONE];
      c->next[at] = KLB_NEXT_DROP;
    }
  c->n_lost++;
  c->bytes_lost += length;
}

/* n packets of the frame: those of `which`. */
always_inline void
klb_serve (klb_call_t *c, u32 n, klb_node_kind_t kind, int v6)
{
  const fp_vector_t packets = {
    .context = c,
    .see = kind == KLB_FEATURE ? (v6 ? klb_see_feature6 : klb_see_feature4) : (v6 ? klb_see_other6 : klb_see_other4),
    .recall = v6 ? klb_recall6 : klb_recall4,
    .prefetch = klb_prefetch,
    .hit = v6 ? klb_hit6 : klb_hit4,
    .take = klb_take,
    .settle = klb_settle,
    .family = v6 ? 6 : 4,
  };
  fp_path_counters_t *path = &c->w->fp.counters->path[FP_PATH_SERVICE];
  u64 clocks = clib_cpu_time_now ();

  c->bytes += fp_service_stages (&c->w->fp, &packets, n);
  clocks = clib_cpu_time_now () - clocks;

  fp_counter_add (&path->rx_packets, n);
  fp_counter_add (&path->rx_bytes, c->bytes);
  fp_counter_add (&path->tx_packets, n - c->n_lost);
  fp_counter_add (&path->tx_bytes, c->bytes - c->bytes_lost);
  fp_counter_add (&path->clocks, clocks);
  fp_counter_add (&path->clock_packets, n);
}

always_inline void
klb_open (klb_call_t *c, vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame, klb_node_kind_t kind, int v6,
	  u32 held_node)
{
  c->vm = vm;
  c->node = node;
  c->w = khost_worker (vm->thread_index);
  c->from = vlib_frame_vector_args (frame);
  c->vrfs = klb_vrfs (v6);
  c->bytes = c->bytes_lost = 0;
  c->interfaces = ~0ull; /* of no packet: both are known or the second is */
  c->n_from = frame->n_vectors;
  c->n_kept = c->n_lost = 0;
  c->held_node = held_node;
  c->data_size = vlib_buffer_get_default_data_size (vm);
  c->kind = kind;
  c->v6 = v6;
  c->traced = (node->flags & VLIB_NODE_FLAG_TRACE) != 0;
  vlib_get_buffers (vm, c->from, c->b, c->n_from);
}

/* ---- nodes ---- */

always_inline uword
klb_serve_all (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame, klb_node_kind_t kind, int v6, u32 held_node)
{
  klb_call_t c;

  klb_open (&c, vm, node, frame, kind, v6, held_node);
  if (PREDICT_FALSE (c.traced))
    klb_trace_before (&c, kind == KLB_RELATED ? (v6 ? klb_vrf_feature6 : klb_vrf_feature4) :
						(v6 ? klb_vrf_other6 : klb_vrf_other4));
  for (u32 i = 0; i < c.n_from; i++)
    c.which[i] = (u16) i;
  klb_serve (&c, c.n_from, KLB_VIP, v6);
  khost_enqueue (vm, node, c.from, c.next, c.n_from, c.n_kept);
  return frame->n_vectors;
}

/* One for the nodes of a family. */
static __clib_noinline __clib_unused uword
klb_serve_all4 (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame, klb_node_kind_t kind, u32 held_node)
{
  return klb_serve_all (vm, node, frame, kind, 0, held_node);
}

static __clib_noinline __clib_unused uword
klb_serve_all6 (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame, klb_node_kind_t kind, u32 held_node)
{
  return klb_serve_all (vm, node, frame, kind, 1, held_node);
}

/* Eight packets that have the same features before them: these come next, for all of them. 0: they have not, and nothing has been done. */
always_inline u32
klb_features_same (vlib_buffer_t **b, u32 index)
{
  u32 others = 0;

  for (u32 i = 0; i < KLB_EIGHT; i++)
    others |= b[i]->current_config_index ^ index;
  if (PREDICT_FALSE (others))
    return 0;
  for (u32 i = 0; i < KLB_EIGHT; i++)
    b[i]->current_config_index = index + 1;
  return 1;
}

/* Puts into c->which what the kernel is to see; returns how many. *same = 1: all packets go to the feature that is next, *next; 0: c->next says where each
 * goes. */
always_inline u32
klb_sort (klb_call_t *c, int v6, u16 *next, u32 *same)
{
  const klb_filter_view_t filter = klb_filter_view (__atomic_load_n (&klb_main.filter, __ATOMIC_ACQUIRE), &klb_main.ranges, v6);
  const u32 index = c->b[0]->current_config_index;
  u32 n_taken = 0, i = 0;

  *next = (u16) feature_main.shared_feature_config_heap[index];
  *same = 1;
  for (; i + KLB_EIGHT <= c->n_from; i += KLB_EIGHT)
    {
      const u8 *h[KLB_EIGHT];
      u32 matches;

      for (u32 k = 0; k < KLB_EIGHT; k++)
	h[k] = vlib_buffer_get_current (c->b[i + k]);
      if (PREDICT_FALSE (!klb_features_same (c->b + i, index)))
	break;
      matches = v6 ? klb_filter_eight6 (&filter, h) : klb_filter_eight4 (&filter, h);
      if (PREDICT_TRUE (matches == 0))
	continue;
      for (u32 k = 0; k < KLB_EIGHT; k++)
	{
	  c->which[n_taken] = (u16) (i + k);
	  n_taken += matches >> k & 1;
	}
    }
  if (PREDICT_TRUE (i == c->n_from))
    return n_taken;
  clib_memset_u16 (c->next, *next, i);
  *same = 0;
  for (; i < c->n_from; i++)
    {
      const u8 *h = vlib_buffer_get_current (c->b[i]);

      vnet_feature_next_u16 (&c->next[i], c->b[i]);
      c->which[n_taken] = (u16) i;
      n_taken += v6 ? klb_filter_match6 (&filter, h) : klb_filter_match4 (&filter, h);
    }
  return n_taken;
}

always_inline uword
klb_feature (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame, int v6, u32 held_node)
{
  u32 n_taken, n, same;
  u16 next;
  klb_call_t c;

  klb_open (&c, vm, node, frame, KLB_FEATURE, v6, held_node);
  n = c.n_from;
  if (PREDICT_FALSE (c.traced))
    klb_trace_before (&c, v6 ? klb_vrf_feature6 : klb_vrf_feature4);
  n_taken = klb_sort (&c, v6, &next, &same);
  if (n_taken < n)
    {
      fp_count (&c.w->fp, FP_C_PACKETS, n - n_taken);
      fp_count (&c.w->fp, FP_C_PASSED, n - n_taken);
    }
  if (n_taken == 0 && same)
    {
      vlib_buffer_enqueue_to_single_next (vm, node, c.from, next, n);
      return n;
    }
  if (same)
    clib_memset_u16 (c.next, next, n);
  if (n_taken)
    klb_serve (&c, n_taken, KLB_FEATURE, v6);
  khost_enqueue (vm, node, c.from, c.next, c.n_from, c.n_kept);
  return n;
}

extern vlib_node_registration_t klb4_held_node, klb6_held_node;

VLIB_NODE_FN (klb4_vip_node) (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return klb_serve_all4 (vm, node, frame, KLB_VIP, klb4_held_node.index);
}

VLIB_NODE_FN (klb6_vip_node) (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return klb_serve_all6 (vm, node, frame, KLB_VIP, klb6_held_node.index);
}

VLIB_NODE_FN (klb4_held_node) (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return klb_serve_all4 (vm, node, frame, KLB_HELD, node->node_index);
}

VLIB_NODE_FN (klb6_held_node) (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return klb_serve_all6 (vm, node, frame, KLB_HELD, node->node_index);
}

VLIB_NODE_FN (klb4_related_node) (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return klb_serve_all4 (vm, node, frame, KLB_RELATED, klb4_held_node.index);
}

VLIB_NODE_FN (klb6_related_node) (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return klb_serve_all6 (vm, node, frame, KLB_RELATED, klb6_held_node.index);
}

VLIB_NODE_FN (klb4_feature_node) (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return klb_feature (vm, node, frame, 0, klb4_held_node.index);
}

VLIB_NODE_FN (klb6_feature_node) (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return klb_feature (vm, node, frame, 1, klb6_held_node.index);
}

#ifndef CLIB_MARCH_VARIANT
#include <khost/khost_error.h>

#define KLB_NODE(id, text, lookup)                                                                                       \
  VLIB_REGISTER_NODE (id) = {                                                                                            \
    .name = text,                                                                                                        \
    .vector_size = sizeof (u32),                                                                                         \
    .format_trace = format_klb_trace,                                                                                    \
    .type = VLIB_NODE_TYPE_INTERNAL,                                                                                     \
    .n_errors = FP_DROPS,                                                                                                \
    .error_counters = khost_drop_errors,                                                                                 \
    .n_next_nodes = KLB_N_NEXT,                                                                                          \
    .next_nodes = { [KLB_NEXT_DROP] = "error-drop", [KLB_NEXT_LOOKUP] = lookup },                                        \
  }

KLB_NODE (klb4_vip_node, "klb4-vip", "ip4-lookup");
KLB_NODE (klb6_vip_node, "klb6-vip", "ip6-lookup");
KLB_NODE (klb4_held_node, "klb4-held", "ip4-lookup");
KLB_NODE (klb6_held_node, "klb6-held", "ip6-lookup");
KLB_NODE (klb4_related_node, "klb4-related", "ip4-lookup");
KLB_NODE (klb6_related_node, "klb6-related", "ip6-lookup");
KLB_NODE (klb4_feature_node, "klb4-feature", "ip4-lookup");
KLB_NODE (klb6_feature_node, "klb6-feature", "ip6-lookup");
#endif /* CLIB_MARCH_VARIANT */
