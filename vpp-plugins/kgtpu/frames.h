/* SPDX-License-Identifier: Apache-2.0 */
/* Tunnels that carry Ethernet. Their frames come and go by one interface, the link for frames, where a VLAN tag says which tunnel a frame belongs to:
 * the same as on the embedded engine's link. Tunnels are no interfaces. */
#ifndef included_kgtpu_frames_h
#define included_kgtpu_frames_h

#include <kgtpu/kgtpu.h>
#include <kgtpu/tally.h>
#include <khost/khost_buffer.h>
#include <vnet/ethernet/ethernet.h>

#include <fastpath/fp_gtpu_segment.h>

#define KGTPU_ETHERNET 14 /* bytes of a header without a tag */
#define KGTPU_TAG      4
#define KGTPU_FRAME_VRF 0 /* inner VRF of the tunnels that carry Ethernet */

/* A traced frame on its way into a tunnel. */
typedef struct
{
  u8 header[KGTPU_ETHERNET]; /* without the tag */
  u16 vlan;
  fp_verdict_t verdict;
  u8 skipped; /* outer lookup */
  u16 next;
  u32 bytes;
  u32 peer;
} kgtpu_frame_trace_t;

/* Writes the tag of the frame's VLAN into its buffer. Headers of the tunnel have made room for it. */
always_inline void
kgtpu_put_tag (vlib_buffer_t *b, u16 vlan)
{
  u8 *to = vlib_buffer_push_uninit (b, KGTPU_TAG);
  const u64 a = fp_load64 (to + KGTPU_TAG);
  const u32 c = fp_load32 (to + KGTPU_TAG + 8);

  clib_memcpy (to, &a, 8);
  clib_memcpy (to + 8, &c, 4);
  fp_store16 (to + 12, fp_net16 (ETHERNET_TYPE_VLAN));
  fp_store16 (to + 14, fp_net16 (vlan));
}

/* Takes the tag off. Returns the VLAN, 0: the frame has none; -1: it is too short for an Ethernet header, or for the tag that it begins. */
always_inline int
kgtpu_take_tag (vlib_buffer_t *b)
{
  u8 *from = vlib_buffer_get_current (b);
  u16 type;
  u64 a;
  u32 c;

  if (PREDICT_FALSE (b->current_length < KGTPU_ETHERNET))
    return -1;
  type = fp_load16 (from + 12);
  if (PREDICT_FALSE (type != fp_net16 (ETHERNET_TYPE_VLAN) && type != fp_net16 (ETHERNET_TYPE_DOT1AD)))
    return 0;
  if (PREDICT_FALSE (b->current_length < KGTPU_ETHERNET + KGTPU_TAG))
    return -1;
  type = fp_net16 (fp_load16 (from + 14)) & 0xfff;
  a = fp_load64 (from);
  c = fp_load32 (from + 8);
  clib_memcpy (from + KGTPU_TAG, &a, 8);
  clib_memcpy (from + KGTPU_TAG + 8, &c, 4);
  vlib_buffer_advance (b, KGTPU_TAG);
  return type;
}

/* Next node of a frame out of a tunnel. */
static __clib_noinline __clib_unused u16
kgtpu_frame_out (vlib_main_t *vm, vlib_node_runtime_t *node, khost_worker_t *w, vlib_buffer_t *b, fp_packet_t *p, kgtpu_tally_t *tally)
{
  const u32 link = clib_atomic_load_relax_n (&kgtpu_main.frames.link), mtu = clib_atomic_load_relax_n (&kgtpu_main.frames.mtu);

  if (PREDICT_FALSE (link == ~0))
    return kgtpu_own_drop (node, w, b, FP_DROP_UNRESOLVED);
  if (PREDICT_FALSE (mtu && p->length > mtu + KGTPU_ETHERNET))
    return kgtpu_own_drop (node, w, b, FP_DROP_TOO_BIG);
  /* what a device would do to IP packets, it does not do behind a tag */
  if (PREDICT_FALSE (!fp_gtpu_complete_checksum (p, KGTPU_ETHERNET, p->length)))
    return kgtpu_own_drop (node, w, b, FP_DROP_MALFORMED);
  tally->tx_packets++;
  tally->tx_bytes += p->length;
  khost_buffer_from_packet (vm, b, p);
  kgtpu_put_tag (b, p->vlan);
  b->flags &= ~VNET_BUFFER_F_LOCALLY_ORIGINATED;
  vnet_buffer (b)->sw_if_index[VLIB_TX] = link;
  return KGTPU_NEXT_FRAME_OUTPUT;
}

#endif /* included_kgtpu_frames_h */
