/* SPDX-License-Identifier: Apache-2.0 */
/* What a traced packet shows of the kernels' verdict. */
#ifndef included_kgtpu_trace_h
#define included_kgtpu_trace_h

#include <vlib/vlib.h>

#include <fastpath/fp_packet.h>

#define KGTPU_TRACE_BYTES 80 /* outer headers with a PDU Session Container */

typedef struct
{
  u8 header[KGTPU_TRACE_BYTES]; /* from the IP header that came in */
  fp_verdict_t verdict;
  u8 skipped; /* input node (decapsulation) or outer lookup (encapsulation) */
  u8 bytes;   /* of header */
  u16 next;
  u16 vlan; /* of a frame out of the tunnel */
  u32 vrf;  /* inner: of the packet out of or into the tunnel */
  u32 peer; /* encapsulation */
} kgtpu_trace_t;

always_inline void
kgtpu_trace_header (kgtpu_trace_t *t, const fp_packet_t *p)
{
  t->bytes = (u8) clib_min (p->contiguous, KGTPU_TRACE_BYTES);
  clib_memcpy (t->header, p->l3, t->bytes);
}

#endif /* included_kgtpu_trace_h */
