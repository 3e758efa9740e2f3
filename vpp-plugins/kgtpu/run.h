/* SPDX-License-Identifier: Apache-2.0 */
/* Packets that follow each other in one tunnel (lookupCache), from buffer to buffer, without descriptors. */
#ifndef included_kgtpu_run_h
#define included_kgtpu_run_h

#include <kgtpu/deliver.h>
#include <kgtpu/plain.h>

#define LONG_RUN 8 /* packets after which a run may go on behind one of another kind */

STATIC_ASSERT (STRUCT_OFFSET_OF (vlib_buffer_t, current_data) == 0 && STRUCT_OFFSET_OF (vlib_buffer_t, current_length) == 2 &&
		 STRUCT_OFFSET_OF (vlib_buffer_t, flags) == 4 && CLIB_ARCH_IS_LITTLE_ENDIAN,
	       "first word of a buffer");

/* Of a frame. */
typedef struct
{
  fp_gtpu_run_t run;
  u32 open;
  u32 came_by; /* interface or FIB of its packets */
  u32 packets; /* that have not been counted yet */
  u64 bytes;
} run_t;

static_always_inline void
run_count (frame_t *f, run_t *r)
{
  if (r->packets)
    fp_gtpu_run_count (&f->w->fp, &r->run, r->packets, r->bytes);
  r->packets = 0;
  r->bytes = 0;
}

/* The run of the last packet, in place of *r. 0: there is none. */
static __clib_noinline int
run_open (frame_t *f, run_t *r)
{
  run_count (f, r);
  r->open = (u32) fp_gtpu_run_open (&f->w->fp, &r->run);
  return (int) r->open;
}

/* Bytes of the outer packet before a buffer's current data. */
static_always_inline u32
run_behind (const enum from from)
{
  return from == FROM_UDP ? FP_IP4_HEADER + FP_UDP_HEADER : 0;
}

/* The interface or the FIB by which a packet came. */
static_always_inline u32
run_came_by (const vlib_buffer_t *b, const enum from from)
{
  return from == FROM_FEATURE ? vnet_buffer (b)->sw_if_index[VLIB_RX] : vnet_buffer (b)->ip.fib_index;
}

/* TEID of a packet that is probably to GTP-U's port, as it lies there; 0: it is too short. */
static_always_inline u32
run_glance (vlib_buffer_t *b, const enum from from)
{
  const u32 at = FP_IP4_HEADER + FP_UDP_HEADER + 4 - run_behind (from);

  return b->current_length < at + 4 ? 0 : fp_load32 ((const u8 *) vlib_buffer_get_current (b) + at);
}

/* Whether a packet, whose inner VRF has no features, goes where all of the run go: no GTP-U itself, and input nodes have nothing to say of it. */
static_always_inline int
run_delivers (const u8 *h, u32 total, u32 skip, int six)
{
  const u32 at = six ? 42 : 22, least = six ? 48 : 28, protocol = h[six ? 6 : 9];
  u32 stays = (protocol == IP_PROTOCOL_UDP) &
	      ((total < least) | (fp_load16 (h + (total < least ? 0 : at)) == fp_net16 (FP_GTPU_PORT)));

  if (six)
    stays |= (protocol != IP_PROTOCOL_UDP) & (protocol != IP_PROTOCOL_TCP); /* fp_gtpu_may_be_nested */
  else
    stays |= fp_load16 (h + 6) & fp_net16 (0x3fff);
  if (skip)
    stays |= six ? h[24] == 0xff : ((h[16] & 0xf0) == 0xe0) | (fp_csum_fold (fp_gtpu_sum20 (h)) ^ 0xffff);
  return stays == 0;
}

/* Takes packets as long as they are the run's, `width` (constant) at once. Returns how many; where they go is in `nexts`. */
static_always_inline u32
run_through (frame_t *f, run_t *r, vlib_buffer_t **bufs, u16 *nexts, u32 n, const enum from from, const u32 width)
{
  const u32 behind = run_behind (from);
  const fp_gtpu_run_t run = r->run;
  const u32 skip = f->skip, payload = run.payload, came_by = r->came_by;
  const u64 interfaces = ~0ull << 32 | f->sw_if_index;
  u32 i, four = 0;
  u64 outer = 0, inner = 0;

  for (i = 0; i + width <= n; i += width)
    {
      vlib_buffer_t **b = bufs + i;
      const u8 *h[FP_GTPU_RUN_WIDTH];
      u32 length[FP_GTPU_RUN_WIDTH], total[FP_GTPU_RUN_WIDTH], flags = 0, summed = VNET_BUFFER_F_L4_CHECKSUM_CORRECT, others = 0;
      u16 next;
      int six, all = 1;

#pragma GCC unroll 4
      for (u32 k = 0; k < width; k++)
	{
	  vlib_prefetch_buffer_header (b[k + KGTPU_AHEAD], LOAD);
	  clib_prefetch_load (vlib_buffer_get_current (b[k + KGTPU_AHEAD / 2]));
	  h[k] = (const u8 *) vlib_buffer_get_current (b[k]) - behind;
	  length[k] = b[k]->current_length + behind;
	  flags |= b[k]->flags;
	  summed &= b[k]->flags;
	  others |= came_by ^ run_came_by (b[k], from);
	  if (behind)
	    others |= (b[k]->flags & VNET_BUFFER_F_L3_HDR_OFFSET_VALID) && vnet_buffer (b[k])->l3_hdr_offset != b[k]->current_data - (i16) behind;
	}
      if (PREDICT_FALSE ((flags & KHOST_NOT_PLAIN) | others || length[0] <= payload))
	break;
      six = h[0][payload] >> 4 == 6;
      if (PREDICT_TRUE (!six))
	{
	  all = fp_gtpu_run_takes (&run, h, length, width, 0, summed != 0, total);
#pragma GCC unroll 4
	  for (u32 k = 0; all && k < width; k++)
	    all &= run_delivers (h[k] + payload, total[k], skip, 0);
	  if (PREDICT_FALSE (!all || f->features[0] & skip))
	    break;
	  next = skip ? KGTPU_NEXT_IP4_LOOKUP : KGTPU_NEXT_IP4_INPUT;
	  four += width;
	}
      else
	{
	  all = fp_gtpu_run_takes (&run, h, length, width, 1, summed != 0, total);
#pragma GCC unroll 4
	  for (u32 k = 0; all && k < width; k++)
	    all &= run_delivers (h[k] + payload, total[k], skip, 1);
	  if (PREDICT_FALSE (!all || f->features[1] & skip))
	    break;
	  next = skip ? KGTPU_NEXT_IP6_LOOKUP : KGTPU_NEXT_IP6_INPUT;
	}
#pragma GCC unroll 4
      for (u32 k = 0; k < width; k++)
	{
	  outer += length[k];
	  inner += total[k];
	  b[k]->current_data += (i16) (payload - behind);
	  b[k]->current_length = (u16) total[k];
	  b[k]->flags &= ~(KHOST_STALE | VNET_BUFFER_F_LOCALLY_ORIGINATED);
	  clib_memcpy (vnet_buffer (b[k])->sw_if_index, &interfaces, sizeof (interfaces));
	  vnet_buffer (b[k])->ip.flow_hash = 0;
	  vnet_buffer (b[k])->ip.adj_index[VLIB_RX] = ~0;
	  nexts[i + k] = next;
	}
    }
  r->packets += i;
  r->bytes += inner;
  f->packets += i;
  f->bytes += inner;
  f->bypassed += from == FROM_UDP ? 0 : i;
  if (skip)
    {
      f->skipped[0] += four;
      f->skipped[1] += i - four;
      f->skipped_in_all += i;
    }
  f->tally.rx_packets += i;
  f->tally.rx_bytes += outer;
  f->tally.tx_packets += i;
  f->tally.tx_bytes += inner;
  return i;
}

#endif /* included_kgtpu_run_h */
