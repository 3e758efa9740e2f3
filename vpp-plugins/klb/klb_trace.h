/* SPDX-License-Identifier: Apache-2.0 */
/* What a packet trace of the klb nodes keeps: the packet's headers before and after the kernel, and its verdict. */
#ifndef included_klb_trace_h
#define included_klb_trace_h

#include <vlib/vlib.h>

#include <fastpath/fp_packet.h>

#define KLB_TRACE_BYTES 72 /* an IPv6 header and a TCP one, with room for a fragment header */

typedef struct
{
  u8 before[KLB_TRACE_BYTES], after[KLB_TRACE_BYTES];
  u8 n_before, n_after;
  u8 filtered; /* the feature's filter let it pass: the kernel has not seen it */
  fp_verdict_t verdict;
  u32 vrf;
} klb_trace_t;

/* Returns the number of bytes kept. */
always_inline u8
klb_trace_copy (u8 *to, const u8 *l3, u32 length)
{
  const u8 n = (u8) clib_min (length, (u32) KLB_TRACE_BYTES);

  clib_memcpy (to, l3, n);
  return n;
}

u8 *format_klb_trace (u8 *s, va_list *args);

#endif /* included_klb_trace_h */
