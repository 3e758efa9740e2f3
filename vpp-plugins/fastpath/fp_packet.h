/* SPDX-License-Identifier: Apache-2.0 */
/* What a packet kernel is given and what it returns. A host (VPP, the embedded program, a test) fills a descriptor for
 * each packet of a vector; the kernel may change the bytes [l3, l3 + room) and says what is to become of the packet. */
#ifndef FP_PACKET_H
#define FP_PACKET_H

#include "fp_hash.h"

enum fp_csum_state
{
  FP_CSUM_NONE = 0,    /* the packet carries a complete checksum that nobody has verified */
  FP_CSUM_VALID = 1,   /* complete, and verified by the host or its device */
  FP_CSUM_PARTIAL = 2, /* the field at csum_start + csum_offset holds the folded sum of the pseudo header only */
};

enum fp_gso_type /* numbers of virtio-net's gso_type, ECN bit removed */
{
  FP_GSO_NONE = 0,
  FP_GSO_TCP4 = 1,
  FP_GSO_UDP = 3,
  FP_GSO_TCP6 = 4,
  FP_GSO_UDP_L4 = 5,
};

enum fp_packet_flag
{
  FP_PACKET_KEEP_TTL = 1,  /* the host's own forwarding decrements TTL or hop limit, and answers when it runs out */
  FP_PACKET_IP_VALID = 2, /* the host has verified the IPv4 header checksum */
};

enum fp_action
{
  FP_FORWARD = 0, /* send on by the host's forwarding: rewritten, or untouched if it is not ours */
  FP_HOLD = 1,	  /* a fragment before its first one: keep it until fp_fragments_ready names its cookie */
  FP_DROP = 2,	  /* free it; `reason` says why */
  FP_REPLY = 3,	  /* an answer stands in its place: contiguous == length, send it by the host's forwarding */
  FP_CONSUMED = 4, /* taken in (GTP-U signalling, a fragment being reassembled): free it; no loss */
  FP_SEGMENT = 5,  /* untouched; must go on as several packets: fp_gtpu_segment (fp_gtpu_segment.h) makes them */
};

enum fp_way
{
  FP_WAY_PASS = 0,     /* not ours, untouched */
  FP_WAY_FORWARD = 1,  /* client to endpoint */
  FP_WAY_REVERSE = 2,  /* endpoint to client */
  FP_WAY_NONE = 3,     /* dropped, held or answered */
  FP_WAY_GTPU = 4,     /* decapsulated to an IP packet, or encapsulated */
  FP_WAY_ETHERNET = 5, /* decapsulated to an Ethernet frame: l3 points to it, vlan says where it belongs */
};

/* Lengths in bytes. Offsets of a partial checksum count from l3. */
typedef struct
{
  u8 *l3;		/* first byte of the IP header */
  u32 contiguous;	/* readable bytes at l3 */
  u32 length;	/* whole packet from l3 on, more than `contiguous` if it is chained (GSO) */
  u32 headroom;	/* writable bytes before l3 */
  u32 room;	/* writable bytes from l3 on, >= contiguous: an ICMP error is built there */
  u32 vrf;		/* VRF table id */
  u32 mtu;		/* of the way out; 0: not checked */
  u8 ingress;	/* FP_CLASS_POD or FP_CLASS_HOST if the host knows it; else by the source address */
  u8 csum;		/* enum fp_csum_state */
  u8 gso_type;	/* enum fp_gso_type */
  u8 flags;	/* enum fp_packet_flag */
  u16 csum_start;	/* if partial: where summing starts */
  u16 csum_offset; /* if partial: the field, from csum_start on */
  u16 gso_size;	/* payload bytes of one segment */
  u16 vlan;	/* of an Ethernet frame out of or into a tunnel */
  u16 fragment_size; /* with FP_SEGMENT: the largest packet that may come of it; 0: any */
  u64 cookie;	/* the host's own */
  u32 peer;	/* encapsulated: slot of the peer it goes to, for a host that keeps a path for each */
} fp_packet_t;

typedef struct
{
  u8 action; /* enum fp_action */
  u8 reason; /* enum fp_drop of fp_counters.h if it is FP_DROP, or FP_REPLY that tells of an error; else 0 */
  u8 way;    /* enum fp_way */
} fp_verdict_t;

/* Packet bytes have no alignment: they are read and written through memcpy. Values keep network order in memory, so
 * a 16-bit value read from a packet can be compared with one in a key, but is no number before fp_net16. */
FP_INLINE u16
fp_load16 (const void *p)
{
  u16 v;
  memcpy (&v, p, sizeof (v));
  return v;
}

FP_INLINE void
fp_store16 (void *p, u16 v)
{
  memcpy (p, &v, sizeof (v));
}

FP_INLINE void
fp_store32 (void *p, u32 v)
{
  memcpy (p, &v, sizeof (v));
}

/* Between network order and a number, either way. */
FP_INLINE u16
fp_net16 (u16 v)
{
  return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap16 (v) : v;
}

FP_INLINE u32
fp_net32 (u32 v)
{
  return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap32 (v) : v;
}

#endif /* FP_PACKET_H */
