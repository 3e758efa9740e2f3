/* SPDX-License-Identifier: Apache-2.0 */
/* Delivery of the usual decapsulated packet, and what a frame's packets are counted as. */
#ifndef included_kgtpu_deliver_h
#define included_kgtpu_deliver_h

#include <kgtpu/kgtpu.h>
#include <kgtpu/tally.h>
#include <khost/khost_buffer.h>
#include <vnet/feature/feature.h>

#include <fastpath/fp_gtpu.h>

/* The way by which outer packets come. */
enum from
{
  FROM_UDP,
  FROM_FEATURE,
  FROM_FIB,
};

/* Of one frame. */
typedef struct
{
  vlib_main_t *vm;
  vlib_node_runtime_t *node;
  kgtpu_main_t *km;
  khost_worker_t *w;
  u32 skip; /* skipInnerIpInput is on */
  /* the inner VRF of the last packet, and what is counted for its interface */
  u32 vrf, sw_if_index;
  u32 features[2]; /* whether inner IPv4, IPv6 packets have any */
  u32 packets, skipped[2];
  u64 bytes;
  u32 skipped_in_all, bypassed, kept;
  u32 large; /* packets of the chunk that were gathered */
  kgtpu_tally_t tally;
} frame_t;

/* How the usual packets of one inner VRF go on. */
typedef struct
{
  u32 table;
  u32 sw_if_index;
  u32 data_end; /* of a buffer, from the start of its headroom */
  u32 usual;	/* 1: IPv4 goes straight to lookup, 2: IPv6 */
} way_t;

/* Of these: how many went on, how many of them IPv4. */
typedef struct
{
  u32 packets, four;
  u64 bytes;
} deliveries_t;

static void
count_interface (frame_t *f)
{
  vnet_interface_main_t *im = &vnet_get_main ()->interface_main;
  const u32 thread = f->vm->thread_index;

  if (f->packets)
    vlib_increment_combined_counter (im->combined_sw_if_counters + VNET_INTERFACE_COUNTER_RX, thread, f->sw_if_index,
				     f->packets, f->bytes);
  /* as the input node would have done */
  if (f->skipped[0])
    vlib_increment_simple_counter (im->sw_if_counters + VNET_INTERFACE_COUNTER_IP4, thread, f->sw_if_index, f->skipped[0]);
  if (f->skipped[1])
    vlib_increment_simple_counter (im->sw_if_counters + VNET_INTERFACE_COUNTER_IP6, thread, f->sw_if_index, f->skipped[1]);
  f->packets = f->skipped[0] = f->skipped[1] = 0;
  f->bytes = 0;
}

/* 0: no such VRF. */
static_always_inline int
to_vrf (frame_t *f, u32 table)
{
  const u32 vrf = kgtpu_vrf_index (f->km, table, f->vrf);

  if (PREDICT_TRUE (vrf == f->vrf))
    return vrf != ~0;
  count_interface (f);
  f->vrf = vrf;
  if (vrf == ~0)
    return 0;
  f->sw_if_index = f->km->vrfs[vrf].sw_if_index;
  f->features[0] = vnet_have_features (f->km->arc[0], f->sw_if_index);
  f->features[1] = vnet_have_features (f->km->arc[1], f->sw_if_index);
  return 1;
}

/* Whether ip4-input or ip6-input would send the packet on to unicast lookup, given what the kernel has checked: version, header length, TTL, that the
 * packet is there as its length says. What else they do, they do themselves. */
static_always_inline int
input_would_pass (const u8 *h, int six)
{
  if (six)
    return h[24] != 0xff;
  return h[0] == 0x45 && (fp_load16 (h + 6) & fp_net16 (0x1fff)) != fp_net16 (1) && (h[16] & 0xf0) != 0xe0 &&
	 fp_csum_fold (fp_gtpu_sum20 (h)) == 0xffff;
}

/* By the VRF of the packet before; table ~0: no packet is usual. */
static way_t
way_of (const frame_t *f, u32 data_size)
{
  way_t way = { .data_end = VLIB_BUFFER_PRE_DATA_SIZE + data_size, .table = ~0 };

  if (f->vrf == ~0 || !f->skip)
    return way;
  way.table = f->km->vrfs[f->vrf].table;
  way.sw_if_index = f->sw_if_index;
  way.usual = (f->features[0] ? 0 : 1) | (f->features[1] ? 0 : 2);
  return way;
}

/* A packet of that VRF, in one buffer, no GTP-U itself, of which input nodes have nothing to say and no feature anything to do: all as deliver does it.
 * Returns the next node, or KHOST_STAYS: nothing has been done. */
static_always_inline u16
deliver_usual (const way_t *way, vlib_buffer_t *b, const fp_packet_t *p, deliveries_t *d)
{
  const u16 gtpu = fp_net16 (FP_GTPU_PORT);
  const u8 *h = p->l3;
  const i64 at = h - b->data;

  if (PREDICT_FALSE (p->vrf != way->table || b->flags & KHOST_NOT_PLAIN || p->csum == FP_CSUM_PARTIAL ||
		     (u64) (at + VLIB_BUFFER_PRE_DATA_SIZE) >= way->data_end))
    return KHOST_STAYS;
  if (PREDICT_TRUE (h[0] == 0x45))
    {
      if (PREDICT_FALSE (!(way->usual & 1) || fp_load16 (h + 6) & fp_net16 (0x3fff)))
	return KHOST_STAYS;
      if (h[9] == IP_PROTOCOL_UDP && PREDICT_FALSE (p->contiguous < 28 || fp_load16 (h + 22) == gtpu))
	return KHOST_STAYS;
      if (PREDICT_FALSE (!input_would_pass (h, 0)))
	return KHOST_STAYS;
      d->four++;
    }
  else if (PREDICT_FALSE (h[0] >> 4 != 6 || !(way->usual & 2) || !input_would_pass (h, 1) || fp_gtpu_may_be_nested (p)))
    return KHOST_STAYS;
  d->packets++;
  d->bytes += p->length;
  b->current_data = (i16) at;
  b->current_length = (u16) p->contiguous;
  b->flags &= ~(KHOST_STALE | VNET_BUFFER_F_LOCALLY_ORIGINATED);
  vnet_buffer (b)->sw_if_index[VLIB_RX] = way->sw_if_index;
  vnet_buffer (b)->sw_if_index[VLIB_TX] = ~0;
  vnet_buffer (b)->ip.flow_hash = 0;
  vnet_buffer (b)->ip.adj_index[VLIB_RX] = ~0;
  return h[0] == 0x45 ? KGTPU_NEXT_IP4_LOOKUP : KGTPU_NEXT_IP6_LOOKUP;
}

/* Before the VRF may change. */
static void
delivered (frame_t *f, deliveries_t *d)
{
  f->packets += d->packets;
  f->bytes += d->bytes;
  f->skipped[0] += d->four;
  f->skipped[1] += d->packets - d->four;
  f->skipped_in_all += d->packets;
  f->tally.tx_packets += d->packets;
  f->tally.tx_bytes += d->bytes;
  *d = (deliveries_t){};
}

#endif /* included_kgtpu_deliver_h */
