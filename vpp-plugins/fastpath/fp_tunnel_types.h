/* SPDX-License-Identifier: Apache-2.0 */
/* Records of GTP-U in the region with their byte maps, and what is kept of them in process memory. Conventions as in fp_types.h: addresses in
 * network byte order, everything else host order unless said. */
#ifndef FP_TUNNEL_TYPES_H
#define FP_TUNNEL_TYPES_H

#include "fp_handle.h"

#define FP_GTPU_TEIDS_MAX   (1u << 24) /* of one endpoint's declared range */
#define FP_UE_LENGTHS	    4	       /* prefix lengths of one (inner VRF, family) */
#define FP_UE_GROUPS	    256	       /* pairs of inner VRF and family that have prefixes */
#define FP_UE_VLAN_LENGTH   12
#define FP_GTPU_MARKERS	    4096 /* End Markers that wait to be sent */

/* ---- region ---- */

/* A local GTP-U address. Control thread only: the packet path reads a snapshot (fp_gtpu_endpoint_t). */
typedef struct
{
  u8 address[16]; /* 0 */
  u32 vrf;	  /* outer */
  u8 family;
  u8 pad[3];
  u64 id;	     /* 24 */
  _Atomic u64 teids; /* 32: base | count << 32 */
  _Atomic u64 shape; /* 40: as in the wire record from mtu on: mtu, dscp, flags, port_low, port_high */
  _Atomic u32 gen;
  u32 pad2[3];
} FP_ALIGNED fp_gtpu_endpoint_record_t;

_Static_assert (sizeof (fp_gtpu_endpoint_record_t) == 64, "GTP-U endpoint");
_Static_assert (offsetof (fp_gtpu_endpoint_record_t, teids) == 32, "GTP-U endpoint");

/* A peer of an endpoint. Its slot names the path (fp_gtpu_path.h). */
typedef struct
{
  u8 address[16]; /* 0 */
  u32 endpoint;	  /* slot */
  u8 family;
  u8 pad[3];
  _Atomic u32 gen; /* 24 */
  _Atomic u32 echo_interval_ms;
  _Atomic u32 t3_ms; /* 32 */
  _Atomic u16 mtu;   /* of the path; 0: the endpoint's */
  _Atomic u8 n3;
  u8 pad2[25];
} FP_ALIGNED fp_gtpu_peer_t;

_Static_assert (sizeof (fp_gtpu_peer_t) == 64, "GTP-U peer");
_Static_assert (offsetof (fp_gtpu_peer_t, t3_ms) == 32, "GTP-U peer");

/* A tunnel, by (endpoint, local TEID): all that decapsulation reads, in one line. The slot stays the same as long as the tunnel is
 * there; `current` is the one store that changes its peer, remote TEID and QFI for both directions. */
typedef struct
{
  _Atomic u64 current; /* 0: slot of the encapsulation record | (IPv4: the peer's address; IPv6: the peer's slot) << 32 */
  _Atomic u64 shape;   /* 8: inner VRF | flags << 32 (enum fp_gtpu_tunnel_flag) | payload << 40 */
  _Atomic u64 ue6;     /* 16: one of its prefixes of 64 bits, as they lie in a packet; 0: none */
  _Atomic u32 ue4;     /* 24: one of its IPv4 addresses; 0: none */
  _Atomic u32 gen;
  u32 teid; /* 32: local, host order */
  u32 endpoint; /* slot */
  _Atomic u32 seen; /* 40: enum fp_gtpu_seen */
  _Atomic u16 vlan; /* one of its VLAN ids; 0: none */
  u16 pad;
  u64 spare[2]; /* 48 */
} FP_ALIGNED fp_tunnel_t;

_Static_assert (sizeof (fp_tunnel_t) == 64, "tunnel");
_Static_assert (offsetof (fp_tunnel_t, ue4) == 24, "tunnel");
_Static_assert (offsetof (fp_tunnel_t, teid) == 32, "tunnel");
_Static_assert (offsetof (fp_tunnel_t, seen) == 40, "tunnel");

/* What encapsulation into a tunnel needs, in one line. Immutable but for `shape`, which follows changes of the endpoint and the peer. */
typedef struct
{
  u8 remote[16]; /* 0 */
  u8 local[16];
  u32 remote_teid; /* 32: network order */
  u32 tunnel;	   /* slot */
  u32 peer;	   /* 40: slot */
  u32 endpoint;	   /* slot */
  _Atomic u64 shape; /* 48: fp_encap_shape */
  u16 header_sum;    /* 56: fp_encap_header_sum */
  u8 family;	     /* outer */
  u8 payload;	     /* enum fp_gtpu_payload */
  u8 psc;	     /* 60: enum fp_gtpu_psc */
  u8 qfi;
  u16 pad;
} FP_ALIGNED fp_gtpu_encap_t;

_Static_assert (sizeof (fp_gtpu_encap_t) == 64, "encapsulation");
_Static_assert (offsetof (fp_gtpu_encap_t, remote_teid) == 32, "encapsulation");
_Static_assert (offsetof (fp_gtpu_encap_t, shape) == 48, "encapsulation");
_Static_assert (offsetof (fp_gtpu_encap_t, psc) == 60, "encapsulation");

/* Addresses behind a tunnel; which one, its encapsulation record says. */
typedef struct
{
  u8 address[16]; /* 0: bits beyond the length are zero; a VLAN id in the first two bytes */
  u32 vrf;	  /* inner */
  u8 family;	  /* 4, 6; 0: VLAN */
  u8 length;
  u16 pad;
  _Atomic u32 encap; /* 24: slot */
  _Atomic u32 gen;
} fp_ue_t;

_Static_assert (sizeof (fp_ue_t) == 32, "UE prefix");
_Static_assert (offsetof (fp_ue_t, encap) == 24, "UE prefix");

/* ---- fields of the words ---- */

FP_ALWAYS_INLINE u32
fp_tunnel_vrf (u64 shape)
{
  return (u32) shape;
}

FP_ALWAYS_INLINE u8
fp_tunnel_flags (u64 shape)
{
  return (u8) (shape >> 32);
}

FP_ALWAYS_INLINE u8
fp_tunnel_payload (u64 shape)
{
  return (u8) (shape >> 40);
}

/* mtu: largest outer packet, 0: the link's. Ports: sources are low .. low + span - 1; span 0: always 2152. */
FP_ALWAYS_INLINE u64
fp_encap_shape (u16 mtu, u16 port_low, u16 port_span, u8 dscp)
{
  return (u64) mtu | (u64) port_low << 16 | (u64) port_span << 32 | (u64) dscp << 48;
}

FP_ALWAYS_INLINE u16
fp_encap_mtu (u64 shape)
{
  return (u16) shape;
}

FP_ALWAYS_INLINE u16
fp_encap_port_low (u64 shape)
{
  return (u16) (shape >> 16);
}

FP_ALWAYS_INLINE u16
fp_encap_port_span (u64 shape)
{
  return (u16) (shape >> 32);
}

/* 0..63, or FP_GTPU_DSCP_INNER */
FP_ALWAYS_INLINE u8
fp_encap_dscp (u64 shape)
{
  return (u8) (shape >> 48);
}

/* Part of the outer checksums that never changes: ones' complement sum (folded, not inverted, of 16-bit words as they lie in memory) of both
 * addresses, and over IPv6 of the remote TEID too, which the UDP checksum covers there. */
FP_INLINE u16
fp_encap_header_sum (const fp_gtpu_encap_t *e)
{
  u32 sum = 0;
  const u8 *b = (const u8 *) e;
  u32 bytes = e->family == 4 ? 4 : 16;
  for (u32 at = 0; at < 32; at += 16)
    for (u32 i = 0; i < bytes; i += 2)
      sum += (u32) b[at + i] | (u32) b[at + i + 1] << 8;
  if (e->family == 6)
    sum += (e->remote_teid & 0xffff) + (e->remote_teid >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (u16) ((sum & 0xffff) + (sum >> 16));
}

/* ---- process memory ---- */

/* An endpoint as the packet path sees it: immutable, until the caller's next quiescent point. */
typedef struct
{
  u64 id;
  u8 address[16];
  u32 vrf;
  u32 slot;
  u32 teid_base, teid_count;
  _Atomic u32 *by_teid; /* of the declared range: tunnel slot + 1, 0: none */
  u16 mtu, port_low, port_high;
  u8 family, dscp, flags; /* enum fp_gtpu_endpoint_flag */
} fp_gtpu_endpoint_t;

/* Prefix lengths of a (inner VRF, family), longest first. */
typedef struct
{
  u64 mask[FP_UE_LENGTHS][2]; /* of fp_ue_t.address, as it lies in memory */
  u64 tail[FP_UE_LENGTHS];    /* fp_ue_t from vrf on: vrf | family << 32 | length << 40 */
  u32 vrf;
  u8 family, count;
} fp_ue_group_t;

/* Endpoints and prefix lengths, published by one store. One block. */
typedef struct
{
  u32 endpoints, mask, groups;
  u16 *bucket; /* mask + 1, open addressing: endpoint + 1, 0: none */
  fp_gtpu_endpoint_t *endpoint;
  fp_ue_group_t *group;
} fp_gtpu_snapshot_t;

/* Of one tunnel and worker. rx: out of the tunnel, tx: into it; bytes are of the inner packets. */
typedef struct
{
  _Atomic u64 rx_packets, rx_bytes, tx_packets, tx_bytes, drops;
} FP_ALIGNED fp_tunnel_counters_t;

struct fp_gtpu_tables
{
  _Atomic u32 generation FP_ALIGNED;
  fp_gtpu_snapshot_t *_Atomic snapshot FP_ALIGNED;
  fp_gtpu_encap_t *encaps; /* in the region */
  u32 encap_capacity;
  u64 *ids; /* control thread: id of the endpoint in each slot, 0: free */
  u32 ids_used, last_id;
  fp_tunnel_counters_t *counters[FP_MAX_WORKERS + 1]; /* by tunnel slot; the last one is the control thread's */
};
typedef struct fp_gtpu_tables fp_gtpu_tables_t;

/* An End Marker that is due: to the address that a tunnel had before. */
typedef struct
{
  u64 endpoint; /* id */
  u64 tag;
  u32 vrf; /* outer */
  u32 remote_teid; /* host order */
  u8 local[16], remote[16];
  u8 family;
  u8 psc, qfi; /* that the tunnel's packets had */
  u8 dscp;
} fp_gtpu_marker_t;

#endif /* FP_TUNNEL_TYPES_H */
