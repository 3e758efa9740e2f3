/* SPDX-License-Identifier: Apache-2.0 */
/* Between a vlib buffer whose current data is an IP header and a kernel's packet descriptor. The plain buffer (one segment, nothing left to the
 * device) costs a handful of instructions; all others take the functions that are not inlined. */
#ifndef included_khost_buffer_h
#define included_khost_buffer_h

#include <vlib/vlib.h>
#include <vnet/buffer.h>
#include <vnet/interface_output.h>

#include <fastpath/fp_csum.h>

#define KHOST_NOT_PLAIN (VLIB_BUFFER_NEXT_PRESENT | VNET_BUFFER_F_OFFLOAD | VNET_BUFFER_F_GSO)

/* What is no longer true of a packet that got or lost an outer header. */
#define KHOST_STALE                                                                                                    \
  (VNET_BUFFER_F_L2_HDR_OFFSET_VALID | VNET_BUFFER_F_L3_HDR_OFFSET_VALID | VNET_BUFFER_F_L4_HDR_OFFSET_VALID |         \
   VNET_BUFFER_F_L4_CHECKSUM_COMPUTED | VNET_BUFFER_F_L4_CHECKSUM_CORRECT | VNET_BUFFER_F_IS_IP4 | VNET_BUFFER_F_IS_IP6)

/* VPP's pending checksum says nothing of the field's contents (its own stack leaves zero, a tap the sum of the pseudo header): the kernels get the sum of
 * the pseudo header there. An IPv4 header checksum still to be made is made. */
static __clib_noinline __clib_unused void
khost_packet_offloads (vlib_main_t *vm, vlib_buffer_t *b, fp_packet_t *p)
{
  const u32 flags = b->flags;
  const vnet_buffer_oflags_t oflags = flags & VNET_BUFFER_F_OFFLOAD ? vnet_buffer (b)->oflags : 0;
  const int at = vnet_buffer (b)->l4_hdr_offset - b->current_data;
  const u8 version = p->contiguous ? p->l3[0] >> 4 : 0;
  const u32 least = version == 4 ? sizeof (ip4_header_t) : sizeof (ip6_header_t);
  u32 field, size;

  p->length = vlib_buffer_length_in_chain (vm, b);
  /* What VPP has put into a tunnel of its own is finished here: the kernels know one level only. */
  if (oflags & (VNET_BUFFER_OFFLOAD_F_TNL_MASK | VNET_BUFFER_OFFLOAD_F_OUTER_IP_CKSUM | VNET_BUFFER_OFFLOAD_F_OUTER_UDP_CKSUM))
    {
      vnet_calc_outer_checksums_inline (vm, b);
      if (!(flags & VNET_BUFFER_F_GSO))
	vnet_calc_checksums_inline (vm, b, (flags & VNET_BUFFER_F_IS_IP4) != 0, (flags & VNET_BUFFER_F_IS_IP6) != 0);
      return;
    }
  if (oflags & VNET_BUFFER_OFFLOAD_F_IP_CKSUM && version == 4 && p->contiguous >= sizeof (ip4_header_t) &&
      p->contiguous >= (p->l3[0] & 15) * 4u)
    {
      ip4_header_t *ip4 = (ip4_header_t *) p->l3;
      ip4->checksum = ip4_header_checksum (ip4);
      p->flags |= FP_PACKET_IP_VALID;
    }
  if (!(oflags & (VNET_BUFFER_OFFLOAD_F_TCP_CKSUM | VNET_BUFFER_OFFLOAD_F_UDP_CKSUM)) ||
      !(flags & VNET_BUFFER_F_L4_HDR_OFFSET_VALID))
    return;
  field = oflags & VNET_BUFFER_OFFLOAD_F_TCP_CKSUM ? STRUCT_OFFSET_OF (tcp_header_t, checksum) :
						     STRUCT_OFFSET_OF (udp_header_t, checksum);
  size = oflags & VNET_BUFFER_OFFLOAD_F_TCP_CKSUM ? sizeof (tcp_header_t) : sizeof (udp_header_t);
  if ((version != 4 && version != 6) || at < (int) least || (u32) at + size > p->contiguous || (u32) at > p->length)
    return;
  p->csum = FP_CSUM_PARTIAL;
  p->csum_start = (u16) at;
  p->csum_offset = (u16) field;
  fp_store16 (p->l3 + at + field, fp_csum_fold (fp_csum_pseudo (p->l3 + (version == 4 ? 12 : 8), version == 4 ? 8 : 32,
								field == 16 ? IP_PROTOCOL_TCP : IP_PROTOCOL_UDP,
								p->length - (u32) at)));
  if (!(flags & VNET_BUFFER_F_GSO))
    return;
  p->gso_size = vnet_buffer2 (b)->gso_size;
  p->gso_type = field != 16 ? FP_GSO_UDP_L4 : version == 4 ? FP_GSO_TCP4 : FP_GSO_TCP6;
}

/* Fills the descriptor. data_size: vlib_buffer_get_default_data_size (vm), read once for a frame. flags: enum fp_packet_flag that hold for every packet of
 * the node (FP_PACKET_KEEP_TTL where ip4-rewrite will decrement it, FP_PACKET_IP_VALID behind ip4-input). */
always_inline void
khost_packet_from_buffer (vlib_main_t *vm, vlib_buffer_t *b, fp_packet_t *p, u32 vrf, u32 data_size, u8 flags)
{
  *p = (fp_packet_t){
    .l3 = vlib_buffer_get_current (b),
    .contiguous = b->current_length,
    .length = b->current_length,
    .headroom = (u32) (b->current_data + VLIB_BUFFER_PRE_DATA_SIZE),
    .room = (u32) ((i32) data_size - b->current_data),
    .vrf = vrf,
    .csum = b->flags & VNET_BUFFER_F_L4_CHECKSUM_CORRECT ? FP_CSUM_VALID : FP_CSUM_NONE,
    .flags = flags,
  };
  if (PREDICT_FALSE (b->flags & KHOST_NOT_PLAIN))
    khost_packet_offloads (vm, b, p);
}

/* Makes the chain behind the first segment `tail` bytes long. */
static __clib_noinline __clib_unused void
khost_buffer_cut (vlib_main_t *vm, vlib_buffer_t *b, u32 tail)
{
  vlib_buffer_t *last = b;
  u32 left = tail;

  b->total_length_not_including_first_buffer = tail;
  b->flags |= VLIB_BUFFER_TOTAL_LENGTH_VALID;
  while (left)
    {
      if (!(last->flags & VLIB_BUFFER_NEXT_PRESENT))
	return; /* shorter than it says: as it was */
      last = vlib_get_buffer (vm, last->next_buffer);
      if (last->current_length > left)
	last->current_length = (u16) left;
      left -= last->current_length;
    }
  if (last->flags & VLIB_BUFFER_NEXT_PRESENT)
    {
      u32 next = last->next_buffer;
      last->flags &= ~VLIB_BUFFER_NEXT_PRESENT;
      vlib_buffer_free_one (vm, next); /* and what follows it */
    }
}

static __clib_noinline __clib_unused void
khost_buffer_offloads (vlib_main_t *vm, vlib_buffer_t *b, const fp_packet_t *p)
{
  const int six = p->l3[0] >> 4 == 6;

  if (b->flags & VLIB_BUFFER_NEXT_PRESENT)
    khost_buffer_cut (vm, b, p->length > p->contiguous ? p->length - p->contiguous : 0);
  if (p->gso_type == FP_GSO_NONE)
    b->flags &= ~VNET_BUFFER_F_GSO;
  if (p->csum != FP_CSUM_PARTIAL)
    {
      b->flags &= ~VNET_BUFFER_F_OFFLOAD;
      vnet_buffer (b)->oflags = 0;
      return;
    }
  b->flags &= ~(VNET_BUFFER_F_IS_IP4 | VNET_BUFFER_F_IS_IP6);
  b->flags |= VNET_BUFFER_F_OFFLOAD | VNET_BUFFER_F_L3_HDR_OFFSET_VALID | VNET_BUFFER_F_L4_HDR_OFFSET_VALID |
	      (six ? VNET_BUFFER_F_IS_IP6 : VNET_BUFFER_F_IS_IP4);
  vnet_buffer (b)->oflags = p->csum_offset == STRUCT_OFFSET_OF (tcp_header_t, checksum) ? VNET_BUFFER_OFFLOAD_F_TCP_CKSUM :
											   VNET_BUFFER_OFFLOAD_F_UDP_CKSUM;
  if (!six)
    vnet_buffer (b)->oflags |= VNET_BUFFER_OFFLOAD_F_IP_CKSUM; /* segments of a large packet need it; complete for the packet itself */
  vnet_buffer (b)->l3_hdr_offset = b->current_data;
  vnet_buffer (b)->l4_hdr_offset = (i16) (b->current_data + p->csum_start);
}

/* After the kernel, for a packet that goes on: FP_FORWARD or FP_REPLY. */
always_inline void
khost_buffer_from_packet (vlib_main_t *vm, vlib_buffer_t *b, const fp_packet_t *p)
{
  const i16 delta = (i16) (p->l3 - (u8 *) vlib_buffer_get_current (b));

  b->current_data += delta;
  b->current_length = (u16) p->contiguous;
  if (delta)
    b->flags &= ~KHOST_STALE;
  if (PREDICT_FALSE (b->flags & KHOST_NOT_PLAIN || p->csum == FP_CSUM_PARTIAL))
    khost_buffer_offloads (vm, b, p);
}

/* Next node of a buffer that stays with the node (held), or is gone already. */
#define KHOST_STAYS 0xffff

/* Enqueues the n buffers of a frame but those that stay, of which there are n_stay. `bis` and `nexts` may be changed. */
always_inline void
khost_enqueue (vlib_main_t *vm, vlib_node_runtime_t *node, u32 *bis, u16 *nexts, u32 n, u32 n_stay)
{
  if (PREDICT_FALSE (n_stay))
    {
      u32 left = 0;

      for (u32 i = 0; i < n; i++)
	if (nexts[i] != KHOST_STAYS)
	  {
	    bis[left] = bis[i];
	    nexts[left++] = nexts[i];
	  }
      n = left;
      if (n == 0)
	return;
    }
  vlib_buffer_enqueue_to_next (vm, node, bis, nexts, n);
}

#endif /* included_khost_buffer_h */
