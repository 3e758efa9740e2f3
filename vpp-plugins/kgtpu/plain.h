/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors of plain buffers (one segment, nothing left to the device), which nearly all are: as khost_packet_from_buffer, in whole words. */
#ifndef included_kgtpu_plain_h
#define included_kgtpu_plain_h

#include <khost/khost_buffer.h>

#include <fastpath/fp_packet.h>

#define KGTPU_AHEAD 8 /* buffers whose header is fetched ahead; their data, half of them */

STATIC_ASSERT (sizeof (fp_packet_t) == 64 && STRUCT_OFFSET_OF (fp_packet_t, contiguous) == 8 &&
		 STRUCT_OFFSET_OF (fp_packet_t, headroom) == 16 && STRUCT_OFFSET_OF (fp_packet_t, vrf) == 24 &&
		 STRUCT_OFFSET_OF (fp_packet_t, ingress) == 32 && STRUCT_OFFSET_OF (fp_packet_t, flags) == 35 &&
		 STRUCT_OFFSET_OF (fp_packet_t, gso_size) == 40 && STRUCT_OFFSET_OF (fp_packet_t, cookie) == 48,
	       "words of a descriptor");

/* reserved: bytes of the headroom that the kernel is not to use. */
always_inline void
kgtpu_plain_packet (const vlib_buffer_t *b, fp_packet_t *p, u32 vrf, u32 mtu, u32 reserved, u32 data_size, u8 flags, u64 cookie)
{
  const i32 at = b->current_data;
  const i32 headroom = at + VLIB_BUFFER_PRE_DATA_SIZE - (i32) reserved;
  const u64 length = b->current_length;
  const u32 csum = b->flags & VNET_BUFFER_F_L4_CHECKSUM_CORRECT ? FP_CSUM_VALID : FP_CSUM_NONE;
  u64u *w = (u64u *) p;

  w[0] = (uword) (b->data + at);
  w[1] = length << 32 | length;
  w[2] = (u64) (u32) ((i32) data_size - at) << 32 | (u32) clib_max (headroom, 0);
  w[3] = (u64) mtu << 32 | vrf;
  w[4] = csum << 8 | (u32) flags << 24;
  w[5] = 0;
  w[6] = cookie;
  w[7] = 0;
}

/* Buffers of a frame, and a few places behind them that may be fetched from. */
always_inline void
kgtpu_get_buffers (vlib_main_t *vm, u32 *bis, vlib_buffer_t **bufs, u32 n)
{
  vlib_get_buffers (vm, bis, bufs, n);
  for (u32 i = 0; i < KGTPU_AHEAD; i++)
    bufs[n + i] = bufs[n - 1];
}

#endif /* included_kgtpu_plain_h */
