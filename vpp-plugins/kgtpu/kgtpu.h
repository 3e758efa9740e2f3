/* SPDX-License-Identifier: Apache-2.0 */
/* kgtpu: nodes that carry GTP-U through the kernels, and what a forwarding graph adds to them: FIB entries of pools and local addresses, the
 * tracked path to each peer, one receive interface for each inner VRF, UDP port 2152. The tables are khost's region. */
#ifndef included_kgtpu_h
#define included_kgtpu_h

#include <khost/khost.h>
#include <vnet/dpo/dpo.h>
#include <vnet/fib/fib_node.h>
#include <vnet/fib/fib_source.h>
#include <vnet/fib/fib_types.h>

#define KGTPU_REWRITE_ROOM 32	 /* left before an outer header for the adjacency's rewrite */

/* Next nodes of all nodes here: they are siblings, so that arcs which the FIB adds hold for each of them. */
#define KGTPU_FOREACH_NEXT(_)                                                                                          \
  _ (DROP, "error-drop")                                                                                               \
  _ (IP4_LOOKUP, "ip4-lookup")                                                                                         \
  _ (IP6_LOOKUP, "ip6-lookup")                                                                                         \
  _ (IP4_INPUT, "ip4-input")                                                                                           \
  _ (IP6_INPUT, "ip6-input")                                                                                           \
  _ (IP4_ICMP_ERROR, "ip4-icmp-error")                                                                                 \
  _ (IP6_ICMP_ERROR, "ip6-icmp-error")                                                                                 \
  _ (IP4_LOCAL, "ip4-local")                                                                                           \
  _ (IP6_LOCAL, "ip6-local")                                                                                           \
  _ (FRAME_OUTPUT, "interface-output")

enum kgtpu_next
{
#define _(n, s) KGTPU_NEXT_##n,
  KGTPU_FOREACH_NEXT (_)
#undef _
  KGTPU_N_NEXT,
};

/* Where outer packets to a peer go. Read by the nodes, by peer slot. */
typedef struct
{
  dpo_id_t dpo; /* stacked on the encapsulation nodes; replaced by one store */
  u32 fib_index; /* outer */
  u32 pad;
} kgtpu_path_t;

STATIC_ASSERT (sizeof (kgtpu_path_t) == 16, "path");

/* The same peer for the FIB. */
typedef struct
{
  fib_node_t node;
  fib_node_index_t entry;
  u32 sibling;
  fib_prefix_t prefix;
  u32 changes; /* of its way, since it is tracked */
  u8 live;
} kgtpu_peer_t;

/* An inner VRF. */
typedef struct
{
  u32 table;
  u32 sw_if_index, hw_if_index;
  u32 fib_index[2]; /* IPv4, IPv6 */
} kgtpu_vrf_t;

/* A local address's interposed FIB entry, or one of the clones that the FIB made of it. */
typedef struct
{
  dpo_id_t parent; /* for what is not GTP-U; of clones only */
  u32 locks;
  u8 own; /* VPP receives what comes to this address */
  f64 given_up; /* when, if nothing in the FIB leads here any more */
} kgtpu_local_t;

/* A local GTP-U address. */
typedef struct
{
  u32 table; /* outer VRF */
  u32 fib_index;
  fib_prefix_t prefix;
  u8 interposed;
} kgtpu_endpoint_t;

/* The link for frames of tunnels that carry Ethernet. */
typedef struct
{
  u32 link; /* sw_if_index of the interface that frames come out by; ~0: there is none */
  u32 mtu;
  u32 *interfaces; /* vector: that frames come in by; main thread */
} kgtpu_frames_t;

enum kgtpu_interface
{
  KGTPU_INTERFACE_ENABLED = 1,  /* GTP-U may come in by it */
  KGTPU_INTERFACE_FEATURED = 2, /* it has the bypass features now */
};

typedef struct
{
  /* Read on the packet path. */
  CLIB_CACHE_LINE_ALIGN_MARK (c0);
  kgtpu_path_t *paths;
  kgtpu_vrf_t *vrfs;
  uword *vrf_by_table;
  kgtpu_local_t *locals;
  u16 *arc_next[2];	 /* next of ip4-input / ip6-input to ours */
  u32 arc[2];		 /* feature arcs ip4-unicast, ip6-unicast */
  u32 chain_next[2];	 /* UDP 2152 to addresses that are not ours; ~0: nobody's */
  u32 link_mtu;		 /* smallest of all peers' links; 0: unknown */
  u8 fib_bypass;	 /* form Fib is in effect */
  kgtpu_frames_t frames;

  /* Main thread. */
  kgtpu_peer_t *peers;
  kgtpu_endpoint_t *endpoints; /* pool */
  u32 *given_up; /* of locals, oldest first */
  u8 *interfaces; /* by sw_if_index: enum kgtpu_interface */
  u32 n_endpoints[2];
  u32 chain_node[2]; /* registered at the port before us; ~0: none */
  u64 switches;
  dpo_type_t pool_dpo, local_dpo;
  fib_source_t pool_source, local_source;
  fib_node_type_t node_type;
  u8 attached;
} kgtpu_main_t;

extern kgtpu_main_t kgtpu_main;
extern vlib_node_registration_t kgtpu4_input_node, kgtpu6_input_node, kgtpu4_encap_node;

/* interface.c: vrf_of makes what is missing. */
void kgtpu_interface_init (void);
u32 kgtpu_vrf_of (u32 table);
void kgtpu_features_apply (void);
void kgtpu_arcs_refresh (void);

/* local.c */
void kgtpu_local_init (vlib_main_t *vm);
void kgtpu_endpoint_change (const fp_wire_gtpu_endpoint_t *e, int is_delete);
void kgtpu_pool_change (const fp_wire_prefix_t *p, int is_delete);
void kgtpu_locals_apply (void);

/* frames_link.c */
void kgtpu_frames_init (void);
void kgtpu_frames_wanted (u32 sw_if_index, int enable);

/* path.c */
void kgtpu_path_init (void);
void kgtpu_path_open (fp_region_t *r);
void kgtpu_peer_change (fp_region_t *r, const fp_wire_gtpu_peer_t *p, int is_delete);

/* error.c */
void kgtpu_errors_take (vlib_main_t *vm);

/* udp.c */
void kgtpu_udp_init (vlib_main_t *vm);
void kgtpu_udp_apply (vlib_main_t *vm, int six);

/* kgtpu.c */
khost_switches_t kgtpu_in_effect (void);

/* format.c, frames_link.c */
format_function_t format_kgtpu_decap_trace, format_kgtpu_encap_trace, format_kgtpu_pool_dpo, format_kgtpu_local_dpo,
  format_kgtpu_frame_trace;

always_inline fib_prefix_t
kgtpu_prefix (u8 family, u8 length, const u8 *address)
{
  fib_prefix_t p = { .fp_len = length, .fp_proto = family == 4 ? FIB_PROTOCOL_IP4 : FIB_PROTOCOL_IP6 };

  if (family == 4)
    clib_memcpy (&p.fp_addr.ip4, address, 4);
  else
    clib_memcpy (&p.fp_addr.ip6, address, 16);
  return p;
}

/* Index of the VRF; *last: the answer of the call before, as most packets of a vector belong together. */
always_inline u32
kgtpu_vrf_index (const kgtpu_main_t *km, u32 table, u32 last)
{
  const uword *found;

  if (PREDICT_TRUE (last != ~0 && km->vrfs[last].table == table))
    return last;
  found = hash_get (km->vrf_by_table, table);
  return found ? (u32) found[0] : ~0;
}

/* Next node of a packet that the kernel dropped. */
always_inline u16
kgtpu_dropped (vlib_node_runtime_t *node, vlib_buffer_t *b, enum fp_drop reason)
{
  b->error = node->errors[reason];
  return KGTPU_NEXT_DROP;
}

/* The same for one that a node drops by itself: it is counted here. */
always_inline u16
kgtpu_own_drop (vlib_node_runtime_t *node, khost_worker_t *w, vlib_buffer_t *b, enum fp_drop reason)
{
  fp_count_drop (&w->fp, reason);
  return kgtpu_dropped (node, b, reason);
}

#endif /* included_kgtpu_h */
