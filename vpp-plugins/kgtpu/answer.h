/* SPDX-License-Identifier: Apache-2.0 */
#ifndef included_kgtpu_answer_h
#define included_kgtpu_answer_h

#include <kgtpu/kgtpu.h>
#include <khost/khost_buffer.h>

/* Next node of an ICMP error about an inner packet. It goes through the inner VRF like any packet that comes in by its interface: its receiver may be
 * behind a Service, or behind a tunnel. */
always_inline u16
kgtpu_answer (vlib_main_t *vm, const kgtpu_vrf_t *v, vlib_buffer_t *b, const fp_packet_t *p)
{
  khost_buffer_from_packet (vm, b, p);
  b->flags &= ~VNET_BUFFER_F_LOCALLY_ORIGINATED;
  vnet_buffer (b)->sw_if_index[VLIB_RX] = v->sw_if_index;
  vnet_buffer (b)->sw_if_index[VLIB_TX] = ~0;
  return p->l3[0] >> 4 == 6 ? KGTPU_NEXT_IP6_INPUT : KGTPU_NEXT_IP4_INPUT;
}

#endif /* included_kgtpu_answer_h */
