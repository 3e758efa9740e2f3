/* SPDX-License-Identifier: Apache-2.0 */
/* klb: Services in VPP. Packets reach the kernels of fastpath/fp_service.h by two ways:
 *
 *   klb4-vip, klb6-vip          the FIB: each service range, and each Service address outside of those, is an entry stacked on the klb DPO
 *   klb4-feature, klb6-feature  the ip4-unicast / ip6-unicast arcs: what the filter (klb_filter.h) picks out: answers of endpoints, node
 *                               ports, ICMP errors, and flows to the service ranges ahead of the FIB
 *   klb4-held, klb6-held        fragments that khost gives back
 *   klb4-related, klb6-related  ICMP errors that VPP's own nodes have made, on their way to the FIB
 *
 * The region, the workers' contexts and the records come from khost. */
#ifndef included_klb_h
#define included_klb_h

#include <vnet/dpo/dpo.h>
#include <vnet/fib/fib_table.h>

#include <khost/khost.h>

#include <klb/klb_filter.h>

/* Where a packet goes that the kernel passes untouched: the route that covers the klb entry. */
typedef struct
{
  dpo_id_t parent;
  u32 locks;
} klb_dpo_t;

typedef struct
{
  /* Read on the packet path. */
  klb_filter_t *filter; /* replaced by one store; valid until the reader's next quiescent point */
  klb_dpo_t *dpos;	/* pool; changed under the barrier */
  klb_ranges_t ranges;	/* changed under the barrier */

  /* Main thread. */
  dpo_type_t dpo_type;
  fib_source_t fib_source;
} klb_main_t;

extern klb_main_t klb_main;

/* klb_vip.c: addresses of Services in the FIB. */
void klb_vip_init (void);
void klb_vip_on_prefix (const fp_wire_prefix_t *prefix, int is_delete);
void klb_vip_on_frontend (const fp_wire_frontend_t *frontend, int is_delete);
/* Whether packets to a Service address (family 4: the first four bytes) are led to the klb DPO. */
int klb_vip_routed (u32 vrf, u8 family, const u8 *address);
/* Each second: other routes may cover them now. */
void klb_vip_follow_covers (void);
u8 *format_klb_vips (u8 *s, va_list *args);

/* klb_interface.c */
void klb_interface_init (vlib_main_t *vm);
/* From now on kgtpu's receive interfaces have the features. */
void klb_interface_users (void);
/* Enable or disable the feature nodes of both families. Exported, for interfaces that khost does not know of. */
int klb_interface_enable (u32 sw_if_index, int enable);

#endif /* included_klb_h */
