/* SPDX-License-Identifier: Apache-2.0 */
/* ICMP errors about packets out of tunnels that VPP's forwarding cannot send on: too big for the way out, TTL run out. VPP takes their source from an
 * address of the interface that a packet came in by, and the receive interfaces have none: the kernels' configured source is used, as where
 * the kernels find the error. Nodes stand before ip4-icmp-error and ip6-icmp-error, in the arcs of the rewrite nodes only. */
#include <kgtpu/answer.h>
#include <kgtpu/kgtpu.h>
#include <khost/khost_error.h>
#include <vnet/ip/icmp4.h>
#include <vnet/ip/icmp6.h>
#include <vnet/ip/ip4.h>
#include <vnet/ip/ip6.h>

#include <fastpath/fp_gtpu_header.h>
#include <fastpath/fp_icmp.h>

/* The error, or -1: not one that the kernels make. */
static int
error_of (const vlib_buffer_t *b, int six)
{
  const u8 type = vnet_buffer (b)->ip.icmp.type, code = vnet_buffer (b)->ip.icmp.code;

  if (six)
    return type == ICMP6_packet_too_big ? FP_ICMP_TOO_BIG : type == ICMP6_time_exceeded && code == 0 ? FP_ICMP_TIME_EXCEEDED : -1;
  if (type == ICMP4_time_exceeded && code == ICMP4_time_exceeded_ttl_exceeded_in_transit)
    return FP_ICMP_TIME_EXCEEDED;
  return type == ICMP4_destination_unreachable &&
	     code == ICMP4_destination_unreachable_fragmentation_needed_and_dont_fragment_set ?
	   FP_ICMP_TOO_BIG :
	   -1;
}

/* The error tells of the packet as it came: the rewrite node has counted TTL or hop limit down. */
static void
give_hop_back (u8 *h, int six)
{
  if (six)
    {
      h[7]++;
      return;
    }
  const u16 old = fp_load16 (h + 8);
  h[8]++;
  fp_store16 (h + 10, fp_csum_update (fp_load16 (h + 10), fp_csum_replace16 (old, fp_load16 (h + 8))));
}

/* An outer packet, which is this node's own, keeps the interface that its inner packet came in by. */
static int
is_outer (const vlib_buffer_t *b, const fp_packet_t *p, const fp_parsed_t *o)
{
  return b->flags & VNET_BUFFER_F_LOCALLY_ORIGINATED && o->proto == IP_PROTOCOL_UDP && o->kind == FP_KIND_FLOW &&
	 fp_load16 (p->l3 + o->l4 + 2) == fp_net16 (FP_GTPU_PORT);
}

static u16
error_next (vlib_main_t *vm, vlib_node_runtime_t *node, khost_worker_t *w, vlib_buffer_t *b, u32 data_size, int six)
{
  const kgtpu_main_t *km = &kgtpu_main;
  const u16 not_ours = six ? KGTPU_NEXT_IP6_ICMP_ERROR : KGTPU_NEXT_IP4_ICMP_ERROR;
  const u32 rx = vnet_buffer (b)->sw_if_index[VLIB_RX];
  const int error = error_of (b, six);
  const kgtpu_vrf_t *v = 0;
  enum fp_drop reason;
  fp_parsed_t parsed;
  fp_packet_t p;

  for (u32 i = 0; i < vec_len (km->vrfs); i++)
    if (km->vrfs[i].sw_if_index == rx)
      v = &km->vrfs[i];
  if (!v || error < 0)
    return not_ours;
  khost_packet_from_buffer (vm, b, &p, v->table, data_size, 0);
  if (fp_parse (&p, &parsed) || is_outer (b, &p, &parsed))
    return not_ours;
  if (!(b->flags & VNET_BUFFER_F_LOCALLY_ORIGINATED) && (six || error == FP_ICMP_TIME_EXCEEDED))
    give_hop_back (p.l3, six);
  reason = error == FP_ICMP_TOO_BIG ? FP_DROP_TOO_BIG : FP_DROP_TTL;
  fp_count_drop (&w->fp, reason);
  if (!fp_icmp_reply (&w->fp, &p, &parsed, error, vnet_buffer (b)->ip.icmp.data))
    return kgtpu_dropped (node, b, reason);
  vlib_node_increment_counter (vm, node->node_index, reason, 1);
  return kgtpu_answer (vm, v, b, &p);
}

static_always_inline uword
errors (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame, int six)
{
  u32 *bis = vlib_frame_vector_args (frame);
  const u32 n = frame->n_vectors, data_size = vlib_buffer_get_default_data_size (vm);
  khost_worker_t *w = khost_worker (vm->thread_index);
  vlib_buffer_t *bufs[VLIB_FRAME_SIZE];
  u16 nexts[VLIB_FRAME_SIZE];

  vlib_get_buffers (vm, bis, bufs, n);
  for (u32 i = 0; i < n; i++)
    nexts[i] = error_next (vm, node, w, bufs[i], data_size, six);
  vlib_buffer_enqueue_to_next (vm, node, bis, nexts, n);
  return n;
}

static uword
errors4 (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return errors (vm, node, frame, 0);
}

static uword
errors6 (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return errors (vm, node, frame, 1);
}

#define ERROR_NODE(node, node_name, fn)                                                                                \
  VLIB_REGISTER_NODE (node, static) = {                                                                                 \
    .function = fn,                                                                                                     \
    .name = node_name,                                                                                                  \
    .vector_size = sizeof (u32),                                                                                        \
    .type = VLIB_NODE_TYPE_INTERNAL,                                                                                    \
    .n_errors = FP_DROPS,                                                                                               \
    .error_counters = khost_drop_errors,                                                                                \
    .sibling_of = "kgtpu4-input",                                                                                       \
  };

ERROR_NODE (kgtpu4_error_node, "kgtpu4-icmp-error", errors4)
ERROR_NODE (kgtpu6_error_node, "kgtpu6-icmp-error", errors6)

/* With the first receive interface. The rewrite nodes' siblings get the same arc. */
void
kgtpu_errors_take (vlib_main_t *vm)
{
  static const struct
  {
    const char *rewrite, *error;
    vlib_node_registration_t *ours;
  } arcs[] = {
    { "ip4-rewrite", "ip4-icmp-error", &kgtpu4_error_node },
    { "ip6-rewrite", "ip6-icmp-error", &kgtpu6_error_node },
  };

  for (u32 i = 0; i < ARRAY_LEN (arcs); i++)
    {
      const u32 rewrite = vlib_get_node_by_name (vm, (u8 *) arcs[i].rewrite)->index;
      const uword slot = vlib_node_get_next (vm, rewrite, vlib_get_node_by_name (vm, (u8 *) arcs[i].error)->index);

      if (slot != ~0)
	vlib_node_add_next_with_slot (vm, rewrite, arcs[i].ours->index, slot);
    }
}
